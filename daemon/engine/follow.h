/*
 * follow.h - reading along with an answer that somebody else asked for.
 *
 * Idea     A follower is a request of its own that computes nothing: a record in reqtab that names its leader, a row of
 *          reqtok, a stream in its own connection. Whatever the leader publishes is copied into the row and published
 *          again, first what there was before the follower came; when the leader ends, so does the follower, with the
 *          same finish. It counts as a request of its user, its cancel ends only itself, and it survives an engine's
 *          death as any request does. Log-probabilities are not told again.
 * Length   Its log may be shorter than the leader's answer: then it ends with LENGTH when the log is full.
 * Owner    The engine thread. The leader's struct request holds the head of the list of its followers.
 * See      LLM_CONTEXT_FOLLOW in shm/layout.h, context_ops.h, publish.h, recovery.h.
 */
#ifndef LLMD_ENGINE_FOLLOW_H
#define LLMD_ENGINE_FOLLOW_H

#include <stdint.h>

#include "daemon/core/effect.h"
#include "shm/layout.h"

struct connection;
struct engine;

/* Follow what runs on context `context` (the caller may read it). LLM_OK: the stream of `submission` is open. NOT_FOUND: nothing
 * runs on it. BUSY: no request is free, the user has all of theirs, or the daemon drains. */
enum llm_status follow_start(struct engine *engine, struct connection *connection,
                             const struct llm_submission *submission, uint32_t context,
                             struct llm_error *error) LLM_MUST_CHECK;

/* The leader has published more. */
void follow_published(struct engine *engine, uint32_t leader);
/* The leader is ANSWERED: its followers end. Before its record is free. */
void follow_finished(struct engine *engine, uint32_t leader, enum core_finish finish);
/* Follower `slot` is being released. */
void follow_forget(struct engine *engine, uint32_t slot);

/* After an engine's death, in this order: the follower in `slot` (its private half is there, its stream is open) gets what its
 * leader published; a leader that goes on finds its followers; those whose leader did not go on end as it did. */
void follow_resume(struct engine *engine, uint32_t slot);
void follow_gather(struct engine *engine, uint32_t leader);
void follow_settle(struct engine *engine);

#endif
