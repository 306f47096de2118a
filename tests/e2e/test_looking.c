/*
 * test_looking.c - llmctl mem, kv map and trace against a real daemon: what they say adds up, also when the engine hangs.
 * How: the built-in model with a pinned context, an unpinned one and other clients; the ledger's sum must be what the kernel says of
 * the keeper's memories, the map's blocks those that the status file counts, the trace's spans those of the requests that
 * were made. As root a second user sees only what is its own.
 */
#include <check.h>
#include <grp.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/command.h"
#include "tests/support/daemon.h"

#define STRANGER 65534u

static struct test_daemon served;
static char out[1 << 20];
#define RUN(...) run_command(out, sizeof out, __VA_ARGS__)

static void start(void)
{
    test_daemon_start(&served, (const char *const[]){"--model", "tinynotes", NULL});
    setenv("LLMD_SOCKET", served.socket, 1);
    ck_assert_int_eq(RUN("llmctl ctx create a/pinned --pin --text 'Mara keeps the copper key. Ivo "
                         "lent Tam a blue lantern. The small boat is behind the mill.'"),
                     0);
    ck_assert_int_eq(RUN("llmctl generate 'Once upon a time' --max-tokens 40 --ignore-eos"), 0);
}

static void stop(void)
{
    test_daemon_stop(&served);
}

static json_t *said(void)
{
    json_error_t error;
    json_t *root = json_loads(out, 0, &error);
    ck_assert_msg(root != NULL, "line %d: %s in: %.200s", error.line, error.text, out);
    return root;
}

static long long number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    ck_assert_msg(json_is_integer(value), "no number \"%s\"", key);
    return json_integer_value(value);
}

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* ---- The ledger ------------------------------------------------------------------------------------- */

START_TEST(every_byte_of_the_daemon_is_in_one_line_of_the_ledger)
{
    llm_connection *others[3];
    for (int i = 0; i < 3; i++)
        others[i] = test_daemon_connect(&served);
    ck_assert_int_eq(RUN("llmctl mem --json"), 0);
    json_t *root = said();
    long long sum = 0, pool = 0, pinned = 0;
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(root, "ledger"), i, entry)
    {
        sum += number(entry, "bytes");
        ck_assert_int_le(number(entry, "pinned_bytes"), number(entry, "bytes"));
        pinned += number(entry, "pinned_bytes");
        if (strcmp(text(entry, "memory"), "pool") == 0)
            pool += number(entry, "bytes");
    }
    ck_assert_int_eq(sum, number(root, "sum_bytes"));
    ck_assert_int_eq(sum - number(root, "workspace_bytes"), number(root, "kernel_bytes"));
    ck_assert_int_eq(pool, 32 << 20);
    ck_assert_int_gt(pinned, 0);
    json_decref(root);
    ck_assert_int_eq(RUN("llmctl mem"), 0);
    ck_assert_ptr_nonnull(strstr(out, "exactly the sum without the workspace"));
    for (int c = 0; c < 3; c++)
        llm_disconnect(others[c]);
}
END_TEST

START_TEST(a_stranger_sees_its_own_bytes_and_no_blocks)
{
    if (geteuid() != 0)
        return; /* needs root: a second user */
    llm_error error;
    ck_assert_int_eq(chmod(served.directory, 0711), 0);
    ck_assert_int_eq(chmod(served.socket, 0666), 0);
    pid_t child = fork();
    if (child == 0) {
        llm_connection *connection;
        llm_ledger_entry entries[64];
        llm_block_info blocks[8];
        uint32_t cursor = 0, count = 0;
        bool own =
            setgid(STRANGER) == 0 && setuid(STRANGER) == 0 &&
            llm_connect(&connection,
                        &(llm_connect_options){.socket = served.socket, .no_autostart = true},
                        &error) == LLM_OK &&
            llm_memory_ledger(connection, &cursor, entries, 64, &count, &error) == LLM_OK;
        for (uint32_t i = 0; i < count; i++)
            own = own && !entries[i].daemon_owned &&
                  (entries[i].domain_kind == 2 || entries[i].domain_id == STRANGER);
        cursor = 0;
        own =
            own && count > 0 &&
            llm_cache_blocks(connection, &cursor, blocks, 8, &count, &error) == LLM_ERR_PERMISSION;
        _exit(own ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* ---- The map ---------------------------------------------------------------------------------------- */

START_TEST(the_map_has_the_blocks_that_the_status_file_counts)
{
    ck_assert_int_eq(RUN("llmctl kv map --json"), 0);
    json_t *root = said();
    const struct llm_status_engine *engine = &served.status->engine;
    long long counted[3] = {0};
    size_t i;
    json_t *block;
    json_array_foreach(root, i, block)
    {
        const char *state = text(block, "state");
        counted[0] += strcmp(state, "free") == 0 || strcmp(state, "unowned") == 0;
        counted[1] += strcmp(state, "held") == 0;
        counted[2] += strcmp(state, "cached") == 0;
        ck_assert_int_eq(number(block, "block"), (long long)i);
    }
    ck_assert_int_eq(counted[1], atomic_load(&engine->blocks_held));
    ck_assert_int_eq(counted[2], atomic_load(&engine->blocks_cached));
    ck_assert_int_gt(counted[1], 0); /* the pin */
    ck_assert_int_gt(counted[2], 0);
    json_decref(root);
    ck_assert_int_eq(RUN("llmctl kv map"), 0);
    ck_assert_ptr_nonnull(strstr(out, "H held "));
}
END_TEST

/* ---- The trace -------------------------------------------------------------------------------------- */

static uint32_t count_named(const json_t *root, const char *phase, const char *name)
{
    size_t i;
    uint32_t count = 0;
    json_t *event;
    json_array_foreach(json_object_get(root, "traceEvents"), i, event)
    {
        count += strcmp(text(event, "ph"), phase) == 0 && strcmp(text(event, "name"), name) == 0;
    }
    return count;
}

START_TEST(the_trace_shows_steps_and_requests_also_of_an_engine_that_hangs)
{
    ck_assert_int_eq(RUN("llmctl trace"), 0);
    json_t *root = said();
    ck_assert_uint_ge(count_named(root, "b", "generating"), 1);
    ck_assert_uint_eq(count_named(root, "b", "generating"), count_named(root, "e", "generating"));
    ck_assert_uint_ge(count_named(root, "C", "KV blocks"), 40);
    json_decref(root);
    pid_t engine = (pid_t)atomic_load(&served.status->keeper.engine_pid);
    ck_assert_int_eq(kill(engine, SIGSTOP), 0);
    ck_assert_int_eq(RUN("llmctl counters >/dev/null && llmctl trace"), 0);
    root = said();
    ck_assert_uint_ge(count_named(root, "C", "KV blocks"), 40);
    json_decref(root);
    ck_assert_int_eq(kill(engine, SIGCONT), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/looking");
    TCase *tcase = tcase_create("looking");
    tcase_add_checked_fixture(tcase, start, stop);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, every_byte_of_the_daemon_is_in_one_line_of_the_ledger);
    tcase_add_test(tcase, a_stranger_sees_its_own_bytes_and_no_blocks);
    tcase_add_test(tcase, the_map_has_the_blocks_that_the_status_file_counts);
    tcase_add_test(tcase, the_trace_shows_steps_and_requests_also_of_an_engine_that_hangs);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
