/*
 * test_json_file.c - daemon/model/json_file: a whole file or a sentence.
 * How: documents in memory and in anonymous files.
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/model/json_file.h"

static const struct {
    const char *text;
    size_t bytes; /* 0: strlen */
    enum llm_status status;
    const char *sentence;
} rows[] = {
    {"{\"a\":[1,2.5,true,null,\"x\\u0000y\"]}", 0, LLM_OK, ""},
    {"[]", 0, LLM_OK, ""},
    {"", 0, LLM_ERR_INVALID, "x.json: line "},
    {"{\"a\":1,\"a\":2}", 0, LLM_ERR_INVALID, "duplicate"},
    {"{\"a\":\n\n01}", 0, LLM_ERR_INVALID, "x.json: line 3"},
    {"{\"a\":1}}", 0, LLM_ERR_INVALID, "end of file expected"},
    {"{\"a\":1", 0, LLM_ERR_INVALID, "x.json: line 1"},
    {"\"text\"", 0, LLM_ERR_INVALID, "'[' or '{' expected"},
    {"[\"\xc3\x28\"]", 0, LLM_ERR_INVALID, "unable to decode byte 0xc3"},
    {"[99999999999999999999]", 0, LLM_ERR_INVALID, "too big integer"},
    {"[1e999]", 0, LLM_ERR_INVALID, "real number overflow"},
    {"[NaN]", 0, LLM_ERR_INVALID, "x.json: line 1"},
    {"{\"a\\u0000b\":1}", 0, LLM_ERR_UNSUPPORTED, "a key contains a zero byte"},
    {"[1]\0", 4, LLM_ERR_INVALID, "x.json: line 1"},
};
#define ROW_COUNT (int)(sizeof rows / sizeof *rows)

START_TEST(a_document_is_read_or_named_with_its_line)
{
    json_t *root = NULL;
    llm_error error = {0};
    size_t bytes = rows[_i].bytes ? rows[_i].bytes : strlen(rows[_i].text);
    enum llm_status status = json_bytes_read(rows[_i].text, bytes, "x.json", &root, &error);
    ck_assert_msg(status == rows[_i].status, "%s: %s", rows[_i].text, error.message);
    ck_assert_msg(strstr(error.message, rows[_i].sentence) != NULL, "%s: \"%s\"", rows[_i].text,
                  error.message);
    ck_assert((root != NULL) == (status == LLM_OK)); /* untouched on failure */
    json_decref(root);
}
END_TEST

START_TEST(a_deep_document_is_refused)
{
    char *deep = malloc(200000);
    memset(deep, '[', 200000);
    json_t *root = NULL;
    llm_error error;
    ck_assert_int_eq(json_bytes_read(deep, 200000, "deep.json", &root, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "depth"));
    free(deep);
}
END_TEST

static int file_of(const char *text)
{
    int fd = memfd_create("json", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    return fd;
}

START_TEST(a_file_is_read_from_its_start_and_stays_open)
{
    int fd = file_of("{\"answer\": 42}");
    json_t *root = NULL;
    llm_error error;
    ck_assert_int_eq(json_file_read(fd, "x.json", 14, &root, &error), LLM_OK);
    ck_assert_int_eq(json_integer_value(json_object_get(root, "answer")), 42);
    ck_assert_int_eq(close(fd), 0);
    json_decref(root);
}
END_TEST

START_TEST(a_file_over_the_limit_is_refused_before_it_is_read)
{
    int fd = file_of("{}");
    ck_assert_int_eq(ftruncate(fd, (off_t)1 << 40), 0); /* a terabyte of nothing */
    json_t *root = NULL;
    llm_error error;
    ck_assert_int_eq(json_file_read(fd, "x.json", 1 << 20, &root, &error), LLM_ERR_LIMIT);
    ck_assert_str_eq(error.message, "x.json has 1099511627776 bytes, the limit is 1048576");
    close(fd);
}
END_TEST

START_TEST(what_is_no_regular_file_is_refused)
{
    json_t *root = NULL;
    llm_error error;
    int ends[2], directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(json_file_read(ends[0], "pipe", 100, &root, &error), LLM_ERR_INVALID);
    ck_assert_int_eq(json_file_read(directory, "root", 1 << 20, &root, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "root is not a regular file");
    ck_assert_int_eq(json_file_read(-1, "nothing", 100, &root, &error), LLM_ERR_SYSTEM);
    ck_assert_ptr_nonnull(strstr(error.message, "nothing: Bad file descriptor"));
    close(directory);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/json_file");
    TCase *files = tcase_create("files");
    tcase_add_loop_test(files, a_document_is_read_or_named_with_its_line, 0, ROW_COUNT);
    tcase_add_test(files, a_deep_document_is_refused);
    tcase_add_test(files, a_file_is_read_from_its_start_and_stays_open);
    tcase_add_test(files, a_file_over_the_limit_is_refused_before_it_is_read);
    tcase_add_test(files, what_is_no_regular_file_is_refused);
    suite_add_tcase(suite, files);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
