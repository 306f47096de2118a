#include "daemon/model/spm_file.h"

#include <stdlib.h>
#include <string.h>

/* ---- Protocol buffers ------------------------------------------------------------------------------ */

enum wire {
    WIRE_VARINT = 0,
    WIRE_FIXED64 = 1,
    WIRE_BYTES = 2,
    WIRE_FIXED32 = 5
};

struct message { /* what is left of one */
    const uint8_t *at;
    const uint8_t *end;
    const uint8_t *file; /* where the file begins, for sentences */
    const char *name;    /* the file's */
    struct llm_error *error;
};

struct field {
    uint32_t number;
    enum wire wire;
    uint64_t value;          /* WIRE_VARINT, WIRE_FIXED32, WIRE_FIXED64 */
    struct vocab_name bytes; /* WIRE_BYTES */
};

static enum llm_status bad(const struct message *m, const char *what)
{
    return llm_fail(m->error, LLM_ERR_INVALID, "%s: byte %zu: %s", m->name,
                    (size_t)(m->at - m->file), what);
}

static enum llm_status read_varint(struct message *m, uint64_t *out_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (m->at == m->end)
            return bad(m, "a number is cut off");
        uint8_t byte = *m->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out_value = value;
            return LLM_OK;
        }
    }
    return bad(m, "a number has more than ten bytes");
}

static enum llm_status read_fixed(struct message *m, size_t bytes, uint64_t *out_value)
{
    if ((size_t)(m->end - m->at) < bytes)
        return bad(m, "a number is cut off");
    uint64_t value = 0;
    for (size_t i = bytes; i > 0; i--)
        value = value << 8 | m->at[i - 1];
    m->at += bytes;
    *out_value = value;
    return LLM_OK;
}

static enum llm_status read_bytes(struct message *m, struct vocab_name *out_bytes)
{
    uint64_t count = 0;
    enum llm_status status = read_varint(m, &count);
    if (status != LLM_OK)
        return status;
    if (count > (size_t)(m->end - m->at)) /* which is below SPM_FILE_BYTES_MAX */
        return bad(m, "a part is longer than what is left");
    *out_bytes = (struct vocab_name){m->at, (uint32_t)count};
    m->at += count;
    return LLM_OK;
}

/* The next field; the message is not at its end. */
static enum llm_status read_field(struct message *m, struct field *out_field)
{
    uint64_t key = 0;
    enum llm_status status = read_varint(m, &key);
    if (status != LLM_OK)
        return status;
    if (key >> 3 == 0 || key >> 3 > UINT32_MAX)
        return bad(m, "a field's number is out of range");
    *out_field = (struct field){.number = (uint32_t)(key >> 3), .wire = (enum wire)(key & 7)};
    switch (key & 7) {
    case WIRE_VARINT:
        return read_varint(m, &out_field->value);
    case WIRE_FIXED64:
        return read_fixed(m, 8, &out_field->value);
    case WIRE_BYTES:
        return read_bytes(m, &out_field->bytes);
    case WIRE_FIXED32:
        return read_fixed(m, 4, &out_field->value);
    default:
        return bad(m, "a field has a wire type that nobody writes");
    }
}

static struct message inside(const struct message *m, struct vocab_name part)
{
    struct message inner = *m;
    inner.at = part.bytes;
    inner.end = part.bytes + part.count;
    return inner;
}

/* ---- Fields ---------------------------------------------------------------------------------------- */

/* A known field of another wire type than the description's is a damaged file. */
static enum llm_status want(const struct message *m, const struct field *field, enum wire wire)
{
    return field->wire == wire ? LLM_OK : bad(m, "a field has the wrong wire type");
}

static enum llm_status take_flag(const struct message *m, const struct field *field, bool *out)
{
    enum llm_status status = want(m, field, WIRE_VARINT);
    if (status == LLM_OK)
        *out = field->value != 0;
    return status;
}

static enum llm_status take_bytes(const struct message *m, const struct field *field,
                                  struct vocab_name *out)
{
    enum llm_status status = want(m, field, WIRE_BYTES);
    if (status == LLM_OK)
        *out = field->bytes;
    return status;
}

static enum llm_status read_trainer(struct spm_file *file, struct message m)
{
    enum llm_status status = LLM_OK;
    while (m.at < m.end && status == LLM_OK) {
        struct field field;
        status = read_field(&m, &field);
        if (status != LLM_OK)
            break;
        switch (field.number) {
        case 3: /* model_type */
            status = want(&m, &field, WIRE_VARINT);
            file->model_type = field.value > SPM_MODEL_CHAR ? 0 : (uint32_t)field.value;
            break;
        case 24:
            status = take_flag(&m, &field, &file->space_as_suffix);
            break;
        case 35:
            status = take_flag(&m, &field, &file->byte_fallback);
            break;
        case 46:
            status = take_bytes(&m, &field, &file->bos_piece);
            break;
        case 47:
            status = take_bytes(&m, &field, &file->eos_piece);
            break;
        default:
            break;
        }
    }
    return status;
}

static enum llm_status read_normalizer(struct spm_file *file, struct message m)
{
    enum llm_status status = LLM_OK;
    while (m.at < m.end && status == LLM_OK) {
        struct field field;
        status = read_field(&m, &field);
        if (status != LLM_OK)
            break;
        switch (field.number) {
        case 2:
            status = take_bytes(&m, &field, &file->charsmap);
            break;
        case 3:
            status = take_flag(&m, &field, &file->add_dummy_prefix);
            break;
        case 4:
            status = take_flag(&m, &field, &file->remove_extra_whitespaces);
            break;
        case 5:
            status = take_flag(&m, &field, &file->escape_whitespaces);
            break;
        default:
            break;
        }
    }
    return status;
}

static enum llm_status read_denormalizer(struct spm_file *file, struct message m)
{
    struct spm_file other = *file;
    enum llm_status status = read_normalizer(&other, m);
    file->decode_charsmap = other.charsmap;
    return status;
}

/* ---- Pieces ---------------------------------------------------------------------------------------- */

static enum llm_status take_score(const struct message *m, const struct field *field, float *out)
{
    enum llm_status status = want(m, field, WIRE_FIXED32);
    uint32_t bits = (uint32_t)field->value;
    float score;
    memcpy(&score, &bits, sizeof score);
    if (status == LLM_OK && !(score == score))
        return bad(m, "a score is not a number");
    if (status == LLM_OK)
        *out = score;
    return status;
}

static enum llm_status take_type(const struct message *m, const struct field *field, uint8_t *out)
{
    enum llm_status status = want(m, field, WIRE_VARINT);
    if (status == LLM_OK && (field->value < SPM_PIECE_NORMAL || field->value > SPM_PIECE_BYTE))
        return bad(m, "a piece has a type that nobody writes");
    if (status == LLM_OK)
        *out = (uint8_t)field->value;
    return status;
}

static enum llm_status read_piece(struct spm_file *file, struct message m)
{
    struct vocab_name name = {m.at, 0};
    float score = 0;
    uint8_t type = SPM_PIECE_NORMAL;
    enum llm_status status = LLM_OK;
    while (m.at < m.end && status == LLM_OK) {
        struct field field;
        status = read_field(&m, &field);
        if (status == LLM_OK && field.number == 1)
            status = take_bytes(&m, &field, &name);
        else if (status == LLM_OK && field.number == 2)
            status = take_score(&m, &field, &score);
        else if (status == LLM_OK && field.number == 3)
            status = take_type(&m, &field, &type);
    }
    uint32_t id = file->piece_count;
    if (status == LLM_OK && name.count == 0)
        return llm_fail(m.error, LLM_ERR_INVALID, "%s: piece %u is empty", m.name, id);
    if (status == LLM_OK && name.count > LLM_VOCAB_TOKEN_BYTES_MAX)
        return llm_fail(m.error, LLM_ERR_LIMIT, "%s: piece %u has %u bytes, at most %u", m.name, id,
                        name.count, LLM_VOCAB_TOKEN_BYTES_MAX);
    if (status != LLM_OK)
        return status;
    file->names[id] = name;
    file->scores[id] = score;
    file->types[id] = type;
    file->piece_count++;
    return LLM_OK;
}

static enum llm_status count_pieces(struct message m, uint32_t *out_count)
{
    uint32_t count = 0;
    while (m.at < m.end) {
        struct field field;
        enum llm_status status = read_field(&m, &field);
        if (status != LLM_OK)
            return status;
        count += field.number == 1; /* below the file's bytes, which fit in 32 bits */
    }
    if (count == 0)
        return llm_fail(m.error, LLM_ERR_INVALID, "%s: there are no pieces", m.name);
    if (count > LLM_VOCAB_TOKENS_MAX)
        return llm_fail(m.error, LLM_ERR_LIMIT, "%s: %u pieces, at most %u", m.name, count,
                        LLM_VOCAB_TOKENS_MAX);
    *out_count = count;
    return LLM_OK;
}

/* ---- The file -------------------------------------------------------------------------------------- */

static enum llm_status read_top(struct spm_file *file, struct message m)
{
    enum llm_status status = LLM_OK;
    while (m.at < m.end && status == LLM_OK) {
        struct field field;
        status = read_field(&m, &field);
        if (status != LLM_OK || field.number == 0 || field.number > 5 || field.number == 4)
            continue; /* 4: the trainer's self test */
        status = want(&m, &field, WIRE_BYTES);
        if (status != LLM_OK)
            break;
        struct message inner = inside(&m, field.bytes);
        if (field.number == 1)
            status = read_piece(file, inner);
        else if (field.number == 2)
            status = read_trainer(file, inner);
        else if (field.number == 3)
            status = read_normalizer(file, inner);
        else
            status = read_denormalizer(file, inner);
    }
    return status;
}

enum llm_status spm_file_open(struct spm_file *out_file, const void *bytes, size_t byte_count,
                              const char *name, struct llm_error *error)
{
    struct spm_file file = {
        /* the description's defaults */
        .model_type = SPM_MODEL_UNIGRAM,           .bos_piece = {(const uint8_t *)"<s>", 3},
        .eos_piece = {(const uint8_t *)"</s>", 4}, .add_dummy_prefix = true,
        .remove_extra_whitespaces = true,          .escape_whitespaces = true};
    if (byte_count > SPM_FILE_BYTES_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "%s: %zu bytes, at most %zu", name, byte_count,
                        SPM_FILE_BYTES_MAX);
    struct message m = {.at = bytes,
                        .end = (const uint8_t *)bytes + byte_count,
                        .file = bytes,
                        .name = name,
                        .error = error};
    uint32_t count = 0;
    enum llm_status status = count_pieces(m, &count);
    if (status != LLM_OK)
        return status;
    file.names = calloc(count, sizeof *file.names);
    file.scores = calloc(count, sizeof *file.scores);
    file.types = calloc(count, sizeof *file.types);
    if (!file.names || !file.scores || !file.types)
        status = llm_fail(error, LLM_ERR_MEMORY, "%s: no memory for %u pieces", name, count);
    if (status == LLM_OK)
        status = read_top(&file, m);
    if (status != LLM_OK) {
        spm_file_close(&file);
        return status;
    }
    *out_file = file;
    return LLM_OK;
}

void spm_file_close(struct spm_file *file)
{
    free(file->names);
    free(file->scores);
    free(file->types);
    *file = (struct spm_file){0};
}
