#include "daemon/model/weights.h"

#include "kernels/quant.h"
#include "shm/check.h"
#include "shm/crash_point.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LAYOUT_VERSION   2u /* of this file's own layout; a change makes kept weights stale */
#define COMMIT_WORD      UINT64_C(0x646e656465746377)
#define HEADER_BYTES     4096
#define STAGING_BYTES    ((size_t)4 << 20)
#define SHAPE_TEXT_BYTES 128

struct weights_header {
    _Atomic uint64_t commit; /* COMMIT_WORD: everything after it is whole; stored last */
    unsigned char identity[WEIGHTS_HASH_BYTES];
    unsigned char fingerprint[WEIGHTS_HASH_BYTES];
};
static_assert(sizeof(struct weights_header) <= HEADER_BYTES, "the header has one page");

/* The work of one weights_open(). */
struct packing {
    const struct weights_source *source;
    struct weights *weights;
    size_t *offsets; /* [plan->weight_count] where each weight stands in the piece */
    unsigned char *base;
    unsigned char *staging;
    size_t staging_bytes;
    crypto_generichash_state fingerprint;
};

/* ---- which tensor is which part, and does its shape agree ---- */

/* "14336 x 4096", "64", "a single number" */
static void shape_text(const struct source_tensor *tensor, char *text, size_t bytes)
{
    size_t used = 0;
    snprintf(text, bytes, "a single number");
    for (uint32_t i = 0; i < tensor->rank && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%" PRIu64, i > 0 ? " x " : "",
                                 tensor->shape[i]);
}

static enum llm_status check_shape(const struct plan_weight *weight, const struct plan_part *part,
                                   const struct source_tensor *tensor, struct llm_error *error)
{
    char is[SHAPE_TEXT_BYTES];
    shape_text(tensor, is, sizeof is);
    if (weight->kind == PLAN_WEIGHT_VECTOR) {
        int32_t count = part->rows * weight->K;
        if (tensor->rank != 1 || tensor->shape[0] != (uint64_t)count)
            return llm_fail(error, LLM_ERR_INVALID,
                            "tensor \"%s\" is %s, the configuration says %" PRId32, tensor->name,
                            is, count);
    } else if (tensor->rank != 2 || tensor->shape[0] != (uint64_t)part->rows ||
               tensor->shape[1] != (uint64_t)weight->K) {
        return llm_fail(error, LLM_ERR_INVALID,
                        "tensor \"%s\" is %s, the configuration says %" PRId32 " x %" PRId32,
                        tensor->name, is, part->rows, weight->K);
    }
    return LLM_OK;
}

static enum llm_status find_part(const struct weights_source *source,
                                 const struct plan_weight *weight, const struct plan_part *part,
                                 struct source_tensor *out_tensor, struct llm_error *error)
{
    enum llm_status status = model_source_find(source->files, part->tensor, out_tensor, error);
    if (status == LLM_OK)
        status = check_shape(weight, part, out_tensor, error);
    if (status == LLM_OK && !out_tensor->known)
        status = llm_fail(error, LLM_ERR_UNSUPPORTED,
                          "tensor \"%s\" is of type %s; this build reads F32, F16, BF16 and from "
                          "GGUF Q8_0, Q4_0, Q4_K, Q6_K",
                          out_tensor->name, out_tensor->type);
    return status;
}

/* A weight is kept in its tensors' own dtype; where they differ, in f32, which holds both exactly. */
static enum llm_status find_parts(const struct weights_source *source,
                                  const struct plan_weight *weight, enum kernel_dtype *out_dtype,
                                  struct llm_error *error)
{
    for (int32_t i = 0; i < weight->part_count; i++) {
        struct source_tensor tensor;
        enum llm_status status = find_part(source, weight, &weight->parts[i], &tensor, error);
        if (status != LLM_OK)
            return status;
        *out_dtype = i == 0 || tensor.dtype == *out_dtype ? tensor.dtype : KERNEL_F32;
    }
    return LLM_OK;
}

struct others {
    char text[32];
};

/* " and 30 others", or nothing. */
static struct others others(int32_t count)
{
    struct others words = {""};
    if (count > 1)
        snprintf(words.text, sizeof words.text, " and %" PRId32 " other%s", count - 1,
                 count > 2 ? "s" : "");
    return words;
}

/* One note per type in blocks: how many tensors of it are converted, and to what. */
static void note_conversions(const struct weights_source *source)
{
    const struct plan *plan = source->plan;
    for (int quant = 0; quant < KERNEL_QUANT_COUNT; quant++) {
        const char *type = kernel_quant_format((enum kernel_quant)quant)->name;
        struct source_tensor tensor, last = {.dtype = KERNEL_F32};
        int32_t count = 0;
        for (int32_t i = 0; i < plan->weight_count; i++)
            for (int32_t j = 0; j < plan->weights[i].part_count; j++)
                if (model_source_find(source->files, plan->weights[i].parts[j].tensor, &tensor,
                                      NULL) == LLM_OK &&
                    tensor.quantised && strcmp(tensor.type, type) == 0) {
                    last = tensor;
                    count++;
                }
        if (count > 0)
            model_note(source->notes, "weights of type %s are converted to %s: %s%s", type,
                       kernel_dtype_name(last.dtype), last.name, others(count).text);
    }
}

/* ---- where each weight stands ---- */

static size_t round_up(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

static size_t weight_bytes(const struct kernel_ops *ops, const struct plan_weight *weight,
                           enum kernel_dtype dtype)
{
    switch (weight->kind) {
    case PLAN_WEIGHT_MATRIX:
        return ops->matrix_bytes(dtype, weight->N, weight->K);
    case PLAN_WEIGHT_TABLE:
        return (size_t)weight->N * (size_t)weight->K * kernel_dtype_bytes(dtype);
    case PLAN_WEIGHT_VECTOR:
        break;
    }
    return (size_t)weight->N * (size_t)weight->K * sizeof(float);
}

/* Give every weight its dtype, its shape and its offset. */
static enum llm_status lay_out(struct packing *p, struct llm_error *error)
{
    const struct plan *plan = p->source->plan;
    size_t offset = HEADER_BYTES;
    for (int32_t i = 0; i < plan->weight_count; i++) {
        const struct plan_weight *weight = &plan->weights[i];
        enum kernel_dtype dtype = KERNEL_F32;
        enum llm_status status = find_parts(p->source, weight, &dtype, error);
        if (status != LLM_OK)
            return status;
        if (i == 0) /* every plan begins with the embedding */
            p->weights->dtype = dtype;
        p->weights->places[i] = (struct plan_weight_memory){
            .matrix = {.dtype = dtype, .N = weight->N, .K = weight->K},
            .table = {.dtype = dtype, .V = weight->N, .D = weight->K},
        };
        p->offsets[i] = offset;
        offset +=
            round_up(weight_bytes(p->source->stream->ops, weight, dtype), KERNEL_PANEL_ALIGN_BYTES);
        p->weights->parameter_count += (uint64_t)weight->N * (uint64_t)weight->K;
    }
    p->weights->bytes = round_up(offset, (size_t)sysconf(_SC_PAGESIZE));
    return LLM_OK;
}

static void place_all(struct packing *p)
{
    for (int32_t i = 0; i < p->source->plan->weight_count; i++) {
        void *address = p->base + p->offsets[i];
        p->weights->places[i].matrix.panels = address;
        p->weights->places[i].table.rows = address;
        p->weights->places[i].vector = address;
    }
}

/* ---- hashes: each item is preceded by its length, so no two lists of items look alike ---- */

static void hash_bytes(crypto_generichash_state *hash, const void *bytes, size_t count)
{
    crypto_generichash_update(hash, bytes, count);
}

static void hash_u64(crypto_generichash_state *hash, uint64_t value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(value >> 8 * i);
    hash_bytes(hash, bytes, sizeof bytes);
}

static void hash_text(crypto_generichash_state *hash, const char *text)
{
    hash_u64(hash, strlen(text));
    hash_bytes(hash, text, strlen(text));
}

static void hash_real(crypto_generichash_state *hash, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    hash_u64(hash, bits);
}

/* The numbers of the configuration that change what is computed. */
static void hash_config(crypto_generichash_state *hash, const struct model_config *c)
{
    hash_text(hash, model_architecture_name(c->architecture));
    const uint32_t sizes[] = {c->hidden_size,
                              c->intermediate_size,
                              c->layer_count,
                              c->head_count,
                              c->kv_head_count,
                              c->head_dim,
                              c->vocab_size,
                              c->tied_embeddings,
                              c->sliding_window,
                              c->full_attention_layers,
                              c->qkv_bias,
                              c->output_bias,
                              c->mlp_bias,
                              c->qk_norm,
                              (uint32_t)c->rope.kind,
                              c->rope.original_context_tokens,
                              c->rope.between_dimensions};
    const double reals[] = {
        (double)(float)c->rms_norm_eps, /* as the kernels get it, and GGUF has it */
        c->rope_theta,
        c->rope.factor,
        c->rope.low_freq_factor,
        c->rope.high_freq_factor,
        c->rope.beta_fast,
        c->rope.beta_slow,
        c->rope.attention_factor};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        hash_u64(hash, sizes[i]);
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
        hash_real(hash, reals[i]);
    for (uint32_t i = 0; i < c->rope.divisor_count; i++)
        hash_real(hash, (double)c->rope.divisors[i]);
}

/* What the kernels get, whatever the file has it as. */
static void hash_tensor(crypto_generichash_state *hash, const char *name,
                        const struct source_tensor *t)
{
    static const char *const dtypes[KERNEL_DTYPE_COUNT] = {"F32", "BF16", "F16"};
    hash_text(hash, name);
    hash_text(hash, dtypes[t->dtype]);
    hash_u64(hash, t->rank);
    for (uint32_t i = 0; i < t->rank; i++)
        hash_u64(hash, t->shape[i]);
}

static void hash_files(crypto_generichash_state *hash, const struct model_source *files)
{
    uint32_t count = model_source_file_count(files);
    hash_u64(hash, count);
    for (uint32_t i = 0; i < count; i++) {
        const char *name;
        const struct model_file_stat *st = model_source_file(files, i, &name);
        hash_text(hash, name);
        hash_u64(hash, st->bytes);
        hash_u64(hash, st->device);
        hash_u64(hash, st->inode);
        hash_u64(hash, (uint64_t)st->modified_ns);
    }
}

static void hash_places(crypto_generichash_state *hash, const struct packing *p)
{
    const struct plan *plan = p->source->plan;
    for (int32_t i = 0; i < plan->weight_count; i++) {
        const struct plan_weight *weight = &plan->weights[i];
        hash_u64(hash, (uint64_t)weight->kind);
        hash_u64(hash, (uint64_t)p->weights->places[i].matrix.dtype);
        hash_u64(hash, p->offsets[i]);
        for (int32_t j = 0; j < weight->part_count; j++) {
            struct source_tensor tensor;
            CHECK(model_source_find(p->source->files, weight->parts[j].tensor, &tensor, NULL) ==
                  LLM_OK);
            hash_tensor(hash, weight->parts[j].tensor, &tensor);
            hash_text(hash, tensor.type);
        }
    }
}

/* What decides every byte of the packed weights, without reading the tensors. */
static void identity_of(const struct packing *p, unsigned char out[WEIGHTS_HASH_BYTES])
{
    crypto_generichash_state hash;
    crypto_generichash_init(&hash, NULL, 0, WEIGHTS_HASH_BYTES);
    hash_text(&hash, "llmd packed weights");
    hash_u64(&hash, LAYOUT_VERSION);
    hash_text(&hash, p->source->stream->ops->matrix_layout);
    hash_config(&hash, p->source->config);
    hash_places(&hash, p);
    hash_files(&hash, p->source->files);
    crypto_generichash_final(&hash, out, WEIGHTS_HASH_BYTES);
}

/* ---- from files to panels ---- */

static void store_rows(const struct packing *p, int32_t weight_slot, const void *rows,
                       enum kernel_dtype dtype, int32_t row_first, int32_t row_count)
{
    const struct plan_weight *weight = &p->source->plan->weights[weight_slot];
    struct plan_weight_memory *place = &p->weights->places[weight_slot];
    size_t count = (size_t)row_count * (size_t)weight->K;
    unsigned char *base = place->matrix.panels;
    switch (weight->kind) {
    case PLAN_WEIGHT_MATRIX:
        p->source->stream->ops->matrix_pack(p->source->stream, &place->matrix, rows, dtype,
                                            row_first, row_count);
        break;
    case PLAN_WEIGHT_TABLE:
        memcpy(base + (size_t)row_first * (size_t)weight->K * kernel_dtype_bytes(dtype), rows,
               count * kernel_dtype_bytes(dtype));
        break;
    case PLAN_WEIGHT_VECTOR:
        base += (size_t)row_first * (size_t)weight->K * sizeof(float);
        for (size_t i = 0; i < count; i++)
            kernel_store(base, KERNEL_F32, i, kernel_load(rows, dtype, i));
        break;
    }
}

/* Read, hash and store rows [row, row + rows) of a tensor as the file has it; a vector is one row there. */
static enum llm_status pack_rows(struct packing *p, int32_t weight_slot,
                                 const struct source_tensor *tensor, int32_t row, int32_t rows,
                                 int32_t row_to, struct llm_error *error)
{
    const struct plan_weight *weight = &p->source->plan->weights[weight_slot];
    bool vector = weight->kind == PLAN_WEIGHT_VECTOR;
    enum llm_status status = model_source_read(p->source->files, tensor, vector ? 0 : (uint64_t)row,
                                               vector ? 1 : (uint64_t)rows, p->staging, error);
    if (status != LLM_OK)
        return status;
    hash_bytes(&p->fingerprint, p->staging,
               (size_t)rows * (size_t)weight->K * kernel_dtype_bytes(tensor->dtype));
    store_rows(p, weight_slot, p->staging, tensor->dtype, row_to, rows);
    return kernel_stream_wait(p->source->stream, error); /* before staging is used again */
}

/* One tensor, as many rows at a time as the staging memory holds; a vector fits as a whole. */
static enum llm_status pack_part(struct packing *p, int32_t weight_slot, int32_t part_slot,
                                 int32_t row_first, struct llm_error *error)
{
    const struct plan_weight *weight = &p->source->plan->weights[weight_slot];
    const struct plan_part *part = &weight->parts[part_slot];
    struct source_tensor tensor;
    CHECK(model_source_find(p->source->files, part->tensor, &tensor, NULL) == LLM_OK);
    size_t row_bytes = (size_t)weight->K * kernel_dtype_bytes(tensor.dtype);
    int32_t chunk_rows = (int32_t)(p->staging_bytes / row_bytes);

    hash_tensor(&p->fingerprint, part->tensor, &tensor);
    enum llm_status status = LLM_OK;
    for (int32_t row = 0; row < part->rows && status == LLM_OK; row += chunk_rows) {
        int32_t rows = part->rows - row < chunk_rows ? part->rows - row : chunk_rows;
        status = pack_rows(p, weight_slot, &tensor, row, rows, row_first + row, error);
    }
    return status;
}

static enum llm_status pack_weights(struct packing *p, struct llm_error *error)
{
    const struct plan *plan = p->source->plan;
    for (int32_t i = 0; i < plan->weight_count; i++) {
        int32_t row_first = 0;
        for (int32_t j = 0; j < plan->weights[i].part_count; j++) {
            enum llm_status status = pack_part(p, i, j, row_first, error);
            if (status != LLM_OK)
                return status;
            row_first += plan->weights[i].parts[j].rows;
        }
    }
    return LLM_OK;
}

/* The longest row and the longest vector must fit; the widest matrix of the configuration has rows of 2^22 numbers. */
static enum llm_status staging_take(struct packing *p, struct llm_error *error)
{
    p->staging_bytes = STAGING_BYTES;
    for (int32_t i = 0; i < p->source->plan->weight_count; i++) {
        const struct plan_weight *weight = &p->source->plan->weights[i];
        size_t row_bytes = (size_t)weight->K * sizeof(float);
        if (weight->kind == PLAN_WEIGHT_VECTOR)
            row_bytes *= (size_t)weight->N;
        if (row_bytes > p->staging_bytes)
            p->staging_bytes = row_bytes;
    }
    p->staging = malloc(p->staging_bytes);
    if (p->staging == NULL)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory to read weights through");
    return LLM_OK;
}

/* The order of the stores is the point: not whole, then the bytes, then whole. */
static enum llm_status pack_all(struct packing *p, const unsigned char *identity,
                                struct llm_error *error)
{
    struct weights_header *header = (struct weights_header *)(void *)p->base;
    atomic_store(&header->commit, 0);
    CRASH_POINT(weights_begin);
    crypto_generichash_init(&p->fingerprint, NULL, 0, WEIGHTS_HASH_BYTES);
    hash_text(&p->fingerprint, "llmd model");
    hash_config(&p->fingerprint, p->source->config);
    enum llm_status status = staging_take(p, error);
    if (status == LLM_OK)
        status = pack_weights(p, error);
    free(p->staging);
    if (status != LLM_OK)
        return status;
    crypto_generichash_final(&p->fingerprint, header->fingerprint, WEIGHTS_HASH_BYTES);
    memcpy(header->identity, identity, WEIGHTS_HASH_BYTES);
    CRASH_POINT(weights_bytes);
    atomic_store_explicit(&header->commit, COMMIT_WORD, memory_order_release);
    CRASH_POINT(weights_commit);
    return LLM_OK;
}

static bool is_packed(const struct weights_header *header, const unsigned char *identity)
{
    return atomic_load_explicit(&header->commit, memory_order_acquire) == COMMIT_WORD &&
           memcmp(header->identity, identity, WEIGHTS_HASH_BYTES) == 0;
}

static enum llm_status find_or_pack(struct packing *p, struct llm_error *error)
{
    unsigned char identity[WEIGHTS_HASH_BYTES];
    identity_of(p, identity);
    struct weights *w = p->weights;
    void *address;
    bool survived;
    enum llm_status status = p->source->memory->take(p->source->memory->self, "weights", w->bytes,
                                                     &address, &survived, error);
    if (status != LLM_OK)
        return status;
    p->base = address;
    place_all(p);
    const struct weights_header *header = address;
    w->kept = survived && is_packed(header, identity);
    if (!w->kept)
        status = p->source->memory->kept_only ? model_memory_changed(error)
                                              : pack_all(p, identity, error);
    if (status == LLM_OK && mprotect(address, w->bytes, PROT_READ) != 0)
        status = llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot make the weights read-only");
    if (status == LLM_OK)
        memcpy(w->fingerprint, header->fingerprint, sizeof w->fingerprint);
    return status;
}

enum llm_status weights_open(struct weights *weights, const struct weights_source *source,
                             struct llm_error *error)
{
    *weights = (struct weights){0};
    if (sodium_init() < 0)
        return llm_fail(error, LLM_ERR_SYSTEM, "libsodium finds no source of randomness");
    size_t count = (size_t)source->plan->weight_count;
    struct packing p = {.source = source, .weights = weights};
    enum llm_status status = LLM_OK;
    p.offsets = calloc(count, sizeof *p.offsets);
    weights->places = calloc(count, sizeof *weights->places);
    if (p.offsets == NULL || weights->places == NULL)
        status = llm_fail(error, LLM_ERR_MEMORY, "no memory for a table of %zu weights", count);
    if (status == LLM_OK)
        status = lay_out(&p, error);
    if (status == LLM_OK)
        note_conversions(source);
    if (status == LLM_OK)
        status = find_or_pack(&p, error);
    free(p.offsets);
    if (status != LLM_OK)
        weights_close(weights);
    return status;
}

void weights_close(struct weights *weights)
{
    free(weights->places);
    *weights = (struct weights){0};
}
