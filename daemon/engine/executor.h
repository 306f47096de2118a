/*
 * executor.h - who turns a step plan into tokens: a model, or an echo.
 *
 * Idea     The step loop knows plans, requests and tables; an executor knows what a token costs. Both kinds
 *          serve the same interface, so the whole path of a request can be tested and measured without a
 *          model: `echo` answers a prompt with its own ids, round and round, and finds all of them certain.
 * Owner    The engine opens and closes them; a plan's sequences name theirs by index.
 * Threads  The engine thread; an executor may use helpers inside.
 * See      executor_echo.c, executor_model.c, step.h.
 */
#ifndef LLMD_ENGINE_EXECUTOR_H
#define LLMD_ENGINE_EXECUTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/core.h"
#include "shm/layout.h"
#include "shm/status.h"
#include "shm/vocab_image.h"

struct engine;
struct executor;
struct request;

/* What an executor is; constant once it is open. */
struct executor_facts {
    char name[LLM_NAME_BYTES];
    char text[128];         /* "bf16, 8.2 MB" */
    char backend_text[128]; /* "cpu avx2, 2 threads" */
    uint32_t identity[CORE_IDENTITY_WORDS];
    uint32_t vocab_size;
    uint32_t context_tokens_max;
    uint32_t block_tokens;
    size_t block_bytes;
    uint32_t eos_ids[16];
    uint32_t eos_count;
    struct llm_in_force defaults;       /* what requests are chosen by that leave it to the model */
    const struct llm_vocab_view *vocab; /* NULL: tokens have no text; no stop strings */
    uint64_t weight_bytes;
    bool weights_kept; /* found packed in memory that an earlier engine filled: no file was read */
    uint64_t workspace_bytes;
};

/* Rows of SCORE requests in one step: each costs a row of logits. */
#define EXECUTOR_SCORE_ROWS 32u

/* The answer for one sequence of a plan that wants a token. */
struct executor_choice {
    enum llm_status status; /* LLM_OK, or why this sequence cannot go on */
    uint32_t token;
    float logprob;
    char note[LLM_NOTE_BYTES]; /* with a bad status */
};

struct executor_pool {
    void *base;
    size_t slab_bytes;
    uint32_t slab_blocks; /* blocks of a slab */
    uint32_t block_count;
};

struct executor_ops {
    void (*set_pool)(struct executor *executor, const struct executor_pool *pool);
    /* Write zeros over a block; copy all of one over another. In the order in which the core says so: a device may queue
     * them on its stream, before the rows of the next run(). */
    void (*zero_block)(struct executor *executor, block_id block);
    void (*copy_block)(struct executor *executor, block_id to, block_id from);
    /* Nothing that an earlier engine began can still write to the pool (recovery.h); a device may take a moment. */
    bool (*quiet)(struct executor *executor);
    /* Compute those sequences of `plan` whose model is `model`; `out_choices` [plan->sequence_count] is
     * filled for those of them that want a token. `out_scores` [plan->token_count] gets, at each of their rows that
     * is scored, the log-probability of the id at the next position; a choice with a bad status says why it could
     * not. `out_tops` [plan->token_count][LLM_TOP_LOGPROBS_MAX] gets, at the row that a token is chosen from and at rows that
     * are scored, as many of the likeliest as the request asks for. Any failure is the whole step's. */
    enum llm_status (*run)(struct executor *executor, const struct core_plan *plan, uint32_t model,
                           const struct engine *engine, struct executor_choice *out_choices,
                           float *out_scores, struct llm_top *out_tops, struct llm_error *error);
    void (*close)(struct executor *executor);
};

struct executor { /* the first member of each kind */
    const struct executor_ops *ops;
    struct executor_facts facts;
    bool absent; /* the slot has no model */
    /* models.h */
    uint64_t model_id; /* of the load; 0: absent */
    uint32_t version;
    uint32_t live; /* requests */
};

struct model_spec;

#define EXECUTOR_ECHO_NAME "echo"

/* Needs nothing; `context_tokens` is how long its contexts may be, `step_us` how long a step takes at least. */
enum llm_status executor_echo_open(struct executor **out_executor, uint32_t context_tokens,
                                   uint64_t step_us, struct llm_error *error) LLM_MUST_CHECK;
/* Open the model in the directory that `spec` names, through the keeper. */
enum llm_status executor_model_open(struct executor **out_executor, struct engine *engine,
                                    const struct model_spec *spec, struct llm_error *error)
    LLM_MUST_CHECK;
/* No model: nothing finds it, nothing is admitted for it. */
enum llm_status executor_absent_open(struct executor **out_executor, uint32_t slot,
                                     struct llm_error *error) LLM_MUST_CHECK;

#endif
