/*
 * link.h - the engine's end of the channel to the keeper.
 *
 * Idea     The engine asks one thing at a time and waits for the answer with its ticket; what the keeper says
 *          of its own accord meanwhile (clients come and go) is queued and taken by the step loop.
 * Owner    The engine thread. Descriptors that arrive belong to whoever takes the event.
 * Trust    The keeper is trusted. When it is gone, so are we (PR_SET_PDEATHSIG).
 * See      daemon/channel.h.
 */
#ifndef LLMD_ENGINE_LINK_H
#define LLMD_ENGINE_LINK_H

#include "daemon/channel.h"

/* A slot is reused only after we said DETACHED: at most one ATTACH and one DETACH wait for each. */
#define LINK_EVENTS_MAX (2 * 1024 + 16)

struct link_event {
    enum channel_kind kind; /* of the kinds that the keeper sends of its own accord */
    struct channel_connection connection;
    int fds[CHANNEL_FDS_MAX];
};

struct link {
    int socket;
    uint64_t tickets;          /* given out so far */
    struct link_event *events; /* [LINK_EVENTS_MAX] a ring */
    uint32_t event_head, event_count;
    struct channel_names names; /* the last that came; an event says when they count */
    struct channel_message message;
};

/* `socket` must be a seqpacket socket with a keeper behind it. LLM_ERR_INVALID: it is not. */
enum llm_status link_open(struct link *link, int socket, struct llm_error *error) LLM_MUST_CHECK;

/* Read up to SERVE: `keep` takes over each memory that exists (KEPT) and hears of each model (MODEL, no descriptor);
 * everything else waits for link_next(). */
typedef void link_keep(void *self, const struct channel_message *message, int fd);
enum llm_status link_read_manifest(struct link *link, link_keep *keep, void *self,
                                   uint64_t *out_generation, struct llm_error *error)
    LLM_MUST_CHECK;

/* The next thing the keeper said. LLM_ERR_TIMEOUT: nothing (only without `wait`); LLM_ERR_PEER: it is gone. */
enum llm_status link_next(struct link *link, bool wait, struct link_event *out_event,
                          struct llm_error *error) LLM_MUST_CHECK;

/* Ask and wait. `out_fd` is NULL for what is answered without one. What the keeper refuses comes back as its
 * status and sentence. */
enum llm_status link_ask(struct link *link, const struct channel_message *question, int *out_fd,
                         struct llm_error *error) LLM_MUST_CHECK;

/* Tell the keeper something that it does not answer. LLM_ERR_PEER. */
enum llm_status link_say(struct link *link, enum channel_kind kind, uint64_t connection_id,
                         uint64_t generation, const char *text, struct llm_error *error)
    LLM_MUST_CHECK;

/* MODEL_IDLE or MODEL_FAILED, of the load `model_id`. LLM_ERR_PEER. */
enum llm_status link_say_model(struct link *link, enum channel_kind kind, uint64_t model_id,
                               const char *text, struct llm_error *error) LLM_MUST_CHECK;

#endif
