#include "daemon/model/safetensors.h"

#include "daemon/model/model_json.h"
#include "shm/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LENGTH_FIELD_BYTES 8
#define INDEX_MAX_BYTES    ((size_t)64 << 20)
#define TENSOR_BYTES_MAX   ((uint64_t)INT64_MAX)

static const char SINGLE[] = "model.safetensors";
static const char INDEX[] = "model.safetensors.index.json";

static const struct safetensors_dtype dtypes[] = {
    {"F64", 8},     {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1},
    {"F8_E5M2", 1}, {"I64", 8}, {"I32", 4}, {"I16", 2},  {"I8", 1},
    {"U64", 8},     {"U32", 4}, {"U16", 2}, {"U8", 1},   {"BOOL", 1},
};

static const struct safetensors_dtype *dtype_find(const char *name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return &dtypes[i];
    return NULL;
}

/* ---- one tensor's entry: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} ---- */

/* Where we are, for sentences. */
struct place {
    const char *file;
    struct json_shown tensor;
};

static enum llm_status read_dtype(const json_t *entry, const struct place *at,
                                  struct safetensors_tensor *t, struct llm_error *error)
{
    const json_t *name = json_object_get(entry, "dtype");
    if (!json_is_string(name))
        return llm_fail(error, LLM_ERR_INVALID, "%s: tensor \"%s\" has no \"dtype\"", at->file,
                        at->tensor.text);
    t->dtype = dtype_find(json_string_value(name));
    if (t->dtype == NULL)
        return llm_fail(error, LLM_ERR_INVALID, "%s: tensor \"%s\" has the unknown dtype \"%s\"",
                        at->file, at->tensor.text, json_show(json_string_value(name)).text);
    return LLM_OK;
}

/* Multiplies the sizes up as it goes: t->bytes is the size that dtype and shape ask for. */
static enum llm_status read_shape(const json_t *entry, const struct place *at,
                                  struct safetensors_tensor *t, struct llm_error *error)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_RANK_MAX)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: tensor \"%s\" has no \"shape\" of at most %d sizes", at->file,
                        at->tensor.text, SAFETENSORS_RANK_MAX);
    t->rank = (uint32_t)json_array_size(shape);
    t->bytes = t->dtype->element_bytes;
    for (uint32_t i = 0; i < t->rank; i++) {
        const json_t *size = json_array_get(shape, i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return llm_fail(error, LLM_ERR_INVALID,
                            "%s: size %" PRIu32 " of tensor \"%s\" is not a whole number >= 0",
                            at->file, i, at->tensor.text);
        t->shape[i] = (uint64_t)json_integer_value(size);
        if (t->shape[i] != 0 && t->bytes > TENSOR_BYTES_MAX / t->shape[i])
            return llm_fail(error, LLM_ERR_INVALID,
                            "%s: tensor \"%s\" would have more than 2^63 bytes", at->file,
                            at->tensor.text);
        t->bytes *= t->shape[i];
    }
    return LLM_OK;
}

static enum llm_status read_offsets(const json_t *entry, const struct place *at,
                                    uint64_t data_first, uint64_t data_bytes,
                                    struct safetensors_tensor *t, struct llm_error *error)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0);
    const json_t *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: \"data_offsets\" of tensor \"%s\" are not two whole numbers", at->file,
                        at->tensor.text);
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || (uint64_t)end > data_bytes)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: tensor \"%s\" lies at bytes %" JSON_INTEGER_FORMAT
                        "..%" JSON_INTEGER_FORMAT " of %" PRIu64,
                        at->file, at->tensor.text, begin, end, data_bytes);
    if ((uint64_t)(end - begin) != t->bytes)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: tensor \"%s\" has %" JSON_INTEGER_FORMAT
                        " bytes, its dtype and shape ask for %" PRIu64,
                        at->file, at->tensor.text, end - begin, t->bytes);
    t->offset = data_first + (uint64_t)begin;
    return LLM_OK;
}

static enum llm_status tensor_add(struct safetensors *st, const struct safetensors_tensor *tensor,
                                  const char *name, struct llm_error *error)
{
    if (st->tensor_count == st->tensor_capacity) {
        size_t capacity = st->tensor_capacity == 0 ? 256 : 2 * st->tensor_capacity;
        void *grown = realloc(st->tensors, capacity * sizeof *st->tensors);
        if (grown == NULL)
            return llm_fail(error, LLM_ERR_MEMORY, "no memory for %zu tensor entries", capacity);
        st->tensors = grown;
        st->tensor_capacity = capacity;
    }
    char *copy = strdup(name);
    if (copy == NULL)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a tensor's name");
    st->tensors[st->tensor_count] = *tensor;
    st->tensors[st->tensor_count].name = copy;
    st->tensor_count++;
    return LLM_OK;
}

static enum llm_status read_entry(struct safetensors *st, const struct safetensors_tensor *in_file,
                                  uint64_t data_bytes, const char *name, const json_t *entry,
                                  struct llm_error *error)
{
    struct place at = {st->files[in_file->file_slot].name, json_show(name)};
    struct safetensors_tensor t = *in_file;
    enum llm_status status = read_dtype(entry, &at, &t, error);
    if (status == LLM_OK)
        status = read_shape(entry, &at, &t, error);
    if (status == LLM_OK)
        status = read_offsets(entry, &at, in_file->offset, data_bytes, &t, error);
    if (status == LLM_OK)
        status = tensor_add(st, &t, name, error);
    return status;
}

/* ---- one file ---- */

static enum llm_status check_metadata(const char *file, const json_t *metadata,
                                      struct llm_error *error)
{
    if (metadata == NULL)
        return LLM_OK;
    bool ok = json_is_object(metadata);
    for (void *i = json_object_iter((json_t *)(uintptr_t)metadata); ok && i != NULL;
         i = json_object_iter_next((json_t *)(uintptr_t)metadata, i))
        ok = json_is_string(json_object_iter_value(i));
    if (!ok)
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"__metadata__\" is not a map of strings",
                        file);
    return LLM_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* In order of their offsets each tensor begins where the one before ends, and the last ends with the file. */
static enum llm_status check_coverage(struct safetensors *st, size_t first_tensor,
                                      uint64_t data_first, const struct safetensors_file *file,
                                      struct llm_error *error)
{
    if (st->tensor_count > first_tensor)
        qsort(st->tensors + first_tensor, st->tensor_count - first_tensor, sizeof *st->tensors,
              by_offset);
    uint64_t end = data_first;
    for (size_t i = first_tensor; i < st->tensor_count; i++) {
        const struct safetensors_tensor *t = &st->tensors[i];
        if (t->offset != end)
            return llm_fail(error, LLM_ERR_CORRUPT, "%s: tensor \"%s\" %s at byte %" PRIu64,
                            file->name, json_show(t->name).text,
                            t->offset < end ? "overlaps the one before it"
                                            : "leaves a hole before it",
                            t->offset);
        end += t->bytes;
    }
    if (end != file->stat.bytes)
        return llm_fail(error, LLM_ERR_CORRUPT, "%s has %" PRIu64 " bytes after its last tensor",
                        file->name, file->stat.bytes - end);
    return LLM_OK;
}

static enum llm_status read_entries(struct safetensors *st, uint32_t file_slot, uint64_t data_first,
                                    json_t *header, struct llm_error *error)
{
    const struct safetensors_file *file = &st->files[file_slot];
    struct safetensors_tensor in_file = {.file_slot = file_slot, .offset = data_first};
    size_t first_tensor = st->tensor_count;
    enum llm_status status =
        check_metadata(file->name, json_object_get(header, "__metadata__"), error);
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry)
    {
        if (status == LLM_OK && strcmp(name, "__metadata__") != 0)
            status = read_entry(st, &in_file, file->stat.bytes - data_first, name, entry, error);
    }
    if (status == LLM_OK)
        status = check_coverage(st, first_tensor, data_first, file, error);
    return status;
}

static enum llm_status read_header_bytes(const struct safetensors_file *file, uint64_t *out_bytes,
                                         struct llm_error *error)
{
    unsigned char field[LENGTH_FIELD_BYTES];
    if (file->stat.bytes < LENGTH_FIELD_BYTES)
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "%s has %" PRIu64 " bytes, too few for a safetensors file", file->name,
                        file->stat.bytes);
    enum llm_status status = model_file_read(file->fd, file->name, 0, field, sizeof field, error);
    if (status != LLM_OK)
        return status;
    uint64_t bytes = 0;
    for (int i = LENGTH_FIELD_BYTES - 1; i >= 0; i--)
        bytes = bytes << 8 | field[i];
    if (bytes > file->stat.bytes - LENGTH_FIELD_BYTES)
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "%s says its header has %" PRIu64 " bytes; the whole file has %" PRIu64,
                        file->name, bytes, file->stat.bytes);
    if (bytes > SAFETENSORS_HEADER_MAX_BYTES)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "%s has a header of %" PRIu64 " bytes; at most %u are read", file->name,
                        bytes, SAFETENSORS_HEADER_MAX_BYTES);
    *out_bytes = bytes;
    return LLM_OK;
}

static enum llm_status parse_header(const struct safetensors_file *file, uint64_t header_bytes,
                                    json_t **out_header, struct llm_error *error)
{
    char *text = malloc((size_t)header_bytes + 1);
    if (text == NULL)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the header of %s", file->name);
    enum llm_status status = model_file_read(file->fd, file->name, LENGTH_FIELD_BYTES, text,
                                             (size_t)header_bytes, error);
    if (status == LLM_OK && (header_bytes == 0 || text[0] != '{'))
        status =
            llm_fail(error, LLM_ERR_CORRUPT, "%s: the header is not a JSON object", file->name);
    if (status == LLM_OK)
        status = model_json_parse(text, (size_t)header_bytes, file->name, out_header, error);
    free(text);
    return status;
}

static enum llm_status read_file(struct safetensors *st, uint32_t file_slot,
                                 struct llm_error *error)
{
    struct safetensors_file *file = &st->files[file_slot];
    uint64_t header_bytes = 0;
    json_t *header = NULL;
    enum llm_status status = model_file_stat(file->fd, file->name, &file->stat, error);
    if (status == LLM_OK)
        status = read_header_bytes(file, &header_bytes, error);
    if (status == LLM_OK)
        status = parse_header(file, header_bytes, &header, error);
    if (status == LLM_OK)
        status = read_entries(st, file_slot, LENGTH_FIELD_BYTES + header_bytes, header, error);
    json_decref(header);
    return status;
}

static enum llm_status file_add(struct safetensors *st, const struct model_files *files,
                                const char *name, struct llm_error *error)
{
    int fd;
    enum llm_status status = files->open(files->self, name, &fd, error);
    if (status != LLM_OK)
        return status;
    struct safetensors_file *file = &st->files[st->file_count++];
    file->fd = fd;
    file->name = strdup(name);
    if (file->name == NULL)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a file's name");
    return read_file(st, st->file_count - 1, error);
}

/* ---- shards ---- */

static bool file_is_open(const struct safetensors *st, const char *name)
{
    for (uint32_t i = 0; i < st->file_count; i++)
        if (strcmp(st->files[i].name, name) == 0)
            return true;
    return false;
}

static enum llm_status open_shards(struct safetensors *st, const struct model_files *files,
                                   json_t *weight_map, struct llm_error *error)
{
    const char *tensor;
    json_t *value;
    json_object_foreach(weight_map, tensor, value)
    {
        const char *name = json_is_string(value) ? json_string_value(value) : "";
        if (!model_file_name_ok(name))
            return llm_fail(error, LLM_ERR_INVALID,
                            "%s: \"%s\" is not the name of a file beside it", INDEX,
                            json_show(name).text);
        if (file_is_open(st, name))
            continue;
        if (st->file_count == SAFETENSORS_SHARDS_MAX)
            return llm_fail(error, LLM_ERR_LIMIT, "%s names more than %d files", INDEX,
                            SAFETENSORS_SHARDS_MAX);
        enum llm_status status = file_add(st, files, name, error);
        if (status != LLM_OK)
            return status;
    }
    return LLM_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static enum llm_status sort_by_name(struct safetensors *st, struct llm_error *error)
{
    if (st->tensor_count == 0)
        return llm_fail(error, LLM_ERR_INVALID, "the model's safetensors files hold no tensor");
    qsort(st->tensors, st->tensor_count, sizeof *st->tensors, by_name);
    for (size_t i = 1; i < st->tensor_count; i++)
        if (strcmp(st->tensors[i - 1].name, st->tensors[i].name) == 0)
            return llm_fail(error, LLM_ERR_INVALID, "tensor \"%s\" is there twice",
                            json_show(st->tensors[i].name).text);
    return LLM_OK;
}

static enum llm_status check_weight_map(const struct safetensors *st, json_t *weight_map,
                                        struct llm_error *error)
{
    const char *name;
    json_t *value;
    json_object_foreach(weight_map, name, value)
    {
        const struct safetensors_tensor *t = safetensors_find(st, name);
        if (t == NULL || strcmp(st->files[t->file_slot].name, json_string_value(value)) != 0)
            return llm_fail(error, LLM_ERR_INVALID, "%s: tensor \"%s\" is not in %s", INDEX,
                            json_show(name).text, json_show(json_string_value(value)).text);
    }
    return LLM_OK;
}

static enum llm_status read_shards(struct safetensors *st, const struct model_files *files,
                                   json_t *index, struct llm_error *error)
{
    json_t *weight_map = json_object_get(index, "weight_map");
    if (!json_is_object(weight_map))
        return llm_fail(error, LLM_ERR_INVALID, "%s has no \"weight_map\"", INDEX);
    enum llm_status status = open_shards(st, files, weight_map, error);
    if (status == LLM_OK)
        status = sort_by_name(st, error);
    if (status == LLM_OK)
        status = check_weight_map(st, weight_map, error);
    return status;
}

static enum llm_status open_index(struct safetensors *st, const struct model_files *files,
                                  struct llm_error *error)
{
    json_t *index = NULL;
    enum llm_status status = model_json_read(files, INDEX, INDEX_MAX_BYTES, &index, error);
    if (status == LLM_ERR_NOT_FOUND)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "the model has neither %s nor %s", SINGLE, INDEX);
    if (status == LLM_OK)
        status = read_shards(st, files, index, error);
    json_decref(index);
    return status;
}

/* ---- the whole ---- */

enum llm_status safetensors_open(struct safetensors *st, const struct model_files *files,
                                 struct llm_error *error)
{
    *st = (struct safetensors){0};
    st->files = calloc(SAFETENSORS_SHARDS_MAX, sizeof *st->files);
    if (st->files == NULL)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the list of safetensors files");
    enum llm_status status = file_add(st, files, SINGLE, error);
    if (status == LLM_OK)
        status = sort_by_name(st, error);
    else if (status == LLM_ERR_NOT_FOUND && st->file_count == 0)
        status = open_index(st, files, error);
    if (status != LLM_OK)
        safetensors_close(st);
    return status;
}

void safetensors_close(struct safetensors *st)
{
    for (uint32_t i = 0; i < st->file_count; i++) {
        close(st->files[i].fd);
        free(st->files[i].name);
    }
    for (size_t i = 0; i < st->tensor_count; i++)
        free(st->tensors[i].name);
    free(st->files);
    free(st->tensors);
    *st = (struct safetensors){0};
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *st, const char *name)
{
    struct safetensors_tensor key = {.name = (char *)(uintptr_t)name};
    return bsearch(&key, st->tensors, st->tensor_count, sizeof *st->tensors, by_name);
}

enum llm_status safetensors_read(const struct safetensors *st,
                                 const struct safetensors_tensor *tensor, uint64_t first, void *out,
                                 size_t bytes, struct llm_error *error)
{
    CHECK(first <= tensor->bytes && bytes <= tensor->bytes - first);
    const struct safetensors_file *file = &st->files[tensor->file_slot];
    return model_file_read(file->fd, file->name, tensor->offset + first, out, bytes, error);
}
