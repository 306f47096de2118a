/*
 * test_status_file.c - shm/status_file: created whole, read with suspicion, errors counted by sentence.
 */
#include "shm/status_file.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char name[64];
static int fd;
static struct llm_status_file *file;

static void setup(void)
{
    snprintf(name, sizeof name, "/llmd.test.%d", getpid());
    ck_assert_int_eq(llm_status_create(name, &fd, &file, NULL), LLM_OK);
}

static void teardown(void)
{
    llm_status_close(file);
    close(fd);
    shm_unlink(name);
}

static void complete(void)
{
    file->keeper.abi_major = LLM_ABI_MAJOR;
    file->keeper.file_bytes = sizeof *file;
    file->keeper.magic = LLM_STATUS_MAGIC;
}

START_TEST(a_new_file_is_zero_fully_allocated_and_of_mode_0640)
{
    struct stat info;
    ck_assert_int_eq(fstat(fd, &info), 0);
    ck_assert_uint_eq((uint64_t)info.st_size, sizeof *file);
    ck_assert_uint_ge((uint64_t)info.st_blocks * 512, sizeof *file);
    ck_assert_uint_eq(info.st_mode & 07777, 0640);
    ck_assert_uint_eq(file->keeper.magic, 0);
    ck_assert_uint_eq(file->engine_errors[LLM_STATUS_ERRORS - 1].count, 0);
}
END_TEST

START_TEST(a_reader_sees_what_the_writers_store)
{
    complete();
    atomic_store(&file->engine.counters[LLM_COUNTER_STEPS], 42);
    const struct llm_status_file *seen;
    ck_assert_int_eq(llm_status_open(name, &seen, NULL), LLM_OK);
    ck_assert_uint_eq(seen->engine.counters[LLM_COUNTER_STEPS], 42);
    atomic_store(&file->engine.counters[LLM_COUNTER_STEPS], 43);
    ck_assert_uint_eq(seen->engine.counters[LLM_COUNTER_STEPS], 43);
    llm_status_close(seen);
    llm_status_close(NULL);
}
END_TEST

START_TEST(a_stale_file_is_replaced_and_its_readers_keep_it)
{
    complete();
    const struct llm_status_file *old;
    ck_assert_int_eq(llm_status_open(name, &old, NULL), LLM_OK);
    int new_fd;
    struct llm_status_file *new_file;
    ck_assert_int_eq(llm_status_create(name, &new_fd, &new_file, NULL), LLM_OK);
    ck_assert_uint_eq(new_file->keeper.magic, 0);
    ck_assert_uint_eq(old->keeper.magic, LLM_STATUS_MAGIC);
    llm_status_close(old);
    llm_status_close(new_file);
    close(new_fd);
}
END_TEST

START_TEST(an_unfinished_foreign_or_short_file_is_refused)
{
    struct llm_error error;
    const struct llm_status_file *seen = NULL;
    ck_assert_int_eq(llm_status_open(name, &seen, &error), LLM_ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "is not a complete status file (magic 0)"));
    complete();
    file->keeper.abi_major = LLM_ABI_MAJOR + 1;
    ck_assert_int_eq(llm_status_open(name, &seen, &error), LLM_ERR_VERSION);
    ck_assert_ptr_nonnull(strstr(error.message, "is of version 2"));
    complete();
    ck_assert_int_eq(ftruncate(fd, 4096), 0);
    ck_assert_int_eq(llm_status_open(name, &seen, &error), LLM_ERR_VERSION);
    ck_assert_ptr_nonnull(strstr(error.message, "has 4096 bytes, not"));
    ck_assert_int_eq(llm_status_open("/llmd.test.none", &seen, &error), LLM_ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "/llmd.test.none"));
    ck_assert_ptr_null(seen);
}
END_TEST

START_TEST(every_counter_has_a_name_and_a_sentence)
{
    for (int counter = 0; counter < LLM_COUNTER_COUNT; counter++) {
        ck_assert_ptr_nonnull(llm_counter_name((enum llm_counter)counter));
        ck_assert_ptr_nonnull(llm_counter_help((enum llm_counter)counter));
        for (int other = 0; other < counter; other++)
            ck_assert_str_ne(llm_counter_name((enum llm_counter)counter),
                             llm_counter_name((enum llm_counter)other));
    }
    ck_assert_str_eq(llm_counter_name(LLM_COUNTER_TOKENS_OUT), "tokens_out");
    ck_assert_ptr_nonnull(llm_counter_name(LLM_COUNTER_COUNT));
}
END_TEST

START_TEST(equal_sentences_share_an_entry_and_the_oldest_makes_room)
{
    struct llm_status_error *ring = file->engine_errors;
    for (uint64_t i = 0; i < LLM_STATUS_ERRORS; i++) {
        char text[32];
        snprintf(text, sizeof text, "error %lu", i);
        llm_status_note_error(ring, 1000 + i, text);
    }
    llm_status_note_error(ring, 5000, "error 0");
    ck_assert_uint_eq(ring[0].count, 2);
    ck_assert_uint_eq(ring[0].last_ns, 5000);
    llm_status_note_error(ring, 5001, "one too many");
    ck_assert_str_eq(ring[1].text, "one too many"); /* "error 1" was the oldest */
    ck_assert_uint_eq(ring[1].count, 1);
    ck_assert_str_eq(ring[2].text, "error 2");
}
END_TEST

START_TEST(a_sentence_longer_than_its_entry_is_cut_and_still_counted_once)
{
    char text[2 * LLM_NOTE_BYTES];
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    llm_status_note_error(file->keeper_errors, 1, text);
    llm_status_note_error(file->keeper_errors, 2, text);
    ck_assert_uint_eq(file->keeper_errors[0].count, 2);
    ck_assert_uint_eq(strlen(file->keeper_errors[0].text), LLM_NOTE_BYTES - 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/status_file");
    TCase *tc = tcase_create("status_file");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_new_file_is_zero_fully_allocated_and_of_mode_0640);
    tcase_add_test(tc, a_reader_sees_what_the_writers_store);
    tcase_add_test(tc, a_stale_file_is_replaced_and_its_readers_keep_it);
    tcase_add_test(tc, an_unfinished_foreign_or_short_file_is_refused);
    tcase_add_test(tc, every_counter_has_a_name_and_a_sentence);
    tcase_add_test(tc, equal_sentences_share_an_entry_and_the_oldest_makes_room);
    tcase_add_test(tc, a_sentence_longer_than_its_entry_is_cut_and_still_counted_once);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
