#include "daemon/model/byte_alphabet.h"

#include <stdbool.h>

static bool stands_for_itself(uint32_t c)
{
    return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

/* The n-th byte that needs a stand-in: 0x00..0x20, 0x7f..0xa0, 0xad. */
uint32_t byte_alphabet_letter(uint8_t byte)
{
    if (stands_for_itself(byte))
        return byte;
    if (byte <= 0x20)
        return 0x100u + byte;
    return byte == 0xad ? 0x143u : 0x121u + (byte - 0x7fu);
}

int byte_alphabet_byte(uint32_t c)
{
    if (c < 0x100)
        return stands_for_itself(c) ? (int)c : -1;
    if (c <= 0x120)
        return (int)(c - 0x100);
    if (c <= 0x142)
        return (int)(c - 0x121 + 0x7f);
    return c == 0x143 ? 0xad : -1;
}

ptrdiff_t byte_alphabet_decode(const char *text, size_t byte_count, uint8_t *out)
{
    size_t written = 0;
    for (size_t i = 0; i < byte_count; written++) {
        uint8_t lead = (uint8_t)text[i++];
        uint32_t c = lead;
        if (lead >= 0x80) { /* every stand-in above ASCII is a two-byte sequence: C2..C5 */
            if (lead < 0xc2 || lead > 0xc5 || i == byte_count)
                return -1;
            c = (uint32_t)(lead & 0x1f) << 6 | ((uint8_t)text[i++] & 0x3f);
        }
        int byte = byte_alphabet_byte(c);
        if (byte < 0)
            return -1;
        out[written] = (uint8_t)byte;
    }
    return (ptrdiff_t)written;
}
