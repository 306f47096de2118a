/*
 * test_given_socket.c - socket activation: llmd serves a socket that was made for it, and leaves it behind.
 * How: each test listens in a directory of its own and hands the socket over as descriptor 3, as systemd does.
 */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/llm.h"
#include "tests/support/daemon.h"

#define MINUTE UINT64_C(60000000000)

static char directory[64], path[96], said[4096];

static void setup(void)
{
    strcpy(directory, "/tmp/llmd-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/s", directory);
    unsetenv("LLMD_SOCKET");
}

static void teardown(void)
{
    char lock[112];
    unlink(path);
    snprintf(lock, sizeof lock, "%s.lock", path);
    unlink(lock);
    ck_assert_int_eq(rmdir(directory), 0);
}

static int listen_here(int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, type, 0);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(fd, 16), 0);
    return fd;
}

/* llmd with `fd` as descriptor 3; what it says comes out of *out_fd. `pid_off` moves LISTEN_PID away from it. */
static pid_t start_with(int fd, const char *count, int pid_off, const char *more, int *out_fd)
{
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char text[32];
        snprintf(text, sizeof text, "%d", (int)getpid() + pid_off);
        setenv("LISTEN_PID", text, 1);
        setenv("LISTEN_FDS", count, 1);
        dup2(ends[1], STDERR_FILENO);
        int given = fcntl(fd, F_DUPFD, 10);
        dup2(given, 3);
        close(given);
        execl(LLM_BINARY_DIR "/bin/llmd", "llmd", "--foreground", "--idle-exit", "120", "--model",
              "echo", "--threads", "1", "--set", "kv.pool_bytes=32MiB",
#ifdef __SANITIZE_ADDRESS__
              "--set", "daemon.debugging=true",
#endif
              more, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    *out_fd = ends[0];
    return pid;
}

/* Its exit code; what it said until then is in `said`. */
static int wait_for(pid_t pid, int from_fd)
{
    size_t used = 0;
    ssize_t taken;
    int status = 0;
    while ((taken = read(from_fd, said + used, sizeof said - 1 - used)) > 0)
        used += (size_t)taken;
    said[used] = 0;
    close(from_fd);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void ask(void)
{
    llm_connection *connection;
    llm_error error;
    const llm_connect_options options = {
        .socket = path, .no_autostart = true, .timeout_ns = MINUTE};
    ck_assert_msg(llm_connect(&connection, &options, &error) == LLM_OK, "%s", error.message);
    const uint32_t prompt[] = {5, 6};
    llm_stream *stream;
    ck_assert_int_eq(
        llm_submit(connection, prompt, 2, &(llm_sampling){.max_tokens = 8}, &stream, &error),
        LLM_OK);
    ck_assert_uint_eq(test_read_echo(stream, prompt, 2, LLM_OK), 8);
    llm_stream_close(stream);
    llm_disconnect(connection);
}

START_TEST(a_given_socket_is_served_and_left_behind)
{
    struct stat before, after;
    int fd = listen_here(SOCK_SEQPACKET), out_fd;
    ck_assert_int_eq(stat(path, &before), 0);
    for (int time = 0; time < 2; time++) { /* the second daemon takes the same socket */
        pid_t pid = start_with(fd, "1", 0, NULL, &out_fd);
        ask(); /* the kernel holds the client until the daemon is there */
        kill(pid, SIGTERM);
        ck_assert_msg(wait_for(pid, out_fd) == 0, "%s", said);
        ck_assert_int_eq(stat(path, &after), 0);
        ck_assert_uint_eq(before.st_ino, after.st_ino);
    }
    close(fd);
}
END_TEST

START_TEST(a_socket_meant_for_another_process_is_left_alone)
{
    int fd = listen_here(SOCK_SEQPACKET), out_fd;
    char own[128];
    snprintf(own, sizeof own, "--socket=%s/own", directory);
    pid_t pid = start_with(fd, "1", 1, own, &out_fd);
    llm_connection *connection = NULL;
    llm_error error;
    char other[128];
    snprintf(other, sizeof other, "%s/own", directory);
    const llm_connect_options options = {.socket = other, .no_autostart = true};
    for (int tries = 0; tries < 6000; tries++) {
        if (llm_connect(&connection, &options, &error) == LLM_OK)
            break;
        test_sleep_ms(10);
    }
    ck_assert_msg(connection != NULL, "%s", error.message);
    llm_disconnect(connection);
    kill(pid, SIGTERM);
    ck_assert_msg(wait_for(pid, out_fd) == 0, "%s", said);
    ck_assert_int_ne(access(other, F_OK), 0); /* its own goes with it */
    strcat(other, ".lock");
    unlink(other);
    close(fd);
}
END_TEST

static const struct {
    int type;
    const char *count, *more, *sentence;
} wrong[] = {
    {SOCK_STREAM, "1", NULL, "no listening Unix socket of packets"},
    {SOCK_SEQPACKET, "2", NULL, "2 sockets were handed over, llmd takes one"},
    {SOCK_SEQPACKET, "1", "--socket=/tmp/llmd-test-elsewhere", "set one of them"},
};

START_TEST(a_socket_that_does_not_fit_is_refused_with_a_sentence)
{
    int fd = listen_here(wrong[_i].type), out_fd;
    pid_t pid = start_with(fd, wrong[_i].count, 0, wrong[_i].more, &out_fd);
    ck_assert_int_eq(wait_for(pid, out_fd), 1);
    ck_assert_msg(strstr(said, wrong[_i].sentence) != NULL, "%s", said);
    ck_assert_int_eq(access(path, F_OK), 0);
    close(fd);
}
END_TEST

START_TEST(a_socket_that_does_not_listen_is_refused)
{
    int out_fd, fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    pid_t pid = start_with(fd, "1", 0, NULL, &out_fd);
    ck_assert_int_eq(wait_for(pid, out_fd), 1);
    ck_assert_msg(strstr(said, "no listening Unix socket of packets") != NULL, "%s", said);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/given_socket");
    TCase *tcase = tcase_create("given socket");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_given_socket_is_served_and_left_behind);
    tcase_add_test(tcase, a_socket_meant_for_another_process_is_left_alone);
    tcase_add_loop_test(tcase, a_socket_that_does_not_fit_is_refused_with_a_sentence, 0,
                        sizeof wrong / sizeof wrong[0]);
    tcase_add_test(tcase, a_socket_that_does_not_listen_is_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
