/*
 * queue.h - submissions from a client's threads to the engine, through memory that only the client writes.
 *
 * Idea     Positions count submissions since the connection began; position p lives in entry p & (entries - 1).
 *          A producer claims a position by moving `up.queue_tail`, fills the entry and stores the stamp p + 1:
 *          the entry is whole exactly when its stamp says so. The consumer never writes an entry; how far it
 *          came is `down.queue_head`. So neither side needs to write the other's memory.
 *
 *              up.queue_tail   positions claimed            down.queue_head   positions taken in
 *              head .. tail - 1 are in flight; tail - head = entries is "full"
 *
 * Owner    The mappings belong to the caller; each side keeps its geometry in a private struct.
 * Threads  Any number of producers, one consumer. A producer that dies between claim and stamp blocks its own
 *          connection only, and its connection dies with it.
 * Trust    The consumer copies an entry once (peer_memory.h) and looks only at the copy. A tail more than `entries` ahead, or a
 *          stamp that no honest producer could have left, is LLM_ERR_PEER and nothing else. The copy's
 *          fields are the caller's to validate.
 * See      docs/PROTOCOL.md ("Submission queue"), tests/shm/test_queue.c.
 */
#ifndef LLM_SHM_QUEUE_H
#define LLM_SHM_QUEUE_H

#include "shm/layout.h"

/* ---- Client side ---------------------------------------------------------------------------------- */

struct llm_queue_producer {
    struct llm_up_header *up;
    const struct llm_down_header *down;
    struct llm_submission *entries;
    uint32_t entry_count;
};

/* `up` and `down` are the whole mappings; the geometry must be valid. */
void llm_queue_producer_init(struct llm_queue_producer *producer, void *up, const void *down,
                             const struct llm_geometry *geometry);

/* Publish a copy of `submission` (its stamp is ignored); the body it names must already be written. The caller
 * then rings the engine (llm_engine_ring() in wait.h).
 *   out_position     the submission's position; taken in once queue_head is beyond it
 *   returns          LLM_OK, LLM_ERR_BUSY (full), LLM_ERR_PEER (queue_head is ahead of everything submitted) */
enum llm_status llm_queue_push(struct llm_queue_producer *producer,
                               const struct llm_submission *submission, uint64_t *out_position)
    LLM_MUST_CHECK;

/* Whether the engine has taken in `position`: its entry and its body may be written again. */
bool llm_queue_taken(const struct llm_queue_producer *producer, uint64_t position);

/* ---- Engine side ---------------------------------------------------------------------------------- */

struct llm_queue_consumer {
    const struct llm_up_header *up;
    const struct llm_submission *entries;
    struct llm_down_header *down;
    uint32_t entry_count;
    uint64_t head; /* positions taken in; the truth, of which down.queue_head is a copy */
};

/* `head` is 0 for a new connection and conntab's queue_head after an engine's death; it is stored in `down`. */
void llm_queue_consumer_init(struct llm_queue_consumer *consumer, const void *up, void *down,
                             const struct llm_geometry *geometry, uint64_t head);

/* Whether there is a submission, without copying it; as often as one likes.
 *   returns          LLM_OK (there is), LLM_ERR_TIMEOUT (nothing there), LLM_ERR_PEER (the producer lies) */
enum llm_status llm_queue_look(const struct llm_queue_consumer *consumer) LLM_MUST_CHECK;

/* Copy the next submission without taking it: what it asks is made durable first, then llm_queue_advance().
 *   returns          as llm_queue_look(); LLM_ERR_PEER: detach it */
enum llm_status llm_queue_peek(const struct llm_queue_consumer *consumer,
                               struct llm_submission *out_submission) LLM_MUST_CHECK;

/* Give the position back to the client. From here on nothing may look at its entry or body again. */
void llm_queue_advance(struct llm_queue_consumer *consumer);

#endif
