/*
 * test_service.c - what a service manager hears over $NOTIFY_SOCKET (sd_notify(3)), and when the watchdog goes hungry.
 * How: the test is the service manager: a datagram socket in the daemon's folder.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/clock.h"
#include "tests/support/daemon.h"

#define MINUTE UINT64_C(60000000000)

static struct test_daemon server;
static int manager = -1;
static char manager_path[64];

static void setup(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(manager_path, sizeof manager_path, "/tmp/llmd-notify-%d", (int)getpid());
    snprintf(address.sun_path, sizeof address.sun_path, "%s", manager_path);
    unlink(manager_path);
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(manager, (struct sockaddr *)&address, sizeof address), 0);
    setenv("NOTIFY_SOCKET", manager_path, 1);
    setenv("WATCHDOG_USEC", "200000", 1);
    test_daemon_start(&server, (const char *const[]){"--set", "daemon.engine_hang_s=4", NULL});
}

static void teardown(void)
{
    close(manager);
    unlink(manager_path);
}

/* The next thing said; "" when nothing is within `ms`. */
static const char *hear(unsigned ms)
{
    static char text[512];
    uint64_t deadline_ns = llm_deadline_ns(ms * LLM_NS_PER_MS);
    for (;;) {
        ssize_t bytes = recv(manager, text, sizeof text - 1, 0);
        text[bytes > 0 ? bytes : 0] = '\0';
        if (bytes > 0 || llm_remaining_ns(deadline_ns) == 0)
            return text;
        test_sleep_ms(2);
    }
}

static void wait_heard(const char *part)
{
    uint64_t deadline_ns = llm_deadline_ns(MINUTE / 2);
    while (strstr(hear(100), part) == NULL)
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0, "nobody says \"%s\"", part);
}

static unsigned count_heard(const char *part, unsigned ms)
{
    unsigned count = 0;
    uint64_t deadline_ns = llm_deadline_ns(ms * LLM_NS_PER_MS);
    while (llm_remaining_ns(deadline_ns) > 0)
        count += strstr(hear(50), part) != NULL;
    return count;
}

START_TEST(it_says_ready_what_it_does_and_that_it_stops)
{
    wait_heard("READY=1");
    wait_heard("STATUS=serving, engine generation 1, ");
    llm_connection *connection = test_daemon_connect(&server);
    wait_heard("STATUS=serving, engine generation 1, 1 clients");
    test_daemon_kill_engine(&server);
    wait_heard("STATUS=serving, engine generation 2, 1 clients");
    llm_disconnect(connection);
    kill(server.pid, SIGTERM);
    wait_heard("STOPPING=1");
    test_daemon_wait(&server);
}
END_TEST

START_TEST(the_watchdog_is_fed_only_while_the_engine_lives)
{
    pid_t engine = (pid_t)atomic_load(&server.status->keeper.engine_pid);
    wait_heard("WATCHDOG=1");
    ck_assert_uint_ge(count_heard("WATCHDOG=1", 2000), 2);
    kill(engine, SIGSTOP);
    wait_heard("STATUS=engine hung");
    count_heard("WATCHDOG=1", 300); /* what was on its way */
    ck_assert_uint_eq(count_heard("WATCHDOG=1", 1500), 0);
    kill(engine, SIGCONT);
    wait_heard("STATUS=serving");
    wait_heard("WATCHDOG=1");
    test_daemon_stop(&server);
}
END_TEST

int main(void)
{
#ifndef LLMD_HAVE_SYSTEMD
    puts("skipped: this build is without libsystemd (libsystemd-dev)");
    return 77;
#endif
    Suite *suite = suite_create("e2e/service");
    TCase *tcase = tcase_create("service");
    tcase_set_timeout(tcase, 100);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, it_says_ready_what_it_does_and_that_it_stops);
    tcase_add_test(tcase, the_watchdog_is_fed_only_while_the_engine_lives);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
