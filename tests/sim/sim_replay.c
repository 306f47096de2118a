#include "tests/sim/sim_replay.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

void must(enum llm_status status, const struct llm_error *error)
{
    ck_assert_msg(status == LLM_OK, "%s", error->message);
}

struct world_options replay_options(uint32_t block_tokens, uint64_t blocks)
{
    return (struct world_options){.device = device_named("h200"),
                                  .shape = shape_named("8b"),
                                  .blocks = blocks,
                                  .block_tokens = block_tokens,
                                  .step_tokens = 8192,
                                  .running_max = 64,
                                  .user_running_max = 56,
                                  .slots = 64,
                                  .user_slots = 64,
                                  .clients = 1,
                                  .seed = 1};
}

uint64_t replay_hits(const struct trace *trace, uint32_t block_tokens, uint64_t blocks)
{
    struct llm_error error;
    struct world_options options = replay_options(block_tokens, blocks);
    struct world_result result;
    struct figures figures;
    must(world_run(trace, &options, &result, &error), &error);
    must(figures_compute(trace, &options, &result, FIGURES_OF_ALL, 0, &figures, &error), &error);
    ck_assert_uint_eq(figures.answered, trace->count);
    world_result_close(&result);
    return figures.hit_tokens;
}

uint64_t lru_hits(const struct trace *trace, uint32_t block_tokens, uint64_t blocks)
{
    struct llm_error error;
    struct ideal lru;
    must(ideal_compute(trace, block_tokens, blocks, &lru, &error), &error);
    return lru.hit_tokens;
}

void replay_open(struct trace *trace, const char *name)
{
    struct llm_error error;
    char path[512];
    snprintf(path, sizeof path, "%s/traces/%s", getenv("LLM_TESTDATA"), name);
    must(trace_open(trace, path, TRACE_REQUESTS_MAX, &error), &error);
    trace_shorten(trace, 1);
}

void make_sessions(struct trace *trace, uint32_t sessions, uint32_t turns, uint64_t gap_ns,
                   uint32_t answer_tokens)
{
    struct llm_error error;
    uint64_t parts[64] = {0};
    ck_assert_uint_lt(turns, 63);
    trace_init(trace, TRACE_PART_TOKENS);
    for (uint32_t turn = 0; turn < turns; turn++)
        for (uint32_t session = 0; session < sessions; session++) {
            for (uint32_t i = 1; i < turn + 3; i++)
                parts[i] = 1 + session * UINT64_C(64) + i;
            const struct trace_request request = {.arrival_ns = trace->count * gap_ns,
                                                  .prompt_tokens = (turn + 3) * TRACE_PART_TOKENS,
                                                  .answer_tokens = answer_tokens};
            must(trace_add(trace, &request, parts, &error), &error);
        }
}
