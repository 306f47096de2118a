/*
 * test_bench.c - llm-bench against a private and a running daemon: what it says is well-formed and hangs together,
 * and it leaves nothing behind. How fast anything is, is not looked at: --quick on a busy machine says nothing.
 */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "tests/support/command.h"
#include "tests/support/daemon.h"

static char out[1 << 20];
#define RUN(...) run_command(out, sizeof out, __VA_ARGS__)

static json_t *report(const char *arguments)
{
    json_error_t error;
    int code = RUN("llm-bench %s --quick --json", arguments);
    ck_assert_msg(code == 0, "llm-bench %s: exit code %d", arguments, code);
    json_t *root = json_loads(out, 0, &error);
    ck_assert_msg(root != NULL, "llm-bench %s: %s in %.1500s", arguments, error.text, out);
    ck_assert_str_eq(json_string_value(json_object_get(root, "schema")), "llm-bench/1");
    ck_assert_ptr_nonnull(
        json_string_value(json_object_get(json_object_get(root, "machine"), "cpu")));
    return root;
}

/* The row whose `key` is `value`. */
static json_t *row(json_t *root, const char *key, const char *value)
{
    size_t i;
    json_t *each;
    json_array_foreach(json_object_get(root, "rows"), i,
                       each) if (strcmp(json_string_value(json_object_get(each, key)), value) ==
                                 0) return each;
    ck_abort_msg("no row with %s \"%s\" in %.1500s", key, value, out);
    return NULL;
}

static double number(const json_t *from, const char *key)
{
    const json_t *value = json_object_get(from, key);
    ck_assert_msg(json_is_number(value), "%s is no number in %.1500s", key, out);
    return json_number_value(value);
}

static size_t rows(const json_t *root)
{
    return json_array_size(json_object_get(root, "rows"));
}

START_TEST(ipc_measures_every_point_beside_its_floor)
{
    static const char *const points[] = {
        "bare.line",        "bare.futex",         "bare.unix_seqpacket",
        "bare.http",        "rested.futex",       "awake.spin.submit",
        "awake.spin.round", "asleep.futex.round", "asleep.eventfd.round",
        "awake.spin.taken", "asleep.futex.echo",  "token.futex"};
    json_t *root = report("ipc");
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        json_t *point = row(root, "point", points[i]);
        ck_assert_msg(number(point, "min") <= number(point, "p50") &&
                          number(point, "p50") <= number(point, "p99") &&
                          number(point, "p99") <= number(point, "p999"),
                      "%s is out of order in %.1500s", points[i], out);
        ck_assert_msg(number(point, "min") > 0 && number(point, "samples") > 0, "%s in %.1500s",
                      points[i], out);
        const char *floor = json_string_value(json_object_get(point, "floor"));
        if (floor[0])
            ck_assert_double_gt(number(point, "ratio"), 0);
    }
    json_decref(root);
}
END_TEST

START_TEST(ipc_measures_one_point_and_what_it_needs)
{
    json_t *root = report("ipc --point asleep.futex.round");
    ck_assert_uint_ge(rows(root), 2);
    ck_assert_double_gt(number(row(root, "point", "rested.futex"), "p50"), 0);
    ck_assert_double_gt(number(row(root, "point", "asleep.futex.round"), "ratio"), 0);
    json_decref(root);
}
END_TEST

START_TEST(throughput_counts_what_every_kind_of_reader_got)
{
    static const char *const readers[] = {"late", "look", "spin", "futex", "eventfd"};
    /* a fixed amount of work: 2 clients, 4 streams, 3 requests of 100 tokens */
    json_t *root =
        report("throughput --clients 2 --streams 4 --requests 3 --tokens 100 --prompt 5");
    for (size_t i = 0; i < 5; i++) {
        json_t *each = row(root, "reader", readers[i]);
        ck_assert_double_eq(number(each, "requests"), 2 * 4 * 3);
        ck_assert_double_gt(number(each, "tokens_per_s"), 0);
        ck_assert_double_gt(number(each, "engine_ns"), 0);
        ck_assert_double_gt(number(each, "tokens_per_step"), 0);
        ck_assert(i == 0 ? json_is_null(json_object_get(each, "delivery_ns"))
                         : json_is_number(json_object_get(each, "delivery_ns")));
        ck_assert_double_gt(number(each, "first_p50"), 0);
        ck_assert_double_gt(number(each, "jain"), 0);
        ck_assert_double_le(number(each, "jain"), 1 + 1e-9);
        ck_assert_double_le(number(each, "first_p50"), number(each, "first_p99"));
    }
    json_decref(root);
}
END_TEST

START_TEST(workers_may_be_threads_and_serve_several_clients)
{
    json_t *root =
        report("throughput --clients 6 --workers 2 --threads --streams 2 --tokens 50 --requests 2 "
               "--reader eventfd,spin");
    ck_assert_uint_eq(rows(root), 2);
    ck_assert_double_eq(number(row(root, "reader", "eventfd"), "requests"), 6 * 2 * 2);
    ck_assert_double_eq(number(row(root, "reader", "spin"), "workers"), 2);
    json_decref(root);
}
END_TEST

START_TEST(connections_are_held_and_given_back)
{
    json_t *root = report("connections --count 8");
    json_t *each = json_array_get(json_object_get(root, "rows"), 0);
    ck_assert_double_eq(number(each, "connections"), 8);
    ck_assert_double_gt(number(each, "attach_p50"), 0);
    ck_assert_double_le(number(each, "attach_p50"), number(each, "attach_max"));
    ck_assert_double_ge(number(each, "idle_n"), 0);
    json_decref(root);
}
END_TEST

START_TEST(ops_has_a_row_for_every_op_of_the_table)
{
    static const char *const ops[] = {
        "linear", "matrix_pack", "embed",     "embed_matrix", "rmsnorm", "rope",         "silu_mul",
        "add",    "gather_rows", "attention", "kv_append",    "kv_copy", "rmsnorm_heads"};
    json_t *root = report("ops --threads 1");
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        json_t *each = row(root, "op", ops[i]);
        ck_assert_double_gt(number(each, "time"), 0);
        ck_assert_double_gt(number(each, "gb_per_s"), 0);
        ck_assert_double_gt(number(each, "percent"), 0);
    }
    json_t *settings = json_object_get(root, "settings");
    ck_assert_double_gt(number(settings, "read_gb_per_s"), 0);
    ck_assert_double_gt(number(settings, "fma_gflop_per_s"), 0);
    json_decref(root);
}
END_TEST

/* Twelve prompts with one part in common, one after the other: what is found is known. */
START_TEST(sim_reports_what_a_trace_finds_on_a_simulated_machine)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/llmd-test-sim-%d.jsonl", (int)getpid());
    FILE *trace = fopen(path, "we");
    ck_assert_ptr_nonnull(trace);
    for (int i = 1; i <= 12; i++)
        fprintf(trace,
                "{\"timestamp\": %d, \"input_length\": 1024, \"output_length\": 4, "
                "\"hash_ids\": [0, %d]}\n",
                i, i);
    fclose(trace);
    char arguments[160];
    snprintf(arguments, sizeof arguments,
             "sim --clients 1 --users 3 --each-user --pools 0,6 --trace %s", path);
    json_t *root = report(arguments);
    unlink(path);
    ck_assert_uint_eq(rows(root), 2 * (1 + 3));
    json_t *all = row(root, "who", "all");
    ck_assert_double_eq(number(all, "requests"), 12);
    ck_assert_double_eq(number(all, "answered"), 12);
    ck_assert_double_eq(number(all, "answer_tokens"), 48);
    ck_assert_double_eq(number(all, "hit_tokens"), 11 * 512);
    ck_assert_double_eq_tol(number(all, "hit_percent"), number(all, "ideal_percent"), 1e-9);
    ck_assert_double_eq(number(row(root, "who", "user 1"), "requests"), 4);
    ck_assert_double_gt(number(all, "first_p50_ms"), 0);
    json_decref(root);
}
END_TEST

/* A row of `contexts`: a point as one of the clients saw it. */
static json_t *context_row(json_t *root, const char *point, const char *client)
{
    size_t i;
    json_t *each;
    json_array_foreach(json_object_get(root, "rows"), i, each)
    {
        if (strcmp(json_string_value(json_object_get(each, "point")), point) == 0 &&
            strcmp(json_string_value(json_object_get(each, "client")), client) == 0)
            return each;
    }
    ck_abort_msg("no row of %s, %s in %.1500s", point, client, out);
    return NULL;
}

START_TEST(contexts_measures_every_call_and_what_forks_take)
{
    static const char *const points[] = {"ping",   "fork",    "fork_close", "fork_at",
                                         "open",   "append",  "rewind",     "read",
                                         "branch", "publish", "forks"};
    static const char *const clients[] = {"spin", "futex"};
    json_t *root = report("contexts --tokens 3000 --forks 40");
    ck_assert_uint_eq(rows(root), 2 * sizeof points / sizeof points[0]);
    for (size_t client = 0; client < 2; client++) {
        for (size_t point = 0; point < sizeof points / sizeof points[0]; point++) {
            json_t *it = context_row(root, points[point], clients[client]);
            ck_assert_double_gt(number(it, "min"), 0);
            ck_assert_double_le(number(it, "min"), number(it, "p50"));
            ck_assert_double_le(number(it, "p50"), number(it, "p99"));
            ck_assert_double_ge(number(it, "samples"), 32); /* 16 in each of two rounds */
        }
        json_t *forks = context_row(root, "forks", clients[client]);
        ck_assert_double_eq(number(forks, "samples"), 80);
        ck_assert_double_eq(number(forks, "blocks"), 0); /* they share what is computed ... */
        ck_assert_double_eq(number(forks, "bytes"),
                            0); /* ... and the tables are as large as ever */
        ck_assert(
            json_is_null(json_object_get(context_row(root, "ping", clients[client]), "engine")));
    }
    json_decref(root);
}
END_TEST

START_TEST(flood_asks_beside_another_user)
{
    if (geteuid() != 0) { /* who runs the tests cannot be two users, and is told so */
        ck_assert_int_eq(RUN("llm-bench flood --quick 2>&1"), 1);
        ck_assert_msg(strstr(out, "only root can be two") != NULL, "%.1500s", out);
        return;
    }
    json_t *root = report("flood --requests 12 --prompt 40 --tokens 6");
    ck_assert_uint_eq(rows(root), 3);
    const json_t *quiet = row(root, "who", "quiet"), *flooded = row(root, "who", "flooded");
    ck_assert_double_ge(number(quiet, "samples"), 8);
    ck_assert_double_ge(number(flooded, "samples"), 8);
    ck_assert_double_le(number(quiet, "first_p50"), number(quiet, "first_p99"));
    ck_assert_double_gt(number(flooded, "first_p50"), 0);
    ck_assert_double_eq_tol(number(flooded, "times_p50"),
                            number(flooded, "first_p50") / number(quiet, "first_p50"), 1e-6);
    ck_assert_double_gt(number(flooded, "step_p50"), 0);
    ck_assert_double_gt(number(row(root, "who", "flood"), "tokens_per_s"), 0);
    json_decref(root);
}
END_TEST

START_TEST(csv_has_as_many_fields_in_every_line)
{
    ck_assert_int_eq(RUN("llm-bench connections --count 2 --quick --csv 2>/dev/null"), 0);
    char *second = strstr(out, "\r\n");
    ck_assert_ptr_nonnull(second);
    ck_assert_int_eq(strncmp(out, "connections,attach_p50,", 23), 0);
    size_t commas[2] = {0, 0};
    for (const char *at = out; *at; at++)
        commas[at > second] += *at == ',';
    ck_assert_uint_eq(commas[0], commas[1]);
}
END_TEST

START_TEST(a_running_daemon_is_measured_and_left_running)
{
    struct test_daemon daemon;
    char arguments[160];
    test_daemon_start(&daemon, NULL);
    snprintf(arguments, sizeof arguments, "ipc --point awake.spin --socket %s", daemon.socket);
    json_t *root = report(arguments);
    ck_assert_double_gt(number(row(root, "point", "awake.spin.round"), "p50"), 0);
    json_decref(root);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

static const struct {
    const char *arguments;
    int code;
    const char *sentence;
} refused[] = {
    {"", 2, "what shall be measured?"},
    {"dance", 2, "unknown verb \"dance\""},
    {"ipc --rounds 0", 2, "--rounds 0 is out of range 1..1000"},
    {"ipc --cpus 0,4095", 2, "--cpus 0,4095"},
    {"ipc --socket /nowhere/s", 3, "/nowhere/s"},
    {"throughput --reader eye", 2, "--reader eye is not one of late, look, spin, futex, eventfd"},
    {"throughput --clients 40 --streams 40", 2, "40 clients of 40 streams"},
    {"throughput --tokens 8000 --prompt 8000", 2, "do not fit the echo's context"},
    {"contexts --tokens 100", 2, "--tokens 100 is out of range 2048..1000000"},
    {"contexts --socket /nowhere/s", 2, "leave --socket away"},
    {"flood --socket /nowhere/s", 2, "leave --socket away"},
    {"flood --requests 0", 2, "--requests 0 is out of range 1..400"},
    {"ops --op quickly", 2, "nothing matches --op quickly"},
    {"ops --isa fast", 2, "fast"},
    {"sim", 2, "--trace FILE is wanted"},
    {"sim --trace /nowhere/t.jsonl", 1, "cannot open /nowhere/t.jsonl"},
    {"sim --trace /nowhere/t.jsonl --die 2", 2, "--die 2: a number of 0..1 is wanted"},
};

START_TEST(what_cannot_be_done_is_one_sentence_and_an_exit_code)
{
    int code = RUN("llm-bench %s 2>&1", refused[_i].arguments);
    ck_assert_msg(code == refused[_i].code, "exit code %d: %.1500s", code, out);
    ck_assert_msg(strstr(out, refused[_i].sentence) != NULL, "%.1500s", out);
    const char *line_end = strchr(out, '\n');
    ck_assert_msg(line_end && line_end[1] == '\0', "more than a sentence: %.1500s", out);
}
END_TEST

/* The private daemon and its directory must not stay. */
START_TEST(an_interrupted_bench_takes_its_daemon_down)
{
    int code = RUN("export TMPDIR=$(mktemp -d /tmp/llmd-test-XXXXXX); "
                   "setsid llm-bench throughput --seconds 60 2>&1 & "
                   "pid=$!; until ls $TMPDIR/*/s >/dev/null 2>&1; do sleep 0.1; done; sleep 1; "
                   "kill -INT $pid; wait $pid; code=$?; "
                   "echo processes $(pgrep -fc $TMPDIR/); rmdir $TMPDIR && exit $code");
    ck_assert_msg(code == 130, "exit code %d: %.1500s", code, out);
    ck_assert_msg(strstr(out, "interrupted\nprocesses 0\n") != NULL, "%.1500s", out);
}
END_TEST

/* Should the bench have no time to do so, the kernel does it. */
START_TEST(a_killed_bench_leaves_no_daemon)
{
    int code = RUN("export TMPDIR=$(mktemp -d /tmp/llmd-test-XXXXXX); "
                   "setsid llm-bench throughput --seconds 60 >/dev/null 2>&1 & "
                   "pid=$!; until ls $TMPDIR/*/s >/dev/null 2>&1; do sleep 0.1; done; "
                   "kill -KILL $pid; for i in $(seq 300); do "
                   "[ $(pgrep -fc $TMPDIR/) = 0 ] && break; sleep 0.1; done; "
                   "echo processes $(pgrep -fc $TMPDIR/); rm -r $TMPDIR");
    ck_assert_msg(code == 0 && strstr(out, "processes 0\n") != NULL, "%.1500s", out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/bench");
    TCase *tcase = tcase_create("bench");
    tcase_set_timeout(tcase, 240);
    tcase_add_test(tcase, ipc_measures_every_point_beside_its_floor);
    tcase_add_test(tcase, ipc_measures_one_point_and_what_it_needs);
    tcase_add_test(tcase, throughput_counts_what_every_kind_of_reader_got);
    tcase_add_test(tcase, workers_may_be_threads_and_serve_several_clients);
    tcase_add_test(tcase, connections_are_held_and_given_back);
    tcase_add_test(tcase, ops_has_a_row_for_every_op_of_the_table);
    tcase_add_test(tcase, sim_reports_what_a_trace_finds_on_a_simulated_machine);
    tcase_add_test(tcase, contexts_measures_every_call_and_what_forks_take);
    tcase_add_test(tcase, flood_asks_beside_another_user);
    tcase_add_test(tcase, csv_has_as_many_fields_in_every_line);
    tcase_add_test(tcase, a_running_daemon_is_measured_and_left_running);
    tcase_add_test(tcase, an_interrupted_bench_takes_its_daemon_down);
    tcase_add_test(tcase, a_killed_bench_leaves_no_daemon);
    tcase_add_loop_test(tcase, what_cannot_be_done_is_one_sentence_and_an_exit_code, 0,
                        sizeof refused / sizeof refused[0]);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
