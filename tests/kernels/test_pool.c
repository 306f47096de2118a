/*
 * test_pool.c - kernels/cpu/pool: every member works once per job, results are visible, nothing is left behind.
 * How: plain (not atomic) counters, one per member, are written in the job and read by the caller after it; the
 * thread sanitizer's build of this test is what proves the ordering.
 */
#include "kernels/cpu/pool.h"

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    THREADS_MAX = 9
};

struct tally {
    uint32_t count;             /* what each member was told */
    uint64_t runs[THREADS_MAX]; /* plain: only member i writes [i] */
    uint64_t input;             /* plain: the caller writes between jobs */
    uint64_t sum[THREADS_MAX];
};

static void tally_job(void *argument, uint32_t index, uint32_t count)
{
    struct tally *tally = argument;
    if (count == tally->count) /* else it shows as a share that is missing */
        tally->runs[index]++;
    tally->sum[index] += tally->input;
}

static const uint32_t thread_counts[] = {1, 2, 3, 4, THREADS_MAX};

enum {
    THREAD_COUNTS = sizeof thread_counts / sizeof thread_counts[0]
};

static void pool_open(struct cpu_pool *pool, uint32_t threads)
{
    struct llm_error error;
    ck_assert_msg(cpu_pool_open(pool, threads, &error) == LLM_OK, "%s", error.message);
}

START_TEST(every_member_does_its_share_of_every_job_exactly_once)
{
    enum {
        JOBS = 3000
    };
    struct cpu_pool pool;
    struct tally tally = {.count = thread_counts[_i]};
    pool_open(&pool, tally.count);
    uint64_t inputs = 0;
    for (uint64_t job = 1; job <= JOBS; job++) {
        tally.input = job;
        inputs += job;
        cpu_pool_run(&pool, tally_job, &tally);
        bool all = true;
        for (uint32_t i = 0; i < tally.count; i++)
            all = all && tally.runs[i] == job && tally.sum[i] == inputs;
        ck_assert_msg(all, "job %llu is not done by all members", (unsigned long long)job);
    }
    cpu_pool_close(&pool);
}
END_TEST

static void pause_ns(long nanoseconds)
{
    nanosleep(&(struct timespec){0, nanoseconds}, NULL);
}

/* The pauses lie on both sides of the time a member looks before it sleeps. */
START_TEST(members_that_fell_asleep_are_woken)
{
    struct cpu_pool pool;
    struct tally tally = {.count = thread_counts[_i]};
    pool_open(&pool, tally.count);
    for (uint64_t job = 1; job <= 60; job++) {
        pause_ns((long)(job % 6) * 100000);
        cpu_pool_run(&pool, tally_job, &tally);
        for (uint32_t i = 0; i < tally.count; i++)
            ck_assert_uint_eq(tally.runs[i], job);
    }
    cpu_pool_close(&pool);
}
END_TEST

static void slow_member_job(void *argument, uint32_t index, uint32_t count)
{
    if (index + 1 == count) /* long enough for the caller to fall asleep */
        pause_ns(3000000);
    tally_job(argument, index, count);
}

START_TEST(a_caller_that_fell_asleep_is_woken_by_the_last_member)
{
    struct cpu_pool pool;
    struct tally tally = {.count = thread_counts[_i]};
    pool_open(&pool, tally.count);
    for (uint64_t job = 1; job <= 10; job++) {
        cpu_pool_run(&pool, slow_member_job, &tally);
        for (uint32_t i = 0; i < tally.count; i++)
            ck_assert_uint_eq(tally.runs[i], job);
    }
    cpu_pool_close(&pool);
}
END_TEST

START_TEST(a_pool_can_be_closed_at_any_moment_after_open)
{
    for (int round = 0; round < 60; round++) {
        struct cpu_pool pool;
        struct tally tally = {.count = thread_counts[_i]};
        pool_open(&pool, tally.count);
        if (round % 3 == 1)
            cpu_pool_run(&pool, tally_job, &tally);
        if (round % 20 == 2)
            pause_ns(500000); /* the members sleep */
        cpu_pool_close(&pool);
    }
}
END_TEST

static int64_t cpu_time_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* 100 ms of idling may cost each member its short look (well under 1 ms) and no more; a spinning pool would burn
 * 100 ms per processor. This compares processor time with processor time, so a loaded machine cannot fail it. */
START_TEST(an_idle_pool_uses_no_processor)
{
    struct cpu_pool pool;
    struct tally tally = {.count = 2};
    pool_open(&pool, 2);
    cpu_pool_run(&pool, tally_job, &tally);
    int64_t before = cpu_time_ns();
    pause_ns(100000000);
    int64_t used = cpu_time_ns() - before;
    ck_assert_msg(used < 20000000, "%lld ns of processor time while idle", (long long)used);
    cpu_pool_close(&pool);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernels/pool");
    TCase *tc = tcase_create("pool");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, every_member_does_its_share_of_every_job_exactly_once, 0,
                        THREAD_COUNTS);
    tcase_add_loop_test(tc, members_that_fell_asleep_are_woken, 0, THREAD_COUNTS);
    tcase_add_loop_test(tc, a_caller_that_fell_asleep_is_woken_by_the_last_member, 0,
                        THREAD_COUNTS);
    tcase_add_loop_test(tc, a_pool_can_be_closed_at_any_moment_after_open, 0, THREAD_COUNTS);
    tcase_add_test(tc, an_idle_pool_uses_no_processor);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
