/*
 * tables.h - the tables the keeper holds and the engine writes, so that an engine may die at any instruction.
 *
 * Idea     Memory describes itself; everything else is derived. Each record becomes valid, changes its
 *          state and becomes free again by one store of its `word` = generation << 8 | state. What a new
 *          engine needs (who asked what, what was already answered, which block holds which tokens) is here
 *          and never only in `up`, `down` or an engine's own memory.
 * Owner    Memfds of the keeper, named by LLM_TABLE_*; a restarted engine is handed them again.
 * Threads  The engine thread writes; the keeper and llmctl only read (llmctl through the keeper's word).
 * Trust    A dead engine may have died anywhere, but stores are seen in program order (release), so a
 *          valid word means a whole record; the check value guards against stray writes of our own.
 * See      docs/PROTOCOL.md ("Tables"), daemon/engine/journal.h (who writes), recovery.h (who reads).
 */
#ifndef LLM_SHM_TABLES_H
#define LLM_SHM_TABLES_H

#include "shm/layout.h"

#define LLM_TABLE_CONNECTIONS "conntab"
#define LLM_TABLE_REQUESTS    "reqtab"
#define LLM_TABLE_TOKENS      "reqtok"
#define LLM_TABLE_STEERING    "reqsteer"
#define LLM_TABLE_BLOCKS      "kvhdr"
#define LLM_TABLE_BLOCK_IDS   "kvtok"
#define LLM_TABLE_CONTEXTS    "ctxtab"
#define LLM_TABLE_ROWS        "ctxrow"
#define LLM_TABLE_ROW_IDS     "ctxids"

#define LLM_TABLE_MAGIC UINT64_C(0x4c4254444d4c4c01)

/* The first page of every table. A restarted engine reads the geometry from here and never derives it. */
struct llm_table_header {
    uint64_t magic;
    uint32_t abi_major;
    uint32_t record_bytes;
    uint64_t record_count;
    uint64_t layout_check; /* of everything else the records depend on, e.g. block_tokens */
    alignas(LLM_CACHE_LINE_BYTES) _Atomic uint64_t
        complete; /* LLM_TABLE_MAGIC once the header is whole */
};
static_assert(sizeof(struct llm_table_header) == 128, "table size");
#define LLM_TABLE_RECORDS_OFFSET LLM_PAGE_BYTES

static inline uint64_t llm_word_pack(uint64_t generation, unsigned state)
{
    return generation << 8 | state;
}
static inline uint64_t llm_word_generation(uint64_t word)
{
    return word >> 8;
}
static inline unsigned llm_word_state(uint64_t word)
{
    return (unsigned)(word & 0xff);
}

/* ---- conntab[connection_slot]: how far each connection's queue was taken in ----------------------- */

enum llm_conn_state {
    LLM_CONN_FREE = 0,
    LLM_CONN_ATTACHED = 1
};

struct llm_conntab_record {
    _Atomic uint64_t word;
    uint64_t connection_id;
    _Atomic uint64_t queue_head; /* every position below it was admitted or answered */
    uint8_t reserved[40];
};
static_assert(sizeof(struct llm_conntab_record) == 64, "table size");

/* ---- reqtab[request_slot]: what was asked, and what was already answered -------------------------- */

enum llm_req_state {
    LLM_REQ_FREE = 0,
    LLM_REQ_LIVE = 1, /* admitted; goes on after an engine's death */
    LLM_REQ_ANSWERED =
        2 /* the final status is decided and written below; only the stream record may lack it */
};

struct llm_reqtab_record {
    _Atomic uint64_t word;
    _Atomic uint32_t published; /* generated ids in reqtok that count; stored after the id */
    uint32_t deaths;            /* engine deaths in a row that this request was in flight at */
    uint64_t request_id;
    uint64_t connection_id;
    uint64_t
        queue_position; /* with connection_id: the identity that keeps it from being admitted twice */
    uint32_t connection_slot;
    uint32_t stream_slot;
    uint32_t stream_epoch;
    uint32_t log_offset;
    uint32_t log_words;
    uint32_t status; /* with LLM_REQ_ANSWERED: the end of the stream record */
    uint32_t finish;
    uint32_t cached_tokens;
    uint64_t admitted_ns;
    uint64_t deadline_ns;
    uint32_t first_token_us;
    uint32_t last_token_us;
    uint32_t uid;
    uint32_t gid;
    uint64_t context_id; /* with ON_CONTEXT (with BRANCH: the fork); 0: none */
    uint64_t leader_id;  /* a follower's: the request whose answer it repeats; 0: its own */
    uint64_t model_id;   /* the load of a model that answers it, to its end */
    /* Validated copy; seed is always the one used; fields in `defaults` have the model's values, and STEERED is set when
     * those need it; prompt_tokens counts the context's tokens too. */
    struct llm_request_body body;
    uint32_t stop_ids[LLM_STOP_IDS_MAX];
    uint8_t stop_string_length[LLM_STOP_STRINGS_MAX];
    uint8_t stop_strings[LLM_STOP_STRINGS_MAX][LLM_STOP_STRING_BYTES_MAX];
    char note[LLM_NOTE_BYTES]; /* the sentence that goes with `status` */
    uint8_t reserved1[56];
};
static_assert(offsetof(struct llm_reqtab_record, body) == 128, "table size");
static_assert(sizeof(struct llm_reqtab_record) == 1088, "table size");

/* reqtok[request_slot]: uint32_t ids[context_tokens_max] (the prompt, then the generated ids), then
 * uint32_t logprobs[context_tokens_max] (f32 bits, same positions). Pages nobody wrote take no memory. */

/* ---- reqsteer[request_slot]: the rest of what a STEERED request asked ------------------------------- */

/* Written before the record becomes LIVE, and part of it; nothing when its flags lack STEERED. */
struct llm_steering_record {
    struct llm_steering steering; /* validated copy; defaults are those that were in force */
    struct llm_bias biases[LLM_BIASES_MAX];
    uint32_t banned_ids[LLM_BANNED_IDS_MAX];
    uint32_t allowed_ids[LLM_ALLOWED_IDS_MAX];
};
static_assert(sizeof(struct llm_steering_record) == 16448, "table size");

/* ---- kvhdr[block], kvtok[block][block_tokens]: what each KV block holds --------------------------- */

enum llm_block_state {
    LLM_BLOCK_FREE = 0,
    LLM_BLOCK_WRITING = 1, /* owned by one writer; its content counts for nothing after a crash */
    LLM_BLOCK_SEALED = 2,  /* `tokens` rows are written and never change under this generation */
    LLM_BLOCK_SPILLING = 3,
    LLM_BLOCK_QUARANTINED =
        4 /* was being written when an engine died; free once the device is quiet */
};

struct llm_kvhdr_record {
    _Atomic uint64_t word;
    uint8_t chain[16];  /* keyed hash of (parent chain, token ids) */
    uint8_t parent[16]; /* the parent's chain; the root's for a first block */
    uint16_t
        tokens; /* rows that count, 1..block_tokens; fewer than block_tokens: the end of a chain */
    uint16_t model; /* slot of the model in the registry */
    uint32_t depth; /* blocks before this one in its chain */
    /* Who may share it (llm_domain()); who wrote it last, when free. May widen while sealed, by one store; not part of
     * header_check. */
    _Atomic uint64_t domain;
    uint32_t data_check;
    uint32_t
        header_check; /* of everything above but word's state and domain, the generation included */
};
static_assert(sizeof(struct llm_kvhdr_record) == 64, "table size");

/* ---- ctxtab[context_slot]: contexts; ctxrow[row], ctxids[row][context_tokens_max]: their token ids -------- */

enum llm_ctx_state {
    LLM_CTX_FREE = 0,
    LLM_CTX_LIVE = 1
};

/* One of two versions of everything that may change; the word's generation says which one counts (its lowest bit), so
 * that any change of any number of fields is one store. */
struct llm_ctx_version {
    uint64_t context_id; /* slot + 1 in the low 16 bits; never reused */
    uint64_t parent_id;
    uint64_t request_id; /* the last one on it; while it is LIVE in reqtab its tokens count too */
    uint64_t connection_id;  /* whose it is while it has no name and no lease */
    uint64_t lease_until_ns; /* CLOCK_BOOTTIME; 0: none */
    uint64_t used_ns;        /* CLOCK_BOOTTIME */
    /* The operation that made this version: a submission that is taken in again after an engine's death is not done twice. */
    uint64_t by_connection_id;
    uint64_t by_position;
    uint32_t row; /* ids of positions row.start .. length-1; those before are its parents' */
    uint32_t length;
    uint32_t uid;
    uint32_t gid;
    uint32_t mode;
    uint32_t pinned_tokens; /* the first so many are pinned */
    uint32_t model;
    uint32_t model_check; /* of the model's identity: another model's contexts are dropped */
    char name[LLM_CONTEXT_NAME_BYTES];
    /* Forked from what wider domains may read: the first share_tokens[i] tokens are share_domains[i]'s too, the widest first. */
    uint64_t share_domains[2];
    uint32_t share_tokens[2]; /* 0: none */
};
static_assert(sizeof(struct llm_ctx_version) == 224, "table size");

struct llm_ctxtab_record {
    _Atomic uint64_t word;
    uint8_t reserved[56];
    struct llm_ctx_version versions[2]; /* [generation & 1] counts */
};
static_assert(sizeof(struct llm_ctxtab_record) == 512, "table size");

#define LLM_ROW_NONE UINT32_MAX

enum llm_ctxrow_state {
    LLM_CTXROW_FREE = 0,
    LLM_CTXROW_LIVE = 1
};

/* A run of token ids that several contexts share. ids[p] of its row is the token at absolute position p, for
 * start <= p < end; ids below `end` never change while anybody else may read them. Who else uses a row is counted
 * anew after an engine's death: a row that no context reaches is free. */
struct llm_ctxrow_record {
    _Atomic uint64_t word;
    uint32_t parent; /* the row that has the tokens before `start`; LLM_ROW_NONE with start 0 */
    uint32_t start;
    _Atomic uint32_t end; /* stored after the ids */
    uint32_t uid;         /* whose quota its tokens are counted against */
    uint32_t reserved[10];
};
static_assert(sizeof(struct llm_ctxrow_record) == 64, "table size");

#endif
