#include "tests/daemon/tiny_model.h"

#include "kernels/dtype.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NORM_EPS   1e-5
#define ROPE_THETA 10000.0

uint64_t tiny_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static enum kernel_dtype dtype_of(const struct tiny_shape *shape, const char *name)
{
    if (strcmp(shape->dtype, "F32") == 0 || (shape->mixed && strstr(name, "k_proj") != NULL))
        return KERNEL_F32;
    return strcmp(shape->dtype, "BF16") == 0 ? KERNEL_BF16 : KERNEL_F16;
}

/* As safetensors spell it. */
static const char *dtype_name(enum kernel_dtype dtype)
{
    return dtype == KERNEL_F32 ? "F32" : dtype == KERNEL_BF16 ? "BF16" : "F16";
}

/* ---- weights ---- */

/* Sum of four uniforms: near enough to a normal variate. */
static double random_near_normal(uint64_t *state)
{
    double sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (double)(tiny_random(state) >> 11) * 0x1p-53 - 0.5;
    return sum * sqrt(3.0);
}

static void add_tensor(struct tiny_model *tiny, uint64_t *state, int rows, int columns, double mean,
                       double spread, const char *name)
{
    must(tiny->tensor_count < TINY_TENSORS_MAX ? tiny : NULL);
    struct tiny_tensor *t = &tiny->tensors[tiny->tensor_count++];
    *t = (struct tiny_tensor){
        .rows = rows, .columns = columns, .dtype = dtype_of(&tiny->shape, name)};
    snprintf(t->name, sizeof t->name, "%s", name);
    size_t count = (size_t)(rows == 0 ? 1 : rows) * (size_t)columns;
    t->values = must(malloc(count * sizeof *t->values));
    for (size_t i = 0; i < count; i++) {
        float value = (float)(mean + spread * random_near_normal(state)), rounded;
        unsigned char bytes[4];
        kernel_store(bytes, t->dtype, 0, value);
        rounded = kernel_load(bytes, t->dtype, 0);
        t->values[i] = (double)rounded;
    }
}

static void add_layer(struct tiny_model *tiny, uint64_t *state, int layer)
{
    const struct tiny_shape *s = &tiny->shape;
    const int q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    const struct {
        const char *name;
        int rows, columns;
    } all[] = {
        {"input_layernorm", 0, s->hidden},
        {"self_attn.q_proj", q, s->hidden},
        {"self_attn.k_proj", kv, s->hidden},
        {"self_attn.v_proj", kv, s->hidden},
        {"self_attn.o_proj", s->hidden, q},
        {"post_attention_layernorm", 0, s->hidden},
        {"mlp.gate_proj", s->feed_forward, s->hidden},
        {"mlp.up_proj", s->feed_forward, s->hidden},
        {"mlp.down_proj", s->hidden, s->feed_forward},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, all[i].name);
        bool norm = all[i].rows == 0;
        add_tensor(tiny, state, all[i].rows, all[i].columns, norm ? 1.0 : 0.0,
                   norm ? 0.2 : 1.5 / sqrt((double)all[i].columns), name);
    }
}

static void add_tensors(struct tiny_model *tiny, uint64_t seed)
{
    const struct tiny_shape *s = &tiny->shape;
    uint64_t state = seed;
    add_tensor(tiny, &state, s->vocab, s->hidden, 0.0, 1.0, "model.embed_tokens.weight");
    for (int l = 0; l < s->layers; l++)
        add_layer(tiny, &state, l);
    add_tensor(tiny, &state, 0, s->hidden, 1.0, 0.2, "model.norm.weight");
    if (!s->tied)
        add_tensor(tiny, &state, s->vocab, s->hidden, 0.0, 1.0 / sqrt((double)s->hidden),
                   "lm_head.weight");
}

/* ---- files ---- */

const char *tiny_model_path(const struct tiny_model *tiny, const char *file)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", tiny->directory, file);
    return path;
}

static FILE *create(const struct tiny_model *tiny, const char *file)
{
    return must(fopen(tiny_model_path(tiny, file), "wb"));
}

static void write_config(const struct tiny_model *tiny)
{
    const struct tiny_shape *s = &tiny->shape;
    FILE *f = create(tiny, "config.json");
    fprintf(f,
            "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_act\": \"silu\",\n"
            " \"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d,\n"
            " \"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": %d,\n"
            " \"vocab_size\": %d, \"max_position_embeddings\": %d, \"rms_norm_eps\": %g,\n"
            " \"rope_theta\": %g, \"rope_scaling\": null, \"tie_word_embeddings\": %s,\n"
            " \"bos_token_id\": 1, \"eos_token_id\": [2, 3], \"a_key_we_do_not_know\": {}}\n",
            s->hidden, s->feed_forward, s->layers, s->heads, s->kv_heads, s->head_dim, s->vocab,
            s->positions == 0 ? 256 : s->positions, NORM_EPS, ROPE_THETA,
            s->tied ? "true" : "false");
    fclose(f);
}

static size_t tensor_count_of(const struct tiny_tensor *t)
{
    return (size_t)(t->rows == 0 ? 1 : t->rows) * (size_t)t->columns;
}

/* Tensors first..end of the order; shuffled files hold them backwards. */
static void write_safetensors(const struct tiny_model *tiny, const char *file, int first, int end)
{
    char *header = must(malloc(160 * TINY_TENSORS_MAX));
    size_t used = (size_t)sprintf(header, "{"), offset = 0;
    FILE *f = create(tiny, file);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = first; i < end; i++) {
            const struct tiny_tensor *t =
                &tiny->tensors[tiny->shape.shuffled ? first + end - 1 - i : i];
            size_t count = tensor_count_of(t), bytes = count * kernel_dtype_bytes(t->dtype);
            for (size_t j = 0; pass == 1 && j < count; j++) {
                unsigned char element[4];
                kernel_store(element, t->dtype, 0, (float)t->values[j]);
                fwrite(element, 1, kernel_dtype_bytes(t->dtype), f);
            }
            char shape[32];
            if (t->rows == 0)
                snprintf(shape, sizeof shape, "%d", t->columns);
            else
                snprintf(shape, sizeof shape, "%d, %d", t->rows, t->columns);
            if (pass == 0)
                used += (size_t)sprintf(header + used,
                                        "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [%s], "
                                        "\"data_offsets\": [%zu, %zu]}",
                                        i > first ? ", " : "", t->name, dtype_name(t->dtype), shape,
                                        offset, offset + bytes);
            offset += bytes;
        }
        if (pass == 0) {
            used += (size_t)sprintf(header + used, "}");
            uint64_t length = used; /* little-endian machines only, like the runtime's targets */
            fwrite(&length, sizeof length, 1, f);
            fwrite(header, 1, used, f);
        }
    }
    fclose(f);
    free(header);
}

static void write_shards(const struct tiny_model *tiny)
{
    static const char *const names[] = {"model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    int half = tiny->tensor_count / 2;
    write_safetensors(tiny, names[0], 0, half);
    write_safetensors(tiny, names[1], half, tiny->tensor_count);
    FILE *f = create(tiny, "model.safetensors.index.json");
    fprintf(f, "{\"metadata\": {}, \"weight_map\": {");
    for (int i = 0; i < tiny->tensor_count; i++)
        fprintf(f, "%s\"%s\": \"%s\"", i > 0 ? ", " : "", tiny->tensors[i].name, names[i >= half]);
    fprintf(f, "}}");
    fclose(f);
}

void tiny_model_open(struct tiny_model *tiny, const struct tiny_shape *shape, uint64_t seed)
{
    *tiny = (struct tiny_model){.shape = *shape};
    const char *parent = getenv("TMPDIR");
    snprintf(tiny->directory, sizeof tiny->directory, "%s/llmd-tiny-XXXXXX",
             parent != NULL && strlen(parent) < 40 ? parent : "/tmp");
    must(mkdtemp(tiny->directory));
    add_tensors(tiny, seed);
    write_config(tiny);
    if (shape->sharded)
        write_shards(tiny);
    else
        write_safetensors(tiny, "model.safetensors", 0, tiny->tensor_count);
}

void tiny_model_close(struct tiny_model *tiny)
{
    static const char *const files[] = {"config.json",
                                        "generation_config.json",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        unlink(tiny_model_path(tiny, files[i]));
    rmdir(tiny->directory);
    for (int i = 0; i < tiny->tensor_count; i++)
        free(tiny->tensors[i].values);
}

/* ---- the model in f64, from the formulas ---- */

static const double *tensor_of(const struct tiny_model *tiny, int layer, const char *name)
{
    char full[64];
    if (layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "model.layers.%d.%s.weight", layer, name);
    for (int i = 0; i < tiny->tensor_count; i++)
        if (strcmp(tiny->tensors[i].name, full) == 0)
            return tiny->tensors[i].values;
    abort();
}

/* out[r] = sum over c of w[r][c] x[c] */
static void multiply(double *out, const double *w, const double *x, int rows, int columns)
{
    for (int r = 0; r < rows; r++) {
        out[r] = 0;
        for (int c = 0; c < columns; c++)
            out[r] += w[r * columns + c] * x[c];
    }
}

static void normalise(double *out, const double *x, const double *gain, int width)
{
    double squares = 0;
    for (int i = 0; i < width; i++)
        squares += x[i] * x[i];
    for (int i = 0; i < width; i++)
        out[i] = x[i] / sqrt(squares / width + NORM_EPS) * gain[i];
}

static void rotate(double *heads, int head_count, int head_dim, int position)
{
    for (int h = 0; h < head_count; h++) {
        double *x = heads + h * head_dim;
        for (int i = 0; i < head_dim / 2; i++) {
            double angle = position / pow(ROPE_THETA, 2.0 * i / head_dim);
            double a = x[i], b = x[i + head_dim / 2];
            x[i] = a * cos(angle) - b * sin(angle);
            x[i + head_dim / 2] = b * cos(angle) + a * sin(angle);
        }
    }
}

/* One head of one token over all keys so far. keys, values: rows of kv_width for positions 0..count-1. */
static void attend(double *out, const double *q, const double *keys, const double *values,
                   int count, int kv_width, int head_dim)
{
    double *weights = must(malloc((size_t)count * sizeof *weights));
    double total = 0;
    for (int p = 0; p < count; p++) {
        double score = 0;
        for (int d = 0; d < head_dim; d++)
            score += q[d] * keys[p * kv_width + d];
        weights[p] = exp(score / sqrt((double)head_dim));
        total += weights[p];
    }
    for (int d = 0; d < head_dim; d++) {
        out[d] = 0;
        for (int p = 0; p < count; p++)
            out[d] += weights[p] / total * values[p * kv_width + d];
    }
    free(weights);
}

/* Scratch of one token, and the keys and values of all. */
struct pass {
    const struct tiny_model *tiny;
    double *x, *normed, *q, *attended, *gate, *up, *added;
    double *keys, *values; /* [layers][count][kv_width] */
    int count;
};

static void layer_forward(struct pass *p, int layer, int position)
{
    const struct tiny_shape *s = &p->tiny->shape;
    int q_width = s->heads * s->head_dim, kv_width = s->kv_heads * s->head_dim;
    double *keys = p->keys + (size_t)layer * (size_t)p->count * (size_t)kv_width;
    double *values = p->values + (size_t)layer * (size_t)p->count * (size_t)kv_width;
    double *key = keys + position * kv_width, *value = values + position * kv_width;

    normalise(p->normed, p->x, tensor_of(p->tiny, layer, "input_layernorm"), s->hidden);
    multiply(p->q, tensor_of(p->tiny, layer, "self_attn.q_proj"), p->normed, q_width, s->hidden);
    multiply(key, tensor_of(p->tiny, layer, "self_attn.k_proj"), p->normed, kv_width, s->hidden);
    multiply(value, tensor_of(p->tiny, layer, "self_attn.v_proj"), p->normed, kv_width, s->hidden);
    rotate(p->q, s->heads, s->head_dim, position);
    rotate(key, s->kv_heads, s->head_dim, position);
    for (int h = 0; h < s->heads; h++) {
        int g = h / (s->heads / s->kv_heads) * s->head_dim;
        attend(p->attended + h * s->head_dim, p->q + h * s->head_dim, keys + g, values + g,
               position + 1, kv_width, s->head_dim);
    }
    multiply(p->added, tensor_of(p->tiny, layer, "self_attn.o_proj"), p->attended, s->hidden,
             q_width);
    for (int i = 0; i < s->hidden; i++)
        p->x[i] += p->added[i];

    normalise(p->normed, p->x, tensor_of(p->tiny, layer, "post_attention_layernorm"), s->hidden);
    multiply(p->gate, tensor_of(p->tiny, layer, "mlp.gate_proj"), p->normed, s->feed_forward,
             s->hidden);
    multiply(p->up, tensor_of(p->tiny, layer, "mlp.up_proj"), p->normed, s->feed_forward,
             s->hidden);
    for (int i = 0; i < s->feed_forward; i++)
        p->gate[i] = p->gate[i] / (1 + exp(-p->gate[i])) * p->up[i];
    multiply(p->added, tensor_of(p->tiny, layer, "mlp.down_proj"), p->gate, s->hidden,
             s->feed_forward);
    for (int i = 0; i < s->hidden; i++)
        p->x[i] += p->added[i];
}

void tiny_model_logits(const struct tiny_model *tiny, const int32_t *ids, int count, double *out)
{
    const struct tiny_shape *s = &tiny->shape;
    size_t widest = (size_t)(s->hidden + s->feed_forward + s->heads * s->head_dim);
    size_t cache = (size_t)s->layers * (size_t)count * (size_t)(s->kv_heads * s->head_dim);
    double *memory = must(malloc((7 * widest + 2 * cache) * sizeof *memory));
    struct pass p = {tiny,
                     memory,
                     memory + widest,
                     memory + 2 * widest,
                     memory + 3 * widest,
                     memory + 4 * widest,
                     memory + 5 * widest,
                     memory + 6 * widest,
                     memory + 7 * widest,
                     memory + 7 * widest + cache,
                     count};
    const double *embedding = tensor_of(tiny, -1, "model.embed_tokens.weight");
    const double *output = s->tied ? embedding : tensor_of(tiny, -1, "lm_head.weight");
    for (int t = 0; t < count; t++) {
        memcpy(p.x, embedding + ids[t] * s->hidden, (size_t)s->hidden * sizeof *p.x);
        for (int l = 0; l < s->layers; l++)
            layer_forward(&p, l, t);
        normalise(p.normed, p.x, tensor_of(tiny, -1, "model.norm.weight"), s->hidden);
        multiply(out + (size_t)t * (size_t)s->vocab, output, p.normed, s->vocab, s->hidden);
    }
    free(memory);
}
