#include "client/text/jinja/lexer.h"

#include "client/text/jinja/characters.h"
#include "client/text/jinja/numbers.h"

static struct jinja_token token_end(struct jinja_lexer *lexer)
{
    return (struct jinja_token){.kind = JINJA_TOKEN_END, .at = (uint32_t)lexer->next};
}

static struct jinja_token bad(struct jinja_lexer *lexer, size_t at, const char *sentence)
{
    lexer->run->at = (uint32_t)at;
    (void)llm_jinja_fail(lexer->run, LLM_ERR_INVALID, "%s", sentence);
    return token_end(lexer);
}

static bool starts(const struct jinja_lexer *lexer, size_t at, const char *text)
{
    size_t count = strlen(text);
    return lexer->run->source_bytes - at >= count &&
           memcmp(lexer->run->source + at, text, count) == 0;
}

static size_t skip_space(const struct jinja_lexer *lexer, size_t at)
{
    const struct jinja_run *run = lexer->run;
    unsigned length;
    while (at < run->source_bytes &&
           llm_jinja_is_space(llm_jinja_character(run->source, run->source_bytes, at, &length)))
        at += length;
    return at;
}

/* The end of the white space-free part of [start, end). */
static size_t strip_end(const struct jinja_lexer *lexer, size_t start, size_t end)
{
    const char *source = lexer->run->source;
    while (end > start) {
        size_t at = end - 1;
        while (at > start && ((unsigned char)source[at] & 0xc0) == 0x80)
            at--;
        unsigned length;
        if (!llm_jinja_is_space(llm_jinja_character(source, end, at, &length)))
            break;
        end = at;
    }
    return end;
}

/* ---- Outside tags ----------------------------------------------------------------------------------- */

/* The end of the data in [start, end) that a tag with `sign` behind its opening follows. */
static size_t data_end(const struct jinja_lexer *lexer, size_t start, size_t end, char sign,
                       bool variable)
{
    if (sign == '-')
        return strip_end(lexer, start, end);
    if (sign == '+' || variable)
        return end;
    size_t line = end;
    while (line > start && lexer->run->source[line - 1] != '\n')
        line--;
    if (line == start && !lexer->line_start)
        return end;
    return strip_end(lexer, line, end) == line ? line : end;
}

/* Behind a block's or comment's end, which starts at `at` ("-%}", "+%}" or "%}"): 0 when it is none. */
static size_t behind_end(const struct jinja_lexer *lexer, size_t at, const char *closing, bool trim)
{
    char sign = at < lexer->run->source_bytes ? lexer->run->source[at] : 0;
    if (sign == '-' && starts(lexer, at + 1, closing))
        return skip_space(lexer, at + 3);
    if (trim && sign == '+' && starts(lexer, at + 1, closing))
        return at + 3;
    if (!starts(lexer, at, closing))
        return 0;
    return at + 2 + (trim && starts(lexer, at + 2, "\n"));
}

static char sign_at(const struct jinja_lexer *lexer, size_t at)
{
    char sign = at < lexer->run->source_bytes ? lexer->run->source[at] : 0;
    return sign == '-' || sign == '+' ? sign : 0;
}

static void move_to(struct jinja_lexer *lexer, size_t at)
{
    lexer->line_start = at > 0 && lexer->run->source[at - 1] == '\n';
    lexer->next = at;
}

/* Behind "{% raw %}" at `at`, or 0. */
static size_t behind_word_tag(const struct jinja_lexer *lexer, size_t at, const char *word,
                              bool trim)
{
    size_t name = skip_space(lexer, at + 2 + (sign_at(lexer, at + 2) != 0));
    if (!starts(lexer, name, word))
        return 0;
    return behind_end(lexer, skip_space(lexer, name + strlen(word)), "%}", trim);
}

static size_t find_next(const struct jinja_lexer *lexer, size_t at, char second)
{
    const struct jinja_run *run = lexer->run;
    for (; at + 1 < run->source_bytes; at++)
        if (run->source[at] == '{' &&
            (second ? run->source[at + 1] == second
                    : run->source[at + 1] == '{' || run->source[at + 1] == '%' ||
                          run->source[at + 1] == '#'))
            return at;
    return run->source_bytes;
}

static struct jinja_token data_token(struct jinja_lexer *lexer, size_t start, size_t end)
{
    struct jinja_token token = {.kind = JINJA_TOKEN_DATA, .at = (uint32_t)start};
    token.value = llm_jinja_string(lexer->run, lexer->run->source + start, end - start);
    return token;
}

/* The text of a raw block; lexer->next is behind its opening. */
static struct jinja_token lex_raw(struct jinja_lexer *lexer, size_t opening)
{
    size_t start = lexer->next;
    for (size_t at = start;; at++) {
        at = find_next(lexer, at, '%');
        if (at >= lexer->run->source_bytes)
            return bad(lexer, opening, "a raw block has no {% endraw %}");
        size_t behind = behind_word_tag(lexer, at, "endraw", true);
        if (behind == 0)
            continue;
        size_t end = data_end(lexer, start, at, sign_at(lexer, at + 2), false);
        move_to(lexer, behind);
        return data_token(lexer, start, end);
    }
}

static bool skip_comment(struct jinja_lexer *lexer, size_t opening)
{
    for (size_t at = opening + 2; at < lexer->run->source_bytes; at++) {
        size_t behind = behind_end(lexer, at, "#}", true);
        if (behind > 0) {
            move_to(lexer, behind);
            return true;
        }
    }
    (void)bad(lexer, opening, "a comment has no #}");
    return false;
}

/* The tag at `tag` opens; data before it has been given. */
static struct jinja_token open_tag(struct jinja_lexer *lexer, size_t tag)
{
    struct jinja_token token = {.at = (uint32_t)tag};
    token.kind =
        lexer->run->source[tag + 1] == '{' ? JINJA_TOKEN_VARIABLE_BEGIN : JINJA_TOKEN_BLOCK_BEGIN;
    lexer->inside = true;
    lexer->block = token.kind == JINJA_TOKEN_BLOCK_BEGIN;
    lexer->open_signs = 0;
    lexer->next = tag + 2 + (sign_at(lexer, tag + 2) != 0);
    return token;
}

static struct jinja_token lex_outside(struct jinja_lexer *lexer)
{
    while (lexer->next < lexer->run->source_bytes && !llm_jinja_failed(lexer->run)) {
        size_t start = lexer->next, tag = find_next(lexer, start, 0);
        if (tag == lexer->run->source_bytes) {
            lexer->next = tag;
            return data_token(lexer, start, tag);
        }
        char kind = lexer->run->source[tag + 1];
        size_t end = data_end(lexer, start, tag, sign_at(lexer, tag + 2), kind == '{');
        if (end > start) { /* come back for the tag itself */
            struct jinja_token token = data_token(lexer, start, end);
            lexer->next = tag;
            lexer->line_start = false;
            return token;
        }
        size_t behind = kind == '%' ? behind_word_tag(lexer, tag, "raw", false) : 0;
        if (behind > 0) {
            move_to(lexer, behind);
            return lex_raw(lexer, tag);
        }
        if (kind != '#')
            return open_tag(lexer, tag);
        if (!skip_comment(lexer, tag))
            break;
    }
    return token_end(lexer);
}

/* ---- Inside tags ------------------------------------------------------------------------------------ */

static struct jinja_token lex_name(struct jinja_lexer *lexer)
{
    const struct jinja_run *run = lexer->run;
    size_t start = lexer->next, at = start;
    unsigned length;
    while (at < run->source_bytes &&
           llm_jinja_is_name(llm_jinja_character(run->source, run->source_bytes, at, &length),
                             at == start))
        at += length;
    lexer->next = at;
    return (struct jinja_token){JINJA_TOKEN_NAME, 0, (uint32_t)start,
                                llm_jinja_string(lexer->run, run->source + start, at - start)};
}

static struct jinja_token lex_number(struct jinja_lexer *lexer)
{
    struct jinja_run *run = lexer->run;
    size_t start = lexer->next, used = 0;
    bool after_dot = start > 0 && run->source[start - 1] == '.'; /* a.0.1 has no fractions */
    struct jinja_token token = {.kind = JINJA_TOKEN_NUMBER, .at = (uint32_t)start};
    run->at = (uint32_t)start;
    token.value = llm_jinja_read_literal(run, run->source + start, run->source_bytes - start,
                                         !after_dot, &used);
    lexer->next += used;
    return token;
}

/* One escape of a string literal, `at` on the character behind the backslash; returns the place behind it. */
static size_t lex_escape(struct jinja_lexer *lexer, struct llm_buffer *text, size_t at, size_t end)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    struct jinja_run *run = lexer->run;
    char c = run->source[at];
    const char *known = strchr(from, c);
    unsigned digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t code = 0;
    if (c == '\n')
        return at + 1;
    if (c != 0 && known) {
        llm_jinja_append(run, text, &to[known - from], 1);
        return at + 1;
    }
    if (c >= '0' && c <= '7') {
        size_t stop = at + 3;
        for (; at < end && at < stop && run->source[at] >= '0' && run->source[at] <= '7'; at++)
            code = code * 8 + (uint32_t)(run->source[at] - '0');
        llm_jinja_append_code_point(run, text, code);
        return at;
    }
    if (digits == 0) { /* as Python: an unknown escape stays as it is written */
        llm_jinja_append(run, text, "\\", 1);
        return at;
    }
    if (!llm_jinja_read_hex(run->source + at + 1, end - at - 1, digits, &code) || code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000))
        (void)bad(lexer, at, "a string has a broken \\x, \\u or \\U escape");
    else
        llm_jinja_append_code_point(run, text, code);
    return at + 1 + digits;
}

static struct jinja_token lex_string(struct jinja_lexer *lexer)
{
    struct jinja_run *run = lexer->run;
    size_t start = lexer->next, end = start + 1;
    char quote = run->source[start];
    bool escapes = false;
    while (end < run->source_bytes && run->source[end] != quote) {
        escapes |= run->source[end] == '\\';
        end += run->source[end] == '\\' ? 2 : 1;
    }
    if (end >= run->source_bytes)
        return bad(lexer, start, "a string has no end");
    lexer->next = end + 1;
    struct jinja_token token = {.kind = JINJA_TOKEN_STRING, .at = (uint32_t)start};
    if (!escapes) {
        token.value = llm_jinja_string(run, run->source + start + 1, end - start - 1);
        return token;
    }
    struct llm_buffer text = {0};
    for (size_t at = start + 1; at < end && !llm_jinja_failed(run);) {
        if (run->source[at] == '\\')
            at = lex_escape(lexer, &text, at + 1, end);
        else
            llm_jinja_append(run, &text, &run->source[at++], 1);
    }
    token.value = llm_jinja_finish(run, &text);
    return token;
}

/* Brackets must close in order: a tag's end inside them is no end. */
static bool balance(struct jinja_lexer *lexer, char sign)
{
    if (sign == '(' || sign == '[' || sign == '{') {
        if (lexer->open_signs == sizeof lexer->opened)
            return false;
        lexer->opened[lexer->open_signs++] = sign == '(' ? ')' : sign == '[' ? ']' : '}';
    } else if (sign == ')' || sign == ']' || sign == '}') {
        return lexer->open_signs > 0 && lexer->opened[--lexer->open_signs] == sign;
    }
    return true;
}

static struct jinja_token lex_sign(struct jinja_lexer *lexer)
{
    static const char pairs[][3] = {"==", "!=", ">=", "<=", "//", "**"};
    struct jinja_token token = {.kind = JINJA_TOKEN_SIGN, .at = (uint32_t)lexer->next};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (starts(lexer, lexer->next, pairs[i])) {
            token.sign = JINJA_SIGN(pairs[i][0], pairs[i][1]);
            lexer->next += 2;
            return token;
        }
    char sign = lexer->run->source[lexer->next];
    if (sign == 0 || !strchr("+-/*%~[](){}><=.:|,;", sign))
        return bad(lexer, lexer->next, "a character that means nothing inside a tag");
    if (!balance(lexer, sign))
        return bad(lexer, lexer->next, "a bracket too many, or brackets in the wrong order");
    token.sign = JINJA_SIGN(sign, 0);
    lexer->next++;
    return token;
}

/* The tag's end, if it is here. */
static bool lex_end(struct jinja_lexer *lexer, struct jinja_token *token)
{
    size_t behind = 0;
    if (lexer->open_signs == 0)
        behind = behind_end(lexer, lexer->next, lexer->block ? "%}" : "}}", lexer->block);
    if (behind == 0)
        return false;
    *token = (struct jinja_token){.kind = lexer->block ? JINJA_TOKEN_BLOCK_END
                                                       : JINJA_TOKEN_VARIABLE_END,
                                  .at = (uint32_t)lexer->next};
    lexer->inside = false;
    move_to(lexer, behind);
    return true;
}

static struct jinja_token lex_inside(struct jinja_lexer *lexer)
{
    const struct jinja_run *run = lexer->run;
    lexer->next = skip_space(lexer, lexer->next);
    struct jinja_token token;
    if (lexer->next >= run->source_bytes)
        return bad(lexer, run->source_bytes, "the template ends inside a tag");
    if (lex_end(lexer, &token))
        return token;
    unsigned length;
    uint32_t c = llm_jinja_character(run->source, run->source_bytes, lexer->next, &length);
    if (llm_jinja_is_name(c, true))
        return lex_name(lexer);
    if (c >= '0' && c <= '9')
        return lex_number(lexer);
    if (c == '\'' || c == '"')
        return lex_string(lexer);
    return lex_sign(lexer);
}

struct jinja_token llm_jinja_lex(struct jinja_lexer *lexer)
{
    if (!llm_jinja_charge(lexer->run, 1))
        return token_end(lexer);
    return lexer->inside ? lex_inside(lexer) : lex_outside(lexer);
}
