#include "daemon/model/gguf.h"

#include "daemon/model/gguf_value.h"
#include "shm/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers as they stand: little-endian, at any address ---- */

uint64_t gguf_load(const unsigned char *bytes, size_t count)
{
    uint64_t value = 0;
    for (size_t i = count; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

size_t gguf_value_type_bytes(enum gguf_value_type type)
{
    static const size_t bytes[GGUF_VALUE_TYPE_COUNT] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
    };
    return (unsigned)type < GGUF_VALUE_TYPE_COUNT ? bytes[type] : 0;
}

static bool is_integer(enum gguf_value_type type)
{
    switch (type) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_U16:
    case GGUF_I16:
    case GGUF_U32:
    case GGUF_I32:
    case GGUF_U64:
    case GGUF_I64:
        return true;
    case GGUF_F32:
    case GGUF_BOOL:
    case GGUF_TEXT:
    case GGUF_ARRAY:
    case GGUF_F64:
    case GGUF_VALUE_TYPE_COUNT:
        break;
    }
    return false;
}

static bool is_signed(enum gguf_value_type type)
{
    return type == GGUF_I8 || type == GGUF_I16 || type == GGUF_I32 || type == GGUF_I64;
}

static int64_t load_integer(const unsigned char *bytes, enum gguf_value_type type)
{
    size_t count = gguf_value_type_bytes(type);
    uint64_t raw = gguf_load(bytes, count);
    uint64_t sign = UINT64_C(1) << (8 * count - 1);
    if (is_signed(type)) /* two's complement of `count` bytes */
        return raw & sign ? -1 - (int64_t)((sign - 1) & ~raw) : (int64_t)raw;
    return raw > INT64_MAX ? INT64_MAX : (int64_t)raw;
}

static double load_real(const unsigned char *bytes, enum gguf_value_type type)
{
    if (type == GGUF_F32) {
        uint32_t bits = (uint32_t)gguf_load(bytes, 4);
        float value;
        memcpy(&value, &bits, sizeof value);
        return (double)value;
    }
    uint64_t bits = gguf_load(bytes, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- one value ---- */

int gguf_text_compare(struct gguf_text a, struct gguf_text b)
{
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common == 0 ? 0 : memcmp(a.bytes, b.bytes, common);
    if (order != 0)
        return order;
    return a.length < b.length ? -1 : a.length > b.length;
}

int gguf_value_by_key(const void *a, const void *b)
{
    const struct gguf_value *x = a, *y = b;
    return gguf_text_compare(x->key, y->key);
}

const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key)
{
    struct gguf_value wanted = {.key = {key, strlen(key)}};
    if (gguf->value_count == 0)
        return NULL;
    return bsearch(&wanted, gguf->values, gguf->value_count, sizeof *gguf->values,
                   gguf_value_by_key);
}

static enum llm_status require(const struct gguf *gguf, const char *key,
                               const struct gguf_value **out_value, struct llm_error *error)
{
    *out_value = gguf_find(gguf, key);
    if (*out_value == NULL)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "%s has no key \"%s\"", gguf->files[0].name, key);
    return LLM_OK;
}

static enum llm_status wrong_kind(const struct gguf *gguf, const char *key, const char *wanted,
                                  struct llm_error *error)
{
    return llm_fail(error, LLM_ERR_INVALID, "%s: key \"%s\" is not %s", gguf->files[0].name, key,
                    wanted);
}

enum llm_status gguf_get_integer(const struct gguf *gguf, const char *key, int64_t min, int64_t max,
                                 int64_t *out_integer, struct llm_error *error)
{
    const struct gguf_value *value;
    enum llm_status status = require(gguf, key, &value, error);
    if (status != LLM_OK)
        return status;
    if (!is_integer(value->type))
        return wrong_kind(gguf, key, "an integer", error);
    int64_t integer = load_integer(value->bytes, value->type);
    if (integer < min || integer > max)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: key \"%s\" is %" PRId64 "; it must be %" PRId64 "..%" PRId64,
                        gguf->files[0].name, key, integer, min, max);
    *out_integer = integer;
    return LLM_OK;
}

enum llm_status gguf_get_real(const struct gguf *gguf, const char *key, double min, double max,
                              double *out_real, struct llm_error *error)
{
    const struct gguf_value *value;
    enum llm_status status = require(gguf, key, &value, error);
    if (status != LLM_OK)
        return status;
    if (value->type != GGUF_F32 && value->type != GGUF_F64)
        return wrong_kind(gguf, key, "a real number", error);
    double real = load_real(value->bytes, value->type);
    if (!(real >= min && real <= max))
        return llm_fail(error, LLM_ERR_INVALID, "%s: key \"%s\" is %g; it must be %g..%g",
                        gguf->files[0].name, key, real, min, max);
    *out_real = real;
    return LLM_OK;
}

enum llm_status gguf_get_flag(const struct gguf *gguf, const char *key, bool *out_flag,
                              struct llm_error *error)
{
    const struct gguf_value *value;
    enum llm_status status = require(gguf, key, &value, error);
    if (status == LLM_OK && value->type != GGUF_BOOL)
        status = wrong_kind(gguf, key, "true or false", error);
    if (status == LLM_OK)
        *out_flag = value->bytes[0] != 0;
    return status;
}

enum llm_status gguf_get_text(const struct gguf *gguf, const char *key, struct gguf_text *out_text,
                              struct llm_error *error)
{
    const struct gguf_value *value;
    enum llm_status status = require(gguf, key, &value, error);
    if (status == LLM_OK && value->type != GGUF_TEXT)
        status = wrong_kind(gguf, key, "a text", error);
    if (status == LLM_OK)
        *out_text = (struct gguf_text){(const char *)value->bytes, value->byte_count};
    return status;
}

/* ---- arrays ---- */

static bool items_are(enum gguf_value_type type, enum gguf_items wanted)
{
    switch (wanted) {
    case GGUF_ITEMS_TEXTS:
        return type == GGUF_TEXT;
    case GGUF_ITEMS_INTEGERS:
        return is_integer(type);
    case GGUF_ITEMS_REALS:
        return type == GGUF_F32 || type == GGUF_F64;
    case GGUF_ITEMS_FLAGS:
        break;
    }
    return type == GGUF_BOOL;
}

enum llm_status gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_items items,
                               const struct gguf_value **out_array, struct llm_error *error)
{
    static const char *const names[] = {"an array of texts", "an array of integers",
                                        "an array of real numbers", "an array of true and false"};
    const struct gguf_value *value;
    enum llm_status status = require(gguf, key, &value, error);
    if (status == LLM_OK && (value->type != GGUF_ARRAY || !items_are(value->item_type, items)))
        status = wrong_kind(gguf, key, names[items], error);
    if (status == LLM_OK)
        *out_array = value;
    return status;
}

static const unsigned char *item_at(const struct gguf_value *array, uint64_t index)
{
    CHECK(index < array->count);
    return array->bytes + index * gguf_value_type_bytes(array->item_type);
}

int64_t gguf_array_integer(const struct gguf_value *array, uint64_t index)
{
    CHECK(is_integer(array->item_type));
    return load_integer(item_at(array, index), array->item_type);
}

double gguf_array_real(const struct gguf_value *array, uint64_t index)
{
    CHECK(array->item_type == GGUF_F32 || array->item_type == GGUF_F64);
    return load_real(item_at(array, index), array->item_type);
}

bool gguf_array_flag(const struct gguf_value *array, uint64_t index)
{
    CHECK(array->item_type == GGUF_BOOL);
    return *item_at(array, index) != 0;
}

struct gguf_texts gguf_texts(const struct gguf_value *array)
{
    CHECK(array->item_type == GGUF_TEXT);
    return (struct gguf_texts){.cursor = array->bytes, .left = array->count};
}

/* Every length was checked at open. */
bool gguf_texts_next(struct gguf_texts *texts, struct gguf_text *out_text)
{
    if (texts->left == 0)
        return false;
    size_t length = (size_t)gguf_load(texts->cursor, GGUF_LENGTH_BYTES);
    *out_text = (struct gguf_text){(const char *)texts->cursor + GGUF_LENGTH_BYTES, length};
    texts->cursor += GGUF_LENGTH_BYTES + length;
    texts->left--;
    return true;
}

/* ---- texts ---- */

bool gguf_text_is(struct gguf_text text, const char *wanted)
{
    return text.length == strlen(wanted) && memcmp(text.bytes, wanted, text.length) == 0;
}

struct json_shown gguf_text_show(struct gguf_text text)
{
    char copy[sizeof(struct json_shown) + 1];
    size_t bytes = text.length < sizeof copy - 1 ? text.length : sizeof copy - 1;
    for (size_t i = 0; i < bytes; i++)
        copy[i] = (unsigned char)text.bytes[i] - 0x20u < 0x5fu ? text.bytes[i] : '?';
    copy[bytes] = '\0';
    return json_show(copy);
}

/* ---- how tensors store numbers ---- */

/* Number, name, elements and bytes of a block: ggml's published table (ggml.h, ggml-common.h). Numbers that
 * are not here were withdrawn (Q4_2, Q4_3, Q4_0_4_4, ...) or are newer than this list. */
static const struct gguf_tensor_type tensor_types[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 36},      {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},  {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},
    {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},  {22, "IQ2_S", 256, 82},
    {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},   {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
};

const struct gguf_tensor_type *gguf_tensor_type_find(uint32_t id)
{
    for (size_t i = 0; i < sizeof tensor_types / sizeof tensor_types[0]; i++)
        if (tensor_types[i].id == id)
            return &tensor_types[i];
    return NULL;
}
