/*
 * test_gguf.c - daemon/model/gguf: keys and values of every type, the directory of tensors, splits; files that lie.
 * How: files are written in memory (gguf_writer.h), one rule broken at a time. Then a good file is damaged at random
 * and cut at every byte: every outcome is a status, never a crash, and what is accepted can be read to the last byte.
 */
#include "daemon/model/gguf.h"

#include "tests/daemon/gguf_writer.h"
#include "tests/daemon/memory_files.h"
#include "tests/daemon/tiny_model.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define NAME "m.gguf"

enum {
    F32 = 0,
    Q8_0 = 8,
    Q4_K = 12
};

static struct gguf_writer writer[3];
static struct memory_files files;
static struct gguf gguf;
static struct llm_error error;

static void setup(void)
{
    files = (struct memory_files){0};
    gguf = (struct gguf){0};
    error = (struct llm_error){0};
    for (int i = 0; i < 3; i++)
        gguf_writer_open(&writer[i]);
}

static void teardown(void)
{
    gguf_close(&gguf);
    for (int i = 0; i < 3; i++)
        gguf_writer_close(&writer[i]);
}

static enum llm_status open_bytes(const void *bytes, size_t count)
{
    files.files[0].name = NAME;
    files.files[0].bytes = bytes;
    files.files[0].byte_count = count;
    struct model_files access = memory_files_open(&files);
    return gguf_open(&gguf, &access, NAME, &error);
}

static enum llm_status open_writer(void)
{
    gguf_writer_finish(&writer[0]);
    return open_bytes(writer[0].file.bytes, writer[0].file.count);
}

static void assert_refused(enum llm_status wanted, const char *sentence)
{
    enum llm_status status = open_writer();
    ck_assert_msg(status == wanted && strcmp(error.message, sentence) == 0, "%d: %s", (int)status,
                  error.message);
    ck_assert_uint_eq(gguf.file_count, 0);
}

/* ---- keys and values ---- */

static void write_every_type(struct gguf_writer *w)
{
    static const char *const texts[] = {"", "two", "\xc3\xa4\n"};
    const int8_t i8 = -3;
    const uint16_t u16 = 65535;
    const int16_t i16s[] = {-32768, 5};
    const uint64_t u64 = UINT64_MAX;
    const int64_t i64 = INT64_MIN;
    const double f64 = 0.1;
    const float f32s[] = {1.5f, -2.25f};
    const unsigned char flags[] = {1, 0, 1};
    gguf_writer_value(w, "i8", GGUF_I8, &i8, 1);
    gguf_writer_value(w, "u16", GGUF_U16, &u16, 2);
    gguf_writer_u32(w, "u32", 4000000000u);
    gguf_writer_value(w, "u64", GGUF_U64, &u64, 8);
    gguf_writer_value(w, "i64", GGUF_I64, &i64, 8);
    gguf_writer_f32(w, "f32", 0.5f);
    gguf_writer_value(w, "f64", GGUF_F64, &f64, 8);
    gguf_writer_flag(w, "yes", 1);
    gguf_writer_text(w, "text", "abc");
    gguf_writer_texts(w, "texts", texts, 3);
    gguf_writer_numbers(w, "i16s", GGUF_I16, i16s, 2, 2);
    gguf_writer_numbers(w, "f32s", GGUF_F32, f32s, 2, 4);
    gguf_writer_numbers(w, "flags", GGUF_BOOL, flags, 3, 1);
    gguf_writer_numbers(w, "none", GGUF_U32, NULL, 0, 4);
}

static int64_t integer_of(const char *key)
{
    int64_t value = 77;
    ck_assert_int_eq(gguf_get_integer(&gguf, key, INT64_MIN, INT64_MAX, &value, &error), LLM_OK);
    return value;
}

START_TEST(integers_of_every_width_are_one_kind)
{
    write_every_type(&writer[0]);
    ck_assert_int_eq(open_writer(), LLM_OK);
    ck_assert_int_eq(integer_of("i8"), -3);
    ck_assert_int_eq(integer_of("u16"), 65535);
    ck_assert_int_eq(integer_of("u32"), 4000000000);
    ck_assert_int_eq(integer_of("i64"), INT64_MIN);
    ck_assert_int_eq(integer_of("u64"), INT64_MAX); /* as far as it goes */
    int64_t value = 77;
    ck_assert_int_eq(gguf_get_integer(&gguf, "u16", 0, 9, &value, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, NAME ": key \"u16\" is 65535; it must be 0..9");
    ck_assert_int_eq(gguf_get_integer(&gguf, "f32", 0, 9, &value, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, NAME ": key \"f32\" is not an integer");
    ck_assert_int_eq(gguf_get_integer(&gguf, "u33", 0, 9, &value, &error), LLM_ERR_NOT_FOUND);
    ck_assert_str_eq(error.message, NAME " has no key \"u33\"");
    ck_assert_int_eq(value, 77);
}
END_TEST

START_TEST(reals_flags_and_texts_are_read_as_written)
{
    double real = 0;
    bool flag = false;
    struct gguf_text text;
    write_every_type(&writer[0]);
    ck_assert_int_eq(open_writer(), LLM_OK);
    ck_assert_int_eq(gguf_get_real(&gguf, "f32", 0, 1, &real, &error), LLM_OK);
    ck_assert(real == 0.5);
    ck_assert_int_eq(gguf_get_real(&gguf, "f64", 0, 1, &real, &error), LLM_OK);
    ck_assert(real == 0.1);
    ck_assert_int_eq(gguf_get_real(&gguf, "f64", 1, 2, &real, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, NAME ": key \"f64\" is 0.1; it must be 1..2");
    ck_assert_int_eq(gguf_get_real(&gguf, "i8", -9, 9, &real, &error), LLM_ERR_INVALID);
    ck_assert_int_eq(gguf_get_flag(&gguf, "yes", &flag, &error), LLM_OK);
    ck_assert(flag);
    ck_assert_int_eq(gguf_get_flag(&gguf, "i8", &flag, &error), LLM_ERR_INVALID);
    ck_assert_int_eq(gguf_get_text(&gguf, "text", &text, &error), LLM_OK);
    ck_assert(gguf_text_is(text, "abc") && !gguf_text_is(text, "ab"));
    ck_assert_int_eq(gguf_get_text(&gguf, "texts", &text, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, NAME ": key \"texts\" is not a text");
}
END_TEST

START_TEST(arrays_are_walked_or_indexed)
{
    const struct gguf_value *array = NULL;
    struct gguf_text text;
    write_every_type(&writer[0]);
    ck_assert_int_eq(open_writer(), LLM_OK);
    ck_assert_int_eq(gguf_get_array(&gguf, "texts", GGUF_ITEMS_TEXTS, &array, &error), LLM_OK);
    struct gguf_texts walk = gguf_texts(array);
    ck_assert(gguf_texts_next(&walk, &text) && gguf_text_is(text, ""));
    ck_assert(gguf_texts_next(&walk, &text) && gguf_text_is(text, "two"));
    ck_assert(gguf_texts_next(&walk, &text) && gguf_text_is(text, "\xc3\xa4\n"));
    ck_assert_str_eq(gguf_text_show(text).text, "???");
    ck_assert(!gguf_texts_next(&walk, &text));

    ck_assert_int_eq(gguf_get_array(&gguf, "i16s", GGUF_ITEMS_INTEGERS, &array, &error), LLM_OK);
    ck_assert_int_eq(gguf_array_integer(array, 0), -32768);
    ck_assert_int_eq(gguf_array_integer(array, 1), 5);
    ck_assert_int_eq(gguf_get_array(&gguf, "f32s", GGUF_ITEMS_REALS, &array, &error), LLM_OK);
    ck_assert(gguf_array_real(array, 1) == -2.25);
    ck_assert_int_eq(gguf_get_array(&gguf, "flags", GGUF_ITEMS_FLAGS, &array, &error), LLM_OK);
    ck_assert(gguf_array_flag(array, 2) && !gguf_array_flag(array, 1));
    ck_assert_int_eq(gguf_get_array(&gguf, "none", GGUF_ITEMS_INTEGERS, &array, &error), LLM_OK);
    ck_assert_uint_eq(array->count, 0);
    ck_assert_int_eq(gguf_get_array(&gguf, "f32s", GGUF_ITEMS_TEXTS, &array, &error),
                     LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, NAME ": key \"f32s\" is not an array of texts");
    ck_assert_int_eq(gguf_get_array(&gguf, "text", GGUF_ITEMS_TEXTS, &array, &error),
                     LLM_ERR_INVALID);
}
END_TEST

/* ---- lies about keys ---- */

START_TEST(wrong_frames_are_named)
{
    writer[0].version = 1;
    assert_refused(LLM_ERR_UNSUPPORTED,
                   NAME " is of GGUF version 1; this build reads versions 2 and 3");
    writer[0].version = 0x03000000;
    assert_refused(LLM_ERR_UNSUPPORTED,
                   NAME " is a big-endian GGUF file; this build reads little-endian ones");
    writer[0].version = 2;
    ck_assert_int_eq(open_writer(), LLM_OK);
    gguf_close(&gguf);
    writer[0].key_count = UINT64_MAX;
    assert_refused(LLM_ERR_CORRUPT,
                   NAME " says it has 18446744073709551615 keys; its 32 bytes are too few");
    writer[0].key_count = 0;
    writer[0].tensor_count = 2;
    assert_refused(LLM_ERR_CORRUPT, NAME " says it has 2 tensors; its 32 bytes are too few");
    ck_assert_int_eq(open_bytes("GGML", 4), LLM_ERR_CORRUPT);
    ck_assert_str_eq(error.message, NAME " does not begin with \"GGUF\"");
    ck_assert_int_eq(open_bytes("GG", 2), LLM_ERR_CORRUPT);
    ck_assert_str_eq(error.message, NAME " ends inside its first 24 bytes, at byte 2");
}
END_TEST

START_TEST(a_key_twice_is_named)
{
    gguf_writer_u32(&writer[0], "b", 1);
    gguf_writer_u32(&writer[0], "a", 1);
    gguf_writer_text(&writer[0], "b", "x");
    assert_refused(LLM_ERR_INVALID, NAME ": key \"b\" is there twice");
}
END_TEST

START_TEST(a_key_without_a_name_is_refused)
{
    gguf_writer_u32(&writer[0], "", 1);
    gguf_writer_u32(&writer[0], "a", 1);
    assert_refused(LLM_ERR_INVALID, NAME " has a key of 0 bytes; it must have 1..65535");
}
END_TEST

START_TEST(unknown_and_nested_types_are_named)
{
    const uint32_t nested[] = {GGUF_ARRAY, 1, 0};
    gguf_writer_value(&writer[0], "k\x1b", 13, "12345678", 8);
    assert_refused(LLM_ERR_INVALID, NAME ": key \"k?\" has the unknown value type 13");
    gguf_writer_close(&writer[0]);
    gguf_writer_open(&writer[0]);
    gguf_writer_value(&writer[0], "k", GGUF_ARRAY, nested, sizeof nested);
    assert_refused(LLM_ERR_UNSUPPORTED, NAME ": key \"k\" is an array of arrays");
}
END_TEST

START_TEST(a_flag_is_zero_or_one)
{
    gguf_writer_flag(&writer[0], "a", 2);
    assert_refused(LLM_ERR_INVALID, NAME ": key \"a\" holds 2 where true or false must be");
}
END_TEST

static const uint64_t huge_counts[] = {3, UINT64_C(1) << 61, UINT64_MAX,
                                       UINT64_C(0x2000000000000001)};

START_TEST(an_array_longer_than_the_file_is_refused)
{
    static const uint32_t types[] = {GGUF_U32, GGUF_U64, GGUF_TEXT, GGUF_BOOL};
    for (int t = 0; t < 4; t++) {
        gguf_writer_close(&writer[0]);
        gguf_writer_open(&writer[0]);
        gguf_writer_numbers(&writer[0], "big", types[t], NULL, 0, 0);
        memcpy(writer[0].keys.bytes + writer[0].keys.count - 8, &huge_counts[_i], 8);
        writer[0].alignment = 1; /* nothing after it */
        gguf_writer_finish(&writer[0]);
        ck_assert_int_eq(open_bytes(writer[0].file.bytes, writer[0].file.count), LLM_ERR_CORRUPT);
        ck_assert_ptr_nonnull(strstr(error.message, "ends inside key \"big\""));
    }
}
END_TEST

/* ---- tensors ---- */

static const uint64_t two_by_three[] = {2, 3}, five[] = {5}, two_by_64[] = {2, 64};

static void write_two_tensors(struct gguf_writer *w)
{
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    static const unsigned char blocks[4 * 34] = {0, 0x3c, 7};
    gguf_writer_text(w, "general.name", "two");
    gguf_writer_tensor(w, "b", F32, two_by_three, 2, values, sizeof values);
    gguf_writer_tensor(w, "a", Q8_0, two_by_64, 2, blocks, sizeof blocks);
}

START_TEST(tensors_have_our_shapes_and_their_bytes)
{
    float row[3] = {0};
    unsigned char block[3];
    write_two_tensors(&writer[0]);
    ck_assert_int_eq(open_writer(), LLM_OK);
    const struct gguf_tensor *b = gguf_find_tensor(&gguf, "b"), *a = gguf_find_tensor(&gguf, "a");
    ck_assert(b != NULL && a != NULL && gguf_find_tensor(&gguf, "c") == NULL);
    ck_assert_str_eq(b->type->name, "F32");
    ck_assert(b->rank == 2 && b->shape[0] == 2 && b->shape[1] == 3 && b->bytes == 24);
    ck_assert_int_eq(gguf_read(&gguf, b, 12, row, sizeof row, &error), LLM_OK);
    ck_assert(row[0] == 4 && row[2] == 6);
    ck_assert(strcmp(a->type->name, "Q8_0") == 0 && a->bytes == 4 * 34);
    ck_assert_int_eq(gguf_read(&gguf, a, 0, block, sizeof block, &error), LLM_OK);
    ck_assert_int_eq(block[2], 7);
    char long_name[200];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    ck_assert_ptr_null(gguf_find_tensor(&gguf, long_name));
}
END_TEST

START_TEST(alignment_moves_the_data)
{
    float row[3] = {0};
    writer[0].alignment = 4096;
    gguf_writer_u32(&writer[0], "general.alignment", 4096);
    write_two_tensors(&writer[0]);
    ck_assert_int_eq(open_writer(), LLM_OK);
    const struct gguf_tensor *b = gguf_find_tensor(&gguf, "b");
    ck_assert_uint_eq(b->offset, 4096);
    ck_assert_int_eq(gguf_read(&gguf, b, 0, row, sizeof row, &error), LLM_OK);
    ck_assert(row[0] == 1);
}
END_TEST

START_TEST(a_wrong_alignment_is_refused)
{
    gguf_writer_u32(&writer[0], "general.alignment", 24);
    assert_refused(LLM_ERR_INVALID, NAME ": key \"general.alignment\" is 24, not a power of two");
}
END_TEST

/* One entry over 64 bytes of data; what is said about it. */
static const struct {
    const char *name;
    uint32_t type, rank;
    uint64_t shape[5], offset;
    enum llm_status status;
    const char *sentence;
} lies[] = {
    {"t", F32, 1, {16}, 0, LLM_OK, ""},
    {"t", F32, 0, {0}, 0, LLM_OK, ""},
    {"t", F32, 2, {0, 9}, 64, LLM_OK, ""},
    {"",
     F32,
     1,
     {16},
     0,
     LLM_ERR_INVALID,
     "m.gguf has a tensor name of 0 bytes; it must have 1..64"},
    {"t t",
     F32,
     1,
     {16},
     0,
     LLM_ERR_INVALID,
     "m.gguf: the tensor name \"t t\" is not printable ASCII"},
    {"t",
     F32,
     5,
     {1, 1, 1, 1, 1},
     0,
     LLM_ERR_INVALID,
     "m.gguf: tensor \"t\" has 5 sizes; it may have at most 4"},
    {"t",
     F32,
     1,
     {UINT64_MAX},
     0,
     LLM_ERR_INVALID,
     "m.gguf: tensor \"t\" has a size of 18446744073709551615, more than 2^63"},
    {"t",
     F32,
     2,
     {UINT64_C(1) << 40, UINT64_C(1) << 40},
     0,
     LLM_ERR_INVALID,
     "m.gguf: tensor \"t\" would have more than 2^63 bytes"},
    {"t",
     Q8_0,
     1,
     {INT64_MAX - 31},
     0,
     LLM_ERR_INVALID,
     "m.gguf: tensor \"t\" would have more than 2^63 bytes"},
    {"t",
     4,
     1,
     {16},
     0,
     LLM_ERR_UNSUPPORTED,
     "m.gguf: tensor \"t\" is of type 4, which this build does not know"},
    {"t",
     Q8_0,
     1,
     {16},
     0,
     LLM_ERR_INVALID,
     "m.gguf: tensor \"t\" has rows of 16; a block of type Q8_0 has 32"},
    {"t",
     Q4_K,
     0,
     {0},
     0,
     LLM_ERR_INVALID,
     "m.gguf: tensor \"t\" has rows of 1; a block of type Q4_K has 256"},
    {"t",
     F32,
     1,
     {16},
     7,
     LLM_ERR_INVALID,
     "m.gguf: tensor \"t\" lies at byte 7, not a multiple of the alignment, 32"},
    {"t",
     F32,
     1,
     {17},
     0,
     LLM_ERR_CORRUPT,
     "m.gguf: tensor \"t\" has 68 bytes from byte 0 on; the file has 64 for tensors"},
    {"t",
     F32,
     1,
     {16},
     32,
     LLM_ERR_CORRUPT,
     "m.gguf: tensor \"t\" has 64 bytes from byte 32 on; the file has 64 for tensors"},
    {"t",
     F32,
     1,
     {16},
     UINT64_MAX - 31,
     LLM_ERR_CORRUPT,
     "m.gguf: tensor \"t\" has 64 bytes from byte 18446744073709551584 on; the file has 64 for "
     "tensors"},
};

START_TEST(a_tensor_that_cannot_be_is_named)
{
    static const unsigned char data[64];
    gguf_writer_tensor(&writer[1], "data", F32, (const uint64_t[]){16}, 1, data, sizeof data);
    writer[0].data = writer[1].data;
    writer[1].data = (struct gguf_buffer){NULL, 0, 0};
    gguf_writer_entry(&writer[0], lies[_i].name, lies[_i].type, lies[_i].shape, lies[_i].rank,
                      lies[_i].offset);
    enum llm_status status = open_writer();
    ck_assert_msg(status == lies[_i].status, "%d: %s", (int)status, error.message);
    ck_assert_str_eq(error.message, lies[_i].sentence);
}
END_TEST

START_TEST(tensors_that_overlap_or_share_a_name_are_refused)
{
    static const float values[16] = {0};
    const uint64_t sixteen[] = {16};
    gguf_writer_tensor(&writer[0], "a", F32, sixteen, 1, values, sizeof values);
    gguf_writer_entry(&writer[0], "b", F32, five, 1, 32);
    assert_refused(LLM_ERR_CORRUPT, NAME ": tensor \"b\" overlaps tensor \"a\" at byte 32");
    gguf_writer_close(&writer[0]);
    gguf_writer_open(&writer[0]);
    gguf_writer_tensor(&writer[0], "a", F32, sixteen, 1, values, sizeof values);
    gguf_writer_tensor(&writer[0], "a", F32, sixteen, 1, values, sizeof values);
    assert_refused(LLM_ERR_INVALID, NAME ": tensor \"a\" is there twice");
}
END_TEST

/* ---- splits ---- */

static const char *const split_names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                          "m-00003-of-00003.gguf"};

/* Three files with a tensor each; `tensors` is what the first says about their number. */
static void write_split(uint16_t count, int32_t tensors)
{
    static const char *const names[] = {"x", "y", "z"};
    for (uint16_t i = 0; i < 3; i++) {
        const float value = (float)i;
        gguf_writer_value(&writer[i], "split.no", GGUF_U16, &i, 2);
        gguf_writer_value(&writer[i], "split.count", GGUF_U16, &count, 2);
        gguf_writer_value(&writer[i], "split.tensors.count", GGUF_I32, &tensors, 4);
        if (i == 0)
            gguf_writer_text(&writer[i], "general.name", "of the first");
        gguf_writer_tensor(&writer[i], names[i], F32, (const uint64_t[]){1}, 1, &value, 4);
        gguf_writer_finish(&writer[i]);
        files.files[i].name = split_names[i];
        files.files[i].bytes = writer[i].file.bytes;
        files.files[i].byte_count = writer[i].file.count;
    }
}

static enum llm_status open_split(const char *name)
{
    struct model_files access = memory_files_open(&files);
    return gguf_open(&gguf, &access, name, &error);
}

START_TEST(a_split_is_one_directory_of_tensors)
{
    float value = 0;
    write_split(3, 3);
    ck_assert_msg(open_split(split_names[0]) == LLM_OK, "%s", error.message);
    ck_assert_uint_eq(gguf.file_count, 3);
    ck_assert_uint_eq(gguf.tensor_count, 3);
    ck_assert_ptr_nonnull(gguf_find(&gguf, "general.name"));
    const struct gguf_tensor *z = gguf_find_tensor(&gguf, "z");
    ck_assert_uint_eq(z->file_slot, 2);
    ck_assert_int_eq(gguf_read(&gguf, z, 0, &value, sizeof value, &error), LLM_OK);
    ck_assert(value == 2);
}
END_TEST

START_TEST(a_split_that_does_not_fit_together_is_refused)
{
    write_split(3, 4);
    ck_assert_int_eq(open_split(split_names[0]), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message,
                     "m-00001-of-00003.gguf: key \"split.tensors.count\" is 4; the files hold 3");
    ck_assert_int_eq(open_split(split_names[1]), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "m-00002-of-00003.gguf is one of 3 files; give the first, "
                                    "NAME-00001-of-00003.gguf");
    files.files[1].bytes = writer[2].file.bytes;
    files.files[1].byte_count = writer[2].file.count;
    ck_assert_int_eq(open_split(split_names[0]), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message,
                     "m-00002-of-00003.gguf: key \"split.no\" is 2; it must be 1..1");
    files.files[1].name = NULL;
    ck_assert_int_eq(open_split(split_names[0]), LLM_ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, split_names[1]));
    ck_assert_uint_eq(gguf.file_count, 0);
}
END_TEST

START_TEST(a_split_of_too_many_is_refused)
{
    write_split(60000, 3);
    ck_assert_int_eq(open_split(split_names[0]), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message,
                     "m-00001-of-00003.gguf: key \"split.count\" is 60000; it must be 0..512");
}
END_TEST

/* ---- damage ---- */

static void read_everything(void)
{
    unsigned char bytes[256];
    struct gguf_text text;
    for (size_t i = 0; i < gguf.value_count; i++) {
        const struct gguf_value *value = &gguf.values[i];
        if (value->type != GGUF_ARRAY)
            continue;
        if (value->item_type == GGUF_TEXT)
            for (struct gguf_texts walk = gguf_texts(value); gguf_texts_next(&walk, &text);)
                ck_assert_uint_ge(sizeof gguf_text_show(text).text, 1);
        else if (value->item_type == GGUF_I16 && value->count > 0)
            ck_assert_int_le(gguf_array_integer(value, value->count - 1), INT16_MAX);
    }
    for (size_t i = 0; i < gguf.tensor_count; i++) {
        const struct gguf_tensor *t = &gguf.tensors[i];
        uint64_t count = t->bytes < sizeof bytes ? t->bytes : sizeof bytes;
        ck_assert_int_eq(gguf_read(&gguf, t, t->bytes - count, bytes, (size_t)count, &error),
                         LLM_OK);
    }
}

static void write_all(void)
{
    write_every_type(&writer[0]);
    write_two_tensors(&writer[0]);
    gguf_writer_finish(&writer[0]);
}

START_TEST(a_file_cut_anywhere_is_refused)
{
    write_all();
    for (size_t count = 0; count < writer[0].file.count; count++) {
        ck_assert_int_ne(open_bytes(writer[0].file.bytes, count), LLM_OK);
        ck_assert_uint_gt(strlen(error.message), 10);
    }
    ck_assert_int_eq(open_bytes(writer[0].file.bytes, writer[0].file.count), LLM_OK);
    read_everything();
}
END_TEST

START_TEST(random_damage_ends_in_a_status)
{
    static const unsigned char edges[] = {0, 1, 0x7f, 0x80, 0xff};
    uint64_t state = 11;
    int accepted = 0;
    write_all();
    for (int round = 0; round < 4000; round++) {
        struct gguf_buffer *file = &writer[0].file;
        size_t at[4];
        unsigned char old[4];
        for (int i = 0; i < 4; i++) {
            uint64_t random = tiny_random(&state);
            at[i] = (size_t)(random % file->count);
            old[i] = file->bytes[at[i]];
            file->bytes[at[i]] = random >> 40 & 1 ? edges[(random >> 41) % sizeof edges]
                                                  : (unsigned char)(random >> 48);
        }
        if (open_bytes(file->bytes, file->count) == LLM_OK) {
            accepted++;
            read_everything();
        }
        gguf_close(&gguf);
        for (int i = 4; i-- > 0;)
            file->bytes[at[i]] = old[i];
    }
    ck_assert_int_gt(accepted, 50);
    ck_assert_int_lt(accepted, 3950);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/gguf");
    TCase *tc = tcase_create("gguf");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, integers_of_every_width_are_one_kind);
    tcase_add_test(tc, reals_flags_and_texts_are_read_as_written);
    tcase_add_test(tc, arrays_are_walked_or_indexed);
    tcase_add_test(tc, wrong_frames_are_named);
    tcase_add_test(tc, a_key_twice_is_named);
    tcase_add_test(tc, a_key_without_a_name_is_refused);
    tcase_add_test(tc, unknown_and_nested_types_are_named);
    tcase_add_test(tc, a_flag_is_zero_or_one);
    tcase_add_loop_test(tc, an_array_longer_than_the_file_is_refused, 0,
                        sizeof huge_counts / sizeof huge_counts[0]);
    tcase_add_test(tc, tensors_have_our_shapes_and_their_bytes);
    tcase_add_test(tc, alignment_moves_the_data);
    tcase_add_test(tc, a_wrong_alignment_is_refused);
    tcase_add_loop_test(tc, a_tensor_that_cannot_be_is_named, 0, sizeof lies / sizeof lies[0]);
    tcase_add_test(tc, tensors_that_overlap_or_share_a_name_are_refused);
    tcase_add_test(tc, a_split_is_one_directory_of_tensors);
    tcase_add_test(tc, a_split_that_does_not_fit_together_is_refused);
    tcase_add_test(tc, a_split_of_too_many_is_refused);
    tcase_add_test(tc, a_file_cut_anywhere_is_refused);
    tcase_add_test(tc, random_damage_ends_in_a_status);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
