/*
 * test_queue.c - shm/queue: order, limits, several producers, a peer that lies.
 * How: both sides in one process over plain memory. Edge cases are rows of start positions, set as if that many
 * submissions had passed before; the random test plays pushes and takes against a counter.
 */
#include "shm/queue.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>

#include "tests/support/memories.h"
#include "tests/support/test_seed.h"

#define ENTRIES 8u

static const struct llm_geometry geometry = {.queue_entries = ENTRIES,
                                             .event_entries = 8,
                                             .stream_slots = 4,
                                             .log_words = 1024,
                                             .arena_bytes = LLM_PAGE_BYTES};
static const uint64_t start_positions[] = {
    0, ENTRIES - 1, ENTRIES, UINT32_MAX, UINT64_C(1) << 62,
};
static struct memories memories;
static struct llm_queue_producer producer;
static struct llm_queue_consumer consumer;
static struct llm_up_header *up;
static struct llm_down_header *down;

/* As if `position` submissions had passed. */
static void start_at(uint64_t position)
{
    llm_queue_producer_init(&producer, memories.up, memories.down, &geometry);
    llm_queue_consumer_init(&consumer, memories.up, memories.down, &geometry, position);
    atomic_store(&up->queue_tail, position);
    for (uint64_t back = 1; back <= ENTRIES && back <= position; back++) {
        uint64_t passed = position - back;
        atomic_store(&producer.entries[passed % ENTRIES].stamp, passed + 1);
    }
}

static void setup(void)
{
    memories_open(&memories, &geometry);
    up = memories.up;
    down = memories.down;
    start_at(0);
}

static void teardown(void)
{
    memories_close(&memories);
}

static enum llm_status push(uint64_t argument)
{
    uint64_t position;
    return llm_queue_push(&producer, &(struct llm_submission){.argument = argument}, &position);
}

static enum llm_status take(uint64_t *out_argument)
{
    struct llm_submission submission;
    enum llm_status status = llm_queue_peek(&consumer, &submission);
    if (status == LLM_OK) {
        llm_queue_advance(&consumer);
        *out_argument = submission.argument;
    }
    return status;
}

START_TEST(submissions_arrive_whole_and_in_order)
{
    start_at(start_positions[_i]);
    for (uint64_t i = 0; i < 3 * ENTRIES; i++) {
        struct llm_submission sent = {.operation = LLM_OP_GENERATE,
                                      .stream_slot = 3,
                                      .stream_epoch = 77,
                                      .log_offset = 5,
                                      .log_words = 6,
                                      .body_offset = 8,
                                      .body_bytes = 9,
                                      .deadline_ns = UINT64_MAX,
                                      .argument = i,
                                      .reserved3 = i};
        uint64_t position;
        ck_assert_int_eq(llm_queue_push(&producer, &sent, &position), LLM_OK);
        ck_assert_uint_eq(position, start_positions[_i] + i);
        ck_assert(!llm_queue_taken(&producer, position));
        struct llm_submission got;
        ck_assert_int_eq(llm_queue_peek(&consumer, &got), LLM_OK);
        llm_queue_advance(&consumer);
        ck_assert(llm_queue_taken(&producer, position));
        atomic_store(&sent.stamp, position + 1);
        ck_assert_mem_eq(&got, &sent, sizeof got);
    }
}
END_TEST

START_TEST(a_full_queue_says_busy_and_an_empty_one_times_out)
{
    start_at(start_positions[_i]);
    uint64_t argument = 99;
    ck_assert_int_eq(take(&argument), LLM_ERR_TIMEOUT);
    for (uint64_t i = 0; i < ENTRIES; i++)
        ck_assert_int_eq(push(i), LLM_OK);
    ck_assert_int_eq(push(ENTRIES), LLM_ERR_BUSY);
    for (uint64_t i = 0; i < ENTRIES; i++) {
        ck_assert_int_eq(take(&argument), LLM_OK);
        ck_assert_uint_eq(argument, i);
    }
    ck_assert_int_eq(take(&argument), LLM_ERR_TIMEOUT);
    ck_assert_uint_eq(argument, ENTRIES - 1); /* out-parameters survive a failure */
    ck_assert_int_eq(push(0), LLM_OK);
}
END_TEST

START_TEST(peeking_again_gives_the_same_submission)
{
    ck_assert_int_eq(push(41), LLM_OK);
    struct llm_submission first, second;
    ck_assert_int_eq(llm_queue_peek(&consumer, &first), LLM_OK);
    ck_assert_int_eq(llm_queue_peek(&consumer, &second), LLM_OK);
    ck_assert_uint_eq(first.argument, second.argument);
    ck_assert_uint_eq(atomic_load(&down->queue_head), 0);
}
END_TEST

START_TEST(a_restarted_consumer_goes_on_at_the_position_it_is_given)
{
    for (uint64_t i = 0; i < 5; i++)
        ck_assert_int_eq(push(i), LLM_OK);
    uint64_t argument;
    ck_assert_int_eq(take(&argument), LLM_OK);
    atomic_store(&down->queue_head, 12345); /* what `down` says is not believed */
    llm_queue_consumer_init(&consumer, memories.up, memories.down, &geometry, 1);
    ck_assert_uint_eq(atomic_load(&down->queue_head), 1);
    ck_assert_int_eq(take(&argument), LLM_OK);
    ck_assert_uint_eq(argument, 1);
}
END_TEST

START_TEST(a_claimed_but_unpublished_entry_is_not_there_yet)
{
    atomic_store(&up->queue_tail, 1);
    uint64_t argument;
    ck_assert_int_eq(take(&argument), LLM_ERR_TIMEOUT);
    ck_assert_int_eq(push(7), LLM_OK); /* the next position is whole, the first is still not */
    ck_assert_int_eq(take(&argument), LLM_ERR_TIMEOUT);
    atomic_store(&producer.entries[0].stamp, 1);
    ck_assert_int_eq(take(&argument), LLM_OK);
    ck_assert_int_eq(take(&argument), LLM_OK);
    ck_assert_uint_eq(argument, 7);
}
END_TEST

START_TEST(random_pushes_and_takes_agree_with_a_counter)
{
    uint64_t seed = test_seed(), random = seed;
    uint64_t pushed = 0, taken = 0;
    start_at(start_positions[_i]);
    for (int step = 0; step < 5000; step++) {
        uint64_t argument = 0;
        if (test_random(&random) % 2) {
            enum llm_status want = pushed - taken == ENTRIES ? LLM_ERR_BUSY : LLM_OK;
            ck_assert_msg(push(pushed) == want, "seed %#lx step %d: push", seed, step);
            pushed += want == LLM_OK;
        } else {
            enum llm_status want = pushed == taken ? LLM_ERR_TIMEOUT : LLM_OK;
            ck_assert_msg(take(&argument) == want, "seed %#lx step %d: take", seed, step);
            ck_assert_msg(want != LLM_OK || argument == taken, "seed %#lx step %d: took %lu", seed,
                          step, argument);
            taken += want == LLM_OK;
        }
    }
}
END_TEST

/* ---- Several producers ---------------------------------------------------------------------------- */

#define THREADS    3u
#define PER_THREAD 5000u

static void *produce(void *thread_number)
{
    uint64_t thread = (uint64_t)(uintptr_t)thread_number;
    for (uint64_t i = 0; i < PER_THREAD;) {
        enum llm_status status = push(thread << 32 | i);
        if (status == LLM_OK)
            i++;
        else if (status == LLM_ERR_BUSY)
            sched_yield();
        else
            return thread_number; /* a lie where nobody lied */
    }
    return NULL;
}

START_TEST(several_threads_lose_and_double_nothing_and_keep_their_order)
{
    start_at(start_positions[_i]);
    pthread_t threads[THREADS];
    for (uintptr_t t = 0; t < THREADS; t++)
        ck_assert_int_eq(pthread_create(&threads[t], NULL, produce, (void *)t), 0);
    uint64_t next[THREADS] = {0};
    for (uint32_t taken = 0; taken < THREADS * PER_THREAD;) {
        uint64_t argument;
        enum llm_status status = take(&argument);
        if (status == LLM_ERR_TIMEOUT) {
            sched_yield();
            continue;
        }
        ck_assert_int_eq(status, LLM_OK);
        ck_assert_uint_lt(argument >> 32, THREADS);
        ck_assert_uint_eq((uint32_t)argument, next[argument >> 32]++);
        taken++;
    }
    for (uintptr_t t = 0; t < THREADS; t++) {
        void *lie;
        pthread_join(threads[t], &lie);
        ck_assert_ptr_null(lie);
    }
    uint64_t argument;
    ck_assert_int_eq(take(&argument), LLM_ERR_TIMEOUT);
}
END_TEST

/* ---- Peers that lie ------------------------------------------------------------------------------- */

START_TEST(a_tail_beyond_the_queue_is_reported)
{
    const uint64_t lies[] = {ENTRIES + 1, UINT64_MAX, UINT64_C(1) << 63, 1000};
    atomic_store(&up->queue_tail, lies[_i]);
    uint64_t argument = 99;
    ck_assert_int_eq(take(&argument), LLM_ERR_PEER);
    ck_assert_uint_eq(argument, 99);
    ck_assert_uint_eq(atomic_load(&down->queue_head), 0);
}
END_TEST

START_TEST(a_tail_that_goes_back_is_reported)
{
    uint64_t argument;
    ck_assert_int_eq(push(0), LLM_OK);
    ck_assert_int_eq(take(&argument), LLM_OK);
    atomic_store(&up->queue_tail, 0);
    ck_assert_int_eq(take(&argument), LLM_ERR_PEER);
}
END_TEST

START_TEST(a_stamp_that_no_producer_leaves_is_reported)
{
    const uint64_t start = 3 * ENTRIES + 2;
    const uint64_t lies[] = {start + 2, start, 0, UINT64_MAX, start + 1 + ENTRIES};
    start_at(start);
    atomic_store(&up->queue_tail, start + 1);
    atomic_store(&producer.entries[start % ENTRIES].stamp, lies[_i]);
    uint64_t argument = 99;
    ck_assert_int_eq(take(&argument), LLM_ERR_PEER);
    ck_assert_uint_eq(argument, 99);
}
END_TEST

START_TEST(a_head_ahead_of_the_tail_is_reported_to_the_client)
{
    const uint64_t lies[] = {1, UINT64_MAX, UINT64_C(1) << 63};
    atomic_store(&down->queue_head, lies[_i]);
    uint64_t want_fill = 0 - lies[_i];
    ck_assert_int_eq(push(0), want_fill < ENTRIES ? LLM_OK : LLM_ERR_PEER);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/queue");
    TCase *tc = tcase_create("queue");
    int starts = sizeof start_positions / sizeof start_positions[0];
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, submissions_arrive_whole_and_in_order, 0, starts);
    tcase_add_loop_test(tc, a_full_queue_says_busy_and_an_empty_one_times_out, 0, starts);
    tcase_add_test(tc, peeking_again_gives_the_same_submission);
    tcase_add_test(tc, a_restarted_consumer_goes_on_at_the_position_it_is_given);
    tcase_add_test(tc, a_claimed_but_unpublished_entry_is_not_there_yet);
    tcase_add_loop_test(tc, random_pushes_and_takes_agree_with_a_counter, 0, starts);
    tcase_add_loop_test(tc, several_threads_lose_and_double_nothing_and_keep_their_order, 0, 2);
    tcase_add_loop_test(tc, a_tail_beyond_the_queue_is_reported, 0, 4);
    tcase_add_test(tc, a_tail_that_goes_back_is_reported);
    tcase_add_loop_test(tc, a_stamp_that_no_producer_leaves_is_reported, 0, 5);
    tcase_add_loop_test(tc, a_head_ahead_of_the_tail_is_reported_to_the_client, 0, 3);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
