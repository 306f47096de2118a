#include "tests/support/spm_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model/spm_file.h"
#include "daemon/model/vocab_builder.h"
#include "shm/check.h"

/* ---- Fields ---------------------------------------------------------------------------------------- */

static void put(struct spm_bytes *to, const void *bytes, size_t count)
{
    if (count > to->capacity - to->count) {
        to->capacity = 2 * to->capacity + count + 64;
        to->bytes = realloc(to->bytes, to->capacity);
        CHECK(to->bytes != NULL);
    }
    if (count > 0)
        memcpy(to->bytes + to->count, bytes, count);
    to->count += count;
}

static void put_varint(struct spm_bytes *to, uint64_t value)
{
    while (value >= 0x80) {
        put(to, (uint8_t[]){(uint8_t)(value | 0x80)}, 1);
        value >>= 7;
    }
    put(to, (uint8_t[]){(uint8_t)value}, 1);
}

void spm_number(struct spm_bytes *message, unsigned field, uint64_t value)
{
    put_varint(message, field << 3);
    put_varint(message, value);
}

void spm_float(struct spm_bytes *message, unsigned field, float value)
{
    put_varint(message, field << 3 | 5);
    put(message, &value, sizeof value);
}

void spm_part(struct spm_bytes *message, unsigned field, const void *bytes, size_t count)
{
    put_varint(message, field << 3 | 2);
    put_varint(message, count);
    put(message, bytes, count);
}

void spm_message(struct spm_bytes *message, unsigned field, struct spm_bytes *inner)
{
    spm_part(message, field, inner->bytes, inner->count);
    free(inner->bytes);
    *inner = (struct spm_bytes){0};
}

void spm_piece(struct spm_bytes *model, const char *name, float score, unsigned type)
{
    struct spm_bytes piece = {0};
    spm_part(&piece, 1, name, strlen(name));
    spm_float(&piece, 2, score);
    spm_number(&piece, 3, type);
    spm_message(model, 1, &piece);
}

/* ---- The table of characters ----------------------------------------------------------------------- */

#define UNITS_MAX (64u * 256u)

struct table {
    uint32_t units[UNITS_MAX];
    uint32_t blocks; /* of 256 units, in use; block n + 1 holds the children of node n */
};

/* A unit with a label that its place never has: no walk takes it for a child. */
static uint32_t take_block(struct table *t)
{
    uint32_t base = t->blocks++ * 256;
    CHECK(base + 256 <= UNITS_MAX);
    for (uint32_t i = 0; i < 256; i++)
        t->units[base + i] = (i ^ 1) & 0xff;
    return base;
}

/* The base of a node's children, made if there is none yet. */
static uint32_t children_of(struct table *t, uint32_t node, uint32_t label)
{
    if (t->units[node] >> 10)
        return node ^ t->units[node] >> 10;
    uint32_t base = take_block(t);
    t->units[node] = (node ^ base) << 10 | label;
    return base;
}

static void add_entry(struct table *t, const char *from, uint32_t value)
{
    uint32_t node = 0, label = 0;
    for (; *from; from++) {
        uint32_t base = children_of(t, node, label);
        label = (uint8_t)*from;
        node = base + label;
        if (LLM_CHARSMAP_LABEL(t->units[node]) != label)
            t->units[node] = label;
    }
    uint32_t base = children_of(t, node, label);
    t->units[node] |= 1u << 8;
    t->units[base] = 1u << 31 | value;
}

struct spm_bytes spm_charsmap(const char *const *pairs, size_t pair_count)
{
    struct table *t = calloc(1, sizeof *t);
    struct spm_bytes text = {0}, out = {0};
    CHECK(t != NULL);
    take_block(t);
    t->units[0] = 0;
    for (size_t i = 0; i < pair_count; i++) {
        add_entry(t, pairs[2 * i], (uint32_t)text.count);
        put(&text, pairs[2 * i + 1], strlen(pairs[2 * i + 1]) + 1);
    }
    uint32_t unit_bytes = t->blocks * 256 * (uint32_t)sizeof *t->units;
    put(&out, &unit_bytes, sizeof unit_bytes);
    put(&out, t->units, unit_bytes);
    put(&out, text.bytes, text.count);
    free(text.bytes);
    free(t);
    return out;
}

/* ---- A whole file ---------------------------------------------------------------------------------- */

#define MARK "\xe2\x96\x81"

static void add_pieces(struct spm_bytes *model, const struct spm_options *options)
{
    static const char *const usual[] = {
        MARK, "h",        "e",        "l",          "o",  "w",    "r",          "d",
        "a",  "\xc3\xa9", MARK "h",   "el",         "lo", "ello", MARK "hello", MARK "w",
        "or", "ld",       MARK "wor", MARK "world", "aa", "aaa",  "1",          "f"};
    spm_piece(model, "<unk>", 0, SPM_PIECE_UNKNOWN);
    spm_piece(model, "<s>", 0, SPM_PIECE_CONTROL);
    spm_piece(model, "</s>", 0, SPM_PIECE_CONTROL);
    spm_piece(model, "<sep>", 0, SPM_PIECE_USER_DEFINED);
    spm_piece(model, MARK MARK, 0, SPM_PIECE_USER_DEFINED);
    for (unsigned byte = 0; byte < 256 && !options->no_bytes; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        spm_piece(model, name, 0, SPM_PIECE_BYTE);
    }
    for (size_t i = 0; options->letters && options->letters[i]; i++)
        spm_piece(model, options->letters[i], 0, SPM_PIECE_NORMAL);
    for (size_t i = 0; !options->letters && i < sizeof usual / sizeof *usual; i++)
        spm_piece(model, usual[i], -(float)i, SPM_PIECE_NORMAL);
}

struct spm_bytes small_spm(const struct spm_options *options)
{
    static const char *const pairs[] = {
        "\xc2\xa0",     " ",  "\xe3\x80\x80", " ", "e\xcc\x81", "\xc3\xa9", "\xe2\x91\xa0", "1",
        "\xef\xac\x80", "ff", "\x01",         "",  "\t",        " ",        "\xe2\x80\x87", " a "};
    static const struct spm_options none = {.letters = NULL};
    options = options ? options : &none;
    struct spm_bytes model = {0}, trainer = {0}, normalizer = {0};
    add_pieces(&model, options);
    spm_number(&trainer, 3, options->model_type ? options->model_type : SPM_MODEL_BPE);
    spm_number(&trainer, 35, !options->no_bytes);
    spm_message(&model, 2, &trainer);
    spm_part(&normalizer, 1, "small", 5);
    if (!options->no_charsmap) {
        struct spm_bytes map = spm_charsmap(pairs, sizeof pairs / sizeof *pairs / 2);
        spm_message(&normalizer, 2, &map);
    }
    spm_number(&normalizer, 3, !options->no_dummy_prefix);
    spm_number(&normalizer, 4, !options->keep_spaces);
    spm_message(&model, 3, &normalizer);
    return model;
}

struct spm_bytes load_spm(const char *path)
{
    struct spm_bytes model = {0};
    uint8_t part[4096];
    size_t count;
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    while ((count = fread(part, 1, sizeof part, file)) > 0)
        put(&model, part, count);
    fclose(file);
    return model;
}

/* ---- Building -------------------------------------------------------------------------------------- */

static struct vocab_source source_of(struct spm_bytes model, uint32_t token_count)
{
    return (struct vocab_source){.spm = model.bytes,
                                 .spm_bytes = model.count,
                                 .facts = {.name = "small",
                                           .token_count = token_count,
                                           .context_max_tokens = 512,
                                           .bos_id = LLM_TOKEN_NONE}};
}

void *build_spm_image(struct spm_bytes model, size_t *out_bytes)
{
    struct vocab_source source = source_of(model, 0);
    void *image;
    llm_error error;
    enum llm_status status = vocab_build(&source, &image, out_bytes, &error);
    if (status != LLM_OK)
        fprintf(stderr, "%s\n", error.message);
    CHECK(status == LLM_OK);
    return image;
}

enum llm_status try_build_spm(struct spm_bytes model, uint32_t token_count, llm_error *error)
{
    struct vocab_source source = source_of(model, token_count);
    void *image = NULL;
    size_t bytes;
    enum llm_status status = vocab_build(&source, &image, &bytes, error);
    if (status == LLM_OK)
        free(image);
    return status;
}
