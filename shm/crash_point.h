/*
 * crash_point.h - named places at which a test lets a process die.
 *
 * Idea     A store that recovery relies on is followed by CRASH_POINT(name). In builds with LLM_CRASH_POINTS
 *          the process kills itself (SIGKILL, nothing is cleaned up) at the k-th time it passes the place
 *          chosen by the environment: LLMD_CRASH=stream_tokens:3. Other builds compile it to nothing. Kills
 *          at random moments hit a window of two stores once in a million; this hits every one of them.
 * Owner    The one list below: tests walk it and fail for a place that nothing passes; tests/tidy/crash_points.sh finds
 *          a store that has no place beside it.
 * Threads  Any; passes are counted over all threads.
 * See      docs/PROTOCOL.md ("Order of stores"), docs/TESTING.md.
 */
#ifndef LLM_SHM_CRASH_POINT_H
#define LLM_SHM_CRASH_POINT_H

#include "shm/status.h"

/* name, whose process dies there; what has just become visible */
#define LLM_CRASH_POINT_LIST(X)                                                             \
    X(queue_claim, CLIENT)       /* a position is claimed, its entry not written */         \
    X(queue_entry, CLIENT)       /* the entry is written, its stamp not */                  \
    X(queue_publish, CLIENT)     /* the stamp is stored, the engine not woken */            \
    X(engine_rung, CLIENT)       /* the engine is woken */                                  \
    X(cancel_word, CLIENT)       /* a cancel word, the bell not moved */                    \
    X(cancel_bell, CLIENT)       /* the bell, the engine not woken */                       \
    X(sleep_announced, CLIENT)   /* a sleeper is counted that does not sleep yet */         \
    X(sleep_ended, CLIENT)       /* it is not counted any more */                           \
    X(bell_armed, CLIENT)        /* a byte on the socket is asked for */                    \
    X(asleep_flag, ENGINE)       /* a connection is told to ring, or not to */              \
    X(queue_resumed, ENGINE)     /* the position from which an attached queue is read */    \
    X(queue_head, ENGINE)        /* the position is given back to the client */             \
    X(stream_fields, ENGINE)     /* an opened record's fields, under the old epoch */       \
    X(stream_open, ENGINE)       /* the new epoch */                                        \
    X(stream_tops, ENGINE)       /* the likeliest beside a token that does not count yet */ \
    X(stream_tokens, ENGINE)     /* ids in the log that the count does not cover yet */     \
    X(stream_commit, ENGINE)     /* the count, without a hint */                            \
    X(stream_end, ENGINE)        /* status, finish and sentence, done not set */            \
    X(stream_done, ENGINE)       /* done, without a hint */                                 \
    X(event_entry, ENGINE)       /* a hint that event_tail does not cover yet */            \
    X(event_tail, ENGINE)        /* the hint, event_word not moved */                       \
    X(event_word, ENGINE)        /* everything but the wake-up */                           \
    X(link_open, CLIENT)         /* the socket is connected, nothing asked */               \
    X(link_asked, CLIENT)        /* the hello is sent */                                    \
    X(link_answered, CLIENT)     /* descriptors have come, nothing is mapped */             \
    X(client_mapped, CLIENT)     /* attached; nothing submitted */                          \
    X(submit_body, CLIENT)       /* a body in the arena that no entry names */              \
    X(submit_word, CLIENT)       /* the slot's cancel word is set back */                   \
    X(client_unmapped, CLIENT)   /* nothing is mapped, the socket still open */             \
    X(memory_made, ENGINE)       /* the keeper holds a new memory, all zero */              \
    X(memory_filled, ENGINE)     /* its content, not yet public */                          \
    X(memory_public, ENGINE)     /* it is sealed and public */                              \
    X(memory_dropped, ENGINE)    /* the keeper forgot a memory */                           \
    X(table_fields, ENGINE)      /* a table's header, not yet whole */                      \
    X(table_complete, ENGINE)    /* the header is whole */                                  \
    X(key_bytes, ENGINE)         /* the prefix index's key, not yet whole */                \
    X(key_complete, ENGINE)      /* the key is whole */                                     \
    X(geometry_fields, ENGINE)   /* the pool's layout, not yet whole */                     \
    X(geometry_complete, ENGINE) /* it is whole */                                          \
    X(weights_begin, ENGINE)     /* packed weights count for nothing */                     \
    X(weights_bytes, ENGINE)     /* all are packed, not yet whole */                        \
    X(weights_commit, ENGINE)    /* they are whole */                                       \
    X(conn_reset, ENGINE)        /* a connection's row is nobody's */                       \
    X(conn_fields, ENGINE)       /* a connection's row, not yet valid */                    \
    X(conn_attached, ENGINE)     /* the row is valid */                                     \
    X(conn_resumed, ENGINE)      /* a known row's position, behind what reqtab says */      \
    X(conn_free, ENGINE)         /* the row is free, the keeper not told */                 \
    X(conn_told, ENGINE)         /* the keeper is told that nothing is mapped any more */   \
    X(conn_answered, ENGINE)     /* admitted or answered, its position not taken */         \
    X(conn_head, ENGINE)         /* the position is taken in conntab, not in down */        \
    X(req_record, ENGINE)        /* a request's record and prompt, not yet LIVE */          \
    X(req_live, ENGINE)          /* LIVE, its stream not opened */                          \
    X(req_try, ENGINE)           /* a recovered request's attempt is counted */             \
    X(req_token, ENGINE)         /* a generated id in reqtok that does not count yet */     \
    X(req_published, ENGINE)     /* it counts, the log does not have it */                  \
    X(req_proved, ENGINE)        /* its attempts are forgotten too */                       \
    X(req_end, ENGINE)           /* status and sentence, not yet ANSWERED */                \
    X(req_answered, ENGINE)      /* ANSWERED, the stream not done */                        \
    X(req_free, ENGINE)          /* the record is free */                                   \
    X(block_taken, ENGINE)       /* WRITING, no row written */                              \
    X(block_ids, ENGINE)         /* a block's ids, its header old */                        \
    X(block_header, ENGINE)      /* the header too, not yet SEALED */                       \
    X(block_sealed, ENGINE)      /* SEALED */                                               \
    X(block_widened, ENGINE)     /* others find it too */                                   \
    X(block_waits, ENGINE)       /* a dead engine's: QUARANTINED until all is quiet */      \
    X(block_freed, ENGINE)       /* FREE */                                                 \
    X(row_ids, ENGINE)           /* ids behind a row's end, which count for nothing */      \
    X(row_end, ENGINE)           /* they count, or fewer do; no context says so yet */      \
    X(row_fields, ENGINE)        /* a new row's ids and fields, not yet LIVE */             \
    X(row_live, ENGINE)          /* LIVE, and no context has it */                          \
    X(row_free, ENGINE)          /* FREE, its memory not given back */                      \
    X(ctx_version, ENGINE)       /* a context's next version, which does not count yet */   \
    X(ctx_word, ENGINE)          /* it counts, nobody is told */                            \
    X(ready_status, ENGINE)      /* the status file says ready, ctl does not */             \
    X(ready_ctl, ENGINE)         /* ctl says it, the keeper is not told */                  \
    X(ready_told, ENGINE)        /* the keeper is told */                                   \
    X(keeper_magic, KEEPER)      /* the status file is there to be read */                  \
    X(keeper_spawned, KEEPER)    /* an engine runs that nobody watches yet */               \
    X(keeper_engine, KEEPER)     /* its process in the status file, ctl not */              \
    X(keeper_ctl, KEEPER)        /* the generation in ctl, the state not */                 \
    X(keeper_state, KEEPER)      /* the state */                                            \
    X(keeper_died, KEEPER)       /* a death is noted, no new engine started */              \
    X(keeper_alloc, KEEPER)      /* a memory is made, the engine not answered */            \
    X(keeper_public, KEEPER)     /* a memory is public, the engine not answered */          \
    X(keeper_drop, KEEPER)       /* a memory is dropped, the engine not answered */         \
    X(keeper_row, KEEPER)        /* a client's row is valid, the client not answered */     \
    X(keeper_answered, KEEPER)   /* the client has its descriptors, the engine not */       \
    X(keeper_attach, KEEPER)     /* the engine has them too */                              \
    X(keeper_left, KEEPER)       /* the row is cleared, the engine not told */              \
    X(keeper_detach, KEEPER)     /* the engine is told */

enum llm_crash_point {
#define LLM_CRASH_POINT_ENUM(name, who) LLM_CRASH_##name,
    LLM_CRASH_POINT_LIST(LLM_CRASH_POINT_ENUM)
#undef LLM_CRASH_POINT_ENUM
    LLM_CRASH_POINT_COUNT
};

#ifdef LLM_CRASH_POINTS
#define CRASH_POINT(name) llm_crash_point(LLM_CRASH_##name)
#else
#define CRASH_POINT(name) ((void)0)
#endif

enum llm_crash_who {
    LLM_CRASH_OF_CLIENT,
    LLM_CRASH_OF_ENGINE,
    LLM_CRASH_OF_KEEPER
};

const char *llm_crash_point_name(enum llm_crash_point point);
enum llm_crash_who llm_crash_point_who(enum llm_crash_point point);
/* Die here if this is the chosen place's k-th pass. A malformed LLMD_CRASH stops the process with a sentence:
 * a test that chooses nothing must not pass. */
void llm_crash_point(enum llm_crash_point point);
/* Choose anew, as LLMD_CRASH=text would: for a child of a process that has passed points itself. One thread. */
void llm_crash_point_choose(const char *text);

#endif
