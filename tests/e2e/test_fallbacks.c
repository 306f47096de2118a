/*
 * test_fallbacks.c - llmd where a container or an administrator allows less: answers come all the same, and the log says
 * what is done without.
 * How: each test starts its own daemon behind a limit, a filter, a mount or another user that was set between fork and
 * exec; an answer must be right, and the daemon sound. What needs root says so and is skipped.
 */
#include <check.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shm/feature.h"
#include "tests/support/daemon.h"

#define SECOND       UINT64_C(1000000000)
#define UNUSED_USER  64321 /* owns nothing and runs nothing */
#define PREPARE_FAIL 126

static struct test_daemon server;
static llm_error error;

/* Between fork and exec. */
static void require(bool done)
{
    if (!done)
        _exit(PREPARE_FAIL);
}

/* ---- What must hold behind every wall --------------------------------------------------------------- */

static void assert_answers(llm_connection *connection)
{
    uint32_t prompt[40];
    for (uint32_t i = 0; i < 40; i++)
        prompt[i] = 100 + i;
    llm_stream *stream;
    ck_assert_msg(llm_submit(connection, prompt, 40, &(llm_sampling){.max_tokens = 200}, &stream,
                             &error) == LLM_OK,
                  "%s", error.message);
    ck_assert_uint_eq(test_read_echo(stream, prompt, 40, LLM_OK), 200);
    llm_stream_close(stream);
}

static const char *daemon_log(void)
{
    static char log[8192];
    FILE *file = fopen(server.log, "r");
    ck_assert_ptr_nonnull(file);
    log[fread(log, 1, sizeof log - 1, file)] = '\0';
    fclose(file);
    return log;
}

#define ASSERT_LOG(text) ck_assert_msg(strstr(daemon_log(), text) != NULL, "%s", daemon_log())

static void assert_serves_behind(void (*prepare)(const struct test_daemon *),
                                 const char *const *arguments)
{
    test_daemon_start_prepared(&server, prepare, arguments);
    llm_connection *connection = test_daemon_connect(&server);
    assert_answers(connection);
    test_daemon_kill_engine(&server); /* the next engine stands behind the same wall */
    test_daemon_wait_generation(&server, 2);
    assert_answers(connection);
    llm_disconnect(connection);
    test_daemon_assert_clean(&server);
}

static bool is_root(const char *for_what)
{
    if (geteuid() == 0)
        return true;
    printf("skipped: needs root, for %s\n", for_what);
    return false;
}

/* ---- A container's filter --------------------------------------------------------------------------- */

/* What Docker's default profile denies with EPERM to a container without capabilities, of what llmd or a library under
 * it might ask for (https://docs.docker.com/engine/security/seccomp/, moby/profiles/seccomp/default.json). */
static const uint16_t denied_calls[] = {
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_userfaultfd,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_pidfd_getfd,
    SYS_perf_event_open,
    SYS_bpf,
    SYS_mbind,
    SYS_set_mempolicy,
    SYS_move_pages,
    SYS_mount,
    SYS_umount2,
    SYS_unshare,
    SYS_setns,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kcmp,
    SYS_quotactl,
    SYS_reboot,
    SYS_syslog,
#ifndef __SANITIZE_ADDRESS__ /* its leak check traces */
    SYS_ptrace,
#endif
};
#define DENIED_COUNT (sizeof denied_calls / sizeof denied_calls[0])

#if defined(__x86_64__)
#define THIS_ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define THIS_ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

static void filter_like_docker(const struct test_daemon *daemon)
{
    (void)daemon;
    struct sock_filter code[DENIED_COUNT + 6];
    unsigned n = 0;
    code[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCHITECTURE, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < DENIED_COUNT; i++)
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, denied_calls[i],
                                                 (uint8_t)(DENIED_COUNT - i), 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
    require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    require(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

START_TEST(a_containers_filter_takes_io_uring_and_nothing_else)
{
    assert_serves_behind(filter_like_docker, NULL);
    ASSERT_LOG("msg=\"facility missing\" name=io_uring reason=\"");
    ASSERT_LOG("Operation not permitted\" instead=\"the engine parks in epoll\"");
    ASSERT_LOG("msg=parking by=epoll reason=\"no io_uring here: Operation not permitted\"");
    ck_assert_ptr_null(
        strstr(daemon_log(), "msg=\"facility missing\" name=noexec_seal reason=\"this"));
    test_daemon_stop(&server);
}
END_TEST

/* ---- LLMD_DISABLE ----------------------------------------------------------------------------------- */

static void disable_everything(const struct test_daemon *daemon)
{
    char list[256] = "";
    (void)daemon;
    for (const struct llm_feature *one = llm_features; one->name; one++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s,", one->name);
    require(setenv("LLMD_DISABLE", list, 1) == 0);
}

START_TEST(without_any_facility_everything_works_and_each_is_named)
{
    assert_serves_behind(disable_everything, NULL);
    for (const struct llm_feature *one = llm_features; one->name; one++) {
        char line[300];
        snprintf(
            line, sizeof line,
            "msg=\"facility missing\" name=%s reason=\"LLMD_DISABLE names %s\" instead=\"%s\"\n",
            one->name, one->name, one->without);
        ASSERT_LOG(line);
    }
    ck_assert_ptr_null(strstr(daemon_log(), "is no facility"));
    test_daemon_stop(&server);
}
END_TEST

static void disable_nonsense(const struct test_daemon *daemon)
{
    (void)daemon;
    require(setenv("LLMD_DISABLE", "io_uring, huge_pages,IO_URING", 1) == 0);
}

START_TEST(a_word_that_disables_nothing_is_one_warning)
{
    test_daemon_start_prepared(&server, disable_nonsense, NULL);
    ASSERT_LOG("level=warn process=llmd pid=");
    ASSERT_LOG("msg=\"LLMD_DISABLE: \\\" huge_pages\\\" is no facility; there are noexec_seal,");
    const char *first = strstr(daemon_log(), "is no facility");
    ck_assert_ptr_null(strstr(first + 1, "is no facility"));
    ASSERT_LOG("msg=\"facility missing\" name=io_uring reason=\"LLMD_DISABLE names io_uring\"");
    test_daemon_stop(&server);
}
END_TEST

/* ---- Limits ----------------------------------------------------------------------------------------- */

static void limit(int resource, rlim_t most)
{
    const struct rlimit limits = {.rlim_cur = most, .rlim_max = most};
    require(setrlimit((__rlimit_resource_t)resource, &limits) == 0);
}

static void nothing_locked_no_cores(const struct test_daemon *daemon)
{
    (void)daemon;
    limit(RLIMIT_MEMLOCK, 0);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_RTPRIO, 0);
    limit(RLIMIT_NICE, 0);
    limit(RLIMIT_SIGPENDING, 0);
    limit(RLIMIT_MSGQUEUE, 0);
}

START_TEST(nothing_is_locked_and_no_core_is_needed)
{
    assert_serves_behind(nothing_locked_no_cores, NULL);
    test_daemon_stop(&server);
}
END_TEST

static void few_descriptors(const struct test_daemon *daemon)
{
    (void)daemon;
    limit(RLIMIT_NOFILE, 64);
}

START_TEST(sixty_four_descriptors_are_enough_for_some_and_the_others_are_told)
{
    test_daemon_start_prepared(&server, few_descriptors, NULL);
    ASSERT_LOG("too few descriptors\" limit=64 wanted=");
    llm_connection *first = test_daemon_connect(&server), *more[32];
    const llm_connect_options options = {
        .socket = server.socket, .no_autostart = true, .timeout_ns = SECOND / 2};
    enum llm_status status = LLM_OK;
    int count = 0;
    while (count < 32 && (status = llm_connect(&more[count], &options, &error)) == LLM_OK)
        count++;
    ck_assert_int_gt(count, 0);
    ck_assert_int_lt(count, 32);
    ck_assert_msg(status != LLM_OK && error.message[0], "the one too many was told nothing");
    assert_answers(first); /* the bystander noticed nothing */
    while (count > 0)
        llm_disconnect(more[--count]);
    for (int tries = 0; tries < 400 && llm_connect(&more[0], &options, &error) != LLM_OK; tries++)
        test_sleep_ms(5); /* there is room again */
    assert_answers(more[0]);
    llm_disconnect(more[0]);
    llm_disconnect(first);
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__ /* which maps terabytes */
static void little_address_space(const struct test_daemon *daemon)
{
    (void)daemon;
    limit(RLIMIT_AS, 512 << 20);
}

START_TEST(half_a_gigabyte_of_addresses_is_enough)
{
    /* The rows of 4,096 contexts would be half a gigabyte of addresses by themselves, though hardly any of memory. */
    assert_serves_behind(little_address_space,
                         (const char *const[]){"--set", "limits.contexts=1024", NULL});
    test_daemon_stop(&server);
}
END_TEST
#endif

/* ---- Another user, and little to see ---------------------------------------------------------------- */

static void become_nobody(const struct test_daemon *daemon)
{
    require(chown(daemon->directory, UNUSED_USER, UNUSED_USER) == 0);
    require(setgid(UNUSED_USER) == 0 && setuid(UNUSED_USER) == 0); /* every capability goes */
    limit(RLIMIT_NPROC, 16);                                       /* of this user */
}

START_TEST(a_user_with_nothing_can_serve)
{
    if (!is_root("another user"))
        return;
    assert_serves_behind(become_nobody, NULL);
    test_daemon_stop(&server);
}
END_TEST

static void read_only_root(const struct test_daemon *daemon)
{
    require(unshare(CLONE_NEWNS) == 0);
    require(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    require(mount(daemon->directory, daemon->directory, NULL, MS_BIND, NULL) == 0);
    require(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0);
}

START_TEST(nothing_is_written_outside_its_places)
{
    if (!is_root("mounts of its own"))
        return;
    assert_serves_behind(read_only_root, NULL);
    test_daemon_stop(&server);
}
END_TEST

/* ---- Refusals --------------------------------------------------------------------------------------- */

START_TEST(without_proc_it_says_what_is_missing)
{
    char said[4096];
    if (!is_root("mounts of its own"))
        return;
    require(unshare(CLONE_NEWNS) == 0); /* of this test's process alone */
    require(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    char directory[] = "/tmp/llmd-test-XXXXXX", path[64];
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/s", directory);
    const char *const arguments[] = {"llmd",    "--foreground", "--socket", path,
                                     "--model", "echo",         NULL};
    require(mount("none", "/proc", "tmpfs", 0, "size=4k") == 0);
    int code = test_run_llmd(arguments, said, sizeof said);
    ck_assert_int_eq(umount("/proc"), 0);
    ck_assert_msg(code == 1 && strstr(said, "/proc"), "code %d, said: %s", code, said);
    snprintf(path, sizeof path, "%s/s.lock", directory);
    unlink(path);
    ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/fallbacks");
    TCase *tcase = tcase_create("less");
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, a_containers_filter_takes_io_uring_and_nothing_else);
    tcase_add_test(tcase, without_any_facility_everything_works_and_each_is_named);
    tcase_add_test(tcase, a_word_that_disables_nothing_is_one_warning);
    tcase_add_test(tcase, nothing_is_locked_and_no_core_is_needed);
    tcase_add_test(tcase, sixty_four_descriptors_are_enough_for_some_and_the_others_are_told);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(tcase, half_a_gigabyte_of_addresses_is_enough);
#endif
    tcase_add_test(tcase, a_user_with_nothing_can_serve);
    tcase_add_test(tcase, nothing_is_written_outside_its_places);
    tcase_add_test(tcase, without_proc_it_says_what_is_missing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
