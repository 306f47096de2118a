/*
 * fuzz_model_files.c - daemon/model: any config.json, safetensors file or shard index ends in a checked result
 * or in a sentence.
 * How: the first byte chooses the reader, and what stands in its file: the rest of the input, a good document with
 * wrong values in it (json_edit.h), or that with bytes changed as well. A safetensors header gets its length before it
 * and bytes for its tensors behind it, right or a little wrong. What is accepted is read to the last byte.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/model/model_config.h"
#include "daemon/model/rope_scaling.h"
#include "daemon/model/safetensors.h"
#include "shm/check.h"
#include "tests/fuzz/json_edit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_BYTES_MAX 4096
#define CONFIG         "config.json"
#define GENERATION     "generation_config.json"
#define SINGLE         "model.safetensors"
#define INDEX          "model.safetensors.index.json"
#define SHARD_HEADER   "{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}}"
#define GOOD_CONFIG                                                                                \
    "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64, \"intermediate_size\": 172," \
    "\"num_hidden_layers\": 5, \"num_attention_heads\": 8, \"num_key_value_heads\": 4,"            \
    "\"vocab_size\": 512, \"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-06,"             \
    "\"rope_theta\": 500000.0, \"rope_scaling\": null, \"head_dim\": 8, \"bos_token_id\": 1,"      \
    "\"tie_word_embeddings\": true, \"hidden_act\": \"silu\", \"torch_dtype\": \"bfloat16\","      \
    "\"attention_bias\": false, \"mlp_bias\": false, \"quantization_config\": null,"               \
    "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000.0},"                  \
    "\"eos_token_id\": [2, 3]}"
#define SCALED_CONFIG                                                                             \
    "{\"architectures\": [\"Qwen3ForCausalLM\"], \"hidden_size\": 64, \"intermediate_size\": 96," \
    "\"num_hidden_layers\": 3, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"           \
    "\"head_dim\": 32, \"vocab_size\": 384, \"max_position_embeddings\": 512,"                    \
    "\"rms_norm_eps\": 1e-06, \"attention_bias\": true, \"use_sliding_window\": true,"            \
    "\"sliding_window\": 32, \"max_window_layers\": 1, \"partial_rotary_factor\": 1.0,"           \
    "\"layer_types\": [\"full_attention\", \"sliding_attention\", \"sliding_attention\"],"        \
    "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0, \"beta_fast\": 32,"             \
    "\"beta_slow\": 1, \"mscale\": 0.7, \"mscale_all_dim\": 1.0, \"truncate\": false,"            \
    "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"attention_factor\": null,"            \
    "\"original_max_position_embeddings\": 128, \"rope_theta\": 10000.0}}"

struct text {
    size_t bytes;
    uint8_t data[FILE_BYTES_MAX];
};

/* What the first byte chooses from. A header's tensors need `tensor_bytes` behind it. */
static const struct choice {
    const char *name, *good;
    size_t tensor_bytes;
} choices[] = {
    {CONFIG, GOOD_CONFIG, 0},
    {GENERATION, "{\"eos_token_id\": [2, 3, 511], \"bos_token_id\": 1}", 0},
    {SINGLE,
     "{\"__metadata__\": {\"format\": \"pt\"},"
     "\"a\": {\"dtype\": \"I64\", \"shape\": [0, 5], \"data_offsets\": [0, 0]},"
     "\"b\": {\"dtype\": \"F32\", \"shape\": [2, 3], \"data_offsets\": [0, 24]},"
     "\"c\": {\"dtype\": \"BF16\", \"shape\": [], \"data_offsets\": [24, 26]},"
     "\"d\": {\"dtype\": \"U8\", \"shape\": [2, 1, 3], \"data_offsets\": [26, 32]}}",
     32},
    {INDEX,
     "{\"metadata\": {\"total_size\": 8}, \"weight_map\": {\"a\": \"x.safetensors\", \"b\": "
     "\"y.safetensors\"}}",
     0},
};

/* The same file of another architecture, with everything that may be scaled or cut to a window. */
static const struct choice scaled_choice = {CONFIG, SCALED_CONFIG, 0};

static const char *const odd_values[] = {
    "null",
    "true",
    "false",
    "-1",
    "0",
    "1",
    "2",
    "3",
    "4",
    "8",
    "24",
    "26",
    "32",
    "48",
    "511",
    "512",
    "1024",
    "131073",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "1.5",
    "1e300",
    "1e-300",
    "\"\"",
    "\"a\"",
    "\"b\"",
    "\"F32\"",
    "\"F64\"",
    "\"BF16\"",
    "\"I8\"",
    "\"BOOL\"",
    "\"default\"",
    "\"linear\"",
    "\"yarn\"",
    "\"llama3\"",
    "\"dynamic\"",
    "\"full_attention\"",
    "\"Qwen2ForCausalLM\"",
    "\"MistralForCausalLM\"",
    "\"gelu\"",
    "\"../x\"",
    "\"x.safetensors\"",
    "\"y.safetensors\"",
    "\"model.safetensors\"",
    "[]",
    "{}",
    "[1]",
    "[1, 2]",
    "[0, 32]",
    "[4294967296, 4294967296]",
    "[1,1,1,1,1,1,1,1,1,1]",
    "{\"rope_type\": \"default\", \"rope_theta\": 1.0}",
    "{\"type\": \"yarn\", \"factor\": 1e3, \"original_max_position_embeddings\": 3}",
    "{\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}"};

struct fuzzed_files {
    const struct choice *choice;
    struct text text; /* of the file that `choice` names */
};

static int file_of(const void *bytes, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(write(fd, bytes, size) == (ssize_t)size);
    return fd;
}

static int good_shard(const char *name)
{
    char file[8 + sizeof SHARD_HEADER - 1 + 4] = {0};
    uint64_t header_bytes = sizeof SHARD_HEADER - 1;
    memcpy(file, &header_bytes, 8);
    memcpy(file + 8, SHARD_HEADER, header_bytes);
    file[8 + 2] = name[0] == 'x' ? 'a' : 'b'; /* the tensor's name */
    return file_of(file, sizeof file);
}

static enum llm_status open_fuzzed(void *self, const char *name, int *out_fd,
                                   struct llm_error *error)
{
    const struct fuzzed_files *files = self;
    CHECK(model_file_name_ok(name));
    if (strcmp(name, files->choice->name) == 0)
        *out_fd = file_of(files->text.data, files->text.bytes);
    else if (strcmp(name, CONFIG) == 0)
        *out_fd = file_of(GOOD_CONFIG, strlen(GOOD_CONFIG));
    else if (strcmp(name, "x.safetensors") == 0 || strcmp(name, "y.safetensors") == 0)
        *out_fd = good_shard(name);
    else
        return llm_fail(error, LLM_ERR_NOT_FOUND, "no file");
    return LLM_OK;
}

/* No pair turns faster than one radian per position, or backwards, whatever the scaling is. */
static void check_frequencies(const struct model_config *c)
{
    double frequencies[1024 / 2];
    double scale = rope_scaling_frequencies(frequencies, c);
    CHECK(scale > 0 && scale <= 1000);
    for (uint32_t i = 0; i < c->head_dim / 2; i++)
        CHECK(frequencies[i] >= 0 && frequencies[i] <= 1.0);
}

static void read_config(const struct model_files *files)
{
    struct model_config c;
    struct llm_error error = {0};
    if (model_config_read(files, &c, &error) != LLM_OK) {
        CHECK(strlen(error.message) > 0);
        return;
    }
    CHECK(c.head_count % c.kv_head_count == 0);
    CHECK(c.head_dim % 2 == 0 && c.head_dim >= 2);
    CHECK(c.bos_token_id < (int64_t)c.vocab_size);
    CHECK(c.eos_token_count <= MODEL_EOS_IDS_MAX);
    for (uint32_t i = 0; i < c.eos_token_count; i++)
        CHECK(c.eos_token_ids[i] >= 0 && (uint32_t)c.eos_token_ids[i] < c.vocab_size);
    CHECK(c.context_max_tokens >= 1 && c.context_max_tokens <= 1u << 20);
    CHECK(c.full_attention_layers < c.layer_count);
    check_frequencies(&c);
}

static void read_tensors(const struct model_files *files)
{
    struct safetensors st;
    struct llm_error error = {0};
    if (safetensors_open(&st, files, &error) != LLM_OK) {
        CHECK(strlen(error.message) > 0);
        return;
    }
    for (size_t i = 0; i < st.tensor_count; i++) {
        size_t bytes = (size_t)st.tensors[i].bytes; /* accepted, so no larger than the file */
        void *data = malloc(bytes + 1);
        CHECK(data != NULL);
        CHECK(safetensors_find(&st, st.tensors[i].name) == &st.tensors[i]);
        CHECK(safetensors_read(&st, &st.tensors[i], 0, data, bytes, &error) == LLM_OK);
        free(data);
    }
    safetensors_close(&st);
}

static void put(struct text *text, const void *bytes, size_t count)
{
    size_t room = sizeof text->data - text->bytes;
    count = count < room ? count : room;
    memcpy(text->data + text->bytes, bytes, count);
    text->bytes += count;
}

/* A good document with wrong values. */
static void put_edited(struct input *in, const struct choice *choice, struct text *text)
{
    json_t *root = json_loads(choice->good, 0, NULL);
    CHECK(root);
    for (uint8_t edits = input_byte(in) % 4; edits > 0; edits--)
        json_edit(root, in, odd_values, sizeof odd_values / sizeof odd_values[0]);
    char *good = json_dumps(root, 0);
    CHECK(good);
    put(text, good, strlen(good));
    free(good);
    json_decref(root);
}

static void put_header(struct input *in, const struct choice *choice, struct text *text,
                       bool edited)
{
    uint64_t header_bytes = 0;
    put(text, &header_bytes, 8);
    if (edited)
        put_edited(in, choice, text);
    uint8_t off = input_byte(in);
    header_bytes = edited ? text->bytes - 8 : input_byte(in);
    if (!edited)
        put(text, in->data, in->left);
    else
        for (size_t i = 0; i < choice->tensor_bytes; i++)
            put(text, "x", 1);
    header_bytes = off < 224 ? header_bytes : off < 240 ? header_bytes + off - 232 : off;
    memcpy(text->data, &header_bytes, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzzed_files fuzzed;
    struct input in = {data, size};
    uint8_t first = input_byte(&in);
    fuzzed.choice = first % 4 == 0 && first & 8 ? &scaled_choice : &choices[first % 4];
    fuzzed.text.bytes = 0;
    bool edited = first & 4, framed = fuzzed.choice->tensor_bytes > 0 && !(first & 8);
    if (framed)
        put_header(&in, fuzzed.choice, &fuzzed.text, edited);
    else if (edited)
        put_edited(&in, fuzzed.choice, &fuzzed.text);
    else
        put(&fuzzed.text, in.data, in.left);
    for (uint8_t edits = first / 64; edits > 0 && edited && fuzzed.text.bytes > 0; edits--)
        input_edit(&in, fuzzed.text.data, fuzzed.text.bytes);
    struct model_files files = {.open = open_fuzzed, .self = &fuzzed};
    if (first % 4 < 2)
        read_config(&files);
    else
        read_tensors(&files);
    return 0;
}
