/*
 * test_model_config_gguf.c - daemon/model/model_config_gguf: what a GGUF file's keys say about a model.
 * How: a good set of keys has one replaced, added or left out at a time; each has the sentence or the number that
 * must come out.
 */
#include "daemon/model/model_config_gguf.h"

#include "daemon/model/rope_scaling.h"
#include "tests/daemon/memory_files.h"
#include "tests/daemon/tiny_gguf.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "m.gguf"

static const struct tiny_shape shape = {.hidden = 64,
                                        .feed_forward = 96,
                                        .layers = 3,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_dim = 32,
                                        .vocab = 20};
static struct gguf_writer writer;
static struct memory_files files;
static struct gguf gguf;
static struct llm_error error;
static struct model_config config;
static char heard[1024]; /* every note, one per line */

static void setup(void)
{
    files = (struct memory_files){0};
    error = (struct llm_error){0};
    config = (struct model_config){0};
    heard[0] = '\0';
    gguf_writer_open(&writer);
}

static void teardown(void)
{
    gguf_close(&gguf);
    gguf_writer_close(&writer);
}

static void hear(void *self, const char *sentence)
{
    (void)self;
    ck_assert_uint_lt(strlen(heard) + strlen(sentence) + 2, sizeof heard);
    strcat(heard, sentence);
    strcat(heard, "\n");
}

static enum llm_status read_config(void)
{
    static const struct model_notes notes = {.note = hear};
    gguf_writer_finish(&writer);
    files.files[0].name = NAME;
    files.files[0].bytes = writer.file.bytes;
    files.files[0].byte_count = writer.file.count;
    struct model_files access = memory_files_open(&files);
    ck_assert_msg(gguf_open(&gguf, &access, NAME, &error) == LLM_OK, "%s", error.message);
    return model_config_from_gguf(&gguf, &notes, &config, &error);
}

static void put_tensor(const char *name, uint64_t rows, uint64_t columns)
{
    const uint64_t sizes[] = {rows, columns};
    float *zeros = calloc(rows * columns, sizeof *zeros);
    ck_assert_ptr_nonnull(zeros);
    gguf_writer_tensor(&writer, name, 0, rows > 1 ? sizes : sizes + 1, rows > 1 ? 2 : 1, zeros,
                       rows * columns * sizeof *zeros);
    free(zeros);
}

START_TEST(every_number_finds_its_field)
{
    tiny_gguf_keys(&writer, "llama", &shape);
    put_tensor("output.weight", 20, 64);
    ck_assert_msg(read_config() == LLM_OK, "%s", error.message);
    ck_assert_int_eq(config.architecture, MODEL_ARCHITECTURE_LLAMA);
    ck_assert_uint_eq(config.hidden_size, 64);
    ck_assert_uint_eq(config.intermediate_size, 96);
    ck_assert_uint_eq(config.layer_count, 3);
    ck_assert_uint_eq(config.head_count, 4);
    ck_assert_uint_eq(config.kv_head_count, 2);
    ck_assert_uint_eq(config.head_dim, 32);
    ck_assert_uint_eq(config.vocab_size, 20);
    ck_assert_uint_eq(config.context_max_tokens, 256);
    ck_assert((float)config.rms_norm_eps == 1e-5f);
    ck_assert(config.rope_theta == 10000.0);
    ck_assert_int_eq(config.rope.kind, MODEL_ROPE_DEFAULT);
    ck_assert_int_eq(config.bos_token_id, 1);
    ck_assert_uint_eq(config.eos_token_count, 1);
    ck_assert_int_eq(config.eos_token_ids[0], 2);
    ck_assert(!config.tied_embeddings && !config.qkv_bias && !config.qk_norm);
    ck_assert_str_eq(heard, "");
}
END_TEST

START_TEST(families_and_tensors_switch_features)
{
    tiny_gguf_keys(&writer, "qwen2", &shape);
    ck_assert_int_eq(read_config(), LLM_OK);
    ck_assert_int_eq(config.architecture, MODEL_ARCHITECTURE_QWEN2);
    ck_assert(config.qkv_bias && !config.qk_norm && config.tied_embeddings);
    teardown();
    setup();
    tiny_gguf_keys(&writer, "qwen3", &shape);
    ck_assert_int_eq(read_config(), LLM_OK);
    ck_assert_int_eq(config.architecture, MODEL_ARCHITECTURE_QWEN3);
    ck_assert(config.qk_norm && !config.qkv_bias);
    teardown();
    setup();
    tiny_gguf_keys(&writer, "llama", &shape);
    gguf_writer_u32(&writer, "llama.attention.sliding_window", 7);
    put_tensor("blk.0.attn_q.bias", 1, 128);
    put_tensor("blk.0.attn_output.bias", 1, 64);
    put_tensor("blk.0.ffn_gate.bias", 1, 96);
    ck_assert_int_eq(read_config(), LLM_OK);
    ck_assert_int_eq(config.architecture, MODEL_ARCHITECTURE_MISTRAL);
    ck_assert_uint_eq(config.sliding_window, 7);
    ck_assert(config.qkv_bias && config.output_bias && config.mlp_bias);
}
END_TEST

/* ---- what may be absent, and what then ---- */

START_TEST(absent_keys_have_their_usual_values)
{
    gguf_writer_text(&writer, "general.architecture", "llama");
    gguf_writer_u32(&writer, "llama.embedding_length", 64);
    gguf_writer_u32(&writer, "llama.feed_forward_length", 96);
    gguf_writer_u32(&writer, "llama.block_count", 1);
    gguf_writer_u32(&writer, "llama.context_length", 99);
    gguf_writer_u32(&writer, "llama.attention.head_count", 8);
    gguf_writer_f32(&writer, "llama.attention.layer_norm_rms_epsilon", 1e-6f);
    put_tensor("token_embd.weight", 31, 64);
    ck_assert_msg(read_config() == LLM_OK, "%s", error.message);
    ck_assert_uint_eq(config.kv_head_count, 8);
    ck_assert_uint_eq(config.head_dim, 8);
    ck_assert_uint_eq(config.vocab_size, 31);
    ck_assert(config.rope_theta == 10000.0);
    ck_assert_int_eq(config.bos_token_id, -1);
    ck_assert_uint_eq(config.eos_token_count, 0);
    ck_assert_str_eq(error.message, "");
}
END_TEST

/* A good file's keys but for the one whose name ends so. */
static void write_without(const char *left_out)
{
    struct gguf_writer all;
    gguf_writer_open(&all);
    tiny_gguf_keys(&all, "llama", &shape);
    gguf_writer_finish(&all);
    files.files[0].name = NAME;
    files.files[0].bytes = all.file.bytes;
    files.files[0].byte_count = all.file.count;
    struct model_files access = memory_files_open(&files);
    ck_assert_int_eq(gguf_open(&gguf, &access, NAME, &error), LLM_OK);
    for (size_t i = 0; i < gguf.value_count; i++) {
        const struct gguf_value *value = &gguf.values[i];
        char key[96];
        snprintf(key, sizeof key, "%.*s", (int)value->key.length, value->key.bytes);
        size_t tail = strlen(key) > strlen(left_out) ? strlen(key) - strlen(left_out) : 0;
        if (strcmp(key + tail, left_out) == 0)
            continue;
        if (value->type == GGUF_TEXT)
            gguf_writer_text(&writer, key, "llama");
        else if (value->type != GGUF_ARRAY)
            gguf_writer_value(&writer, key, value->type, value->bytes, value->byte_count);
    }
    gguf_close(&gguf);
    gguf_writer_close(&all);
    gguf_writer_u32(&writer, "llama.vocab_size", 20);
}

/* `key` is replaced, or left out where `text` and `type` say nothing. */
static const struct {
    const char *key;
    const char *text; /* a value that is a text, or */
    enum gguf_value_type type;
    double number;
    enum llm_status status;
    const char *sentence;
} edits[] = {
    {"general.architecture", NULL, GGUF_ARRAY, 0, LLM_ERR_INVALID,
     "m.gguf has no key \"general.architecture\""},
    {"general.architecture", NULL, GGUF_U32, 1, LLM_ERR_INVALID,
     "m.gguf: key \"general.architecture\" is not a text"},
    {"general.architecture", "gpt\x1bneox", GGUF_TEXT, 0, LLM_ERR_UNSUPPORTED,
     "m.gguf: architecture \"gpt?neox\" is not supported; this build runs llama, qwen2, qwen3"},
    {"llama.embedding_length", NULL, GGUF_ARRAY, 0, LLM_ERR_INVALID,
     "m.gguf has no key \"llama.embedding_length\""},
    {"llama.embedding_length", NULL, GGUF_U32, 0, LLM_ERR_INVALID,
     "m.gguf: key \"llama.embedding_length\" is 0; it must be 1..131072"},
    {"llama.embedding_length", NULL, GGUF_I32, -5, LLM_ERR_INVALID,
     "m.gguf: key \"llama.embedding_length\" is -5; it must be 1..131072"},
    {"llama.embedding_length", NULL, GGUF_F32, 64, LLM_ERR_INVALID,
     "m.gguf: key \"llama.embedding_length\" is not an integer"},
    {"llama.block_count", NULL, GGUF_U32, 4294967295, LLM_ERR_INVALID,
     "m.gguf: key \"llama.block_count\" is 4294967295; it must be 1..2048"},
    {"llama.attention.head_count", NULL, GGUF_U32, 0, LLM_ERR_INVALID,
     "m.gguf: key \"llama.attention.head_count\" is 0; it must be 1..4096"},
    {"llama.attention.head_count", NULL, GGUF_U32, 3, LLM_ERR_INVALID,
     "m.gguf: key \"llama.attention.head_count\" is 3, not a multiple of "
     "\"attention.head_count_kv\", 2"},
    {"llama.attention.head_count_kv", NULL, GGUF_U32, 5, LLM_ERR_INVALID,
     "m.gguf: key \"llama.attention.head_count_kv\" is 5; it must be 1..4"},
    {"llama.attention.key_length", NULL, GGUF_U32, 31, LLM_ERR_INVALID,
     "m.gguf: a head has 31 dimensions; it must be an even number up to 1024"},
    {"llama.attention.value_length", NULL, GGUF_U32, 16, LLM_ERR_UNSUPPORTED,
     "m.gguf: key \"llama.attention.value_length\" is 16; only heads whose keys and values have "
     "the same size, 32, are supported"},
    {"llama.rope.dimension_count", NULL, GGUF_U32, 16, LLM_ERR_UNSUPPORTED,
     "m.gguf: key \"llama.rope.dimension_count\" is 16; only the rotation of whole heads, 32, is "
     "supported"},
    {"llama.attention.layer_norm_rms_epsilon", NULL, GGUF_ARRAY, 0, LLM_ERR_INVALID,
     "m.gguf has no key \"llama.attention.layer_norm_rms_epsilon\""},
    {"llama.attention.layer_norm_rms_epsilon", NULL, GGUF_F32, 0, LLM_ERR_INVALID,
     "m.gguf: key \"llama.attention.layer_norm_rms_epsilon\" is 0; it must be 1e-12..0.1"},
    {"llama.rope.freq_base", NULL, GGUF_F32, 0.5, LLM_ERR_INVALID,
     "m.gguf: key \"llama.rope.freq_base\" is 0.5; it must be 1..1e+12"},
    {"llama.rope.scaling.type", "longrope", GGUF_TEXT, 0, LLM_ERR_UNSUPPORTED,
     "m.gguf: key \"llama.rope.scaling.type\" is \"longrope\"; supported are none, linear and "
     "yarn"},
    {"llama.rope.scaling.type", "linear", GGUF_TEXT, 0, LLM_ERR_INVALID,
     "m.gguf has no key \"llama.rope.scaling.factor\""},
    {"llama.expert_count", NULL, GGUF_U32, 8, LLM_ERR_UNSUPPORTED,
     "m.gguf: key \"llama.expert_count\" is 8; not supported"},
    {"llama.expert_count", NULL, GGUF_U32, 0, LLM_OK, ""},
    {"llama.logit_scale", NULL, GGUF_F32, 1, LLM_OK, ""},
    {"llama.logit_scale", NULL, GGUF_F32, 2, LLM_ERR_UNSUPPORTED,
     "m.gguf: key \"llama.logit_scale\" is 2; not supported"},
    {"llama.attention.sliding_window_pattern", "x", GGUF_TEXT, 0, LLM_ERR_UNSUPPORTED,
     "m.gguf: key \"llama.attention.sliding_window_pattern\" is not supported"},
    {"tokenizer.ggml.tokens", "x", GGUF_TEXT, 0, LLM_ERR_INVALID,
     "m.gguf: key \"tokenizer.ggml.tokens\" is not an array of texts"},
    {"tokenizer.ggml.bos_token_id", "x", GGUF_TEXT, 0, LLM_ERR_INVALID,
     "m.gguf: key \"tokenizer.ggml.bos_token_id\" is not an integer"},
};

START_TEST(an_edited_key_has_its_sentence)
{
    const char *key = edits[_i].key;
    write_without(key);
    uint32_t number = (uint32_t)(int64_t)edits[_i].number;
    if (edits[_i].type == GGUF_TEXT)
        gguf_writer_text(&writer, key, edits[_i].text);
    else if (edits[_i].type == GGUF_F32)
        gguf_writer_f32(&writer, key, (float)edits[_i].number);
    else if (edits[_i].type != GGUF_ARRAY)
        gguf_writer_value(&writer, key, edits[_i].type, &number, sizeof number);
    enum llm_status status = read_config();
    ck_assert_msg(status == edits[_i].status, "%s: %d: %s", key, (int)status, error.message);
    ck_assert_str_eq(error.message, edits[_i].sentence);
    if (status != LLM_OK)
        ck_assert_uint_eq(config.hidden_size, 0); /* untouched */
}
END_TEST

/* ---- rotation ---- */

START_TEST(linear_and_yarn_are_read)
{
    tiny_gguf_keys(&writer, "llama", &shape);
    gguf_writer_text(&writer, "llama.rope.scaling.type", "linear");
    gguf_writer_f32(&writer, "llama.rope.scaling.factor", 4.0f);
    ck_assert_int_eq(read_config(), LLM_OK);
    ck_assert_int_eq(config.rope.kind, MODEL_ROPE_LINEAR);
    ck_assert(config.rope.factor == 4.0);
    ck_assert_uint_eq(config.context_max_tokens, 1024);
    teardown();
    setup();
    tiny_gguf_keys(&writer, "llama", &shape);
    gguf_writer_f32(&writer, "llama.rope.scale_linear", 2.0f);
    ck_assert_int_eq(read_config(), LLM_OK);
    ck_assert_int_eq(config.rope.kind, MODEL_ROPE_LINEAR);
    ck_assert(config.rope.factor == 2.0);
    teardown();
    setup();
    tiny_gguf_keys(&writer, "qwen2", &shape);
    gguf_writer_text(&writer, "qwen2.rope.scaling.type", "yarn");
    gguf_writer_f32(&writer, "qwen2.rope.scaling.factor", 8.0f);
    gguf_writer_u32(&writer, "qwen2.rope.scaling.original_context_length", 64);
    gguf_writer_f32(&writer, "qwen2.rope.scaling.yarn_beta_fast", 24.0f);
    ck_assert_int_eq(read_config(), LLM_OK);
    ck_assert_int_eq(config.rope.kind, MODEL_ROPE_YARN);
    ck_assert_uint_eq(config.rope.original_context_tokens, 64);
    ck_assert(config.rope.beta_fast == 24.0 && config.rope.beta_slow == 1.0);
    ck_assert(fabs(config.rope.attention_factor - (0.1 * log(8.0) + 1)) < 1e-12);
    ck_assert_uint_eq(config.context_max_tokens, 512);
}
END_TEST

/* Llama 3.1: the divisors that its converter writes are what the formula makes of the frequencies. */
START_TEST(divisors_turn_as_the_formula_of_llama3_does)
{
    double plain[16], scaled[16], divided[16];
    struct model_config formula = {.head_dim = 32,
                                   .rope_theta = 500000.0,
                                   .rope = {.kind = MODEL_ROPE_LLAMA3,
                                            .factor = 8,
                                            .low_freq_factor = 1,
                                            .high_freq_factor = 4,
                                            .original_context_tokens = 8192}};
    rope_scaling_frequencies(scaled, &formula);
    formula.rope.kind = MODEL_ROPE_DEFAULT;
    rope_scaling_frequencies(plain, &formula);
    float divisors[16];
    for (int i = 0; i < 16; i++)
        divisors[i] = (float)(plain[i] / scaled[i]);
    ck_assert(divisors[0] == 1.0f && divisors[15] == 8.0f);

    write_without("llama.rope.freq_base");
    gguf_writer_f32(&writer, "llama.rope.freq_base", 500000.0f);
    gguf_writer_tensor(&writer, "rope_freqs.weight", 0, (const uint64_t[]){16}, 1, divisors,
                       sizeof divisors);
    ck_assert_msg(read_config() == LLM_OK, "%s", error.message);
    ck_assert_uint_eq(config.rope.divisor_count, 16);
    rope_scaling_frequencies(divided, &config);
    for (int i = 0; i < 16; i++)
        ck_assert(fabs(divided[i] - scaled[i]) <= 1e-7 * scaled[i]);
}
END_TEST

START_TEST(divisors_that_cannot_be_are_named)
{
    float divisors[16] = {1};
    tiny_gguf_keys(&writer, "llama", &shape);
    gguf_writer_tensor(&writer, "rope_freqs.weight", 0, (const uint64_t[]){16}, 1, divisors,
                       sizeof divisors);
    ck_assert_int_eq(read_config(), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message,
                     "number 1 of tensor \"rope_freqs.weight\" is 0; it must be 2^-20..2^20");
    teardown();
    setup();
    tiny_gguf_keys(&writer, "llama", &shape);
    put_tensor("rope_freqs.weight", 1, 8);
    ck_assert_int_eq(read_config(), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "tensor \"rope_freqs.weight\" is 8 of type F32, the "
                                    "configuration says 16 of type F32");
}
END_TEST

/* ---- ids and notes ---- */

START_TEST(the_usual_ends_are_found_among_control_tokens)
{
    static const char *const tokens[] = {"a", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "e"};
    const int32_t types[] = {1, 3, 3, 1, 1}; /* normal, control, control, normal, normal */
    write_without("tokenizer.ggml.tokens");
    gguf_writer_texts(&writer, "tokenizer.ggml.tokens", tokens, 5);
    gguf_writer_numbers(&writer, "tokenizer.ggml.token_type", GGUF_I32, types, 5, 4);
    gguf_writer_u32(&writer, "tokenizer.ggml.eot_token_id", 4);
    ck_assert_msg(read_config() == LLM_OK, "%s", error.message);
    ck_assert_uint_eq(config.eos_token_count, 3);
    ck_assert_int_eq(config.eos_token_ids[0], 2); /* eos_token_id, which is also a usual one */
    ck_assert_int_eq(config.eos_token_ids[1], 4);
    ck_assert_int_eq(config.eos_token_ids[2], 1);
}
END_TEST

START_TEST(strange_keys_and_ids_are_noted)
{
    write_without("tokenizer.ggml.bos_token_id");
    gguf_writer_u32(&writer, "tokenizer.ggml.bos_token_id", 20);
    gguf_writer_u32(&writer, "llama.attention.newfangled", 1);
    gguf_writer_u32(&writer, "llamas.other", 1);
    gguf_writer_u32(&writer, "general.whatever", 1);
    ck_assert_msg(read_config() == LLM_OK, "%s", error.message);
    ck_assert_int_eq(config.bos_token_id, -1);
    ck_assert_str_eq(heard, "m.gguf: key \"tokenizer.ggml.bos_token_id\" is 20, not an id in "
                            "0..19: ignored\n"
                            "m.gguf: key \"llama.attention.newfangled\" is not known: ignored\n");
}
END_TEST

START_TEST(more_tokens_than_the_vocabulary_are_refused)
{
    tiny_gguf_keys(&writer, "llama", &shape);
    gguf_writer_u32(&writer, "llama.vocab_size", 19);
    ck_assert_int_eq(read_config(), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message,
                     "m.gguf: key \"tokenizer.ggml.tokens\" has 20 items, the vocabulary 19");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/model_config_gguf");
    TCase *tc = tcase_create("config");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, every_number_finds_its_field);
    tcase_add_test(tc, families_and_tensors_switch_features);
    tcase_add_test(tc, absent_keys_have_their_usual_values);
    tcase_add_loop_test(tc, an_edited_key_has_its_sentence, 0, sizeof edits / sizeof edits[0]);
    tcase_add_test(tc, linear_and_yarn_are_read);
    tcase_add_test(tc, divisors_turn_as_the_formula_of_llama3_does);
    tcase_add_test(tc, divisors_that_cannot_be_are_named);
    tcase_add_test(tc, the_usual_ends_are_found_among_control_tokens);
    tcase_add_test(tc, strange_keys_and_ids_are_noted);
    tcase_add_test(tc, more_tokens_than_the_vocabulary_are_refused);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
