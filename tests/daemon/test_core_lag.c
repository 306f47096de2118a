/*
 * test_core_lag.c - daemon/core with a lag of 1: a step is planned before the tokens of the one before are known.
 * How: core_fixture.h; core_sane() holds after every call. What random programs do is the simulator's
 * (tests/sim/sim_core.c).
 */
#include <check.h>
#include <signal.h>

#include "tests/daemon/core_fixture.h"

static struct core_fixture f;

static void setup(void)
{
    core_fixture_init(&f);
    f.config.lag = 1;
}

static void teardown(void)
{
    core_fixture_close(&f);
}

/* ---- Plans that are out ------------------------------------------------------------------------------ */

static struct core_plan must_plan(void)
{
    ck_assert(core_fixture_plan(&f));
    return f.plan;
}

static void complete(const struct core_plan *plan)
{
    f.plan = *plan;
    core_fixture_complete(&f);
}

/* Two plans out whenever the core makes them, until nothing is left. Nobody is preempted in one made ahead. */
static void play(void)
{
    struct core_plan out[2];
    uint32_t count = 0;
    for (uint32_t call = 0;; call++) {
        ck_assert_uint_lt(call, 200);
        uint32_t preempted = core_fixture_count(&f, CORE_REQUEST_PREEMPTED);
        bool planned = core_fixture_plan(&f);
        ck_assert(count == 0 || core_fixture_count(&f, CORE_REQUEST_PREEMPTED) == preempted);
        if (planned)
            out[count++] = f.plan;
        if (!planned && count == 0)
            break;
        if (planned && count == 1)
            continue;
        complete(&out[0]);
        out[0] = out[1];
        count--;
    }
    ck_assert_uint_eq(core_counts(f.core).running + core_counts(f.core).queued, 0);
    ck_assert_uint_eq(core_counts(f.core).kv.held, 0);
}

static uint32_t finish_of(uint32_t slot)
{
    return f.log[core_fixture_find(&f, CORE_REQUEST_FINISHED, slot, 0)].value;
}

/* ---- What a plan ahead says --------------------------------------------------------------------------- */

START_TEST(id_that_is_being_chosen_is_pending)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 5, 4);
    struct core_plan first = must_plan();
    struct core_plan second = must_plan();
    ck_assert_uint_eq(second.step, first.step + 1);
    ck_assert_uint_eq(second.token_count, 1);
    ck_assert_uint_eq(second.sequences[0].first_position, 5);
    ck_assert_uint_eq(second.positions[0], 5);
    ck_assert_uint_eq(second.ids[0], CORE_ID_PENDING);
    ck_assert(second.sequences[0].wants_token);
    ck_assert_uint_eq(first.ids[4], 1004); /* the second has arrays of its own */
    complete(&first);
    ck_assert_uint_eq(f.log[core_fixture_find(&f, CORE_REQUEST_TOKEN, 0, 0)].value, 900005);
    ck_assert_uint_eq(second.ids[0], CORE_ID_PENDING);
    complete(&second);
    ck_assert_uint_eq(f.log[core_fixture_find(&f, CORE_REQUEST_TOKEN, 0, 1)].value, 900006);
    play();
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_TOKEN), 4);
    ck_assert_uint_eq(finish_of(0), CORE_FINISH_LENGTH);
}
END_TEST

START_TEST(prompt_goes_on_where_the_plan_before_ends)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 20, 1);
    struct core_plan first = must_plan();
    struct core_plan second = must_plan();
    ck_assert_uint_eq(first.token_count, 16);
    ck_assert(!first.sequences[0].wants_token);
    ck_assert_uint_eq(second.token_count, 4);
    ck_assert_uint_eq(second.sequences[0].first_position, 16);
    ck_assert_uint_eq(second.ids[3], 1019);
    ck_assert(second.sequences[0].wants_token);
    complete(&first);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_BLOCK_SEALED), 4);
    complete(&second);
    ck_assert_uint_eq(finish_of(0), CORE_FINISH_LENGTH);
}
END_TEST

START_TEST(last_token_by_length_is_not_fed_back)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 5, 1);
    struct core_plan first = must_plan();
    ck_assert(!core_fixture_plan(&f));
    complete(&first);
    ck_assert_uint_eq(finish_of(0), CORE_FINISH_LENGTH);
    ck_assert(!core_fixture_plan(&f));
}
END_TEST

/* ---- Ends that come to light when the next plan is out ------------------------------------------------- */

START_TEST(request_that_stops_is_computed_in_vain_and_ends_with_the_plan_ahead)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 5, 9);
    struct core_plan first = must_plan();
    struct core_plan second = must_plan();
    f.finish[0] = CORE_FINISH_STOP_ID;
    complete(&first);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_TOKEN), 1);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_FINISHED), 0);
    ck_assert_uint_eq(core_counts(f.core).kv.held, 2);
    ck_assert(!core_fixture_plan(&f));     /* it wants nothing more */
    ck_assert(core_fixture_cancel(&f, 0)); /* too late */
    complete(&second);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_TOKEN), 1);
    ck_assert_uint_eq(finish_of(0), CORE_FINISH_STOP_ID);
    ck_assert_uint_eq(core_counts(f.core).kv.held, 0);
    ck_assert_uint_eq(core_counts(f.core).kv.cached, 2);
}
END_TEST

START_TEST(failed_step_voids_the_rows_of_the_plan_ahead)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 20, 9);
    struct core_plan first = must_plan();
    struct core_plan second = must_plan();
    f.finish[0] = CORE_FINISH_FAILED;
    complete(&first);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_FINISHED), 0);
    complete(&second);
    ck_assert_uint_eq(finish_of(0), CORE_FINISH_FAILED);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_BLOCK_SEALED), 0);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_TOKEN), 0);
    ck_assert_uint_eq(core_counts(f.core).kv.held + core_counts(f.core).kv.cached, 0);
}
END_TEST

START_TEST(cancel_waits_for_the_last_plan_that_names_the_request)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 5, 9);
    struct core_plan first = must_plan();
    struct core_plan second = must_plan();
    ck_assert(core_fixture_cancel(&f, 0));
    complete(&first);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_FINISHED), 0);
    ck_assert_uint_eq(core_counts(f.core).kv.held, 2);
    complete(&second);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_TOKEN), 0);
    ck_assert_uint_eq(finish_of(0), CORE_FINISH_CANCELLED);
    ck_assert_uint_eq(core_counts(f.core).kv.cached,
                      2); /* five rows are right; the sixth nobody's */
    ck_assert_uint_eq(core_counts(f.core).tokens_computed, 5);
}
END_TEST

/* ---- Blocks that a plan names -------------------------------------------------------------------------- */

/* Two answers to one prompt fill equal blocks; the second one's is given up when it is full. */
START_TEST(block_given_up_for_an_equal_one_stays_until_the_plan_ahead_is_done)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 6, 9);
    core_fixture_must_admit(&f, 1, 1000, 1, 6, 9);
    core_fixture_step(&f); /* 1 waits for the first block of 0 */
    block_id own = BLOCK_NONE, theirs = BLOCK_NONE;
    struct core_plan first = must_plan();
    for (uint32_t step = 0; own == theirs && step < 8; step++) {
        const struct core_sequence *mine = core_fixture_sequence(&f, 1);
        own = theirs = mine->block_count > 1 ? mine->blocks[1] : BLOCK_NONE;
        struct core_plan second = must_plan();
        complete(&first);
        f.plan = first = second;
        mine = core_fixture_sequence(&f, 1);
        ck_assert_ptr_nonnull(mine);
        if (own != BLOCK_NONE)
            theirs = mine->blocks[1];
    }
    ck_assert_uint_ne(own, theirs);
    ck_assert_uint_eq(theirs, core_fixture_sequence(&f, 0)->blocks[1]);
    ck_assert_int_eq(core_block_view(f.core, own).state, CORE_STATE_HELD);
    complete(&first);
    ck_assert_int_eq(core_block_view(f.core, own).state, CORE_STATE_FREE);
    play();
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_TOKEN), 18);
}
END_TEST

START_TEST(preemption_waits_until_no_plan_is_out)
{
    f.config.slab_count = 2; /* 16 rows */
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 7, 9);
    core_fixture_must_admit(&f, 1, 1000, 2, 7, 9);
    play();
    ck_assert_uint_gt(core_fixture_count(&f, CORE_REQUEST_PREEMPTED), 0);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_TOKEN), 18);
}
END_TEST

/* ---- Calls out of order -------------------------------------------------------------------------------- */

START_TEST(third_plan_before_the_first_is_complete_stops_the_process)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 9);
    (void)must_plan();
    (void)must_plan();
    core_fixture_plan(&f);
}
END_TEST

START_TEST(completing_the_later_plan_first_stops_the_process)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 9);
    (void)must_plan();
    (void)must_plan();
    core_fixture_complete(&f);
}
END_TEST

static TCase *cases(void)
{
    TCase *tc = tcase_create("lag");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, id_that_is_being_chosen_is_pending);
    tcase_add_test(tc, prompt_goes_on_where_the_plan_before_ends);
    tcase_add_test(tc, last_token_by_length_is_not_fed_back);
    tcase_add_test(tc, request_that_stops_is_computed_in_vain_and_ends_with_the_plan_ahead);
    tcase_add_test(tc, failed_step_voids_the_rows_of_the_plan_ahead);
    tcase_add_test(tc, cancel_waits_for_the_last_plan_that_names_the_request);
    tcase_add_test(tc, block_given_up_for_an_equal_one_stays_until_the_plan_ahead_is_done);
    tcase_add_test(tc, preemption_waits_until_no_plan_is_out);
    tcase_add_test_raise_signal(tc, third_plan_before_the_first_is_complete_stops_the_process,
                                SIGABRT);
    tcase_add_test_raise_signal(tc, completing_the_later_plan_first_stops_the_process, SIGABRT);
    return tc;
}

int main(void)
{
    Suite *suite = suite_create("daemon/core_lag");
    suite_add_tcase(suite, cases());
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
