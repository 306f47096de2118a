/*
 * steer.h - change a row of logits as a request asks, before anything is chosen from it.
 *
 * Idea     In this order: biases, repetition penalty, frequency and presence penalty, then what cannot be chosen at all:
 *          end of text and stop ids before min_tokens, banned ids, all but the allowed ids. What was said so far is
 *          counted anew for every row from the ids themselves, prompt and answer, and nothing is remembered between rows:
 *          so batches, chunks, forks, preemptions and restarts cannot change a token. It costs two walks over the ids.
 * Owner    The struct owns scratch for one row.
 * Threads  One thread per struct.
 * Sources  Repetition penalty: Keskar et al. 2019 (arXiv:1909.05858), as Hugging Face's RepetitionPenaltyLogitsProcessor, over
 *          prompt and answer, each id once. Frequency and presence: OpenAI's API reference (mu[j] - c[j] * frequency -
 *          [c[j] > 0] * presence), over the answer alone. The order is the one of vLLM (v1/sample/sampler.py, "Logits
 *          processing") and of llama.cpp (logit bias, then penalties).
 * See      daemon/sample/README.md, docs/NUMERICS.md ("Sampling").
 */
#ifndef LLM_DAEMON_SAMPLE_STEER_H
#define LLM_DAEMON_SAMPLE_STEER_H

#include "daemon/sample/sampling.h"

/* What stands before the token that is being chosen. */
struct sampler_past {
    const uint32_t *
        ids; /* [position] the prompt's (its context's among them), then the answer's; each below V */
    uint32_t position;      /* the absolute one of the token to choose */
    uint32_t prompt_tokens; /* 0..position; the rest was answered */
};

struct steer {
    uint32_t vocab_size; /* V */
    float *row;          /* [V] */
    uint32_t *counts;    /* [V], all 0 between rows */
};

LLM_MUST_CHECK enum llm_status steer_open(struct steer *steer, uint32_t vocab_size,
                                          struct llm_error *error);
/* Accepts a zeroed and an already closed one. */
void steer_close(struct steer *steer);

/* `logits` [V] as the request wants them: themselves when it asks for nothing here, else the struct's row, which holds until the
 * next call. What cannot be chosen is -infinity there. */
const float *steer_row(struct steer *steer, const float *logits, const struct sampling *sampling,
                       const struct sampler_past *past);

#endif
