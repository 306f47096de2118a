/*
 * test_wait_race.c - shm/wait: the fences are there. Without one, both sides miss each other on every x86.
 *
 * How: two threads on two cores meet a million times at a starting line and do their halves of the protocol at once:
 * one publishes and looks for a sleeper, the other says that it sleeps and looks again. Both then compare notes: if
 * neither saw the other, a wake-up was lost. No time-out decides anything. The publisher's half is the function of
 * wait.c itself; it says what it saw by what it returns. Each test moves its starting point a little from
 * round to round, because the window is a store buffer's delay.
 * Not seen here: the fences of llm_client_sleep() and llm_client_arm_bell() stand behind a read-modify-write, which is a
 * fence itself on x86; tests/proof/wait_client.pml and tests/proof/genmc_wait.c look at those.
 */
#include "shm/wait.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/event.h"
#include "shm/fence.h"
#include "shm/queue.h"
#include "tests/support/memories.h"

#define ROUNDS       1000000u
#define SPINS_YIELD  20000u /* somebody else may be on the other's core */
#define DELAYS       32u
#define EXIT_SKIPPED 77

static const struct llm_geometry geometry = {.queue_entries = 8,
                                             .event_entries = 8,
                                             .stream_slots = 4,
                                             .log_words = 1024,
                                             .arena_bytes = LLM_PAGE_BYTES};
static int cores[2];
static struct memories memories;
static int to_engine, to_client[2];

/* A store that takes long, as those of a prompt would: what is stored after it waits behind it, and the window is that
 * much wider. */
#define COLD_BYTES (32u << 20)
#define COLD_STEP  4160u /* another line of another page each time */
static unsigned char cold[COLD_BYTES];

static void store_something_cold(uint32_t round)
{
    volatile unsigned char *byte = &cold[(uint64_t)round * COLD_STEP % COLD_BYTES];
    *byte = (unsigned char)round;
}

static void setup(void)
{
    memset(cold, 1, sizeof cold); /* no page faults later */
    memories_open(&memories, &geometry);
    to_engine = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, to_client), 0);
}

static void teardown(void)
{
    memories_close(&memories);
    close(to_engine);
    close(to_client[0]);
    close(to_client[1]);
}

/* ---- The meeting ----------------------------------------------------------------------------------- */

/* What a side does in round `round`; whether it saw the other. */
typedef bool (*half_fn)(uint32_t round);

static _Atomic uint32_t arrived;   /* halves begun, of both sides */
static _Atomic uint32_t finished;  /* halves done */
static _Atomic bool publisher_saw; /* of this round */
static half_fn publisher, sleeper; /* constant during a test */
static void (*settle)(
    uint32_t round); /* between rounds, by the sleeper: undo what the halves left */

static void pin(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

/* Both sides leave within nanoseconds of each other. */
static void meet(_Atomic uint32_t *line, uint32_t until)
{
    atomic_fetch_add(line, 1);
    for (uint32_t spins = 0; atomic_load_explicit(line, memory_order_acquire) < until; spins++)
        if (spins > SPINS_YIELD)
            sched_yield();
}

static void dawdle(uint32_t turns)
{
    for (volatile uint32_t i = 0; i < turns; i++)
        ;
}

static void *publish(void *unused)
{
    (void)unused;
    pin(cores[0]);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        meet(&arrived, 2 * (round + 1));
        dawdle(round % DELAYS);
        bool saw = publisher(round);
        atomic_store_explicit(&publisher_saw, saw, memory_order_relaxed);
        meet(&finished, 2 * (round + 1));
    }
    return NULL;
}

/* Returns in how many rounds both sides missed the other. */
static uint32_t count_missed(half_fn publishes, half_fn sleeps, void (*settles)(uint32_t round))
{
    publisher = publishes;
    sleeper = sleeps;
    settle = settles;
    atomic_store(&arrived, 0);
    atomic_store(&finished, 0);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, publish, NULL), 0);
    pin(cores[1]);
    uint32_t missed = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        meet(&arrived, 2 * (round + 1));
        dawdle(round / DELAYS % DELAYS);
        bool saw = sleeper(round);
        meet(&finished, 2 * (round + 1));
        missed += !saw && !atomic_load_explicit(&publisher_saw, memory_order_relaxed);
        settle(round);
    }
    pthread_join(thread, NULL);
    return missed;
}

/* ---- Client to engine: llm_engine_ring() against parking ------------------------------------------- */

static struct llm_queue_producer producer;
static struct llm_queue_consumer consumer;

/* The end of llm_queue_push(): the position was claimed and the entry written before, so that no other store and no
 * read-modify-write stands between the stamp and the ring. */
static bool stamps_and_rings(uint32_t round)
{
    struct llm_submission *entry = &producer.entries[round % geometry.queue_entries];
    store_something_cold(round);
    atomic_store_explicit(&entry->stamp, round + 1, memory_order_release);
    return llm_engine_ring(memories.down, to_engine);
}

static void claim(uint32_t position)
{
    struct llm_up_header *up = memories.up;
    atomic_store(&up->queue_tail, position + 1);
}

static bool goes_to_sleep_and_looks(uint32_t round)
{
    (void)round;
    struct llm_submission submission;
    llm_engine_set_asleep(memories.down, true);
    llm_fence_full(); /* daemon/engine/parking.c:park() */
    return llm_queue_peek(&consumer, &submission) != LLM_ERR_TIMEOUT;
}

static void takes_in_and_wakes(uint32_t round)
{
    struct llm_submission submission;
    while (llm_queue_peek(&consumer, &submission) == LLM_OK)
        llm_queue_advance(&consumer);
    claim(round + 1);
    llm_engine_set_asleep(memories.down, false);
    uint64_t rings;
    (void)!read(to_engine, &rings, sizeof rings);
}

START_TEST(a_submission_and_an_engine_that_goes_to_sleep_never_miss_each_other)
{
    llm_queue_producer_init(&producer, memories.up, memories.down, &geometry);
    llm_queue_consumer_init(&consumer, memories.up, memories.down, &geometry, 0);
    claim(0);
    uint32_t missed = count_missed(stamps_and_rings, goes_to_sleep_and_looks, takes_in_and_wakes);
    ck_assert_msg(missed == 0, "missed in %u of %u rounds: is a fence gone?", missed, ROUNDS);
}
END_TEST

/* ---- Engine to client: llm_client_wake() against a sleeper ----------------------------------------- */

static struct llm_event_writer events;
static struct llm_client_waker waker;

static bool publishes_and_wakes(uint32_t round)
{
    store_something_cold(round);
    llm_event_push(&events, 0, round);
    llm_event_announce(&events);
    return llm_client_wake(&waker) > 0;
}

/* The first half of llm_client_sleep(), which would not say what it saw; a plain store would show our own
 * missing fence, the read-modify-write is one. */
static bool counts_itself_and_looks(uint32_t round)
{
    struct llm_up_header *up = memories.up;
    const struct llm_down_header *down = memories.down;
    atomic_fetch_add_explicit(&up->sleepers, 1, memory_order_relaxed);
    llm_fence_full();
    return atomic_load_explicit(&down->event_word, memory_order_relaxed) != round;
}

static void leaves(uint32_t round)
{
    (void)round;
    struct llm_up_header *up = memories.up;
    atomic_fetch_sub_explicit(&up->sleepers, 1, memory_order_relaxed);
}

static bool arms_and_looks(uint32_t round)
{
    const struct llm_down_header *down = memories.down;
    llm_client_arm_bell(memories.up);
    return atomic_load_explicit(&down->event_word, memory_order_relaxed) != round;
}

static void clears(uint32_t round)
{
    (void)round;
    llm_client_clear_bell(to_client[0]);
}

START_TEST(a_token_and_a_client_that_goes_to_sleep_never_miss_each_other)
{
    llm_event_writer_init(&events, memories.down, &geometry);
    llm_client_waker_init(&waker, memories.up, memories.down, to_client[1]);
    llm_client_wake(&waker); /* the one that a new engine owes */
    uint32_t missed = _i == 0 ? count_missed(publishes_and_wakes, counts_itself_and_looks, leaves)
                              : count_missed(publishes_and_wakes, arms_and_looks, clears);
    ck_assert_msg(missed == 0, "missed in %u of %u rounds: is a fence gone?", missed, ROUNDS);
}
END_TEST

/* ---- The test can see ------------------------------------------------------------------------------- */

static _Atomic uint32_t left, right;

static bool stores_left(uint32_t round)
{
    atomic_store_explicit(&left, round + 1, memory_order_relaxed);
    return atomic_load_explicit(&right, memory_order_relaxed) == round + 1;
}

static bool stores_right(uint32_t round)
{
    atomic_store_explicit(&right, round + 1, memory_order_relaxed);
    return atomic_load_explicit(&left, memory_order_relaxed) == round + 1;
}

static void does_nothing(uint32_t round)
{
    (void)round;
}

START_TEST(without_any_fence_they_do_miss_each_other_on_this_machine)
{
    uint32_t missed = count_missed(stores_left, stores_right, does_nothing);
    printf("without a fence: missed in %u of %u rounds\n", missed, ROUNDS);
    ck_assert_uint_gt(missed, 0);
}
END_TEST

/* The two cores to race on; false when there is only one. */
static bool find_cores(void)
{
    cpu_set_t set;
    int found = 0;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return false;
    for (size_t core = 0; core < CPU_SETSIZE && found < 2; core++)
        if (CPU_ISSET(core, &set))
            cores[found++] = (int)core;
    return found == 2;
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
    printf("skipped: the thread sanitizer puts in order what this test needs in disorder\n");
    return EXIT_SKIPPED;
#endif
    if (!find_cores()) {
        printf("skipped: needs two cores\n");
        return EXIT_SKIPPED;
    }
    Suite *suite = suite_create("shm/wait_race");
    TCase *tc = tcase_create("wait_race");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 100);
    tcase_add_test(tc, a_submission_and_an_engine_that_goes_to_sleep_never_miss_each_other);
    tcase_add_loop_test(tc, a_token_and_a_client_that_goes_to_sleep_never_miss_each_other, 0, 2);
    tcase_add_test(tc, without_any_fence_they_do_miss_each_other_on_this_machine);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
