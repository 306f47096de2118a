/*
 * test_complete.c - what `llmctl __complete` offers, without a daemon and with one, and that bash shows it.
 * How: rows of words with a candidate that must be there and one that must not; the live ones against a daemon of one's own
 * with a request under way. bash's own script runs in a real bash, as it does behind the Tab key.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/command.h"
#include "tests/support/daemon.h"
#include "tools/llmctl/complete.h"

static char out[65536];
#define RUN(...) run_command(out, sizeof out, __VA_ARGS__)

/* Is there a line that is `candidate`, or begins with it and a tab? */
static bool offered(const char *candidate)
{
    size_t bytes = strlen(candidate);
    for (const char *line = out; *line;) {
        const char *end = strchr(line, '\n');
        if (strncmp(line, candidate, bytes) == 0 && (line[bytes] == '\t' || line[bytes] == '\n'))
            return true;
        line = end ? end + 1 : line + strlen(line);
    }
    return false;
}

struct row {
    const char *words; /* behind "llmctl __complete --" */
    const char *there; /* NULL: nothing at all is offered */
    const char *absent;
};

static void check_row(const struct row *row)
{
    ck_assert_int_eq(RUN("llmctl __complete -- %s", row->words), 0);
    if (row->there)
        ck_assert_msg(offered(row->there), "%s: no \"%s\" in: %s", row->words, row->there, out);
    else
        ck_assert_msg(out[0] == 0, "%s: something is offered: %s", row->words, out);
    if (row->absent)
        ck_assert_msg(!offered(row->absent), "%s: \"%s\" is offered: %s", row->words, row->absent,
                      out);
}

static const struct row rows[] = {
    {"llmctl ''", "status", "--json"},
    {"llmctl ''", "model", "plan"},
    {"llmctl ''", "help", "__complete"},
    {"llmctl st", "stop", "ping"},
    {"llmctl model ''", "plan", "status"},
    {"llmctl engine r", "restart", NULL},
    {"llmctl --", "--socket", "--model"},
    {"llmctl generate --", "--max-tokens", "status"},
    {"llmctl generate --", "--json", NULL},
    {"llmctl ctx ''", "tree", "status"},
    {"llmctl ctx ''", "rm", "probe"},
    {"llmctl kv ''", "why", "ls"},
    {"llmctl ctx create --", "--mode", "--keep"},
    {"llmctl ctx ask --", "--keep", "--mode"},
    {"llmctl ctx append --file ''", ":files", NULL},
    {"llmctl generate --max-tokens ''", NULL, NULL},
    {"llmctl generate --max-tokens 5 --t", "--temperature", "--socket"},
    {"llmctl generate -- --", NULL, NULL},
    {"llmctl --json st", "status", "ping"},
    {"llmctl --socket x st", "status", "ping"},
    {"llmctl --socket=x st", "status", "ping"},
    {"llmctl --socket ''", ":files", "status"},
    {"llmctl --socket=", ":files", NULL},
    {"llmctl --json=", NULL, NULL},
    {"llmctl status ''", NULL, NULL},
    {"llmctl nonsense ''", NULL, NULL},
    {"/usr/bin/llmctl pi", "ping", "stop"},
    {"llmd --", "--foreground", "--max-tokens"},
    {"llmd --set ''", "kv.pool_bytes=", "pool_bytes="},
    {"llmd --set limits.re", "limits.requests=", "log.level="},
    {"llmd -S limits.re", "limits.requests=", "log.level="},
    {"llmd --set=lo", "--set=log.level=", NULL},
    {"llmd --set ''", ":nospace", NULL},
    {"llmd --config ''", ":files", NULL},
    {"llmd --model ''", ":files", NULL},
    {"llmd ''", NULL, NULL},
    {"llmctl config ''", "check", "restart"},
    {"llmctl config check ''", ":files", NULL},
    {"llmctl config show kv", "kv.pool_bytes", ":nospace"},
    {"llm-bench ''", "ipc", "--json"},
    {"llm-bench ''", "throughput", NULL},
    {"llm-bench --r", "--rounds", "--rest-us"},
    {"llm-bench ipc --r", "--rest-us", "ipc"},
    {"somebody ''", NULL, NULL},
    {"llmctl", NULL, NULL},
    {"", NULL, NULL},
};

static void nobody(void)
{
    setenv("LLMD_SOCKET", "/nonexistent/llmd.sock", 1);
}

START_TEST(words_are_completed_without_a_daemon)
{
    check_row(&rows[_i]);
}
END_TEST

START_TEST(nothing_live_is_offered_where_no_daemon_runs)
{
    static const struct row dead[] = {{"llmctl cancel ''", NULL, NULL},
                                      {"llmctl ctx show ''", NULL, NULL},
                                      {"llmctl model plan ''", NULL, NULL},
                                      {"llmctl generate --model ''", NULL, NULL}};
    for (size_t i = 0; i < sizeof dead / sizeof dead[0]; i++)
        check_row(&dead[i]);
}
END_TEST

START_TEST(only_plain_words_are_offered)
{
    static const char *const refused[] = {"",     "-rf",      "a b",  "$(x)",  "a;b", "a`b`",
                                          "a'b'", "a\"b",     "a\nb", "~root", "a*",  "{a}",
                                          "a|b",  "\303\244", "a\\b", "a&b"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        ck_assert_msg(!complete_is_plain(refused[i]), "\"%s\"", refused[i]);
    ck_assert(complete_is_plain("/run/user/1000/llmd/llmd.sock"));
    ck_assert(complete_is_plain("Qwen3-0.6B"));
}
END_TEST

/* ---- With a daemon --------------------------------------------------------------------------------- */

static struct test_daemon served;
static char instance[32]; /* of this process's own: several suites may run at once */

static void start(void)
{
    snprintf(instance, sizeof instance, "completed-%d", (int)getpid());
    test_daemon_start(&served, (const char *const[]){"--instance", instance, "--set",
                                                     "models.echo_step_us=2000", NULL});
    setenv("LLMD_SOCKET", served.socket, 1);
}

static void stop(void)
{
    test_daemon_stop(&served);
}

START_TEST(names_of_the_running_daemon_are_offered)
{
    char words[256];
    check_row(&(struct row){"llmctl generate --model ''", "echo", "tinynotes"});
    check_row(&(struct row){"llmctl generate --model=e", "--model=echo", "echo"});
    check_row(&(struct row){"llmctl --instance com", instance, NULL});
    snprintf(words, sizeof words, "llmctl --socket %s", served.directory);
    check_row(&(struct row){words, served.socket, NULL});
    setenv("LLMD_SOCKET", "/nonexistent/llmd.sock", 1);
    snprintf(words, sizeof words, "llmctl --socket %s generate --model ''", served.socket);
    check_row(&(struct row){words, "echo", NULL});
    snprintf(words, sizeof words, "llmctl generate --socket=%s --model ''", served.socket);
    check_row(&(struct row){words, "echo", NULL});
    snprintf(words, sizeof words, "llmctl --instance %s generate --model ''", instance);
    check_row(&(struct row){words, "echo", NULL});
}
END_TEST

/* A request that runs for as long as the test looks. Its id, as text. */
static llm_stream *ask(llm_connection *connection, char *out_id, size_t bytes)
{
    const uint32_t prompt[] = {7};
    const llm_sampling sampling = {.max_tokens = 100000};
    llm_stream *stream;
    llm_stream_info info;
    llm_error error;
    uint32_t token, count;
    ck_assert_msg(llm_submit(connection, prompt, 1, &sampling, &stream, &error) == LLM_OK, "%s",
                  error.message);
    ck_assert_int_eq(llm_stream_read(stream, &token, NULL, 1, LLM_FOREVER, &count, &error), LLM_OK);
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    snprintf(out_id, bytes, "%llu", (unsigned long long)info.request_id);
    return stream;
}

START_TEST(running_requests_are_offered_to_cancel)
{
    char id[32];
    llm_connection *connection = test_daemon_connect(&served);
    llm_stream *stream = ask(connection, id, sizeof id);
    check_row(&(struct row){"llmctl cancel ''", id, "status"});
    ck_assert_msg(strstr(out, "of 100000 tokens") != NULL, "%s", out);
    check_row(&(struct row){"llmctl cancel x", NULL, NULL});
    llm_stream_close(stream);
    llm_disconnect(connection);
}
END_TEST

START_TEST(names_of_contexts_are_offered_where_one_is_meant)
{
    ck_assert_int_eq(RUN("llmctl ctx create team/notes --ids 1,2,3 && llmctl ctx create other"), 0);
    check_row(&(struct row){"llmctl ctx show ''", "team/notes", "status"});
    ck_assert_msg(strstr(out, "3 tokens") != NULL, "%s", out);
    check_row(&(struct row){"llmctl ctx append te", "team/notes", "other"});
    check_row(&(struct row){"llmctl ctx rm other ''", "team/notes", NULL});
    check_row(&(struct row){"llmctl ctx create ''", NULL, NULL});     /* a new name */
    check_row(&(struct row){"llmctl ctx fork other ''", NULL, NULL}); /* and here */
}
END_TEST

/* Whoever waited would be ended by its own alarm, and that is not exit code 0. */
START_TEST(a_stopped_daemon_does_not_hold_the_shell_up)
{
    kill(served.pid, SIGSTOP);
    check_row(&(struct row){"llmctl generate --model ''", "echo", NULL});
    check_row(&(struct row){"llmctl ctx show ''", NULL, NULL});
    kill(served.pid, SIGCONT);
}
END_TEST

/* ---- The shells' scripts --------------------------------------------------------------------------- */

/* What bash would show for a line: one candidate a line. */
static void complete_in_bash(const char *line)
{
    int rc = RUN("bash --norc -c '. %s/packaging/completion/llmctl.bash; COMP_LINE=\"%s\"; "
                 "COMP_POINT=${#COMP_LINE}; _llmctl; printf \"%%s\\n\" \"${COMPREPLY[@]}\"'",
                 LLM_SOURCE_DIR, line);
    ck_assert_msg(rc == 0, "bash: exit code %d: %s", rc, out);
}

START_TEST(bash_completes_verbs_options_values_and_files)
{
    complete_in_bash("llmctl sta");
    ck_assert_str_eq(out, "status\n");
    complete_in_bash("llmctl model p");
    ck_assert_str_eq(out, "plan\n");
    complete_in_bash("llmctl generate --model e");
    ck_assert_str_eq(out, "echo\n");
    complete_in_bash("llmctl generate --model=e"); /* bash replaces what is behind "=" */
    ck_assert_str_eq(out, "echo\n");
    complete_in_bash("llmd --set log.le");
    ck_assert_str_eq(out, "log.level=\n");
    char line[128];
    snprintf(line, sizeof line, "llmd --config %s/lo", served.directory);
    complete_in_bash(line);
    ck_assert_msg(strstr(out, served.log) != NULL, "no file: %s", out);
    ck_assert_int_eq(
        RUN("bash --norc -c '. %s/packaging/completion/llmctl.bash; complete -p llmctl "
            "llmd llm-bench'",
            LLM_SOURCE_DIR),
        0);
}
END_TEST

START_TEST(zsh_and_fish_read_their_scripts)
{
    static const char *const shells[][2] = {{"zsh", "_llmctl"}, {"fish", "llmctl.fish"}};
    for (size_t i = 0; i < 2; i++) {
        if (RUN("command -v %s", shells[i][0]) != 0) {
            printf("skipped: %s is not installed\n", shells[i][0]);
            continue;
        }
        int rc = RUN("%s -n %s/packaging/completion/%s 2>&1", shells[i][0], LLM_SOURCE_DIR,
                     shells[i][1]);
        ck_assert_msg(rc == 0 && out[0] == 0, "%s: %s", shells[i][1], out);
    }
    if (RUN("command -v fish") == 0) {
        ck_assert_int_eq(RUN("fish --no-config -c 'source %s/packaging/completion/llmctl.fish; "
                             "complete -C \"llmctl sta\"'",
                             LLM_SOURCE_DIR),
                         0);
        ck_assert_msg(strncmp(out, "status\t", 7) == 0, "%s", out);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools/complete");
    TCase *alone = tcase_create("alone");
    tcase_add_checked_fixture(alone, nobody, NULL);
    tcase_add_loop_test(alone, words_are_completed_without_a_daemon, 0,
                        sizeof rows / sizeof rows[0]);
    tcase_add_test(alone, nothing_live_is_offered_where_no_daemon_runs);
    tcase_add_test(alone, only_plain_words_are_offered);
    suite_add_tcase(suite, alone);
    TCase *live = tcase_create("live");
    tcase_add_checked_fixture(live, start, stop);
    tcase_add_test(live, names_of_the_running_daemon_are_offered);
    tcase_add_test(live, running_requests_are_offered_to_cancel);
    tcase_add_test(live, names_of_contexts_are_offered_where_one_is_meant);
    tcase_add_test(live, a_stopped_daemon_does_not_hold_the_shell_up);
    tcase_add_test(live, bash_completes_verbs_options_values_and_files);
    tcase_add_test(live, zsh_and_fish_read_their_scripts);
    suite_add_tcase(suite, live);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
