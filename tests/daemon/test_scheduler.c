/*
 * test_scheduler.c - daemon/core/scheduler: who computes what in a step, seen in the plans of a core.
 * How: core_fixture.h; each test admits a few requests and reads plans and effects. Random orders are the
 * simulator's (tests/sim/sim_core.c).
 */
#include <check.h>

#include "daemon/core/scheduler.h"
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
    ck_assert(core_fixture_plan(&f)); /* of one user who runs comes before who waits */
    ck_assert_uint_eq(planned_for(0), 8);
    ck_assert_uint_eq(planned_for(1), 0);
    ck_assert_uint_eq(planned_for(2), 8);
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

START_TEST(preempted_request_comes_back_before_others_of_its_user_start)
{
    fill_pool();
    core_fixture_step(&f);
    core_fixture_must_admit(&f, 2, 1001, 3, 1, 1); /* would fit at once */
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
    ck_assert_uint_eq(core_counts(f.core).kv.held, 3);               /* one shared, a tail each */
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

/* ---- Shares, classes, floods ------------------------------------------------------------------------ */

#define NORMAL      0u
#define INTERACTIVE 1u
#define BATCH       2u

static void admit_as(uint32_t priority, uint32_t slot, uint32_t uid, uint32_t document,
                     uint32_t prompt_tokens, uint32_t max_tokens)
{
    f.terms.priority = priority;
    core_fixture_must_admit(&f, slot, uid, document, prompt_tokens, max_tokens);
    f.terms.priority = NORMAL;
}

START_TEST(prompts_are_computed_in_shares_of_the_weights)
{
    core_fixture_open(&f);
    f.terms.weight = 3;
    core_fixture_must_admit(&f, 0, 1000, 1, 60, 1);
    f.terms.weight = 1;
    core_fixture_must_admit(&f, 1, 1001, 2, 60, 1);
    uint32_t tokens[2] = {0};
    for (int i = 0; i < 4; i++) {
        ck_assert(core_fixture_plan(&f));
        tokens[0] += planned_for(0);
        tokens[1] += planned_for(1);
        core_fixture_complete(&f);
    }
    ck_assert_uint_eq(tokens[0] + tokens[1], 64);
    ck_assert_uint_ge(tokens[0], 46);
    ck_assert_uint_le(tokens[0], 50);
    core_fixture_drain(&f, 20);
}
END_TEST

START_TEST(who_comes_back_after_a_pause_has_no_credit)
{
    f.config.slab_count = 64;
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1001, 1, 2, 1);
    core_fixture_drain(&f, 5);
    for (uint32_t i = 0; i < 8; i++) { /* 1000 computes 480 tokens meanwhile */
        core_fixture_must_admit(&f, 1, 1000, 10 + i, 60, 1);
        core_fixture_drain(&f, 10);
    }
    core_fixture_must_admit(&f, 1, 1000, 20, 60, 1);
    core_fixture_must_admit(&f, 2, 1000, 21, 60, 1);
    core_fixture_step(&f);
    core_fixture_must_admit(&f, 0, 1001, 2, 60, 1);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(planned_for(0), 8);
    ck_assert_uint_eq(planned_for(1), 8);
    core_fixture_complete(&f);
    core_fixture_drain(&f, 20);
}
END_TEST

/* One request after the other, each done before the next comes, is no way past a queue. */
START_TEST(who_leaves_and_comes_back_still_owes)
{
    f.config.running_max = 2;
    f.config.user_running_max = 1;
    f.config.step_tokens = 2;
    core_fixture_open(&f);
    uint64_t ran[2] = {0};
    uint32_t document = 0;
    for (int step = 0; step < 300; step++) {
        if (core_request_info(f.core, 0).phase == CORE_PHASE_FREE)
            core_fixture_must_admit(&f, 0, 1000, ++document, 5, 1);
        for (uint32_t slot = 1; slot < 3; slot++)
            if (core_request_info(f.core, slot).phase == CORE_PHASE_FREE)
                core_fixture_must_admit(&f, slot, 1001, ++document, 20, 1);
        ck_assert(core_fixture_plan(&f));
        ran[0] += planned_for(0);
        ran[1] += planned_for(1) + planned_for(2);
        core_fixture_complete(&f);
        f.log_count = 0;
    }
    ck_assert_uint_ge(ran[1] + 8, ran[0]); /* it is 1001 that always waits */
}
END_TEST

START_TEST(higher_classes_start_first)
{
    f.config.running_max = 1;
    core_fixture_open(&f);
    admit_as(BATCH, 0, 1000, 1, 2, 2);
    admit_as(NORMAL, 1, 1001, 2, 2, 2);
    admit_as(INTERACTIVE, 2, 1002, 3, 2, 2);
    core_fixture_drain(&f, 20);
    ck_assert_uint_lt(started_at(2), started_at(1));
    ck_assert_uint_lt(started_at(1), started_at(0));
}
END_TEST

START_TEST(prompt_of_a_higher_class_takes_the_whole_budget)
{
    core_fixture_open(&f);
    admit_as(BATCH, 0, 1000, 1, 40, 1);
    core_fixture_step(&f);
    admit_as(INTERACTIVE, 1, 1001, 2, 40, 1);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(planned_for(1), 15);
    ck_assert_uint_eq(planned_for(0), 1); /* who ran has a row: it was the most entitled that ran */
    core_fixture_complete(&f);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(planned_for(1), 16);
    ck_assert_uint_eq(planned_for(0), 0);
    core_fixture_complete(&f);
    core_fixture_drain(&f, 20);
}
END_TEST

static void fill_seats(uint32_t priority, uint32_t uid)
{
    for (uint32_t slot = 0; slot < 4; slot++)
        admit_as(priority, slot, uid, slot + 1, 2, 50);
    core_fixture_step(&f);
    ck_assert_uint_eq(core_counts(f.core).running, 4);
}

START_TEST(interactive_work_takes_a_seat_from_batch_work_that_had_it_for_a_while)
{
    f.config.slab_count = 64;
    core_fixture_open(&f);
    fill_seats(BATCH, 1000);
    admit_as(INTERACTIVE, 4, 1001, 9, 2, 2);
    for (uint32_t i = 1; i < SCHEDULER_SEAT_STEPS; i++) { /* the batch work started in plan 1 */
        core_fixture_step(&f);
        ck_assert_int_eq(core_request_info(f.core, 4).phase, CORE_PHASE_QUEUED);
    }
    core_fixture_step(&f);
    ck_assert_int_eq(core_request_info(f.core, 4).phase, CORE_PHASE_DECODE);
    core_fixture_find(&f, CORE_REQUEST_PREEMPTED, 3, 0); /* the youngest */
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_PREEMPTED), 1);
    core_fixture_drain(&f, 100);
    core_fixture_find(&f, CORE_REQUEST_TOKEN, 3, 49); /* and nobody fails */
}
END_TEST

START_TEST(normal_work_takes_no_seats_and_nobody_takes_those_of_normal_work)
{
    f.config.slab_count = 64;
    core_fixture_open(&f);
    fill_seats(BATCH, 1000);
    admit_as(NORMAL, 4, 1001, 9, 2, 2);
    for (int i = 0; i < 30; i++)
        core_fixture_step(&f);
    ck_assert_int_eq(core_request_info(f.core, 4).phase, CORE_PHASE_QUEUED);
    core_fixture_drain(&f, 100);
    fill_seats(NORMAL, 1000);
    admit_as(INTERACTIVE, 4, 1001, 9, 2, 2);
    for (int i = 0; i < 30; i++)
        core_fixture_step(&f);
    ck_assert_int_eq(core_request_info(f.core, 4).phase, CORE_PHASE_QUEUED);
    ck_assert_uint_eq(core_counts(f.core).preemptions, 0);
    core_fixture_drain(&f, 100);
}
END_TEST

START_TEST(who_has_every_seat_it_may_takes_one_from_its_own_batch_work)
{
    f.terms.user_running_max = 2;
    core_fixture_open(&f);
    admit_as(BATCH, 0, 1000, 1, 2, 40);
    admit_as(BATCH, 1, 1000, 2, 2, 40);
    f.terms.user_running_max = 0;
    admit_as(BATCH, 2, 1001, 3, 2, 40);
    for (uint32_t i = 0; i <= SCHEDULER_SEAT_STEPS; i++)
        core_fixture_step(&f);
    f.terms.user_running_max = 2;
    admit_as(INTERACTIVE, 4, 1000, 9, 2, 2);
    core_fixture_step(&f);
    ck_assert_int_eq(core_request_info(f.core, 4).phase, CORE_PHASE_DECODE);
    core_fixture_find(&f, CORE_REQUEST_PREEMPTED, 1, 0);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_PREEMPTED), 1);
    core_fixture_drain(&f, 100);
}
END_TEST

/* A stream of interactive requests for every seat: batch work has a seat of sixteen steps' length at least, each time. */
START_TEST(batch_work_is_not_thrashed_by_short_interactive_requests)
{
    f.config.running_max = 2;
    f.config.user_running_max = 2;
    core_fixture_open(&f);
    admit_as(BATCH, 0, 1000, 1, 2, 60);
    admit_as(BATCH, 1, 1000, 2, 2, 60);
    for (uint32_t step = 0; step < 400; step++) {
        if (core_request_info(f.core, 2).phase == CORE_PHASE_FREE && step % 3 == 0)
            admit_as(INTERACTIVE, 2, 1001, 3, 2, 2);
        core_fixture_step(&f);
    }
    ck_assert_uint_le(core_counts(f.core).preemptions, 2 * 400 / SCHEDULER_SEAT_STEPS);
    ck_assert_int_eq(core_request_info(f.core, 0).phase, CORE_PHASE_FREE);
    ck_assert_int_eq(core_request_info(f.core, 1).phase, CORE_PHASE_FREE);
    core_fixture_drain(&f, 100);
}
END_TEST

START_TEST(batch_work_starts_at_last_whatever_the_others_do)
{
    f.config.running_max = 2;
    f.config.user_running_max = 2;
    f.config.overdue_steps = 20;
    core_fixture_open(&f);
    admit_as(BATCH, 0, 1000, 1, 30, 5);
    uint32_t step = 0;
    for (; core_request_info(f.core, 0).phase != CORE_PHASE_FREE; step++) {
        for (uint32_t slot = 1; slot < 6; slot++)
            if (core_request_info(f.core, slot).phase == CORE_PHASE_FREE)
                admit_as(INTERACTIVE, slot, 1000 + slot, slot + 1, 8, 20);
        ck_assert_uint_lt(step, 20 + 35 + 1); /* overdue, then a row in each step */
        core_fixture_step(&f);
        f.log_count = 0;
    }
    ck_assert_uint_gt(step, 20); /* and not a step earlier: they were more entitled */
}
END_TEST

/* Two users who are level and need each other's blocks: the elder has them, and they do not change hands each step. */
START_TEST(level_users_do_not_take_blocks_from_each_other_in_turns)
{
    f.config.slab_count = 8; /* sixteen blocks; each request needs twelve at its end */
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 15, 33);
    core_fixture_must_admit(&f, 1, 1001, 2, 15, 33);
    core_fixture_drain(&f, 200);
    ck_assert_uint_ge(core_counts(f.core).preemptions, 1);
    ck_assert_uint_le(core_counts(f.core).preemptions, 2);
}
END_TEST

START_TEST(waiting_tokens_of_one_user_are_bounded)
{
    core_fixture_open(&f);
    struct llm_error error;
    f.terms.user_queued_tokens = 50;
    core_fixture_must_admit(&f, 0, 1000, 1, 60, 1); /* one may always wait */
    ck_assert_int_eq(core_fixture_admit(&f, 1, 1000, 2, 1, 1, &error), LLM_ERR_BUSY);
    ck_assert_str_eq(error.message, "user 1000 has requests of 60 tokens waiting and may have 50; "
                                    "1 more are too many; try again");
    core_fixture_must_admit(&f, 1, 1001, 2, 30, 1);
    core_fixture_must_admit(&f, 2, 1001, 3, 20, 1);
    ck_assert_int_eq(core_fixture_admit(&f, 3, 1001, 4, 1, 1, &error), LLM_ERR_BUSY);
    ck_assert_uint_eq(core_counts(f.core).queued_tokens, 60 + 30 + 20);
    core_fixture_step(&f);
    ck_assert_uint_lt(core_counts(f.core).queued_tokens, 60 + 30 + 20);
    core_fixture_must_admit(&f, 3, 1000, 4, 1, 1); /* the long one runs */
    core_fixture_drain(&f, 30);
    ck_assert_uint_eq(core_counts(f.core).queued_tokens, 0);
}
END_TEST

START_TEST(weights_and_priorities_out_of_range_are_refused)
{
    core_fixture_open(&f);
    struct llm_error error;
    f.terms.weight = CORE_WEIGHT_MAX + 1;
    ck_assert_int_eq(core_fixture_admit(&f, 0, 1000, 1, 2, 2, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "weight 1001 is more than 1000");
    f.terms.weight = 0;
    f.terms.priority = 3;
    ck_assert_int_eq(core_fixture_admit(&f, 0, 1000, 1, 2, 2, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "priority 3 is not known");
}
END_TEST

/* Steps from the admission of a prompt of so many tokens to its first token; each is another document's. */
static uint32_t steps_to_first_token(uint32_t document, uint32_t prompt_tokens, bool flood)
{
    static uint32_t flood_document = 1000;
    uint32_t steps = 0;
    core_fixture_must_admit(&f, 0, 1000, document, prompt_tokens, 1);
    while (core_request_info(f.core, 0).phase != CORE_PHASE_FREE) {
        uint32_t offered = 0; /* fifty times its share: 50 * 8 tokens in each step */
        for (uint32_t slot = 1; flood && offered < 400; offered += 40) {
            struct llm_error error;
            while (slot < FIXTURE_SLOTS && core_request_info(f.core, slot).phase != CORE_PHASE_FREE)
                slot++;
            if (slot < FIXTURE_SLOTS)
                (void)core_fixture_admit(&f, slot, 1001, ++flood_document, 20 + offered % 3, 20,
                                         &error);
        }
        core_fixture_step(&f);
        f.log_count = 0;
        ck_assert_uint_lt(++steps, 200);
    }
    return steps;
}

START_TEST(a_flood_leaves_the_time_to_first_token_of_another_within_twice_its_quiet_one)
{
    const uint32_t prompt_tokens[] = {1, 4, 16, 17, 33, 60};
    f.config.slab_count = 64;
    f.config.queued_max = 12;
    f.config.user_queued_max = 11;
    f.config.user_running_max = 3;
    core_fixture_open(&f);
    uint32_t tokens = prompt_tokens[_i];
    uint32_t quiet = steps_to_first_token(1, tokens, false);
    ck_assert_uint_eq(quiet, (tokens + 15) / 16);
    for (uint32_t i = 0; i < 30; i++) {
        uint32_t steps = steps_to_first_token(2 + i, tokens, true);
        ck_assert_msg(steps <= 2 * quiet + 1, "prompt of %u tokens, time %u: %u steps, quiet %u",
                      tokens, i, steps, quiet);
        for (uint32_t pause = i % 4; pause > 0; pause--)
            core_fixture_step(&f);
    }
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
    tcase_add_test(tc, preempted_request_comes_back_before_others_of_its_user_start);
    tcase_add_test(tc, youngest_without_a_block_sits_out_and_disturbs_nobody);
    tcase_add_test(tc, request_starts_only_when_all_its_known_tokens_have_blocks);
    tcase_add_test(tc, request_as_large_as_the_pool_runs_in_the_end);
    tcase_add_test(tc, cached_blocks_are_evicted_before_anybody_is_preempted);
    tcase_add_test(tc, prompts_with_one_long_prefix_compute_it_once);
    tcase_add_test(tc, block_that_another_computes_is_waited_for);
    tcase_add_test(tc, whoever_waits_for_a_block_is_passed_by_others_of_its_user);
    tcase_add_test(tc, block_whose_maker_is_gone_is_computed_by_who_waited);
    tcase_add_test(tc, block_that_another_domain_computes_is_not_waited_for);
    tcase_add_test(tc, prompts_are_computed_in_shares_of_the_weights);
    tcase_add_test(tc, who_comes_back_after_a_pause_has_no_credit);
    tcase_add_test(tc, who_leaves_and_comes_back_still_owes);
    tcase_add_test(tc, higher_classes_start_first);
    tcase_add_test(tc, prompt_of_a_higher_class_takes_the_whole_budget);
    tcase_add_test(tc, interactive_work_takes_a_seat_from_batch_work_that_had_it_for_a_while);
    tcase_add_test(tc, normal_work_takes_no_seats_and_nobody_takes_those_of_normal_work);
    tcase_add_test(tc, who_has_every_seat_it_may_takes_one_from_its_own_batch_work);
    tcase_add_test(tc, batch_work_is_not_thrashed_by_short_interactive_requests);
    tcase_add_test(tc, batch_work_starts_at_last_whatever_the_others_do);
    tcase_add_test(tc, level_users_do_not_take_blocks_from_each_other_in_turns);
    tcase_add_test(tc, waiting_tokens_of_one_user_are_bounded);
    tcase_add_test(tc, weights_and_priorities_out_of_range_are_refused);
    tcase_add_loop_test(
        tc, a_flood_leaves_the_time_to_first_token_of_another_within_twice_its_quiet_one, 0, 6);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
