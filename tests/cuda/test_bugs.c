/*
 * test_bugs.c - every seeded bug is found by the builds that the table names, correct kernels by none.
 * How: run_bug is started for each bug under each policy with a few seeds, as a program of its own, because most
 * findings end the process. A build without sanitizers, an ASan + UBSan and a TSan build each have a column: the
 * exit status that at least one schedule must give.
 */
#include "tests/cuda/bugs.h"
#include "tests/cuda/emu/emu.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { /* exit statuses */
    NOTHING = 0,
    WRONG = 3,       /* run_bug: the numbers are not right */
    RACE = 66,       /* ThreadSanitizer */
    DEADLOCK = 97,   /* emulator */
    GUARD_PAGE = 98, /* emulator */
    MISUSE = 99,     /* emulator */
    ANY = -1         /* a sanitizer's report, whatever its status */
};

static const struct {
    enum bug bug;
    const char *name;
    int plain, asan, tsan;
} rows[] = {
    {BUG_NONE, "correct: reverse through shared memory", NOTHING, NOTHING, NOTHING},
    {BUG_NO_BARRIER, "no __syncthreads", WRONG, WRONG, RACE},
    {BUG_WRITE_AFTER_READ, "write after read", WRONG, WRONG, RACE},
    {BUG_NO_SYNCWARP, "no __syncwarp", WRONG, WRONG, RACE},
    {BUG_NONE_SYNCWARP, "correct: __syncwarp", NOTHING, NOTHING, NOTHING},
    {BUG_COPY_NOT_WAITED, "cp.async read before its wait", WRONG, WRONG, RACE},
    {BUG_COPY_LEFT, "cp.async never waited for", MISUSE, MISUSE, MISUSE},
    {BUG_NONE_COPY, "correct: cp.async", NOTHING, NOTHING, NOTHING},
    {BUG_SHARED_UNSET, "shared memory that nobody wrote", WRONG, WRONG, WRONG},
    {BUG_LOAD_BEYOND, "load beyond a buffer", MISUSE, MISUSE, MISUSE},
    {BUG_STORE_BEYOND, "store beyond a buffer", MISUSE, MISUSE, ANY},
    {BUG_SHARED_BEYOND, "beyond dynamic shared memory", GUARD_PAGE, ANY, ANY},
    {BUG_MISALIGNED, "16 bytes at a multiple of 4", MISUSE, MISUSE, MISUSE},
    {BUG_HALF_SHUFFLE, "shuffle of half a warp with a full mask", MISUSE, MISUSE, MISUSE},
    {BUG_SHUFFLE_RETURNED, "shuffle with lanes that returned", MISUSE, MISUSE, MISUSE},
    {BUG_BARRIER_IN_BRANCH, "__syncthreads in two branches", MISUSE, MISUSE, MISUSE},
    {BUG_TWO_STORES, "two threads, one word", NOTHING, NOTHING, RACE},
    {BUG_TWO_BLOCKS, "two blocks, one word", NOTHING, NOTHING, RACE},
    {BUG_LAST_BLOCK, "last block's sum without fences", NOTHING, NOTHING, RACE},
    {BUG_NONE_LAST_BLOCK, "correct: last block's sum", NOTHING, NOTHING, NOTHING},
};

enum {
    ROWS = sizeof rows / sizeof rows[0]
};
_Static_assert((int)ROWS == (int)BUG_COUNT, "every bug has a row");

/* The exit status of run_bug; 256 + signal if it did not get that far. */
static int run(enum bug bug, int policy, int seed)
{
    char numbers[3][16];
    snprintf(numbers[0], sizeof numbers[0], "%d", (int)bug);
    snprintf(numbers[1], sizeof numbers[1], "%d", policy);
    snprintf(numbers[2], sizeof numbers[2], "%d", seed);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(nowhere, STDOUT_FILENO);
        dup2(nowhere, STDERR_FILENO);
        setenv("TSAN_OPTIONS", "halt_on_error=1:exitcode=66", 1);
        execl(RUN_BUG, RUN_BUG, numbers[0], numbers[1], numbers[2], (char *)NULL);
        _exit(127);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

START_TEST(the_table_says_what_finds_each_bug)
{
    int want = emu_has_tsan() ? rows[_i].tsan : emu_has_asan() ? rows[_i].asan : rows[_i].plain;
    /* Under ThreadSanitizer a program takes long to start, and a race shows under any schedule. */
    int seeds = emu_has_tsan() || emu_has_asan() ? 1 : 3, tried = 0, found = 0;
    for (int policy = emu_has_tsan() ? EMU_RANDOM : 0; policy < EMU_POLICY_COUNT; policy++) {
        for (int seed = 1; seed <= seeds; seed++, tried++) {
            int got = run(rows[_i].bug, policy, seed);
            ck_assert_msg(got != 127 && got != 2, "%s cannot be run", RUN_BUG);
            ck_assert_msg(want != NOTHING || got == NOTHING, "%s: status %d under %s, seed %d",
                          rows[_i].name, got, emu_policy_names[policy], seed);
            found += want == ANY ? got != NOTHING : got == want;
        }
    }
    printf("%-40s found by %d of %d schedules\n", rows[_i].name, want == NOTHING ? 0 : found,
           tried);
    ck_assert_msg(found > 0, "%s: no schedule gave status %d", rows[_i].name, want);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda/bugs");
    TCase *tc = tcase_create("bugs");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, the_table_says_what_finds_each_bug, 0, ROWS);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
