/*
 * byte_alphabet.h - GPT-2's 256 letters that stand for bytes.
 *
 * Idea     Byte-level vocabularies are stored as text, so each byte has a visible stand-in character: the
 *          printable ASCII and Latin-1 characters stand for themselves, the other 68 bytes, in ascending
 *          order, for U+0100, U+0101, ... (a space is U+0120).
 * See      bytes_to_unicode() in https://github.com/openai/gpt-2/blob/master/src/encoder.py
 */
#ifndef LLM_DAEMON_MODEL_BYTE_ALPHABET_H
#define LLM_DAEMON_MODEL_BYTE_ALPHABET_H

#include <stddef.h>
#include <stdint.h>

/* The stand-in's code point, U+0021..U+0143. */
uint32_t byte_alphabet_letter(uint8_t byte);
/* The byte that a code point stands for, or -1. */
int byte_alphabet_byte(uint32_t code_point);
/*
 * Turn UTF-8 stand-ins into the bytes they stand for.
 *
 *   out      [byte_count]
 *   returns  bytes written, or -1 when a character stands for no byte (then `out` is not to be used)
 */
ptrdiff_t byte_alphabet_decode(const char *text, size_t byte_count, uint8_t *out);

#endif
