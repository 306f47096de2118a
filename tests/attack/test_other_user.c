/*
 * test_other_user.c - another user of the machine: refused at the door, or let in and kept to what is theirs.
 * How: needs root: the daemon is root's, a child drops to uid 65534 ("nobody") and tries. Skipped otherwise.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/tables.h"
#include "tests/attack/attack.h"
#include "tests/attack/bystander.h"
#include "tests/support/daemon.h"
#include "tests/support/raw_client.h"

#define NOBODY 65534
#define MINUTE UINT64_C(60000000000)
#define ROUNDS 100 /* of everything that another user may try */

static struct test_daemon server;
static llm_error error;

static void setup(void)
{
    test_daemon_start(&server, (const char *const[]){"--model", "echo", "--set",
                                                     "models.echo_step_us=2000", NULL});
}

static void teardown(void)
{
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}

/* What an administrator does to let others in: the folder may be passed, the socket be connected to. */
static void open_the_door(void)
{
    ck_assert_int_eq(chmod(server.directory, 0711), 0);
    ck_assert_int_eq(chmod(server.socket, 0666), 0);
}

/* Run `what` in a child that is nobody; its asserts are this test's. */
static void as_nobody(void (*what)(uint64_t), uint64_t argument)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
            _exit(9);
        what(argument);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with 0x%x",
                  (unsigned)status);
}

static llm_connection *connect_as_nobody(void)
{
    llm_connection *connection = NULL;
    const llm_connect_options options = {.socket = server.socket, .no_autostart = true};
    ck_assert_msg(llm_connect(&connection, &options, &error) == LLM_OK, "%s", error.message);
    return connection;
}

static void is_refused_at_the_door(uint64_t unused)
{
    (void)unused;
    llm_connection *connection = NULL;
    const llm_connect_options options = {.socket = server.socket, .no_autostart = true};
    ck_assert_int_eq(llm_connect(&connection, &options, &error), LLM_ERR_PERMISSION);
    ck_assert_ptr_null(connection);
    ck_assert_ptr_nonnull(strstr(error.message, server.socket));
}

START_TEST(without_permission_on_the_socket_the_sentence_names_it)
{
    as_nobody(is_refused_at_the_door, 0);
}
END_TEST

static void asks_and_is_answered(uint64_t unused)
{
    (void)unused;
    const uint32_t prompt[] = {7, 8, 9};
    llm_connection *connection = connect_as_nobody();
    llm_stream *stream = NULL;
    ck_assert_int_eq(
        llm_submit(connection, prompt, 3, &(llm_sampling){.max_tokens = 20}, &stream, &error),
        LLM_OK);
    ck_assert_uint_eq(test_read_echo(stream, prompt, 3, LLM_OK), 20);
    llm_stream_close(stream);
    llm_disconnect(connection);
}

START_TEST(who_is_let_in_is_served)
{
    open_the_door();
    as_nobody(asks_and_is_answered, 0);
}
END_TEST

static void may_not_steer(uint64_t others_request)
{
    llm_connection *connection = connect_as_nobody();
    char report[256];
    ck_assert_int_eq(llm_request_cancel(connection, others_request, MINUTE, &error),
                     LLM_ERR_PERMISSION);
    ck_assert_int_eq(llm_daemon_check(connection, MINUTE, report, sizeof report, &error),
                     LLM_ERR_PERMISSION);
    ck_assert_int_eq(llm_daemon_restart_engine(connection, &error), LLM_ERR_PERMISSION);
    ck_assert_int_eq(llm_daemon_stop(connection, &error), LLM_ERR_PERMISSION);
    llm_disconnect(connection);
}

START_TEST(who_is_no_administrator_steers_nothing_of_others)
{
    open_the_door();
    llm_connection *connection = test_daemon_connect(&server);
    const uint32_t prompt[] = {1, 2, 3, 4};
    llm_stream *stream = NULL;
    llm_stream_info info;
    ck_assert_int_eq(
        llm_submit(connection, prompt, 4, &(llm_sampling){.max_tokens = 200}, &stream, &error),
        LLM_OK);
    uint32_t which;
    ck_assert_int_eq(llm_streams_wait_any(&stream, 1, MINUTE, &which, &error), LLM_OK);
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);

    as_nobody(may_not_steer, info.request_id);

    ck_assert_uint_eq(test_read_echo(stream, prompt, 4, LLM_OK), 200);
    ck_assert_uint_eq(test_daemon_generation(&server), 1);
    llm_stream_close(stream);
    llm_disconnect(connection);
}
END_TEST

/* ---- What is not its own --------------------------------------------------------------------------- */

static pid_t victim;              /* the bystander */
static uint64_t victim_request;   /* a live one, of another client */
static struct raw_client nobodys; /* its own connection, from which some attempts start */

/* Each returns true if it got what it tried, and else leaves errno. */
static bool opens(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool opens_of_processes(const char *what, int flags)
{
    const pid_t pids[] = {(pid_t)server.status->keeper.keeper_pid,
                          (pid_t)atomic_load(&server.status->keeper.engine_pid), victim};
    char path[96];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pids[i], what);
        if (opens(path, flags))
            return true;
    }
    return false;
}

static bool opens_a_descriptor(void)
{
    char name[32];
    for (int fd = 0; fd < 64; fd++) {
        snprintf(name, sizeof name, "fd/%d", fd);
        if (opens_of_processes(name, O_RDWR) || opens_of_processes(name, O_RDONLY))
            return true;
    }
    return false;
}
static bool lists_descriptors(void)
{
    return opens_of_processes("fd", O_RDONLY | O_DIRECTORY);
}
static bool reads_memory_by_proc(void)
{
    return opens_of_processes("mem", O_RDONLY) || opens_of_processes("mem", O_RDWR);
}
static bool reads_environment(void)
{
    return opens_of_processes("environ", O_RDONLY) || opens_of_processes("auxv", O_RDONLY);
}
static bool lists_mappings(void)
{
    return opens_of_processes("map_files", O_RDONLY | O_DIRECTORY);
}

static bool of_each_process(bool (*tries)(pid_t))
{
    return tries((pid_t)server.status->keeper.keeper_pid) ||
           tries((pid_t)atomic_load(&server.status->keeper.engine_pid)) || tries(victim);
}
static bool traces_one(pid_t pid)
{
    return ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0 ||
           ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0;
}
static bool traces(void)
{
    return of_each_process(traces_one);
}
static bool signals_one(pid_t pid)
{
    return kill(pid, 0) == 0 || kill(pid, SIGSTOP) == 0 || kill(pid, SIGKILL) == 0;
}
static bool signals(void)
{
    return of_each_process(signals_one);
}
static bool copies_one(pid_t pid)
{
    char bytes[16];
    struct iovec here = {bytes, sizeof bytes}, there = {&server, sizeof bytes};
    return process_vm_readv(pid, &here, 1, &there, 1, 0) >= 0 ||
           process_vm_writev(pid, &here, 1, &there, 1, 0) >= 0;
}
static bool copies_memory(void)
{
    return of_each_process(copies_one);
}
static bool takes_descriptor_of_one(pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    bool got = false;
    for (int fd = 0; fd < 64 && pidfd >= 0; fd++)
        got = got || syscall(SYS_pidfd_getfd, pidfd, fd, 0) >= 0;
    got = got || (pidfd >= 0 && syscall(SYS_pidfd_send_signal, pidfd, SIGSTOP, NULL, 0) == 0);
    if (pidfd >= 0)
        close(pidfd);
    return got;
}
static bool takes_descriptors(void)
{
    return of_each_process(takes_descriptor_of_one);
}
static bool slows_one(pid_t pid)
{
    struct rlimit none = {0, 0};
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    return setpriority(PRIO_PROCESS, (id_t)pid, 19) == 0 ||
           sched_setaffinity(pid, sizeof one, &one) == 0 ||
           prlimit(pid, RLIMIT_NOFILE, &none, NULL) == 0;
}
static bool slows(void)
{
    return of_each_process(slows_one);
}

static bool opens_status_file(void)
{
    char path[128];
    snprintf(path, sizeof path, "/dev/shm%s", server.status_name);
    return opens(path, O_RDONLY) || opens(path, O_RDWR) || unlink(path) == 0 ||
           chmod(path, 0666) == 0;
}
static bool opens_the_daemons_files(void)
{
    char lock[128];
    snprintf(lock, sizeof lock, "%s.lock", server.socket);
    return opens(server.log, O_RDONLY) || opens(server.log, O_WRONLY | O_APPEND) ||
           opens(lock, O_RDWR) || opens(lock, O_RDONLY) || unlink(lock) == 0;
}
static bool takes_the_socket_away(void)
{
    char other[128];
    snprintf(other, sizeof other, "%s.old", server.socket);
    return unlink(server.socket) == 0 || rename(server.socket, other) == 0 ||
           chmod(server.socket, 0) == 0 || chown(server.socket, NOBODY, NOBODY) == 0;
}
static bool listens_in_the_daemons_place(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, server.socket, strlen(server.socket) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    bool bound = bind(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return bound;
}
/* Nothing of llmd's has a name in the abstract namespace, where there are no permissions. */
static bool finds_an_abstract_name(void)
{
    char line[512];
    FILE *list = fopen("/proc/net/unix", "re");
    bool found = false;
    while (list && fgets(line, sizeof line, list))
        found = found || (strchr(line, '@') && strstr(line, "llmd"));
    if (list)
        fclose(list);
    errno = ENOENT;
    return found;
}

static bool writes_what_it_may_read(void)
{
    static const int readonly[] = {LLM_FD_CTL, LLM_FD_DOWN};
    char path[64], byte = 1;
    bool got = false;
    for (int i = 0; i < 2; i++) {
        int fd = nobodys.fds[readonly[i]];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        got = got || mapped != MAP_FAILED || opens(path, O_RDWR) || opens(path, O_WRONLY) ||
              write(fd, &byte, 1) == 1 || fchmod(fd, 0666) == 0 || ftruncate(fd, 0) == 0 ||
              fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0;
    }
    return got || mprotect((void *)(uintptr_t)nobodys.down, 4096, PROT_READ | PROT_WRITE) == 0;
}
static bool shrinks_what_it_may_write(void)
{
    return ftruncate(nobodys.fds[LLM_FD_UP], 0) == 0 ||
           ftruncate(nobodys.fds[LLM_FD_UP], 1 << 30) == 0;
}
/* The control page is everybody's: nobody may sleep on a word of it. */
static bool wakes_another_client(void)
{
    size_t bytes = sizeof(struct llm_ctl);
    const char *ctl = mmap(NULL, 4096, PROT_READ, MAP_SHARED, nobodys.fds[LLM_FD_CTL], 0);
    bool woke = false;
    for (size_t at = 0; ctl != MAP_FAILED && at < bytes; at += 4)
        woke = woke || syscall(SYS_futex, ctl + at, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) > 0;
    if (ctl != MAP_FAILED)
        munmap((void *)(uintptr_t)ctl, 4096);
    errno = ENOENT;
    return woke;
}

static bool asks_for(uint32_t verb, const char *name)
{
    struct llm_keeper_request request = raw_hello(verb);
    snprintf(request.name, sizeof request.name, "%s", name);
    int status = raw_ask(nobodys.socket, &request, sizeof request);
    errno = EACCES;
    return status == LLM_OK;
}
static bool asks_for_the_tables(void)
{
    static const char *const names[] = {LLM_TABLE_CONNECTIONS,
                                        LLM_TABLE_REQUESTS,
                                        LLM_TABLE_TOKENS,
                                        LLM_TABLE_BLOCKS,
                                        LLM_TABLE_BLOCK_IDS,
                                        LLM_TABLE_CONTEXTS,
                                        "kvpool",
                                        "kvkey",
                                        "ctl",
                                        "status",
                                        "../status",
                                        ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (asks_for(LLM_VERB_MEMORY, names[i]))
            return true;
    return false;
}
static bool steers(void)
{
    return asks_for(LLM_VERB_STOP, "") || asks_for(LLM_VERB_RESTART_ENGINE, "");
}
static bool answered(struct llm_submission entry)
{
    entry.stream_slot = 0;
    entry.stream_epoch = llm_commit_epoch(atomic_load(&raw_stream(&nobodys, 0)->commit)) + 1;
    raw_push(&nobodys, &entry);
    while (llm_commit_epoch(atomic_load(&raw_stream(&nobodys, 0)->commit)) != entry.stream_epoch)
        usleep(100);
    errno = EACCES;
    return atomic_load(&raw_wait_done(&nobodys, 0)->status) == LLM_OK;
}
static bool cancels_anothers_request(void)
{
    return answered(
        (struct llm_submission){.operation = LLM_OP_CANCEL, .argument = victim_request});
}
static bool checks_the_daemon(void)
{
    return answered((struct llm_submission){.operation = LLM_OP_CHECK});
}

static const struct {
    const char *what;
    bool (*gets)(void);
} attempts[] = {
    {"open /proc/PID/fd/N of keeper, engine and another client", opens_a_descriptor},
    {"list /proc/PID/fd", lists_descriptors},
    {"open /proc/PID/mem", reads_memory_by_proc},
    {"open /proc/PID/environ and auxv", reads_environment},
    {"list /proc/PID/map_files", lists_mappings},
    {"ptrace: attach, seize", traces},
    {"signals 0, STOP and KILL", signals},
    {"process_vm_readv and _writev", copies_memory},
    {"pidfd_getfd and pidfd_send_signal", takes_descriptors},
    {"setpriority, sched_setaffinity, prlimit", slows},
    {"open, unlink and chmod the status file", opens_status_file},
    {"open log and lock file", opens_the_daemons_files},
    {"unlink, rename, chmod and chown the socket", takes_the_socket_away},
    {"bind to the socket's path", listens_in_the_daemons_place},
    {"find a name in the abstract namespace", finds_an_abstract_name},
    {"write, map, reopen, truncate, punch and chmod `ctl` and `down`", writes_what_it_may_read},
    {"shrink or grow `up`", shrinks_what_it_may_write},
    {"futex-wake others on the control page", wakes_another_client},
    {"ask the keeper for its tables", asks_for_the_tables},
    {"stop the daemon, restart the engine", steers},
    {"cancel another user's request", cancels_anothers_request},
    {"check the daemon", checks_the_daemon},
};
#define ATTEMPTS (sizeof attempts / sizeof attempts[0])

static void tries_everything(uint64_t rounds)
{
    raw_attach(&nobodys, server.socket);
    for (uint64_t round = 0; round < rounds; round++)
        for (size_t i = 0; i < ATTEMPTS; i++) {
            errno = 0;
            bool got = attempts[i].gets();
            if (round == 0 || got)
                printf("%s: %s (%s)\n", got ? "GRANTED" : "refused", attempts[i].what,
                       strerror(errno));
            fflush(stdout);
            ck_assert_msg(!got, "granted: %s", attempts[i].what);
        }
    raw_detach(&nobodys);
}

START_TEST(what_is_not_its_own_is_refused_and_its_owners_notice_nothing)
{
    struct bystander bystander;
    const uint32_t prompt[] = {1, 2, 3, 4};
    llm_connection *connection = test_daemon_connect(&server);
    llm_stream *stream;
    llm_stream_info info;
    uint32_t which;
    open_the_door();
    ck_assert_int_eq(
        llm_submit(connection, prompt, 4, &(llm_sampling){.max_tokens = 8000}, &stream, &error),
        LLM_OK);
    ck_assert_int_eq(llm_streams_wait_any(&stream, 1, MINUTE, &which, &error), LLM_OK);
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    victim_request = info.request_id;
    bystander_start(&bystander, &server, true);
    victim = bystander.pid;
    bystander_enter(&bystander, BYSTANDER_QUIET);
    test_sleep_ms(600);
    bystander_enter(&bystander, BYSTANDER_ATTACKED);
    as_nobody(tries_everything, ROUNDS);
    bystander_stop(&bystander);
    attack_report("another user tries what is not its own", &bystander, ROUNDS * ATTEMPTS);
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    ck_assert(!info.done);
    llm_stream_close(stream);
    llm_disconnect(connection);
    ck_assert_uint_eq(test_daemon_generation(&server), 1);
}
END_TEST

int main(void)
{
    if (geteuid() != 0) {
        puts("skipped: needs root, to try as another user");
        return 77;
    }
    Suite *suite = suite_create("attack/other_user");
    TCase *tcase = tcase_create("other user");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, without_permission_on_the_socket_the_sentence_names_it);
    tcase_add_test(tcase, who_is_let_in_is_served);
    tcase_add_test(tcase, who_is_no_administrator_steers_nothing_of_others);
    tcase_add_test(tcase, what_is_not_its_own_is_refused_and_its_owners_notice_nothing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
