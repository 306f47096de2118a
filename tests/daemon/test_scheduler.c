/*
 * test_scheduler.c - daemon/core/scheduler: who computes what in a step, seen in the plans of a core.
 * How: core_fixture.h; each test admits a few requests and reads plans and effects. Random orders are the
 * simulator's (tests/sim/sim_core.c).
 */
#include <check.h>

#include "tests/daemon/core_fixture.h"

static struct core_fixture f;

static void setup(void)
{
    core_fixture_init(&f);
}

static void teardown(void)
{
    core_fixture_close(&f);
}

static uint32_t planned_for(uint32_t slot)
{
    const struct core_sequence *sequence = core_fixture_sequence(&f, slot);
    return sequence ? sequence->token_count : 0;
}

static uint32_t started_at(uint32_t slot)
{
    return core_fixture_find(&f, CORE_REQUEST_STARTED, slot, 0);
}

START_TEST(long_prompt_is_computed_in_chunks_of_the_budget)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1, 1, 37, 1);
    const uint32_t chunks[] = {16, 16, 5};
    for (int i = 0; i < 3; i++) {
        ck_assert(core_fixture_plan(&f));
        ck_assert_uint_eq(planned_for(0), chunks[i]);
        ck_assert_int_eq(f.plan.sequences[0].wants_token, i == 2);
        ck_assert_uint_eq(f.plan.positions[0], (uint32_t)i * 16);
        ck_assert_uint_eq(f.plan.ids[0], 1000 + (uint32_t)i * 16);
        core_fixture_complete(&f);
    }
    ck_assert(!core_fixture_plan(&f));
}
END_TEST

START_TEST(answers_move_in_every_step_while_a_long_prompt_is_computed)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1, 1, 3, 10);
    core_fixture_must_admit(&f, 1, 1, 2, 3, 10);
    core_fixture_step(&f);
    core_fixture_must_admit(&f, 2, 1, 3, 40, 1);
    for (int i = 0; i < 2; i++) {
        ck_assert(core_fixture_plan(&f));
        ck_assert_uint_eq(planned_for(0), 1);
        ck_assert_uint_eq(planned_for(1), 1);
        ck_assert_uint_eq(planned_for(2), 14); /* what the answers left of 16 */
        core_fixture_complete(&f);
    }
}
END_TEST

START_TEST(seats_are_bounded_by_running_max)
{
    core_fixture_open(&f);
    for (uint32_t slot = 0; slot < 6; slot++)
        core_fixture_must_admit(&f, slot, slot, slot + 1, 2, 4);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(f.plan.sequence_count, 4);
    ck_assert_uint_eq(core_counts(f.core).queued, 2);
}
END_TEST

START_TEST(users_take_turns_at_starting)
{
    f.config.running_max = 1;
    core_fixture_open(&f);
    for (uint32_t slot = 0; slot < 5; slot++)
        core_fixture_must_admit(&f, slot, 1000, slot + 1, 2, 2);
    core_fixture_must_admit(&f, 5, 1001, 6, 2, 2);
    core_fixture_must_admit(&f, 6, 1002, 7, 2, 2);
    core_fixture_drain(&f, 100);
    const uint32_t order[] = {0, 5, 6, 1, 2, 3, 4};
    for (int i = 0; i < 6; i++)
        ck_assert_uint_lt(started_at(order[i]), started_at(order[i + 1]));
}
END_TEST

START_TEST(request_of_a_quiet_user_starts_with_the_next_free_seat)
{
    f.config.running_max = 2;
    f.config.queued_max = 12;
    f.config.user_queued_max = 12;
    core_fixture_open(&f);
    for (uint32_t slot = 0; slot < 12; slot++)
        core_fixture_must_admit(&f, slot, 1000, slot + 1, 2, 3);
    core_fixture_step(&f);
    core_fixture_must_admit(&f, 12, 1001, 20, 2, 3);
    core_fixture_drain(&f, 100);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_STARTED), 13);
    ck_assert_uint_lt(started_at(12), started_at(4)); /* 0 and 1 ran; one of 2, 3 had its turn */
}
END_TEST

START_TEST(a_user_with_every_seat_it_may_have_leaves_the_others_to_others)
{
    f.config.user_running_max = 3;
    core_fixture_open(&f);
    for (uint32_t slot = 0; slot < 5; slot++)
        core_fixture_must_admit(&f, slot, 1000, slot + 1, 2, 10);
    core_fixture_step(&f);
    ck_assert_uint_eq(core_counts(f.core).running, 3); /* of four seats */
    core_fixture_must_admit(&f, 5, 1001, 6, 2, 2);
    core_fixture_step(&f);
    ck_assert_uint_eq(core_counts(f.core).running, 4);
    core_fixture_find(&f, CORE_REQUEST_STARTED, 5, 0);
    core_fixture_drain(&f, 100);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_PREEMPTED), 0);
}
END_TEST

START_TEST(prompts_of_two_users_are_computed_in_equal_shares)
{
    core_fixture_open(&f); /* 16 tokens a step */
    core_fixture_must_admit(&f, 0, 1000, 1, 40, 1);
    core_fixture_must_admit(&f, 1, 1000, 2, 40, 1);
    ck_assert_uint_eq(core_fixture_step(&f), 16);
    core_fixture_must_admit(&f, 2, 1001, 3, 30, 1);
    ck_assert(core_fixture_plan(&f)); /* half is left for who starts: 1 at its turn, then 2 */
    ck_assert_uint_eq(planned_for(0), 8);
    ck_assert_uint_eq(planned_for(1), 1);
    ck_assert_uint_eq(planned_for(2), 7);
    core_fixture_complete(&f);
    ck_assert(core_fixture_plan(&f)); /* two users, two shares, however many requests */
    ck_assert_uint_eq(planned_for(0), 8);
    ck_assert_uint_eq(planned_for(1), 0);
    ck_assert_uint_eq(planned_for(2), 8);
    core_fixture_complete(&f);
    core_fixture_drain(&f, 20);
}
END_TEST

START_TEST(what_one_user_does_not_want_of_its_share_another_may_have)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 40, 1);
    core_fixture_step(&f);
    core_fixture_must_admit(&f, 1, 1001, 2, 3, 1);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(planned_for(0), 13);
    ck_assert_uint_eq(planned_for(1), 3);
    core_fixture_complete(&f);
    core_fixture_drain(&f, 20);
}
END_TEST

/* Found or not, a prompt costs something: a step does not start a whole queue of found ones. */
START_TEST(found_prompts_start_a_few_at_a_time)
{
    f.config.step_tokens = 4; /* 32 steps' worth of found tokens: 128 */
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 45, 1);
    core_fixture_drain(&f, 20); /* 44 tokens are cached now */
    for (uint32_t slot = 1; slot < 5; slot++)
        core_fixture_must_admit(&f, slot, 1000, 1, 45, 1);
    core_fixture_step(&f);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_STARTED), 1 + 3); /* 44, 88, 132 */
    core_fixture_step(&f);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_STARTED), 1 + 4);
    core_fixture_drain(&f, 20);
}
END_TEST

START_TEST(full_queue_is_busy_and_says_so)
{
    core_fixture_open(&f);
    struct llm_error error;
    for (uint32_t slot = 0; slot < 8; slot++)
        core_fixture_must_admit(&f, slot, slot % 2, slot + 1, 2, 2);
    ck_assert_int_eq(core_fixture_admit(&f, 8, 3, 9, 2, 2, &error), LLM_ERR_BUSY);
    ck_assert_str_eq(error.message, "all 8 places of the queue are taken; try again");
    core_fixture_step(&f); /* four start */
    ck_assert_int_eq(core_fixture_admit(&f, 8, 3, 9, 2, 2, &error), LLM_OK);
}
END_TEST

START_TEST(one_user_cannot_fill_the_queue)
{
    core_fixture_open(&f);
    struct llm_error error;
    for (uint32_t slot = 0; slot < 6; slot++)
        core_fixture_must_admit(&f, slot, 1000, slot + 1, 2, 2);
    ck_assert_int_eq(core_fixture_admit(&f, 6, 1000, 9, 2, 2, &error), LLM_ERR_BUSY);
    ck_assert_int_eq(core_fixture_admit(&f, 6, 1001, 9, 2, 2, &error), LLM_OK);
}
END_TEST

START_TEST(recovered_request_is_not_refused_by_a_full_queue)
{
    core_fixture_open(&f);
    struct llm_error error;
    for (uint32_t slot = 0; slot < 8; slot++)
        core_fixture_must_admit(&f, slot, slot % 2, slot + 1, 2, 2);
    struct core_request request = {.uid = 1,
                                   .domains = &(uint64_t){1},
                                   .domain_count = 1,
                                   .prompt_tokens = 2,
                                   .max_tokens = 2,
                                   .recovered = true};
    ck_assert_int_eq(core_admit(f.core, &request, 8, &error), LLM_OK);
}
END_TEST

/* ---- Out of blocks ---------------------------------------------------------------------------------- */

/* Eight blocks of 4 tokens. Two requests of 15 tokens take four each; both grow. */
static void fill_pool(void)
{
    f.config.slab_count = 4;
    f.config.step_tokens = 32;
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 15, 12);
    core_fixture_must_admit(&f, 1, 1001, 2, 15, 12);
    core_fixture_step(&f);
    ck_assert_uint_eq(core_counts(f.core).kv.held, 8);
}

START_TEST(youngest_is_preempted_for_an_elder_and_finishes_later)
{
    fill_pool();
    core_fixture_step(&f); /* position 15: the last row of the fourth block */
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_PREEMPTED), 0);
    core_fixture_step(&f); /* the elder needs a fifth */
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_PREEMPTED), 1);
    core_fixture_find(&f, CORE_REQUEST_PREEMPTED, 1, 0);
    ck_assert_int_eq(core_request_info(f.core, 1).phase, CORE_PHASE_QUEUED);
    core_fixture_drain(&f, 60);
    for (uint32_t slot = 0; slot < 2; slot++) {
        core_fixture_find(&f, CORE_REQUEST_TOKEN, slot, 11);
        uint32_t end = core_fixture_find(&f, CORE_REQUEST_FINISHED, slot, 0);
        ck_assert_uint_eq(f.log[end].value, CORE_FINISH_LENGTH);
    }
}
END_TEST

START_TEST(preempted_request_finds_its_own_full_blocks_again)
{
    fill_pool();
    uint64_t before = core_counts(f.core).tokens_computed;
    core_fixture_drain(&f, 60);
    struct core_counts counts = core_counts(f.core);
    ck_assert_uint_ge(counts.preemptions, 1);
    ck_assert_uint_gt(counts.tokens_cached, 0);
    ck_assert_uint_lt(counts.tokens_computed - before, 22 + 15); /* not all 15 again */
}
END_TEST

START_TEST(reuse_of_own_blocks_is_not_counted_as_cached_prompt)
{
    fill_pool();
    core_fixture_step(&f);
    core_fixture_step(&f);
    ck_assert_uint_eq(core_counts(f.core).preemptions, 1);
    while (core_request_info(f.core, 1).phase == CORE_PHASE_QUEUED)
        core_fixture_step(&f);
    ck_assert_uint_eq(core_request_info(f.core, 1).cached_tokens, 0);
}
END_TEST

START_TEST(nobody_new_starts_while_a_preempted_request_waits)
{
    fill_pool();
    core_fixture_step(&f);
    core_fixture_must_admit(&f, 2, 1002, 3, 1, 1); /* would fit at once */
    core_fixture_step(&f);
    core_fixture_drain(&f, 60);
    ck_assert_uint_lt(core_fixture_find(&f, CORE_REQUEST_STARTED, 1, 1), started_at(2));
}
END_TEST

START_TEST(youngest_without_a_block_sits_out_and_disturbs_nobody)
{
    f.config.slab_count = 4;
    f.config.step_tokens = 32;
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 13, 4); /* four blocks are enough for it */
    core_fixture_must_admit(&f, 1, 1001, 2, 15, 12);
    core_fixture_step(&f);
    core_fixture_step(&f);
    ck_assert(core_fixture_plan(&f)); /* the second one needs a fifth block */
    ck_assert_uint_eq(planned_for(0), 1);
    ck_assert_uint_eq(planned_for(1), 0);
    core_fixture_complete(&f);
    core_fixture_drain(&f, 60);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_PREEMPTED), 0);
}
END_TEST

START_TEST(request_starts_only_when_all_its_known_tokens_have_blocks)
{
    fill_pool();
    core_fixture_must_admit(&f, 2, 1002, 3, 20, 1);
    core_fixture_step(&f);
    ck_assert_int_eq(core_request_info(f.core, 2).phase, CORE_PHASE_QUEUED);
}
END_TEST

START_TEST(request_as_large_as_the_pool_runs_in_the_end)
{
    fill_pool();
    core_fixture_must_admit(&f, 2, 1002, 3, 20, 13); /* 32 rows: all eight blocks */
    core_fixture_must_admit(&f, 3, 1003, 4, 2, 2);
    core_fixture_drain(&f, 100);
    core_fixture_find(&f, CORE_REQUEST_TOKEN, 2, 12);
}
END_TEST

START_TEST(cached_blocks_are_evicted_before_anybody_is_preempted)
{
    f.config.slab_count = 4;
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 15, 2);
    core_fixture_drain(&f, 10);
    ck_assert_uint_eq(core_counts(f.core).kv.cached, 4);
    core_fixture_must_admit(&f, 1, 1000, 2, 30, 2);
    core_fixture_drain(&f, 10);
    ck_assert_uint_gt(core_counts(f.core).evictions, 0);
    ck_assert_uint_eq(core_counts(f.core).preemptions, 0);
}
END_TEST

/* ---- Shared prefixes -------------------------------------------------------------------------------- */

START_TEST(prompts_with_one_long_prefix_compute_it_once)
{
    core_fixture_open(&f);
    for (uint32_t slot = 0; slot < 4; slot++)
        core_fixture_must_admit(&f, slot, 1000, 1, 33, 1); /* 33 > 16: the first fills two steps */
    core_fixture_drain(&f, 20);
    ck_assert_uint_eq(core_counts(f.core).tokens_computed, 33 + 3);
    ck_assert_uint_eq(core_counts(f.core).tokens_cached, 3 * 32);
}
END_TEST

START_TEST(block_that_another_computes_is_waited_for)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 7, 4);
    core_fixture_must_admit(&f, 1, 1000, 1, 7, 4);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(planned_for(0), 7);
    ck_assert_uint_eq(planned_for(1), 0);
    started_at(1); /* it has its seat */
    core_fixture_complete(&f);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(core_fixture_sequence(&f, 1)->first_position, 4);
    core_fixture_complete(&f);
    ck_assert_uint_eq(core_counts(f.core).kv.held, 3); /* one shared, a tail each */
    ck_assert_uint_eq(core_fixture_count(&f, CORE_BLOCK_SEALED), 2); /* row 7 filled the elder's */
    core_fixture_drain(&f, 20);
}
END_TEST

START_TEST(whoever_waits_for_a_block_is_passed_by_others_of_its_user)
{
    f.config.step_tokens = 48;
    f.config.slab_count = 16;
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 40, 1);
    core_fixture_must_admit(&f, 1, 1000, 1, 40, 1);
    core_fixture_must_admit(&f, 2, 1000, 2, 3, 4);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(planned_for(0), 40);
    ck_assert_uint_eq(planned_for(1), 0);
    ck_assert_uint_eq(planned_for(2), 3);
    core_fixture_complete(&f);
    core_fixture_drain(&f, 20);
    ck_assert_uint_eq(core_counts(f.core).tokens_computed, 40 + 1 + 3 + 3);
}
END_TEST

START_TEST(block_whose_maker_is_gone_is_computed_by_who_waited)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 40, 1);
    core_fixture_must_admit(&f, 1, 1000, 1, 40, 1);
    ck_assert(core_fixture_plan(&f));
    f.finish[0] = CORE_FINISH_FAILED;
    core_fixture_complete(&f);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(planned_for(1), 16);
    ck_assert_uint_eq(core_fixture_sequence(&f, 1)->first_position, 0);
    core_fixture_complete(&f);
    core_fixture_drain(&f, 20);
}
END_TEST

START_TEST(block_that_another_domain_computes_is_not_waited_for)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 7, 4);
    core_fixture_must_admit(&f, 1, 1001, 1, 7, 4);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(planned_for(0), 7);
    ck_assert_uint_eq(planned_for(1), 7);
    core_fixture_complete(&f);
    core_fixture_drain(&f, 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/scheduler");
    TCase *tc = tcase_create("scheduler");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, long_prompt_is_computed_in_chunks_of_the_budget);
    tcase_add_test(tc, answers_move_in_every_step_while_a_long_prompt_is_computed);
    tcase_add_test(tc, seats_are_bounded_by_running_max);
    tcase_add_test(tc, users_take_turns_at_starting);
    tcase_add_test(tc, request_of_a_quiet_user_starts_with_the_next_free_seat);
    tcase_add_test(tc, a_user_with_every_seat_it_may_have_leaves_the_others_to_others);
    tcase_add_test(tc, prompts_of_two_users_are_computed_in_equal_shares);
    tcase_add_test(tc, what_one_user_does_not_want_of_its_share_another_may_have);
    tcase_add_test(tc, found_prompts_start_a_few_at_a_time);
    tcase_add_test(tc, full_queue_is_busy_and_says_so);
    tcase_add_test(tc, one_user_cannot_fill_the_queue);
    tcase_add_test(tc, recovered_request_is_not_refused_by_a_full_queue);
    tcase_add_test(tc, youngest_is_preempted_for_an_elder_and_finishes_later);
    tcase_add_test(tc, preempted_request_finds_its_own_full_blocks_again);
    tcase_add_test(tc, reuse_of_own_blocks_is_not_counted_as_cached_prompt);
    tcase_add_test(tc, nobody_new_starts_while_a_preempted_request_waits);
    tcase_add_test(tc, youngest_without_a_block_sits_out_and_disturbs_nobody);
    tcase_add_test(tc, request_starts_only_when_all_its_known_tokens_have_blocks);
    tcase_add_test(tc, request_as_large_as_the_pool_runs_in_the_end);
    tcase_add_test(tc, cached_blocks_are_evicted_before_anybody_is_preempted);
    tcase_add_test(tc, prompts_with_one_long_prefix_compute_it_once);
    tcase_add_test(tc, block_that_another_computes_is_waited_for);
    tcase_add_test(tc, whoever_waits_for_a_block_is_passed_by_others_of_its_user);
    tcase_add_test(tc, block_whose_maker_is_gone_is_computed_by_who_waited);
    tcase_add_test(tc, block_that_another_domain_computes_is_not_waited_for);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
