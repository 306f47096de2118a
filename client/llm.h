/*
 * llm.h - talk to llmd: submit token ids, read the answer's tokens, share contexts. Needs libc only.
 *
 * Idea     A connection is two memories shared with the daemon. Submitting writes a record into the one,
 *          reading looks at an array and a counter in the other: no system call per token, no copy, no
 *          HTTP. A stream is one answer; it survives crashes and restarts of the daemon's engine.
 *          Text (tokenising, chat) is <llm/text.h>.
 * Owner    What llm_connect() and llm_submit() give is the caller's until llm_disconnect() and
 *          llm_stream_close(), contexts' handles until llm_context_close(); all accept NULL. Close a connection's
 *          streams and handles before it.
 * Threads  A connection may be used from any number of threads at once. A stream belongs to one thread at
 *          a time.
 * fork()   In a child every call on an inherited handle returns LLM_ERR_FORKED and touches nothing;
 *          connect again there. Closing an inherited handle is allowed and frees the child's copy.
 * Errors   Every call returns a status and fills `error` (NULL is accepted) with one sentence that names
 *          the thing and the value. Out-parameters are untouched on failure.
 * See      README.md for programs, docs/PROTOCOL.md for the bytes.
 */
#ifndef LLM_LLM_H
#define LLM_LLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LLM_FOREVER UINT64_MAX /* as a timeout: wait without end */

typedef struct llm_connection llm_connection;
typedef struct llm_stream llm_stream;

/* ---- Connecting ----------------------------------------------------------------------------------- */

enum llm_wait {
    LLM_WAIT_FUTEX =
        0, /* sleep in the kernel; wakes in tens of microseconds, costs nothing meanwhile */
    LLM_WAIT_SPIN = 1, /* look again and again; wakes in well under a microsecond, costs a core */
};

/* All zero is a good start: the usual socket, a private daemon when none runs. */
typedef struct llm_connect_options {
    /* NULL: $LLMD_SOCKET; else $XDG_RUNTIME_DIR/llmd/llmd.sock or /run/llmd/llmd.sock, whichever answers */
    const char *socket;
    const char *name;   /* shown by `llmctl clients`; NULL: the program's name */
    bool no_autostart;  /* true: fail with LLM_ERR_NOT_FOUND instead of starting a private daemon */
    enum llm_wait wait; /* how this connection's threads wait */
    uint64_t timeout_ns; /* for the daemon to come up and answer; 0: 30 s */
} llm_connect_options;

/*
 * Connect to the daemon of this machine.
 *
 *   options          NULL: all defaults
 *   returns          LLM_OK
 *                    LLM_ERR_NOT_FOUND   no daemon, and none could be started: start one, or name its socket
 *                    LLM_ERR_PERMISSION  the socket is not for this user: ask for membership of its group
 *                    LLM_ERR_VERSION     daemon and library are of different major versions
 *                    LLM_ERR_BUSY        the daemon's connection slots are taken; try again later
 *                    LLM_ERR_INVALID     the socket's path is empty or longer than 107 bytes
 *                    LLM_ERR_PEER        who listens there is not a daemon of this protocol
 *                    LLM_ERR_TIMEOUT, LLM_ERR_MEMORY, LLM_ERR_SYSTEM
 */
LLM_API LLM_MUST_CHECK enum llm_status
llm_connect(llm_connection **out_connection, const llm_connect_options *options, llm_error *error);
LLM_API void llm_disconnect(llm_connection *connection);

/* A descriptor for an event loop: readable after any stream of this connection moved, and for good once the
 * daemon is gone. After the first call, and whenever it was readable and llm_connection_acknowledge() was
 * called, look at the streams (llm_stream_read() with a time-out of 0) until they have no more; never read it
 * yourself. -1: an inherited handle (fork). */
LLM_API int llm_connection_fd(llm_connection *connection);
LLM_API void llm_connection_acknowledge(llm_connection *connection);

/* What the daemon said at connect, for programs that look closer (llmctl does). */
typedef struct llm_connection_info {
    uint64_t connection_id;
    uint64_t engine_generation; /* moves on when the engine was replaced */
    bool engine_ready;
    uint32_t keeper_pid;
    uint32_t stream_slots; /* requests that can be in flight at once on this connection */
    uint32_t log_words;    /* 32-bit words for all answers in flight */
    uint32_t prompt_bytes; /* bytes for all prompts being submitted */
    char status_name[64];  /* of the status file, for shm_open() */
    char socket[108];
} llm_connection_info;
LLM_API LLM_MUST_CHECK enum llm_status llm_connection_describe(llm_connection *connection,
                                                               llm_connection_info *out_info,
                                                               llm_error *error);

/*
 * Map one of the daemon's public memories, read-only ("vocab" is the default model's vocabulary).
 *
 *   out_address, out_bytes   the mapping; llm_memory_unmap() ends it. It outlives the connection.
 *   returns          LLM_OK, LLM_ERR_NOT_FOUND, LLM_ERR_PEER, LLM_ERR_MEMORY, LLM_ERR_FORKED
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_memory_map(llm_connection *connection, const char *name,
                                                      const void **out_address, size_t *out_bytes,
                                                      llm_error *error);
LLM_API void llm_memory_unmap(const void *address, size_t bytes);

/* ---- Asking ---------------------------------------------------------------------------------------- */

enum llm_urgency {
    LLM_URGENCY_NORMAL = 0,
    LLM_URGENCY_INTERACTIVE =
        1, /* before normal ones, within what the daemon's configuration allows this user */
    LLM_URGENCY_BATCH = 2 /* after all others; what waits long starts at last */
};

/* Values that the model decides instead of the request: those its authors recommend (generation_config.json), greedy with all
 * filters off where they say nothing. */
enum llm_model_default {
    LLM_DEFAULT_TEMPERATURE = 1,
    LLM_DEFAULT_TOP_K = 2,
    LLM_DEFAULT_TOP_P = 4,
    LLM_DEFAULT_MIN_P = 8,
    LLM_DEFAULT_TYPICAL_P = 16,
    LLM_DEFAULT_REPETITION_PENALTY = 32,
    LLM_DEFAULT_ALL = 63
};

/* How to choose the next token. Zero means "off" for every field but max_tokens; what the model's authors recommend is had
 * by naming it in model_defaults. docs/NUMERICS.md ("Sampling") has the order of the steps. */
typedef struct llm_sampling {
    uint32_t max_tokens; /* 1..; the answer's longest length */
    float temperature;   /* 0: always the likeliest token; at most 100 */
    uint32_t top_k;      /* keep the k likeliest; 0: off */
    float top_p;         /* keep the smallest set with this mass, (0, 1]; 0: off */
    float min_p; /* drop what is less likely than this times the likeliest, [0, 1]; 0: off */
    uint32_t
        branch;    /* another answer of the same seed: random numbers are those of (seed, branch) */
    uint64_t seed; /* with has_seed; else the daemon draws one and tells it (llm_stream_info) */
    bool has_seed;
    bool logprobs;            /* also return each token's log-probability */
    bool ignore_eos;          /* go on past the model's end of text, to max_tokens */
    enum llm_urgency urgency; /* who goes first */
    const uint32_t *stop_ids; /* [stop_id_count] end the answer; the id is its last token */
    uint32_t stop_id_count;   /* at most 16 */
    /* 0; or sizeof(llm_sampling_more), and this is the first member of one */
    uint32_t more_bytes;
    const char *const
        *stop_strings;          /* [stop_string_count] end the answer when its text contains one */
    uint32_t stop_string_count; /* at most 8, each of 1..64 bytes */
    uint32_t model_defaults;    /* enum llm_model_default, or-ed: these fields do not count */
    const char *model;          /* NULL: the daemon's default model; on a context: NULL */
    uint64_t timeout_ns;        /* give up after this long; 0: never */
} llm_sampling;

typedef struct llm_logit_bias {
    uint32_t token;
    float bias; /* -100..100, added to the token's logit; several of one token add up */
} llm_logit_bias;

/*
 * What else a request may ask for. Set sampling.more_bytes = sizeof(llm_sampling_more) and give &more.sampling to any call
 * that takes an llm_sampling: llm_submit(), llm_generate(), llm_generate_text() and their kin. Lists are copied before the
 * call returns. Steps in order: bias, repetition, frequency and presence penalty, then what cannot be chosen (min_tokens,
 * banned, allowed), then temperature, top_k, top_p, min_p, typical_p.
 */
typedef struct llm_sampling_more {
    llm_sampling sampling;
    float
        typical_p; /* keep the tokens nearest to the expected surprise with this mass, (0, 1]; 0: off */
    float
        repetition_penalty; /* 0.01..100; of each id in prompt and answer the logit is divided by it (multiplied if negative); 0, 1: off */
    float presence_penalty; /* -100..100; taken from the logit of each id in the answer; 0: off */
    float frequency_penalty; /* -100..100; the same, as often as it is there; 0: off */
    uint32_t min_tokens;   /* 0..max_tokens; the answer cannot stop before it has so many tokens */
    uint32_t top_logprobs; /* 0..20; with sampling.logprobs: llm_stream_tops() */
    const llm_logit_bias *biases; /* [bias_count] */
    uint32_t bias_count;          /* at most 1024 */
    uint32_t banned_id_count;     /* at most 1024 */
    const uint32_t *banned_ids;   /* [banned_id_count] are never chosen */
    const uint32_t *
        allowed_ids; /* [allowed_id_count] nothing else is chosen; with none, everything is allowed */
    uint32_t allowed_id_count; /* at most 1024 */
} llm_sampling_more;

/*
 * Submit a prompt; the answer arrives in the stream.
 *
 *   prompt           [prompt_tokens] ids in the model's vocabulary; copied before the call returns
 *   prompt_tokens    1..; with max_tokens it must fit the model's context
 *   sampling         NULL: the model's own defaults, 256 tokens
 *   returns          LLM_OK              the daemon will answer; what it finds wrong comes with the stream
 *                    LLM_ERR_INVALID     a field is out of range; the sentence names it
 *                    LLM_ERR_BUSY        every stream slot, the queue or the log is in use: close a stream or wait
 *                    LLM_ERR_LIMIT       can never fit this connection's memories
 *                    LLM_ERR_PEER        the daemon is gone
 *                    LLM_ERR_FORKED
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_submit(llm_connection *connection,
                                                  const uint32_t *prompt, uint32_t prompt_tokens,
                                                  const llm_sampling *sampling,
                                                  llm_stream **out_stream, llm_error *error);

/* ---- Contexts --------------------------------------------------------------------------------------- */

/*
 * A context is a row of tokens in the daemon that can be appended to, generated on, forked and rewound; what was
 * computed for it once is not computed again. One without a name is private to its user and ends with this connection
 * (unless it has a lease); llm_context_publish() gives it a name, an owner, a group and mode bits, under which it outlives
 * programs and engines. An llm_context is a handle: any number of them, in any number of processes, may stand for one
 * context, and any number of threads may use one handle at once. Close a connection's handles before it.
 *
 * Every call below waits for the engine's answer, mostly a few microseconds. Common statuses:
 *                    LLM_ERR_NOT_FOUND   no such context (any more)
 *                    LLM_ERR_PERMISSION  mode bits, owner and group do not allow it; the sentence says what is needed
 *                    LLM_ERR_BUSY        a generation is running on it: wait, cancel it, or fork; or the engine is short of
 *                                        slots for a moment
 *                    LLM_ERR_LIMIT       the model's context, a quota or a table is full; the sentence has the numbers
 *                    LLM_ERR_INVALID     a value is out of range; the sentence names it
 *                    LLM_ERR_PEER, LLM_ERR_FORKED
 */
typedef struct llm_context llm_context;

/* An empty one of `model` (NULL: the daemon's default model). */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_create(llm_connection *connection,
                                                          const char *model,
                                                          llm_context **out_context,
                                                          llm_error *error);
/* The published one of that name. */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_open(llm_connection *connection,
                                                        const char *name, llm_context **out_context,
                                                        llm_error *error);
/* The one with that id: llm_context_id() of another process, told over any channel. Permissions decide, not the knowledge
 * of the number. It still ends with the connection it belongs to; llm_context_adopt() takes it over. */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_attach(llm_connection *connection, uint64_t id,
                                                          llm_context **out_context,
                                                          llm_error *error);
/* The one that a stream's answer is being, or was, appended to. Of a branch: its own, which from now on ends with this
 * handle instead of the stream. LLM_ERR_INVALID: the stream's request was on no context. */
LLM_API LLM_MUST_CHECK enum llm_status
llm_stream_context(llm_stream *stream, llm_context **out_context, llm_error *error);
LLM_API uint64_t llm_context_id(const llm_context *context);
/* Let go of the handle. An unnamed, unleased context ends with the handle that made it (llm_context_create(), _fork(),
 * _adopt(), llm_stream_context() of a branch), and with its connection; handles that found it only let go. Does not wait:
 * where the connection has no room to ask for the end just now, a later call does. Accepts NULL. */
LLM_API void llm_context_close(llm_context *context);

/* Append ids [count], 1..; they are computed when they are first needed, or by llm_context_compute(). */
LLM_API LLM_MUST_CHECK enum llm_status
llm_context_append(llm_context *context, const uint32_t *tokens, uint32_t count, llm_error *error);
/* A new context with the same tokens, private to the caller; shares all memory with this one until one of them is
 * written to. Also while this one generates: then with the tokens published so far. Costs microseconds, whatever the
 * length. `length`: only the first so many tokens; LLM_WHOLE: all. */
#define LLM_WHOLE UINT32_MAX
LLM_API LLM_MUST_CHECK enum llm_status
llm_context_fork(llm_context *context, llm_context **out_context, llm_error *error);
LLM_API LLM_MUST_CHECK enum llm_status llm_context_fork_at(llm_context *context, uint32_t length,
                                                           llm_context **out_context,
                                                           llm_error *error);
/* Drop all but the first `length` tokens. */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_rewind(llm_context *context, uint32_t length,
                                                          llm_error *error);

/* Generate behind the context's tokens; each token is appended to it as it is published. One generation at a time. */
LLM_API LLM_MUST_CHECK enum llm_status llm_generate(llm_context *context,
                                                    const llm_sampling *sampling,
                                                    llm_stream **out_stream, llm_error *error);
/* The same, after appending tokens [count], 0..: in one call, all or nothing. What the engine refuses comes with the
 * stream. `sampling` NULL: the model's own defaults, 256 tokens; its `model` is NULL. */
LLM_API LLM_MUST_CHECK enum llm_status
llm_generate_after(llm_context *context, const uint32_t *tokens, uint32_t count,
                   const llm_sampling *sampling, llm_stream **out_stream, llm_error *error);
/* Compute the rows of all its tokens now, so that the next one is fast. Waits for it. */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_compute(llm_context *context, llm_error *error);

typedef struct llm_branch {
    const uint32_t *tokens; /* [token_count] appended to the branch alone */
    uint32_t token_count;   /* 0.. */
    bool score; /* choose no tokens: the stream gives `tokens` back with their log-probabilities */
    llm_sampling
        sampling; /* without `score`; its `branch` 0 becomes the branch's index, its max_tokens 0 256; more_bytes is 0 */
} llm_branch;
/*
 * N continuations of one past, in one call: each runs on a fork of its own, and all share what is computed of this one.
 *
 *   branches     [count] 1..; as many stream slots must be free
 *   out_streams  [count]; all or none: when one cannot be submitted, none is left running. What the engine refuses
 *                comes with the stream
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_branch(llm_context *context,
                                                          const llm_branch *branches,
                                                          uint32_t count, llm_stream **out_streams,
                                                          llm_error *error);
/*
 * Several answers to the same question, each on a fork of its own: llm_context_branch() with one `sampling` for all, which may
 * be part of an llm_sampling_more. Answer i is drawn with `branch` i, so with a seed all of them can be had again. Read them, then
 * llm_streams_rank() says which is best, and llm_context_keep() takes it.
 *
 *   tokens           [token_count] appended to each fork; 0..
 *   out_streams      [answer_count] 1..; all or none
 */
LLM_API LLM_MUST_CHECK enum llm_status
llm_context_answers(llm_context *context, const uint32_t *tokens, uint32_t token_count,
                    const llm_sampling *sampling, uint32_t answer_count, llm_stream **out_streams,
                    llm_error *error);
/* The tokens of the branch that `stream` is the answer of become this context's; the branch's own context ends. The stream
 * must be complete (LLM_ERR_BUSY). Other branches end when their streams are closed. */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_keep(llm_context *context, llm_stream *stream,
                                                        llm_error *error);
/* Log-probabilities (natural logarithm) of tokens [count] after the context, each given those before it. The context does
 * not change. Waits. out_logprobs [count], 1... LLM_ERR_LIMIT: 2 * count words can never fit the connection's log. */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_score(llm_context *context,
                                                         const uint32_t *tokens, uint32_t count,
                                                         float *out_logprobs, llm_error *error);

typedef struct llm_top_logprob {
    uint32_t token;
    float
        logprob; /* natural logarithm, of the model's own distribution, before penalties and filters */
} llm_top_logprob;
/* The same, and the likeliest tokens at the place of each: top_count 0..20; out_tops [count][top_count], most likely first, UINT32_MAX
 * where the model has no further one. LLM_ERR_LIMIT: (2 + 2 * top_count) * count words can never fit the connection's log. */
LLM_API LLM_MUST_CHECK enum llm_status
llm_context_score_top(llm_context *context, const uint32_t *tokens, uint32_t count,
                      uint32_t top_count, float *out_logprobs, llm_top_logprob *out_tops,
                      llm_error *error);

typedef struct llm_publish {
    uint32_t mode; /* rw bits of owner, group and others as in chmod(1); 0: 0600 */
    uint32_t gid;  /* with has_gid; one of the caller's groups; else the caller's own */
    bool has_gid;
    bool pin; /* llm_context_pin() before the name is given */
} llm_publish;
/* Give it a name ("team/notes"): at most 103 bytes of parts of [A-Za-z0-9._-] between '/'. A named one is renamed.
 * LLM_ERR_EXISTS: another context has the name. `options` NULL: mode 0600. */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_publish(llm_context *context, const char *name,
                                                           const llm_publish *options,
                                                           llm_error *error);
LLM_API LLM_MUST_CHECK enum llm_status llm_context_chmod(llm_context *context, uint32_t mode,
                                                         llm_error *error);
/* Compute what is missing and keep it in the pool until llm_context_unpin(): hard, so it is counted, and refused
 * (LLM_ERR_LIMIT, with the numbers) when quota or pool have no room for it. Later tokens are not pinned until the next call. */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_pin(llm_context *context, llm_error *error);
LLM_API LLM_MUST_CHECK enum llm_status llm_context_unpin(llm_context *context, llm_error *error);
/* It lives for so long from now on (rounded up to 1 ms; at most 49 days), whatever becomes of this connection; call again
 * to renew (a heartbeat). A published one ends then as well. 0: no lease. */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_lease(llm_context *context, uint64_t lease_ns,
                                                         llm_error *error);
/* An unnamed one belongs to this connection from now on. */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_adopt(llm_context *context, llm_error *error);
/* End it, named or not; handles of other processes find nothing. Its owner or an administrator. */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_remove(llm_context *context, llm_error *error);

/* Read along with the answer that is being generated on it, from that answer's first token on, until it ends; read
 * permission is enough. Closing the stream ends the reading, not the answer. A quarter of the connection's
 * log is held for it while there is room. LLM_ERR_NOT_FOUND: none is running. */
LLM_API LLM_MUST_CHECK enum llm_status
llm_context_follow(llm_context *context, llm_stream **out_stream, llm_error *error);
/* Copy out up to `capacity` ids from position `from` on. out_count 0: `from` is the end. A long context is read in several
 * round trips; one that is rewound meanwhile may give what was there before. */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_read(llm_context *context, uint32_t from,
                                                        uint32_t *out_tokens, uint32_t capacity,
                                                        uint32_t *out_count, llm_error *error);

typedef struct llm_context_info {
    uint64_t id;
    uint64_t parent_id;     /* forked from; 0: none */
    uint64_t request_id;    /* generating, or the last one that did; 0: none */
    uint32_t length;        /* tokens */
    uint32_t shared_tokens; /* the first so many are in the same memory as another context's */
    uint32_t pinned_blocks;
    uint32_t block_tokens; /* tokens of a KV block of its model */
    uint32_t uid;          /* its owner's */
    uint32_t gid;
    uint32_t mode; /* 0..0666 */
    bool named;
    bool pinned;
    bool leased;
    bool generating;
    bool writable;     /* by the caller */
    uint64_t lease_ns; /* left */
    uint64_t idle_ns;  /* since it was last used */
    char name[104];
    char model[64];
} llm_context_info;
LLM_API LLM_MUST_CHECK enum llm_status
llm_context_describe(llm_context *context, llm_context_info *out_info, llm_error *error);
/* All that the caller may read, by slot. Call with *cursor 0 first, and again until out_count is 0; it may be less than
 * `capacity` before the end. */
LLM_API LLM_MUST_CHECK enum llm_status
llm_contexts_list(llm_connection *connection, uint32_t *cursor, llm_context_info *out_infos,
                  uint32_t capacity, uint32_t *out_count, llm_error *error);

/* What of a prompt would be found in the cache now: spans one behind the other from token 0 on, at most `capacity` (and
 * 128). `model` NULL: the daemon's default model. */
typedef struct llm_probe_result {
    uint32_t
        kind; /* 1 hit, 2 rows copied, 3 being computed, 4 miss, 5 in a domain the caller may not use (administrators) */
    uint32_t from; /* tokens from..to-1 */
    uint32_t to;
    uint32_t cached_token; /* what stands where the prompt differs; UINT32_MAX: nothing */
    uint32_t domain_kind;  /* 0 private, 1 group, 2 public */
    uint32_t domain_id;    /* uid, gid, 0 */
    uint64_t context_id;   /* a readable context that has these tokens; 0: none known */
} llm_probe_result;
LLM_API LLM_MUST_CHECK enum llm_status
llm_cache_probe(llm_connection *connection, const char *model, const uint32_t *tokens,
                uint32_t count, llm_probe_result *out_results, uint32_t capacity,
                uint32_t *out_count, llm_error *error);

enum llm_ledger_kind { /* what bytes are taken for */
    LLM_MEMORY_WEIGHTS = 1,
    LLM_MEMORY_WORKSPACE = 2,
    LLM_MEMORY_POOL = 3,
    LLM_MEMORY_TABLES = 4,
    LLM_MEMORY_CLIENTS = 5
};
typedef struct llm_ledger_entry {
    uint32_t part;        /* enum llm_ledger_kind */
    uint32_t state;       /* LLM_MEMORY_POOL: as in llm_block_info */
    bool daemon_owned;    /* nobody's but the daemon's; else the next two say whose */
    uint32_t domain_kind; /* 0 private, 1 group, 2 public */
    uint32_t domain_id;   /* uid, gid, 0 */
    uint64_t bytes;
    uint64_t pinned_bytes; /* of those */
    char name[64];         /* of the model or the table; may be empty */
} llm_ledger_entry;
/* Every byte that the daemon has taken, in exactly one entry; a user who is no administrator sees those of their own domains.
 * Call with *cursor 0 first, and again until out_count is 0. */
LLM_API LLM_MUST_CHECK enum llm_status
llm_memory_ledger(llm_connection *connection, uint32_t *cursor, llm_ledger_entry *out_entries,
                  uint32_t capacity, uint32_t *out_count, llm_error *error);

typedef struct llm_block_info {
    uint32_t block;
    uint32_t
        state; /* 0 free, 1 held, 2 cached, 3 in transit, 4 quarantined, 5 in a slab that no model owns */
    uint32_t model;
    uint32_t tokens;     /* rows that count; 0 while it is being written */
    uint32_t references; /* holders, and held blocks that continue it */
    uint32_t parent;     /* the block before it; UINT32_MAX: none */
    uint32_t depth;
    uint32_t domain_kind, domain_id; /* as above */
} llm_block_info;
/* The pool's blocks in order, from block *cursor on; again until out_count is 0. Administrators. */
LLM_API LLM_MUST_CHECK enum llm_status
llm_cache_blocks(llm_connection *connection, uint32_t *cursor, llm_block_info *out_blocks,
                 uint32_t capacity, uint32_t *out_count, llm_error *error);

/* ---- Reading --------------------------------------------------------------------------------------- */

/*
 * Copy out the tokens that have arrived, waiting for the first if there are none.
 *
 *   out_tokens       [capacity_tokens] ids
 *   out_logprobs     [capacity_tokens] natural logarithms, or NULL; NaN without llm_sampling.logprobs
 *   capacity_tokens  1..
 *   timeout_ns       longest wait for the first token; 0 only looks; LLM_FOREVER
 *   out_count        tokens written; 0 with LLM_OK means the answer is complete
 *   returns          LLM_OK
 *                    LLM_ERR_TIMEOUT     nothing yet; the stream is still good
 *                    LLM_ERR_PEER        the daemon is gone; only llm_stream_close() remains
 *                    any other           how the request failed, after the tokens it produced were read
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_stream_read(llm_stream *stream, uint32_t *out_tokens,
                                                       float *out_logprobs,
                                                       uint32_t capacity_tokens,
                                                       uint64_t timeout_ns, uint32_t *out_count,
                                                       llm_error *error);

/*
 * The likeliest tokens at the place of an answered (or scored) one, most likely first, equals by id.
 *
 *   index            of the token in the answer, counted from 0; it must have arrived
 *   out_tops         [capacity]; asked for by llm_sampling_more.top_logprobs
 *   out_count        how many there are; more than `capacity` are left out
 *   returns          LLM_OK
 *                    LLM_ERR_INVALID     none were asked for, or the answer has no such token yet
 *                    LLM_ERR_PEER, LLM_ERR_FORKED
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_stream_tops(llm_stream *stream, uint32_t index,
                                                       llm_top_logprob *out_tops, uint32_t capacity,
                                                       uint32_t *out_count, llm_error *error);

/* What an answer's tokens are chosen by, the model's defaults being filled in. */
typedef struct llm_sampling_in_force {
    float temperature;        /* 0: greedy */
    uint32_t top_k;           /* 0: off */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float typical_p;          /* 1: off */
    float repetition_penalty; /* 1: off */
} llm_sampling_in_force;
/* LLM_ERR_BUSY: the engine has not begun the answer yet. LLM_ERR_NOT_FOUND: it refused the request, or the stream is no
 * answer to one. */
LLM_API LLM_MUST_CHECK enum llm_status
llm_stream_sampling(llm_stream *stream, llm_sampling_in_force *out_sampling, llm_error *error);

enum llm_rank_by {
    LLM_RANK_BY_MEAN = 0, /* of the tokens' log-probabilities: length does not count */
    LLM_RANK_BY_SUM = 1   /* the whole answer's: shorter ones have it easier */
};
typedef struct llm_ranked {
    uint32_t stream; /* its index in the list */
    uint32_t token_count;
    double sum; /* of the log-probabilities; -infinity for an answer that failed or has no token */
    double mean;
} llm_ranked;
/*
 * Order complete answers by how likely the model finds them, best first, equals by index.
 *
 *   streams          [stream_count] 1..; with log-probabilities, which need not have been read
 *   out_ranked       [stream_count]
 *   returns          LLM_OK
 *                    LLM_ERR_BUSY        one is not complete: read it to its end
 *                    LLM_ERR_INVALID     one has no log-probabilities
 *                    LLM_ERR_PEER, LLM_ERR_FORKED
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_streams_rank(llm_stream *const *streams,
                                                        uint32_t stream_count, enum llm_rank_by by,
                                                        llm_ranked *out_ranked, llm_error *error);

/* Wait until any of the streams (all of one connection; NULL entries are skipped) has something to read or
 * is complete; `out_which` is the first such one, in order. LLM_ERR_TIMEOUT, LLM_ERR_PEER. */
LLM_API LLM_MUST_CHECK enum llm_status llm_streams_wait_any(llm_stream *const *streams,
                                                            uint32_t stream_count,
                                                            uint64_t timeout_ns,
                                                            uint32_t *out_which, llm_error *error);

/* Ask the daemon to stop; honoured within one step. The tokens so far stay readable, then llm_stream_read()
 * returns LLM_ERR_CANCELLED. May be called from another thread than the stream's and from a signal handler. */
LLM_API void llm_stream_cancel(llm_stream *stream);

enum llm_finish_reason { /* the same numbers as enum llm_finish on the wire */
    LLM_FINISHED_NOT = 0,
    LLM_FINISHED_STOP_ID = 1,
    LLM_FINISHED_STOP_STRING = 2,
    LLM_FINISHED_LENGTH = 3,
    LLM_FINISHED_CONTEXT = 4,
    LLM_FINISHED_CANCELLED = 5,
    LLM_FINISHED_FAILED = 6,
    LLM_FINISHED_ANSWERED = 7
};

typedef struct llm_stream_info {
    bool done;
    enum llm_finish_reason finish;
    enum llm_status status;
    uint64_t request_id; /* as in `llmctl requests` */
    uint64_t seed;       /* the one used */
    uint32_t prompt_tokens;
    uint32_t cached_tokens;  /* prompt tokens that did not have to be computed */
    uint32_t output_tokens;  /* so far */
    uint64_t queued_ns;      /* submit to admission */
    uint64_t first_token_ns; /* submit to first token; 0 before */
    uint64_t last_token_ns;  /* submit to last token; 0 before */
    char message[192];       /* the sentence that goes with `status` */
} llm_stream_info;
LLM_API LLM_MUST_CHECK enum llm_status
llm_stream_describe(llm_stream *stream, llm_stream_info *out_info, llm_error *error);

/* End it; cancels what is still running. Its slot and log are free again once the daemon has stopped. */
LLM_API void llm_stream_close(llm_stream *stream);

/* ---- Models ------------------------------------------------------------------------------------------ */

#define LLM_MODELS_LISTED_MAX  8u
#define LLM_ALIASES_LISTED_MAX 16u

enum llm_model_stage {
    LLM_STAGE_LOADING = 1,  /* its files are being read */
    LLM_STAGE_LOADED = 2,   /* in memory; it serves in a moment */
    LLM_STAGE_READY = 3,    /* answers requests */
    LLM_STAGE_DRAINING = 4, /* is unloaded when its last request has ended; takes no new ones */
    LLM_STAGE_FAILED = 5    /* could not be loaded: `reason` */
};

/* One load of a model. A request names it "name" (the newest version), "name@version", or by an alias, and goes on with the
 * load it began with whatever is loaded, swapped or asked to be unloaded meanwhile. */
typedef struct llm_model {
    uint64_t id;      /* never used again */
    uint32_t slot;    /* as in `llmctl kv map` */
    uint32_t version; /* 1.. counts loads of the same name */
    enum llm_model_stage stage;
    bool is_default; /* for requests that name none */
    bool is_newest;  /* what its name alone stands for */
    uint32_t context_tokens;
    uint32_t live_requests;
    uint64_t requests; /* since it was loaded */
    uint64_t weights_bytes;
    uint64_t loaded_bytes; /* of those, read so far */
    uint64_t workspace_bytes;
    uint64_t load_ns; /* how long loading has taken so far, or took */
    uint64_t idle_ns; /* without a request for so long */
    char name[64];
    char text[128];   /* "8.2 M parameters, bf16, 16.4 MB" */
    char path[256];   /* for administrators; else empty */
    char reason[192]; /* FAILED */
} llm_model;

typedef struct llm_alias {
    char name[64];
    uint64_t model_id; /* the load that it stands for */
} llm_alias;

typedef struct llm_models {
    uint32_t model_count;
    uint32_t alias_count;
    llm_model models[LLM_MODELS_LISTED_MAX];
    llm_alias aliases[LLM_ALIASES_LISTED_MAX];
} llm_models;

/* Which models the daemon has, as of now. LLM_OK, LLM_ERR_PEER, LLM_ERR_MEMORY, LLM_ERR_FORKED. */
LLM_API LLM_MUST_CHECK enum llm_status llm_models_list(llm_connection *connection,
                                                       llm_models *out_models, llm_error *error);

/*
 * Start to load a model while everything goes on. Administrators.
 *
 *   what      the name of a directory in one of the daemon's model directories, or an absolute path beneath one; at most 175
 *             bytes
 *   name      what requests call it; NULL: as the directory. A name that is in use gets another version
 *   out_id    for llm_model_wait()
 *   returns   LLM_OK at once: it is being read
 *             LLM_ERR_NOT_FOUND, LLM_ERR_INVALID, LLM_ERR_PERMISSION (not beneath a model directory, or not an administrator)
 *             LLM_ERR_BUSY    another one is being loaded: wait for it
 *             LLM_ERR_LIMIT   as many are loaded as the daemon takes: unload one
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_model_load(llm_connection *connection, const char *what,
                                                      const char *name, uint64_t *out_id,
                                                      llm_error *error);
/* Wait until it serves. LLM_ERR_INVALID: it could not be loaded, with the sentence that says why; LLM_ERR_TIMEOUT: not yet;
 * LLM_ERR_NOT_FOUND: it was unloaded. */
LLM_API LLM_MUST_CHECK enum llm_status llm_model_wait(llm_connection *connection, uint64_t id,
                                                      uint64_t timeout_ns, llm_error *error);
/* Let its requests end, take no new ones, then forget it; wait at most `timeout_ns` for that (0: not at all). Contexts of it can
 * still be read. LLM_ERR_BUSY: it is the default model, or an alias stands for it; LLM_ERR_TIMEOUT: its requests still run.
 * Administrators. */
LLM_API LLM_MUST_CHECK enum llm_status llm_model_unload(llm_connection *connection,
                                                        const char *name, uint64_t timeout_ns,
                                                        llm_error *error);
/* From now on requests for `alias` go to the model `name`, which is loaded; NULL: to none. When it returns LLM_OK with a
 * timeout_ns above 0, every request submitted afterwards does. Administrators. */
LLM_API LLM_MUST_CHECK enum llm_status llm_model_alias(llm_connection *connection,
                                                       const char *alias, const char *name,
                                                       uint64_t timeout_ns, llm_error *error);
/* The same for requests that name no model. */
LLM_API LLM_MUST_CHECK enum llm_status llm_model_default(llm_connection *connection,
                                                         const char *name, uint64_t timeout_ns,
                                                         llm_error *error);

/* ---- Steering (what llmctl uses) -------------------------------------------------------------------- */

/* A round trip through the engine that does nothing. */
LLM_API LLM_MUST_CHECK enum llm_status llm_ping(llm_connection *connection, uint64_t timeout_ns,
                                                llm_error *error);
/* Cancel a request by its id: one's own, or anyone's for administrators. */
LLM_API LLM_MUST_CHECK enum llm_status llm_request_cancel(llm_connection *connection,
                                                          uint64_t request_id, uint64_t timeout_ns,
                                                          llm_error *error);
/* Have the engine walk all its structures; `out_report` [report_bytes] gets its sentence. Administrators. */
LLM_API LLM_MUST_CHECK enum llm_status llm_daemon_check(llm_connection *connection,
                                                        uint64_t timeout_ns, char *out_report,
                                                        size_t report_bytes, llm_error *error);
/* End the daemon, or replace its engine while streams go on. Administrators. */
LLM_API LLM_MUST_CHECK enum llm_status llm_daemon_stop(llm_connection *connection,
                                                       llm_error *error);
LLM_API LLM_MUST_CHECK enum llm_status llm_daemon_restart_engine(llm_connection *connection,
                                                                 llm_error *error);
/*
 * Let the daemon end what runs and refuse what is new. Administrators.
 *
 *   then_stop  end the daemon when nothing is left; else it stays, until llm_daemon_resume()
 *   returns    LLM_OK at once: requests may still run (`llmctl status` counts them). While it drains, a new
 *              request ends with LLM_ERR_BUSY, and so does llm_connect() for who is not an administrator
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_daemon_drain(llm_connection *connection, bool then_stop,
                                                        llm_error *error);
LLM_API LLM_MUST_CHECK enum llm_status llm_daemon_resume(llm_connection *connection,
                                                         llm_error *error);

#ifdef __cplusplus
}
#endif

#endif
