/*
 * test_models.c - models come and go while requests run.
 * How: tiny models of one shape and different weights are written to a directory of their own. Clients (processes) ask an alias
 * without a break while models are loaded, swapped behind it and unloaded, and while engines are killed: every answer must be,
 * as a whole, the one that one of the models gives alone. Broken, changed and foreign files must be one sentence each.
 */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/daemon/tiny_model.h"
#include "tests/support/daemon.h"

#define CLIENTS       3
#define ROUNDS        6
#define ANSWER_TOKENS 40
#define PROMPT_TOKENS 40
#define MINUTE        UINT64_C(60000000000)
#define WEIGHTS       2 /* different ones */
#define NOBODY        65534

static struct tiny_model tiny[WEIGHTS];
static char roots[160]; /* models.directories=... */
static struct test_daemon daemon_;
static llm_connection *connection;

/* ---- Fixture ------------------------------------------------------------------------------------------- */

static void write_models(void)
{
    static const struct tiny_shape shape = {.hidden = 64,
                                            .feed_forward = 96,
                                            .layers = 2,
                                            .heads = 4,
                                            .kv_heads = 2,
                                            .head_dim = 16,
                                            .vocab = 300,
                                            .dtype = "BF16"};
    for (int i = 0; i < WEIGHTS; i++)
        tiny_model_open(&tiny[i], &shape, (uint64_t)i + 11);
    snprintf(roots, sizeof roots, "models.directories=%.*s",
             (int)(strrchr(tiny[0].directory, '/') - tiny[0].directory), tiny[0].directory);
}

static void start(const char *extra)
{
    static char load[128];
    write_models();
    snprintf(load, sizeof load, "models.load=one=%s", tiny[0].directory);
    test_daemon_start(
        &daemon_, (const char *const[]){"--model", "echo", "--set", roots, "--set", load, "--set",
                                        "models.aliases=live=one", "--set", "kv.pool_bytes=32MiB",
                                        "--set", "limits.engine_deaths=100", "--set",
                                        extra ? extra : "models.idle_unload_s=0", NULL});
    connection = test_daemon_connect(&daemon_);
}

static void stop(void)
{
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon_);
    test_daemon_stop(&daemon_);
    for (int i = 0; i < WEIGHTS; i++)
        tiny_model_close(&tiny[i]);
}

/* ---- Asking ------------------------------------------------------------------------------------------ */

struct answer {
    uint32_t tokens[ANSWER_TOKENS + 1];
    uint32_t count;
    uint32_t cached_tokens;
};

static enum llm_status submit(llm_connection *from, const char *model, uint32_t max_tokens,
                              llm_stream **out_stream, llm_error *error)
{
    uint32_t prompt[PROMPT_TOKENS];
    for (uint32_t i = 0; i < PROMPT_TOKENS; i++)
        prompt[i] = 4 + i * 7;
    return llm_submit(from, prompt, PROMPT_TOKENS,
                      &(llm_sampling){.max_tokens = max_tokens,
                                      .temperature = 0.9F,
                                      .seed = 7,
                                      .has_seed = true,
                                      .ignore_eos = true,
                                      .model = model},
                      out_stream, error);
}

static enum llm_status ask(llm_connection *from, const char *model, struct answer *out,
                           llm_error *error)
{
    llm_stream *stream = NULL;
    llm_stream_info info = {0};
    uint32_t count = 1;
    *out = (struct answer){0};
    enum llm_status status = submit(from, model, ANSWER_TOKENS, &stream, error);
    while (status == LLM_OK && count > 0) {
        status = llm_stream_read(stream, out->tokens + out->count, NULL,
                                 ANSWER_TOKENS + 1 - out->count, MINUTE, &count, error);
        out->count += status == LLM_OK ? count : 0;
    }
    if (status == LLM_OK && llm_stream_describe(stream, &info, error) == LLM_OK)
        out->cached_tokens = info.cached_tokens;
    llm_stream_close(stream);
    return status;
}

static void must_answer(const char *model, struct answer *out)
{
    llm_error error;
    ck_assert_msg(ask(connection, model, out, &error) == LLM_OK, "%s: %s", model, error.message);
    ck_assert_uint_eq(out->count, ANSWER_TOKENS);
}

static bool same(const struct answer *a, const struct answer *b)
{
    return a->count == b->count && memcmp(a->tokens, b->tokens, a->count * sizeof *a->tokens) == 0;
}

static uint64_t load(const char *what, const char *name)
{
    llm_error error;
    uint64_t id = 0;
    ck_assert_msg(llm_model_load(connection, what, name, &id, &error) == LLM_OK &&
                      llm_model_wait(connection, id, MINUTE, &error) == LLM_OK,
                  "%s", error.message);
    return id;
}

static llm_model find(uint64_t id)
{
    llm_error error;
    llm_models models;
    ck_assert_msg(llm_models_list(connection, &models, &error) == LLM_OK, "%s", error.message);
    for (uint32_t i = 0; i < models.model_count; i++)
        if (models.models[i].id == id)
            return models.models[i];
    return (llm_model){0};
}

/* Fails with `status` and a sentence that has `text` in it. */
static void must_fail(enum llm_status got, const llm_error *error, enum llm_status status,
                      const char *text)
{
    ck_assert_msg(got == status, "%d instead of %d: %s", got, status,
                  got == LLM_OK ? "it worked" : error->message);
    ck_assert_msg(strstr(error->message, text), "\"%s\" is not in: %s", text, error->message);
}

/* ---- Names and versions ------------------------------------------------------------------------------ */

START_TEST(models_stand_side_by_side_and_names_lead_to_them)
{
    struct answer one, other, got;
    llm_error error;
    start(NULL);
    must_answer("one", &one);
    uint64_t two = load(tiny[1].directory, "one"); /* another version of the name */
    ck_assert_uint_eq(find(two).version, 2);
    must_answer("one", &other);
    ck_assert(!same(&one, &other));
    must_answer("one@1", &got);
    ck_assert(same(&one, &got));
    must_answer("live", &got); /* aliases move only when they are told to */
    ck_assert(same(&one, &got));
    ck_assert_msg(llm_model_alias(connection, "live", "one@2", MINUTE, &error) == LLM_OK, "%s",
                  error.message);
    must_answer("live", &got);
    ck_assert(same(&other, &got));
    ck_assert_msg(llm_model_default(connection, "one@1", MINUTE, &error) == LLM_OK, "%s",
                  error.message);
    must_answer(NULL, &got);
    ck_assert(same(&one, &got));
    must_fail(ask(connection, "one@3", &got, &error), &error, LLM_ERR_NOT_FOUND, "one@3");
    stop();
}
END_TEST

START_TEST(no_cached_block_of_an_old_version_is_used)
{
    struct answer got;
    start(NULL);
    must_answer("one", &got);
    ck_assert_uint_eq(got.cached_tokens, 0);
    must_answer("one", &got);
    ck_assert_uint_gt(got.cached_tokens, 0);
    load(tiny[1].directory, "one");
    must_answer("one@1", &got); /* the old one's are still there for it, */
    ck_assert_uint_gt(got.cached_tokens, 0);
    must_answer("one@2", &got); /* but not for the new one, */
    ck_assert_uint_eq(got.cached_tokens, 0);
    load(tiny[0].directory, "one"); /* nor for the same files loaded again */
    must_answer("one@3", &got);
    ck_assert_uint_eq(got.cached_tokens, 0);
    stop();
}
END_TEST

/* ---- Under load -------------------------------------------------------------------------------------- */

struct shared {
    _Atomic bool stop, failed;
    _Atomic uint32_t answers[WEIGHTS];
    struct answer expected[WEIGHTS];
    char failure[LLM_ERROR_MESSAGE_BYTES];
};
static struct shared *shared;

static void give_up(const char *why)
{
    if (!atomic_exchange(&shared->failed, true))
        snprintf(shared->failure, sizeof shared->failure, "%s", why);
    _exit(1);
}

static _Noreturn void be_a_client(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    llm_connection *own = test_daemon_connect(&daemon_);
    while (!atomic_load(&shared->stop)) {
        llm_error error;
        struct answer got;
        if (ask(own, "live", &got, &error) != LLM_OK)
            give_up(error.message);
        int which = same(&got, &shared->expected[0]) ? 0 : 1;
        if (!same(&got, &shared->expected[which]))
            give_up("an answer is neither model's");
        atomic_fetch_add(&shared->answers[which], 1);
    }
    llm_disconnect(own);
    _exit(0);
}

static void await_answers(int which, uint32_t more)
{
    uint32_t until = atomic_load(&shared->answers[which]) + more;
    while (atomic_load(&shared->answers[which]) < until && !atomic_load(&shared->failed))
        test_sleep_ms(1);
}

/* Load the other weights, let the alias stand for them, take the old ones away; engines die on the way in some rounds. */
static void swap_once(int round, const char *old, char *out_name, size_t bytes)
{
    llm_error error;
    uint64_t id = 0;
    int which = (round + 1) % WEIGHTS;
    snprintf(out_name, bytes, "r%d", round);
    ck_assert_msg(llm_model_load(connection, tiny[which].directory, out_name, &id, &error) ==
                      LLM_OK,
                  "%s", error.message);
    if (round % 3 == 1)
        test_daemon_kill_engine(&daemon_);
    ck_assert_msg(llm_model_wait(connection, id, MINUTE, &error) == LLM_OK, "%s", error.message);
    ck_assert_msg(llm_model_alias(connection, "live", out_name, round % 3 == 2 ? 0 : MINUTE,
                                  &error) == LLM_OK,
                  "%s", error.message);
    if (round % 3 == 2)
        test_daemon_kill_engine(&daemon_);
    ck_assert_msg(llm_model_unload(connection, old, MINUTE, &error) == LLM_OK, "%s", error.message);
    await_answers(which, CLIENTS);
}

START_TEST(a_swap_under_load_fails_no_request_and_mixes_no_weights)
{
    pid_t pids[CLIENTS];
    char names[2][16] = {"one", ""};
    llm_error error;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
    start(NULL);
    must_answer("one", &shared->expected[0]);
    load(tiny[1].directory, "other");
    must_answer("other", &shared->expected[1]);
    ck_assert(!same(&shared->expected[0], &shared->expected[1]));
    ck_assert_int_eq(llm_model_unload(connection, "other", MINUTE, &error), LLM_OK);
    for (int i = 0; i < CLIENTS; i++) {
        pids[i] = fork();
        ck_assert_int_ge(pids[i], 0);
        if (pids[i] == 0)
            be_a_client();
    }
    await_answers(0, CLIENTS);
    for (int round = 0; round < ROUNDS && !atomic_load(&shared->failed); round++)
        swap_once(round, names[round % 2], names[(round + 1) % 2], sizeof names[0]);
    atomic_store(&shared->stop, true);
    for (int i = 0; i < CLIENTS; i++)
        waitpid(pids[i], NULL, 0);
    ck_assert_msg(!atomic_load(&shared->failed), "%s", shared->failure);
    printf("%u answers of one model, %u of the other, %d swaps\n", atomic_load(&shared->answers[0]),
           atomic_load(&shared->answers[1]), ROUNDS);
    stop();
    munmap(shared, sizeof *shared);
}
END_TEST

/* ---- Unloading --------------------------------------------------------------------------------------- */

static uint64_t weights_in_ledger(void)
{
    llm_ledger_entry entries[64];
    llm_error error;
    uint32_t cursor = 0, count = 1;
    uint64_t bytes = 0;
    while (count > 0) {
        ck_assert_msg(llm_memory_ledger(connection, &cursor, entries, 64, &count, &error) == LLM_OK,
                      "%s", error.message);
        for (uint32_t i = 0; i < count; i++)
            bytes += entries[i].part == LLM_MEMORY_WEIGHTS ? entries[i].bytes : 0;
    }
    return bytes;
}

START_TEST(unloading_waits_for_requests_and_gives_the_memory_back)
{
    enum {
        REQUESTS = 8
    };
    llm_stream *streams[REQUESTS];
    llm_error error;
    uint32_t count, token[1];
    struct answer got;
    start(NULL);
    uint64_t before = weights_in_ledger();
    uint64_t id = load(tiny[1].directory, "other");
    ck_assert_uint_gt(weights_in_ledger(), before);
    for (int i = 0; i < REQUESTS; i++)
        ck_assert_int_eq(submit(connection, "other", 150, &streams[i], &error), LLM_OK);
    ck_assert_int_eq(llm_stream_read(streams[0], token, NULL, 1, MINUTE, &count, &error), LLM_OK);
    ck_assert_msg(llm_model_unload(connection, "other", 0, &error) == LLM_OK, "%s", error.message);
    ck_assert_int_ne(ask(connection, "other", &got, &error), LLM_OK);
    for (int i = 0; i < REQUESTS; i++) {
        uint32_t tokens[160], total = i == 0;
        for (count = 1; count > 0; total += count)
            ck_assert_msg(llm_stream_read(streams[i], tokens, NULL, 160, MINUTE, &count, &error) ==
                              LLM_OK,
                          "request %d: %s", i, error.message);
        ck_assert_uint_eq(total, 150);
        llm_stream_close(streams[i]);
    }
    while (find(id).id == id)
        test_sleep_ms(1);
    must_answer("one", &got);
    test_daemon_wait_generation(&daemon_, 3); /* the start, the load, the unload */
    ck_assert_uint_eq(weights_in_ledger(), before);
    must_fail(llm_model_unload(connection, "one", 0, &error), &error, LLM_ERR_BUSY,
              "alias \"live\"");
    must_fail(llm_model_unload(connection, "echo", 0, &error), &error, LLM_ERR_INVALID, "echo");
    stop();
}
END_TEST

START_TEST(a_context_of_an_unloaded_model_can_be_read_and_says_what_it_cannot)
{
    static const uint32_t ids[] = {5, 6, 7, 8, 9};
    llm_context *context, *fork;
    llm_error error;
    uint32_t held[8], count = 0;
    start(NULL);
    load(tiny[1].directory, "other");
    ck_assert_int_eq(llm_context_create(connection, "other", &context, &error), LLM_OK);
    ck_assert_int_eq(llm_context_append(context, ids, 5, &error), LLM_OK);
    ck_assert_int_eq(llm_model_unload(connection, "other", MINUTE, &error), LLM_OK);
    test_daemon_wait_generation(&daemon_, 3);
    load(tiny[0].directory, "other"); /* in the slot that the old one had */
    ck_assert_msg(llm_context_read(context, 0, held, 8, &count, &error) == LLM_OK, "%s",
                  error.message);
    ck_assert_uint_eq(count, 5);
    ck_assert_mem_eq(held, ids, sizeof ids);
    must_fail(llm_context_append(context, ids, 5, &error), &error, LLM_ERR_NOT_FOUND, "unloaded");
    must_fail(llm_context_fork(context, &fork, &error), &error, LLM_ERR_NOT_FOUND, "unloaded");
    llm_context_close(context);
    stop();
}
END_TEST

START_TEST(a_model_that_nobody_asks_is_unloaded)
{
    llm_error error;
    start("models.idle_unload_s=1");
    uint64_t id = load(tiny[1].directory, "other");
    llm_model one = {0};
    for (int i = 0; i < 500 && find(id).id == id; i++)
        test_sleep_ms(20);
    ck_assert_uint_eq(find(id).id, 0);
    llm_models models;
    ck_assert_int_eq(llm_models_list(connection, &models, &error), LLM_OK);
    for (uint32_t i = 0; i < models.model_count; i++)
        if (strcmp(models.models[i].name, "one") == 0)
            one = models.models[i];
    ck_assert_int_eq(one.stage, LLM_STAGE_READY); /* it is behind an alias */
    stop();
}
END_TEST

/* ---- What goes wrong --------------------------------------------------------------------------------- */

static void load_fails(const char *what, const char *name, enum llm_status status, const char *text)
{
    llm_error error;
    uint64_t id = 0;
    enum llm_status got = llm_model_load(connection, what, name, &id, &error);
    if (got == LLM_OK)
        got = llm_model_wait(connection, id, MINUTE, &error);
    must_fail(got, &error, status, text);
}

START_TEST(a_broken_model_is_one_sentence_and_costs_nobody_anything)
{
    struct answer before, got;
    start(NULL);
    must_answer("one", &before);
    uint64_t generation = test_daemon_generation(&daemon_);
    ck_assert_int_eq(truncate(tiny_model_path(&tiny[1], "model.safetensors"), 100), 0);
    load_fails(tiny[1].directory, "bad", LLM_ERR_INVALID, "model.safetensors");
    load_fails("/etc", NULL, LLM_ERR_NOT_FOUND, "/etc");
    load_fails("nosuchmodel", NULL, LLM_ERR_NOT_FOUND, "nosuchmodel");
    load_fails("../up", NULL, LLM_ERR_INVALID, "../up");
    load_fails(tiny[0].directory, "a b", LLM_ERR_INVALID, "a b");
    load_fails(tiny[0].directory, "live", LLM_ERR_INVALID, "alias");
    ck_assert_uint_eq(test_daemon_generation(&daemon_), generation); /* no engine was replaced */
    must_answer("one", &got);
    ck_assert(same(&before, &got));
    stop();
}
END_TEST

START_TEST(files_that_are_replaced_later_do_not_change_a_loaded_model)
{
    struct answer before, got;
    char aside[256];
    llm_error error;
    start(NULL);
    must_answer("one", &before);
    /* Another file of the same name at the path: the load keeps to its own. */
    snprintf(aside, sizeof aside, "%s", tiny_model_path(&tiny[1], "model.safetensors"));
    ck_assert_int_eq(rename(aside, tiny_model_path(&tiny[0], "model.safetensors")), 0);
    ck_assert_int_eq(llm_daemon_restart_engine(connection, &error), LLM_OK);
    test_daemon_wait_generation(&daemon_, 2);
    must_answer("one", &got);
    ck_assert(same(&before, &got));
    stop();
}
END_TEST

START_TEST(files_that_are_written_to_later_end_the_model_and_not_the_daemon)
{
    struct answer got;
    llm_error error;
    start(NULL);
    uint64_t id = load(tiny[1].directory, "other");
    must_answer("other", &got);
    FILE *file = fopen(tiny_model_path(&tiny[1], "model.safetensors"), "ab");
    ck_assert(file && fputc(0, file) == 0 && fclose(file) == 0);
    ck_assert_int_eq(llm_daemon_restart_engine(connection, &error), LLM_OK);
    test_daemon_wait_generation(&daemon_, 3);
    llm_model model = find(id);
    ck_assert_int_eq(model.stage, LLM_STAGE_FAILED);
    ck_assert_msg(model.reason[0] != '\0', "no reason");
    must_fail(ask(connection, "other", &got, &error), &error, LLM_ERR_NOT_FOUND, "other");
    must_answer("one", &got);
    stop();
}
END_TEST

START_TEST(models_are_an_administrator_s)
{
    if (getuid() != 0) {
        puts("skipped: needs root");
        return;
    }
    llm_error error;
    start(NULL);
    ck_assert_int_eq(chmod(daemon_.directory, 0755) | chmod(daemon_.socket, 0666), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        uint64_t id;
        if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
            _exit(99);
        llm_connection *own = test_daemon_connect(&daemon_);
        llm_models models;
        bool refused =
            llm_model_load(own, tiny[1].directory, NULL, &id, &error) == LLM_ERR_PERMISSION &&
            llm_model_unload(own, "one", 0, &error) == LLM_ERR_PERMISSION &&
            llm_model_alias(own, "live", "echo", 0, &error) == LLM_ERR_PERMISSION &&
            llm_model_default(own, "one", 0, &error) == LLM_ERR_PERMISSION;
        bool listed = llm_models_list(own, &models, &error) == LLM_OK && models.model_count == 2 &&
                      models.models[1].path[0] == '\0';
        _exit(!refused ? 1 : !listed ? 2 : 0);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the other user ended with %d",
                  WEXITSTATUS(status));
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/models");
    TCase *tc = tcase_create("models");
    tcase_set_timeout(tc, 200);
    tcase_add_test(tc, models_stand_side_by_side_and_names_lead_to_them);
    tcase_add_test(tc, no_cached_block_of_an_old_version_is_used);
    tcase_add_test(tc, a_swap_under_load_fails_no_request_and_mixes_no_weights);
    tcase_add_test(tc, unloading_waits_for_requests_and_gives_the_memory_back);
    tcase_add_test(tc, a_context_of_an_unloaded_model_can_be_read_and_says_what_it_cannot);
    tcase_add_test(tc, a_model_that_nobody_asks_is_unloaded);
    tcase_add_test(tc, a_broken_model_is_one_sentence_and_costs_nobody_anything);
    tcase_add_test(tc, files_that_are_replaced_later_do_not_change_a_loaded_model);
    tcase_add_test(tc, files_that_are_written_to_later_end_the_model_and_not_the_daemon);
    tcase_add_test(tc, models_are_an_administrator_s);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
