/*
 * test_replay.c - recorded traces, one request at a time: what the cache finds, beside the ideal and a plain LRU.
 * How: needs LLM_TESTDATA. The ideals are those of traces/SOURCE.md, which were counted by another program.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim_replay.h"

static struct trace trace;

static double percent(uint64_t hits)
{
    struct llm_error error;
    struct ideal all;
    must(ideal_compute(&trace, 512, 0, &all, &error), &error);
    return 100.0 * (double)hits / (double)all.prompt_tokens;
}

/* ---- Small enough to compare every prompt with all before it ----------------------------------------- */

static const struct {
    const char *name;
    uint64_t source_hits; /* traces/SOURCE.md: full blocks of 16 */
} minis[] = {{"mini_conversation.jsonl", 17120}, {"mini_synthetic.jsonl", 5008}};

static uint32_t common(const uint32_t *a, uint32_t a_count, const uint32_t *b, uint32_t b_count)
{
    uint32_t same = 0;
    while (same < a_count && same < b_count && a[same] == b[same])
        same++;
    return same;
}

START_TEST(an_unbounded_pool_finds_every_prompts_longest_known_beginning)
{
    enum {
        PROMPT_MAX = 512
    };
    struct llm_error error;
    replay_open(&trace, minis[_i].name);
    struct world_options options = replay_options(16, 0);
    struct world_result result;
    must(world_run(&trace, &options, &result, &error), &error);
    uint32_t(*ids)[PROMPT_MAX] = calloc(trace.count, sizeof *ids);
    ck_assert_ptr_nonnull(ids);
    uint64_t hits = 0;
    for (uint32_t i = 0; i < trace.count; i++) {
        uint32_t tokens = trace.requests[i].prompt_tokens;
        uint32_t longest = 0;
        ck_assert_uint_le(tokens, PROMPT_MAX);
        trace_ids(&trace, &trace.requests[i], 0, tokens, ids[i]);
        for (uint32_t before = 0; before < i; before++) {
            uint32_t same =
                common(ids[i], tokens, ids[before], trace.requests[before].prompt_tokens);
            longest = same > longest ? same : longest;
        }
        longest = longest < tokens ? longest : tokens - 1;
        ck_assert_msg(result.requests[i].hit_tokens <= longest &&
                          result.requests[i].hit_tokens >= longest / 16 * 16,
                      "request %u: %u tokens found of %u", i, result.requests[i].hit_tokens,
                      longest);
        hits += result.requests[i].hit_tokens;
    }
    ck_assert_uint_ge(hits, minis[_i].source_hits);
    free(ids);
    world_result_close(&result);
}
END_TEST

/* ---- The recorded ones -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    double ideal; /* percent of the prompts' tokens: traces/SOURCE.md */
    struct {
        uint64_t blocks;
        double lru;
    } pools[2];
} recorded[] = {
    {"mooncake_conversation.jsonl", 35.27, {{10000, 21.29}, {5000, 11.51}}},
    {"mooncake_synthetic.jsonl", 33.63, {{10000, 17.63}, {5000, 8.75}}},
};

START_TEST(an_unbounded_pool_finds_the_ideal_but_for_the_last_blocks)
{
    replay_open(&trace, recorded[_i].name);
    double ideal = percent(lru_hits(&trace, 512, 0));
    ck_assert_double_eq_tol(ideal, recorded[_i].ideal, 0.01);
    double ours = percent(replay_hits(&trace, 512, 0));
    ck_assert_msg(ours <= ideal + 0.001 && ours > ideal - 0.1, "%.3f %%, ideal %.3f %%", ours,
                  ideal);
}
END_TEST

START_TEST(a_bounded_pool_is_not_half_a_point_worse_than_plain_lru)
{
    replay_open(&trace, recorded[_i / 2].name);
    uint64_t blocks = recorded[_i / 2].pools[_i % 2].blocks;
    double lru = percent(lru_hits(&trace, 512, blocks));
    ck_assert_double_eq_tol(lru, recorded[_i / 2].pools[_i % 2].lru, 0.01);
    double ours = percent(replay_hits(&trace, 512, blocks));
    ck_assert_msg(ours >= lru - 0.5, "%.3f %%, plain LRU %.3f %%", ours, lru);
}
END_TEST

/* How often, and how long, one-shot prompts come between the requests. */
static const struct {
    double share;
    uint32_t tokens;
} scans[] = {{0.1, 50000}, {0.3, 20000}};

START_TEST(between_one_shot_prompts_it_finds_a_twentieth_more_than_plain_lru)
{
    struct llm_error error;
    uint64_t blocks = _i % 2 ? 5000 : 10000;
    replay_open(&trace, recorded[0].name);
    must(trace_scan(&trace, scans[_i / 2].share, scans[_i / 2].tokens, 1, &error), &error);
    uint64_t ours = replay_hits(&trace, 512, blocks);
    uint64_t lru = lru_hits(&trace, 512, blocks);
    ck_assert_msg(20 * ours >= 21 * lru, "%llu hits, plain LRU %llu", (unsigned long long)ours,
                  (unsigned long long)lru);
}
END_TEST

/* ---- A flood ------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    uint32_t requests, step_tokens, block_tokens;
    double hurry;
} floods[] = {
    {"azure2023_code.csv", 2000, 1024, 64, 0.3},
    {"azure2023_conv.csv", 9682, 1024, 64, 1},
    {"mooncake_conversation.jsonl", 1000, 2048, 512, 0.2},
};

static void run_by_the_clock(int flood, struct figures *out_own, struct figures *out_flood,
                             double *out_step_ms)
{
    struct llm_error error;
    struct world_result result;
    struct world_options options = replay_options(floods[flood].block_tokens, 20000);
    options.step_tokens = floods[flood].step_tokens;
    options.running_max = 256;
    options.user_running_max = 228;
    options.slots = 1024;
    options.user_slots = 896;
    options.clients = 0;
    must(world_run(&trace, &options, &result, &error), &error);
    must(figures_compute(&trace, &options, &result, FIGURES_OF_OWN, 0, out_own, &error), &error);
    must(figures_compute(&trace, &options, &result, FIGURES_OF_FLOOD, 0, out_flood, &error),
         &error);
    *out_step_ms = (double)result.longest_step_ns / 1e6;
    world_result_close(&result);
}

/* Twenty users on a simulated H200, and one who sends 50 times what they do on average. */
START_TEST(a_flood_costs_the_others_no_more_than_twice_their_quiet_p99_and_a_step)
{
    struct llm_error error;
    char path[512];
    struct figures quiet, own, flood;
    double step_ms;
    snprintf(path, sizeof path, "%s/traces/%s", getenv("LLM_TESTDATA"), floods[_i].name);
    must(trace_open(&trace, path, floods[_i].requests, &error), &error);
    trace_hurry(&trace, floods[_i].hurry);
    must(trace_users(&trace, 20, &error), &error);
    run_by_the_clock(_i, &quiet, &flood, &step_ms);
    ck_assert_uint_eq(flood.requests, 0);
    must(trace_flood(&trace, 50, 1, &error), &error);
    run_by_the_clock(_i, &own, &flood, &step_ms);
    ck_assert_uint_eq(own.answered, floods[_i].requests);
    ck_assert_uint_eq(flood.answered, 50 * floods[_i].requests / 20);
    ck_assert_msg(own.first_p99_ms <= 2 * quiet.first_p99_ms + step_ms,
                  "p99 of the first token: %.1f ms, quiet %.1f ms, a step %.1f ms",
                  own.first_p99_ms, quiet.first_p99_ms, step_ms);
    ck_assert_msg(flood.first_p99_ms > 10 * own.first_p99_ms, "the flood waits %.1f ms",
                  flood.first_p99_ms); /* else there was room for all */
}
END_TEST

static void close_trace(void)
{
    trace_close(&trace);
}

int main(void)
{
    if (!getenv("LLM_TESTDATA")) {
        printf("skipped: LLM_TESTDATA does not name the test data\n");
        return 77;
    }
    Suite *suite = suite_create("sim/replay");
    TCase *tc = tcase_create("replay");
    tcase_set_timeout(tc, 300);
    tcase_add_checked_fixture(tc, NULL, close_trace);
    tcase_add_loop_test(tc, an_unbounded_pool_finds_every_prompts_longest_known_beginning, 0, 2);
    tcase_add_loop_test(tc, an_unbounded_pool_finds_the_ideal_but_for_the_last_blocks, 0, 2);
    tcase_add_loop_test(tc, a_bounded_pool_is_not_half_a_point_worse_than_plain_lru, 0, 4);
    tcase_add_loop_test(tc, between_one_shot_prompts_it_finds_a_twentieth_more_than_plain_lru, 0,
                        4);
    tcase_add_loop_test(tc, a_flood_costs_the_others_no_more_than_twice_their_quiet_p99_and_a_step,
                        0, sizeof floods / sizeof floods[0]);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
