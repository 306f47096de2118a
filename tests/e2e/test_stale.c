/*
 * test_stale.c - kill -9 the keeper: what it leaves in /dev/shm is found, named, and removed by the next daemon of
 * the same user; what lives, or is not ours to judge, stays.
 */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "tests/support/command.h"
#include "tests/support/daemon.h"

static struct test_daemon killed, living, next;

static void make_file(char name[64], const char *what, const void *content, size_t bytes)
{
    snprintf(name, 64, "/llmd.%u.test-%s-%d", (unsigned)geteuid(), what, (int)getpid());
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0640);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq((int)write(fd, content, bytes), (int)bytes);
    close(fd);
}

/* As if its last sign of life had been in 2001. */
static void make_old(const char *name)
{
    int fd = shm_open(name, O_RDWR, 0);
    ck_assert_int_ge(fd, 0);
    const uint64_t then_ns = UINT64_C(1000000000) * 1000000000, zero = 0;
    struct stat found;
    ck_assert_int_eq(fstat(fd, &found), 0);
    if ((size_t)found.st_size == sizeof(struct llm_status_file)) {
        (void)!pwrite(fd, &then_ns, 8, offsetof(struct llm_status_file, keeper.started_wall_ns));
        (void)!pwrite(fd, &zero, 8, offsetof(struct llm_status_file, engine.heartbeat_ns));
    }
    futimens(fd, (const struct timespec[]){{.tv_sec = 1000000000}, {.tv_sec = 1000000000}});
    close(fd);
}

static bool exists(const char *name)
{
    char path[96];
    snprintf(path, sizeof path, "/dev/shm%s", name);
    return access(path, F_OK) == 0;
}

START_TEST(the_next_daemon_removes_what_is_provably_dead)
{
    char older[64], incomplete[64], foreign[64];
    static const uint64_t old_magic = LLM_STATUS_MAGIC - 1, no_magic = 0, other = 12345;
    make_file(older, "older", &old_magic, sizeof old_magic);
    make_file(incomplete, "incomplete", &no_magic, sizeof no_magic);
    make_file(foreign, "foreign", &other, sizeof other);
    test_daemon_start(&living, NULL);
    test_daemon_start(&killed, NULL);
    ck_assert(!llm_status_abandoned(killed.status_name, NULL));
    kill(killed.pid, SIGKILL);
    waitpid(killed.pid, NULL, 0);
    uint64_t deadline_ns = llm_deadline_ns(UINT64_C(30000000000));
    while (!llm_status_abandoned(killed.status_name, NULL)) { /* its engine has the file, too */
        ck_assert_uint_gt(llm_remaining_ns(deadline_ns), 0);
        test_sleep_ms(5);
    }
    test_daemon_start(&next, NULL);
    ck_assert(exists(killed.status_name)); /* to be looked at, for an hour */
    ck_assert(exists(older));
    static char said[65536];
    run_command(said, sizeof said, "llmctl doctor --socket %s | grep 'status files'", next.socket);
    ck_assert_ptr_nonnull(strstr(said, killed.status_name));
    ck_assert_ptr_null(strstr(said, living.status_name));
    test_daemon_stop(&next);
    make_old(killed.status_name);
    make_old(older);
    make_old(living.status_name); /* however long it was silent */
    test_daemon_start(&next, NULL);
    ck_assert(!exists(killed.status_name));
    ck_assert(!exists(older));
    ck_assert(exists(living.status_name));
    ck_assert(exists(next.status_name));
    ck_assert(exists(incomplete));
    ck_assert(exists(foreign));
    shm_unlink(incomplete);
    shm_unlink(foreign);
    test_daemon_assert_clean(&living);
    test_daemon_stop(&living);
    test_daemon_stop(&next);
    llm_status_close(killed.status);
    unlink(killed.socket);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", killed.directory);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(looking_for_dead_ones_does_not_disturb_a_daemon_of_that_name)
{
    test_daemon_start(&living, NULL);
    for (int i = 0; i < 1000; i++)
        ck_assert(!llm_status_abandoned(living.status_name, NULL));
    test_daemon_stop(&living);
    ck_assert(!llm_status_abandoned(living.status_name, NULL)); /* there is none */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/stale");
    TCase *tcase = tcase_create("stale");
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, the_next_daemon_removes_what_is_provably_dead);
    tcase_add_test(tcase, looking_for_dead_ones_does_not_disturb_a_daemon_of_that_name);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
