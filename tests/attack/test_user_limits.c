/*
 * test_user_limits.c - what is limited for a user is limited for all of the user's connections together.
 * How: raw clients of the user who runs the test against a daemon with small limits; where that is root, the other user
 * is a child that drops to uid 65534, and is served while the first one is refused.
 */
#include <check.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/daemon.h"
#include "tests/support/raw_client.h"

#define NOBODY 65534
#define MOST   5 /* connections, or requests, of one user */

static struct test_daemon server;
static llm_error error;

static void start(const char *limit)
{
    test_daemon_start(
        &server, (const char *const[]){"--set", limit, "--set", "models.echo_step_us=1000", NULL});
    ck_assert_int_eq(chmod(server.directory, 0711), 0);
    ck_assert_int_eq(chmod(server.socket, 0666), 0);
}

static void stop(void)
{
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}

static void ask(void)
{
    const uint32_t prompt[] = {3, 1, 4, 1, 5};
    llm_connection *connection = test_daemon_connect(&server);
    llm_stream *stream;
    ck_assert_int_eq(
        llm_submit(connection, prompt, 5, &(llm_sampling){.max_tokens = 10}, &stream, &error),
        LLM_OK);
    ck_assert_uint_eq(test_read_echo(stream, prompt, 5, LLM_OK), 10);
    llm_stream_close(stream);
    llm_disconnect(connection);
}

static void assert_another_user_is_served(void)
{
    if (geteuid() != 0)
        return; /* who runs the tests cannot be two users */
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
            _exit(9);
        ask();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the other user ended with 0x%x",
                  (unsigned)status);
}

START_TEST(connections_are_limited_per_user)
{
    struct raw_client clients[MOST], more;
    int status;
    start("limits.connections_per_user=5");
    for (int i = 0; i < MOST; i++)
        raw_attach(&clients[i], server.socket);
    struct llm_keeper_request request = raw_hello(LLM_VERB_ATTACH);
    struct llm_keeper_reply reply;
    char sentence[192];
    int fd = raw_connect(server.socket);
    ck_assert_int_eq(send(fd, &request, sizeof request, 0), (ssize_t)sizeof request);
    ck_assert_int_eq(recv(fd, &reply, sizeof reply, 0), (ssize_t)sizeof reply);
    snprintf(sentence, sizeof sentence,
             "user %u has all of its 5 connections (limits.connections_per_user) in use",
             (unsigned)geteuid());
    ck_assert_int_eq(reply.status, LLM_ERR_BUSY);
    ck_assert_str_eq(reply.message, sentence);
    close(fd);
    assert_another_user_is_served();
    ck_assert(!raw_try_attach(&more, server.socket, &status));
    raw_detach(&clients[0]);
    while (!raw_try_attach(&clients[0], server.socket, &status)) /* the keeper hears of it soon */
        ck_assert_int_eq(status, LLM_ERR_BUSY);
    for (int i = 0; i < MOST; i++)
        raw_detach(&clients[i]);
    stop();
}
END_TEST

static struct llm_submission long_answer(struct raw_client *client)
{
    const struct llm_request_body body = {.prompt_tokens = 4, .max_tokens = 4000, .top_p = 1};
    memcpy(client->up + client->up_map.arena_offset, &body, sizeof body);
    struct llm_submission entry = raw_generate_entry(client, (uint32_t)sizeof body + 16);
    entry.log_offset = entry.stream_slot * 4000;
    entry.log_words = 4000;
    return entry;
}

static bool is_running(const struct raw_client *client, uint32_t slot)
{
    uint64_t commit = atomic_load(&raw_stream(client, slot)->commit);
    return llm_commit_count(commit) > 0 && !llm_commit_done(commit);
}

static void wait_running(const struct raw_client *client, uint32_t slot)
{
    while (!is_running(client, slot))
        test_sleep_ms(1);
}

/* Which connection asks makes no difference: the sixth request is one too many. */
START_TEST(requests_are_limited_per_user_over_all_connections)
{
    struct raw_client clients[3];
    uint32_t slots[MOST + 1];
    start("limits.requests_per_user=5");
    for (int i = 0; i < 3; i++)
        raw_attach(&clients[i], server.socket);
    for (int i = 0; i < MOST; i++) {
        struct llm_submission entry = long_answer(&clients[i % 3]);
        slots[i] = entry.stream_slot;
        raw_push(&clients[i % 3], &entry);
        wait_running(&clients[i % 3], slots[i]);
    }
    for (int i = 0; i < 3; i++) {
        struct llm_submission entry = long_answer(&clients[i]);
        raw_push(&clients[i], &entry);
        const struct llm_stream_record *record = raw_wait_done(&clients[i], entry.stream_slot);
        ck_assert_uint_eq(atomic_load(&record->status), LLM_ERR_BUSY);
        const char *note = clients[i].down + clients[i].down_map.note_offset +
                           (size_t)entry.stream_slot * LLM_NOTE_BYTES;
        ck_assert_msg(strstr(note, "all of its 5 requests (limits.requests_per_user,") != NULL &&
                          strstr(note, "; try again in about ") != NULL,
                      "%s", note);
    }
    assert_another_user_is_served();
    for (int i = 0; i < MOST; i++)
        ck_assert(is_running(&clients[i % 3], slots[i]));
    raw_detach(&clients[2]); /* with one request; there is room for another when it is gone */
    while (atomic_load(&server.status->engine.requests_running) == MOST)
        test_sleep_ms(1);
    struct llm_submission entry = long_answer(&clients[0]);
    raw_push(&clients[0], &entry);
    wait_running(&clients[0], entry.stream_slot);
    raw_detach(&clients[0]);
    raw_detach(&clients[1]);
    stop();
}
END_TEST

/* Requests that went on after an engine's death count as before. */
START_TEST(a_new_engine_goes_on_counting)
{
    struct raw_client client;
    start("limits.requests_per_user=5");
    raw_attach(&client, server.socket);
    for (uint32_t i = 0; i < MOST; i++) {
        struct llm_submission entry = long_answer(&client);
        raw_push(&client, &entry);
        wait_running(&client, entry.stream_slot);
    }
    test_daemon_kill_engine(&server);
    test_daemon_wait_generation(&server, 2);
    struct llm_submission entry = long_answer(&client);
    raw_push(&client, &entry);
    ck_assert_uint_eq(atomic_load(&raw_wait_done(&client, entry.stream_slot)->status),
                      LLM_ERR_BUSY);
    raw_detach(&client);
    stop();
}
END_TEST

static void assert_refused(struct raw_client *client, uint32_t priority, enum llm_status status,
                           const char *sentence)
{
    struct llm_submission entry = long_answer(client);
    struct llm_request_body *body = (void *)(client->up + client->up_map.arena_offset);
    body->priority = priority;
    raw_push(client, &entry);
    ck_assert_uint_eq(atomic_load(&raw_wait_done(client, entry.stream_slot)->status), status);
    const char *note =
        client->down + client->down_map.note_offset + (size_t)entry.stream_slot * LLM_NOTE_BYTES;
    ck_assert_msg(strstr(note, sentence) != NULL, "%s", note);
}

/* What the configuration says of this user, and not of others, holds instead of the limits. */
START_TEST(a_quota_holds_for_its_user)
{
    struct raw_client client;
    char requests[64], priority[64];
    snprintf(requests, sizeof requests, "quota.%u.requests=2", (unsigned)geteuid());
    snprintf(priority, sizeof priority, "quota.%u.priority_max=normal", (unsigned)geteuid());
    test_daemon_start(&server, (const char *const[]){"--set", requests, "--set", priority, "--set",
                                                     "models.echo_step_us=1000", NULL});
    raw_attach(&client, server.socket);
    assert_refused(&client, LLM_PRIORITY_INTERACTIVE, LLM_ERR_PERMISSION,
                   "may not ask for priority \"interactive\": its quota ends at \"normal\"");
    for (uint32_t i = 0; i < 2; i++) {
        struct llm_submission entry = long_answer(&client);
        raw_push(&client, &entry);
        wait_running(&client, entry.stream_slot);
    }
    assert_refused(&client, LLM_PRIORITY_BATCH, LLM_ERR_BUSY, "has all of its 2 requests");
    test_daemon_kill_engine(&server);
    test_daemon_wait_generation(&server, 2);
    assert_refused(&client, LLM_PRIORITY_NORMAL, LLM_ERR_BUSY, "has all of its 2 requests");
    raw_detach(&client);
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attack/user_limits");
    TCase *tcase = tcase_create("limits");
    tcase_add_test(tcase, connections_are_limited_per_user);
    tcase_add_test(tcase, requests_are_limited_per_user_over_all_connections);
    tcase_add_test(tcase, a_new_engine_goes_on_counting);
    tcase_add_test(tcase, a_quota_holds_for_its_user);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
