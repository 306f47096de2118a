#include "tests/daemon/tiny_gguf.h"

#include "kernels/dtype.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_u32(struct gguf_writer *w, const char *family, const char *rest, int value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", family, rest);
    gguf_writer_u32(w, key, (uint32_t)value);
}

static void put_f32(struct gguf_writer *w, const char *family, const char *rest, float value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", family, rest);
    gguf_writer_f32(w, key, value);
}

void tiny_gguf_keys(struct gguf_writer *w, const char *family, const struct tiny_shape *s)
{
    const char **tokens = calloc((size_t)s->vocab, sizeof *tokens);
    if (tokens == NULL)
        abort();
    for (int i = 0; i < s->vocab; i++)
        tokens[i] = "t";
    gguf_writer_text(w, "general.architecture", family);
    put_u32(w, family, "embedding_length", s->hidden);
    put_u32(w, family, "feed_forward_length", s->feed_forward);
    put_u32(w, family, "block_count", s->layers);
    put_u32(w, family, "context_length", 256);
    put_u32(w, family, "attention.head_count", s->heads);
    put_u32(w, family, "attention.head_count_kv", s->kv_heads);
    put_u32(w, family, "attention.key_length", s->head_dim);
    put_u32(w, family, "attention.value_length", s->head_dim);
    put_u32(w, family, "rope.dimension_count", s->head_dim);
    put_f32(w, family, "rope.freq_base", 10000.0f);
    put_f32(w, family, "attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_writer_texts(w, "tokenizer.ggml.tokens", tokens, (uint64_t)s->vocab);
    gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 2);
    free(tokens);
}

/* "model.layers.3.self_attn.q_proj.weight" is "blk.3.attn_q.weight". */
static void short_name(const char *name, char *out, size_t bytes)
{
    static const char *const pairs[][2] = {
        {"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"},
        {"self_attn.q_proj", "attn_q"},   {"self_attn.k_proj", "attn_k"},
        {"self_attn.v_proj", "attn_v"},   {"self_attn.o_proj", "attn_output"},
        {"mlp.gate_proj", "ffn_gate"},    {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"},
    };
    int layer = 0;
    snprintf(out, bytes, "%s",
             strcmp(name, "model.embed_tokens.weight") == 0 ? "token_embd.weight"
             : strcmp(name, "model.norm.weight") == 0       ? "output_norm.weight"
                                                            : "output.weight");
    if (sscanf(name, "model.layers.%d.", &layer) != 1)
        return;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        if (strstr(name, pairs[i][0]) != NULL)
            snprintf(out, bytes, "blk.%d.%s.weight", layer, pairs[i][1]);
}

/* As converters do: each head's rows, seen as [2, D / 2], are transposed. */
static int row_to(const struct tiny_model *tiny, const struct tiny_tensor *t, int row)
{
    int D = tiny->shape.head_dim, head = row / D, half = row % D / (D / 2), i = row % (D / 2);
    if (strstr(t->name, "q_proj") == NULL && strstr(t->name, "k_proj") == NULL)
        return row;
    return head * D + 2 * i + half;
}

void tiny_gguf_tensors(struct gguf_writer *w, const struct tiny_model *tiny)
{
    static const uint32_t types[KERNEL_DTYPE_COUNT] = {0, 30, 1}; /* F32, BF16, F16 */
    for (int i = 0; i < tiny->tensor_count; i++) {
        const struct tiny_tensor *t = &tiny->tensors[i];
        int rows = t->rows == 0 ? 1 : t->rows;
        size_t element = kernel_dtype_bytes(t->dtype), count = (size_t)rows * (size_t)t->columns;
        unsigned char *data = malloc(count * element);
        if (data == NULL)
            abort();
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < t->columns; c++)
                kernel_store(data, t->dtype, (size_t)(row_to(tiny, t, r) * t->columns + c),
                             (float)t->values[r * t->columns + c]);
        char name[64];
        short_name(t->name, name, sizeof name);
        const uint64_t shape[] = {(uint64_t)t->rows, (uint64_t)t->columns};
        gguf_writer_tensor(w, name, types[t->dtype], t->rows == 0 ? shape + 1 : shape,
                           t->rows == 0 ? 1 : 2, data, count * element);
        free(data);
    }
}
