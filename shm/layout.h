/*
 * layout.h - every byte that a client and the daemon share, and who may write it.
 *
 * Idea     Three objects per connection, each byte with exactly one writer:
 *            ctl   one page for everybody: keeper and engine write, clients read
 *            up    the client writes, the engine reads: submissions, prompts, cancel words, wait flags
 *            down  the engine writes, the client reads: queue position, stream records, token logs, hints
 *          What a client asks is a record in `up`; what it is answered is an array and a counter in
 *          `down`. Token i of a stream is log[log_offset + i], then one release-store of the commit word.
 *          Events are lossy hints; the stream records are the truth.
 * Owner    The keeper creates all three (sealed memfds) and hands out the descriptors; `down` and `ctl`
 *          leave it read-only with inode mode 0400, so that no client can map them writable.
 * Threads  Offsets only, no pointers. Atomics say whom they pair with where they are used (queue.h, stream.h,
 *          wait.h). Everything else is plain data published by one of them.
 * Trust    The engine copies from `up` once and validates the copy; geometry is private to each side (it
 *          arrives over the socket), so nothing in shared memory says where anything lies.
 * Wire     Little-endian, 64-bit. A change of any offset here is a new LLM_ABI_MAJOR; docs/PROTOCOL.md
 *          lists the same bytes and tests/shm/test_layout.c compares the two.
 * See      shm/tables.h (what the keeper holds for the engine), shm/status_file.h (what llmctl reads).
 */
#ifndef LLM_SHM_LAYOUT_H
#define LLM_SHM_LAYOUT_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/status.h"

#define LLM_ABI_MAJOR        1u
#define LLM_ABI_MINOR        3u
#define LLM_CACHE_LINE_BYTES 64
#define LLM_PAGE_BYTES       4096u
#define LLM_NAME_BYTES       64u  /* names of models, clients and memories, with their final zero */
#define LLM_NOTE_BYTES       192u /* one sentence, with its final zero */

/* ---- Geometry: how large a connection's memories are -------------------------------------------- */

/* Chosen by the keeper, told once in the welcome, kept privately by both sides. */
struct llm_geometry {
    uint32_t queue_entries; /* power of two, 8..4096 */
    uint32_t event_entries; /* power of two, 8..65536 */
    uint32_t stream_slots;  /* 1..4096 */
    uint32_t log_words;     /* 32-bit words of the connection's log arena, 1024..2^28 */
    uint32_t arena_bytes;   /* bytes of the prompt arena, multiple of a page, 4096..2^30 */
    uint32_t reserved;
};
static_assert(sizeof(struct llm_geometry) == 24, "wire size");

/* Where the parts of `up` and `down` lie; derived from a geometry by both sides alike. */
struct llm_up_map {
    size_t queue_offset;  /* struct llm_submission[queue_entries] */
    size_t cancel_offset; /* _Atomic uint32_t[stream_slots] */
    size_t arena_offset;  /* bytes */
    size_t total_bytes;   /* multiple of a page */
};
struct llm_down_map {
    size_t stream_offset; /* struct llm_stream_record[stream_slots] */
    size_t note_offset;   /* char[stream_slots][LLM_NOTE_BYTES] */
    size_t event_offset;  /* _Atomic uint64_t[event_entries] */
    size_t log_offset;    /* _Atomic uint32_t[log_words] */
    size_t total_bytes;   /* multiple of a page */
};

bool llm_geometry_valid(const struct llm_geometry *geometry);
struct llm_up_map llm_up_map(const struct llm_geometry *geometry);     /* geometry must be valid */
struct llm_down_map llm_down_map(const struct llm_geometry *geometry); /* geometry must be valid */

/* ---- ctl: one page, read by every client --------------------------------------------------------- */

#define LLM_CTL_MAGIC UINT64_C(0x4c54434d4c4c0001)

enum llm_daemon_state {
    LLM_DAEMON_STARTING = 0,
    LLM_DAEMON_RUNNING = 1, /* an engine of `engine_generation` is, or will shortly be, serving */
    LLM_DAEMON_RECOVERING = 2, /* the engine died; a new one is being started */
    LLM_DAEMON_STOPPING = 3,
    LLM_DAEMON_FAILED = 4,   /* the engine died too often; the keeper keeps everything and waits */
    LLM_DAEMON_DRAINING = 5, /* new requests are refused, running ones end */
    LLM_DAEMON_DRAINED = 6   /* ... and nothing is left of them */
};

struct llm_ctl {
    /* keeper, before the first client */
    uint64_t magic;
    uint16_t abi_major;
    uint16_t abi_minor;
    uint32_t keeper_pid;
    uint8_t boot_id[16]; /* random; a new one for every keeper */
    uint8_t reserved0[32];
    /* keeper */
    alignas(LLM_CACHE_LINE_BYTES) _Atomic uint64_t engine_generation; /* 1 for the first engine */
    _Atomic uint32_t daemon_state;                                    /* enum llm_daemon_state */
    uint8_t reserved1[52];
    /* engine */
    alignas(LLM_CACHE_LINE_BYTES) _Atomic uint64_t
        ready_generation; /* equals engine_generation while serving */
    uint8_t reserved2[56];
};
static_assert(sizeof(struct llm_ctl) == 192, "wire size");
static_assert(offsetof(struct llm_ctl, boot_id) == 16, "wire");
static_assert(offsetof(struct llm_ctl, engine_generation) == 64, "wire");
static_assert(offsetof(struct llm_ctl, daemon_state) == 72, "wire");
static_assert(offsetof(struct llm_ctl, ready_generation) == 128, "wire");

/* ---- up: written by the client -------------------------------------------------------------------- */

struct llm_up_header {
    alignas(LLM_CACHE_LINE_BYTES) _Atomic uint64_t
        queue_tail; /* positions claimed, since creation */
    alignas(LLM_CACHE_LINE_BYTES) _Atomic uint32_t
        sleepers; /* threads on (or about to be on) down.event_word */
    /* Counts requests for one byte on the engine-to-client socket. The engine sends once for each value it
     * has not answered yet, so a client that never reads costs one system call, not one a step. */
    _Atomic uint32_t bell_arms;
    alignas(LLM_CACHE_LINE_BYTES) _Atomic uint64_t
        cancel_bell; /* moves after a cancel word was set */
};
static_assert(sizeof(struct llm_up_header) == 192, "wire size");
static_assert(offsetof(struct llm_up_header, sleepers) == 64, "wire");
static_assert(offsetof(struct llm_up_header, bell_arms) == 68, "wire");
static_assert(offsetof(struct llm_up_header, cancel_bell) == 128, "wire");

/* Every operation is answered in the stream record it names: with tokens (generate), or at once with done,
 * a status and a sentence (the others). */
enum llm_operation {
    LLM_OP_NOP = 0,      /* answers done; measures the round trip */
    LLM_OP_GENERATE = 1, /* body: struct llm_request_body */
    LLM_OP_CANCEL = 2,   /* `argument` is a request id; its owner or an administrator */
    LLM_OP_CHECK =
        3, /* administrators: walk every structure of the engine; the sentence says what was found */
    LLM_OP_CONTEXT = 4, /* body: struct llm_context_body; data of the answer are words of the log */
    LLM_OP_COUNT
};

struct llm_submission {
    _Atomic uint64_t stamp; /* position + 1, stored last (release): the entry is whole */
    uint8_t operation;      /* enum llm_operation */
    uint8_t reserved0;
    uint16_t reserved1;
    uint32_t stream_slot; /* chosen by the client among its free ones */
    uint32_t
        stream_epoch; /* the slot's last epoch + 1: submitting it says that the old answer was read */
    uint32_t log_offset;  /* first word of the answer's log, chosen by the client */
    uint32_t log_words;   /* words of it: llm_log_map() (shm/request.h) says how they are used */
    uint32_t body_offset; /* bytes into the arena, multiple of 8 */
    uint32_t body_bytes;
    uint32_t reserved2;
    uint64_t
        deadline_ns; /* CLOCK_MONOTONIC; 0: none. A request not done by then fails with LLM_ERR_TIMEOUT */
    uint64_t argument;
    uint64_t reserved3;
};
static_assert(sizeof(struct llm_submission) == 64, "wire size");
static_assert(offsetof(struct llm_submission, operation) == 8, "wire");
static_assert(offsetof(struct llm_submission, stream_slot) == 12, "wire");
static_assert(offsetof(struct llm_submission, stream_epoch) == 16, "wire");
static_assert(offsetof(struct llm_submission, log_offset) == 20, "wire");
static_assert(offsetof(struct llm_submission, log_words) == 24, "wire");
static_assert(offsetof(struct llm_submission, body_offset) == 28, "wire");
static_assert(offsetof(struct llm_submission, body_bytes) == 32, "wire");
static_assert(offsetof(struct llm_submission, deadline_ns) == 40, "wire");
static_assert(offsetof(struct llm_submission, argument) == 48, "wire");

#define LLM_STOP_IDS_MAX          16u
#define LLM_STOP_STRINGS_MAX      8u
#define LLM_STOP_STRING_BYTES_MAX 64u
#define LLM_TOP_LOGPROBS_MAX      20u
#define LLM_BIASES_MAX            1024u
#define LLM_BANNED_IDS_MAX        1024u
#define LLM_ALLOWED_IDS_MAX       1024u

enum llm_request_flags {
    LLM_REQUEST_HAS_SEED = 1u << 0, /* else the daemon draws one and says it in the stream record */
    LLM_REQUEST_LOGPROBS = 1u << 1, /* log_words = 2 * max_tokens; second half: f32 bits */
    LLM_REQUEST_IGNORE_EOS = 1u << 2, /* the model's own end-of-text ids do not end the answer */
    /* On the context that `argument` of the submission names: the prompt's ids (0.. of them) are appended to it,
     * then the generated ones, each as it is published. Its model counts; `model` is empty. */
    LLM_REQUEST_ON_CONTEXT = 1u << 3,
    /* With ON_CONTEXT: not on the context itself but on a new unnamed fork of it, which belongs to this connection. Its
     * id is found by the request's id (LLM_CONTEXT_OPEN). */
    LLM_REQUEST_BRANCH = 1u << 4,
    /* Nothing is chosen: the answer is the prompt's own ids from `score_from` on, with the log-probability of each
     * after what stands before it. max_tokens is their number; LOGPROBS is set. With ON_CONTEXT score_from counts
     * within the prompt, the context is not changed, and BRANCH is not set. */
    LLM_REQUEST_SCORE = 1u << 5,
    /* Nothing is chosen and no token is answered: done when every row of the context and the prompt is computed.
     * max_tokens is 1. */
    LLM_REQUEST_COMPUTE = 1u << 6,
    /* With COMPUTE and ON_CONTEXT: and pin those rows (LLM_CONTEXT_UNPIN gives them back). Refused at once, with the
     * numbers, when they do not fit the quota or the pool. */
    LLM_REQUEST_PIN = 1u << 7,
    LLM_REQUEST_STEERED =
        1u << 8 /* a struct llm_steering and its lists stand behind the stop ids */
};
#define LLM_REQUEST_FLAGS_KNOWN 511u

/* Fields that the model's own defaults (generation_config.json) decide instead of the request, whatever it says there. A
 * request with any of them is told what was in force: the last words of its log are a struct llm_in_force. */
enum llm_request_defaults {
    LLM_REQUEST_DEFAULT_TEMPERATURE = 1u << 0,
    LLM_REQUEST_DEFAULT_TOP_K = 1u << 1,
    LLM_REQUEST_DEFAULT_TOP_P = 1u << 2,
    LLM_REQUEST_DEFAULT_MIN_P = 1u << 3,
    LLM_REQUEST_DEFAULT_TYPICAL_P = 1u << 4,
    LLM_REQUEST_DEFAULT_REPETITION = 1u << 5
};
#define LLM_REQUEST_DEFAULTS_KNOWN 63u

/* Who goes first; inside a class users share by their weights. */
enum llm_priority {
    LLM_PRIORITY_NORMAL = 0,
    LLM_PRIORITY_INTERACTIVE = 1, /* before normal ones */
    LLM_PRIORITY_BATCH = 2        /* after them; a waiting one ages, so it starts at last */
};
#define LLM_PRIORITY_COUNT 3u

/* Followed, without padding, by: uint32_t prompt[prompt_tokens], uint32_t stop_ids[stop_id_count], with STEERED a
 * struct llm_steering and its lists, then stop_string_count times (uint8_t length 1..64, bytes). body_bytes is exactly the
 * sum. */
struct llm_request_body {
    char model[LLM_NAME_BYTES]; /* name or alias; empty: the default model */
    uint32_t prompt_tokens;     /* 1..; 0.. with ON_CONTEXT */
    uint32_t max_tokens;        /* 1.. */
    float temperature;          /* 0: greedy; at most 100 */
    float top_p;                /* (0, 1]; 1: off */
    float min_p;                /* [0, 1]; 0: off */
    uint32_t top_k;             /* 0: off */
    uint64_t seed;
    uint32_t flags; /* enum llm_request_flags */
    uint32_t stop_id_count;
    uint32_t stop_string_count;
    uint32_t stop_string_bytes; /* bytes of the last part, length bytes included */
    uint32_t branch;            /* random numbers are those of (seed, branch); 0 alone */
    uint32_t score_from;        /* with SCORE: 1..prompt_tokens-1; 0.. with ON_CONTEXT */
    uint32_t priority;          /* enum llm_priority */
    uint32_t defaults;          /* enum llm_request_defaults */
};
static_assert(sizeof(struct llm_request_body) == 128, "wire size");
static_assert(offsetof(struct llm_request_body, defaults) == 124, "wire");
static_assert(offsetof(struct llm_request_body, branch) == 112, "wire");
static_assert(offsetof(struct llm_request_body, score_from) == 116, "wire");
static_assert(offsetof(struct llm_request_body, priority) == 120, "wire");
static_assert(offsetof(struct llm_request_body, prompt_tokens) == 64, "wire");
static_assert(offsetof(struct llm_request_body, max_tokens) == 68, "wire");
static_assert(offsetof(struct llm_request_body, temperature) == 72, "wire");
static_assert(offsetof(struct llm_request_body, top_p) == 76, "wire");
static_assert(offsetof(struct llm_request_body, min_p) == 80, "wire");
static_assert(offsetof(struct llm_request_body, top_k) == 84, "wire");
static_assert(offsetof(struct llm_request_body, seed) == 88, "wire");
static_assert(offsetof(struct llm_request_body, flags) == 96, "wire");
static_assert(offsetof(struct llm_request_body, stop_id_count) == 100, "wire");
static_assert(offsetof(struct llm_request_body, stop_string_count) == 104, "wire");
static_assert(offsetof(struct llm_request_body, stop_string_bytes) == 108, "wire");

/* How choosing is steered beyond the fields above. Its lists follow it, without padding: struct llm_bias[bias_count],
 * uint32_t banned_ids[banned_id_count], uint32_t allowed_ids[allowed_id_count]. */
struct llm_steering {
    float typical_p;          /* (0, 1]; 1: off */
    float repetition_penalty; /* [0.01, 100]; 1: off */
    float presence_penalty;   /* [-100, 100]; 0: off */
    float frequency_penalty;  /* [-100, 100]; 0: off */
    uint32_t min_tokens; /* 0..max_tokens; before, neither end of text nor stop ids are chosen */
    uint32_t
        top_logprobs; /* 0..20, with LOGPROBS: so many of the likeliest tokens beside each answered one */
    uint32_t bias_count;
    uint32_t banned_id_count;
    uint32_t allowed_id_count; /* 0: all ids; else only these can be chosen */
    uint8_t reserved[28];
};
static_assert(sizeof(struct llm_steering) == 64, "wire size");
static_assert(offsetof(struct llm_steering, repetition_penalty) == 4, "wire");
static_assert(offsetof(struct llm_steering, presence_penalty) == 8, "wire");
static_assert(offsetof(struct llm_steering, frequency_penalty) == 12, "wire");
static_assert(offsetof(struct llm_steering, min_tokens) == 16, "wire");
static_assert(offsetof(struct llm_steering, top_logprobs) == 20, "wire");
static_assert(offsetof(struct llm_steering, bias_count) == 24, "wire");
static_assert(offsetof(struct llm_steering, banned_id_count) == 28, "wire");
static_assert(offsetof(struct llm_steering, allowed_id_count) == 32, "wire");

struct llm_bias {
    uint32_t token;
    float bias; /* [-100, 100], added to its logit */
};
static_assert(sizeof(struct llm_bias) == 8, "wire size");

/* Two words of a log: one of the likeliest tokens at the place of an answered one. */
struct llm_top {
    uint32_t token; /* UINT32_MAX: the model has no further token of a finite logit */
    float logprob;
};
static_assert(sizeof(struct llm_top) == 8, "wire size");

/* The last words of the log of a request with `defaults`: what its tokens are chosen by. */
struct llm_in_force {
    float temperature;
    uint32_t top_k;
    float top_p;
    float min_p;
    float typical_p;
    float repetition_penalty;
    uint8_t reserved[8];
};
static_assert(sizeof(struct llm_in_force) == 32, "wire size");
static_assert(offsetof(struct llm_in_force, repetition_penalty) == 20, "wire");
#define LLM_IN_FORCE_WORDS 8u

/* ---- Contexts ------------------------------------------------------------------------------------- */

/* What LLM_OP_CONTEXT asks. `id` names the context: an id, or with `id` 0 the name in `name`. An answer's data are words
 * of the stream's log, little-endian: one struct llm_context_record for the verbs that give one ("-> record"). */
enum llm_context_verb {
    LLM_CONTEXT_CREATE = 1, /* `name`: the model, empty for the default one -> record */
    LLM_CONTEXT_OPEN, /* must be readable; `other`, if not 0: that of the request of this id -> record */
    LLM_CONTEXT_FORK, /* a new unnamed one, the first `length` tokens (UINT32_MAX: all) -> record */
    LLM_CONTEXT_APPEND, /* ids[count] behind the body */
    LLM_CONTEXT_REWIND, /* to its first `length` tokens */
    LLM_CONTEXT_KEEP,   /* its tokens become those of the context `other`, which ends -> record */
    LLM_CONTEXT_PUBLISH, /* `name`, `mode`, `gid` (UINT32_MAX: the caller's); renames a named one -> record */
    LLM_CONTEXT_MODE, /* `mode`, `gid` (UINT32_MAX: unchanged) */
    LLM_CONTEXT_UNPIN,
    LLM_CONTEXT_LEASE, /* it lives `lease_ms` from now on, whatever its connection does; 0: no lease */
    LLM_CONTEXT_ADOPT, /* an unnamed one is this connection's from now on; write permission -> record */
    LLM_CONTEXT_CLOSE, /* ends it if it is unnamed, unleased and this connection's; else nothing; `other` as for OPEN */
    LLM_CONTEXT_REMOVE, /* ends it, named or not; its owner or an administrator */
    LLM_CONTEXT_READ,   /* `count` ids from `length` on -> ids */
    LLM_CONTEXT_LIST, /* all that the caller may read, from slot `length` on -> records, as many as the log has room for, at most 1024 */
    LLM_CONTEXT_FOLLOW, /* the answer that is being generated on it, from its first token on, to its end */
    LLM_CONTEXT_PROBE, /* ids[count] behind the body: what of them would be found -> struct llm_probe_span */
    LLM_CONTEXT_BLOCKS, /* administrators: the pool from block `length` on -> struct llm_block_view, as many as there is room for */
    LLM_CONTEXT_LEDGER, /* who uses which bytes, from row `length` on; a user sees their own rows, administrators all -> struct llm_ledger_row */
    LLM_CONTEXT_VERB_COUNT
};

#define LLM_CONTEXT_NAME_BYTES \
    104u /* with the final zero; parts of [A-Za-z0-9._-], '/' between them */

/* Followed, without padding, by ids[count] where the verb says so. */
struct llm_context_body {
    uint32_t verb; /* enum llm_context_verb */
    uint32_t length;
    uint64_t id;
    uint64_t other;
    uint32_t count;
    uint32_t mode; /* 0..0666: rw for owner, group, other */
    uint32_t gid;
    uint32_t lease_ms;
    char name[LLM_CONTEXT_NAME_BYTES];
    uint8_t reserved[112];
};
static_assert(sizeof(struct llm_context_body) == 256, "wire size");
static_assert(offsetof(struct llm_context_body, length) == 4, "wire");
static_assert(offsetof(struct llm_context_body, id) == 8, "wire");
static_assert(offsetof(struct llm_context_body, other) == 16, "wire");
static_assert(offsetof(struct llm_context_body, count) == 24, "wire");
static_assert(offsetof(struct llm_context_body, mode) == 28, "wire");
static_assert(offsetof(struct llm_context_body, gid) == 32, "wire");
static_assert(offsetof(struct llm_context_body, lease_ms) == 36, "wire");
static_assert(offsetof(struct llm_context_body, name) == 40, "wire");

enum llm_context_flags {
    LLM_CONTEXT_NAMED = 1u << 0,
    LLM_CONTEXT_PINNED = 1u << 1,
    LLM_CONTEXT_LEASED = 1u << 2,
    LLM_CONTEXT_GENERATING = 1u << 3,
    LLM_CONTEXT_WRITABLE = 1u << 4 /* by the one who asked */
};

struct llm_context_record {
    uint64_t id;
    uint64_t parent_id;  /* it was forked from; 0: from none. The parent may be gone */
    uint64_t request_id; /* being generated on it, or the last one that was; 0: none */
    uint32_t slot;
    uint32_t length;        /* tokens, those published of a running answer included */
    uint32_t shared_tokens; /* of those, at most the first so many are another context's too */
    uint32_t pinned_blocks;
    uint32_t uid;
    uint32_t gid;
    uint32_t mode;
    uint32_t flags;    /* enum llm_context_flags */
    uint32_t lease_ms; /* left */
    uint32_t idle_ms;  /* since it was last used, saturating */
    uint32_t block_tokens;
    uint32_t reserved0;
    char name[LLM_CONTEXT_NAME_BYTES];
    char model[LLM_NAME_BYTES];
    uint8_t reserved[16];
};
static_assert(sizeof(struct llm_context_record) == 256, "wire size");
static_assert(offsetof(struct llm_context_record, slot) == 24, "wire");
static_assert(offsetof(struct llm_context_record, flags) == 52, "wire");
static_assert(offsetof(struct llm_context_record, name) == 72, "wire");
static_assert(offsetof(struct llm_context_record, model) == 176, "wire");
#define LLM_CONTEXT_RECORD_WORDS 64u

/* A span of a probed prompt. */
enum llm_probe_kind {
    LLM_PROBE_HIT = 1,        /* in blocks that are found; domain says whose */
    LLM_PROBE_COPY = 2,       /* the leading rows of a block that is found: they are copied */
    LLM_PROBE_BEING_MADE = 3, /* another request computes them now: waited for */
    LLM_PROBE_MISS = 4,       /* nothing there: never computed, evicted, or after a miss */
    LLM_PROBE_FOREIGN =
        5 /* the tokens are there, but in a domain the caller may not use (administrators see this) */
};
struct llm_probe_span {
    uint32_t kind; /* enum llm_probe_kind */
    uint32_t from; /* tokens from..to-1 */
    uint32_t to;
    uint32_t
        cached_token; /* MISS after a HIT: the token that is cached where the prompt has another; UINT32_MAX: none */
    uint64_t domain;     /* HIT, COPY, FOREIGN: enum llm_domain_kind << 32 | id */
    uint64_t context_id; /* a readable context that has these tokens; 0: none known */
};
static_assert(sizeof(struct llm_probe_span) == 32, "wire size");

/* One block of the pool, for `llmctl kv map`. */
struct llm_block_view {
    uint32_t block;
    uint8_t
        state; /* 0 free, 1 held, 2 cached, 3 in transit, 4 quarantined, 5 of a slab that nobody owns */
    uint8_t model;
    uint16_t tokens; /* rows that count; 0 while it is being written */
    uint32_t references;
    uint32_t parent; /* UINT32_MAX: the first of its chain */
    uint32_t depth;
    uint32_t reserved;
    uint64_t domain;
};
static_assert(sizeof(struct llm_block_view) == 32, "wire size");

/* A line of the ledger (`llmctl mem`): lines of one `part` add up to its total, and parts to what the daemon has taken. */
enum llm_ledger_part {
    LLM_LEDGER_WEIGHTS = 1,
    LLM_LEDGER_WORKSPACE = 2,
    LLM_LEDGER_POOL = 3, /* by `state` (as in llm_block_view) and owner; slab remainders are free */
    LLM_LEDGER_TABLES = 4, /* the keeper-held tables */
    LLM_LEDGER_CLIENTS = 5 /* up and down of connections, by uid */
};
struct llm_ledger_row {
    uint32_t part;  /* enum llm_ledger_part */
    uint32_t state; /* POOL; else 0 */
    uint64_t owner; /* llm_domain(); UINT64_MAX: the daemon's own */
    uint64_t bytes;
    uint64_t pinned_bytes;     /* POOL: of those */
    char name[LLM_NAME_BYTES]; /* of the model, the table; empty: nothing to say */
};
static_assert(sizeof(struct llm_ledger_row) == 96, "wire size");

/* Whose cached blocks: kind << 32 | id. Wider kinds are larger. */
enum llm_domain_kind {
    LLM_DOMAIN_PRIVATE = 0, /* id: a uid */
    LLM_DOMAIN_GROUP = 1,   /* id: a gid */
    LLM_DOMAIN_PUBLIC = 2   /* id: 0 */
};
static inline uint64_t llm_domain(enum llm_domain_kind kind, uint32_t id)
{
    return (uint64_t)kind << 32 | id;
}
static inline enum llm_domain_kind llm_domain_kind(uint64_t domain)
{
    return (enum llm_domain_kind)(domain >> 32);
}

/* ---- down: written by the engine ------------------------------------------------------------------ */

struct llm_down_header {
    alignas(LLM_CACHE_LINE_BYTES) _Atomic uint64_t queue_head; /* positions taken in */
    alignas(LLM_CACHE_LINE_BYTES) _Atomic uint32_t
        engine_asleep; /* 1: ring the eventfd after submitting */
    alignas(LLM_CACHE_LINE_BYTES) _Atomic uint64_t event_tail; /* hints written, since creation */
    _Atomic uint32_t event_word; /* low half of event_tail; clients sleep on it */
};
static_assert(sizeof(struct llm_down_header) == 192, "wire size");
static_assert(offsetof(struct llm_down_header, engine_asleep) == 64, "wire");
static_assert(offsetof(struct llm_down_header, event_tail) == 128, "wire");
static_assert(offsetof(struct llm_down_header, event_word) == 136, "wire");

enum llm_finish {
    LLM_FINISH_NONE = 0,    /* not done */
    LLM_FINISH_STOP_ID = 1, /* the last token is the model's end of text or one of the stop ids */
    LLM_FINISH_STOP_STRING = 2, /* the text of the tokens now contains a stop string */
    LLM_FINISH_LENGTH = 3,      /* max_tokens */
    LLM_FINISH_CONTEXT = 4,     /* the model's context is full */
    LLM_FINISH_CANCELLED = 5,
    LLM_FINISH_FAILED = 6,  /* `status` and the slot's sentence say why */
    LLM_FINISH_ANSWERED = 7 /* a control operation: `status` and the sentence are the answer */
};

/* commit = epoch:32 | done:1 | count:31. One store makes a change visible; nothing else in the record
 * changes without it, except the time stamps, which are only right once done is set. The other fields are
 * atomic so that a reader which does not wait for the word reads something; they are stored relaxed. */
struct llm_stream_record {
    _Atomic uint64_t commit;
    _Atomic uint32_t status; /* enum llm_status, once done */
    _Atomic uint32_t finish; /* enum llm_finish, once done */
    _Atomic uint32_t prompt_tokens;
    _Atomic uint32_t cached_tokens;     /* prompt tokens whose KV was reused */
    _Atomic uint64_t seed;              /* the one used */
    _Atomic uint64_t request_id;        /* for llmctl; never reused within one daemon */
    _Atomic uint64_t admitted_ns;       /* CLOCK_MONOTONIC */
    _Atomic uint32_t first_token_us;    /* since admitted; 0 before */
    _Atomic uint32_t last_token_us;     /* since admitted, saturating */
    _Atomic uint32_t engine_generation; /* of the engine that wrote last */
    uint32_t reserved;
};
static_assert(sizeof(struct llm_stream_record) == 64, "wire size");
static_assert(offsetof(struct llm_stream_record, status) == 8, "wire");
static_assert(offsetof(struct llm_stream_record, finish) == 12, "wire");
static_assert(offsetof(struct llm_stream_record, prompt_tokens) == 16, "wire");
static_assert(offsetof(struct llm_stream_record, cached_tokens) == 20, "wire");
static_assert(offsetof(struct llm_stream_record, seed) == 24, "wire");
static_assert(offsetof(struct llm_stream_record, request_id) == 32, "wire");
static_assert(offsetof(struct llm_stream_record, admitted_ns) == 40, "wire");
static_assert(offsetof(struct llm_stream_record, first_token_us) == 48, "wire");
static_assert(offsetof(struct llm_stream_record, last_token_us) == 52, "wire");
static_assert(offsetof(struct llm_stream_record, engine_generation) == 56, "wire");

#define LLM_COMMIT_DONE      (UINT64_C(1) << 31)
#define LLM_COMMIT_COUNT_MAX UINT32_C(0x7fffffff)

static inline uint64_t llm_commit_pack(uint32_t epoch, bool done, uint32_t count)
{
    return (uint64_t)epoch << 32 | (done ? LLM_COMMIT_DONE : 0) | (count & LLM_COMMIT_COUNT_MAX);
}
static inline uint32_t llm_commit_epoch(uint64_t commit)
{
    return (uint32_t)(commit >> 32);
}
static inline bool llm_commit_done(uint64_t commit)
{
    return (commit & LLM_COMMIT_DONE) != 0;
}
static inline uint32_t llm_commit_count(uint64_t commit)
{
    return (uint32_t)commit & LLM_COMMIT_COUNT_MAX;
}

/* A hint: "stream `slot` moved while it was at `epoch`". Position p lies in entry p & (event_entries - 1). */
static inline uint64_t llm_event_pack(uint32_t slot, uint32_t epoch)
{
    return (uint64_t)epoch << 32 | slot;
}

/* ---- The socket: fixed-size messages between a client and the keeper ------------------------------ */

/* AF_UNIX, SOCK_SEQPACKET: a message arrives whole or not at all. The client asks, the keeper answers in order;
 * before it ends a connection for its own reasons the keeper sends a reply nobody asked for, whose status and
 * message say why. */

#define LLM_MESSAGE_MAGIC UINT32_C(0x4d4d4c4c) /* "LLMM" */

enum llm_verb {
    LLM_VERB_ATTACH =
        1, /* reply: geometry and five descriptors, in the order of enum llm_attach_fd */
    LLM_VERB_MEMORY =
        2, /* a public named memory ("vocab", "vocab/<model>", "models"); reply: one descriptor */
    LLM_VERB_STOP = 3,           /* administrators: end the daemon */
    LLM_VERB_RESTART_ENGINE = 4, /* administrators: replace the engine; streams go on */
    LLM_VERB_DRAIN = 5, /* administrators: refuse new requests, let running ones end, and stay */
    LLM_VERB_DRAIN_STOP = 6, /* administrators: the same, and end the daemon when nothing is left */
    LLM_VERB_RESUME = 7,     /* administrators: take requests again */
    LLM_VERB_MODEL_LOAD =
        8, /* administrators: `argument` is a model's name or directory, `name` what it is to be
                                called, or empty; reply: its model_id, it is being loaded */
    LLM_VERB_MODEL_UNLOAD =
        9, /* administrators: `name`; its requests end first; reply: its model_id */
    LLM_VERB_MODEL_ALIAS =
        10, /* administrators: the alias `name` means the model `argument` from now on; empty: nothing */
    LLM_VERB_MODEL_DEFAULT =
        11, /* administrators: `name` is the model for requests that name none */
    LLM_VERB_COUNT
};
enum llm_attach_fd {
    LLM_FD_CTL,       /* read-only */
    LLM_FD_UP,        /* read-write */
    LLM_FD_DOWN,      /* read-only */
    LLM_FD_TO_ENGINE, /* eventfd: the client writes, the engine polls it and never reads or writes */
    LLM_FD_TO_CLIENT, /* a stream socket whose other end the engine sends single bytes to (wait.h says why) */
    LLM_ATTACH_FDS
};

#define LLM_ARGUMENT_BYTES 176u /* with the final zero */

/* Exactly this many bytes in one send; anything else ends the connection. No descriptors are accepted. */
struct llm_keeper_request {
    uint32_t magic;
    uint16_t abi_major;
    uint16_t abi_minor;
    uint32_t verb; /* enum llm_verb */
    uint32_t reserved0;
    char name
        [LLM_NAME_BYTES]; /* ATTACH: the program's name, for people; MEMORY: which; MODEL_*: see there */
    char argument[LLM_ARGUMENT_BYTES]; /* MODEL_LOAD, MODEL_ALIAS; else zero */
};
static_assert(sizeof(struct llm_keeper_request) == 256, "wire size");

struct llm_keeper_reply {
    uint32_t magic;
    uint16_t abi_major;
    uint16_t abi_minor;
    uint32_t status; /* enum llm_status */
    uint32_t descriptor_count;
    uint8_t boot_id[16];
    uint64_t connection_id;           /* ATTACH */
    uint64_t memory_bytes;            /* MEMORY */
    struct llm_geometry geometry;     /* ATTACH */
    char status_name[LLM_NAME_BYTES]; /* ATTACH: the status file's name for shm_open() */
    char message[LLM_NOTE_BYTES];     /* one sentence when status is not LLM_OK */
    uint64_t model_id;                /* MODEL_*: the load that was meant */
    uint64_t
        names_number; /* MODEL_*: in force when the image "models" says that it is (names_settled) */
    uint8_t reserved[168];
};
static_assert(sizeof(struct llm_keeper_reply) == 512, "wire size");
static_assert(offsetof(struct llm_keeper_reply, boot_id) == 16, "wire");
static_assert(offsetof(struct llm_keeper_reply, connection_id) == 32, "wire");
static_assert(offsetof(struct llm_keeper_reply, memory_bytes) == 40, "wire");
static_assert(offsetof(struct llm_keeper_reply, geometry) == 48, "wire");
static_assert(offsetof(struct llm_keeper_reply, status_name) == 72, "wire");
static_assert(offsetof(struct llm_keeper_reply, message) == 136, "wire");
static_assert(offsetof(struct llm_keeper_reply, model_id) == 328, "wire");

#endif
