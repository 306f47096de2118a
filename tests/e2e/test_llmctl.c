/*
 * test_llmctl.c - llmctl against a real daemon with the built-in model: what it prints, how it exits.
 * How: each test has a daemon of its own; commands run through the shell, as an operator types them.
 */
#include <check.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/command.h"
#include "tests/support/daemon.h"

static struct test_daemon served;
static char out[65536];
#define RUN(...) run_command(out, sizeof out, __VA_ARGS__)

static void start(void)
{
    test_daemon_start(&served, (const char *const[]){"--model", "tinynotes", NULL});
    setenv("LLMD_SOCKET", served.socket, 1);
}

static void stop(void)
{
    RUN("rm -f %s/story", served.directory);
    test_daemon_stop(&served);
}

#define ASSERT_SAYS(text) \
    ck_assert_msg(strstr(out, (text)) != NULL, "no \"%s\" in: %s", (text), out)

START_TEST(status_shows_daemon_device_model_and_clients)
{
    ck_assert_int_eq(RUN("llmctl status"), 0);
    ASSERT_SAYS("daemon   llmd 0.1");
    ASSERT_SAYS("engine generation 1");
    ASSERT_SAYS("device   cpu");
    ASSERT_SAYS("blocks x 16 tokens, 0 held, 0 cached");
    ASSERT_SAYS("models   tinynotes* (2.");
    ASSERT_SAYS("clients  0 attached   requests 0 running, 0 queued   served 0");
    ck_assert_msg(strstr(out, "trouble") == NULL, "trouble: %s", out);
}
END_TEST

START_TEST(every_list_is_json_when_asked)
{
    static const char *const verbs[] = {
        "status",    "clients",        "requests",
        "counters",  "errors",         "check",
        "ping",      "engine restart", "generate --max-tokens 3 Once",
        "model plan"};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        json_error_t error;
        ck_assert_msg(RUN("llmctl %s --json", verbs[i]) == 0, "llmctl %s: %s", verbs[i], out);
        json_t *read = json_loads(out, 0, &error);
        ck_assert_msg(read != NULL, "llmctl %s: %s in %s", verbs[i], error.text, out);
        json_decref(read);
    }
}
END_TEST

START_TEST(counters_come_with_units_rates_and_for_prometheus)
{
    ck_assert_int_eq(RUN("llmctl generate --max-tokens 3 --ignore-eos Once && llmctl counters"), 0);
    ASSERT_SAYS("WHAT IT COUNTS");
    ck_assert_int_eq(RUN("llmctl counters | grep -E '^tokens_out +3 +tokens '"), 0);
    ck_assert_int_eq(RUN("(sleep 0.1; llmctl generate --max-tokens 5 --ignore-eos Once) >&2 & "
                         "llmctl counters --watch 2 --times 1 | grep -E "
                         "'^tokens_out +8 +[0-9.]+ +tokens'; rc=$?; wait; exit $rc"),
                     0);
    ck_assert_int_eq(RUN("llmctl counters --watch 0.1 --times 2 --json"), 0);
    json_error_t error;
    const char *second = strchr(out, '\n') + 1;
    json_t *read = json_loads(second, 0, &error);
    ck_assert_msg(read != NULL, "%s in %s", error.text, second);
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(read, "counters"), "tokens_out")), 8);
    ck_assert_double_eq(
        json_real_value(json_object_get(json_object_get(read, "per_second"), "tokens_out")), 0.0);
    json_decref(read);
    /* Each sample's name was announced with HELP and TYPE, and no line has another form. */
    ck_assert_int_eq(RUN("llmctl counters --prometheus | tee %s/story | awk '"
                         "/^# HELP [a-z_]+ ./ {help[$3]=1; next} "
                         "/^# TYPE [a-z_]+ (counter|gauge)$/ {type[$3]=1; next} "
                         "{name=$1; sub(/[{].*/, \"\", name); "
                         "if (!help[name] || !type[name] || $NF !~ /^[0-9.e+-]+$/) exit 1}'",
                         served.directory),
                     0);
    ck_assert_int_eq(RUN("grep -c '^llmd_tokens_out_total 8$' %s/story", served.directory), 0);
    ck_assert_int_eq(RUN("grep -c '^llmd_serving 1$' %s/story", served.directory), 0);
}
END_TEST

START_TEST(errors_say_when_first_and_when_last)
{
    long long engine = status_number("engine", "pid");
    ck_assert_int_eq(RUN("kill -9 %lld", engine), 0);
    while (status_number("engine", "ready_generation") < 2)
        test_sleep_ms(20);
    ck_assert_int_eq(RUN("llmctl errors --json"), 0);
    json_t *list = json_loads(out, 0, NULL);
    json_t *entry = json_array_get(list, 0);
    long long first = json_integer_value(json_object_get(entry, "first_unix_ns"));
    ck_assert_int_gt(first, 1000000000000000000LL);
    ck_assert_int_eq(json_integer_value(json_object_get(entry, "last_unix_ns")), first);
    ck_assert_int_eq(json_integer_value(json_object_get(entry, "count")), 1);
    json_decref(list);
}
END_TEST

START_TEST(the_doctor_knows_this_machine_and_this_daemon)
{
    int rc = RUN("llmctl doctor --json");
    json_error_t error;
    json_t *read = json_loads(out, 0, &error), *line;
    ck_assert_msg(read != NULL, "%s in %s", error.text, out);
    ck_assert_int_eq(rc, json_is_true(json_object_get(read, "ok")) ? 0 : 1);
    size_t i;
    bool found = false;
    json_array_foreach(json_object_get(read, "lines"), i, line) found =
        found || strstr(json_string_value(json_object_get(line, "fact")),
                        "serves tinynotes, state running, engine generation 1");
    ck_assert_msg(found, "%s", out);
    json_decref(read);
    RUN("llmctl doctor");
    ASSERT_SAYS("ok    versions      daemon and llmctl are version");
    ck_assert_int_eq(RUN("LLMD_BINARY=/nowhere llmctl doctor --socket /tmp/no-such-socket"), 1);
    ASSERT_SAYS("LLMD_BINARY=/nowhere is not a program");
}
END_TEST

START_TEST(settings_are_shown_with_their_origin_and_checked)
{
    ck_assert_int_eq(RUN("printf '[limits]\nrequests = 7\n' > %s/story && "
                         "llmctl config show limits.requests --config %s/story",
                         served.directory, served.directory),
                     0);
    ck_assert_int_eq(RUN("llmctl config show limits.requests --config %s/story | grep -E "
                         "'^limits.requests +7 +%s/story:2$'",
                         served.directory, served.directory),
                     0);
    ck_assert_int_eq(RUN("llmctl config show limits.sequences | grep -E ' 72 +default$'"), 0);
    ck_assert_int_eq(RUN("llmctl config show limits.nothing 2>&1"), 1);
    ASSERT_SAYS("there is no setting or table \"limits.nothing\"");
    ck_assert_int_eq(RUN("llmctl config check %s/story", served.directory), 0);
    ASSERT_SAYS("warn  limits.requests = 7 is less than limits.sequences = 72");
    ck_assert_int_eq(RUN("printf '[limits]\nrequets = 7\n[kv]\npool_bytes = 1.5\n' > %s/story && "
                         "llmctl config check --json %s/story",
                         served.directory, served.directory),
                     1);
    json_t *read = json_loads(out, 0, NULL);
    ck_assert(json_is_false(json_object_get(read, "ok")));
    ck_assert_uint_eq(json_array_size(json_object_get(read, "findings")), 3);
    json_decref(read);
    ASSERT_SAYS("did you mean limits.requests?");
}
END_TEST

START_TEST(the_plan_of_a_model_is_there_after_a_restart_too)
{
    for (int restart = 0; restart < 2; restart++) {
        ck_assert_int_eq(RUN("llmctl model plan"), 0);
        ASSERT_SAYS("LlamaForCausalLM");
        ASSERT_SAYS("attention");
        ASSERT_SAYS("model.layers.0.self_attn.q_proj.weight");
        ck_assert_int_eq(RUN("llmctl engine restart"), 0);
    }
    ck_assert_int_eq(RUN("llmctl model plan tinynotes"), 0);
    ck_assert_int_eq(RUN("llmctl model plan nobody 2>&1"), 1);
    ASSERT_SAYS("no plan of a model \"nobody\"");
}
END_TEST

START_TEST(generate_prints_the_answer_and_same_seed_means_same_answer)
{
    char first[sizeof out];
    ck_assert_int_eq(
        RUN("llmctl generate --max-tokens 40 --temperature 0.8 --seed 11 'Once upon a time'"), 0);
    ck_assert_uint_gt(strlen(out), 40);
    strcpy(first, out);
    ck_assert_int_eq(RUN("echo -n 'Once upon a time' | llmctl generate --max-tokens 40 "
                         "--temperature 0.8 --seed 11"),
                     0);
    ck_assert_str_eq(out, first); /* a prompt on stdin is the same prompt */
}
END_TEST

START_TEST(generate_ends_before_the_stop_string)
{
    ck_assert_int_eq(RUN("llmctl generate --max-tokens 200 --stop . 'Once upon a time'"), 0);
    ck_assert_ptr_eq(strchr(out, '.'), NULL);
    ck_assert_int_eq(RUN("llmctl generate --max-tokens 200 --stop . --json 'Once upon a time'"), 0);
    ASSERT_SAYS("\"finish\": \"stop string\"");
}
END_TEST

START_TEST(tokens_and_logprobs_come_one_a_line)
{
    ck_assert_int_eq(RUN("llmctl generate --max-tokens 5 --ignore-eos --tokens 'Once upon' | grep "
                         "-cE '^[0-9]+$'"),
                     0);
    ck_assert_str_eq(out, "5\n");
    ck_assert_int_eq(RUN("llmctl generate --max-tokens 5 --ignore-eos --logprobs --ids 1,2,3 | "
                         "grep -cE '^[0-9]+\t-?[0-9.]+$'"),
                     0);
    ck_assert_str_eq(out, "5\n");
}
END_TEST

START_TEST(the_likeliest_stand_beside_each_token)
{
    ck_assert_int_eq(
        RUN("llmctl generate --max-tokens 5 --ignore-eos --top-logprobs 2 --ids 1,2,3 | "
            "grep -cE '^[0-9]+\t-?[0-9.]+\t[0-9]+:-?[0-9.]+\t[0-9]+:-?[0-9.]+$'"),
        0);
    ck_assert_str_eq(out, "5\n");
    ck_assert_int_eq(
        RUN("llmctl generate --max-tokens 1 --ignore-eos --top-logprobs 2 --json 'Once upon'"), 0);
    ASSERT_SAYS("\"top\": [");
    ck_assert_int_eq(RUN("llmctl generate --top-logprobs 21 'Once upon' 2>&1"), 1);
    ASSERT_SAYS("top_logprobs is 21: it must be from 0 to 20");
}
END_TEST

START_TEST(what_was_in_force_is_said)
{
    ck_assert_int_eq(RUN("llmctl generate --max-tokens 5 --stats 'Once upon' 2>&1 >/dev/null"), 0);
    ASSERT_SAYS("greedy  seed "); /* as generation_config.json has it */
    ck_assert_int_eq(RUN("llmctl generate --max-tokens 5 --stats --temperature 0.7 --top-p 0.9 "
                         "--repetition-penalty 1.1 --seed 3 'Once upon' 2>&1 >/dev/null"),
                     0);
    ASSERT_SAYS("temperature 0.7  top_p 0.9  repetition_penalty 1.1  seed 3");
    ck_assert_int_eq(RUN("llmctl generate --max-tokens 5 --json --temperature 0.5 'Once upon'"), 0);
    ASSERT_SAYS("\"typical_p\": 1");
}
END_TEST

START_TEST(what_may_be_chosen_can_be_said)
{
    ck_assert_int_eq(RUN("llmctl generate --max-tokens 6 --ignore-eos --tokens --allow 400,401 "
                         "--ban 400 'Once upon' | sort -u"),
                     0);
    ck_assert_str_eq(out, "401\n");
    ck_assert_int_eq(
        RUN("llmctl generate --max-tokens 6 --ignore-eos --tokens --bias 402:100,7:-3.5 "
            "'Once upon' | sort -u"),
        0);
    ck_assert_str_eq(out, "402\n");
    ck_assert_int_eq(RUN("llmctl generate --bias 402 'Once upon' 2>&1"), 2);
    ASSERT_SAYS("--bias takes ids and biases like 13:-5,29:2.5, not \"402\"");
    ck_assert_int_eq(
        RUN("llmctl generate --max-tokens 9 --tokens --bias 2:100 --min-tokens 4 'Once' | wc -l"),
        0);
    ck_assert_str_eq(out, "5\n");
}
END_TEST

START_TEST(interrupting_cancels_the_request_and_not_the_daemon)
{
    int rc = RUN(
        "llmctl generate --max-tokens 8000 --ignore-eos 'Once upon a time' > %s/story & pid=$!; "
        "while [ ! -s %s/story ]; do sleep 0.02; done; kill -INT $pid; wait $pid",
        served.directory, served.directory);
    ck_assert_int_eq(rc, 1);
    ck_assert_int_eq(status_number("counters", "requests_cancelled"), 1);
    ck_assert_int_eq(RUN("llmctl ping"), 0);
}
END_TEST

START_TEST(a_request_can_be_seen_and_cancelled_by_its_number)
{
    int rc = RUN("llmctl generate --max-tokens 8000 --ignore-eos 'Once upon a time' >%s/story 2>&1 "
                 "& pid=$!; "
                 "while [ ! -s %s/story ]; do sleep 0.02; done; "
                 "id=$(llmctl requests | awk 'NR == 2 { print $1 }'); llmctl cancel $id; wait "
                 "$pid; echo rc $?",
                 served.directory, served.directory);
    ck_assert_int_eq(rc, 0);
    ASSERT_SAYS("request 1 cancelled");
    ASSERT_SAYS("rc 1");
    ck_assert_int_eq(RUN("llmctl cancel 1 2>&1"), 1); /* gone */
    ASSERT_SAYS("request 1");
}
END_TEST

START_TEST(a_story_survives_its_engine)
{
    char undisturbed[sizeof out];
    const char *tell = "llmctl generate --max-tokens 600 --ignore-eos 'Once upon a time'";
    ck_assert_int_eq(RUN("%s", tell), 0);
    strcpy(undisturbed, out);
    int rc = RUN("%s > %s/story & pid=$!; while [ ! -s %s/story ]; do sleep 0.01; done; "
                 "kill -9 %lld; wait $pid && cat %s/story",
                 tell, served.directory, served.directory, status_number("engine", "pid"),
                 served.directory);
    ck_assert_int_eq(rc, 0);
    ck_assert_str_eq(out, undisturbed);
    ck_assert_int_eq(status_number("engine", "generation"), 2);
}
END_TEST

START_TEST(check_finds_nothing_after_work_cancels_and_a_restart)
{
    ck_assert_int_eq(
        RUN("llmctl generate --max-tokens 20 'Once upon a time' && llmctl engine restart && "
            "(timeout -s INT 0.3 llmctl generate --max-tokens 8000 --ignore-eos Once; true)"),
        0);
    ck_assert_msg(RUN("llmctl check") == 0, "%s", out);
    ASSERT_SAYS("status   everything adds up");
}
END_TEST

START_TEST(a_hung_engine_can_be_looked_at)
{
    long long engine = status_number("engine", "pid");
    kill((pid_t)engine, SIGSTOP);
    ck_assert_int_eq(RUN("llmctl status && llmctl clients && llmctl counters"), 0);
    ck_assert_int_eq(RUN("llmctl ping --timeout 0.2 2>&1"), 5);
    kill((pid_t)engine, SIGCONT);
    ck_assert_int_eq(RUN("llmctl ping"), 0);
}
END_TEST

START_TEST(a_dead_keeper_leaves_a_status_to_look_at)
{
    kill(served.pid, SIGKILL);
    ck_assert_int_eq(RUN("sleep 0.2; llmctl status"), 3);
    ASSERT_SAYS("is gone and left this status behind");
    ASSERT_SAYS("models   tinynotes*");
    ck_assert_int_eq(RUN("llmctl stop 2>&1"), 3);
    /* The next daemon replaces what was left. */
    ck_assert_int_eq(RUN("llmd --idle-exit 60 --model tinynotes"), 0);
    ck_assert_int_eq(RUN("llmctl status"), 0);
    ck_assert_int_eq(RUN("llmctl stop && rm -rf %s", served.directory), 0);
}
END_TEST

static const struct {
    const char *command;
    int exit_code;
    const char *says;
} refused[] = {
    {"llmctl", 2, "what shall be done?"},
    {"llmctl dance", 2, "unknown verb dance"},
    {"llmctl engine dance", 2, "engine"},
    {"llmctl status --fast", 2, "unknown option --fast"},
    {"llmctl status now", 2, "status does not take \"now\""},
    {"llmctl cancel", 2, "cancel needs ID"},
    {"llmctl cancel soon", 2, "cancel takes a request's number, not \"soon\""},
    {"llmctl generate --top-k many x", 2, "--top-k takes a whole number"},
    {"llmctl generate --ids 1 x", 2, "a prompt or --ids, not both"},
    {"llmctl cancel 4711", 1, "4711"},
    {"llmctl generate --max-tokens 0 x", 1, "max_tokens"},
    {"llmctl generate --temperature nan x", 1, "temperature is nan"},
    {"llmctl generate --top-p 1.5 x", 1, "top_p"},
    {"llmctl generate --model nobody x", 1, "nobody"},
    {"llmctl generate --ids 1,4000000000", 1, "4000000000"},
    {"llmctl --socket /nowhere/llmd.sock status", 3, "no daemon serves /nowhere/llmd.sock"},
    {"llmctl --json --socket=/nowhere/llmd.sock", 2, "what shall be done?"},
    {"llmctl status --socket /nowhere/llmd.sock", 3, "no daemon serves /nowhere/llmd.sock"},
    {"llmctl status --instance nobody", 3, "nobody"},
    {"llmctl ping --socket /proc/llmd.sock", 3, "/proc/llmd.sock"},
};

START_TEST(what_cannot_be_done_is_one_sentence_and_an_exit_code)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        int rc = RUN("%s 2>&1", refused[i].command);
        ck_assert_msg(rc == refused[i].exit_code, "%s: exit code %d: %s", refused[i].command, rc,
                      out);
        ck_assert_msg(strstr(out, refused[i].says) != NULL, "%s: %s", refused[i].command, out);
        ck_assert_msg(strchr(out, '\n') == out + strlen(out) - 1, "%s: more than a line: %s",
                      refused[i].command, out);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/llmctl");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, start, stop);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, status_shows_daemon_device_model_and_clients);
    tcase_add_test(tc, every_list_is_json_when_asked);
    tcase_add_test(tc, counters_come_with_units_rates_and_for_prometheus);
    tcase_add_test(tc, errors_say_when_first_and_when_last);
    tcase_add_test(tc, the_doctor_knows_this_machine_and_this_daemon);
    tcase_add_test(tc, settings_are_shown_with_their_origin_and_checked);
    tcase_add_test(tc, the_plan_of_a_model_is_there_after_a_restart_too);
    tcase_add_test(tc, generate_prints_the_answer_and_same_seed_means_same_answer);
    tcase_add_test(tc, generate_ends_before_the_stop_string);
    tcase_add_test(tc, tokens_and_logprobs_come_one_a_line);
    tcase_add_test(tc, the_likeliest_stand_beside_each_token);
    tcase_add_test(tc, what_was_in_force_is_said);
    tcase_add_test(tc, what_may_be_chosen_can_be_said);
    tcase_add_test(tc, interrupting_cancels_the_request_and_not_the_daemon);
    tcase_add_test(tc, a_request_can_be_seen_and_cancelled_by_its_number);
    tcase_add_test(tc, a_story_survives_its_engine);
    tcase_add_test(tc, check_finds_nothing_after_work_cancels_and_a_restart);
    tcase_add_test(tc, a_hung_engine_can_be_looked_at);
    tcase_add_test(tc, what_cannot_be_done_is_one_sentence_and_an_exit_code);
    suite_add_tcase(suite, tc);
    TCase *dead = tcase_create("dead"); /* has no daemon left to stop */
    tcase_add_checked_fixture(dead, start, NULL);
    tcase_set_timeout(dead, 60);
    tcase_add_test(dead, a_dead_keeper_leaves_a_status_to_look_at);
    suite_add_tcase(suite, dead);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
