#include "daemon/toml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct toml_reader {
    const char *at, *end;
    const char *name;
    unsigned line;
    struct llm_error *error;
    char table[TOML_KEY_BYTES]; /* the current one; empty before the first */
    /* names seen so far, one after the other, for duplicates: "[table]" and "table.key" */
    char *seen;
    size_t seen_bytes;
    unsigned seen_count;
    /* strings of the current value */
    char *text; /* [TOML_ARRAY_COUNT_MAX][TOML_STRING_BYTES] */
    const char *strings[TOML_ARRAY_COUNT_MAX];
    uint32_t string_count;
};

#define SEEN_BYTES ((size_t)TOML_TABLES_KEYS_MAX * (TOML_KEY_BYTES + 2))
#define TEXT_BYTES ((size_t)TOML_ARRAY_COUNT_MAX * TOML_STRING_BYTES)

/* The sentence always starts with "file:line: ". */
#define bad(reader, ...) bad_as(reader, LLM_ERR_INVALID, __VA_ARGS__)
#define bad_as(reader, status, format, ...)                                               \
    llm_fail((reader)->error, (status), "%s:%u: " format, (reader)->name, (reader)->line, \
             __VA_ARGS__)

/* ---- Characters ------------------------------------------------------------------------------------ */

static int peek(const struct toml_reader *reader)
{
    return reader->at < reader->end ? (unsigned char)*reader->at : -1;
}

static void skip_blanks(struct toml_reader *reader)
{
    while (peek(reader) == ' ' || peek(reader) == '\t')
        reader->at++;
}

static bool at_line_end(const struct toml_reader *reader)
{
    int c = peek(reader);
    return c == -1 || c == '\n' ||
           (c == '\r' && reader->at + 1 < reader->end && reader->at[1] == '\n');
}

static void take_line_end(struct toml_reader *reader)
{
    if (peek(reader) == '\r')
        reader->at++;
    if (peek(reader) == '\n') {
        reader->at++;
        reader->line++;
    }
}

static enum llm_status skip_comment(struct toml_reader *reader)
{
    if (peek(reader) != '#')
        return LLM_OK;
    for (; !at_line_end(reader); reader->at++)
        if ((peek(reader) < ' ' && peek(reader) != '\t') || peek(reader) == 0x7f)
            return bad(reader, "control character 0x%02x in a comment", (unsigned)peek(reader));
    return LLM_OK;
}

/* Blanks, an optional comment and the end of the line; anything else is too much. */
static enum llm_status finish_line(struct toml_reader *reader, const char *after)
{
    skip_blanks(reader);
    enum llm_status status = skip_comment(reader);
    if (status != LLM_OK)
        return status;
    if (!at_line_end(reader))
        return bad(reader, "unexpected text after %s", after);
    take_line_end(reader);
    return LLM_OK;
}

/* Blanks, comments and line ends, as between the elements of an array. */
static enum llm_status skip_between(struct toml_reader *reader)
{
    for (;;) {
        skip_blanks(reader);
        enum llm_status status = skip_comment(reader);
        if (status != LLM_OK)
            return status;
        if (peek(reader) == -1 || !at_line_end(reader))
            return LLM_OK;
        take_line_end(reader);
    }
}

/* ---- Names ----------------------------------------------------------------------------------------- */

static bool is_name_character(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

/* Append a bare name to `out` [TOML_KEY_BYTES], which holds `used` characters already. */
static enum llm_status read_name(struct toml_reader *reader, char *out, size_t used)
{
    const char *start = reader->at;
    while (is_name_character(peek(reader)))
        reader->at++;
    size_t bytes = (size_t)(reader->at - start);
    if (bytes == 0)
        return bad(reader, "expected a name of letters, digits, '_' or '-'%s", "");
    if (used + bytes >= TOML_KEY_BYTES)
        return bad_as(reader, LLM_ERR_LIMIT, "name is longer than %d characters",
                      TOML_KEY_BYTES - 1);
    memcpy(out + used, start, bytes);
    out[used + bytes] = '\0';
    return LLM_OK;
}

/* A part of a table's name in quotes: what a user or a group may be called. */
static enum llm_status read_quoted_name(struct toml_reader *reader, char *out, size_t used)
{
    size_t start = used;
    for (reader->at++; peek(reader) != '"'; reader->at++) {
        int c = peek(reader);
        if (!is_name_character(c) && c != '@' && c != '.' && c != '$' && c != '+')
            return bad(reader, "a quoted name has letters, digits and \"_-@.$+\"%s", "");
        if (used + 1 >= TOML_KEY_BYTES)
            return bad_as(reader, LLM_ERR_LIMIT, "name is longer than %d characters",
                          TOML_KEY_BYTES - 1);
        out[used++] = (char)c;
    }
    reader->at++;
    out[used] = '\0';
    return used > start ? LLM_OK : bad(reader, "a quoted name is empty%s", "");
}

static enum llm_status remember(struct toml_reader *reader, const char *prefix, const char *name)
{
    for (const char *old = reader->seen; old < reader->seen + reader->seen_bytes;
         old += strlen(old) + 1)
        if (old[0] == prefix[0] && strcmp(old + 1, name) == 0)
            return bad(reader, "%s \"%s\" appears twice", prefix[0] == '[' ? "table" : "key", name);
    if (reader->seen_count == TOML_TABLES_KEYS_MAX)
        return bad_as(reader, LLM_ERR_LIMIT, "more than %d tables and keys", TOML_TABLES_KEYS_MAX);
    size_t bytes = strlen(name) + 1;
    reader->seen[reader->seen_bytes] = prefix[0];
    memcpy(reader->seen + reader->seen_bytes + 1, name, bytes);
    reader->seen_bytes += bytes + 1;
    reader->seen_count++;
    return LLM_OK;
}

/* [table], [table.sub] or [table."sub"] */
static enum llm_status read_table(struct toml_reader *reader)
{
    reader->at++;
    if (peek(reader) == '[')
        return bad(reader, "arrays of tables are not supported%s", "");
    size_t used = 0;
    for (;;) {
        skip_blanks(reader);
        enum llm_status status = peek(reader) == '"' ? read_quoted_name(reader, reader->table, used)
                                                     : read_name(reader, reader->table, used);
        if (status != LLM_OK)
            return status;
        used = strlen(reader->table);
        skip_blanks(reader);
        if (peek(reader) != '.')
            break;
        reader->at++;
        if (used + 1 >= TOML_KEY_BYTES)
            return bad_as(reader, LLM_ERR_LIMIT, "name is longer than %d characters",
                          TOML_KEY_BYTES - 1);
        reader->table[used++] = '.';
    }
    if (peek(reader) != ']')
        return bad(reader, "table header \"%s\" lacks its ']'", reader->table);
    reader->at++;
    enum llm_status status = remember(reader, "[", reader->table);
    return status == LLM_OK ? finish_line(reader, "the table header") : status;
}

/* ---- Values ---------------------------------------------------------------------------------------- */

static enum llm_status read_escape(struct toml_reader *reader, char *out)
{
    static const char from[] = "\"\\bfnrt", to[] = "\"\\\b\f\n\r\t";
    int c = peek(reader);
    const char *found = c > 0 ? strchr(from, c) : NULL;
    if (!found)
        return bad(reader, "unknown escape in a string (only \\\" \\\\ \\b \\f \\n \\r \\t)%s", "");
    *out = to[found - from];
    reader->at++;
    return LLM_OK;
}

/* "basic" with escapes or 'literal' without, into the next place for a string. */
static enum llm_status read_string(struct toml_reader *reader)
{
    if (reader->string_count == TOML_ARRAY_COUNT_MAX)
        return bad_as(reader, LLM_ERR_LIMIT, "array has more than %d strings",
                      TOML_ARRAY_COUNT_MAX);
    char *out = reader->text + (size_t)reader->string_count * TOML_STRING_BYTES;
    size_t used = 0;
    int quote = peek(reader);
    reader->at++;
    while (peek(reader) != quote) {
        int c = peek(reader);
        if (c == -1 || c < ' ' || c == 0x7f)
            return bad(reader, "string is not closed, or has a control character%s", "");
        if (used == TOML_STRING_BYTES - 1)
            return bad_as(reader, LLM_ERR_LIMIT, "string is longer than %d bytes",
                          TOML_STRING_BYTES - 1);
        reader->at++;
        out[used] = (char)c;
        if (c == '\\' && quote == '"') {
            enum llm_status status = read_escape(reader, &out[used]);
            if (status != LLM_OK)
                return status;
        }
        used++;
    }
    reader->at++;
    out[used] = '\0';
    reader->strings[reader->string_count++] = out;
    return LLM_OK;
}

static enum llm_status read_array(struct toml_reader *reader)
{
    reader->at++;
    for (;;) {
        enum llm_status status = skip_between(reader);
        if (status != LLM_OK)
            return status;
        if (peek(reader) == ']')
            break;
        if (peek(reader) != '"' && peek(reader) != '\'')
            return bad(reader, "arrays may only hold strings%s", "");
        status = read_string(reader);
        if (status == LLM_OK)
            status = skip_between(reader);
        if (status != LLM_OK)
            return status;
        if (peek(reader) == ']')
            break;
        if (peek(reader) != ',')
            return bad(reader, "array lacks a ',' or its ']'%s", "");
        reader->at++;
    }
    reader->at++;
    return LLM_OK;
}

/* Digits with single underscores between them, as TOML has it. Copies them without. */
static bool copy_number(const char *from, size_t bytes, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < bytes; i++) {
        bool between = i > 0 && i + 1 < bytes && from[i - 1] >= '0' && from[i - 1] <= '9' &&
                       from[i + 1] >= '0' && from[i + 1] <= '9';
        if (from[i] == '_' && !between)
            return false;
        if (from[i] != '_')
            out[used++] = from[i];
    }
    out[used] = '\0';
    return used > 0;
}

/* [+-] digits [. digits] [e [+-] digits], no leading zeros. Says whether it is whole. */
static bool number_shape_ok(const char *text, bool *out_whole)
{
    if (*text == '+' || *text == '-')
        text++;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || (digits > 1 && text[0] == '0'))
        return false;
    text += digits;
    *out_whole = *text == '\0';
    if (*text == '.') {
        size_t fraction = strspn(text + 1, "0123456789");
        if (fraction == 0)
            return false;
        text += 1 + fraction;
    }
    if (*text == 'e' || *text == 'E') {
        text++;
        if (*text == '+' || *text == '-')
            text++;
        size_t exponent = strspn(text, "0123456789");
        if (exponent == 0)
            return false;
        text += exponent;
    }
    return *text == '\0';
}

static enum llm_status read_number(struct toml_reader *reader, const char *start, size_t bytes,
                                   struct toml_value *value)
{
    char copy[64];
    bool whole = false;
    if (bytes >= sizeof copy || !copy_number(start, bytes, copy) || !number_shape_ok(copy, &whole))
        return bad(reader, "\"%.*s\" is not a value; strings need quotes",
                   (int)(bytes < 40 ? bytes : 40), start);
    errno = 0;
    if (whole) {
        value->type = TOML_INTEGER;
        value->integer = strtoll(copy, NULL, 10);
    } else {
        value->type = TOML_FLOAT;
        value->number = strtod(copy, NULL);
    }
    if (errno == ERANGE)
        return bad(reader, "number %s is too large or too small", copy);
    return LLM_OK;
}

static enum llm_status read_word(struct toml_reader *reader, struct toml_value *value)
{
    const char *start = reader->at;
    while (is_name_character(peek(reader)) || peek(reader) == '.' || peek(reader) == '+' ||
           peek(reader) == ':')
        reader->at++;
    size_t bytes = (size_t)(reader->at - start);
    if (bytes == 0)
        return bad(reader, "value is missing or of a kind that is not supported%s", "");
    bool is_true = bytes == 4 && memcmp(start, "true", 4) == 0;
    bool is_false = bytes == 5 && memcmp(start, "false", 5) == 0;
    if (!is_true && !is_false)
        return read_number(reader, start, bytes, value);
    value->type = TOML_BOOLEAN;
    value->boolean = is_true;
    return LLM_OK;
}

static enum llm_status read_value(struct toml_reader *reader, struct toml_value *value)
{
    reader->string_count = 0;
    int c = peek(reader);
    enum llm_status status;
    if (c == '"' || c == '\'') {
        value->type = TOML_STRING;
        status = read_string(reader);
    } else if (c == '[') {
        value->type = TOML_STRINGS;
        status = read_array(reader);
    } else {
        status = read_word(reader, value);
    }
    value->strings = reader->strings;
    value->string_count = reader->string_count;
    return status;
}

/* ---- Lines ----------------------------------------------------------------------------------------- */

static enum llm_status read_pair(struct toml_reader *reader, toml_visit *visit, void *self)
{
    char key[TOML_KEY_BYTES];
    size_t used = strlen(reader->table);
    memcpy(key, reader->table, used + 1);
    if (used == 0)
        return bad(reader, "a key must stand in a table, for example [daemon]%s", "");
    if (used + 1 < TOML_KEY_BYTES)
        key[used++] = '.';
    enum llm_status status = read_name(reader, key, used);
    if (status != LLM_OK)
        return status;
    skip_blanks(reader);
    if (peek(reader) != '=')
        return bad(reader, "key \"%s\" lacks its '='", key);
    reader->at++;
    skip_blanks(reader);
    unsigned line = reader->line;
    struct toml_value value = {0};
    status = remember(reader, "k", key);
    if (status == LLM_OK)
        status = read_value(reader, &value);
    if (status == LLM_OK)
        status = finish_line(reader, "the value");
    return status == LLM_OK ? visit(self, key, &value, line, reader->error) : status;
}

static enum llm_status read_lines(struct toml_reader *reader, toml_visit *visit, void *self)
{
    enum llm_status status = LLM_OK;
    while (status == LLM_OK && reader->at < reader->end) {
        skip_blanks(reader);
        int c = peek(reader);
        if (c == '[')
            status = read_table(reader);
        else if (c == '#' || at_line_end(reader))
            status = finish_line(reader, "the line");
        else
            status = read_pair(reader, visit, self);
    }
    return status;
}

enum llm_status toml_read(const char *text, size_t bytes, const char *name, toml_visit *visit,
                          void *self, struct llm_error *error)
{
    if (bytes > TOML_FILE_BYTES_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "%s is larger than %d bytes", name,
                        TOML_FILE_BYTES_MAX);
    struct toml_reader reader = {
        .at = text, .end = text + bytes, .name = name, .line = 1, .error = error};
    reader.seen = malloc(SEEN_BYTES);
    reader.text = malloc(TEXT_BYTES);
    enum llm_status status = reader.seen && reader.text
                                 ? read_lines(&reader, visit, self)
                                 : llm_fail(error, LLM_ERR_MEMORY, "no memory to read %s", name);
    free(reader.seen);
    free(reader.text);
    return status;
}
