/*
 * test_segment.c - shm/segment: sizes that cannot change, read-only descriptors that stay read-only.
 */
#include "shm/segment.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES 8192u

static int fd, readonly_fd;

static void setup(void)
{
    ck_assert_int_eq(llm_segment_create("llm-test", BYTES, &fd, NULL), LLM_OK);
    ck_assert_int_eq(llm_segment_reopen_readonly(fd, &readonly_fd, NULL), LLM_OK);
}

static void setup_without_noexec_seal(void)
{
    setenv("LLMD_DISABLE", "io_uring,noexec_seal", 1);
    setup();
}

static void teardown(void)
{
    unsetenv("LLMD_DISABLE");
    close(fd);
    close(readonly_fd);
}

START_TEST(its_size_mode_and_seals_are_fixed)
{
    struct stat file;
    ck_assert_int_eq(fstat(fd, &file), 0);
    ck_assert_int_eq(file.st_size, BYTES);
    ck_assert_uint_eq(file.st_mode & 07777, 0400);
    ck_assert_int_eq(ftruncate(fd, 0), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(ftruncate(fd, 2 * BYTES), -1);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1); /* a restarted engine must map it */
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(fcntl(readonly_fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}
END_TEST

START_TEST(both_descriptors_show_the_same_memory)
{
    void *writable, *readonly;
    ck_assert_int_eq(llm_segment_map("m", fd, BYTES, true, &writable, NULL), LLM_OK);
    ck_assert_int_eq(llm_segment_map("m", readonly_fd, BYTES, false, &readonly, NULL), LLM_OK);
    ((volatile char *)writable)[BYTES - 1] = 'x';
    ck_assert_int_eq(((volatile char *)readonly)[BYTES - 1], 'x');
    llm_segment_unmap(writable, BYTES);
    llm_segment_unmap(readonly, BYTES);
    llm_segment_unmap(NULL, BYTES);
}
END_TEST

START_TEST(the_read_only_descriptor_gives_no_writable_mapping)
{
    struct llm_error error;
    void *address = &error;
    ck_assert_int_eq(llm_segment_map("down", readonly_fd, BYTES, true, &address, &error),
                     LLM_ERR_SYSTEM);
    ck_assert_str_eq(error.message,
                     "cannot map shared memory \"down\" of 8192 bytes: Permission denied");
    ck_assert_ptr_eq(address, &error);
    ck_assert_int_eq(fallocate(readonly_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
                     -1);
}
END_TEST

START_TEST(another_size_or_an_unsealed_memory_is_refused)
{
    struct llm_error error;
    void *address = NULL;
    ck_assert_int_eq(llm_segment_map("up", fd, 2 * BYTES, true, &address, &error), LLM_ERR_PEER);
    ck_assert_str_eq(error.message, "shared memory \"up\" has 8192 bytes where 16384 were agreed");
    int unsealed = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_eq(ftruncate(unsealed, BYTES), 0);
    ck_assert_int_eq(llm_segment_map("up", unsealed, BYTES, true, &address, &error), LLM_ERR_PEER);
    ck_assert_str_eq(error.message, "the size of shared memory \"up\" is not sealed");
    ck_assert_ptr_null(address);
    close(unsealed);
}
END_TEST

START_TEST(a_memory_too_large_for_a_file_is_refused_with_its_size)
{
    struct llm_error error;
    int none = -7;
    ck_assert_int_ne(llm_segment_create("pool", (size_t)1 << 63, &none, &error), LLM_OK);
    ck_assert_str_eq(error.message, "cannot size and seal shared memory \"pool\" of "
                                    "9223372036854775808 bytes: Invalid argument");
    ck_assert_int_eq(none, -7);
}
END_TEST

/* In a child that is user 65534: may it open the descriptor again for writing? */
START_TEST(another_user_cannot_open_it_again)
{
    pid_t child = fork();
    if (child == 0) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", readonly_fd);
        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(3);
        if (open(path, O_RDWR) >= 0)
            _exit(1);
        if (errno != EACCES)
            _exit(2);
        if (fchmod(readonly_fd, 0600) == 0)
            _exit(4);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(a_draft_is_written_published_and_then_never_written_again)
{
    struct llm_error error;
    ck_assert_msg(llm_segment_create_draft("draft", 100, &fd, &error) == LLM_OK, "%s",
                  error.message);
    ck_assert_int_lt(ftruncate(fd, 50), 0);
    ck_assert_int_eq(pwrite(fd, "words", 5, 0), 5);
    void *map = mmap(NULL, 100, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert(map != MAP_FAILED);
    ck_assert_int_eq(llm_segment_publish(fd, &error), LLM_ERR_INVALID);
    munmap(map, 100);

    ck_assert_msg(llm_segment_publish(fd, &error) == LLM_OK, "%s", error.message);
    ck_assert_int_lt(pwrite(fd, "other", 5, 0), 0);
    ck_assert_ptr_eq(mmap(NULL, 100, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    char kept[5];
    ck_assert_int_eq(pread(fd, kept, sizeof kept, 0), 5);
    ck_assert_mem_eq(kept, "words", 5);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/segment");
    void (*setups[])(void) = {setup, setup_without_noexec_seal};
    const char *names[] = {"segment", "segment without noexec_seal"};
    for (int i = 0; i < 2; i++) {
        TCase *tc = tcase_create(names[i]);
        tcase_add_checked_fixture(tc, setups[i], teardown);
        tcase_add_test(tc, a_draft_is_written_published_and_then_never_written_again);
        tcase_add_test(tc, its_size_mode_and_seals_are_fixed);
        tcase_add_test(tc, both_descriptors_show_the_same_memory);
        tcase_add_test(tc, the_read_only_descriptor_gives_no_writable_mapping);
        tcase_add_test(tc, another_size_or_an_unsealed_memory_is_refused);
        tcase_add_test(tc, a_memory_too_large_for_a_file_is_refused_with_its_size);
        if (getuid() == 0)
            tcase_add_test(tc, another_user_cannot_open_it_again);
        else
            printf("another_user_cannot_open_it_again: skipped: needs root\n");
        suite_add_tcase(suite, tc);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
