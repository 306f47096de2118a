/*
 * test_doorbells.c - daemon/engine/doorbells: who rings is heard, and who does not costs nothing.
 * How: each kind runs the same cases: epoll; io_uring with completions made in the kernel when we enter it; io_uring as
 * older kernels have it; io_uring with a completion ring so small that polls end for want of room. Bells are never
 * read, as in the engine. Where io_uring is not built in or not allowed, a sentence says so and epoll runs alone.
 */
#include "daemon/engine/doorbells.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/log.h"
#include "shm/clock.h"

#define BELLS           1000u
#define SMALL_RING      64u /* completions */
#define PASSES_MAX      10000u
#define DESCRIPTORS_MIN 1200u

static const struct kind {
    const char *text, *disable;
    uint32_t completion_max; /* 0: epoll */
} kinds[] = {
    {"epoll", "", 0},
    {"io_uring", "", DOORBELLS_COMPLETION_MAX},
    {"io_uring, older flags", "io_uring_defer", DOORBELLS_COMPLETION_MAX},
    {"io_uring, small ring", "", SMALL_RING},
};

static struct doorbells *doorbells;
static int channel[2];                            /* [0] the engine's end */
static uint32_t rings_by_slot[DOORBELLS_MAX + 1]; /* since collect() was called */

/* ---- Help ------------------------------------------------------------------------------------------ */

static void open_kind(int index)
{
    const struct kind *kind = &kinds[index];
    struct llm_error error = {0};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
    setenv("LLMD_DISABLE", kind->disable, 1);
    enum llm_status status =
        kind->completion_max == 0
            ? doorbells_epoll_open(&doorbells, channel[0], &error)
            : doorbells_uring_open(&doorbells, channel[0], kind->completion_max, &error);
    ck_assert_msg(status == LLM_OK, "%s: %s", kind->text, error.message);
}

static void teardown(void)
{
    if (doorbells)
        doorbells->ops->close(doorbells);
    doorbells = NULL;
    close(channel[0]);
    close(channel[1]);
}

static int new_bell(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void ring_by(int fd, uint64_t amount)
{
    ck_assert_int_eq(write(fd, &amount, sizeof amount), sizeof amount);
}

static void add(uint32_t slot, int fd)
{
    struct llm_error error = {0};
    ck_assert_msg(doorbells->ops->add(doorbells, slot, fd, &error) == LLM_OK, "%s", error.message);
}

static uint32_t wait_until(uint64_t deadline_ns)
{
    uint32_t slots[DOORBELLS_AT_ONCE];
    uint32_t count = doorbells->ops->wait(doorbells, deadline_ns, slots);
    ck_assert_uint_le(count, DOORBELLS_AT_ONCE);
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_uint_le(slots[i], DOORBELL_CHANNEL);
        rings_by_slot[slots[i]]++;
    }
    return count;
}

/* Look until nobody rings any more; how many rang. */
static uint32_t collect(void)
{
    uint32_t sum = 0, silent_passes = 0, passes = 0;
    memset(rings_by_slot, 0, sizeof rings_by_slot);
    while (silent_passes < 3) {
        uint32_t count = wait_until(0);
        sum += count;
        silent_passes = count == 0 ? silent_passes + 1 : 0;
        ck_assert_msg(++passes < PASSES_MAX, "%u rings and no end", sum);
    }
    return sum;
}

/* Check's macros evaluate their arguments again for the message; a function does not. */
static void expect_rings(uint32_t got, uint32_t want)
{
    ck_assert_uint_eq(got, want);
}

/* ---- Bells ----------------------------------------------------------------------------------------- */

START_TEST(each_write_rings_though_nothing_is_ever_read)
{
    open_kind(_i);
    int fd = new_bell();
    add(7, fd);
    expect_rings(collect(), 0);
    for (int round = 0; round < 100; round++) {
        ring_by(fd, 1);
        expect_rings(collect(), 1);
        ck_assert_uint_eq(rings_by_slot[7], 1);
    }
    close(fd);
}
END_TEST

START_TEST(a_bell_that_rang_before_it_was_added_is_heard)
{
    open_kind(_i);
    int fd = new_bell();
    ring_by(fd, 3);
    add(DOORBELLS_MAX - 1, fd);
    expect_rings(collect(), 1);
    ck_assert_uint_eq(rings_by_slot[DOORBELLS_MAX - 1], 1);
    close(fd);
}
END_TEST

/* The engine's cost while it is idle: wake-ups. */
START_TEST(a_counter_filled_to_the_brim_wakes_once)
{
    open_kind(_i);
    int fd = new_bell();
    add(0, fd);
    ring_by(fd, UINT64_MAX - 1);
    uint64_t one = 1;
    ck_assert_int_eq(write(fd, &one, sizeof one), -1);
    ck_assert_int_eq(errno, EAGAIN);
    uint32_t wake_ups = 0;
    for (int i = 0; i < 20; i++)
        wake_ups += wait_until(llm_deadline_ns(2 * LLM_NS_PER_MS));
    ck_assert_uint_eq(wake_ups, 1);
    close(fd);
}
END_TEST

START_TEST(a_client_that_reads_its_own_bell_disturbs_nobody)
{
    open_kind(_i);
    int fd = new_bell(), other = new_bell();
    add(0, fd);
    add(1, other);
    uint64_t value;
    for (int i = 0; i < 10; i++) {
        ring_by(fd, 1);
        ck_assert_int_eq(read(fd, &value, sizeof value), sizeof value);
    }
    collect();
    ring_by(other, 1);
    expect_rings(collect(), 1);
    ck_assert_uint_eq(rings_by_slot[1], 1);
    ring_by(fd, 1);
    expect_rings(collect(), 1);
    ck_assert_uint_eq(rings_by_slot[0], 1);
    close(fd);
    close(other);
}
END_TEST

static atomic_bool writer_stops;

static void *ring_without_end(void *fd)
{
    uint64_t one = 1;
    while (!atomic_load(&writer_stops))
        (void)!write(*(const int *)fd, &one, sizeof one);
    return NULL;
}

START_TEST(a_client_that_rings_without_end_does_not_drown_another)
{
    open_kind(_i);
    int noisy = new_bell(), quiet = new_bell();
    add(0, noisy);
    add(1, quiet);
    pthread_t writer;
    ck_assert_int_eq(pthread_create(&writer, NULL, ring_without_end, &noisy), 0);
    for (int round = 0; round < 20; round++) {
        memset(rings_by_slot, 0, sizeof rings_by_slot);
        ring_by(quiet, 1);
        for (uint32_t passes = 0; rings_by_slot[1] == 0; passes++) {
            wait_until(UINT64_MAX);
            ck_assert_uint_lt(passes, PASSES_MAX);
        }
    }
    atomic_store(&writer_stops, true);
    pthread_join(writer, NULL);
    close(noisy);
    close(quiet);
}
END_TEST

/* ---- Coming and going ------------------------------------------------------------------------------ */

START_TEST(a_removed_bell_is_silent_though_another_descriptor_of_it_lives)
{
    open_kind(_i);
    int fd = new_bell(), kept = dup(fd);
    add(5, fd);
    doorbells->ops->remove(doorbells, 5, fd);
    close(fd);
    collect();
    ring_by(kept, 1);
    expect_rings(collect(), 0);
    close(kept);
}
END_TEST

/* More ring than one wait gives; then all of them leave, and others move into their slots. */
START_TEST(a_late_ring_of_a_slots_last_owner_is_not_its_next_owners)
{
    open_kind(_i);
    int fds[3 * DOORBELLS_AT_ONCE];
    const uint32_t count = sizeof fds / sizeof fds[0];
    for (uint32_t slot = 0; slot < count; slot++)
        add(slot, fds[slot] = new_bell());
    for (uint32_t slot = 0; slot < count; slot++)
        ring_by(fds[slot], 1);
    uint32_t given = wait_until(0);
    ck_assert_uint_gt(given, 0);
    ck_assert_uint_lt(given, count);
    for (uint32_t slot = 0; slot < count; slot++) {
        doorbells->ops->remove(doorbells, slot, fds[slot]);
        close(fds[slot]);
    }
    for (uint32_t slot = 0; slot < count; slot++)
        add(slot, fds[slot] = new_bell());
    expect_rings(collect(), 0);
    ring_by(fds[count - 1], 1);
    expect_rings(collect(), 1);
    ck_assert_uint_eq(rings_by_slot[count - 1], 1);
    for (uint32_t slot = 0; slot < count; slot++)
        close(fds[slot]);
}
END_TEST

START_TEST(a_thousand_bells_are_all_heard_again_and_again)
{
    open_kind(_i);
    static int fds[BELLS];
    for (uint32_t slot = 0; slot < BELLS; slot++)
        add(slot, fds[slot] = new_bell());
    for (int round = 0; round < 5; round++) {
        for (uint32_t slot = 0; slot < BELLS; slot++)
            ring_by(fds[slot], 1);
        uint32_t count = collect();
        for (uint32_t slot = 0; slot < BELLS; slot++)
            ck_assert_msg(rings_by_slot[slot] > 0, "round %d: bell %u was not heard", round, slot);
        if (kinds[_i].completion_max != SMALL_RING) /* where polls end, arming counts once more */
            ck_assert_uint_eq(count, BELLS);
    }
    for (uint32_t slot = 0; slot < BELLS; slot++)
        close(fds[slot]);
}
END_TEST

START_TEST(slots_are_used_again_thousands_of_times)
{
    open_kind(_i);
    for (uint32_t i = 0; i < 3000; i++) {
        int fd = new_bell();
        add(i % 3, fd);
        ring_by(fd, 1);
        expect_rings(collect(), 1);
        ck_assert_uint_eq(rings_by_slot[i % 3], 1);
        doorbells->ops->remove(doorbells, i % 3, fd);
        close(fd);
    }
}
END_TEST

/* ---- The channel, and time ------------------------------------------------------------------------- */

START_TEST(the_channel_wakes_until_all_was_read)
{
    open_kind(_i);
    char byte;
    expect_rings(wait_until(0), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(send(channel[1], "!", 1, 0), 1);
    for (int left = 2; left > 0; left--) {
        for (int i = 0; i < 3; i++) {
            memset(rings_by_slot, 0, sizeof rings_by_slot);
            expect_rings(wait_until(UINT64_MAX), 1);
            ck_assert_uint_eq(rings_by_slot[DOORBELL_CHANNEL], 1);
        }
        ck_assert_int_eq(recv(channel[0], &byte, 1, MSG_DONTWAIT), 1);
    }
    collect(); /* armed before the last was read, perhaps */
    expect_rings(collect(), 0);
    ck_assert_int_eq(shutdown(channel[1], SHUT_RDWR), 0);
    expect_rings(wait_until(UINT64_MAX), 1); /* the keeper is gone */
}
END_TEST

START_TEST(waiting_lasts_until_the_deadline)
{
    open_kind(_i);
    uint64_t deadline_ns = llm_deadline_ns(20 * LLM_NS_PER_MS);
    uint32_t waits = 0;
    for (; llm_now_ns() < deadline_ns; waits++)
        expect_rings(wait_until(deadline_ns), 0);
    ck_assert_uint_ge(waits, 1);
    ck_assert_uint_le(waits, 5);    /* it slept */
    expect_rings(wait_until(1), 0); /* long past */
}
END_TEST

static void *ring_soon(void *fd)
{
    usleep(10000);
    ring_by(*(const int *)fd, 1);
    return NULL;
}

START_TEST(a_ring_ends_a_wait_without_limit)
{
    open_kind(_i);
    int fd = new_bell();
    add(3, fd);
    for (int round = 0; round < 5; round++) {
        pthread_t ringer;
        collect();
        ck_assert_int_eq(pthread_create(&ringer, NULL, ring_soon, &fd), 0);
        while (rings_by_slot[3] == 0)
            wait_until(UINT64_MAX);
        pthread_join(ringer, NULL);
    }
    close(fd);
}
END_TEST

/* ---- Which kind ------------------------------------------------------------------------------------ */

START_TEST(io_uring_that_is_disabled_is_replaced_by_epoll)
{
    struct llm_error error = {0};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
    setenv("LLMD_DISABLE", "noexec_seal,io_uring", 1);
    ck_assert_int_eq(doorbells_open(&doorbells, channel[0], &error), LLM_OK);
    ck_assert_str_eq(doorbells->ops->name, "epoll");
}
END_TEST

START_TEST(io_uring_that_works_is_used)
{
    struct llm_error error = {0};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
    unsetenv("LLMD_DISABLE");
    ck_assert_int_eq(doorbells_open(&doorbells, channel[0], &error), LLM_OK);
    ck_assert_str_eq(doorbells->ops->name, "io_uring");
}
END_TEST

/* Asks the kernel itself: parameters that it cannot read are EFAULT where it may be asked at all. */
static bool io_uring_is_here(void)
{
    if (!LLMD_HAVE_LIBURING) {
        puts("skipped: built without liburing; only epoll is tested");
        return false;
    }
    if (syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno != EFAULT) {
        printf("skipped: no io_uring here (%s); only epoll is tested\n", strerror(errno));
        return false;
    }
    return true;
}

static Suite *doorbells_suite(bool with_uring)
{
    Suite *suite = suite_create("doorbells");
    TCase *tc = tcase_create("doorbells");
    const int kind_end = with_uring ? (int)(sizeof kinds / sizeof kinds[0]) : 1;
    const TTest *const of_each_kind[] = {
        each_write_rings_though_nothing_is_ever_read,
        a_bell_that_rang_before_it_was_added_is_heard,
        a_counter_filled_to_the_brim_wakes_once,
        a_client_that_reads_its_own_bell_disturbs_nobody,
        a_client_that_rings_without_end_does_not_drown_another,
        a_removed_bell_is_silent_though_another_descriptor_of_it_lives,
        a_late_ring_of_a_slots_last_owner_is_not_its_next_owners,
        a_thousand_bells_are_all_heard_again_and_again,
        slots_are_used_again_thousands_of_times,
        the_channel_wakes_until_all_was_read,
        waiting_lasts_until_the_deadline,
        a_ring_ends_a_wait_without_limit,
    };
    tcase_add_checked_fixture(tc, NULL, teardown);
    for (size_t i = 0; i < sizeof of_each_kind / sizeof of_each_kind[0]; i++)
        tcase_add_loop_test(tc, of_each_kind[i], 0, kind_end);
    tcase_add_test(tc, io_uring_that_is_disabled_is_replaced_by_epoll);
    if (with_uring)
        tcase_add_test(tc, io_uring_that_works_is_used);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < DESCRIPTORS_MIN) {
        printf("skipped: %u descriptors needed, %ju allowed\n", DESCRIPTORS_MIN,
               (uintmax_t)files.rlim_max);
        return 77;
    }
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    log_open(LOG_LEVEL_WARN, LOG_FORMAT_TEXT, 0, "test");
    SRunner *runner = srunner_create(doorbells_suite(io_uring_is_here()));
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
