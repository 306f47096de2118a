/*
 * test_crash_point.c - shm/crash_point: each chosen place kills at the chosen pass, and only there.
 * How: a child process per point does one submission, one cancel, all that sleepers and wakers do, and one answer of two
 * tokens; the parent sees how it died.
 * Also: whatever the point, the dead writer left a record that a reader understands and a new one can go on with.
 */
#include "shm/crash_point.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/queue.h"
#include "shm/stream.h"
#include "shm/wait.h"

static const struct llm_geometry geometry = {.queue_entries = 8,
                                             .event_entries = 8,
                                             .stream_slots = 4,
                                             .log_words = 1024,
                                             .arena_bytes = LLM_PAGE_BYTES};
static void *up, *down;

static void *shared(size_t bytes)
{
    void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(address, MAP_FAILED);
    return address;
}

static void setup(void)
{
    up = shared(llm_up_map(&geometry).total_bytes);
    down = shared(llm_down_map(&geometry).total_bytes);
}

static void teardown(void)
{
    munmap(up, llm_up_map(&geometry).total_bytes);
    munmap(down, llm_down_map(&geometry).total_bytes);
}

static const uint32_t ids[] = {7, 8};
static const struct llm_top tops[] = {{7, -0.5f}, {9, -1.5f}};
static const struct llm_log_shape shape = {.top_count = 1};
#define LOG_WORDS 6 /* two tokens, each with one of the likeliest */

static void write_answer(struct llm_publisher *publisher, uint32_t already)
{
    struct llm_stream_writer writer;
    if (llm_stream_writer_init(&writer, publisher, 0, 1, 0, LOG_WORDS, shape, NULL) != LLM_OK)
        _exit(1);
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.seed = 1}, ids, NULL, already);
    for (uint32_t i = already; i < 2; i++) {
        llm_stream_writer_tops(&writer, i, &tops[i]);
        llm_stream_writer_append(&writer, &ids[i], NULL, 1, 1);
    }
    llm_stream_writer_finish(&writer, LLM_OK, LLM_FINISH_LENGTH, "");
}

/* Both directions of sleeping and waking, and a cancel that nobody waits for. */
static void sleep_and_wake(void)
{
    struct llm_up_header *header = up;
    _Atomic uint32_t *words = (void *)((char *)up + llm_up_map(&geometry).cancel_offset);
    int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    llm_engine_set_asleep(down, true);
    if (!llm_engine_ring(down, bell))
        _exit(1);
    llm_engine_set_asleep(down, false);
    llm_cancel_post(header, words, 1, 7);
    llm_client_sleep(header, down, 0, 1000);
    llm_client_arm_bell(header);
    close(bell);
}

static void submit_and_answer(void)
{
    sleep_and_wake();
    struct llm_queue_producer producer;
    struct llm_queue_consumer consumer;
    struct llm_publisher publisher;
    struct llm_submission submission = {0};
    uint64_t position;
    llm_queue_producer_init(&producer, up, down, &geometry);
    llm_queue_consumer_init(&consumer, up, down, &geometry, 0);
    llm_publisher_init(&publisher, down, &geometry);
    if (llm_queue_push(&producer, &submission, &position) != LLM_OK ||
        llm_queue_peek(&consumer, &submission) != LLM_OK)
        _exit(1);
    llm_queue_advance(&consumer);
    write_answer(&publisher, 0);
}

static int status_of_child(const char *crash, void (*work)(void))
{
    pid_t child = fork();
    if (child == 0) {
        setenv("LLMD_CRASH", crash, 1);
        fclose(stderr);
        work();
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

START_TEST(every_point_kills_at_its_first_pass)
{
    char crash[64];
    snprintf(crash, sizeof crash, "%s:1", llm_crash_point_name((enum llm_crash_point)_i));
    int status = status_of_child(crash, submit_and_answer);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s: status %#x", crash,
                  status);
}
END_TEST

START_TEST(a_writer_killed_anywhere_leaves_an_answer_that_another_completes)
{
    for (int pass = 1; pass <= 2; pass++) {
        char crash[64];
        snprintf(crash, sizeof crash, "%s:%d", llm_crash_point_name((enum llm_crash_point)_i),
                 pass);
        teardown();
        setup();
        status_of_child(crash, submit_and_answer);

        struct llm_stream_reader reader;
        struct llm_stream_look look;
        llm_stream_reader_init(&reader, down, &geometry, 0, 1, 0, LOG_WORDS, shape);
        ck_assert_int_eq(llm_stream_reader_look(&reader, &look), LLM_OK);
        uint32_t got[2];
        uint32_t before = llm_stream_reader_take(&reader, &look, got, NULL, 2);
        ck_assert_mem_eq(got, ids, before * sizeof ids[0]);
        for (uint32_t i = 0; i < before; i++) { /* the successor does not write these again */
            struct llm_top top;
            llm_stream_reader_tops(&reader, i, &top);
            ck_assert_mem_eq(&top, &tops[i], sizeof top);
        }

        struct llm_publisher successor;
        llm_publisher_init(&successor, down, &geometry);
        write_answer(&successor, before);
        ck_assert_int_eq(llm_stream_reader_look(&reader, &look), LLM_OK);
        uint32_t after = llm_stream_reader_take(&reader, &look, got, NULL, 2);
        ck_assert(look.done);
        ck_assert_uint_eq(before + after, 2);
        ck_assert_mem_eq(got, ids + before, after * sizeof ids[0]);
    }
}
END_TEST

START_TEST(a_later_pass_and_no_choice_let_it_live)
{
    ck_assert_int_eq(status_of_child("stream_done:2", submit_and_answer), 0);
    int status = status_of_child("stream_commit:2", submit_and_answer);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
END_TEST

static void write_answer_again(void)
{
    struct llm_publisher publisher;
    llm_publisher_init(&publisher, down, &geometry);
    write_answer(&publisher, 0);
}

START_TEST(a_process_that_chooses_late_dies_all_the_same)
{
    unsetenv("LLMD_CRASH");
    pid_t child = fork();
    if (child == 0) {
        submit_and_answer(); /* passes each point, before the choice */
        llm_crash_point_choose("stream_done:1");
        write_answer_again();
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
END_TEST

START_TEST(a_malformed_choice_stops_the_process)
{
    const char *wrong[] = {"stream_done", "stream_done:0", "nowhere:1", "stream_done:1x", ":1", ""};
    int status = status_of_child(wrong[_i], submit_and_answer);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/crash_point");
    TCase *tc = tcase_create("crash_point");
    tcase_add_checked_fixture(tc, setup, teardown);
    /* The points of shm/ come first in the list; e2e/crash_points walks the whole of it. */
    int shm_points = LLM_CRASH_event_word + 1;
    tcase_add_loop_test(tc, every_point_kills_at_its_first_pass, 0, shm_points);
    tcase_add_loop_test(tc, a_writer_killed_anywhere_leaves_an_answer_that_another_completes, 0,
                        shm_points);
    tcase_add_test(tc, a_later_pass_and_no_choice_let_it_live);
    tcase_add_test(tc, a_process_that_chooses_late_dies_all_the_same);
    tcase_add_loop_test(tc, a_malformed_choice_stops_the_process, 0, 6);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
