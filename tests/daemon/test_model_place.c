/*
 * test_model_place.c - daemon/model/model_place: a directory, a file, a split; what is in them.
 * How: directories of empty files are made and looked at.
 */
#include "daemon/model/model_place.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 6

static char directory[64];
static struct model_place place;
static struct llm_error error;

static const char *path_of(const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void setup(void)
{
    strcpy(directory, "/tmp/llmd-place-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    memset(&place, 0, sizeof place);
}

/* What a test makes it removes itself. */
static void teardown(void)
{
    ck_assert_int_eq(rmdir(directory), 0);
}

static void make(const char *const *names)
{
    for (int i = 0; i < FILES_MAX && names[i] != NULL; i++) {
        int fd = open(path_of(names[i]), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        ck_assert_int_ge(fd, 0);
        close(fd);
    }
}

static void unmake(const char *const *names)
{
    for (int i = 0; i < FILES_MAX && names[i] != NULL; i++)
        ck_assert_int_eq(unlink(path_of(names[i])), 0);
}

static const struct {
    const char *files[FILES_MAX];
    enum llm_status status;
    const char *gguf, *name; /* name NULL: the directory's */
} directories[] = {
    {{"config.json", "model.safetensors"}, LLM_OK, "", NULL},
    {{"config.json", "model.safetensors.index.json", "x.gguf"}, LLM_OK, "", NULL},
    {{"config.json"}, LLM_OK, "", NULL},
    {{"config.json", "x.gguf"}, LLM_OK, "x.gguf", "x"},
    {{"readme.md", "x.gguf", ".hidden.gguf"}, LLM_OK, "x.gguf", "x"},
    {{"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}, LLM_OK, "m-00001-of-00002.gguf", "m"},
    {{"m-00002-of-00002.gguf", "x.gguf"}, LLM_ERR_INVALID, "", NULL},
    {{"a.gguf", "b.gguf"}, LLM_ERR_INVALID, "", NULL},
    {{"readme.md"}, LLM_ERR_NOT_FOUND, "", NULL},
    {{NULL}, LLM_ERR_NOT_FOUND, "", NULL},
};

START_TEST(a_directory_is_what_is_in_it)
{
    char name[64], path[MODEL_PLACE_PATH_BYTES];
    make(directories[_i].files);
    enum llm_status status = model_place_find(directory, &place, &error);
    unmake(directories[_i].files);
    ck_assert_msg(status == directories[_i].status, "%d: %s", (int)status, error.message);
    if (status != LLM_OK)
        return;
    ck_assert_str_eq(place.directory, directory);
    ck_assert_str_eq(place.gguf, directories[_i].gguf);
    model_place_name(&place, name, sizeof name);
    ck_assert_str_eq(name,
                     directories[_i].name ? directories[_i].name : strrchr(directory, '/') + 1);

    struct model_place again;
    ck_assert_int_eq(model_place_path(&place, path, sizeof path, &error), LLM_OK);
    ck_assert_int_eq(model_place_from_path(path, &again, &error), LLM_OK);
    ck_assert_str_eq(again.directory, place.directory);
    ck_assert_str_eq(again.gguf, place.gguf);
}
END_TEST

START_TEST(a_file_is_itself_or_the_first_of_its_split)
{
    static const char *const all[FILES_MAX] = {"x.gguf", "m-00001-of-00002.gguf",
                                               "m-00002-of-00002.gguf", "notes.txt"};
    make(all);
    enum llm_status file = model_place_find(path_of("x.gguf"), &place, &error);
    ck_assert_str_eq(place.gguf, "x.gguf");
    enum llm_status second = model_place_find(path_of("m-00002-of-00002.gguf"), &place, &error);
    struct model_place split = place;
    enum llm_status other = model_place_find(path_of("notes.txt"), &place, &error);
    unmake(all);
    ck_assert_int_eq(file, LLM_OK);
    ck_assert_int_eq(second, LLM_OK);
    ck_assert_str_eq(split.gguf, "m-00001-of-00002.gguf");
    ck_assert(model_place_holds(&split, "m-00001-of-00002.gguf"));
    ck_assert(model_place_holds(&split, "m-00002-of-00002.gguf"));
    ck_assert(!model_place_holds(&split, "m-00002-of-00003.gguf"));
    ck_assert(!model_place_holds(&split, "n-00002-of-00002.gguf"));
    ck_assert(!model_place_holds(&split, "../m-00002-of-00002.gguf"));
    ck_assert(!model_place_holds(&split, "config.json"));
    ck_assert_int_eq(other, LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(
        strstr(error.message, "notes.txt is neither a directory nor a file whose name ends in"));
}
END_TEST

START_TEST(what_is_not_there_is_named)
{
    ck_assert_int_eq(model_place_find(path_of("none.gguf"), &place, &error), LLM_ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "none.gguf is not a model: No such file"));
    ck_assert_str_eq(place.gguf, "");
}
END_TEST

START_TEST(a_directory_named_like_a_file_is_refused)
{
    char inner[160];
    snprintf(inner, sizeof inner, "%s", path_of("d.gguf"));
    ck_assert_int_eq(mkdir(inner, 0700), 0);
    static const char *const files[FILES_MAX] = {"d.gguf/config.json"};
    make(files);
    enum llm_status status = model_place_find(inner, &place, &error);
    unmake(files);
    ck_assert_int_eq(rmdir(inner), 0);
    ck_assert_int_eq(status, LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "is a directory but named like a file"));
}
END_TEST

START_TEST(a_link_keeps_its_own_name)
{
    static const char *const files[FILES_MAX] = {"blob"};
    char link[160];
    make(files);
    snprintf(link, sizeof link, "%s", path_of("x.gguf"));
    ck_assert_int_eq(symlink("blob", link), 0);
    enum llm_status status = model_place_find(link, &place, &error);
    ck_assert_int_eq(unlink(link), 0);
    unmake(files);
    ck_assert_int_eq(status, LLM_OK);
    ck_assert_str_eq(place.gguf, "x.gguf");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/model_place");
    TCase *tc = tcase_create("place");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, a_directory_is_what_is_in_it, 0,
                        sizeof directories / sizeof directories[0]);
    tcase_add_test(tc, a_file_is_itself_or_the_first_of_its_split);
    tcase_add_test(tc, what_is_not_there_is_named);
    tcase_add_test(tc, a_directory_named_like_a_file_is_refused);
    tcase_add_test(tc, a_link_keeps_its_own_name);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
