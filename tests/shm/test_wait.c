/*
 * test_wait.c - shm/wait: no wake-up is lost, and none is sent to who does not sleep.
 * How: ping-pong between a client and an engine that both go to sleep as early as they can, in two threads (the
 * thread sanitizer looks) and in two processes (futex through a read-only mapping). A lost wake-up would be a sleep
 * without end: the test's time-out. Sleeps are without limit, so nothing else can end them. What this cannot find is
 * a missing fence: the window is a store buffer's delay, and only a model checker looks into it.
 */
#include "shm/wait.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/event.h"
#include "shm/fence.h"
#include "shm/queue.h"
#include "shm/segment.h"
#include "tests/support/memories.h"

#define ROUNDS 3000u

static const struct llm_geometry geometry = {.queue_entries = 8,
                                             .event_entries = 8,
                                             .stream_slots = 4,
                                             .log_words = 1024,
                                             .arena_bytes = LLM_PAGE_BYTES};
static int to_engine;    /* eventfd */
static int to_client[2]; /* [0] the client's end, [1] the engine's */
static int epoll;

static void setup(void)
{
    to_engine = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, to_client), 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    ck_assert_int_eq(epoll_ctl(epoll, EPOLL_CTL_ADD, to_engine, &event), 0);
}

static void teardown(void)
{
    close(to_engine);
    close(to_client[0]);
    close(to_client[1]);
    close(epoll);
}

/* ---- The two sides: each answers the other's n with n --------------------------------------------- */

struct engine_side {
    const void *up;
    void *down;
    uint32_t rounds;
};

static void engine_sleep(struct llm_queue_consumer *consumer)
{
    struct llm_submission submission;
    llm_engine_set_asleep(consumer->down, true);
    llm_fence_full();
    if (llm_queue_peek(consumer, &submission) == LLM_ERR_TIMEOUT) {
        struct epoll_event event;
        epoll_wait(epoll, &event, 1, -1);
    }
    llm_engine_set_asleep(consumer->down, false);
}

static void *run_engine(void *argument)
{
    struct engine_side *side = argument;
    struct llm_queue_consumer consumer;
    struct llm_event_writer events;
    struct llm_client_waker waker;
    llm_queue_consumer_init(&consumer, side->up, side->down, &geometry, 0);
    llm_event_writer_init(&events, side->down, &geometry);
    llm_client_waker_init(&waker, side->up, side->down, to_client[1]);
    for (uint32_t round = 0; round < side->rounds;) {
        struct llm_submission submission;
        enum llm_status status = llm_queue_peek(&consumer, &submission);
        if (status == LLM_ERR_TIMEOUT) {
            engine_sleep(&consumer);
            continue;
        }
        if (status != LLM_OK || submission.argument != round)
            return argument;
        llm_queue_advance(&consumer);
        llm_event_push(&events, 0, round);
        llm_event_announce(&events);
        llm_client_wake(&waker);
        round++;
    }
    return NULL;
}

static void submit(struct llm_queue_producer *producer, uint64_t argument)
{
    uint64_t position;
    ck_assert_int_eq(
        llm_queue_push(producer, &(struct llm_submission){.argument = argument}, &position),
        LLM_OK);
    llm_engine_ring(producer->down, to_engine);
}

/* Submit, then sleep until the engine has answered; `rounds` times. */
static void run_client(void *up, const void *down, uint32_t rounds)
{
    struct llm_queue_producer producer;
    llm_queue_producer_init(&producer, up, down, &geometry);
    const struct llm_down_header *header = down;
    for (uint32_t round = 0; round < rounds; round++) {
        submit(&producer, round);
        for (;;) {
            uint32_t word = llm_client_sleep_word(header);
            if (word == round + 1)
                break;
            llm_client_sleep(up, header, word, UINT64_MAX);
        }
    }
}

/* The same with an event loop's descriptor in place of the futex. */
static void run_event_loop(void *up, const void *down, uint32_t rounds)
{
    struct llm_queue_producer producer;
    llm_queue_producer_init(&producer, up, down, &geometry);
    const struct llm_down_header *header = down;
    llm_client_arm_bell(up);
    for (uint32_t round = 0; round < rounds; round++) {
        submit(&producer, round);
        while (llm_client_sleep_word(header) != round + 1) {
            struct pollfd bell = {.fd = to_client[0], .events = POLLIN};
            ck_assert_int_eq(poll(&bell, 1, -1), 1);
            llm_client_clear_bell(to_client[0]);
            llm_client_arm_bell(up);
        }
    }
}

START_TEST(no_wake_up_is_lost_between_threads)
{
    struct memories memories;
    memories_open(&memories, &geometry);
    struct engine_side side = {memories.up, memories.down, ROUNDS};
    pthread_t engine;
    ck_assert_int_eq(pthread_create(&engine, NULL, run_engine, &side), 0);
    if (_i == 0)
        run_client(memories.up, memories.down, ROUNDS);
    else
        run_event_loop(memories.up, memories.down, ROUNDS);
    void *failed;
    pthread_join(engine, &failed);
    ck_assert_ptr_null(failed);
    memories_close(&memories);
}
END_TEST

START_TEST(no_wake_up_is_lost_between_processes_through_a_read_only_mapping)
{
    int up_fd, down_fd, down_readonly_fd;
    size_t up_bytes = llm_up_map(&geometry).total_bytes;
    size_t down_bytes = llm_down_map(&geometry).total_bytes;
    ck_assert_int_eq(llm_segment_create("up", up_bytes, &up_fd, NULL), LLM_OK);
    ck_assert_int_eq(llm_segment_create("down", down_bytes, &down_fd, NULL), LLM_OK);
    ck_assert_int_eq(llm_segment_reopen_readonly(down_fd, &down_readonly_fd, NULL), LLM_OK);
    pid_t engine = fork();
    if (engine == 0) {
        struct engine_side side = {.rounds = ROUNDS};
        void *up;
        if (llm_segment_map("up", up_fd, up_bytes, false, &up, NULL) != LLM_OK ||
            llm_segment_map("down", down_fd, down_bytes, true, &side.down, NULL) != LLM_OK)
            _exit(2);
        side.up = up;
        _exit(run_engine(&side) != NULL);
    }
    void *up, *down;
    ck_assert_int_eq(llm_segment_map("up", up_fd, up_bytes, true, &up, NULL), LLM_OK);
    ck_assert_int_eq(llm_segment_map("down", down_readonly_fd, down_bytes, false, &down, NULL),
                     LLM_OK);
    run_client(up, down, ROUNDS);
    int status;
    ck_assert_int_eq(waitpid(engine, &status, 0), engine);
    ck_assert_int_eq(status, 0);
    llm_segment_unmap(up, up_bytes);
    llm_segment_unmap(down, down_bytes);
    close(up_fd);
    close(down_fd);
    close(down_readonly_fd);
}
END_TEST

/* ---- What costs nothing, and what ends ------------------------------------------------------------ */

START_TEST(who_does_not_sleep_costs_no_system_call)
{
    struct memories memories;
    memories_open(&memories, &geometry);
    ck_assert(!llm_engine_ring(memories.down, to_engine));
    struct llm_client_waker waker;
    llm_client_waker_init(&waker, memories.up, memories.down, to_client[1]);
    ck_assert_uint_eq(llm_client_wake(&waker), 1); /* the one that a new engine owes */
    ck_assert_uint_eq(llm_client_wake(&waker), 0);

    llm_engine_set_asleep(memories.down, true);
    ck_assert(llm_engine_ring(memories.down, to_engine));
    llm_client_arm_bell(memories.up);
    llm_client_arm_bell(memories.up);
    ck_assert_uint_eq(llm_client_wake(&waker), 1); /* once for both, and not again */
    ck_assert_uint_eq(llm_client_wake(&waker), 0);
    memories_close(&memories);
}
END_TEST

START_TEST(a_client_that_never_reads_or_is_gone_does_not_hold_up_the_engine)
{
    struct memories memories;
    memories_open(&memories, &geometry);
    struct llm_client_waker waker;
    llm_client_waker_init(&waker, memories.up, memories.down, to_client[1]);
    fcntl(to_client[0], F_SETFL, 0); /* a client that wants us to block */
    for (int i = 0; i < 100000; i++) {
        llm_client_arm_bell(memories.up);
        ck_assert_uint_eq(llm_client_wake(&waker), 1);
    }
    close(to_client[0]);
    to_client[0] = -1;
    llm_client_arm_bell(memories.up);
    ck_assert_uint_eq(llm_client_wake(&waker), 1); /* and no SIGPIPE */
    memories_close(&memories);
}
END_TEST

START_TEST(a_sleep_ends_at_its_time_out_and_at_once_when_the_word_moved)
{
    struct memories memories;
    memories_open(&memories, &geometry);
    uint64_t before = llm_now_ns();
    llm_client_sleep(memories.up, memories.down, 0, 20 * LLM_NS_PER_MS);
    ck_assert_uint_ge(llm_now_ns() - before, 20 * LLM_NS_PER_MS);
    struct llm_event_writer events;
    llm_event_writer_init(&events, memories.down, &geometry);
    llm_event_push(&events, 0, 1);
    llm_event_announce(&events);
    llm_client_sleep(memories.up, memories.down, 0, UINT64_MAX);
    const struct llm_up_header *up = memories.up;
    ck_assert_uint_eq(atomic_load(&up->sleepers), 0);
    memories_close(&memories);
}
END_TEST

START_TEST(a_cancel_word_is_seen_with_its_bell)
{
    struct memories memories;
    memories_open(&memories, &geometry);
    _Atomic uint32_t *words = (void *)((char *)memories.up + llm_up_map(&geometry).cancel_offset);
    uint64_t seen = 0;
    ck_assert(!llm_cancel_bell_moved(memories.up, &seen));
    llm_cancel_post(memories.up, words, 3, 41);
    ck_assert(llm_cancel_bell_moved(memories.up, &seen));
    ck_assert_uint_eq(atomic_load(&words[3]), 41);
    ck_assert(!llm_cancel_bell_moved(memories.up, &seen));
    memories_close(&memories);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/wait");
    TCase *tc = tcase_create("wait");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, no_wake_up_is_lost_between_threads, 0, 2);
    tcase_add_test(tc, no_wake_up_is_lost_between_processes_through_a_read_only_mapping);
    tcase_add_test(tc, who_does_not_sleep_costs_no_system_call);
    tcase_add_test(tc, a_client_that_never_reads_or_is_gone_does_not_hold_up_the_engine);
    tcase_add_test(tc, a_sleep_ends_at_its_time_out_and_at_once_when_the_word_moved);
    tcase_add_test(tc, a_cancel_word_is_seen_with_its_bell);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
