/* executor_absent.c - holds the place of a slot without a model, so that the others keep their numbers. */
#include <stdio.h>
#include <stdlib.h>

#include "daemon/engine/executor.h"
#include "shm/check.h"

#define ABSENT_BLOCK_BYTES  (16u << 10) /* never taken: nothing is admitted */
#define ABSENT_BLOCK_TOKENS 16u

static void absent_set_pool(struct executor *executor, const struct executor_pool *pool)
{
    (void)executor;
    (void)pool;
}

static void absent_zero_block(struct executor *executor, block_id block)
{
    (void)executor;
    (void)block;
}

static void absent_copy_block(struct executor *executor, block_id to, block_id from)
{
    (void)executor;
    (void)to;
    (void)from;
}

static bool absent_quiet(struct executor *executor)
{
    (void)executor;
    return true;
}

static enum llm_status absent_run(struct executor *executor, const struct core_plan *plan,
                                  uint32_t model, const struct engine *engine,
                                  struct executor_choice *out_choices, float *out_scores,
                                  struct llm_top *out_tops, struct llm_error *error)
{
    (void)executor;
    (void)plan;
    (void)engine;
    (void)out_choices;
    (void)out_scores;
    (void)out_tops;
    return llm_fail(error, LLM_ERR_NOT_FOUND, "there is no model in slot %u", model);
}

static void absent_close(struct executor *executor)
{
    free(executor);
}

enum llm_status executor_absent_open(struct executor **out_executor, uint32_t slot,
                                     struct llm_error *error)
{
    static const struct executor_ops ops = {
        .set_pool = absent_set_pool,
        .zero_block = absent_zero_block,
        .copy_block = absent_copy_block,
        .quiet = absent_quiet,
        .run = absent_run,
        .close = absent_close,
    };
    struct executor *executor = calloc(1, sizeof *executor);
    if (!executor)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the place of a model");
    executor->ops = &ops;
    executor->absent = true;
    executor->facts = (struct executor_facts){
        .text = "no model",
        .backend_text = "none",
        .identity = {0x65736261, slot}, /* "abse": no model's */
        .vocab_size = 1,
        .context_tokens_max = 2,
        .block_tokens = ABSENT_BLOCK_TOKENS,
        .block_bytes = ABSENT_BLOCK_BYTES,
    };
    *out_executor = executor;
    return LLM_OK;
}
