/*
 * sampling.h - how a request wants its tokens chosen: the parameters and their ranges.
 *
 * Idea     One plain structure, checked once when the request is admitted; the sampler relies on it. Each
 *          bad field has its own sentence with its name, the value and the range.
 * Owner    The request; `stop_ids` and `steering` point into its record in the keeper's tables, `eos_ids` to the model's.
 * Trust    The values come from a client: NaN, negative and huge ones are refused here, not later.
 * See      daemon/sample/sampler.h (what the fields do), daemon/sample/README.md, shm/request.h.
 */
#ifndef LLM_DAEMON_SAMPLE_SAMPLING_H
#define LLM_DAEMON_SAMPLE_SAMPLING_H

#include "shm/status.h"
#include "shm/tables.h"

#include <stdbool.h>
#include <stdint.h>

struct sampling {
    float temperature;       /* >= 0, finite; 0 is greedy: the largest logit, lowest id on ties */
    int32_t top_k;           /* >= 0; 0 is off */
    float top_p;             /* (0, 1]; 1 is off */
    float min_p;             /* [0, 1]; 0 is off */
    uint64_t seed;           /* any value */
    uint32_t branch;         /* which of several answers to one prompt; 0 when there is one */
    uint32_t max_tokens;     /* 1..limits.max_tokens */
    bool want_logprob;       /* compute the chosen token's log-probability */
    const int32_t *stop_ids; /* [stop_id_count] ids in the vocabulary; NULL when there are none */
    uint32_t stop_id_count;  /* 0..limits.stop_ids_max */
    const uint32_t *eos_ids; /* [eos_id_count] that end the answer; none where they do not */
    uint32_t eos_id_count;
    const struct llm_steering_record *steering; /* NULL: nothing of it is asked for */
};

struct sampling_limits {
    uint32_t vocab_size; /* ids are 0..vocab_size - 1 */
    uint32_t max_tokens; /* most tokens one request may ask for */
    uint32_t stop_ids_max;
};

/* Greedy, no filters, seed 0, one token: a start that sampling_check() accepts. */
struct sampling sampling_default(void);

/*
 * Check every field against its range.
 *
 *   returns   LLM_OK, or LLM_ERR_INVALID with a sentence for the first bad field, or
 *             LLM_ERR_LIMIT   max_tokens or stop_id_count is above the limit, which the sentence names
 */
LLM_MUST_CHECK enum llm_status sampling_check(const struct sampling *sampling,
                                              const struct sampling_limits *limits,
                                              struct llm_error *error);

/* Whether `token_id` is one of the stop ids. */
bool sampling_stops_at(const struct sampling *sampling, int32_t token_id);
/* How many of the likeliest tokens are wanted beside each one; 0: none. */
uint32_t sampling_top_count(const struct sampling *sampling);
/* So many tokens are answered before anything may stop the answer. */
uint32_t sampling_min_tokens(const struct sampling *sampling);

#endif
