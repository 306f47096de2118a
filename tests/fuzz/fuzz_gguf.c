/*
 * fuzz_gguf.c - daemon/model: any GGUF file ends in a configuration and readable tensors, or in a sentence.
 * How: the first byte chooses what the file is: the rest of the input as it stands; a good file with bytes changed; or one
 * whose keys and tensors are good ones with odd numbers in their place, left out, or of another type. It may be
 * two files of a split. What is accepted is walked and read to the last byte.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/model/model_source.h"
#include "shm/check.h"
#include "tests/daemon/gguf_writer.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIRST      "m-00001-of-00002.gguf"
#define SECOND     "m-00002-of-00002.gguf"
#define DATA_BYTES 2048

/* What a llama with two heads of 8 has. */
static const struct {
    const char *key;
    uint32_t type;
    double number;
} numbers[] = {
    {"llama.embedding_length", GGUF_U32, 32},
    {"llama.feed_forward_length", GGUF_U32, 64},
    {"llama.block_count", GGUF_U32, 1},
    {"llama.context_length", GGUF_U64, 64},
    {"llama.attention.head_count", GGUF_U16, 2},
    {"llama.attention.head_count_kv", GGUF_I32, 2},
    {"llama.attention.key_length", GGUF_U8, 8},
    {"llama.attention.layer_norm_rms_epsilon", GGUF_F32, 1e-5},
    {"llama.rope.dimension_count", GGUF_I64, 8},
    {"llama.rope.freq_base", GGUF_F64, 10000},
    {"llama.rope.scaling.factor", GGUF_F32, 4},
    {"llama.rope.scaling.original_context_length", GGUF_U32, 32},
    {"llama.attention.sliding_window", GGUF_I8, 16},
    {"llama.vocab_size", GGUF_I16, 6},
    {"llama.expert_count", GGUF_U32, 0},
    {"tokenizer.ggml.bos_token_id", GGUF_U32, 1},
    {"tokenizer.ggml.eos_token_id", GGUF_U32, 2},
    {"general.alignment", GGUF_U32, 32},
};

static const struct {
    const char *plan, *name;
    uint32_t type;
    uint64_t rows, columns;
} tensors[] = {
    {"model.embed_tokens.weight", "token_embd.weight", 8, 6, 32},
    {"model.norm.weight", "output_norm.weight", 0, 0, 32},
    {"model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight", 2, 16, 32},
    {"model.layers.0.self_attn.k_proj.weight", "blk.0.attn_k.weight", 8, 16, 32},
    {"model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight", 1, 16, 32},
    {"model.layers.0.self_attn.k_proj.bias", "blk.0.attn_k.bias", 0, 0, 16},
    {"model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight", 14, 1, 256},
    {"model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight", 12, 1, 256},
    {"lm_head.weight", "output.weight", 30, 6, 32},
    {"", "rope_freqs.weight", 0, 0, 4},
};
#define COUNT(list) (sizeof(list) / sizeof(list)[0])

struct fuzzed_files {
    const void *bytes[2];
    size_t counts[2];
};

static enum llm_status open_fuzzed(void *self, const char *name, int *out_fd,
                                   struct llm_error *error)
{
    const struct fuzzed_files *files = self;
    CHECK(model_file_name_ok(name));
    int which = strcmp(name, FIRST) == 0 ? 0 : strcmp(name, SECOND) == 0 ? 1 : 2;
    if (which == 2 || files->bytes[which] == NULL)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "no file");
    *out_fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(*out_fd >= 0);
    CHECK(write(*out_fd, files->bytes[which], files->counts[which]) ==
          (ssize_t)files->counts[which]);
    return LLM_OK;
}

/* The other format's reader, which fuzz_model_files has; never called, for the files say that they are GGUF. */
enum llm_status model_config_read(const struct model_files *files, struct model_config *out_config,
                                  struct llm_error *error)
{
    (void)files;
    (void)out_config;
    return llm_fail(error, LLM_ERR_UNSUPPORTED, "not here");
}

/* ---- writing ---- */

/* A number of a type as the file has it, in `out`; returns its bytes. */
static size_t number_bytes(uint32_t type, double number, unsigned char out[8])
{
    static const size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    int64_t integer = (int64_t)number;
    float f32 = (float)number;
    if (type == GGUF_F32)
        memcpy(out, &f32, sizeof f32);
    else if (type == GGUF_F64)
        memcpy(out, &number, sizeof number);
    else
        memcpy(out, &integer, sizeof integer);
    return type < COUNT(sizes) ? sizes[type] : 0;
}

/* Mostly as it is; sometimes left out, an odd number, or of another type. */
static void put_number(struct input *in, struct gguf_writer *w, size_t i, bool odd)
{
    unsigned char bytes[8] = {0};
    uint8_t choice = odd ? input_byte(in) : 0;
    uint32_t type = numbers[i].type;
    if (choice >= 240)
        type = choice % 16;
    size_t count = number_bytes(type, numbers[i].number, bytes);
    if (choice >= 160 && choice < 240) {
        uint64_t number = input_odd_number(in);
        memcpy(bytes, &number, sizeof number);
    }
    if (choice < 128 || choice >= 160)
        gguf_writer_value(w, numbers[i].key, type, bytes, count);
}

static void put_texts(struct input *in, struct gguf_writer *w, bool odd)
{
    static const char *const tokens[] = {"a", "<s>", "</s>", "<|im_end|>", "b", ""};
    static const char *const kinds[] = {"none", "linear", "yarn", "longrope"};
    const int32_t types[] = {1, 3, 3, 3, 1, 6};
    static const float scores[] = {0, -1, -2, -3, -4, -5};
    uint8_t choice = odd ? input_byte(in) : 0;
    gguf_writer_text(w, "general.architecture", choice < 250 ? "llama" : "gemma2");
    gguf_writer_texts(w, "tokenizer.ggml.tokens", tokens, choice % 8 == 7 ? 3 : 6);
    gguf_writer_numbers(w, "tokenizer.ggml.token_type", GGUF_I32, types, choice % 16 == 9 ? 2 : 6,
                        4);
    gguf_writer_numbers(w, "tokenizer.ggml.scores", GGUF_F32, scores, 6, 4);
    gguf_writer_text(w, "llama.rope.scaling.type", kinds[choice / 4 % 4]);
}

/* Sizes, type and place as they are or odd; the data is as long as the good one. */
static void put_tensor(struct input *in, struct gguf_writer *w, size_t i, bool odd)
{
    static const unsigned char data[DATA_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 0, 0x3c};
    uint64_t shape[] = {tensors[i].rows, tensors[i].columns};
    uint32_t type = tensors[i].type, rank = tensors[i].rows > 0 ? 2 : 1;
    size_t bytes = DATA_BYTES;
    uint8_t choice = odd ? input_byte(in) : 0;
    if (choice >= 240)
        return;
    if (choice >= 224)
        type = input_byte(in) % 42;
    else if (choice >= 192)
        shape[choice % 2] = input_odd_number(in);
    else if (choice >= 184)
        rank = choice % 8;
    if (choice >= 176 && choice < 184)
        gguf_writer_entry(w, tensors[i].name, type, shape + 2 - rank, rank, input_odd_number(in));
    else
        gguf_writer_tensor(w, tensors[i].name, type, rank <= 2 ? shape + 2 - rank : shape,
                           rank <= 2 ? rank : 2, data, bytes);
}

static void write_file(struct input *in, struct gguf_writer *w, bool odd)
{
    static const float ones[4] = {1, 1, 2, 8};
    put_texts(in, w, odd);
    for (size_t i = 0; i < COUNT(numbers); i++)
        put_number(in, w, i, odd);
    for (size_t i = 0; i + 1 < COUNT(tensors); i++)
        put_tensor(in, w, i, odd);
    if (!odd || input_byte(in) % 2 == 0)
        gguf_writer_tensor(w, "rope_freqs.weight", 0, (const uint64_t[]){4}, 1, ones, sizeof ones);
}

/* Keys that make it file `slot` of two. */
static void put_split(struct gguf_writer *w, uint16_t slot, uint16_t count, int32_t tensor_count)
{
    gguf_writer_value(w, "split.no", GGUF_U16, &slot, sizeof slot);
    gguf_writer_value(w, "split.count", GGUF_U16, &count, sizeof count);
    gguf_writer_value(w, "split.tensors.count", GGUF_I32, &tensor_count, sizeof tensor_count);
}

/* ---- reading ---- */

static void walk_values(const struct gguf *gguf)
{
    for (size_t i = 0; i < gguf->value_count; i++) {
        const struct gguf_value *value = &gguf->values[i];
        struct gguf_text text;
        size_t sum = gguf_text_show(value->key).text[0] != '\0';
        if (value->type != GGUF_ARRAY)
            continue;
        if (value->item_type == GGUF_TEXT)
            for (struct gguf_texts walk = gguf_texts(value); gguf_texts_next(&walk, &text);)
                sum += text.length > 0 ? (unsigned char)text.bytes[text.length - 1] : 0;
        else if (value->count > 0)
            sum += value->bytes[value->byte_count - 1];
        CHECK(sum < SIZE_MAX);
    }
}

static void read_tensor(struct model_source *source, const char *name)
{
    struct source_tensor t;
    struct llm_error error = {0};
    if (model_source_find(source, name, &t, &error) != LLM_OK) {
        CHECK(strlen(error.message) > 0);
        return;
    }
    if (!t.known || t.rows == 0)
        return;
    /* accepted, so no larger than the file: but a block of 18 bytes has 32 numbers */
    CHECK(t.rows * t.columns <= 16 * (uint64_t)DATA_BYTES * COUNT(tensors));
    void *out = malloc((size_t)(t.rows * t.columns) * kernel_dtype_bytes(t.dtype) + 1);
    CHECK(out != NULL);
    if (model_source_read(source, &t, 0, t.rows, out, &error) == LLM_OK)
        CHECK(model_source_read(source, &t, t.rows - 1, 1, out, &error) == LLM_OK);
    else
        CHECK(strlen(error.message) > 0);
    free(out);
}

static void hear(void *self, const char *sentence)
{
    (void)self;
    CHECK(strlen(sentence) > 0);
}

static void check_config(const struct model_config *c)
{
    CHECK(c->kv_head_count > 0 && c->head_count % c->kv_head_count == 0);
    CHECK(c->head_dim % 2 == 0 && c->head_dim >= 2 && c->head_dim <= 1024);
    CHECK(c->vocab_size >= 1 && c->vocab_size <= 1u << 24);
    CHECK(c->bos_token_id < (int64_t)c->vocab_size);
    CHECK(c->eos_token_count <= MODEL_EOS_IDS_MAX);
    CHECK(c->rope.divisor_count == 0 || c->rope.divisor_count == c->head_dim / 2);
    for (uint32_t i = 0; i < c->eos_token_count; i++)
        CHECK(c->eos_token_ids[i] >= 0 && (uint32_t)c->eos_token_ids[i] < c->vocab_size);
}

static void open_and_read(struct fuzzed_files *fuzzed)
{
    static const struct model_notes notes = {.note = hear};
    struct model_files files = {.gguf = FIRST, .open = open_fuzzed, .self = fuzzed};
    struct model_source source;
    struct gguf gguf;
    struct llm_error error = {0};
    if (gguf_open(&gguf, &files, FIRST, &error) == LLM_OK)
        walk_values(&gguf);
    else
        CHECK(strlen(error.message) > 0);
    gguf_close(&gguf);
    if (model_source_open(&source, &files, &notes, &error) != LLM_OK) {
        CHECK(strlen(error.message) > 0);
        return;
    }
    check_config(&source.config);
    for (size_t i = 0; i < COUNT(tensors); i++)
        read_tensor(&source, tensors[i].plan);
    model_source_close(&source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct fuzzed_files fuzzed = {{NULL, NULL}, {0, 0}};
    struct gguf_writer first, second;
    uint8_t choice = input_byte(&in);
    gguf_writer_open(&first);
    gguf_writer_open(&second);
    bool split = choice & 4, as_it_is = choice % 4 == 0;
    if (!as_it_is) {
        write_file(&in, &first, choice & 1);
        if (split) {
            int32_t tensor_count = (int32_t)first.tensor_count + 1;
            put_split(&first, 0, 2, choice & 8 ? tensor_count : input_byte(&in));
            put_split(&second, 1, 2, tensor_count);
            put_tensor(&in, &second, COUNT(tensors) - 1, choice & 1);
        }
        gguf_writer_finish(&first);
        gguf_writer_finish(&second);
        fuzzed = (struct fuzzed_files){{first.file.bytes, second.file.bytes},
                                       {first.file.count, second.file.count}};
        for (uint8_t edits = choice & 2 ? input_byte(&in) % 8 : 0; edits > 0; edits--)
            input_edit(&in, split && edits % 2 ? second.file.bytes : first.file.bytes,
                       split && edits % 2 ? second.file.count : first.file.count);
    } else {
        fuzzed = (struct fuzzed_files){{in.data, NULL}, {in.left, 0}};
    }
    open_and_read(&fuzzed);
    gguf_writer_close(&first);
    gguf_writer_close(&second);
    return 0;
}
