/*
 * stream.h - one answer: an array of token ids and one word that says how many of them count.
 *
 * Idea     Token i of an answer is log[log_offset + i], its log-probability log[log_offset + capacity + i], and so on
 *          (struct llm_log_shape in request.h says what else a log may hold). The
 *          record's commit word, epoch:32 | done:1 | count:31, makes everything visible by one store. The
 *          array is as long as the answer may get, so nothing wraps, nothing overflows, a slow reader slows
 *          nobody, and after an engine's death the count says exactly where to go on.
 * Owner    The client owns slots and log ranges and chooses them; the engine owns the bytes. A slot passes to
 *          its next answer by the single store of a commit word with the next epoch.
 * Threads  One writer (the engine thread) per connection; one reader thread per stream.
 * Trust    The engine bounds-checks the client's choice (LLM_ERR_INVALID). The reader checks the count against
 *          its own capacity, and that it never goes back: LLM_ERR_PEER.
 * See      docs/PROTOCOL.md ("Streams"), shm/wait.h (waking the reader), tests/shm/test_stream.c.
 */
#ifndef LLM_SHM_STREAM_H
#define LLM_SHM_STREAM_H

#include "shm/event.h"
#include "shm/layout.h"
#include "shm/request.h"

/* ---- Engine side ---------------------------------------------------------------------------------- */

/* A connection's `down`, as the engine sees it. */
struct llm_publisher {
    struct llm_stream_record *records; /* [stream_slots] */
    char (*notes)[LLM_NOTE_BYTES];     /* [stream_slots] */
    _Atomic uint32_t *log;             /* [log_words] */
    uint32_t stream_slots;
    uint32_t log_words;
    struct llm_event_writer events;
};

void llm_publisher_init(struct llm_publisher *publisher, void *down,
                        const struct llm_geometry *geometry);

/* One answer being written. */
struct llm_stream_writer {
    struct llm_stream_record *record;
    char *note;                 /* [LLM_NOTE_BYTES] */
    _Atomic uint32_t *ids;      /* [capacity_tokens] */
    _Atomic uint32_t *logprobs; /* [capacity_tokens] f32 bits, or NULL */
    _Atomic uint32_t *tops;     /* [capacity_tokens][top_count] struct llm_top, or NULL */
    _Atomic uint32_t *in_force; /* struct llm_in_force, or NULL */
    struct llm_event_writer *events;
    uint32_t slot;
    uint32_t epoch;
    uint32_t capacity_tokens;
    uint32_t top_count;
    uint32_t count; /* tokens published */
    uint64_t admitted_ns;
};

/* What the record says about its request from the first moment on. */
struct llm_stream_facts {
    uint64_t request_id;
    uint64_t seed;
    uint64_t admitted_ns; /* CLOCK_MONOTONIC */
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t engine_generation;
    uint32_t first_token_us; /* 0 for a new request; from reqtab for one that goes on */
    uint32_t last_token_us;
};

/* Check what a submission asks for, and prepare to write it. Nothing is visible yet.
 *   log_words        all of the request's words
 *   shape            how they are used (request.h); the capacity follows
 *   returns          LLM_OK, LLM_ERR_INVALID (slot or log range outside the connection's memory) */
enum llm_status llm_stream_writer_init(struct llm_stream_writer *writer,
                                       struct llm_publisher *publisher, uint32_t slot,
                                       uint32_t epoch, uint32_t log_offset, uint32_t log_words,
                                       struct llm_log_shape shape, struct llm_error *error)
    LLM_MUST_CHECK;

/* The epoch that the record of `slot` (checked) stands at; a submission must name the next one. */
uint32_t llm_publisher_epoch(const struct llm_publisher *publisher, uint32_t slot);

/* Begin the answer. A request that goes on after an engine's death brings its published tokens again: the log
 * is rewritten from what the keeper's tables say, and the count moves on from wherever it was.
 *   ids, logprobs    [count] or NULL with count 0; logprobs is ignored by a writer without them
 *   count            0..capacity_tokens, and not less than the record already published at this epoch */
void llm_stream_writer_open(struct llm_stream_writer *writer, const struct llm_stream_facts *facts,
                            const uint32_t *ids, const float *logprobs, uint32_t count);

/* Publish `count` more tokens (there must be room) and a hint. Wakes nobody: llm_client_wake() does, once per
 * connection and step. */
void llm_stream_writer_append(struct llm_stream_writer *writer, const uint32_t *ids,
                              const float *logprobs, uint32_t count, uint64_t now_ns);

/* The likeliest tokens at the place of token `index` (below the capacity) of the answer, before that token is published.
 * An engine that dies between the two leaves them there: they are part of no table, the next one need not write them
 * again, and where it computes the token anew it writes the same. `tops` [top_count]; for writers with them. */
void llm_stream_writer_tops(struct llm_stream_writer *writer, uint32_t index,
                            const struct llm_top *tops);
/* What is in force, before the answer is opened. For writers that tell it. */
void llm_stream_writer_in_force(struct llm_stream_writer *writer,
                                const struct llm_in_force *in_force);

/* Words of an answer that is given at once: they count from the finish on, all together, so that an engine that dies
 * before it may answer anew with fewer. There must be room. For writers without log-probabilities. */
void llm_stream_writer_put(struct llm_stream_writer *writer, const uint32_t *words, uint32_t count);

/* Correct the number of reused prompt tokens; visible with the next append or finish. */
void llm_stream_writer_set_cached(struct llm_stream_writer *writer, uint32_t cached_tokens);

/* End the answer, and a hint. `note` is the sentence of a bad status or a control operation's answer; NULL or
 * "" for none. */
void llm_stream_writer_finish(struct llm_stream_writer *writer, enum llm_status status,
                              enum llm_finish finish, const char *note);

/* ---- Client side ---------------------------------------------------------------------------------- */

struct llm_stream_reader {
    const struct llm_stream_record *record;
    const char *note;
    const _Atomic uint32_t *ids;
    const _Atomic uint32_t *logprobs; /* NULL: not asked for, like the next two */
    const _Atomic uint32_t *tops;
    const _Atomic uint32_t *in_force;
    uint32_t epoch;
    uint32_t capacity_tokens;
    uint32_t top_count;
    uint32_t seen; /* tokens taken */
};

/* `slot` and the log range must lie inside the geometry. */
void llm_stream_reader_init(struct llm_stream_reader *reader, const void *down,
                            const struct llm_geometry *geometry, uint32_t slot, uint32_t epoch,
                            uint32_t log_offset, uint32_t log_words, struct llm_log_shape shape);

/* What the commit word said at one moment. */
struct llm_stream_look {
    bool open; /* the engine has begun this answer */
    bool done;
    uint32_t count; /* tokens published */
};

/* LLM_OK; LLM_ERR_PEER when the word is beyond the capacity, behind what was seen, or of a strange epoch. */
enum llm_status llm_stream_reader_look(const struct llm_stream_reader *reader,
                                       struct llm_stream_look *out_look) LLM_MUST_CHECK;

/* Copy out tokens that `look` covers and that were not taken before; returns how many.
 *   out_logprobs     [capacity] or NULL; NaN when the stream has none */
uint32_t llm_stream_reader_take(struct llm_stream_reader *reader,
                                const struct llm_stream_look *look, uint32_t *out_ids,
                                float *out_logprobs, uint32_t capacity);

/* The likeliest tokens at the place of token `index`, which a look has covered; [top_count]. For readers with them. */
void llm_stream_reader_tops(const struct llm_stream_reader *reader, uint32_t index,
                            struct llm_top *out_tops);
/* The log-probability of token `index`, which a look has covered; NaN when the stream has none. */
float llm_stream_reader_logprob(const struct llm_stream_reader *reader, uint32_t index);
/* What is in force, once the answer is open. For readers that are told. */
struct llm_in_force llm_stream_reader_in_force(const struct llm_stream_reader *reader);

/* The final status and its sentence, once `done` was seen. LLM_ERR_PEER for a status nobody knows. */
enum llm_status llm_stream_reader_status(const struct llm_stream_reader *reader,
                                         char out_note[LLM_NOTE_BYTES]) LLM_MUST_CHECK;

#endif
