/*
 * utf8.h - well-formed UTF-8, one character at a time.
 *
 * Idea     One table-free decision per lead byte: how many bytes the character has, and between which bounds
 *          its second byte must lie. The bounds exclude overlong forms, surrogates and code points beyond
 *          U+10FFFF, so a prefix that passes can still become a character.
 * See      The Unicode Standard 15.0, section 3.9, table 3-7.
 */
#ifndef LLM_CLIENT_TEXT_UTF8_H
#define LLM_CLIENT_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that starts with `lead`: 1..4, or 0 when no character starts so. */
static inline unsigned llm_utf8_length(uint8_t lead)
{
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* Whether `byte` may be byte number `at` (1..3) of the character that starts with `lead`. */
static inline bool llm_utf8_continues(uint8_t lead, unsigned at, uint8_t byte)
{
    uint8_t low = 0x80, high = 0xbf;
    if (at == 1) {
        low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    }
    return byte >= low && byte <= high;
}

/* Bytes of the well-formed character at `text` (bytes > 0), or 0 when there is none. */
static inline unsigned llm_utf8_character(const uint8_t *text, size_t bytes)
{
    unsigned length = llm_utf8_length(text[0]);
    if (length > bytes)
        return 0;
    for (unsigned i = 1; i < length; i++)
        if (!llm_utf8_continues(text[0], i, text[i]))
            return 0;
    return length;
}

/* The code point of a well-formed character of `length` bytes. */
static inline uint32_t llm_utf8_code_point(const uint8_t *text, unsigned length)
{
    if (length == 1)
        return text[0];
    uint32_t c = text[0] & (0x7fu >> length);
    for (unsigned i = 1; i < length; i++)
        c = c << 6 | (text[i] & 0x3fu);
    return c;
}

/* Write a code point (no surrogate, at most U+10FFFF); returns its 1..4 bytes. */
static inline unsigned llm_utf8_write(uint32_t c, uint8_t out[4])
{
    unsigned length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (unsigned i = length - 1; i > 0; i--, c >>= 6)
        out[i] = (uint8_t)(0x80 | (c & 0x3f));
    out[0] = (uint8_t)(leads[length] | c);
    return length;
}

#endif
