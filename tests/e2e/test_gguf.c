/*
 * test_gguf.c - a GGUF file through the daemon: named as a file, as its directory, and by name in a model directory.
 * How: a tiny model is written as a directory and as a GGUF file; whatever way it is named, the answers are the
 * same tokens, also those of an engine that found the weights of the one before it.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/daemon/tiny_gguf.h"
#include "tests/support/daemon.h"

#define MINUTE UINT64_C(60000000000)
#define TOKENS 40

static const struct tiny_shape shape = {.hidden = 64,
                                        .feed_forward = 96,
                                        .layers = 2,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_dim = 16,
                                        .vocab = 40,
                                        .tied = true,
                                        .dtype = "F32"};
static const uint32_t prompt[] = {1, 7, 19};
static struct tiny_model tiny;
static char folder[96],
    file[128]; /* beside the directory's files: a folder with the GGUF file alone */

static void setup(void)
{
    struct gguf_writer writer;
    tiny_model_open(&tiny, &shape, 9);
    snprintf(folder, sizeof folder, "%s/alone", tiny.directory);
    snprintf(file, sizeof file, "%s/tiny.gguf", folder);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    gguf_writer_open(&writer);
    tiny_gguf_keys(&writer, "llama", &shape);
    tiny_gguf_tensors(&writer, &tiny);
    gguf_writer_save(&writer, file);
    gguf_writer_close(&writer);
}

static void teardown(void)
{
    ck_assert_int_eq(unlink(file), 0);
    ck_assert_int_eq(rmdir(folder), 0);
    tiny_model_close(&tiny);
}

static void ask(const struct test_daemon *daemon, const char *model, uint32_t tokens[TOKENS])
{
    llm_error error;
    llm_stream *stream = NULL;
    llm_connection *connection = test_daemon_connect(daemon);
    llm_sampling sampling = {.max_tokens = TOKENS, .ignore_eos = true, .model = model};
    ck_assert_msg(llm_submit(connection, prompt, 3, &sampling, &stream, &error) == LLM_OK, "%s",
                  error.message);
    uint32_t count = 0, all = 0;
    do {
        ck_assert_msg(llm_stream_read(stream, tokens + all, NULL, TOKENS + 1 - all, MINUTE, &count,
                                      &error) == LLM_OK,
                      "%s", error.message);
        all += count;
    } while (count > 0);
    ck_assert_uint_eq(all, TOKENS);
    llm_stream_close(stream);
    llm_disconnect(connection);
}

START_TEST(a_gguf_file_is_served_however_it_is_named)
{
    char models[128], wanted[160];
    snprintf(models, sizeof models, "models.directories=%s", folder);
    snprintf(wanted, sizeof wanted, "%s", tiny.directory);
    const char *const ways[][5] = {
        {"--model", wanted, NULL},                  /* the directory in Hugging Face's layout */
        {"--model", file, NULL},                    /* the file */
        {"--model", folder, NULL},                  /* its directory */
        {"--set", models, "--model", "tiny", NULL}, /* its name, */
        {"--set", models, "--model", "tiny.gguf", NULL}, /* its whole name */
    };
    uint32_t first[TOKENS + 1], tokens[TOKENS + 1];
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct test_daemon daemon = {.pid = 0};
        test_daemon_start(&daemon, ways[i]);
        ask(&daemon, i == 0 ? NULL : "tiny", i == 0 ? first : tokens);
        if (i == 1) {
            uint64_t generation = test_daemon_generation(&daemon);
            test_daemon_kill_engine(&daemon);
            test_daemon_wait_generation(&daemon, generation + 1);
            ask(&daemon, "tiny", tokens);
        }
        if (i > 0)
            ck_assert_mem_eq(tokens, first, TOKENS * sizeof tokens[0]);
        test_daemon_assert_clean(&daemon);
        test_daemon_stop(&daemon);
    }
}
END_TEST

START_TEST(a_gguf_file_that_is_none_is_refused_with_its_name)
{
    char said[4096], socket_path[160];
    snprintf(socket_path, sizeof socket_path, "%s/s", folder);
    ck_assert_int_eq(truncate(file, 300), 0);
    const char *const arguments[] = {"llmd",    "--foreground", "--socket", socket_path,
                                     "--model", file,           NULL};
    ck_assert_int_eq(test_run_llmd(arguments, said, sizeof said), 1);
    ck_assert_msg(strstr(said, "tiny.gguf ends inside") != NULL, "%s", said);
    snprintf(socket_path, sizeof socket_path, "%s/s.lock", folder);
    unlink(socket_path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/gguf");
    TCase *tc = tcase_create("gguf");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_gguf_file_is_served_however_it_is_named);
    tcase_add_test(tc, a_gguf_file_that_is_none_is_refused_with_its_name);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
