/*
 * test_model_source.c - daemon/model/model_source: the same model from a directory and from a GGUF file.
 * How: a tiny model is written both ways and compared tensor by tensor, bit for bit, and as a whole; blocks of small
 * integers are compared with kernels/quant, rounded once; tensors that cannot be are refused by name.
 */
#include "daemon/model/model_source.h"

#include "kernels/quant.h"
#include "tests/daemon/memory_files.h"
#include "tests/daemon/model_fixture.h"
#include "tests/daemon/tiny_gguf.h"

#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct tiny_model tiny;
static struct gguf_writer writer;
static struct memory_files files;
static struct model_source source;
static struct llm_error error;

static const struct tiny_shape shapes[] = {
    {.hidden = 64,
     .feed_forward = 96,
     .layers = 2,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 16,
     .vocab = 40,
     .tied = true,
     .dtype = "F32"},
    {.hidden = 48,
     .feed_forward = 80,
     .layers = 3,
     .heads = 3,
     .kv_heads = 1,
     .head_dim = 32,
     .vocab = 56,
     .dtype = "BF16",
     .sharded = true},
    {.hidden = 32,
     .feed_forward = 64,
     .layers = 1,
     .heads = 4,
     .kv_heads = 4,
     .head_dim = 8,
     .vocab = 24,
     .dtype = "F16",
     .shuffled = true,
     .mixed = true},
};
#define SHAPES ((int)(sizeof shapes / sizeof shapes[0]))

static void setup(void)
{
    files = (struct memory_files){0};
    source = (struct model_source){0};
    error = (struct llm_error){0};
    gguf_writer_open(&writer);
}

static void teardown(void)
{
    model_source_close(&source);
    gguf_writer_close(&writer);
}

/* ---- both formats ---- */

static void open_both(int which, struct model_source *from_directory)
{
    tiny_model_open(&tiny, &shapes[which], 5);
    tiny_gguf_keys(&writer, "llama", &shapes[which]);
    tiny_gguf_tensors(&writer, &tiny);
    gguf_writer_save(&writer, tiny_model_path(&tiny, "x.gguf"));
    struct model_directory below = {open(tiny.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    struct model_files access = model_files_below(&below);
    ck_assert_msg(model_source_open(from_directory, &access, NULL, &error) == LLM_OK, "%s",
                  error.message);
    access.gguf = "x.gguf";
    ck_assert_msg(model_source_open(&source, &access, NULL, &error) == LLM_OK, "%s", error.message);
    close(below.directory_fd);
}

static void close_both(struct model_source *from_directory)
{
    model_source_close(from_directory);
    unlink(tiny_model_path(&tiny, "x.gguf"));
    tiny_model_close(&tiny);
}

static void assert_same_tensor(struct model_source *a, struct model_source *b, const char *name)
{
    struct source_tensor in_a, in_b;
    ck_assert_msg(model_source_find(a, name, &in_a, &error) == LLM_OK, "%s", error.message);
    ck_assert_msg(model_source_find(b, name, &in_b, &error) == LLM_OK, "%s", error.message);
    ck_assert_str_eq(in_a.name, name);
    ck_assert_str_eq(in_a.type, in_b.type);
    ck_assert_int_eq(in_a.dtype, in_b.dtype);
    ck_assert_uint_eq(in_a.rank, in_b.rank);
    ck_assert_mem_eq(in_a.shape, in_b.shape, in_a.rank * sizeof in_a.shape[0]);
    size_t row_bytes = (size_t)in_a.columns * kernel_dtype_bytes(in_a.dtype);
    unsigned char *one = malloc((size_t)in_a.rows * row_bytes), *other = malloc(row_bytes * 3);
    ck_assert_int_eq(model_source_read(a, &in_a, 0, in_a.rows, one, &error), LLM_OK);
    for (uint64_t row = 0; row < in_a.rows; row += 3) { /* chunks that do not end with heads */
        uint64_t rows = in_a.rows - row < 3 ? in_a.rows - row : 3;
        ck_assert_int_eq(model_source_read(b, &in_b, row, rows, other, &error), LLM_OK);
        ck_assert_msg(memcmp(one + row * row_bytes, other, rows * row_bytes) == 0,
                      "%s differs in rows %d.. ", name, (int)row);
    }
    free(one);
    free(other);
}

START_TEST(every_tensor_is_the_same_from_either_format)
{
    struct model_source from_directory;
    open_both(_i, &from_directory);
    for (int i = 0; i < tiny.tensor_count; i++)
        assert_same_tensor(&from_directory, &source, tiny.tensors[i].name);
    close_both(&from_directory);
}
END_TEST

START_TEST(the_whole_model_is_the_same_from_either_format)
{
    static const struct fixture_backend backend = {"cpu", NULL, 1};
    static const int32_t ids[] = {1, 7, 3, 19, 5, 5, 23};
    struct model_source from_directory;
    struct model_fixture a, b;
    struct fixture_sequence one, other;
    open_both(_i, &from_directory);
    char directory[64], file[160];
    snprintf(directory, sizeof directory, "%s", tiny.directory);
    snprintf(file, sizeof file, "%s", tiny_model_path(&tiny, "x.gguf"));
    fixture_open(&a, directory, &backend, MODEL_KV_AUTO);
    fixture_open(&b, file, &backend, MODEL_KV_AUTO);
    ck_assert_mem_eq(a.facts->fingerprint, b.facts->fingerprint, sizeof a.facts->fingerprint);
    fixture_start(&a, &one, ids, 7);
    fixture_run_alone(&a, &one, 7);
    fixture_start(&b, &other, ids, 7);
    fixture_run_alone(&b, &other, 7);
    ck_assert_mem_eq(one.logits, other.logits, 7 * sizeof(float) * (size_t)tiny.shape.vocab);
    fixture_end(&one);
    fixture_end(&other);
    fixture_close(&a);
    fixture_close(&b);
    close_both(&from_directory);
}
END_TEST

/* ---- blocks of small integers ---- */

static const struct {
    const char *name;
    uint32_t type;
    enum kernel_quant quant;
    int columns;
} blocks[] = {
    {"Q8_0", 8, KERNEL_Q8_0, 96},
    {"Q4_0", 2, KERNEL_Q4_0, 64},
    {"Q4_K", 12, KERNEL_Q4_K, 512},
    {"Q6_K", 14, KERNEL_Q6_K, 256},
};
#define BLOCK_ROWS 64 /* two heads of 32 */

static const struct tiny_shape heads_of_32 = {.hidden = 64,
                                              .feed_forward = 96,
                                              .layers = 1,
                                              .heads = 2,
                                              .kv_heads = 2,
                                              .head_dim = 32,
                                              .vocab = 20,
                                              .tied = true,
                                              .dtype = "F32"};

static void open_memory(void)
{
    gguf_writer_finish(&writer);
    files.files[0].name = "model.gguf";
    files.files[0].bytes = writer.file.bytes;
    files.files[0].byte_count = writer.file.count;
    struct model_files access = memory_files_open(&files);
    ck_assert_msg(model_source_open(&source, &access, NULL, &error) == LLM_OK, "%s", error.message);
}

/* Random blocks whose scales are at most 1/4: every number fits f16. */
static unsigned char *random_blocks(enum kernel_quant quant, size_t count)
{
    const struct kernel_quant_format *format = kernel_quant_format(quant);
    unsigned char *bytes = malloc(count * format->block_bytes);
    uint64_t state = 3;
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < count * format->block_bytes; i++)
        bytes[i] = (unsigned char)tiny_random(&state);
    for (size_t i = 0; i < count; i++) {
        unsigned char *block = bytes + i * format->block_bytes;
        block[quant == KERNEL_Q6_K ? 209 : 1] &= 0xb3;
        if (quant == KERNEL_Q4_K)
            block[3] &= 0xb3;
    }
    return bytes;
}

START_TEST(blocks_become_the_nearest_f16)
{
    enum kernel_quant quant = blocks[_i].quant;
    const struct kernel_quant_format *format = kernel_quant_format(quant);
    const size_t columns = (size_t)blocks[_i].columns, count = BLOCK_ROWS * columns;
    const uint64_t shape[] = {BLOCK_ROWS, columns};
    unsigned char *bytes = random_blocks(quant, count / format->block_elements);
    size_t byte_count = count / format->block_elements * format->block_bytes;
    float *wide = malloc(count * sizeof *wide);
    uint16_t *got = malloc(count * sizeof *got);
    kernel_dequantise(quant, bytes, count / format->block_elements, wide);
    tiny_gguf_keys(&writer, "llama", &heads_of_32);
    gguf_writer_tensor(&writer, "blk.0.attn_v.weight", blocks[_i].type, shape, 2, bytes,
                       byte_count);
    gguf_writer_tensor(&writer, "blk.0.attn_q.weight", blocks[_i].type, shape, 2, bytes,
                       byte_count);
    open_memory();
    for (int turned = 0; turned < 2; turned++) {
        struct source_tensor t;
        const char *name = turned ? "model.layers.0.self_attn.q_proj.weight"
                                  : "model.layers.0.self_attn.v_proj.weight";
        ck_assert_int_eq(model_source_find(&source, name, &t, &error), LLM_OK);
        ck_assert(t.known && t.quantised && t.dtype == KERNEL_F16);
        ck_assert_str_eq(t.type, blocks[_i].name);
        ck_assert_int_eq(model_source_read(&source, &t, 0, BLOCK_ROWS, got, &error), LLM_OK);
        for (size_t row = 0; row < BLOCK_ROWS; row++) {
            size_t in_head = row % 32, pair = 2 * (in_head % 16) + in_head / 16;
            size_t from = turned ? row / 32 * 32 + pair : row;
            for (size_t k = 0; k < columns; k++)
                ck_assert_uint_eq(got[row * columns + k],
                                  kernel_f32_to_f16(wide[from * columns + k]));
        }
    }
    free(bytes);
    free(wide);
    free(got);
}
END_TEST

START_TEST(a_number_too_large_for_f16_is_refused)
{
    unsigned char block[34] = {0xff, 0x7b, 1, 2}; /* 65504 times 1, 2, 0, ... */
    uint16_t got[32];
    struct source_tensor t;
    tiny_gguf_keys(&writer, "llama", &heads_of_32);
    gguf_writer_tensor(&writer, "blk.0.attn_v.weight", 8, (const uint64_t[]){1, 32}, 2, block,
                       sizeof block);
    open_memory();
    ck_assert_int_eq(
        model_source_find(&source, "model.layers.0.self_attn.v_proj.weight", &t, &error), LLM_OK);
    ck_assert_int_eq(model_source_read(&source, &t, 0, 1, got, &error), LLM_ERR_UNSUPPORTED);
    ck_assert_str_eq(error.message,
                     "tensor \"blk.0.attn_v.weight\" holds 131008, which f16 cannot");
}
END_TEST

/* ---- biases ---- */

START_TEST(a_bias_of_queries_is_put_in_order_too)
{
    float values[64], got[64];
    struct source_tensor t;
    for (int i = 0; i < 64; i++)
        values[i] = (float)i;
    tiny_gguf_keys(&writer, "llama", &heads_of_32);
    gguf_writer_tensor(&writer, "blk.0.attn_q.bias", 0, (const uint64_t[]){64}, 1, values,
                       sizeof values);
    gguf_writer_tensor(&writer, "blk.0.attn_v.bias", 0, (const uint64_t[]){64}, 1, values,
                       sizeof values);
    gguf_writer_tensor(&writer, "blk.0.attn_k.bias", 0, (const uint64_t[]){63}, 1, values,
                       sizeof values);
    open_memory();
    ck_assert_int_eq(model_source_find(&source, "model.layers.0.self_attn.q_proj.bias", &t, &error),
                     LLM_OK);
    ck_assert_int_eq(model_source_read(&source, &t, 0, 1, got, &error), LLM_OK);
    ck_assert(got[0] == 0 && got[1] == 2 && got[15] == 30 && got[16] == 1 && got[31] == 31);
    ck_assert(got[32] == 32 && got[48] == 33);
    ck_assert_int_eq(model_source_find(&source, "model.layers.0.self_attn.v_proj.bias", &t, &error),
                     LLM_OK);
    ck_assert_int_eq(model_source_read(&source, &t, 0, 1, got, &error), LLM_OK);
    ck_assert_mem_eq(got, values, sizeof values);
    ck_assert_int_eq(model_source_find(&source, "model.layers.0.self_attn.k_proj.bias", &t, &error),
                     LLM_OK);
    ck_assert_int_eq(model_source_read(&source, &t, 0, 1, got, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "tensor \"blk.0.attn_k.bias\" does not consist of heads of 32");
}
END_TEST

START_TEST(qwen_keeps_its_order)
{
    float values[64], got[64];
    struct source_tensor t;
    for (int i = 0; i < 64; i++)
        values[i] = (float)i;
    tiny_gguf_keys(&writer, "qwen2", &heads_of_32);
    gguf_writer_tensor(&writer, "blk.0.attn_q.bias", 0, (const uint64_t[]){64}, 1, values,
                       sizeof values);
    open_memory();
    ck_assert_int_eq(model_source_find(&source, "model.layers.0.self_attn.q_proj.bias", &t, &error),
                     LLM_OK);
    ck_assert_int_eq(model_source_read(&source, &t, 0, 1, got, &error), LLM_OK);
    ck_assert_mem_eq(got, values, sizeof values);
}
END_TEST

/* ---- refusals of a whole model ---- */

static char heard[1024];

static void hear(void *self, const char *sentence)
{
    (void)self;
    strncat(heard, sentence, sizeof heard - strlen(heard) - 1);
}

static enum llm_status open_model(void)
{
    static const struct model_notes notes = {.note = hear};
    struct kernel_stream *stream = NULL;
    struct kernel_stream_options stream_options = {.threads = 1};
    struct model_pages pages = {0};
    struct model_memory memory = model_memory_from_pages(&pages);
    struct model *model = NULL;
    gguf_writer_finish(&writer);
    files.files[0].name = "model.gguf";
    files.files[0].bytes = writer.file.bytes;
    files.files[0].byte_count = writer.file.count;
    struct model_files access = memory_files_open(&files);
    ck_assert_int_eq(kernel_stream_open("cpu", &stream_options, &stream, &error), LLM_OK);
    struct model_options options = {
        .stream = stream, .batch_rows_max = 4, .logits_rows_max = 1, .notes = &notes};
    enum llm_status status = model_open(&model, &access, &memory, &options, &error);
    model_close(model);
    model_pages_close(&pages);
    kernel_stream_close(stream);
    return status;
}

/* A whole tiny model but for one tensor, which has another type and shape or is left out. */
static const struct {
    const char *name;
    uint32_t type;
    uint64_t rows, columns; /* both 0: left out */
    enum llm_status status;
    const char *sentence;
} wrong[] = {
    {"blk.0.attn_v.weight", 0, 0, 0, LLM_ERR_INVALID, "tensor \"blk.0.attn_v.weight\" is missing"},
    {"blk.0.attn_k.weight", 0, 16, 64, LLM_ERR_INVALID,
     "tensor \"blk.0.attn_k.weight\" is 16 x 64, the configuration says 32 x 64"},
    {"token_embd.weight", 0, 64, 40, LLM_ERR_INVALID,
     "tensor \"token_embd.weight\" is 64 x 40, the configuration says 40 x 64"},
    {"output_norm.weight", 0, 1, 64, LLM_ERR_INVALID,
     "tensor \"output_norm.weight\" is 1 x 64, the configuration says 64"},
    {"blk.1.ffn_down.weight", 6, 64, 96, LLM_ERR_UNSUPPORTED,
     "tensor \"blk.1.ffn_down.weight\" is of type Q5_0; this build reads F32, F16, BF16 and from "
     "GGUF Q8_0, Q4_0, Q4_K, Q6_K"},
    {"blk.1.ffn_down.weight", 8, 64, 96, LLM_OK, ""},
};

START_TEST(a_tensor_that_does_not_fit_is_named_with_both_shapes)
{
    static const unsigned char zeros[64 * 96 * 4];
    struct gguf_writer all;
    struct gguf whole;
    tiny_model_open(&tiny, &shapes[0], 5);
    gguf_writer_open(&all);
    tiny_gguf_tensors(&all, &tiny);
    gguf_writer_finish(&all);
    files.files[0].name = "all.gguf";
    files.files[0].bytes = all.file.bytes;
    files.files[0].byte_count = all.file.count;
    struct model_files access = memory_files_open(&files);
    ck_assert_int_eq(gguf_open(&whole, &access, "all.gguf", &error), LLM_OK);

    heard[0] = '\0';
    tiny_gguf_keys(&writer, "llama", &shapes[0]);
    for (size_t i = 0; i < whole.tensor_count; i++) {
        const struct gguf_tensor *t = &whole.tensors[i];
        if (strcmp(t->name, wrong[_i].name) != 0)
            gguf_writer_tensor(&writer, t->name, t->type->id, t->shape, t->rank,
                               all.file.bytes + t->offset, (size_t)t->bytes);
    }
    const uint64_t shape[] = {wrong[_i].rows, wrong[_i].columns};
    if (wrong[_i].rows > 0)
        gguf_writer_tensor(&writer, wrong[_i].name, wrong[_i].type, shape, 2, zeros, sizeof zeros);
    enum llm_status status = open_model();
    ck_assert_msg(status == wrong[_i].status, "%s: %s", wrong[_i].name, error.message);
    ck_assert_str_eq(error.message, wrong[_i].sentence);
    ck_assert_str_eq(heard, status != LLM_OK ? ""
                                             : "weights of type Q8_0 are converted to f16: "
                                               "blk.1.ffn_down.weight");
    gguf_close(&whole);
    gguf_writer_close(&all);
    tiny_model_close(&tiny);
}
END_TEST

START_TEST(a_strange_key_of_a_directory_is_noted)
{
    static const struct model_notes notes = {.note = hear};
    tiny_model_open(&tiny, &shapes[0], 5); /* its config.json has one */
    struct model_directory below = {open(tiny.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    struct model_files access = model_files_below(&below);
    heard[0] = '\0';
    ck_assert_int_eq(model_source_open(&source, &access, &notes, &error), LLM_OK);
    ck_assert_str_eq(heard, "config.json: key \"a_key_we_do_not_know\" is not known: ignored");
    close(below.directory_fd);
    tiny_model_close(&tiny);
}
END_TEST

START_TEST(nothing_that_is_a_model_is_said_so)
{
    struct model_files access = memory_files_open(&files);
    ck_assert_int_eq(model_source_open(&source, &access, NULL, &error), LLM_ERR_NOT_FOUND);
    ck_assert_str_eq(error.message, "the model has neither config.json nor model.gguf");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/model_source");
    TCase *tc = tcase_create("source");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, every_tensor_is_the_same_from_either_format, 0, SHAPES);
    tcase_add_loop_test(tc, the_whole_model_is_the_same_from_either_format, 0, SHAPES);
    tcase_add_loop_test(tc, blocks_become_the_nearest_f16, 0, sizeof blocks / sizeof blocks[0]);
    tcase_add_test(tc, a_number_too_large_for_f16_is_refused);
    tcase_add_test(tc, a_bias_of_queries_is_put_in_order_too);
    tcase_add_test(tc, qwen_keeps_its_order);
    tcase_add_loop_test(tc, a_tensor_that_does_not_fit_is_named_with_both_shapes, 0,
                        sizeof wrong / sizeof wrong[0]);
    tcase_add_test(tc, a_strange_key_of_a_directory_is_noted);
    tcase_add_test(tc, nothing_that_is_a_model_is_said_so);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
