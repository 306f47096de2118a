/*
 * test_model_roots.c - daemon/keeper/model_roots: which model a name means, and which files the engine gets then.
 * How: a directory with two GGUF files and a model directory is named in every way; then files are asked for as an
 * engine does.
 */
#include "daemon/keeper/model_roots.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[64];
static struct config config;
static struct model_roots roots;
static struct llm_error error;

static const char *const names[] = {"a.gguf",     "m-00001-of-00002.gguf", "m-00002-of-00002.gguf",
                                    "secret.txt", "d/config.json",         "d/model.safetensors"};
#define NAMES (sizeof names / sizeof names[0])

static const char *path_of(const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void setup(void)
{
    strcpy(directory, "/tmp/llmd-roots-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(mkdir(path_of("d"), 0700), 0);
    for (size_t i = 0; i < NAMES; i++) {
        int fd = open(path_of(names[i]), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        ck_assert_int_ge(fd, 0);
        close(fd);
    }
    memset(&config, 0, sizeof config);
    roots.count = 0;
}

static void teardown(void)
{
    model_roots_close(&roots);
    for (size_t i = 0; i < NAMES; i++)
        ck_assert_int_eq(unlink(path_of(names[i])), 0);
    ck_assert_int_eq(rmdir(path_of("d")), 0);
    ck_assert_int_eq(rmdir(directory), 0);
}

static void configure_directory(void)
{
    config.models.directories.count = 1;
    snprintf(config.models.directories.paths[0], CONFIG_PATH_BYTES, "%s", directory);
}

static enum llm_status open_roots(const char *preset)
{
    snprintf(config.models.preset, sizeof config.models.preset, "%s", preset);
    return model_roots_open(&roots, &config, &error);
}

static enum llm_status ask(const char *name)
{
    int fd = -1;
    enum llm_status status = model_roots_open_file(&roots, path_of(name), &fd, &error);
    if (status == LLM_OK)
        close(fd);
    return status;
}

START_TEST(a_single_file_gives_no_other)
{
    ck_assert_msg(open_roots(path_of("a.gguf")) == LLM_OK, "%s", error.message);
    ck_assert_str_eq(config.models.preset, path_of("a.gguf"));
    ck_assert_int_eq(ask("a.gguf"), LLM_OK);
    ck_assert_int_eq(ask("secret.txt"), LLM_ERR_PERMISSION);
    ck_assert_int_eq(ask("m-00001-of-00002.gguf"), LLM_ERR_PERMISSION);
    ck_assert_int_eq(ask("d/config.json"), LLM_ERR_PERMISSION);
    ck_assert_int_eq(ask("d/../a.gguf"), LLM_ERR_PERMISSION);
}
END_TEST

/* Downloads into a cache are links to files with other names. */
START_TEST(a_file_that_was_named_may_be_a_link_and_one_in_a_directory_may_not)
{
    char outside[96], link[96];
    snprintf(outside, sizeof outside, "%s-blob", directory);
    int fd = open(outside, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    snprintf(link, sizeof link, "%.64s/d/l.gguf", directory);
    ck_assert_int_eq(symlink(outside, link), 0);
    enum llm_status named = open_roots(link), as_file = ask("d/l.gguf");
    model_roots_close(&roots);
    configure_directory();
    enum llm_status configured = open_roots("a"), beneath = ask("d/l.gguf");
    ck_assert_int_eq(unlink(link), 0);
    ck_assert_int_eq(unlink(outside), 0);
    ck_assert_int_eq(named, LLM_OK);
    ck_assert_int_eq(as_file, LLM_OK);
    ck_assert_int_eq(configured, LLM_OK);
    ck_assert_int_eq(beneath, LLM_ERR_PERMISSION);
}
END_TEST

START_TEST(a_split_gives_its_files)
{
    ck_assert_int_eq(open_roots(path_of("m-00002-of-00002.gguf")), LLM_OK);
    ck_assert_str_eq(config.models.preset, path_of("m-00001-of-00002.gguf"));
    ck_assert_int_eq(ask("m-00001-of-00002.gguf"), LLM_OK);
    ck_assert_int_eq(ask("m-00002-of-00002.gguf"), LLM_OK);
    ck_assert_int_eq(ask("a.gguf"), LLM_ERR_PERMISSION);
}
END_TEST

START_TEST(a_directory_gives_what_is_beneath_it)
{
    ck_assert_int_eq(open_roots(path_of("d")), LLM_OK);
    ck_assert_str_eq(config.models.preset, path_of("d"));
    ck_assert_int_eq(ask("d/config.json"), LLM_OK);
    ck_assert_int_eq(ask("d/none"), LLM_ERR_NOT_FOUND);
    ck_assert_int_eq(ask("a.gguf"), LLM_ERR_PERMISSION);
    ck_assert_int_ne(ask("d/../a.gguf"), LLM_OK);
}
END_TEST

static const struct {
    const char *name, *found; /* beneath the directory */
} named[] = {{"d", "d"}, {"a", "a.gguf"}, {"a.gguf", "a.gguf"}};

START_TEST(a_name_is_looked_for_in_the_directories)
{
    configure_directory();
    ck_assert_msg(open_roots(named[_i].name) == LLM_OK, "%s", error.message);
    ck_assert_str_eq(config.models.preset, path_of(named[_i].found));
    ck_assert_int_eq(ask("a.gguf"), LLM_OK);
    ck_assert_int_eq(ask("d/config.json"), LLM_OK);
}
END_TEST

static const struct {
    const char *name;
    enum llm_status status;
    const char *sentence;
} refused[] = {
    {"", LLM_ERR_INVALID, "\"\" is not a model's name"},
    {"..", LLM_ERR_INVALID, "\"..\" is not a model's name"},
    {"none", LLM_ERR_NOT_FOUND, "no model \"none\" (looked in: "},
    {"secret.txt", LLM_ERR_INVALID, "secret.txt is neither a directory nor a file whose name"},
    {"/nowhere/x.gguf", LLM_ERR_NOT_FOUND, "/nowhere/x.gguf is not a model: No such file"},
};

START_TEST(what_is_no_model_is_named)
{
    configure_directory();
    ck_assert_int_eq(open_roots(refused[_i].name), refused[_i].status);
    ck_assert_msg(strstr(error.message, refused[_i].sentence) != NULL, "%s", error.message);
    ck_assert_uint_eq(roots.count, 0);
}
END_TEST

START_TEST(a_directory_of_several_is_refused_by_path)
{
    ck_assert_int_eq(open_roots(directory), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "holds more than one GGUF file"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/model_roots");
    TCase *tc = tcase_create("roots");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_single_file_gives_no_other);
    tcase_add_test(tc, a_file_that_was_named_may_be_a_link_and_one_in_a_directory_may_not);
    tcase_add_test(tc, a_split_gives_its_files);
    tcase_add_test(tc, a_directory_gives_what_is_beneath_it);
    tcase_add_loop_test(tc, a_name_is_looked_for_in_the_directories, 0,
                        sizeof named / sizeof named[0]);
    tcase_add_loop_test(tc, what_is_no_model_is_named, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(tc, a_directory_of_several_is_refused_by_path);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
