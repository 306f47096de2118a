#include "client/text/jinja/numbers.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/text/jinja/characters.h"

/* ---- Reading ---------------------------------------------------------------------------------------- */

static unsigned digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'z')
        return (unsigned)(c - 'a') + 10;
    return c >= 'A' && c <= 'Z' ? (unsigned)(c - 'A') + 10 : 99;
}

bool llm_jinja_read_hex(const char *text, size_t bytes, unsigned digits, uint32_t *out)
{
    uint32_t code = 0;
    if (bytes < digits)
        return false;
    for (unsigned i = 0; i < digits; i++) {
        unsigned digit = digit_of(text[i]);
        if (digit > 15)
            return false;
        code = code << 4 | digit;
    }
    *out = code;
    return true;
}

/* strtod() of [text, bytes), which has the form of a number, with the locale's point in the point's place. */
static bool convert(const char *text, size_t bytes, double *out)
{
    const char *point = localeconv()->decimal_point;
    size_t point_bytes = strlen(point), used = 0;
    char *copy = malloc(bytes + point_bytes + 1), *end;
    if (!copy)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '.') {
            memcpy(copy + used, point, point_bytes);
            used += point_bytes;
        } else if (text[i] != '_') {
            copy[used++] = text[i];
        }
    }
    copy[used] = 0;
    double real = strtod(copy, &end);
    bool whole = used > 0 && end == copy + used;
    free(copy);
    if (whole)
        *out = real;
    return whole;
}

/* Digits of a base with single underscores between them; returns the place behind. */
static size_t skip_digits(const char *text, size_t bytes, size_t at, unsigned base)
{
    while (at < bytes) {
        bool underscore = text[at] == '_' && at + 1 < bytes && digit_of(text[at + 1]) < base;
        if (digit_of(text[at]) >= base && !underscore)
            break;
        at++;
    }
    return at;
}

/* The value of what skip_digits() passed; false beyond 64 bits. */
static bool sum_digits(const char *text, size_t bytes, unsigned base, bool negative, int64_t *out)
{
    uint64_t sum = 0, limit = (uint64_t)INT64_MAX + negative;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '_')
            continue;
        unsigned digit = digit_of(text[i]);
        if (sum > (limit - digit) / base)
            return false;
        sum = sum * base + digit;
    }
    *out = negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return true;
}

static unsigned prefix_base(const char *text, size_t bytes)
{
    if (bytes < 3 || text[0] != '0')
        return 10;
    char c = (char)(text[1] | 0x20);
    return c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
}

/* ".5" and "e-3" behind the digits before `at`; returns the place behind, `at` when there is neither. */
static size_t skip_fraction(const char *text, size_t bytes, size_t at)
{
    if (at + 1 < bytes && text[at] == '.' && digit_of(text[at + 1]) < 10)
        at = skip_digits(text, bytes, at + 1, 10);
    if (at < bytes && (text[at] | 0x20) == 'e') {
        size_t digits = at + 1;
        if (digits < bytes && (text[digits] == '+' || text[digits] == '-'))
            digits++;
        if (digits < bytes && digit_of(text[digits]) < 10)
            at = skip_digits(text, bytes, digits, 10);
    }
    return at;
}

struct jinja_value llm_jinja_read_literal(struct jinja_run *run, const char *text, size_t bytes,
                                          bool fraction_allowed, size_t *out_used)
{
    unsigned base = prefix_base(text, bytes);
    size_t start = base == 10 ? 0 : 2;
    size_t end = skip_digits(text, bytes, start, base);
    size_t fraction = base == 10 && fraction_allowed ? skip_fraction(text, bytes, end) : end;
    int64_t integer;
    double real;
    *out_used = fraction;
    if (fraction > end) {
        if (convert(text, fraction, &real))
            return jinja_float(real);
        return llm_jinja_fail(run, LLM_ERR_MEMORY, "no memory for a number");
    }
    if (end == start || !sum_digits(text + start, end - start, base, false, &integer))
        return llm_jinja_fail(run, LLM_ERR_INVALID, "an integer is malformed or beyond 64 bits");
    return jinja_int(integer);
}

static void trim_space(const char **text, size_t *bytes)
{
    while (*bytes > 0 && llm_jinja_is_space((unsigned char)**text))
        ++*text, --*bytes;
    while (*bytes > 0 && llm_jinja_is_space((unsigned char)(*text)[*bytes - 1]))
        --*bytes;
}

bool llm_jinja_parse_int(const char *text, size_t bytes, unsigned base, int64_t *out)
{
    trim_space(&text, &bytes);
    bool negative = bytes > 0 && text[0] == '-';
    if (bytes > 0 && (text[0] == '-' || text[0] == '+'))
        text++, bytes--;
    unsigned prefix = prefix_base(text, bytes);
    if (prefix != 10 && (base == 0 || base == prefix))
        base = prefix, text += 2, bytes -= 2;
    base = base == 0 ? 10 : base;
    return bytes > 0 && text[0] != '_' && skip_digits(text, bytes, 0, base) == bytes &&
           sum_digits(text, bytes, base, negative, out);
}

static bool is_word(const char *text, size_t bytes, const char *word)
{
    size_t i = 0;
    while (i < bytes && word[i] && (text[i] | 0x20) == word[i])
        i++;
    return i == bytes && !word[i];
}

static bool has_only_number_characters(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (text[i] == 0 || !strchr("0123456789.eE_+-", text[i]))
            return false;
    return true;
}

bool llm_jinja_parse_float(const char *text, size_t bytes, double *out)
{
    trim_space(&text, &bytes);
    bool negative = bytes > 0 && text[0] == '-';
    if (bytes > 0 && (text[0] == '-' || text[0] == '+'))
        text++, bytes--;
    double real = 0;
    if (is_word(text, bytes, "inf") || is_word(text, bytes, "infinity"))
        real = (double)INFINITY;
    else if (is_word(text, bytes, "nan"))
        real = (double)NAN;
    else if (bytes == 0 || bytes > 4096 || !has_only_number_characters(text, bytes) ||
             !convert(text, bytes, &real))
        return false;
    *out = negative ? -real : real;
    return true;
}

/* ---- Writing ---------------------------------------------------------------------------------------- */

/* The shortest decimal digits that read back as `real` (positive, finite); returns how many. Its value is
 * d.ddd * 10^exponent. */
static unsigned shortest_digits(double real, char digits[20], int *out_exponent)
{
    char text[JINJA_NUMBER_BYTES];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, real);
        if (strtod(text, NULL) == real)
            break;
    }
    unsigned count = 0;
    const char *at = text;
    for (; *at != 'e'; at++) /* the locale's point is stepped over */
        if (*at >= '0' && *at <= '9')
            digits[count++] = *at;
    *out_exponent = (int)strtol(at + 1, NULL, 10);
    while (count > 1 && digits[count - 1] == '0')
        count--;
    return count;
}

static size_t put_digits(char *out, const char *digits, unsigned count, int exponent)
{
    size_t used = 0;
    if (exponent < -4 || exponent >= 16) {
        out[used++] = digits[0];
        if (count > 1)
            out[used++] = '.';
        for (unsigned i = 1; i < count; i++)
            out[used++] = digits[i];
        return used +
               (size_t)snprintf(out + used, 8, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    }
    for (int place = exponent < 0 ? 0 : exponent; place > -20; place--) {
        int i = exponent - place;
        if (place < 0 && i >= (int)count)
            break;
        if (place == -1)
            out[used++] = '.';
        out[used++] = i >= 0 && i < (int)count ? digits[i] : '0';
    }
    if (exponent >= 0 && (int)count <= exponent + 1)
        out[used++] = '.', out[used++] = '0';
    return used;
}

size_t llm_jinja_format_float(double real, char out[JINJA_NUMBER_BYTES])
{
    size_t used = 0;
    if (isnan(real))
        return (size_t)snprintf(out, JINJA_NUMBER_BYTES, "nan");
    if (signbit(real))
        out[used++] = '-';
    if (isinf(real))
        return used + (size_t)snprintf(out + used, JINJA_NUMBER_BYTES - used, "inf");
    char digits[20] = "0";
    int exponent = 0;
    unsigned count = 1;
    if (real != 0)
        count = shortest_digits(fabs(real), digits, &exponent);
    used += put_digits(out + used, digits, count, exponent);
    out[used] = 0;
    return used;
}
