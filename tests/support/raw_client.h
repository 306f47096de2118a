/*
 * raw_client.h - a client that speaks to socket and memories by hand, as a library of one's own would.
 *
 * Idea     What libllm would never do has to be done without it. Nothing here is checked for sense: an entry, a flag or a
 *          message goes out as the caller made it.
 * Owner    The test; raw_detach() unmaps and closes everything.
 * Trust    A failed assertion ends the process, which in an attacker's process is what the test notices.
 */
#ifndef TESTS_SUPPORT_RAW_CLIENT_H
#define TESTS_SUPPORT_RAW_CLIENT_H

#include <sys/types.h>

#include "shm/layout.h"
#include "shm/queue.h"

struct raw_client {
    int socket;
    int fds[LLM_ATTACH_FDS];
    struct llm_geometry geometry;
    char *up;
    const char *down;
    struct llm_up_map up_map;
    struct llm_down_map down_map;
    struct llm_queue_producer queue;
    uint32_t next_slot;
};

/* ---- The socket ------------------------------------------------------------------------------------ */

/* A connected socket that waits a minute for an answer; raw_try_connect(): or -1. */
int raw_connect(const char *socket_path);
int raw_try_connect(const char *socket_path);
/* A sound request. */
struct llm_keeper_request raw_hello(uint32_t verb);
/* Send and wait: the reply's status, or -1 for the end of the connection. Descriptors are not taken. */
int raw_ask(int fd, const void *message, size_t bytes);
/* Send a request with [count] descriptors; returns what sendmsg() does. */
ssize_t raw_send_with_fds(int fd, const struct llm_keeper_request *request, const int *fds,
                          unsigned count);
/* Read to the end of the connection and close it. */
void raw_assert_closed(int fd);

/* ---- The memories ---------------------------------------------------------------------------------- */

void raw_attach(struct raw_client *client, const char *socket_path);
/* False, with everything closed, when the daemon refuses: `out_status` (may be NULL) is the reply's, or -1. */
bool raw_try_attach(struct raw_client *client, const char *socket_path, int *out_status);
void raw_detach(struct raw_client *client);

struct llm_up_header *raw_up(const struct raw_client *client);
const struct llm_down_header *raw_down(const struct raw_client *client);
const struct llm_stream_record *raw_stream(const struct raw_client *client, uint32_t slot);

/* The doorbell, if the engine says that it sleeps. */
void raw_ring(const struct raw_client *client);
/* Into the queue, then ring; raw_try_push(): false when it is full or its position is nonsense. */
void raw_push(struct raw_client *client, const struct llm_submission *submission);
bool raw_try_push(struct raw_client *client, const struct llm_submission *submission);
/* A generate entry in a fresh slot, its body at the arena's start. */
struct llm_submission raw_generate_entry(struct raw_client *client, uint32_t body_bytes);
/* Wait until the slot's answer is done. */
const struct llm_stream_record *raw_wait_done(const struct raw_client *client, uint32_t slot);

#endif
