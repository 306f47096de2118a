/*
 * keeper_link.h - the socket to the keeper: questions, answers, and the sign of life.
 *
 * Idea     AF_UNIX seqpacket, one fixed-size message each way (shm/layout.h). The socket stays open as long as the
 *          connection; its end of file says that the keeper is gone, and a reply that nobody asked for says
 *          why the keeper is about to end the connection.
 * Owner    A connection. The link owns the socket; the caller owns the descriptors it is given.
 * Threads  Any; questions take turns under a lock. `gone` is set once, with its sentence written before.
 */
#ifndef LLM_CLIENT_KEEPER_LINK_H
#define LLM_CLIENT_KEEPER_LINK_H

#include <pthread.h>
#include <stdatomic.h>

#include "shm/layout.h"

struct llm_keeper_link {
    int socket;           /* -1: closed */
    pthread_mutex_t lock; /* one question at a time; also guards the writing of `gone` */
    _Atomic bool gone;    /* the keeper, or our connection to it, is no more */
    char gone_message[LLM_NOTE_BYTES]; /* constant once `gone` */
};

/* Connect to the keeper that listens at `path`; waits for room in its backlog.
 *   returns          LLM_OK
 *                    LLM_ERR_NOT_FOUND   nobody listens there
 *                    LLM_ERR_PERMISSION, LLM_ERR_TIMEOUT, LLM_ERR_MEMORY, LLM_ERR_SYSTEM */
enum llm_status llm_keeper_link_open(struct llm_keeper_link *link, const char *path,
                                     uint64_t deadline_ns, struct llm_error *error) LLM_MUST_CHECK;
/* The same over a seqpacket socket that is connected already; takes it over. */
void llm_keeper_link_adopt(struct llm_keeper_link *link, int socket);
/* `inherited`: in a fork's child, where another thread of the parent may have held the lock. */
void llm_keeper_link_close(struct llm_keeper_link *link, bool inherited);

/* Ask, and wait for the answer. A refusal is returned as its status with the keeper's sentence.
 *   name             for ATTACH and MEMORY; else NULL; cut to fit
 *   out_fds          [fd_count] receives close-on-exec descriptors
 *   returns          LLM_OK, the keeper's refusal, LLM_ERR_PEER (gone, or not our protocol), LLM_ERR_TIMEOUT
 *                    (the link is `gone` then: a late answer would be taken for the next one) */
enum llm_status llm_keeper_ask(struct llm_keeper_link *link, enum llm_verb verb, const char *name,
                               uint64_t deadline_ns, struct llm_keeper_reply *out_reply,
                               int *out_fds, uint32_t fd_count, struct llm_error *error)
    LLM_MUST_CHECK;

/* The same for a verb with an argument and without descriptors. */
enum llm_status llm_keeper_ask_about(struct llm_keeper_link *link, enum llm_verb verb,
                                     const char *name, const char *argument, uint64_t deadline_ns,
                                     struct llm_keeper_reply *out_reply, struct llm_error *error)
    LLM_MUST_CHECK;

/* Look at the socket without waiting: LLM_OK, or LLM_ERR_PEER with the reason. */
enum llm_status llm_keeper_link_check(struct llm_keeper_link *link, struct llm_error *error)
    LLM_MUST_CHECK;

#endif
