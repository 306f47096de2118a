/*
 * test_egress.c - daemon/engine/egress: a wake-up that was handed over arrives, and a connection may leave meanwhile.
 * How: the engine thread is the test; clients are threads that sleep on their connection's event_word, without a time-out.
 * A lost wake-up would be a sleep without end: the test's time-out. Plain memory, so that the thread sanitizer sees
 * each hand-over between engine thread, egress thread and clients.
 */
#include "daemon/engine/egress.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/engine/connection.h"
#include "shm/event.h"
#include "tests/support/memories.h"

#define CONNECTIONS 3u /* two in one word of bits, one in another */
#define ROUNDS      2000u

static const uint32_t slots[CONNECTIONS] = {0, 63, 64};
static const struct llm_geometry geometry = {.queue_entries = 8,
                                             .event_entries = 8,
                                             .stream_slots = 4,
                                             .log_words = 1024,
                                             .arena_bytes = LLM_PAGE_BYTES};
static struct connection connections[LLM_STATUS_CONNECTIONS_MAX];
static struct memories memories[CONNECTIONS];
static struct llm_event_writer events[CONNECTIONS];
static int sockets[CONNECTIONS][2];
static _Atomic uint64_t wakes;
static struct egress egress;

static struct connection *connection_at(uint32_t i)
{
    return &connections[slots[i]];
}

static void attach(uint32_t i)
{
    memories_open(&memories[i], &geometry);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets[i]), 0);
    struct connection *connection = connection_at(i);
    *connection = (struct connection){.attached = true,
                                      .up = memories[i].up,
                                      .down = memories[i].down,
                                      .to_client_fd = sockets[i][1]};
    llm_event_writer_init(&events[i], memories[i].down, &geometry);
    llm_client_waker_init(&connection->waker, memories[i].up, memories[i].down, sockets[i][1]);
}

/* As connection.c does it: nobody wakes it any more, then its memory goes. */
static void detach(uint32_t i)
{
    egress_forget(&egress, slots[i]);
    *connection_at(i) = (struct connection){.to_client_fd = -1};
    memories_close(&memories[i]);
    close(sockets[i][0]);
    close(sockets[i][1]);
}

static void setup(void)
{
    for (uint32_t i = 0; i < CONNECTIONS; i++)
        attach(i);
    egress = (struct egress){0};
    atomic_store(&wakes, 0);
    ck_assert_int_eq(egress_open(&egress, connections, &wakes, NULL), LLM_OK);
}

static void teardown(void)
{
    for (uint32_t i = 0; i < CONNECTIONS; i++)
        detach(i);
    egress_close(&egress);
}

/* Something new for the connection. */
static void publish(uint32_t i)
{
    llm_event_push(&events[i], 0, 1);
    llm_event_announce(&events[i]);
    egress_mark(&egress, slots[i]);
}

/* ---- Clients ---------------------------------------------------------------------------------------- */

static _Atomic uint32_t reached[CONNECTIONS]; /* rounds that the client has seen */

static void *sleep_round_for_round(void *number)
{
    uint32_t i = (uint32_t)(uintptr_t)number;
    const struct llm_down_header *down = memories[i].down;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        while (llm_client_sleep_word(down) == round)
            llm_client_sleep(memories[i].up, down, round, UINT64_MAX);
        atomic_store(&reached[i], round + 1);
    }
    return NULL;
}

START_TEST(whoever_wakes_nobody_is_left_asleep)
{
    bool idle = _i == 1; /* the engine thread wakes by itself, else the egress thread */
    pthread_t threads[CONNECTIONS];
    for (uintptr_t i = 0; i < CONNECTIONS; i++) {
        atomic_store(&reached[i], 0);
        ck_assert_int_eq(pthread_create(&threads[i], NULL, sleep_round_for_round, (void *)i), 0);
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < CONNECTIONS; i++)
            publish(i);
        egress_flush(&egress, idle);
        for (uint32_t i = 0; i < CONNECTIONS; i++)
            while (atomic_load(&reached[i]) <= round)
                sched_yield();
    }
    for (uint32_t i = 0; i < CONNECTIONS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_gt(atomic_load(&wakes), 0);
}
END_TEST

START_TEST(who_does_not_sleep_is_not_woken)
{
    for (uint32_t i = 0; i < CONNECTIONS; i++)
        publish(i);
    egress_flush(&egress, true);
    ck_assert_uint_eq(atomic_load(&wakes), 0);
}
END_TEST

START_TEST(a_bell_is_answered_once_by_whichever_thread)
{
    for (uint32_t i = 0; i < CONNECTIONS; i++)
        llm_client_arm_bell(memories[i].up);
    for (uint32_t i = 0; i < CONNECTIONS; i++)
        publish(i);
    egress_flush(&egress, _i == 1);
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        char byte;
        ck_assert_int_eq(recv(sockets[i][0], &byte, 1, 0), 1); /* blocks until it comes */
        publish(i);
    }
    egress_flush(&egress, true);
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        char byte;
        ck_assert_int_eq(recv(sockets[i][0], &byte, 1, MSG_DONTWAIT), -1);
    }
}
END_TEST

START_TEST(a_connection_may_leave_while_it_is_being_woken)
{
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < CONNECTIONS; i++) {
            llm_client_arm_bell(memories[i].up);
            publish(i);
        }
        egress_flush(&egress, false);
        uint32_t leaver = round % CONNECTIONS;
        detach(leaver); /* its memory is gone: whoever touched it now would be caught */
        attach(leaver);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/egress");
    TCase *tc = tcase_create("egress");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, whoever_wakes_nobody_is_left_asleep, 0, 2);
    tcase_add_test(tc, who_does_not_sleep_is_not_woken);
    tcase_add_loop_test(tc, a_bell_is_answered_once_by_whichever_thread, 0, 2);
    tcase_add_test(tc, a_connection_may_leave_while_it_is_being_woken);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
