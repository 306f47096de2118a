/*
 * test_event.c - shm/event: hints arrive in order, a lapped reader is told, a fast one loses none silently.
 */
#include "shm/event.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>

#include "tests/support/memories.h"

#define ENTRIES 8u

static const struct llm_geometry geometry = {.queue_entries = 8,
                                             .event_entries = ENTRIES,
                                             .stream_slots = 4,
                                             .log_words = 1024,
                                             .arena_bytes = LLM_PAGE_BYTES};
static struct memories memories;
static struct llm_event_writer writer;
static struct llm_event_reader reader;

static void hint(struct llm_event_writer *to, uint32_t slot, uint32_t epoch)
{
    llm_event_push(to, slot, epoch);
    llm_event_announce(to);
}

static void setup(void)
{
    memories_open(&memories, &geometry);
    llm_event_writer_init(&writer, memories.down, &geometry);
    llm_event_reader_init(&reader, memories.down, &geometry);
}

static void teardown(void)
{
    memories_close(&memories);
}

START_TEST(hints_arrive_in_order)
{
    uint32_t slot = 9, epoch = 9;
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_ERR_TIMEOUT);
    for (uint32_t i = 0; i < 3 * ENTRIES; i++) {
        hint(&writer, i, UINT32_MAX - i);
        ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_OK);
        ck_assert_uint_eq(slot, i);
        ck_assert_uint_eq(epoch, UINT32_MAX - i);
    }
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_ERR_TIMEOUT);
    ck_assert_uint_eq(slot, 3 * ENTRIES - 1);
}
END_TEST

START_TEST(a_lapped_reader_is_told_and_goes_on_with_the_next_hint)
{
    uint32_t slot, epoch;
    for (uint32_t i = 0; i < ENTRIES + 3; i++)
        hint(&writer, i, 1);
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_ERR_LIMIT);
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_ERR_TIMEOUT);
    hint(&writer, 77, 1);
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_OK);
    ck_assert_uint_eq(slot, 77);
}
END_TEST

START_TEST(a_new_writer_goes_on_where_the_last_one_stopped)
{
    uint32_t slot, epoch;
    hint(&writer, 1, 1);
    struct llm_event_writer successor;
    llm_event_writer_init(&successor, memories.down, &geometry);
    hint(&successor, 2, 1);
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_OK);
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_OK);
    ck_assert_uint_eq(slot, 2);
    struct llm_down_header *down = memories.down;
    ck_assert_uint_eq(atomic_load(&down->event_word), 2);
}
END_TEST

START_TEST(hints_are_seen_when_they_are_announced_or_make_up_a_quarter_of_the_ring)
{
    uint32_t slot, epoch;
    llm_event_push(&writer, 5, 1);
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_ERR_TIMEOUT);
    llm_event_push(&writer, 6, 1);
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_OK);
    ck_assert_uint_eq(slot, 5);
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_OK);
    ck_assert_uint_eq(slot, 6);
    llm_event_announce(&writer);
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_ERR_TIMEOUT);
}
END_TEST

/* The ring holds 8; the writer may be one unannounced hint ahead, so the oldest of 8 no longer counts. */
START_TEST(a_hint_that_may_be_overwritten_unannounced_does_not_count)
{
    uint32_t slot, epoch;
    for (uint32_t i = 0; i < ENTRIES; i++)
        hint(&writer, i, 1);
    llm_event_push(&writer, 99, 1); /* into the entry of hint 0 */
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_ERR_LIMIT);
}
END_TEST

START_TEST(a_lapse_tells_every_reader_to_look_at_all_records)
{
    uint32_t slot, epoch;
    struct llm_down_header *down = memories.down;
    uint32_t word = atomic_load(&down->event_word);
    llm_event_push(&writer, 1, 1);
    struct llm_event_writer successor; /* the first one died before it announced */
    llm_event_writer_init(&successor, memories.down, &geometry);
    llm_event_lapse(&successor);
    ck_assert_uint_ne(atomic_load(&down->event_word), word);
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_ERR_LIMIT);
    ck_assert_int_eq(llm_event_take(&reader, &slot, &epoch), LLM_ERR_TIMEOUT);
}
END_TEST

#define HINTS 50000u

static void *write_hints(void *unused)
{
    (void)unused;
    for (uint32_t i = 1; i <= HINTS; i++) {
        llm_event_push(&writer, i, i);
        if (i % 3 == 0)
            llm_event_announce(&writer);
        if (i % 5 == 0)
            sched_yield();
    }
    llm_event_announce(&writer);
    return NULL;
}

START_TEST(a_racing_reader_sees_each_hint_or_is_told_that_it_did_not)
{
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, write_hints, NULL), 0);
    uint32_t last = 0;
    bool lost = false;
    while (last < HINTS) {
        uint32_t slot, epoch;
        enum llm_status status = llm_event_take(&reader, &slot, &epoch);
        if (status == LLM_ERR_LIMIT) {
            lost = true;
            if (reader.next == HINTS)
                break;
        } else if (status == LLM_OK) {
            ck_assert_uint_eq(slot, epoch);
            ck_assert_msg(slot == last + 1 || (lost && slot > last), "hint %u after %u", slot,
                          last);
            last = slot;
            lost = false;
        } else {
            sched_yield();
        }
    }
    pthread_join(thread, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/event");
    TCase *tc = tcase_create("event");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, hints_arrive_in_order);
    tcase_add_test(tc, a_lapped_reader_is_told_and_goes_on_with_the_next_hint);
    tcase_add_test(tc, a_new_writer_goes_on_where_the_last_one_stopped);
    tcase_add_test(tc, hints_are_seen_when_they_are_announced_or_make_up_a_quarter_of_the_ring);
    tcase_add_test(tc, a_hint_that_may_be_overwritten_unannounced_does_not_count);
    tcase_add_test(tc, a_lapse_tells_every_reader_to_look_at_all_records);
    tcase_add_test(tc, a_racing_reader_sees_each_hint_or_is_told_that_it_did_not);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
