/*
 * test_families_gguf.c - daemon/model: every family and kind of rotation as a GGUF file is the model of its directory.
 * How: each checkpoint of test_families.c is written once more as converters to GGUF write it: keys from its
 * config.json, tensors under their short names, Llama's and Mistral's rows of Q and K in the order of that format,
 * Llama 3.1's rotation as a tensor of divisors. The logits must be the same bits; with divisors or another temperature
 * of YaRN, which are f32 in that format, within 2e-4 of the largest.
 */
#include "daemon/model/safetensors.h"
#include "tests/daemon/family_checkpoint.h"
#include "tests/daemon/gguf_writer.h"
#include "tests/daemon/model_fixture.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKENS_MAX 160
#define PI         3.14159265358979323846

/* Not here is what GGUF cannot say: a window that begins at a layer, bands of YaRN that end between dimensions. */
static const char *const names[] = {
    "llama-default",  "llama-linear",  "llama-llama3",    "llama-yarn",
    "llama-bias",     "qwen2-default", "mistral-default", "mistral-linear",
    "mistral-llama3", "qwen2-linear",  "qwen2-llama3",    "qwen2-yarn",
    "qwen3-default",  "qwen3-linear",  "qwen3-llama3",    "qwen3-yarn",
};

static const struct fixture_backend backend = {"cpu", NULL, 1};
static struct family_checkpoint checkpoint;
static struct gguf_writer writer;
static const json_t *config;
static char family[16]; /* as GGUF has it: Mistral is a llama */

static bool is_llama(void)
{
    return strcmp(family, "llama") == 0;
}

static double number_of(const json_t *object, const char *key, double otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

static int count_of(const char *key, int otherwise)
{
    return (int)number_of(config, key, otherwise);
}

static int head_dim(void)
{
    return count_of("head_dim", count_of("hidden_size", 0) / count_of("num_attention_heads", 1));
}

static const char *key_of(const char *rest)
{
    static char key[96];
    snprintf(key, sizeof key, "%s.%s", family, rest);
    return key;
}

static void put_count(const char *rest, int count)
{
    gguf_writer_u32(&writer, key_of(rest), (uint32_t)count);
}

static void put_sizes(void)
{
    gguf_writer_text(&writer, "general.architecture", family);
    put_count("embedding_length", count_of("hidden_size", 0));
    put_count("feed_forward_length", count_of("intermediate_size", 0));
    put_count("block_count", count_of("num_hidden_layers", 0));
    put_count("context_length", count_of("max_position_embeddings", 0));
    put_count("attention.head_count", count_of("num_attention_heads", 0));
    put_count("attention.head_count_kv",
              count_of("num_key_value_heads", count_of("num_attention_heads", 0)));
    put_count("attention.key_length", head_dim());
    put_count("attention.value_length", head_dim());
    put_count("vocab_size", count_of("vocab_size", 0));
    gguf_writer_f32(&writer, key_of("attention.layer_norm_rms_epsilon"),
                    (float)number_of(config, "rms_norm_eps", 0));
    if (is_llama() && count_of("sliding_window", 0) > 0)
        put_count("attention.sliding_window", count_of("sliding_window", 0));
}

/* ---- rotation ---- */

/* What converters make of Llama 3.1's: by wavelength, as its reference code has it. */
static void put_divisors(const json_t *rope, double theta)
{
    float divisors[128];
    int D = head_dim();
    double factor = number_of(rope, "factor", 0), low = number_of(rope, "low_freq_factor", 0);
    double high = number_of(rope, "high_freq_factor", 0);
    double original = number_of(rope, "original_max_position_embeddings", 0);
    for (int i = 0; i < D / 2; i++) {
        double wavelength = 2 * PI * pow(theta, 2.0 * i / D);
        double smooth = (original / wavelength - low) / (high - low);
        divisors[i] = (float)(wavelength < original / high  ? 1
                              : wavelength > original / low ? factor
                                                            : 1 / ((1 - smooth) / factor + smooth));
    }
    gguf_writer_tensor(&writer, "rope_freqs.weight", 0, (const uint64_t[]){(uint64_t)D / 2}, 1,
                       divisors, (size_t)D / 2 * sizeof divisors[0]);
}

/* `temperature` is what cosines and sines are multiplied with; the format has it as a part of the usual one. */
static void put_yarn(const json_t *rope, double temperature)
{
    double usual = 0.1 * log(number_of(rope, "factor", 0)) + 1;
    put_count("rope.scaling.original_context_length",
              (int)number_of(rope, "original_max_position_embeddings", 0));
    if (fabs(temperature - usual) > 1e-9)
        gguf_writer_f32(&writer, key_of("rope.scaling.attn_factor"), (float)(temperature / usual));
}

static void put_rotation(double temperature)
{
    const json_t *rope = json_object_get(config, "rope_parameters");
    if (!json_is_object(rope))
        rope = json_object_get(config, "rope_scaling");
    const json_t *type = json_object_get(rope, "rope_type");
    const char *kind = json_string_value(type ? type : json_object_get(rope, "type"));
    double theta = number_of(rope, "rope_theta", number_of(config, "rope_theta", 10000));
    gguf_writer_f32(&writer, key_of("rope.freq_base"), (float)theta);
    if (kind == NULL || strcmp(kind, "default") == 0)
        return;
    if (strcmp(kind, "llama3") == 0) {
        put_divisors(rope, theta);
        return;
    }
    gguf_writer_text(&writer, key_of("rope.scaling.type"), kind);
    gguf_writer_f32(&writer, key_of("rope.scaling.factor"), (float)number_of(rope, "factor", 0));
    if (strcmp(kind, "yarn") == 0)
        put_yarn(rope, temperature);
}

/* ---- tensors ---- */

static const char *short_name(const char *name)
{
    static const char *const pairs[][2] = {
        {"input_layernorm.", "attn_norm."},    {"post_attention_layernorm.", "ffn_norm."},
        {"self_attn.q_proj.", "attn_q."},      {"self_attn.k_proj.", "attn_k."},
        {"self_attn.v_proj.", "attn_v."},      {"self_attn.o_proj.", "attn_output."},
        {"self_attn.q_norm.", "attn_q_norm."}, {"self_attn.k_norm.", "attn_k_norm."},
        {"mlp.gate_proj.", "ffn_gate."},       {"mlp.up_proj.", "ffn_up."},
        {"mlp.down_proj.", "ffn_down."},
    };
    static char out[64];
    int layer = 0;
    if (sscanf(name, "model.layers.%d.", &layer) != 1)
        return strstr(name, "embed")  ? "token_embd.weight"
               : strstr(name, "norm") ? "output_norm.weight"
                                      : "output.weight";
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const char *found = strstr(name, pairs[i][0]);
        if (found != NULL)
            snprintf(out, sizeof out, "blk.%d.%s%s", layer, pairs[i][1],
                     found + strlen(pairs[i][0]));
    }
    return out;
}

static void put_tensor(const struct safetensors *st, const struct safetensors_tensor *t)
{
    struct llm_error error;
    int D = head_dim();
    bool turned =
        is_llama() && (strstr(t->name, "q_proj") != NULL || strstr(t->name, "k_proj") != NULL);
    size_t rows = (size_t)t->shape[0], row_bytes = (size_t)t->bytes / rows;
    unsigned char *from = malloc((size_t)t->bytes), *to = malloc((size_t)t->bytes);
    ck_assert(from != NULL && to != NULL);
    ck_assert_int_eq(safetensors_read(st, t, 0, from, (size_t)t->bytes, &error), LLM_OK);
    for (size_t row = 0; row < rows; row++) {
        size_t in_head = row % (size_t)D, half = in_head / (size_t)(D / 2);
        size_t place = row - in_head + 2 * (in_head % (size_t)(D / 2)) + half;
        memcpy(to + (turned ? place : row) * row_bytes, from + row * row_bytes, row_bytes);
    }
    gguf_writer_tensor(&writer, short_name(t->name), 0, t->shape, t->rank, to, (size_t)t->bytes);
    free(from);
    free(to);
}

static void put_tensors(const struct model_files *files)
{
    struct safetensors st;
    struct llm_error error;
    ck_assert_int_eq(safetensors_open(&st, files, &error), LLM_OK);
    for (size_t i = 0; i < st.tensor_count; i++)
        put_tensor(&st, &st.tensors[i]);
    safetensors_close(&st);
}

/* ---- the comparison ---- */

static void assert_same_logits(struct model_fixture *a, struct model_fixture *b, bool to_the_bit)
{
    int32_t ids[TOKENS_MAX], count = 0;
    const json_t *lists[] = {json_object_get(checkpoint.golden, "prompt_ids"),
                             json_object_get(checkpoint.golden, "greedy_ids")};
    struct fixture_sequence one, other;
    for (int i = 0; i < 2; i++)
        for (size_t j = 0; j < json_array_size(lists[i]); j++)
            ids[count++] = (int32_t)json_integer_value(json_array_get(lists[i], j));
    fixture_start(a, &one, ids, count);
    fixture_run_alone(a, &one, count);
    fixture_start(b, &other, ids, count);
    fixture_run_alone(b, &other, count);
    size_t logits = (size_t)count * a->facts->config.vocab_size;
    double largest = 0, worst = 0;
    for (size_t i = 0; i < logits; i++) {
        largest = fmax(largest, fabs((double)one.logits[i]));
        worst = fmax(worst, fabs((double)one.logits[i] - (double)other.logits[i]));
    }
    if (to_the_bit)
        ck_assert(memcmp(one.logits, other.logits, logits * sizeof(float)) == 0);
    ck_assert_msg(worst <= 2e-4 * largest, "%g of %g", worst, largest);
    fixture_end(&one);
    fixture_end(&other);
}

START_TEST(a_gguf_file_is_the_model_of_its_directory)
{
    struct model_fixture from_directory, from_gguf;
    char path[128];
    const char *name = names[_i];
    family_checkpoint_open(&checkpoint, name, NULL);
    config = json_object_get(checkpoint.golden, "config");
    snprintf(family, sizeof family, "%.5s",
             strncmp(name, "mistral", 7) == 0 ? "llama" : name); /* "llama", "qwen2", "qwen3" */
    fixture_open(&from_directory, checkpoint.directory, &backend, MODEL_KV_AUTO);
    gguf_writer_open(&writer);
    put_sizes();
    put_rotation(from_directory.facts->config.rope.attention_factor);
    put_tensors(&from_directory.files);
    snprintf(path, sizeof path, "%s/x.gguf", checkpoint.directory);
    gguf_writer_save(&writer, path);
    fixture_open(&from_gguf, path, &backend, MODEL_KV_AUTO);

    const struct model_config *a = &from_directory.facts->config, *b = &from_gguf.facts->config;
    if (a->architecture != MODEL_ARCHITECTURE_MISTRAL || a->sliding_window > 0)
        ck_assert_int_eq(a->architecture, b->architecture);
    ck_assert_uint_eq(a->context_max_tokens, b->context_max_tokens);
    ck_assert_int_eq(b->rope.divisor_count > 0, strstr(name, "llama3") != NULL);
    bool rounded = b->rope.divisor_count > 0 ||
                   memcmp(&a->rope.attention_factor, &b->rope.attention_factor, 8) != 0;
    bool same = memcmp(from_directory.facts->fingerprint, from_gguf.facts->fingerprint,
                       sizeof from_gguf.facts->fingerprint) == 0;
    ck_assert_int_eq(same, a->architecture == b->architecture && !rounded);
    assert_same_logits(&from_directory, &from_gguf, !rounded);
    fixture_close(&from_directory);
    fixture_close(&from_gguf);
    unlink(path);
    gguf_writer_close(&writer);
    family_checkpoint_close(&checkpoint);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/families_gguf");
    TCase *tc = tcase_create("families");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, a_gguf_file_is_the_model_of_its_directory, 0,
                        sizeof names / sizeof names[0]);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
