/*
 * trace.h - who asks what, and when: a request trace, and what is done to it.
 *
 * Idea     A request is an arrival, two lengths and a prompt made of parts. Recorded traces say which parts are the
 *          same, not what stood in them, so token ids are made up from the part's number: equal parts have equal
 *          ids, in every run. What a trace does not have is added: one-shot prompts between its own (a scan), a user
 *          who sends too much (a flood), users for its sessions.
 * Files    .jsonl: {"timestamp": ms, "input_length", "output_length", "hash_ids": [of 512-token parts]} (Mooncake), or
 *                  {"t_ms", "prompt_ids": [...], "max_tokens"}: the ids themselves;
 *          .csv:   TIMESTAMP,ContextTokens,GeneratedTokens (Azure): nothing is the same.
 * Trust    A file is input: what is out of range is answered with a sentence that names the line.
 * See      README.md, tests/sim/test_trace.c.
 */
#ifndef LLMD_SIM_TRACE_H
#define LLMD_SIM_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/status.h"

#define TRACE_PART_TOKENS  512u
#define TRACE_TOKENS_MAX   (UINT32_C(1) << 20) /* of a prompt, and of an answer */
#define TRACE_REQUESTS_MAX (UINT32_C(1) << 22)
#define TRACE_USERS_MAX    4096u

enum trace_kind {
    TRACE_OWN,  /* from the file */
    TRACE_SCAN, /* a prompt that nobody asks again */
    TRACE_FLOOD /* of the user who sends too much */
};

struct trace_request {
    uint64_t arrival_ns;    /* since the trace's beginning */
    uint32_t prompt_tokens; /* 1..TRACE_TOKENS_MAX */
    uint32_t answer_tokens; /* 1..TRACE_TOKENS_MAX */
    uint32_t user;          /* 0..user_count-1 */
    enum trace_kind kind;
    size_t first_part; /* parts[first_part + p / part_tokens] has the token at p */
};

struct trace {
    struct trace_request *requests; /* [count] by arrival */
    uint64_t *parts;                /* [part_count] */
    size_t part_count, part_capacity;
    uint32_t count, capacity;
    uint32_t part_tokens; /* tokens of a part; 1: a part is a token id */
    uint32_t user_count;
    uint64_t next_part; /* larger than any part in the file: for what is added */
};

/* An empty trace. */
void trace_init(struct trace *trace, uint32_t part_tokens);
void trace_close(struct trace *trace);

/*
 * Read a file, at most its first `requests_max` requests.
 *   returns   LLM_OK, LLM_ERR_INVALID (the sentence names the line), LLM_ERR_SYSTEM (not readable), LLM_ERR_MEMORY
 */
enum llm_status trace_open(struct trace *trace, const char *path, uint32_t requests_max,
                           struct llm_error *error) LLM_MUST_CHECK;

/* Append a request whose parts are parts [ceil(prompt_tokens / part_tokens)]; NULL: parts that nobody else has.
 * Arrivals must not go backwards. LLM_ERR_INVALID: a length or the arrival; LLM_ERR_MEMORY. */
enum llm_status trace_add(struct trace *trace, const struct trace_request *request,
                          const uint64_t *parts, struct llm_error *error) LLM_MUST_CHECK;

/* Behind a `share` (0..1) of the requests, drawn from `seed`, a one-shot prompt of tokens/2..3/2*tokens, answered
 * with one token. */
enum llm_status trace_scan(struct trace *trace, double share, uint32_t tokens, uint64_t seed,
                           struct llm_error *error) LLM_MUST_CHECK;
/* One user more, who sends `times` as many requests as the others do on average, evenly over the same time, each
 * with the lengths of one of theirs and parts of its own. After trace_users(). */
enum llm_status trace_flood(struct trace *trace, double times, uint64_t seed,
                            struct llm_error *error) LLM_MUST_CHECK;
/* Give sessions to `users` in turns. A session is requests that continue each other's prompts beyond the first part. */
enum llm_status trace_users(struct trace *trace, uint32_t users, struct llm_error *error)
    LLM_MUST_CHECK;
/* Arrivals come `times` as fast. */
void trace_hurry(struct trace *trace, double times);
/* No answer is longer. */
void trace_shorten(struct trace *trace, uint32_t answer_tokens);

/* The prompt's ids from .. from + count - 1. */
void trace_ids(const struct trace *trace, const struct trace_request *request, uint32_t from,
               uint32_t count, uint32_t *out_ids);

uint64_t trace_mix(uint64_t a, uint64_t b); /* two words into one that looks random */

#endif
