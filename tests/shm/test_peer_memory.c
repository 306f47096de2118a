/*
 * test_peer_memory.c - shm/peer_memory: one copy of a submission's bytes is true, a second is not, polls always are.
 * How: compiled with LLM_DOUBLE_READ, as the engine of tests/attack/test_double_read.c is. A queue over plain memory,
 * read as the engine does it, and then once more than it should be.
 */
#include "shm/peer_memory.h"

#include <check.h>
#include <string.h>
#include <sys/mman.h>

#include "shm/queue.h"
#include "tests/support/memories.h"

static const struct llm_geometry geometry = {.queue_entries = 8,
                                             .event_entries = 8,
                                             .stream_slots = 4,
                                             .log_words = 1024,
                                             .arena_bytes = LLM_PAGE_BYTES};
static struct memories memories;
static struct llm_queue_producer producer;
static struct llm_queue_consumer consumer;

static void setup(void)
{
    memories_open(&memories, &geometry);
    llm_queue_producer_init(&producer, memories.up, memories.down, &geometry);
    llm_queue_consumer_init(&consumer, memories.up, memories.down, &geometry, 0);
    llm_peer_map(memories.up, llm_up_map(&geometry).total_bytes);
}

static void teardown(void)
{
    llm_peer_unmap(memories.up);
    memories_close(&memories);
}

static void push(uint64_t argument)
{
    uint64_t position;
    const struct llm_submission submission = {.stream_slot = 3, .argument = argument};
    ck_assert_int_eq(llm_queue_push(&producer, &submission, &position), LLM_OK);
}

START_TEST(what_is_copied_once_is_true)
{
    struct llm_submission got;
    for (uint64_t argument = 100; argument < 120; argument++) { /* more than one lap */
        push(argument);
        ck_assert_int_eq(llm_queue_look(&consumer), LLM_OK);
        ck_assert_int_eq(llm_queue_look(&consumer), LLM_OK); /* polling is no copy */
        ck_assert_int_eq(llm_queue_peek(&consumer, &got), LLM_OK);
        ck_assert_uint_eq(got.argument, argument);
        ck_assert_uint_eq(got.stream_slot, 3);
        llm_queue_advance(&consumer);
    }
    ck_assert_uint_eq(llm_peer_double_reads(), 0);
}
END_TEST

START_TEST(an_entry_that_is_copied_twice_is_another_one)
{
    struct llm_submission first, second;
    push(4711);
    ck_assert_int_eq(llm_queue_peek(&consumer, &first), LLM_OK);
    ck_assert_int_eq(llm_queue_peek(&consumer, &second), LLM_OK);
    ck_assert_uint_eq(first.argument, 4711);
    ck_assert_uint_eq(second.argument, ~UINT64_C(4711));
    ck_assert_uint_eq(second.stream_slot, ~UINT32_C(3));
    ck_assert_uint_eq(llm_peer_double_reads(), sizeof first - sizeof first.stamp);
}
END_TEST

START_TEST(only_the_bytes_that_overlap_change)
{
    char *arena = (char *)memories.up + llm_up_map(&geometry).arena_offset, got[8] = "";
    memcpy(arena, "01234567", 8);
    llm_peer_copy(got, arena, 4);
    ck_assert_mem_eq(got, "0123", 4);
    llm_peer_copy(got, arena + 2, 4);
    ck_assert_uint_eq((unsigned char)got[0], (unsigned char)~'2');
    ck_assert_uint_eq((unsigned char)got[1], (unsigned char)~'3');
    ck_assert_mem_eq(got + 2, "45", 2);
    ck_assert_uint_eq(llm_peer_double_reads(), 2);
    llm_peer_given_back(memories.up); /* the next submission may lie in the same bytes */
    llm_peer_copy(got, arena, 8);
    ck_assert_mem_eq(got, "01234567", 8);
    ck_assert_uint_eq(llm_peer_double_reads(), 2);
}
END_TEST

START_TEST(a_byte_read_by_descriptor_counts_like_one_read_through_the_mapping)
{
    int fd = memfd_create("up", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, 4096), 0);
    char *base = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), got[4];
    ck_assert(base != MAP_FAILED);
    llm_peer_map(base, 4096);
    memcpy(base + 1000, "abcd", 4);
    ck_assert_int_eq(llm_peer_pread(got, base, fd, 1000, 4), 4);
    ck_assert_mem_eq(got, "abcd", 4);
    llm_peer_copy(got, base + 1003, 1);
    ck_assert_uint_eq((unsigned char)got[0], (unsigned char)~'d');
    ck_assert_int_eq(llm_peer_pread(got, base, fd, 1000, 4), 4);
    ck_assert_uint_eq((unsigned char)got[3], (unsigned char)~'d');
    llm_peer_unmap(base);
    munmap(base, 4096);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/peer_memory");
    TCase *tcase = tcase_create("double read");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_is_copied_once_is_true);
    tcase_add_test(tcase, an_entry_that_is_copied_twice_is_another_one);
    tcase_add_test(tcase, only_the_bytes_that_overlap_change);
    tcase_add_test(tcase, a_byte_read_by_descriptor_counts_like_one_read_through_the_mapping);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
