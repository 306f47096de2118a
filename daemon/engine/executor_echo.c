#include "daemon/engine/executor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/engine/engine.h"
#include "shm/clock.h"

#define ECHO_VOCAB_SIZE   65536u
#define ECHO_BLOCK_TOKENS 16u
#define ECHO_BLOCK_BYTES  (16u << 10) /* nothing is ever written there */

struct executor_echo {
    struct executor base;
    uint64_t step_us;
};

static void echo_set_pool(struct executor *executor, const struct executor_pool *pool)
{
    (void)executor;
    (void)pool;
}

static void echo_zero_block(struct executor *executor, block_id block)
{
    (void)executor;
    (void)block;
}

static void echo_copy_block(struct executor *executor, block_id to, block_id from)
{
    (void)executor;
    (void)to;
    (void)from;
}

static bool echo_quiet(struct executor *executor)
{
    (void)executor;
    return true;
}

/* The token after position p is the prompt's id at p + 1, counted round and round. */
static uint32_t next_token(const struct engine *engine, const struct core_sequence *sequence)
{
    uint32_t position = sequence->first_position + sequence->token_count;
    uint32_t prompt_tokens = engine->tables.requests[sequence->slot].body.prompt_tokens;
    return tables_ids(&engine->tables, sequence->slot)[position % prompt_tokens];
}

/* It knows one token for each place, and is certain of it. */
static void echo_tops(const struct engine *engine, const struct core_sequence *sequence,
                      uint32_t row, struct llm_top *out_tops)
{
    uint32_t count = sampling_top_count(&engine->requests[sequence->slot].sampling);
    for (uint32_t i = 0; i < count; i++)
        out_tops[i] = (struct llm_top){UINT32_MAX, -INFINITY};
    if (count > 0 && sequence->scored_rows > 0)
        out_tops[0] = (struct llm_top){
            tables_ids(&engine->tables, sequence->slot)[sequence->first_position + row + 1], 0.0F};
    else if (count > 0 && sequence->wants_token && row + 1 == sequence->token_count)
        out_tops[0] = (struct llm_top){next_token(engine, sequence), 0.0F};
}

static void sleep_us(uint64_t us)
{
    struct timespec time = {.tv_sec = (time_t)(us / 1000000),
                            .tv_nsec = (long)(us % 1000000 * LLM_NS_PER_US)};
    nanosleep(&time, NULL);
}

static enum llm_status echo_run(struct executor *executor, const struct core_plan *plan,
                                uint32_t model, const struct engine *engine,
                                struct executor_choice *out_choices, float *out_scores,
                                struct llm_top *out_tops, struct llm_error *error)
{
    (void)error;
    const struct executor_echo *echo = (const struct executor_echo *)executor;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const struct core_sequence *sequence = &plan->sequences[i];
        if (sequence->model != model)
            continue;
        for (uint32_t row = 0; row < sequence->token_count; row++)
            out_scores[sequence->first_row + row] = 0.0F;
        bool tops = sampling_top_count(&engine->requests[sequence->slot].sampling) > 0;
        for (uint32_t row = 0; row < sequence->token_count && tops; row++)
            echo_tops(engine, sequence, row,
                      out_tops + (size_t)(sequence->first_row + row) * LLM_TOP_LOGPROBS_MAX);
        if (!sequence->wants_token)
            continue;
        out_choices[i].status = LLM_OK;
        out_choices[i].token = next_token(engine, sequence);
        out_choices[i].logprob = 0.0F;
    }
    if (echo->step_us > 0)
        sleep_us(echo->step_us);
    return LLM_OK;
}

static void echo_close(struct executor *executor)
{
    free(executor);
}

enum llm_status executor_echo_open(struct executor **out_executor, uint32_t context_tokens,
                                   uint64_t step_us, struct llm_error *error)
{
    static const struct executor_ops ops = {
        .set_pool = echo_set_pool,
        .zero_block = echo_zero_block,
        .copy_block = echo_copy_block,
        .quiet = echo_quiet,
        .run = echo_run,
        .close = echo_close,
    };
    struct executor_echo *echo = calloc(1, sizeof *echo);
    if (!echo)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the echo");
    echo->step_us = step_us;
    echo->base.ops = &ops;
    echo->base.facts = (struct executor_facts){
        .name = EXECUTOR_ECHO_NAME,
        .text = "no weights: answers with the prompt",
        .backend_text = "none",
        .identity = {0x6f686365}, /* "echo" */
        .vocab_size = ECHO_VOCAB_SIZE,
        .context_tokens_max = context_tokens,
        .block_tokens = ECHO_BLOCK_TOKENS,
        .block_bytes = ECHO_BLOCK_BYTES,
        .defaults = {.top_p = 1, .typical_p = 1, .repetition_penalty = 1},
    };
    *out_executor = &echo->base;
    return LLM_OK;
}
