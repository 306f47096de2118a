#include "daemon/model/model_source.h"

#include "daemon/model/model_config_gguf.h"
#include "daemon/model/model_config_strange.h"
#include "daemon/model/tensor_names.h"
#include "kernels/quant.h"
#include "shm/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SCRATCH_BYTES ((size_t)256 << 10)
#define QUANT_NONE    KERNEL_QUANT_COUNT

#define NARROW_ELEMENTS 2048 /* a multiple of every block */

/* ---- types by their names in files ---- */

static bool dtype_named(const char *name, enum kernel_dtype *out_dtype)
{
    static const struct {
        const char *name;
        enum kernel_dtype dtype;
    } known[] = {{"F32", KERNEL_F32}, {"BF16", KERNEL_BF16}, {"F16", KERNEL_F16}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i].name) == 0) {
            *out_dtype = known[i].dtype;
            return true;
        }
    }
    return false;
}

static enum kernel_quant quant_named(const char *name)
{
    for (int i = 0; i < KERNEL_QUANT_COUNT; i++)
        if (strcmp(name, kernel_quant_format((enum kernel_quant)i)->name) == 0)
            return (enum kernel_quant)i;
    return QUANT_NONE;
}

/* ---- finding ---- */

static void fill_type(struct source_tensor *t, const char *type)
{
    t->type = type;
    t->known = dtype_named(type, &t->dtype);
    if (!t->known && t->in_gguf != NULL && quant_named(type) != QUANT_NONE) {
        t->known = t->quantised = true;
        t->dtype = KERNEL_F16;
    }
}

static void fill_shape(struct source_tensor *t, const uint64_t *shape, uint32_t rank)
{
    t->rank = rank;
    t->rows = t->columns = 1;
    for (uint32_t i = 0; i < rank; i++) {
        t->shape[i] = shape[i];
        if (i + 1 == rank)
            t->columns = shape[i];
        else
            t->rows *= shape[i]; /* the readers checked the whole product, zeros apart: */
    }
    if (t->columns == 0)
        t->rows = 0;
}

static bool is_q_or_k(const char *gguf_name)
{
    static const char *const endings[] = {".attn_q.weight", ".attn_k.weight", ".attn_q.bias",
                                          ".attn_k.bias"};
    size_t bytes = strlen(gguf_name);
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        if (bytes > strlen(endings[i]) &&
            strcmp(gguf_name + bytes - strlen(endings[i]), endings[i]) == 0)
            return true;
    return false;
}

static enum llm_status find_in_gguf(const struct model_source *source, const char *name,
                                    struct source_tensor *t, struct llm_error *error)
{
    char gguf_name[TENSOR_NAME_GGUF_BYTES];
    if (!tensor_name_gguf(name, gguf_name))
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "GGUF has no name for tensor \"%s\"", name);
    const struct gguf_tensor *tensor = gguf_find_tensor(&source->gguf, gguf_name);
    if (tensor == NULL)
        return llm_fail(error, LLM_ERR_INVALID, "tensor \"%s\" is missing", gguf_name);
    t->in_gguf = tensor;
    t->name = tensor->name;
    t->swapped = source->pairs_are_neighbours && is_q_or_k(gguf_name);
    fill_type(t, tensor->type->name);
    fill_shape(t, tensor->shape, tensor->rank);
    return LLM_OK;
}

enum llm_status model_source_find(const struct model_source *source, const char *name,
                                  struct source_tensor *out_tensor, struct llm_error *error)
{
    struct source_tensor t = {.dtype = KERNEL_F32};
    if (source->gguf.file_count > 0) {
        enum llm_status status = find_in_gguf(source, name, &t, error);
        if (status != LLM_OK)
            return status;
    } else {
        t.in_safetensors = safetensors_find(&source->safetensors, name);
        if (t.in_safetensors == NULL)
            return llm_fail(error, LLM_ERR_INVALID, "tensor \"%s\" is missing", name);
        t.name = t.in_safetensors->name;
        fill_type(&t, t.in_safetensors->dtype->name);
        fill_shape(&t, t.in_safetensors->shape, t.in_safetensors->rank);
    }
    *out_tensor = t;
    return LLM_OK;
}

/* ---- reading ---- */

static enum llm_status read_bytes(const struct model_source *source, const struct source_tensor *t,
                                  uint64_t first, void *out, size_t bytes, struct llm_error *error)
{
    if (t->in_gguf != NULL)
        return gguf_read(&source->gguf, t->in_gguf, first, out, bytes, error);
    return safetensors_read(&source->safetensors, t->in_safetensors, first, out, bytes, error);
}

static enum llm_status want_scratch(struct model_source *source, size_t bytes,
                                    struct llm_error *error)
{
    if (bytes < SCRATCH_BYTES)
        bytes = SCRATCH_BYTES;
    if (bytes <= source->scratch_bytes)
        return LLM_OK;
    unsigned char *grown = realloc(source->scratch, bytes);
    if (grown == NULL)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a row of %zu bytes", bytes);
    source->scratch = grown;
    source->scratch_bytes = bytes;
    return LLM_OK;
}

static enum llm_status refuse_too_large(const struct source_tensor *t, const float *values,
                                        size_t count, struct llm_error *error)
{
    size_t i = 0;
    while (i + 1 < count && values[i] < 65520.0f && values[i] > -65520.0f)
        i++;
    return llm_fail(error, LLM_ERR_UNSUPPORTED, "tensor \"%s\" holds %g, which f16 cannot", t->name,
                    (double)values[i]);
}

/* Blocks to f16 through f32, a few thousand numbers at a time. */
static enum llm_status narrow_blocks(const struct source_tensor *t, enum kernel_quant quant,
                                     const unsigned char *blocks, size_t block_count, uint16_t *out,
                                     struct llm_error *error)
{
    const struct kernel_quant_format *format = kernel_quant_format(quant);
    float values[NARROW_ELEMENTS];
    size_t at_once = NARROW_ELEMENTS / format->block_elements;
    for (size_t i = 0; i < block_count; i += at_once) {
        size_t here = block_count - i < at_once ? block_count - i : at_once;
        size_t count = here * format->block_elements;
        kernel_dequantise(quant, blocks + i * format->block_bytes, here, values);
        if (!kernel_narrow_to_f16(values, count, out + i * format->block_elements))
            return refuse_too_large(t, values, count, error);
    }
    return LLM_OK;
}

static enum llm_status read_blocks(struct model_source *source, const struct source_tensor *t,
                                   uint64_t first, uint64_t count, uint16_t *out,
                                   struct llm_error *error)
{
    enum kernel_quant quant = quant_named(t->type);
    const struct kernel_quant_format *format = kernel_quant_format(quant);
    size_t row_blocks = (size_t)(t->columns / format->block_elements);
    size_t row_bytes = row_blocks * format->block_bytes;
    enum llm_status status = want_scratch(source, row_bytes, error);
    if (status != LLM_OK)
        return status;
    uint64_t at_once = source->scratch_bytes / row_bytes;
    for (uint64_t row = 0; row < count && status == LLM_OK; row += at_once) {
        uint64_t rows = count - row < at_once ? count - row : at_once;
        status = read_bytes(source, t, (first + row) * row_bytes, source->scratch,
                            (size_t)rows * row_bytes, error);
        if (status == LLM_OK)
            status = narrow_blocks(t, quant, source->scratch, (size_t)rows * row_blocks,
                                   out + (size_t)(row * t->columns), error);
    }
    return status;
}

/* Rows as they follow each other in the file. */
static enum llm_status read_in_order(struct model_source *source, const struct source_tensor *t,
                                     uint64_t first, uint64_t count, void *out,
                                     struct llm_error *error)
{
    if (t->quantised)
        return read_blocks(source, t, first, count, out, error);
    size_t row_bytes = (size_t)t->columns * kernel_dtype_bytes(t->dtype);
    return read_bytes(source, t, first * row_bytes, out, (size_t)count * row_bytes, error);
}

/* Row i of a head of D is row 2i of the file's, row i + D/2 its neighbour 2i + 1. */
static uint64_t row_in_file(const struct model_source *source, uint64_t row)
{
    uint64_t D = source->config.head_dim, head = row / D, i = row % D;
    return head * D + (i < D / 2 ? 2 * i : 2 * (i - D / 2) + 1);
}

/* A vector (a bias) is one row whose elements are out of order. */
static enum llm_status read_swapped_vector(struct model_source *source,
                                           const struct source_tensor *t, unsigned char *out,
                                           struct llm_error *error)
{
    size_t element = kernel_dtype_bytes(t->dtype), bytes = (size_t)t->columns * element;
    enum llm_status status = want_scratch(source, bytes, error);
    if (status == LLM_OK)
        status = read_bytes(source, t, 0, source->scratch, bytes, error);
    for (uint64_t i = 0; status == LLM_OK && i < t->columns; i++)
        memcpy(out + i * element, source->scratch + row_in_file(source, i) * element, element);
    return status;
}

static bool whole_heads(const struct model_source *source, const struct source_tensor *t)
{
    uint64_t rows = t->rank == 1 ? t->columns : t->rows;
    return rows % source->config.head_dim == 0;
}

enum llm_status model_source_read(struct model_source *source, const struct source_tensor *t,
                                  uint64_t first, uint64_t count, void *out,
                                  struct llm_error *error)
{
    CHECK(t->known && first <= t->rows && count <= t->rows - first);
    if (t->columns == 0 || count == 0)
        return LLM_OK;
    if (!t->swapped)
        return read_in_order(source, t, first, count, out, error);
    if (!whole_heads(source, t) || (t->rank == 1 && t->quantised))
        return llm_fail(error, LLM_ERR_INVALID,
                        "tensor \"%s\" does not consist of heads of %" PRIu32, t->name,
                        source->config.head_dim);
    if (t->rank == 1)
        return read_swapped_vector(source, t, out, error);
    size_t row_bytes = (size_t)t->columns * kernel_dtype_bytes(t->dtype);
    enum llm_status status = LLM_OK;
    for (uint64_t i = 0; i < count && status == LLM_OK; i++)
        status = read_in_order(source, t, row_in_file(source, first + i), 1,
                               (unsigned char *)out + i * row_bytes, error);
    return status;
}

/* ---- the files ---- */

uint32_t model_source_file_count(const struct model_source *source)
{
    return source->gguf.file_count > 0 ? source->gguf.file_count : source->safetensors.file_count;
}

const struct model_file_stat *model_source_file(const struct model_source *source, uint32_t slot,
                                                const char **out_name)
{
    if (source->gguf.file_count > 0) {
        *out_name = source->gguf.files[slot].name;
        return &source->gguf.files[slot].stat;
    }
    *out_name = source->safetensors.files[slot].name;
    return &source->safetensors.files[slot].stat;
}

static enum llm_status open_gguf(struct model_source *source, const struct model_files *files,
                                 const char *name, const struct model_notes *notes,
                                 struct llm_error *error)
{
    enum llm_status status = gguf_open(&source->gguf, files, name, error);
    if (status == LLM_OK)
        status = model_config_from_gguf(&source->gguf, notes, &source->config, error);
    source->pairs_are_neighbours =
        status == LLM_OK && (source->config.architecture == MODEL_ARCHITECTURE_LLAMA ||
                             source->config.architecture == MODEL_ARCHITECTURE_MISTRAL);
    return status;
}

static enum llm_status open_hugging_face(struct model_source *source,
                                         const struct model_files *files,
                                         const struct model_notes *notes, struct llm_error *error)
{
    enum llm_status status = model_config_read(files, &source->config, error);
    if (status == LLM_OK)
        model_config_note_strange(files, notes);
    return status == LLM_OK ? safetensors_open(&source->safetensors, files, error) : status;
}

enum llm_status model_source_open(struct model_source *source, const struct model_files *files,
                                  const struct model_notes *notes, struct llm_error *error)
{
    const char *gguf = NULL;
    *source = (struct model_source){.pairs_are_neighbours = false};
    enum llm_status status = model_format_find(files, &gguf, error);
    if (status == LLM_OK)
        status = gguf != NULL ? open_gguf(source, files, gguf, notes, error)
                              : open_hugging_face(source, files, notes, error);
    if (status != LLM_OK)
        model_source_close(source);
    return status;
}

void model_source_close(struct model_source *source)
{
    safetensors_close(&source->safetensors);
    gguf_close(&source->gguf);
    free(source->scratch);
    *source = (struct model_source){.pairs_are_neighbours = false};
}
