/*
 * test_safetensors.c - daemon/model/safetensors: the frame, the directory, shards; files that lie.
 * How: files are built in memory from a header text and a number of data bytes (byte i is i modulo 251), one
 * rule broken at a time. Then a good file is damaged at random: every outcome is a status, never a crash, and
 * what is accepted can be read to the last byte.
 */
#include "daemon/model/safetensors.h"

#include "tests/daemon/memory_files.h"
#include "tests/daemon/tiny_model.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES 4096

static unsigned char file_bytes[3][FILE_MAX_BYTES];
static struct memory_files files;
static struct safetensors st;
static struct llm_error error;

static void setup(void)
{
    files = (struct memory_files){0};
    st = (struct safetensors){0};
    error = (struct llm_error){0};
}

static void teardown(void)
{
    safetensors_close(&st);
}

static void put_file(int slot, const char *name, const char *header, size_t data_bytes)
{
    uint64_t length = strlen(header);
    ck_assert_uint_le(8 + length + data_bytes, FILE_MAX_BYTES);
    memcpy(file_bytes[slot], &length, 8); /* little-endian machines only */
    memcpy(file_bytes[slot] + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++)
        file_bytes[slot][8 + length + i] = (unsigned char)(i % 251);
    files.files[slot].name = name;
    files.files[slot].bytes = file_bytes[slot];
    files.files[slot].byte_count = 8 + length + data_bytes;
}

static void put_text(int slot, const char *name, const char *text)
{
    files.files[slot].name = name;
    files.files[slot].bytes = text;
    files.files[slot].byte_count = strlen(text);
}

static enum llm_status open_files(void)
{
    struct model_files access = memory_files_open(&files);
    return safetensors_open(&st, &access, &error);
}

/* ---- good files ---- */

static const char GOOD[] =
    "{\"b\": {\"dtype\": \"BF16\", \"shape\": [2, 3], \"data_offsets\": [8, 20]},"
    " \"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]},"
    " \"none\": {\"dtype\": \"I64\", \"shape\": [0, 5], \"data_offsets\": [20, 20]},"
    " \"one\": {\"dtype\": \"U8\", \"shape\": [], \"data_offsets\": [20, 21]},"
    " \"__metadata__\": {\"format\": \"pt\"}}   ";

START_TEST(tensors_are_found_by_name_and_read_by_range)
{
    put_file(0, "model.safetensors", GOOD, 21);
    ck_assert_msg(open_files() == LLM_OK, "%s", error.message);
    ck_assert_uint_eq(st.tensor_count, 4);
    const struct safetensors_tensor *b = safetensors_find(&st, "b");
    ck_assert_ptr_nonnull(b);
    ck_assert_str_eq(b->dtype->name, "BF16");
    ck_assert_uint_eq(b->rank, 2);
    ck_assert_uint_eq(b->shape[0], 2);
    ck_assert_uint_eq(b->shape[1], 3);
    ck_assert_uint_eq(b->bytes, 12);
    unsigned char read[4] = {0};
    ck_assert_int_eq(safetensors_read(&st, b, 8, read, 4, &error), LLM_OK);
    ck_assert_mem_eq(read, ((unsigned char[]){16, 17, 18, 19}), 4);
    ck_assert_uint_eq(safetensors_find(&st, "none")->bytes, 0);
    ck_assert_uint_eq(safetensors_find(&st, "one")->bytes, 1);
    ck_assert_ptr_null(safetensors_find(&st, "c"));
    ck_assert_ptr_null(safetensors_find(&st, "__metadata__"));
}
END_TEST

/* ---- one broken rule at a time ---- */

static const struct {
    const char *header;
    size_t data_bytes;
    enum llm_status status;
    const char *sentence; /* NULL: any */
} broken[] = {
    {"", 0, LLM_ERR_CORRUPT, "model.safetensors: the header is not a JSON object"},
    {" {}", 0, LLM_ERR_CORRUPT, "model.safetensors: the header is not a JSON object"},
    {"[]", 0, LLM_ERR_CORRUPT, "model.safetensors: the header is not a JSON object"},
    {"{]", 0, LLM_ERR_INVALID, NULL},
    {"{}", 0, LLM_ERR_INVALID, "the model's safetensors files hold no tensor"},
    {"{}", 5, LLM_ERR_CORRUPT, "model.safetensors has 5 bytes after its last tensor"},
    {"{\"a\": 1}", 0, LLM_ERR_INVALID, "model.safetensors: tensor \"a\" has no \"dtype\""},
    {"{\"a\": {\"dtype\": \"Q4\", \"shape\": [1], \"data_offsets\": [0, 1]}}", 1, LLM_ERR_INVALID,
     "model.safetensors: tensor \"a\" has the unknown dtype \"Q4\""},
    {"{\"a\": {\"dtype\": \"U8\", \"data_offsets\": [0, 1]}}", 1, LLM_ERR_INVALID,
     "model.safetensors: tensor \"a\" has no \"shape\" of at most 8 sizes"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [1,1,1,1,1,1,1,1,1], \"data_offsets\": [0, 1]}}", 1,
     LLM_ERR_INVALID, "model.safetensors: tensor \"a\" has no \"shape\" of at most 8 sizes"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [1, -1], \"data_offsets\": [0, 1]}}", 1,
     LLM_ERR_INVALID, "model.safetensors: size 1 of tensor \"a\" is not a whole number >= 0"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [1.0], \"data_offsets\": [0, 1]}}", 1, LLM_ERR_INVALID,
     "model.safetensors: size 0 of tensor \"a\" is not a whole number >= 0"},
    {"{\"a\": {\"dtype\": \"F64\", \"shape\": [4294967296, 4294967296], \"data_offsets\": [0, 1]}}",
     1, LLM_ERR_INVALID, "model.safetensors: tensor \"a\" would have more than 2^63 bytes"},
    {"{\"a\": {\"dtype\": \"F64\", \"shape\": [1152921504606846976], \"data_offsets\": [0, 8]}}", 8,
     LLM_ERR_INVALID, "model.safetensors: tensor \"a\" would have more than 2^63 bytes"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [1]}}", 1, LLM_ERR_INVALID,
     "model.safetensors: \"data_offsets\" of tensor \"a\" are not two whole numbers"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1, 2]}}", 1,
     LLM_ERR_INVALID,
     "model.safetensors: \"data_offsets\" of tensor \"a\" are not two whole numbers"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [1, 0]}}", 1, LLM_ERR_INVALID,
     "model.safetensors: tensor \"a\" lies at bytes 1..0 of 1"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [-1, 0]}}", 1, LLM_ERR_INVALID,
     "model.safetensors: tensor \"a\" lies at bytes -1..0 of 1"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [9], \"data_offsets\": [0, 9]}}", 1, LLM_ERR_INVALID,
     "model.safetensors: tensor \"a\" lies at bytes 0..9 of 1"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 4]}}", 4, LLM_ERR_INVALID,
     "model.safetensors: tensor \"a\" has 4 bytes, its dtype and shape ask for 8"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [0, 2]},"
     " \"b\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [1, 3]}}",
     3, LLM_ERR_CORRUPT, NULL},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [0, 2]},"
     " \"b\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [3, 5]}}",
     5, LLM_ERR_CORRUPT, NULL},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [1, 3]}}", 3, LLM_ERR_CORRUPT,
     NULL},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [0, 2]},"
     " \"a\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [0, 2]}}",
     2, LLM_ERR_INVALID, NULL},
    {"{\"__metadata__\": {\"x\": 1},"
     " \"a\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [0, 2]}}",
     2, LLM_ERR_INVALID, "model.safetensors: \"__metadata__\" is not a map of strings"},
};
#define BROKEN ((int)(sizeof broken / sizeof broken[0]))

START_TEST(each_broken_rule_has_a_sentence)
{
    put_file(0, "model.safetensors", broken[_i].header, broken[_i].data_bytes);
    ck_assert_int_eq(open_files(), broken[_i].status);
    if (broken[_i].sentence != NULL)
        ck_assert_str_eq(error.message, broken[_i].sentence);
    ck_assert_ptr_nonnull(strstr(error.message, "safetensors"));
}
END_TEST

static const struct {
    uint64_t length;
    size_t file_bytes;
    enum llm_status status;
} frames[] = {
    {0, 0, LLM_ERR_CORRUPT},
    {0, 7, LLM_ERR_CORRUPT},
    {0, 8, LLM_ERR_CORRUPT},
    {1, 8, LLM_ERR_CORRUPT},
    {UINT64_C(1) << 63, 64, LLM_ERR_CORRUPT},
    {UINT64_MAX, 64, LLM_ERR_CORRUPT},
    {UINT64_MAX - 7, 64, LLM_ERR_CORRUPT},
    {57, 64, LLM_ERR_CORRUPT},
};

START_TEST(a_header_length_is_believed_only_within_the_file)
{
    memset(file_bytes[0], '{', 64);
    memcpy(file_bytes[0], &frames[_i].length, 8);
    files.files[0].name = "model.safetensors";
    files.files[0].bytes = file_bytes[0];
    files.files[0].byte_count = frames[_i].file_bytes;
    ck_assert_int_eq(open_files(), frames[_i].status);
}
END_TEST

/* ---- shards ---- */

static const char ONE[] = "{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}}";
static const char TWO[] = "{\"b\": {\"dtype\": \"U8\", \"shape\": [6], \"data_offsets\": [0, 6]}}";
static const char INDEX[] = "model.safetensors.index.json";

START_TEST(shards_are_one_directory)
{
    put_file(0, "x-1.safetensors", ONE, 4);
    put_file(1, "x-2.safetensors", TWO, 6);
    put_text(2, INDEX,
             "{\"weight_map\": {\"b\": \"x-2.safetensors\", \"a\": \"x-1.safetensors\"}}");
    ck_assert_msg(open_files() == LLM_OK, "%s", error.message);
    ck_assert_uint_eq(st.file_count, 2);
    ck_assert_uint_eq(safetensors_find(&st, "b")->bytes, 6);
    unsigned char byte;
    ck_assert_int_eq(safetensors_read(&st, safetensors_find(&st, "b"), 5, &byte, 1, &error),
                     LLM_OK);
    ck_assert_uint_eq(byte, 5);
}
END_TEST

static const struct {
    const char *index;
    enum llm_status status;
    const char *sentence;
} indices[] = {
    {"{}", LLM_ERR_INVALID, "model.safetensors.index.json has no \"weight_map\""},
    {"{\"weight_map\": {\"a\": \"../x-1.safetensors\"}}", LLM_ERR_INVALID,
     "model.safetensors.index.json: \"../x-1.safetensors\" is not the name of a file beside it"},
    {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", LLM_ERR_INVALID,
     "model.safetensors.index.json: \"/etc/passwd\" is not the name of a file beside it"},
    {"{\"weight_map\": {\"a\": \"..\"}}", LLM_ERR_INVALID,
     "model.safetensors.index.json: \"..\" is not the name of a file beside it"},
    {"{\"weight_map\": {\"a\": 7}}", LLM_ERR_INVALID,
     "model.safetensors.index.json: \"\" is not the name of a file beside it"},
    {"{\"weight_map\": {\"a\": \"x-9.safetensors\"}}", LLM_ERR_NOT_FOUND,
     "the model has no file \"x-9.safetensors\""},
    {"{\"weight_map\": {\"a\": \"x-2.safetensors\", \"b\": \"x-1.safetensors\"}}", LLM_ERR_INVALID,
     NULL},
    {"{\"weight_map\": {\"c\": \"x-1.safetensors\"}}", LLM_ERR_INVALID,
     "model.safetensors.index.json: tensor \"c\" is not in x-1.safetensors"},
    {"{\"weight_map\": {}}", LLM_ERR_INVALID, "the model's safetensors files hold no tensor"},
};

START_TEST(each_bad_index_has_a_sentence)
{
    put_file(0, "x-1.safetensors", ONE, 4);
    put_file(1, "x-2.safetensors", TWO, 6);
    put_text(2, INDEX, indices[_i].index);
    ck_assert_int_eq(open_files(), indices[_i].status);
    if (indices[_i].sentence != NULL)
        ck_assert_str_eq(error.message, indices[_i].sentence);
}
END_TEST

START_TEST(a_tensor_in_two_shards_is_refused)
{
    put_file(0, "x-1.safetensors", ONE, 4);
    put_file(1, "x-2.safetensors", ONE, 4);
    put_text(2, INDEX,
             "{\"weight_map\": {\"a\": \"x-1.safetensors\", \"b\": \"x-2.safetensors\"}}");
    ck_assert_int_eq(open_files(), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "tensor \"a\" is there twice");
}
END_TEST

START_TEST(a_directory_without_weights_says_so)
{
    ck_assert_int_eq(open_files(), LLM_ERR_NOT_FOUND);
    ck_assert_str_eq(error.message,
                     "the model has neither model.safetensors nor model.safetensors.index.json");
}
END_TEST

/* ---- random damage ---- */

static void read_everything(void)
{
    unsigned char data[FILE_MAX_BYTES];
    for (size_t i = 0; i < st.tensor_count; i++) {
        ck_assert_uint_le(st.tensors[i].bytes, sizeof data);
        ck_assert_int_eq(
            safetensors_read(&st, &st.tensors[i], 0, data, (size_t)st.tensors[i].bytes, &error),
            LLM_OK);
    }
}

START_TEST(random_damage_ends_in_a_status)
{
    const char *given = getenv("LLM_TEST_SEED");
    uint64_t state = given != NULL ? strtoull(given, NULL, 0) : 99;
    int accepted = 0;
    for (int round = 0; round < 3000; round++) {
        put_file(0, "model.safetensors", GOOD, 21);
        int changes = 1 + (int)(tiny_random(&state) % 3);
        for (int i = 0; i < changes; i++) {
            size_t at = tiny_random(&state) % files.files[0].byte_count;
            file_bytes[0][at] =
                (unsigned char)(tiny_random(&state) % 2 == 0
                                    ? "0123456789[]{}\",:-. "[tiny_random(&state) % 20]
                                    : (int)tiny_random(&state) & 0xff);
        }
        if (tiny_random(&state) % 8 == 0)
            files.files[0].byte_count = tiny_random(&state) % files.files[0].byte_count;
        if (open_files() == LLM_OK) {
            read_everything();
            accepted++;
        }
        safetensors_close(&st);
    }
    ck_assert_int_gt(accepted, 0); /* damage to data or names is no damage to the frame */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/safetensors");
    TCase *tc = tcase_create("safetensors");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, tensors_are_found_by_name_and_read_by_range);
    tcase_add_loop_test(tc, each_broken_rule_has_a_sentence, 0, BROKEN);
    tcase_add_loop_test(tc, a_header_length_is_believed_only_within_the_file, 0,
                        (int)(sizeof frames / sizeof frames[0]));
    tcase_add_test(tc, shards_are_one_directory);
    tcase_add_loop_test(tc, each_bad_index_has_a_sentence, 0,
                        (int)(sizeof indices / sizeof indices[0]));
    tcase_add_test(tc, a_tensor_in_two_shards_is_refused);
    tcase_add_test(tc, a_directory_without_weights_says_so);
    tcase_add_test(tc, random_damage_ends_in_a_status);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
