/*
 * test_slot_table.c - client/range_set and client/slot_table: nothing is handed out twice, nothing is lost.
 * How: the range set against a map of single granules that cannot be wrong; the slot table over plain memory with a
 * hand-moved queue head and hand-written records.
 */
#include "client/slot_table.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/memories.h"
#include "tests/support/test_seed.h"

/* ---- Ranges --------------------------------------------------------------------------------------- */

#define RANGES  24u
#define TOTAL   1000u
#define GRANULE 16u

START_TEST(ranges_agree_with_a_map_of_granules)
{
    struct llm_range memory[RANGES], held[RANGES];
    struct llm_range_set set;
    unsigned char map[TOTAL / GRANULE] = {0};
    uint64_t seed = test_seed(), random = seed;
    uint32_t held_count = 0;
    llm_range_set_init(&set, memory, RANGES, TOTAL, GRANULE);
    ck_assert_uint_eq(set.total, TOTAL / GRANULE * GRANULE);
    for (int step = 0; step < 5000; step++) {
        uint32_t size = 1 + (uint32_t)(test_random(&random) % 200), start = 0;
        if (test_random(&random) % 2 && held_count > 0) {
            uint32_t which = (uint32_t)(test_random(&random) % held_count);
            size = held[which].end - held[which].start;
            llm_range_set_drop(&set, held[which].start, size);
            memset(map + held[which].start / GRANULE, 0, (size + GRANULE - 1) / GRANULE);
            held[which] = held[--held_count];
        } else if (llm_range_set_take(&set, size, &start)) {
            uint32_t first = start / GRANULE, count = (size + GRANULE - 1) / GRANULE;
            ck_assert_msg(start % GRANULE == 0 && first + count <= TOTAL / GRANULE,
                          "seed %#lx step %d", seed, step);
            for (uint32_t g = first; g < first + count; g++)
                ck_assert_msg(map[g]++ == 0, "seed %#lx step %d: granule %u twice", seed, step, g);
            held[held_count++] = (struct llm_range){start, start + size};
        }
        ck_assert(llm_range_set_sane(&set));
        ck_assert_uint_eq(set.range_count, held_count);
    }
}
END_TEST

START_TEST(a_full_arena_refuses_and_the_first_gap_is_used)
{
    struct llm_range memory[8];
    struct llm_range_set set;
    uint32_t starts[4], start = 77;
    llm_range_set_init(&set, memory, 8, 64, 16);
    for (int i = 0; i < 4; i++)
        ck_assert(llm_range_set_take(&set, 16, &starts[i]));
    ck_assert(!llm_range_set_take(&set, 1, &start));
    llm_range_set_drop(&set, starts[1], 16);
    llm_range_set_drop(&set, starts[3], 16);
    ck_assert(!llm_range_set_take(&set, 17, &start));
    ck_assert_uint_eq(start, 77);
    ck_assert(llm_range_set_take(&set, 16, &start));
    ck_assert_uint_eq(start, 16);
    ck_assert(llm_range_set_take(&set, 0, &start));
    ck_assert_uint_eq(start, 0);
    ck_assert(!llm_range_set_take(&set, UINT32_MAX, &start));
    ck_assert_uint_eq(llm_range_set_used(&set), 48);
}
END_TEST

START_TEST(dropping_what_was_never_taken_stops_the_process)
{
    struct llm_range memory[8];
    struct llm_range_set set;
    llm_range_set_init(&set, memory, 8, 64, 16);
    llm_range_set_drop(&set, 16, 16);
}
END_TEST

/* ---- Slots ---------------------------------------------------------------------------------------- */

static const struct llm_geometry geometry = {.queue_entries = 8,
                                             .event_entries = 8,
                                             .stream_slots = 4,
                                             .log_words = 1024,
                                             .arena_bytes = LLM_PAGE_BYTES};
static struct memories memories;
static struct llm_queue_producer queue;
static struct llm_queue_consumer engine;
static struct llm_publisher publisher;
static struct llm_slot_table table;
static llm_error error;

static void setup(void)
{
    memories_open(&memories, &geometry);
    llm_queue_producer_init(&queue, memories.up, memories.down, &geometry);
    llm_queue_consumer_init(&engine, memories.up, memories.down, &geometry, 0);
    llm_publisher_init(&publisher, memories.down, &geometry);
    ck_assert_int_eq(llm_slot_table_open(&table, NULL, &geometry, memories.down, &queue, NULL),
                     LLM_OK);
}

static void teardown(void)
{
    ck_assert(llm_slot_table_sane(&table));
    llm_slot_table_close(&table, false);
    memories_close(&memories);
}

static llm_stream *take(uint32_t log_words, uint32_t body_bytes)
{
    llm_stream *stream = NULL;
    struct llm_slot_needs needs = {.log_words = log_words, .body_bytes = body_bytes};
    enum llm_status status = llm_slot_table_take(&table, &needs, &stream, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    return stream;
}

static enum llm_status try_take(uint32_t log_words, uint32_t body_bytes)
{
    llm_stream *stream;
    struct llm_slot_needs needs = {.log_words = log_words, .body_bytes = body_bytes};
    return llm_slot_table_take(&table, &needs, &stream, &error);
}

static void submit(llm_stream *stream)
{
    uint64_t position;
    ck_assert_int_eq(llm_queue_push(&queue, &(struct llm_submission){.argument = 1}, &position),
                     LLM_OK);
    atomic_store(&stream->position, position);
}

static void finish(const llm_stream *stream)
{
    struct llm_stream_writer writer;
    ck_assert_int_eq(llm_stream_writer_init(&writer, &publisher, stream->slot, stream->reader.epoch,
                                            stream->log_offset, stream->log_words, LLM_LOG_IDS,
                                            NULL),
                     LLM_OK);
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.seed = 1}, NULL, NULL, 0);
    llm_stream_writer_finish(&writer, LLM_OK, LLM_FINISH_LENGTH, "");
}

START_TEST(a_body_is_free_again_once_its_submission_is_taken_in)
{
    llm_stream *first = take(16, 3000);
    ck_assert_int_eq(try_take(16, 2000), LLM_ERR_BUSY); /* not even submitted */
    ck_assert_str_eq(error.message,
                     "prompts being submitted use 3008 of this connection's 4096 bytes, this one "
                     "needs 2000 together: try again");
    submit(first);
    ck_assert_int_eq(try_take(16, 2000), LLM_ERR_BUSY);    /* the engine may still copy it */
    ck_assert_uint_eq(llm_range_set_used(&table.log), 16); /* nothing was kept of the failed one */
    llm_queue_advance(&engine);
    take(16, 2000);
}
END_TEST

START_TEST(a_closed_stream_keeps_its_log_until_the_engine_is_done)
{
    llm_stream *first = take(600, 64);
    submit(first);
    llm_slot_table_drop(&table, first);
    ck_assert_int_eq(try_take(600, 64), LLM_ERR_BUSY);
    finish(first);
    llm_stream *second = take(600, 64);
    ck_assert_uint_eq(second->log_offset, 0);
}
END_TEST

START_TEST(a_slot_comes_back_with_its_next_epoch)
{
    llm_stream *stream = take(16, 64);
    uint32_t slot = stream->slot;
    for (uint32_t epoch = 1; epoch < 5; epoch++) {
        ck_assert_uint_eq(stream->slot, slot);
        ck_assert_uint_eq(stream->reader.epoch, epoch);
        finish(stream);
        llm_slot_table_drop(&table, stream);
        stream = take(16, 64);
    }
}
END_TEST

START_TEST(an_unpublished_take_leaves_the_epoch_unused)
{
    llm_stream *stream = take(16, 64);
    uint32_t slot = stream->slot;
    llm_slot_table_untake(&table, stream);
    stream = take(16, 64);
    ck_assert_uint_eq(stream->slot, slot);
    ck_assert_uint_eq(stream->reader.epoch, 1);
}
END_TEST

START_TEST(a_slot_whose_record_makes_no_sense_is_never_used_again)
{
    llm_stream *stream = take(16, 64);
    atomic_store(&publisher.records[stream->slot].commit, llm_commit_pack(77, true, 0));
    llm_slot_table_drop(&table, stream);
    for (int i = 0; i < 3; i++)
        take(16, 64);
    ck_assert_int_eq(try_take(16, 64), LLM_ERR_BUSY);
    ck_assert_str_eq(error.message, "all 4 stream slots of this connection are in use: close a "
                                    "stream or wait");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/slot_table");
    TCase *ranges = tcase_create("ranges");
    tcase_add_test(ranges, ranges_agree_with_a_map_of_granules);
    tcase_add_test(ranges, a_full_arena_refuses_and_the_first_gap_is_used);
    tcase_add_test_raise_signal(ranges, dropping_what_was_never_taken_stops_the_process, SIGABRT);
    suite_add_tcase(suite, ranges);
    TCase *slots = tcase_create("slots");
    tcase_add_checked_fixture(slots, setup, teardown);
    tcase_add_test(slots, a_body_is_free_again_once_its_submission_is_taken_in);
    tcase_add_test(slots, a_closed_stream_keeps_its_log_until_the_engine_is_done);
    tcase_add_test(slots, a_slot_comes_back_with_its_next_epoch);
    tcase_add_test(slots, an_unpublished_take_leaves_the_epoch_unused);
    tcase_add_test(slots, a_slot_whose_record_makes_no_sense_is_never_used_again);
    suite_add_tcase(suite, slots);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
