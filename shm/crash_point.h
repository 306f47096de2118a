/*
 * crash_point.h - named places at which a test lets a process die.
 *
 * Idea     A store that recovery relies on is followed by CRASH_POINT(name). In builds with LLM_CRASH_POINTS
 *          the process kills itself (SIGKILL, nothing is cleaned up) at the k-th time it passes the place
 *          chosen by the environment: LLMD_CRASH=stream_tokens:3. Other builds compile it to nothing. Kills
 *          at random moments hit a window of two stores once in a million; this hits every one of them.
 * Owner    The one list below: a test walks it, so a place cannot be forgotten.
 * Threads  Any; passes are counted over all threads.
 * See      docs/PROTOCOL.md ("Order of stores"), docs/TESTING.md.
 */
#ifndef LLM_SHM_CRASH_POINT_H
#define LLM_SHM_CRASH_POINT_H

#include "shm/status.h"

/* name                     what has just become visible */
#define LLM_CRASH_POINT_LIST(X)                                                     \
    X(queue_claim)   /* client: a position is claimed, its entry not written */     \
    X(queue_entry)   /* client: the entry is written, its stamp not */              \
    X(queue_publish) /* client: the stamp is stored, the engine not woken */        \
    X(queue_head)    /* engine: the position is given back to the client */         \
    X(stream_fields) /* engine: an opened record's fields, under the old epoch */   \
    X(stream_open)   /* engine: the new epoch */                                    \
    X(stream_tokens) /* engine: ids in the log that the count does not cover yet */ \
    X(stream_commit) /* engine: the count, without a hint */                        \
    X(stream_end)    /* engine: status, finish and sentence, done not set */        \
    X(stream_done)   /* engine: done, without a hint */                             \
    X(event_entry)   /* engine: a hint that event_tail does not cover yet */        \
    X(event_tail)    /* engine: the hint, event_word not moved */                   \
    X(event_word)    /* engine: everything but the wake-up */                       \
    X(conn_fields)   /* engine: a connection's row, not yet valid */                \
    X(conn_attached) /* engine: the row is valid */                                 \
    X(conn_free)     /* engine: the row is free, the keeper not told */             \
    X(conn_answered) /* engine: admitted or answered, its position not taken */     \
    X(conn_head)     /* engine: the position is taken in conntab, not in down */    \
    X(req_record)    /* engine: a request's record and prompt, not yet LIVE */      \
    X(req_live)      /* engine: LIVE, its stream not opened */                      \
    X(req_try)       /* engine: a recovered request's attempt is counted */         \
    X(req_token)     /* engine: a generated id in reqtok that does not count yet */ \
    X(req_published) /* engine: it counts, the log does not have it */              \
    X(req_end)       /* engine: status and sentence, not yet ANSWERED */            \
    X(req_answered)  /* engine: ANSWERED, the stream not done */                    \
    X(req_free)      /* engine: the record is free */                               \
    X(block_taken)   /* engine: WRITING, no row written */                          \
    X(block_ids)     /* engine: a full block's ids, its header old */               \
    X(block_header)  /* engine: the header too, not yet SEALED */                   \
    X(block_sealed)  /* engine: SEALED */                                           \
    X(block_freed)   /* engine: FREE */

enum llm_crash_point {
#define LLM_CRASH_POINT_ENUM(name) LLM_CRASH_##name,
    LLM_CRASH_POINT_LIST(LLM_CRASH_POINT_ENUM)
#undef LLM_CRASH_POINT_ENUM
    LLM_CRASH_POINT_COUNT
};

#ifdef LLM_CRASH_POINTS
#define CRASH_POINT(name) llm_crash_point(LLM_CRASH_##name)
#else
#define CRASH_POINT(name) ((void)0)
#endif

const char *llm_crash_point_name(enum llm_crash_point point);
/* Die here if this is the chosen place's k-th pass. A malformed LLMD_CRASH stops the process with a sentence:
 * a test that chooses nothing must not pass. */
void llm_crash_point(enum llm_crash_point point);

#endif
