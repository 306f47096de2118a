#include "daemon/model/gguf.h"

#include "daemon/model/gguf_value.h"
#include "shm/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES        ((size_t)256 << 10)
#define TENSOR_BYTES_MAX   ((uint64_t)INT64_MAX)
#define ALIGNMENT_DEFAULT  32
#define ALIGNMENT_MAX      ((int64_t)1 << 20)
#define KEY_ENTRY_BYTES    13 /* fewest: a length, no key, a type, one byte */
#define TENSOR_ENTRY_BYTES 24 /* fewest: a length, no name, a rank of 0, a type, an offset */

/* ---- the header, read forwards as far as it turns out to reach ---- */

/* `file->header` has room for the longest header that this file can have, so that it never moves and slices
 * of it stay good; pages that are never reached are never touched. */
struct reader {
    struct gguf_file *file;
    size_t at;                                 /* of the next byte */
    char what[sizeof(struct json_shown) + 16]; /* what is being read, for sentences */
};

static void reader_names(struct reader *r, const char *what, struct gguf_text name)
{
    snprintf(r->what, sizeof r->what, "%s \"%s\"", what, gguf_text_show(name).text);
}

/* Make `bytes` from the next byte on present. */
static enum llm_status reader_want(struct reader *r, uint64_t bytes, struct llm_error *error)
{
    struct gguf_file *file = r->file;
    if (bytes > file->stat.bytes - r->at)
        return llm_fail(error, LLM_ERR_CORRUPT, "%s ends inside %s, at byte %" PRIu64, file->name,
                        r->what, file->stat.bytes);
    if (bytes > file->header_capacity - r->at)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "%s has a header of more than %" PRIu64
                        " bytes, which are all that is read",
                        file->name, GGUF_HEADER_MAX_BYTES);
    size_t end = r->at + (size_t)bytes;
    if (end <= file->header_bytes)
        return LLM_OK;
    size_t target = (end + CHUNK_BYTES - 1) / CHUNK_BYTES * CHUNK_BYTES;
    if (target > file->header_capacity)
        target = file->header_capacity;
    enum llm_status status =
        model_file_read(file->fd, file->name, file->header_bytes, file->header + file->header_bytes,
                        target - file->header_bytes, error);
    if (status == LLM_OK)
        file->header_bytes = target;
    return status;
}

static enum llm_status read_number(struct reader *r, size_t bytes, uint64_t *out_number,
                                   struct llm_error *error)
{
    enum llm_status status = reader_want(r, bytes, error);
    if (status != LLM_OK)
        return status;
    *out_number = gguf_load(r->file->header + r->at, bytes);
    r->at += bytes;
    return LLM_OK;
}

static enum llm_status read_text(struct reader *r, struct gguf_text *out_text,
                                 struct llm_error *error)
{
    uint64_t length;
    enum llm_status status = read_number(r, GGUF_LENGTH_BYTES, &length, error);
    if (status == LLM_OK)
        status = reader_want(r, length, error);
    if (status != LLM_OK)
        return status;
    *out_text = (struct gguf_text){(const char *)r->file->header + r->at, (size_t)length};
    r->at += (size_t)length;
    return LLM_OK;
}

/* Room for one more entry of `entry_bytes`. */
static enum llm_status grow(void **list, size_t count, size_t *capacity, size_t entry_bytes,
                            struct llm_error *error)
{
    if (count < *capacity)
        return LLM_OK;
    size_t wanted = *capacity == 0 ? 64 : 2 * *capacity;
    void *grown = realloc(*list, wanted * entry_bytes);
    if (grown == NULL)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %zu entries of a GGUF header",
                        wanted);
    *list = grown;
    *capacity = wanted;
    return LLM_OK;
}

/* ---- keys and values ---- */

static enum llm_status read_value_type(struct reader *r, enum gguf_value_type *out_type,
                                       struct llm_error *error)
{
    uint64_t type;
    enum llm_status status = read_number(r, 4, &type, error);
    if (status == LLM_OK && type >= GGUF_VALUE_TYPE_COUNT)
        status = llm_fail(error, LLM_ERR_INVALID, "%s: %s has the unknown value type %" PRIu64,
                          r->file->name, r->what, type);
    if (status == LLM_OK)
        *out_type = (enum gguf_value_type)type;
    return status;
}

/* Numbers and flags, `count` of them. */
static enum llm_status read_numbers(struct reader *r, enum gguf_value_type type, uint64_t count,
                                    struct llm_error *error)
{
    size_t size = gguf_value_type_bytes(type);
    uint64_t bytes = count > UINT64_MAX / size ? UINT64_MAX : count * size;
    enum llm_status status = reader_want(r, bytes, error);
    if (status != LLM_OK)
        return status;
    const unsigned char *items = r->file->header + r->at;
    for (uint64_t i = 0; type == GGUF_BOOL && i < count; i++)
        if (items[i] > 1)
            return llm_fail(error, LLM_ERR_INVALID, "%s: %s holds %u where true or false must be",
                            r->file->name, r->what, items[i]);
    r->at += (size_t)bytes;
    return LLM_OK;
}

static enum llm_status read_texts(struct reader *r, uint64_t count, struct llm_error *error)
{
    enum llm_status status = LLM_OK;
    struct gguf_text text;
    for (uint64_t i = 0; i < count && status == LLM_OK; i++) /* each takes bytes of the file */
        status = read_text(r, &text, error);
    return status;
}

static enum llm_status read_array_head(struct reader *r, struct gguf_value *value,
                                       struct llm_error *error)
{
    enum llm_status status = read_value_type(r, &value->item_type, error);
    if (status == LLM_OK && value->item_type == GGUF_ARRAY)
        status = llm_fail(error, LLM_ERR_UNSUPPORTED, "%s: %s is an array of arrays", r->file->name,
                          r->what);
    return status == LLM_OK ? read_number(r, GGUF_LENGTH_BYTES, &value->count, error) : status;
}

static enum llm_status read_value(struct reader *r, struct gguf_value *value,
                                  struct llm_error *error)
{
    value->count = 1;
    enum llm_status status = read_value_type(r, &value->type, error);
    if (status == LLM_OK && value->type == GGUF_ARRAY)
        status = read_array_head(r, value, error);
    if (status != LLM_OK)
        return status;
    size_t first = r->at;
    struct gguf_text text = {NULL, 0};
    if (value->type == GGUF_TEXT)
        status = read_text(r, &text, error);
    else if (value->type == GGUF_ARRAY && value->item_type == GGUF_TEXT)
        status = read_texts(r, value->count, error);
    else
        status = read_numbers(r, value->type == GGUF_ARRAY ? value->item_type : value->type,
                              value->count, error);
    if (value->type == GGUF_TEXT)
        first += GGUF_LENGTH_BYTES;
    value->bytes = r->file->header + first;
    value->byte_count = r->at - first;
    return status;
}

static enum llm_status read_key(struct gguf *gguf, struct reader *r, struct llm_error *error)
{
    struct gguf_value value = {.type = GGUF_U8};
    snprintf(r->what, sizeof r->what, "the list of keys");
    enum llm_status status = read_text(r, &value.key, error);
    if (status != LLM_OK)
        return status;
    if (value.key.length == 0 || value.key.length > GGUF_KEY_MAX_BYTES)
        return llm_fail(error, LLM_ERR_INVALID, "%s has a key of %zu bytes; it must have 1..%d",
                        r->file->name, value.key.length, GGUF_KEY_MAX_BYTES);
    reader_names(r, "key", value.key);
    status = read_value(r, &value, error);
    void *list = gguf->values;
    if (status == LLM_OK)
        status = grow(&list, gguf->value_count, &gguf->value_capacity, sizeof *gguf->values, error);
    gguf->values = list;
    if (status == LLM_OK)
        gguf->values[gguf->value_count++] = value;
    return status;
}

static enum llm_status read_keys(struct gguf *gguf, struct reader *r, uint64_t count,
                                 struct llm_error *error)
{
    if (count > r->file->stat.bytes / KEY_ENTRY_BYTES)
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "%s says it has %" PRIu64 " keys; its %" PRIu64 " bytes are too few",
                        r->file->name, count, r->file->stat.bytes);
    enum llm_status status = LLM_OK;
    for (uint64_t i = 0; i < count && status == LLM_OK; i++)
        status = read_key(gguf, r, error);
    if (status != LLM_OK || gguf->value_count == 0)
        return status;
    qsort(gguf->values, gguf->value_count, sizeof *gguf->values, gguf_value_by_key);
    for (size_t i = 1; i < gguf->value_count; i++)
        if (gguf_value_by_key(&gguf->values[i - 1], &gguf->values[i]) == 0)
            return llm_fail(error, LLM_ERR_INVALID, "%s: key \"%s\" is there twice", r->file->name,
                            gguf_text_show(gguf->values[i].key).text);
    return LLM_OK;
}

/* ---- tensor entries ---- */

/* Not empty, at most 64 bytes, nothing that could not stand in a sentence. */
static enum llm_status read_tensor_name(struct reader *r, struct gguf_tensor *t,
                                        struct llm_error *error)
{
    struct gguf_text name;
    snprintf(r->what, sizeof r->what, "the list of tensors");
    enum llm_status status = read_text(r, &name, error);
    if (status != LLM_OK)
        return status;
    if (name.length == 0 || name.length > GGUF_NAME_MAX_BYTES)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s has a tensor name of %zu bytes; it must have 1..%d", r->file->name,
                        name.length, GGUF_NAME_MAX_BYTES);
    for (size_t i = 0; i < name.length; i++)
        if ((unsigned char)name.bytes[i] <= 0x20 || (unsigned char)name.bytes[i] >= 0x7f)
            return llm_fail(error, LLM_ERR_INVALID,
                            "%s: the tensor name \"%s\" is not printable ASCII", r->file->name,
                            gguf_text_show(name).text);
    memcpy(t->name, name.bytes, name.length);
    t->name[name.length] = '\0';
    reader_names(r, "tensor", name);
    return LLM_OK;
}

static enum llm_status read_tensor_shape(struct reader *r, struct gguf_tensor *t,
                                         struct llm_error *error)
{
    uint64_t rank;
    enum llm_status status = read_number(r, 4, &rank, error);
    if (status == LLM_OK && rank > GGUF_RANK_MAX)
        status =
            llm_fail(error, LLM_ERR_INVALID, "%s: %s has %" PRIu64 " sizes; it may have at most %d",
                     r->file->name, r->what, rank, GGUF_RANK_MAX);
    if (status != LLM_OK)
        return status;
    t->rank = (uint32_t)rank;
    for (uint32_t i = t->rank; i-- > 0 && status == LLM_OK;) {
        status = read_number(r, 8, &t->shape[i], error);
        if (status == LLM_OK && t->shape[i] > TENSOR_BYTES_MAX)
            status =
                llm_fail(error, LLM_ERR_INVALID, "%s: %s has a size of %" PRIu64 ", more than 2^63",
                         r->file->name, r->what, t->shape[i]);
    }
    return status;
}

static enum llm_status read_tensor_type(struct reader *r, struct gguf_tensor *t,
                                        struct llm_error *error)
{
    uint64_t id;
    enum llm_status status = read_number(r, 4, &id, error);
    if (status != LLM_OK)
        return status;
    t->type = gguf_tensor_type_find((uint32_t)id);
    if (t->type == NULL)
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "%s: %s is of type %" PRIu64 ", which this build does not know",
                        r->file->name, r->what, id);
    return LLM_OK;
}

/* What type and shape ask for. */
static enum llm_status count_tensor_bytes(const struct reader *r, struct gguf_tensor *t,
                                          struct llm_error *error)
{
    uint64_t row = t->rank == 0 ? 1 : t->shape[t->rank - 1];
    if (row % t->type->block_elements != 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: %s has rows of %" PRIu64 "; a block of type %s has %" PRIu32,
                        r->file->name, r->what, row, t->type->name, t->type->block_elements);
    t->bytes = t->type->block_bytes;
    for (uint32_t i = 0; i < t->rank; i++) {
        uint64_t size = i + 1 == t->rank ? row / t->type->block_elements : t->shape[i];
        if (size != 0 && t->bytes > TENSOR_BYTES_MAX / size)
            return llm_fail(error, LLM_ERR_INVALID, "%s: %s would have more than 2^63 bytes",
                            r->file->name, r->what);
        t->bytes *= size;
    }
    return LLM_OK;
}

static enum llm_status read_tensor(struct gguf *gguf, struct reader *r, uint64_t alignment,
                                   uint32_t file_slot, struct llm_error *error)
{
    struct gguf_tensor t = {.file_slot = file_slot};
    enum llm_status status = read_tensor_name(r, &t, error);
    if (status == LLM_OK)
        status = read_tensor_shape(r, &t, error);
    if (status == LLM_OK)
        status = read_tensor_type(r, &t, error);
    if (status == LLM_OK)
        status = read_number(r, 8, &t.offset, error);
    if (status == LLM_OK)
        status = count_tensor_bytes(r, &t, error);
    if (status == LLM_OK && t.offset % alignment != 0)
        status =
            llm_fail(error, LLM_ERR_INVALID,
                     "%s: %s lies at byte %" PRIu64 ", not a multiple of the alignment, %" PRIu64,
                     r->file->name, r->what, t.offset, alignment);
    void *list = gguf->tensors;
    if (status == LLM_OK)
        status =
            grow(&list, gguf->tensor_count, &gguf->tensor_capacity, sizeof *gguf->tensors, error);
    gguf->tensors = list;
    if (status == LLM_OK)
        gguf->tensors[gguf->tensor_count++] = t;
    return status;
}

static enum llm_status read_tensors(struct gguf *gguf, struct reader *r, uint64_t count,
                                    uint64_t alignment, uint32_t file_slot, struct llm_error *error)
{
    if (count > r->file->stat.bytes / TENSOR_ENTRY_BYTES)
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "%s says it has %" PRIu64 " tensors; its %" PRIu64 " bytes are too few",
                        r->file->name, count, r->file->stat.bytes);
    enum llm_status status = LLM_OK;
    for (uint64_t i = 0; i < count && status == LLM_OK; i++)
        status = read_tensor(gguf, r, alignment, file_slot, error);
    return status;
}

/* ---- where the bytes are ---- */

static int by_offset(const void *a, const void *b)
{
    const struct gguf_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* From offsets in the data to offsets in the file; each in its place and none over another. */
static enum llm_status place_tensors(struct gguf *gguf, size_t first_tensor, uint64_t data_first,
                                     const struct gguf_file *file, struct llm_error *error)
{
    if (gguf->tensor_count == first_tensor)
        return LLM_OK;
    uint64_t data_bytes = file->stat.bytes < data_first ? 0 : file->stat.bytes - data_first;
    struct gguf_tensor *tensors = gguf->tensors + first_tensor;
    size_t count = gguf->tensor_count - first_tensor;
    qsort(tensors, count, sizeof *tensors, by_offset);
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        struct gguf_tensor *t = &tensors[i];
        if (t->offset > data_bytes || t->bytes > data_bytes - t->offset)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "%s: tensor \"%s\" has %" PRIu64 " bytes from byte %" PRIu64
                            " on; the file has %" PRIu64 " for tensors",
                            file->name, t->name, t->bytes, t->offset, data_bytes);
        if (t->offset < end)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "%s: tensor \"%s\" overlaps tensor \"%s\" at byte %" PRIu64, file->name,
                            t->name, tensors[i - 1].name, t->offset);
        end = t->offset + t->bytes;
        t->offset += data_first;
    }
    return LLM_OK;
}

static enum llm_status read_alignment(const struct gguf *gguf, uint64_t *out_alignment,
                                      struct llm_error *error)
{
    static const char key[] = "general.alignment";
    int64_t alignment = ALIGNMENT_DEFAULT;
    enum llm_status status = LLM_OK;
    if (gguf_find(gguf, key) != NULL)
        status = gguf_get_integer(gguf, key, 1, ALIGNMENT_MAX, &alignment, error);
    if (status == LLM_OK && (alignment & (alignment - 1)) != 0)
        status =
            llm_fail(error, LLM_ERR_INVALID, "%s: key \"%s\" is %" PRId64 ", not a power of two",
                     gguf->files[0].name, key, alignment);
    if (status == LLM_OK)
        *out_alignment = (uint64_t)alignment;
    return status;
}

/* ---- one file ---- */

static enum llm_status check_version(const struct reader *r, uint64_t version,
                                     struct llm_error *error)
{
    if (version == 2 || version == 3)
        return LLM_OK;
    if (version != 0 && (version & 0xffffff) == 0)
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "%s is a big-endian GGUF file; this build reads little-endian ones",
                        r->file->name);
    return llm_fail(error, LLM_ERR_UNSUPPORTED,
                    "%s is of GGUF version %" PRIu64 "; this build reads versions 2 and 3",
                    r->file->name, version);
}

static enum llm_status read_counts(struct reader *r, uint64_t *out_tensor_count,
                                   uint64_t *out_key_count, struct llm_error *error)
{
    uint64_t version;
    snprintf(r->what, sizeof r->what, "its first 24 bytes");
    enum llm_status status = reader_want(r, 4, error);
    if (status == LLM_OK && memcmp(r->file->header, "GGUF", 4) != 0)
        return llm_fail(error, LLM_ERR_CORRUPT, "%s does not begin with \"GGUF\"", r->file->name);
    r->at = 4;
    if (status == LLM_OK)
        status = read_number(r, 4, &version, error);
    if (status == LLM_OK)
        status = check_version(r, version, error);
    if (status == LLM_OK)
        status = read_number(r, 8, out_tensor_count, error);
    if (status == LLM_OK)
        status = read_number(r, 8, out_key_count, error);
    return status;
}

/* Keys of a later file of a split go into a table of their own and are only looked at: `keys`. */
static enum llm_status read_header(struct gguf *gguf, struct gguf *keys, uint32_t file_slot,
                                   struct llm_error *error)
{
    struct reader r = {.file = &gguf->files[file_slot]};
    uint64_t tensor_count = 0, key_count = 0, alignment = 0;
    size_t first_tensor = gguf->tensor_count;
    enum llm_status status = read_counts(&r, &tensor_count, &key_count, error);
    if (status == LLM_OK)
        status = read_keys(keys, &r, key_count, error);
    if (status == LLM_OK)
        status = read_alignment(keys, &alignment, error);
    if (status == LLM_OK)
        status = read_tensors(gguf, &r, tensor_count, alignment, file_slot, error);
    if (status != LLM_OK)
        return status;
    uint64_t data_first = (r.at + alignment - 1) / alignment * alignment;
    return place_tensors(gguf, first_tensor, data_first, r.file, error);
}

static enum llm_status open_file(struct gguf *gguf, const struct model_files *files,
                                 const char *name, struct llm_error *error)
{
    int fd;
    enum llm_status status = files->open(files->self, name, &fd, error);
    if (status != LLM_OK)
        return status;
    struct gguf_file *file = &gguf->files[gguf->file_count];
    *file = (struct gguf_file){.fd = fd, .name = strdup(name)};
    gguf->file_count++; /* from here on gguf_close() closes it */
    if (file->name == NULL)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a file's name");
    status = model_file_stat(fd, name, &file->stat, error);
    if (status != LLM_OK)
        return status;
    file->header_capacity =
        (size_t)(file->stat.bytes < GGUF_HEADER_MAX_BYTES ? file->stat.bytes
                                                          : GGUF_HEADER_MAX_BYTES);
    file->header = malloc(file->header_capacity + 1);
    if (file->header == NULL)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the header of %s", name);
    return LLM_OK;
}

/* ---- the files of a split ---- */

/* "name-00001-of-00003.gguf": the bytes of "name", or 0 where it is not a first name of so many files. */
static size_t split_stem_bytes(const char *name, int64_t count)
{
    char ending[64];
    snprintf(ending, sizeof ending, "-00001-of-%05" PRId64 ".gguf", count);
    size_t bytes = strlen(name), tail = strlen(ending);
    if (bytes <= tail || strcmp(name + bytes - tail, ending) != 0)
        return 0;
    return bytes - tail;
}

static enum llm_status check_split_keys(const struct gguf *keys, int64_t slot, int64_t count,
                                        struct llm_error *error)
{
    int64_t number;
    enum llm_status status = gguf_get_integer(keys, "split.no", slot, slot, &number, error);
    if (status == LLM_OK)
        status = gguf_get_integer(keys, "split.count", count, count, &number, error);
    return status;
}

/* A later file: its keys are looked at and let go, its tensors join the others. */
static enum llm_status open_split_file(struct gguf *gguf, const struct model_files *files,
                                       const char *name, int64_t slot, int64_t count,
                                       struct llm_error *error)
{
    enum llm_status status = open_file(gguf, files, name, error);
    if (status != LLM_OK)
        return status;
    struct gguf keys = {.files = &gguf->files[slot], .file_count = 1};
    status = read_header(gguf, &keys, (uint32_t)slot, error);
    if (status == LLM_OK)
        status = check_split_keys(&keys, slot, count, error);
    free(keys.values);
    free(gguf->files[slot].header);
    gguf->files[slot].header = NULL;
    gguf->files[slot].header_bytes = gguf->files[slot].header_capacity = 0;
    return status;
}

static enum llm_status open_split(struct gguf *gguf, const struct model_files *files, int64_t count,
                                  struct llm_error *error)
{
    const char *first = gguf->files[0].name;
    size_t stem = split_stem_bytes(first, count);
    if (stem == 0 || stem > 200)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s is one of %" PRId64 " files; give the first, NAME-00001-of-%05" PRId64
                        ".gguf",
                        first, count, count);
    enum llm_status status = check_split_keys(gguf, 0, count, error);
    for (int64_t slot = 1; slot < count && status == LLM_OK; slot++) {
        char name[256];
        snprintf(name, sizeof name, "%.*s-%05" PRId64 "-of-%05" PRId64 ".gguf", (int)stem, first,
                 slot + 1, count);
        status = open_split_file(gguf, files, name, slot, count, error);
    }
    int64_t tensors = 0;
    if (status == LLM_OK)
        status = gguf_get_integer(gguf, "split.tensors.count", 0, INT64_MAX, &tensors, error);
    if (status == LLM_OK && (uint64_t)tensors != gguf->tensor_count)
        status = llm_fail(error, LLM_ERR_INVALID,
                          "%s: key \"split.tensors.count\" is %" PRId64 "; the files hold %zu",
                          first, tensors, gguf->tensor_count);
    return status;
}

static enum llm_status open_others(struct gguf *gguf, const struct model_files *files,
                                   struct llm_error *error)
{
    static const char key[] = "split.count";
    int64_t count = 0;
    if (gguf_find(gguf, key) == NULL)
        return LLM_OK;
    enum llm_status status = gguf_get_integer(gguf, key, 0, GGUF_FILES_MAX, &count, error);
    if (status != LLM_OK || count <= 1)
        return status;
    return open_split(gguf, files, count, error);
}

/* ---- the whole ---- */

static int by_name(const void *a, const void *b)
{
    const struct gguf_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static enum llm_status sort_tensors(struct gguf *gguf, struct llm_error *error)
{
    if (gguf->tensor_count == 0)
        return LLM_OK;
    qsort(gguf->tensors, gguf->tensor_count, sizeof *gguf->tensors, by_name);
    for (size_t i = 1; i < gguf->tensor_count; i++)
        if (strcmp(gguf->tensors[i - 1].name, gguf->tensors[i].name) == 0)
            return llm_fail(error, LLM_ERR_INVALID, "%s: tensor \"%s\" is there twice",
                            gguf->files[0].name, gguf->tensors[i].name);
    return LLM_OK;
}

enum llm_status gguf_open(struct gguf *gguf, const struct model_files *files, const char *name,
                          struct llm_error *error)
{
    *gguf = (struct gguf){0};
    gguf->files = calloc(GGUF_FILES_MAX, sizeof *gguf->files);
    if (gguf->files == NULL)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the list of GGUF files");
    enum llm_status status = open_file(gguf, files, name, error);
    if (status == LLM_OK)
        status = read_header(gguf, gguf, 0, error);
    if (status == LLM_OK)
        status = open_others(gguf, files, error);
    if (status == LLM_OK)
        status = sort_tensors(gguf, error);
    if (status != LLM_OK)
        gguf_close(gguf);
    return status;
}

void gguf_close(struct gguf *gguf)
{
    for (uint32_t i = 0; i < gguf->file_count; i++) {
        close(gguf->files[i].fd);
        free(gguf->files[i].name);
        free(gguf->files[i].header);
    }
    free(gguf->files);
    free(gguf->values);
    free(gguf->tensors);
    *gguf = (struct gguf){0};
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name)
{
    struct gguf_tensor key;
    if (gguf->tensor_count == 0 || strlen(name) >= sizeof key.name)
        return NULL;
    memcpy(key.name, name, strlen(name) + 1);
    return bsearch(&key, gguf->tensors, gguf->tensor_count, sizeof *gguf->tensors, by_name);
}

enum llm_status gguf_read(const struct gguf *gguf, const struct gguf_tensor *tensor, uint64_t first,
                          void *out, size_t bytes, struct llm_error *error)
{
    CHECK(first <= tensor->bytes && bytes <= tensor->bytes - first);
    const struct gguf_file *file = &gguf->files[tensor->file_slot];
    return model_file_read(file->fd, file->name, tensor->offset + first, out, bytes, error);
}
