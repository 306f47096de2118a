#include "daemon/model/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/vocab_image.h"

/* Oniguruma's \s in Unicode: the White_Space property, written out because PCRE2's \s adds U+180E and older
 * versions do not know the property's name. The second set is the complement. */
#define SPACE  \
    "\\t-\\r " \
    "\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACE                                                                                \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}!-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"    \
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{" \
    "10ffff}"
#define WORD "\\p{L}\\p{M}\\p{N}\\p{Pc}"

struct rewriter {
    char *out; /* [LLM_VOCAB_PATTERN_BYTES_MAX + 1] */
    size_t bytes;
    bool too_long;
};

static void put(struct rewriter *r, const char *text, size_t bytes)
{
    if (bytes > LLM_VOCAB_PATTERN_BYTES_MAX - r->bytes) {
        r->too_long = true;
        return;
    }
    memcpy(r->out + r->bytes, text, bytes);
    r->bytes += bytes;
}

static void put_set(struct rewriter *r, const char *open, const char *set, bool in_class)
{
    if (!in_class)
        put(r, open, strlen(open));
    put(r, set, strlen(set));
    if (!in_class)
        put(r, "]", 1);
}

/* The escape \x, where x = `letter`. */
static enum llm_status put_escape(struct rewriter *r, char letter, bool in_class,
                                  struct llm_error *error)
{
    switch (letter) {
    case 's':
        put_set(r, "[", SPACE, in_class);
        return LLM_OK;
    case 'S':
        put_set(r, in_class ? "" : "[^", in_class ? NOT_SPACE : SPACE, in_class);
        return LLM_OK;
    case 'w':
        put_set(r, "[", WORD, in_class);
        return LLM_OK;
    case 'W':
        if (in_class)
            break;
        put_set(r, "[^", WORD, in_class);
        return LLM_OK;
    case 'h': /* hexadecimal digit there, horizontal space here */
    case 'H':
    case 'b': /* borders of a word class that PCRE2 draws differently */
    case 'B':
    case 'O':
    case 'y':
    case 'Y':
    case 'K':
        break;
    default:
        put(r, (char[]){'\\', letter}, 2);
        return LLM_OK;
    }
    return llm_fail(error, LLM_ERR_UNSUPPORTED, "uses \\%c%s, which PCRE2 reads differently",
                    letter, in_class ? " in a set" : "");
}

static enum llm_status rewrite(struct rewriter *r, const char *source, size_t bytes,
                               struct llm_error *error)
{
    unsigned class_depth = 0;
    for (size_t i = 0; i < bytes; i++) {
        char c = source[i];
        if (c == '\\' && i + 1 < bytes) {
            enum llm_status status = put_escape(r, source[++i], class_depth > 0, error);
            if (status != LLM_OK)
                return status;
            continue;
        }
        bool posix = c == '[' && class_depth > 0 && i + 1 < bytes && source[i + 1] == ':';
        if (class_depth > 0 &&
            ((c == '[' && !posix) || (c == '&' && i + 1 < bytes && source[i + 1] == '&')))
            return llm_fail(error, LLM_ERR_UNSUPPORTED,
                            "nests or intersects sets, which PCRE2 reads differently");
        if (posix) { /* [:name:] */
            const char *end = memchr(source + i, ']', bytes - i);
            size_t length = end ? (size_t)(end - (source + i)) + 1 : bytes - i;
            put(r, source + i, length);
            i += length - 1;
            continue;
        }
        if (c == '[')
            class_depth = 1;
        else if (c == ']')
            class_depth = 0;
        put(r, &c, 1);
    }
    return LLM_OK;
}

static void quote(struct rewriter *r, const char *source, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (strchr("\\^$.[]|()?*+{}-#", source[i]))
            put(r, "\\", 1);
        put(r, &source[i], 1);
    }
}

static enum llm_status compile_check(const char *pattern, size_t bytes, struct llm_error *error)
{
    int code;
    PCRE2_SIZE offset;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)pattern, bytes, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                      &code, &offset, NULL);
    if (compiled) {
        pcre2_code_free(compiled);
        return LLM_OK;
    }
    PCRE2_UCHAR reason[128] = "";
    (void)pcre2_get_error_message(code, reason, sizeof reason); /* a cut text is still terminated */
    return llm_fail(error, LLM_ERR_INVALID, "does not compile: %s at byte %zu",
                    (const char *)reason, (size_t)offset);
}

/* White space at the end, as DeepSeek's files cut it: searched for from each place of a long run of spaces that is not at
 * the end, it costs the square of the run. A match can only begin where the run does. */
static bool is_trailing_space(const char *source, size_t bytes)
{
    return bytes == 4 && memcmp(source, "\\s+$", 4) == 0;
}
static const char trailing_space[] = "(?<!\\s)\\s+$";

enum llm_status split_pattern_rewrite(const char *source, size_t bytes, bool literal,
                                      char **out_pattern, struct llm_error *error)
{
    if (bytes == 0)
        return llm_fail(error, LLM_ERR_INVALID, "is empty");
    if (memchr(source, 0, bytes))
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "contains a zero byte");
    struct rewriter r = {.out = malloc(LLM_VOCAB_PATTERN_BYTES_MAX + 1)};
    if (!r.out)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the pattern");

    enum llm_status status = LLM_OK;
    if (literal)
        quote(&r, source, bytes);
    else if (is_trailing_space(source, bytes))
        status = rewrite(&r, trailing_space, sizeof trailing_space - 1, error);
    else
        status = rewrite(&r, source, bytes, error);
    if (status == LLM_OK && r.too_long)
        status =
            llm_fail(error, LLM_ERR_LIMIT, "is longer than %u bytes", LLM_VOCAB_PATTERN_BYTES_MAX);
    if (status == LLM_OK)
        status = compile_check(r.out, r.bytes, error);
    if (status != LLM_OK) {
        free(r.out);
        return status;
    }
    r.out[r.bytes] = 0;
    *out_pattern = r.out;
    return LLM_OK;
}
