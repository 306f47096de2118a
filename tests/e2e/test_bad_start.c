/*
 * test_bad_start.c - whatever is wrong at the start ends with exit code 1 and one sentence that names it.
 */
#include <check.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/daemon.h"

static char directory[64], socket_path[96], path[128];

static void setup(void)
{
    strcpy(directory, "/tmp/llmd-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(socket_path, sizeof socket_path, "%s/s", directory);
}

static void teardown(void)
{
    static const char *const names[] = {"s", "s.lock", "s.log", "t.toml", "m/config.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/m", directory);
    rmdir(path);
    ck_assert_int_eq(rmdir(directory), 0);
}

static void write_file(const char *name, const char *text)
{
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

/* In the foreground and in the background alike. */
static void assert_refused(int exit_code, const char *sentence, const char *const *more)
{
    for (int foreground = 0; foreground < 2; foreground++) {
        const char *arguments[16] = {"llmd", "--socket", socket_path, "--set",
                                     "kv.pool_bytes=8MiB"};
        unsigned count = 5;
        if (foreground)
            arguments[count++] = "--foreground";
        for (const char *const *one = more; *one && count < 15; one++)
            arguments[count++] = *one;
        char said[4096];
        int code = test_run_llmd(arguments, said, sizeof said);
        ck_assert_msg(code == exit_code && strstr(said, sentence), "code %d, said: %s", code, said);
        ck_assert_int_ne(access(socket_path, F_OK), 0);
    }
}
#define REFUSED(code, sentence, ...) \
    assert_refused(code, sentence, (const char *const[]){__VA_ARGS__, NULL})

START_TEST(unknown_options_and_keys_are_named)
{
    REFUSED(64, "--frobnicate", "--frobnicate");
    REFUSED(64, "unexpected argument \"serve\"", "serve");
    REFUSED(1, "kv.pool is not known; did you mean kv.pool_bytes?", "--set", "kv.pool=1");
    REFUSED(1, "\"kv\" is not table.key=value", "--set", "kv");
    REFUSED(1, "limits.sequences = 0 is out of range 1..512", "--set", "limits.sequences=0");
    REFUSED(1, "limits.step_tokens = 8 is less than limits.sequences = 9", "--model", "echo",
            "--set", "limits.step_tokens=8", "--set", "limits.sequences=9");
    REFUSED(1, "daemon.idle_exit_s = \"soon\" is not a whole number", "--idle-exit", "soon");
}
END_TEST

START_TEST(a_wrong_file_is_named_with_its_line)
{
    char file[128];
    snprintf(file, sizeof file, "%s/t.toml", directory);
    REFUSED(1, "t.toml: No such file", "--config", file);
    write_file("t.toml", "[limits]\nrequests = 4\nrequets = 5\n");
    REFUSED(1, "t.toml:3: limits.requets is not known; did you mean limits.requests?", "--config",
            file);
    write_file("t.toml", "[limits]\nrequests = \"4\"\n");
    REFUSED(1, "t.toml:2: limits.requests must be a whole number", "--config", file);
}
END_TEST

START_TEST(a_model_that_is_not_there_is_named)
{
    REFUSED(1, "no model \"gpt-9\" (looked in:", "--model", "gpt-9");
    REFUSED(1, "/nowhere/at-all is not a model", "--model", "/nowhere/at-all");
    snprintf(path, sizeof path, "%s/m", directory);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    write_file("m/config.json", "{\"hidden_size\": -3}");
    char model[80];
    snprintf(model, sizeof model, "%s/m", directory);
    REFUSED(1, "config.json", "--model", model);
}
END_TEST

START_TEST(a_place_that_cannot_be_is_named)
{
    char elsewhere[128];
    snprintf(elsewhere, sizeof elsewhere, "%s/not/there/s", directory);
    REFUSED(1, "cannot make the socket's directory", "--model", "echo", "--socket", elsewhere);
    write_file("s.lock", "");
    write_file("t.toml", "precious");
    snprintf(elsewhere, sizeof elsewhere, "%s/t.toml", directory);
    REFUSED(1, "t.toml exists and is not a socket", "--model", "echo", "--socket", elsewhere);
    snprintf(path, sizeof path, "%s/t.toml.lock", directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/t.toml.log", directory);
    unlink(path);
    REFUSED(1, "there is no group \"no-such-group\"", "--model", "echo", "--set",
            "daemon.group=no-such-group");
    REFUSED(1, "instance \"a/b\" is not a name", "--model", "echo", "--instance", "a/b");
    REFUSED(1, "kv.pool_bytes = 1 is smaller than one slab", "--model", "echo", "--set",
            "kv.pool_bytes=1");
}
END_TEST

START_TEST(a_second_daemon_is_refused_and_names_the_first)
{
    struct test_daemon daemon;
    test_daemon_start(&daemon, (const char *const[]){"--instance", "test-first", NULL});
    char said[4096], sentence[256];
    snprintf(sentence, sizeof sentence,
             "another daemon (pid %d) owns %s; use --socket for a second one", (int)daemon.pid,
             daemon.socket);
    ck_assert_int_eq(test_run_llmd((const char *const[]){"llmd", "--model", "echo", "--socket",
                                                         daemon.socket, NULL},
                                   said, sizeof said),
                     1);
    ck_assert_msg(strstr(said, sentence) != NULL, "%s", said);
    ck_assert_int_eq(
        test_run_llmd((const char *const[]){"llmd", "--foreground", "--model", "echo", "--socket",
                                            socket_path, "--instance", "test-first", NULL},
                      said, sizeof said),
        1);
    ck_assert_msg(strstr(said, "another daemon uses the status file") != NULL, "%s", said);
    test_daemon_assert_clean(&daemon); /* it noticed nothing */
    test_daemon_stop(&daemon);
}
END_TEST

START_TEST(a_dead_daemons_socket_is_replaced)
{
    struct test_daemon daemon;
    test_daemon_start(&daemon, NULL);
    struct test_daemon killed = daemon;
    kill(daemon.pid, SIGKILL); /* socket and status file stay behind; the engine goes with it */
    ck_assert_int_eq(waitpid(daemon.pid, NULL, 0), daemon.pid);
    ck_assert_int_eq(access(killed.socket, F_OK), 0);
    char said[4096];
    ck_assert_int_eq(
        test_run_llmd((const char *const[]){"llmd", "--model", "echo", "--socket", killed.socket,
                                            "--set", "kv.pool_bytes=8MiB", NULL},
                      said, sizeof said),
        0);
    ck_assert_str_eq(said, ""); /* in the background, ready, and silent */
    llm_connection *connection = test_daemon_connect(&killed);
    llm_error error;
    ck_assert_int_eq(llm_ping(connection, UINT64_C(60000000000), &error), LLM_OK);
    ck_assert_int_eq(llm_daemon_stop(connection, &error), LLM_OK);
    llm_disconnect(connection);
    for (int i = 0; i < 2000 && access(killed.socket, F_OK) == 0; i++)
        test_sleep_ms(5);
    ck_assert_int_ne(access(killed.socket, F_OK), 0);
    static const char *const left[] = {"s.lock", "s.log", "log"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", killed.directory, left[i]);
        unlink(path);
    }
    ck_assert_int_eq(rmdir(killed.directory), 0);
}
END_TEST

/* A small /dev/shm of this test process's own. False: not root, so it cannot be had. */
static bool shrink_shared_memory(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", "/dev/shm", "tmpfs", 0, "size=64k") == 0;
}

START_TEST(no_room_for_the_status_file_is_said_with_what_is_needed)
{
    if (!shrink_shared_memory()) {
        puts("skipped: needs root, for a small /dev/shm");
        return;
    }
    REFUSED(1, "cannot create the status file /dev/shm/llmd.", "--model", "echo");
    ck_assert_int_eq(umount("/dev/shm"), 0);
}
END_TEST

START_TEST(too_few_descriptors_are_said_so)
{
    const struct rlimit few = {.rlim_cur = 9, .rlim_max = 9}; /* of this test's process alone */
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    REFUSED(1, "Too many open files", "--model", "echo");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/bad_start");
    TCase *tcase = tcase_create("start");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, unknown_options_and_keys_are_named);
    tcase_add_test(tcase, a_wrong_file_is_named_with_its_line);
    tcase_add_test(tcase, a_model_that_is_not_there_is_named);
    tcase_add_test(tcase, a_place_that_cannot_be_is_named);
    tcase_add_test(tcase, a_second_daemon_is_refused_and_names_the_first);
    tcase_add_test(tcase, a_dead_daemons_socket_is_replaced);
    tcase_add_test(tcase, no_room_for_the_status_file_is_said_with_what_is_needed);
    tcase_add_test(tcase, too_few_descriptors_are_said_so);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
