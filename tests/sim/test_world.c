/*
 * test_world.c - daemon/sim: simulated machines, the core as it is: hits, order, fairness, misfortunes.
 * How: traces made by hand, small enough for core_sane() after every call where it matters. The figures are those of
 * a counted clock, so they are the same on every machine.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_replay.h"

static struct trace trace;
static struct llm_error error;

static struct figures figures_of(const struct world_options *options,
                                 const struct world_result *result, enum figures_of of)
{
    struct figures figures;
    must(figures_compute(&trace, options, result, of, 0, &figures, &error), &error);
    return figures;
}

/* Many users' sessions by the clock, on a machine that has enough to do with them. */
static struct world_options by_the_clock(void)
{
    struct world_options options = replay_options(16, 0);
    options.clients = 0;
    options.walk = false;
    options.slots = 512;
    options.user_slots = 256;
    return options;
}

START_TEST(every_request_is_answered_and_an_unbounded_pool_finds_what_is_there)
{
    make_sessions(&trace, 10, 5, 1000, 3);
    struct world_options options = replay_options(128, 0);
    options.walk = true;
    struct world_result result;
    must(world_run(&trace, &options, &result, &error), &error);
    struct figures all = figures_of(&options, &result, FIGURES_OF_ALL);
    ck_assert_uint_eq(all.answered, 50);
    ck_assert_uint_eq(all.answer_tokens, 150);
    ck_assert_uint_eq(all.hit_tokens, lru_hits(&trace, 128, 0));
    ck_assert_uint_eq(result.evictions + result.preemptions + result.deaths, 0);
    ck_assert_uint_ge(result.end_ns, result.computing_ns);
    world_result_close(&result);
}
END_TEST

START_TEST(the_same_world_twice_is_the_same_to_the_nanosecond)
{
    make_sessions(&trace, 40, 5, 20000000, 20);
    must(trace_users(&trace, 5, &error), &error);
    struct world_options options = by_the_clock();
    options.die_share = 0.2;
    options.die_ns = 100000000;
    options.slow_share = 0.2;
    options.slow_ns = 100000000;
    struct world_result first, second;
    must(world_run(&trace, &options, &first, &error), &error);
    must(world_run(&trace, &options, &second, &error), &error);
    ck_assert_uint_eq(first.end_ns, second.end_ns);
    for (uint32_t i = 0; i < trace.count; i++) {
        ck_assert_uint_eq(first.requests[i].end_ns, second.requests[i].end_ns);
        ck_assert_uint_eq(first.requests[i].tokens, second.requests[i].tokens);
    }
    world_result_close(&first);
    world_result_close(&second);
}
END_TEST

/* Sessions that come back, between documents that do not: half the pool is pushed through by each turn's scan. */
START_TEST(what_is_found_again_outlives_a_scan_where_plain_lru_forgets)
{
    make_sessions(&trace, 20, 20, 1000, 1);
    must(trace_scan(&trace, 0.5, 20000, 1, &error), &error);
    uint64_t ours = replay_hits(&trace, 512, 400);
    uint64_t lru = lru_hits(&trace, 512, 400);
    uint64_t ideal = lru_hits(&trace, 512, 0);
    ck_assert_msg(20 * ours >= 21 * lru, "%llu hits, plain LRU %llu", (unsigned long long)ours,
                  (unsigned long long)lru);
    ck_assert_uint_le(ours, ideal);
    ck_assert_uint_lt(lru, ideal); /* else the scan tested nothing */
}
END_TEST

/* Arrivals as of people who know nothing of each other: a Poisson process. */
static void scatter_arrivals(uint64_t gap_ns)
{
    double at_ns = 0;
    for (uint32_t i = 0; i < trace.count; i++) {
        at_ns -= log((double)((trace_mix(7, i) >> 11) + 1) / 9007199254740992.0) * (double)gap_ns;
        trace.requests[i].arrival_ns = (uint64_t)at_ns;
    }
}

/* The first token of the others, when one user sends 50 times as much as they do on average. Steps are no longer than
 * the computing of a typical prompt: who comes in the middle of one waits for its end. */
START_TEST(a_flood_costs_the_others_no_more_than_twice_their_quiet_p99_and_a_step)
{
    make_sessions(&trace, 200, 6, 0, 50);
    scatter_arrivals(100000000);
    must(trace_users(&trace, 20, &error), &error);
    struct world_options options = by_the_clock();
    options.step_tokens = 1024;
    options.user_running_max = 32;
    struct world_result result;
    must(world_run(&trace, &options, &result, &error), &error);
    struct figures quiet = figures_of(&options, &result, FIGURES_OF_OWN);
    world_result_close(&result);

    must(trace_flood(&trace, 50, 1, &error), &error);
    must(world_run(&trace, &options, &result, &error), &error);
    struct figures own = figures_of(&options, &result, FIGURES_OF_OWN);
    struct figures flood = figures_of(&options, &result, FIGURES_OF_FLOOD);
    double step_ms = (double)result.longest_step_ns / 1e6;
    ck_assert_msg(own.first_p99_ms <= 2 * quiet.first_p99_ms + step_ms,
                  "p99 of the first token: %.1f ms, quiet %.1f ms, a step %.1f ms",
                  own.first_p99_ms, quiet.first_p99_ms, step_ms);
    /* the flood's own wait: else the machine had room for all, and nothing was tested */
    ck_assert_msg(flood.first_p99_ms > 10 * own.first_p99_ms, "the flood waits %.1f ms",
                  flood.first_p99_ms);
    ck_assert_uint_eq(own.answered, 1200);
    ck_assert_uint_eq(flood.answered, 3000);
    world_result_close(&result);
}
END_TEST

START_TEST(engines_die_and_every_request_is_answered_whole)
{
    make_sessions(&trace, 40, 5, 30000000, 60);
    must(trace_users(&trace, 5, &error), &error);
    struct world_options options = by_the_clock();
    options.block_tokens = 128;
    options.death_ns = UINT64_C(1500000000);
    options.restart_ns = UINT64_C(200000000);
    options.walk = true;
    options.lag = (uint32_t)_i; /* once as ever, once planned ahead */
    struct world_result result;
    must(world_run(&trace, &options, &result, &error), &error);
    struct figures all = figures_of(&options, &result, FIGURES_OF_ALL);
    ck_assert_uint_ge(result.deaths, 3);
    ck_assert_uint_gt(result.adopted_blocks, 0);
    ck_assert_uint_eq(all.answered, 200);
    ck_assert_uint_eq(all.answer_tokens, 200 * 60);
    world_result_close(&result);
}
END_TEST

START_TEST(dying_clients_are_cancelled_and_the_others_answered)
{
    make_sessions(&trace, 40, 5, 30000000, 60);
    struct world_options options = by_the_clock();
    options.block_tokens = 128;
    options.die_share = 0.5;
    options.die_ns = UINT64_C(500000000);
    options.walk = true;
    options.lag = (uint32_t)_i; /* once as ever, once planned ahead */
    struct world_result result;
    must(world_run(&trace, &options, &result, &error), &error);
    struct figures all = figures_of(&options, &result, FIGURES_OF_ALL);
    ck_assert_uint_eq(all.answered + all.cancelled, 200);
    ck_assert_uint_gt(all.cancelled, 30);
    for (uint32_t i = 0; i < trace.count; i++)
        ck_assert(result.requests[i].end != WORLD_ANSWERED || result.requests[i].tokens == 60);
    world_result_close(&result);
}
END_TEST

START_TEST(slow_readers_keep_their_slots_and_others_wait_for_them)
{
    make_sessions(&trace, 20, 5, 1000, 2);
    struct world_options options = by_the_clock();
    options.slots = 4;
    options.user_slots = 4;
    struct world_result quick, slow;
    must(world_run(&trace, &options, &quick, &error), &error);
    options.slow_share = 1;
    options.slow_ns = UINT64_C(4000000000);
    must(world_run(&trace, &options, &slow, &error), &error);
    ck_assert_uint_eq(figures_of(&options, &slow, FIGURES_OF_ALL).answered, 100);
    /* a hundred answers read two seconds late on average, four at a time */
    ck_assert_uint_gt(slow.end_ns, quick.end_ns + UINT64_C(30000000000));
    world_result_close(&quick);
    world_result_close(&slow);
}
END_TEST

START_TEST(a_request_larger_than_the_pool_is_refused_and_the_rest_answered)
{
    make_sessions(&trace, 4, 8, 1000, 1); /* up to ten parts of 512 */
    struct world_options options = replay_options(512, 8);
    options.walk = true;
    struct world_result result;
    must(world_run(&trace, &options, &result, &error), &error);
    struct figures all = figures_of(&options, &result, FIGURES_OF_ALL);
    ck_assert_uint_gt(all.refused, 0);
    ck_assert_uint_eq(all.answered + all.refused, 32);
    ck_assert_uint_gt(result.evictions, 0);
    world_result_close(&result);
}
END_TEST

START_TEST(private_users_find_nothing_of_each_other)
{
    make_sessions(&trace, 10, 1, 1000, 1); /* only the first part is the same */
    must(trace_users(&trace, 10, &error), &error);
    struct world_options options = replay_options(512, 0);
    struct world_result result;
    must(world_run(&trace, &options, &result, &error), &error);
    ck_assert_uint_eq(figures_of(&options, &result, FIGURES_OF_ALL).hit_tokens, 9 * 512);
    world_result_close(&result);
    options.private_kept = true;
    must(world_run(&trace, &options, &result, &error), &error);
    ck_assert_uint_eq(figures_of(&options, &result, FIGURES_OF_ALL).hit_tokens, 0);
    world_result_close(&result);
}
END_TEST

START_TEST(options_out_of_range_are_one_sentence)
{
    make_sessions(&trace, 2, 2, 1000, 1);
    struct world_options options = replay_options(512, 0);
    struct world_result result;
    options.step_tokens = 0;
    ck_assert_int_eq(world_run(&trace, &options, &result, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "step_tokens is 0"));
    options = replay_options(0, 0);
    options.blocks = 10;
    ck_assert_int_eq(world_run(&trace, &options, &result, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "block_tokens is 0"));
}
END_TEST

START_TEST(jain_is_one_for_equals_and_the_share_of_the_only_one_served)
{
    make_sessions(&trace, 4, 1, 1000, 1);
    must(trace_users(&trace, 4, &error), &error);
    struct world_options options = replay_options(512, 0);
    struct world_request requests[4];
    struct world_result result = {.requests = requests};
    double jain;
    for (int i = 0; i < 4; i++)
        requests[i] = (struct world_request){.tokens = 1, .end_ns = 1000, .end = WORLD_ANSWERED};
    must(figures_fairness(&trace, &options, &result, &jain, &error), &error);
    ck_assert_double_eq_tol(jain, 1, 1e-9);
    for (int i = 1; i < 4; i++)
        requests[i].end_ns = UINT64_C(1000000000000000); /* as good as never */
    must(figures_fairness(&trace, &options, &result, &jain, &error), &error);
    ck_assert_double_eq_tol(jain, 0.25, 1e-6);
}
END_TEST

static void close_trace(void)
{
    trace_close(&trace);
}

int main(void)
{
    Suite *suite = suite_create("sim/world");
    TCase *tc = tcase_create("world");
    tcase_set_timeout(tc, 300);
    tcase_add_checked_fixture(tc, NULL, close_trace);
    tcase_add_test(tc, every_request_is_answered_and_an_unbounded_pool_finds_what_is_there);
    tcase_add_test(tc, the_same_world_twice_is_the_same_to_the_nanosecond);
    tcase_add_test(tc, what_is_found_again_outlives_a_scan_where_plain_lru_forgets);
    tcase_add_test(tc, a_flood_costs_the_others_no_more_than_twice_their_quiet_p99_and_a_step);
    tcase_add_loop_test(tc, engines_die_and_every_request_is_answered_whole, 0, CORE_LAG_MAX + 1);
    tcase_add_loop_test(tc, dying_clients_are_cancelled_and_the_others_answered, 0,
                        CORE_LAG_MAX + 1);
    tcase_add_test(tc, slow_readers_keep_their_slots_and_others_wait_for_them);
    tcase_add_test(tc, a_request_larger_than_the_pool_is_refused_and_the_rest_answered);
    tcase_add_test(tc, private_users_find_nothing_of_each_other);
    tcase_add_test(tc, options_out_of_range_are_one_sentence);
    tcase_add_test(tc, jain_is_one_for_equals_and_the_share_of_the_only_one_served);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
