/*
 * sampler.h - choose the next token from a row of logits, the same way every time.
 *
 * Idea     logits -> steering (steer.h) -> temperature -> top-k -> top-p -> min-p -> typical -> Gumbel-max. The filters run
 *          in the order of Hugging Face's warpers and each keeps a set that a threshold describes: tokens that are
 *          equal in what the filter looks at stay or go together, so no filter depends on the order in which they are looked
 *          at. Of the survivors the one with the largest z(v) + gumbel(v) wins, which draws v with probability
 *          softmax(z) (Maddison, Tarlow & Minka 2014, arXiv:1411.0030). gumbel(v) comes from
 *          Philox4x32-10 (Salmon et al. 2011) with
 *              key     = { seed low 32 bits, seed high 32 bits }
 *              counter = { token id, position, branch, 0 }
 *          so a draw depends on nothing but (seed, branch, position, token): not on the batch, on what was
 *          drawn before, or on how often the engine restarted.
 * Masses   Top-p and typical sum probabilities as integers (exp(z) * 2^36, rounded down), because integer sums have no
 *          order; what weighs less than 2^-36 of the most likely token weighs nothing.
 * Owner    The struct owns scratch for one row; nothing is allocated after sampler_open().
 * Threads  One thread per sampler.
 * Trust    Parameters were checked by sampling_check(). Logits may hold NaN or infinities (a broken model):
 *          such tokens cannot be chosen, and a row without any finite logit is an error, never a crash.
 * See      daemon/sample/README.md, wide.h, tests/daemon/test_sampler.c (an obvious implementation beside it).
 */
#ifndef LLM_DAEMON_SAMPLE_SAMPLER_H
#define LLM_DAEMON_SAMPLE_SAMPLER_H

#include "daemon/sample/sampling.h"
#include "daemon/sample/steer.h"
#include "shm/status.h"

#include <stdint.h>

/* No draw is larger: -log(-log(u)) for the largest u, 1 - 2^-33, is 22.874. */
#define SAMPLER_GUMBEL_MAX 23

struct sampler {
    uint32_t vocab_size; /* V */
    struct steer steer;
    /* [V] each: the tokens still in play, in ascending order of their ids */
    int32_t *ids;
    float *z;        /* (logit - largest logit) / temperature */
    float *distance; /* from what is typical; only during that filter */
    uint64_t *mass;  /* exp(z) in units of 1 / WIDE_MASS_ONE; only during top-p and typical */
    uint32_t *picked;
    uint64_t *histogram;                  /* weights per digit of the threshold search */
    double reach[SAMPLER_GUMBEL_MAX + 1]; /* [i]: a draw of i or more has 1 - u at most this */
};

struct sampler_choice {
    int32_t token_id;
    float logprob; /* natural log, of the model's own distribution: log_softmax(logits)[token_id],
                    * before steering, temperature and filters; 0 unless sampling.want_logprob */
};

/* Take scratch for rows of vocab_size logits (1..2^24). LLM_ERR_MEMORY when there is none. */
LLM_MUST_CHECK enum llm_status sampler_open(struct sampler *sampler, uint32_t vocab_size,
                                            struct llm_error *error);
/* Accepts a zeroed and an already closed sampler. */
void sampler_close(struct sampler *sampler);

/*
 * Choose one token.
 *
 *   logits     [V] f32, as the model gave them; not changed
 *   sampling   passed sampling_check()
 *   past       what stands before the token; its ids are only looked at for penalties
 *   out_tops   [sampling_top_count()] the likeliest tokens of the model's own distribution, most likely first, lower ids first
 *              on ties, each with its log-probability; where the row has fewer finite logits, the rest is UINT32_MAX with
 *              -infinity. May be NULL.
 *   returns    LLM_OK
 *              LLM_ERR_CORRUPT   no logit of the row is finite; the request cannot go on
 *              LLM_ERR_INVALID   what the request forbids leaves no token to choose
 */
LLM_MUST_CHECK enum llm_status sampler_choose(struct sampler *sampler, const float *logits,
                                              const struct sampling *sampling,
                                              const struct sampler_past *past,
                                              struct sampler_choice *out_choice,
                                              struct llm_top *out_tops, struct llm_error *error);

/*
 * Say how likely a given token was: log_softmax(logits)[token_id], at temperature 1, the sum in f64 as above.
 *
 *   logits        [V] f32
 *   token_id      0..V-1
 *   out_logprob   natural log; -infinity when the token's own logit is not finite
 *   out_tops      [top_count] as above, or NULL with top_count 0
 *   returns       LLM_OK
 *                 LLM_ERR_CORRUPT   no logit of the row is finite
 */
LLM_MUST_CHECK enum llm_status sampler_score(const struct sampler *sampler, const float *logits,
                                             int32_t token_id, uint32_t position,
                                             float *out_logprob, struct llm_top *out_tops,
                                             uint32_t top_count, struct llm_error *error);

#endif
