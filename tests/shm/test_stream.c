/*
 * test_stream.c - shm/stream: what the writer published is what the reader gets, and nothing else.
 * How: writer and reader in one process over plain memory; a second thread where order matters; a record that
 * a test scribbles on where the peer lies.
 */
#include "shm/stream.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "shm/clock.h"
#include "tests/support/memories.h"

static const struct llm_geometry geometry = {.queue_entries = 8,
                                             .event_entries = 8,
                                             .stream_slots = 4,
                                             .log_words = 1024,
                                             .arena_bytes = LLM_PAGE_BYTES};
static struct memories memories;
static struct llm_publisher publisher;
static struct llm_stream_writer writer;
static struct llm_stream_reader reader;

/* Both ends of one answer of `capacity` tokens in slot 2, epoch 1. */
static void both_ends(uint32_t capacity, bool logprobs)
{
    struct llm_log_shape shape = logprobs ? LLM_LOG_LOGPROBS : LLM_LOG_IDS;
    uint32_t words = logprobs ? 2 * capacity : capacity;
    ck_assert_int_eq(llm_stream_writer_init(&writer, &publisher, 2, 1, 100, words, shape, NULL),
                     LLM_OK);
    llm_stream_reader_init(&reader, memories.down, &geometry, 2, 1, 100, words, shape);
}

static void setup(void)
{
    memories_open(&memories, &geometry);
    llm_publisher_init(&publisher, memories.down, &geometry);
    both_ends(16, true);
}

static void teardown(void)
{
    memories_close(&memories);
}

static struct llm_stream_look look(void)
{
    struct llm_stream_look result;
    ck_assert_int_eq(llm_stream_reader_look(&reader, &result), LLM_OK);
    return result;
}

static void append(uint32_t first_id, uint32_t count)
{
    uint32_t ids[16];
    float logprobs[16];
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = first_id + i;
        logprobs[i] = -(float)(first_id + i) / 4;
    }
    llm_stream_writer_append(&writer, ids, logprobs, count, llm_now_ns());
}

START_TEST(tokens_and_logprobs_arrive_as_they_were_published)
{
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.seed = 1}, NULL, NULL, 0);
    append(10, 1);
    append(11, 4);
    struct llm_stream_look now = look();
    ck_assert(now.open && !now.done);
    ck_assert_uint_eq(now.count, 5);
    uint32_t ids[3];
    float logprobs[3];
    ck_assert_uint_eq(llm_stream_reader_take(&reader, &now, ids, logprobs, 3), 3);
    ck_assert_uint_eq(ids[2], 12);
    ck_assert(logprobs[2] == -3.0f);
    ck_assert_uint_eq(llm_stream_reader_take(&reader, &now, ids, NULL, 3), 2);
    ck_assert_uint_eq(ids[1], 14);
    ck_assert_uint_eq(llm_stream_reader_take(&reader, &now, ids, NULL, 3), 0);
}
END_TEST

START_TEST(nothing_is_visible_before_the_answer_is_opened)
{
    ck_assert(!look().open);
    ck_assert_uint_eq(look().count, 0);
}
END_TEST

START_TEST(a_finished_answer_says_how_and_why)
{
    struct llm_stream_facts facts = {.request_id = 5,
                                     .seed = 6,
                                     .admitted_ns = llm_now_ns(),
                                     .prompt_tokens = 7,
                                     .cached_tokens = 0,
                                     .engine_generation = 9};
    llm_stream_writer_open(&writer, &facts, NULL, NULL, 0);
    append(1, 2);
    llm_stream_writer_set_cached(&writer, 3);
    llm_stream_writer_finish(&writer, LLM_ERR_LIMIT, LLM_FINISH_FAILED, "the cake is too large");
    ck_assert(look().done);
    ck_assert_uint_eq(look().count, 2);
    char note[LLM_NOTE_BYTES];
    ck_assert_int_eq(llm_stream_reader_status(&reader, note), LLM_ERR_LIMIT);
    ck_assert_str_eq(note, "the cake is too large");
    const struct llm_stream_record *record = reader.record;
    ck_assert_uint_eq(record->finish, LLM_FINISH_FAILED);
    ck_assert_uint_eq(record->request_id, 5);
    ck_assert_uint_eq(record->seed, 6);
    ck_assert_uint_eq(record->prompt_tokens, 7);
    ck_assert_uint_eq(record->cached_tokens, 3);
    ck_assert_uint_eq(record->engine_generation, 9);
    ck_assert_uint_ge(record->first_token_us, 1);
    ck_assert_uint_ge(record->last_token_us, record->first_token_us);
}
END_TEST

START_TEST(a_long_sentence_is_cut_and_terminated)
{
    char sentence[2 * LLM_NOTE_BYTES];
    memset(sentence, 'x', sizeof sentence - 1);
    sentence[sizeof sentence - 1] = '\0';
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.seed = 1}, NULL, NULL, 0);
    llm_stream_writer_finish(&writer, LLM_ERR_INVALID, LLM_FINISH_FAILED, sentence);
    char note[LLM_NOTE_BYTES];
    ck_assert_int_eq(llm_stream_reader_status(&reader, note), LLM_ERR_INVALID);
    ck_assert_uint_eq(strlen(note), LLM_NOTE_BYTES - 1);
}
END_TEST

START_TEST(a_stream_without_logprobs_reads_nan)
{
    both_ends(16, false);
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.seed = 1}, NULL, NULL, 0);
    append(1, 16);
    struct llm_stream_look now = look();
    uint32_t ids[16];
    float logprobs[16];
    ck_assert_uint_eq(llm_stream_reader_take(&reader, &now, ids, logprobs, 16), 16);
    ck_assert(isnan(logprobs[0]) && isnan(logprobs[15]));
    ck_assert_uint_eq(ids[15], 16);
}
END_TEST

START_TEST(a_slot_passes_to_its_next_answer_by_one_store)
{
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.seed = 1}, NULL, NULL, 0);
    append(1, 3);
    llm_stream_writer_finish(&writer, LLM_OK, LLM_FINISH_LENGTH, NULL);
    ck_assert_uint_eq(llm_publisher_epoch(&publisher, 2), 1);

    struct llm_stream_reader next;
    llm_stream_reader_init(&next, memories.down, &geometry, 2, 2, 0, 8, LLM_LOG_IDS);
    struct llm_stream_look now;
    ck_assert_int_eq(llm_stream_reader_look(&next, &now), LLM_OK);
    ck_assert(!now.open && !now.done); /* the old answer is not taken for the new one */

    ck_assert_int_eq(llm_stream_writer_init(&writer, &publisher, 2, 2, 0, 8, LLM_LOG_IDS, NULL),
                     LLM_OK);
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.seed = 1}, NULL, NULL, 0);
    ck_assert_int_eq(llm_stream_reader_look(&next, &now), LLM_OK);
    ck_assert(now.open && !now.done);
    ck_assert_uint_eq(now.count, 0);
}
END_TEST

START_TEST(epochs_wrap_around)
{
    ck_assert_int_eq(
        llm_stream_writer_init(&writer, &publisher, 1, UINT32_MAX, 0, 8, LLM_LOG_IDS, NULL),
        LLM_OK);
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.seed = 1}, NULL, NULL, 0);
    llm_stream_writer_finish(&writer, LLM_OK, LLM_FINISH_LENGTH, NULL);
    llm_stream_reader_init(&reader, memories.down, &geometry, 1, 0, 0, 8, LLM_LOG_IDS);
    ck_assert(!look().open);
    ck_assert_int_eq(llm_stream_writer_init(&writer, &publisher, 1, 0, 0, 8, LLM_LOG_IDS, NULL),
                     LLM_OK);
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.seed = 1}, NULL, NULL, 0);
    ck_assert(look().open);
}
END_TEST

START_TEST(a_new_engine_goes_on_with_what_was_published)
{
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.engine_generation = 1}, NULL, NULL,
                           0);
    append(1, 3);
    struct llm_stream_look now = look();
    uint32_t ids[16];
    ck_assert_uint_eq(llm_stream_reader_take(&reader, &now, ids, NULL, 2), 2);

    /* The tables knew of one token more than the record did when the engine died. */
    const uint32_t table_ids[] = {1, 2, 3, 4};
    const float table_logprobs[] = {-1, -2, -3, -4};
    llm_publisher_init(&publisher, memories.down, &geometry);
    ck_assert_int_eq(
        llm_stream_writer_init(&writer, &publisher, 2, 1, 100, 32, LLM_LOG_LOGPROBS, NULL), LLM_OK);
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.engine_generation = 2}, table_ids,
                           table_logprobs, 4);
    append(5, 1);
    now = look();
    ck_assert_uint_eq(now.count, 5);
    ck_assert_uint_eq(llm_stream_reader_take(&reader, &now, ids, NULL, 16), 3);
    ck_assert_uint_eq(ids[0], 3);
    ck_assert_uint_eq(ids[1], 4);
    ck_assert_uint_eq(ids[2], 5);
    ck_assert_uint_eq(reader.record->engine_generation, 2);
}
END_TEST

START_TEST(slots_and_logs_outside_the_memory_are_refused_with_a_sentence)
{
    static const struct {
        uint32_t slot, offset, words;
        const char *sentence;
    } rows[] = {
        {4, 0, 1, "stream slot 4: this connection has 4"},
        {UINT32_MAX, 0, 1, "stream slot 4294967295: this connection has 4"},
        {0, 1025, 0, "log of 0 words at 1025: this connection's log has 1024 words"},
        {0, 1024, 1, "log of 1 words at 1024: this connection's log has 1024 words"},
        {0, 1, 1024, "log of 1024 words at 1: this connection's log has 1024 words"},
        {0, UINT32_MAX, 2, "log of 2 words at 4294967295: this connection's log has 1024 words"},
        {0, 2, UINT32_MAX, "log of 4294967295 words at 2: this connection's log has 1024 words"},
    };
    struct llm_error error = {0};
    ck_assert_int_eq(llm_stream_writer_init(&writer, &publisher, rows[_i].slot, 1, rows[_i].offset,
                                            rows[_i].words, LLM_LOG_IDS, &error),
                     LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, rows[_i].sentence);
}
END_TEST

START_TEST(a_count_beyond_the_log_or_behind_what_was_seen_is_reported)
{
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.seed = 1}, NULL, NULL, 0);
    append(1, 3);
    struct llm_stream_look now = look();
    uint32_t ids[3];
    ck_assert_uint_eq(llm_stream_reader_take(&reader, &now, ids, NULL, 3), 3);
    const uint64_t lies[] = {llm_commit_pack(1, false, 17), llm_commit_pack(1, true, 2),
                             llm_commit_pack(2, false, 3), llm_commit_pack(0, false, 3),
                             llm_commit_pack(1, false, LLM_COMMIT_COUNT_MAX)};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        atomic_store(&writer.record->commit, lies[i]);
        ck_assert_int_eq(llm_stream_reader_look(&reader, &now), LLM_ERR_PEER);
        ck_assert_uint_eq(now.count, 3);
    }
}
END_TEST

START_TEST(a_status_nobody_knows_is_reported)
{
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.seed = 1}, NULL, NULL, 0);
    llm_stream_writer_finish(&writer, LLM_OK, LLM_FINISH_LENGTH, NULL);
    atomic_store(&writer.record->status, LLM_STATUS_COUNT);
    char note[LLM_NOTE_BYTES];
    ck_assert_int_eq(llm_stream_reader_status(&reader, note), LLM_ERR_PEER);
}
END_TEST

START_TEST(writing_beyond_the_capacity_stops_the_process)
{
    llm_stream_writer_open(&writer, &(struct llm_stream_facts){.seed = 1}, NULL, NULL, 0);
    append(1, 16);
    append(17, 1);
}
END_TEST

#define ANSWERS 2000u

static _Atomic uint32_t asked_epoch;

static void *write_answers(void *unused)
{
    (void)unused;
    for (uint32_t epoch = 1; epoch <= ANSWERS; epoch++) {
        while (atomic_load(&asked_epoch) != epoch)
            sched_yield();
        struct llm_stream_writer mine;
        if (llm_stream_writer_init(&mine, &publisher, 3, epoch, 0, 16, LLM_LOG_LOGPROBS, NULL) !=
            LLM_OK)
            return &publisher;
        llm_stream_writer_open(&mine, &(struct llm_stream_facts){.request_id = epoch}, NULL, NULL,
                               0);
        for (uint32_t i = 0; i < 8; i++) {
            uint32_t id = epoch * 8 + i;
            llm_stream_writer_append(&mine, &id, &(float){-(float)i}, 1, llm_now_ns());
        }
        llm_stream_writer_finish(&mine, LLM_OK, LLM_FINISH_LENGTH, "done");
    }
    return NULL;
}

START_TEST(a_racing_reader_gets_every_token_once)
{
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, write_answers, NULL), 0);
    for (uint32_t epoch = 1; epoch <= ANSWERS; epoch++) {
        atomic_store(&asked_epoch, epoch);
        llm_stream_reader_init(&reader, memories.down, &geometry, 3, epoch, 0, 16,
                               LLM_LOG_LOGPROBS);
        struct llm_stream_look now = {0};
        uint32_t expected = epoch * 8;
        while (!now.done || reader.seen < now.count) {
            ck_assert_int_eq(llm_stream_reader_look(&reader, &now), LLM_OK);
            uint32_t id;
            float logprob;
            if (llm_stream_reader_take(&reader, &now, &id, &logprob, 1) == 0) {
                sched_yield();
                continue;
            }
            ck_assert_uint_eq(id, expected);
            ck_assert(logprob == -(float)(expected - epoch * 8));
            expected++;
        }
        ck_assert_uint_eq(expected, epoch * 8 + 8);
        ck_assert_uint_eq(reader.record->request_id, epoch);
    }
    void *failed;
    pthread_join(thread, &failed);
    ck_assert_ptr_null(failed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/stream");
    TCase *tc = tcase_create("stream");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, tokens_and_logprobs_arrive_as_they_were_published);
    tcase_add_test(tc, nothing_is_visible_before_the_answer_is_opened);
    tcase_add_test(tc, a_finished_answer_says_how_and_why);
    tcase_add_test(tc, a_long_sentence_is_cut_and_terminated);
    tcase_add_test(tc, a_stream_without_logprobs_reads_nan);
    tcase_add_test(tc, a_slot_passes_to_its_next_answer_by_one_store);
    tcase_add_test(tc, epochs_wrap_around);
    tcase_add_test(tc, a_new_engine_goes_on_with_what_was_published);
    tcase_add_loop_test(tc, slots_and_logs_outside_the_memory_are_refused_with_a_sentence, 0, 7);
    tcase_add_test(tc, a_count_beyond_the_log_or_behind_what_was_seen_is_reported);
    tcase_add_test(tc, a_status_nobody_knows_is_reported);
    tcase_add_test_raise_signal(tc, writing_beyond_the_capacity_stops_the_process, SIGABRT);
    tcase_add_test(tc, a_racing_reader_gets_every_token_once);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
