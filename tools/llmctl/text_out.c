#include "tools/llmctl/text_out.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "shm/check.h"

#define NS_PER_S UINT64_C(1000000000)

struct text_number text_plain(uint64_t value)
{
    struct text_number out;
    snprintf(out.text, sizeof out.text, "%" PRIu64, value);
    return out;
}

struct text_number text_grouped(uint64_t value)
{
    struct text_number plain = text_plain(value), out;
    size_t count = strlen(plain.text), at = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && (count - i) % 3 == 0)
            out.text[at++] = ' ';
        out.text[at++] = plain.text[i];
    }
    out.text[at] = 0;
    return out;
}

struct text_number text_clock(uint64_t duration_ns)
{
    uint64_t seconds = duration_ns / NS_PER_S;
    unsigned days = (unsigned)(seconds / 86400);
    unsigned h = (unsigned)(seconds / 3600 % 24), m = (unsigned)(seconds / 60 % 60);
    struct text_number out;
    if (days)
        snprintf(out.text, sizeof out.text, "%u d %02u:%02u:%02u", days, h, m,
                 (unsigned)(seconds % 60));
    else
        snprintf(out.text, sizeof out.text, "%02u:%02u:%02u", h, m, (unsigned)(seconds % 60));
    return out;
}

struct text_number text_span(uint64_t duration_ns)
{
    double ms = (double)duration_ns / 1e6;
    struct text_number out;
    if (ms < 10)
        snprintf(out.text, sizeof out.text, "%.1f ms", ms);
    else if (ms < 1e4)
        snprintf(out.text, sizeof out.text, "%.0f ms", ms);
    else
        snprintf(out.text, sizeof out.text, "%.0f s", ms / 1e3);
    return out;
}

struct text_number text_bytes(uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000) {
        value /= 1000;
        unit++;
    }
    struct text_number out;
    snprintf(out.text, sizeof out.text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

/* Lengths and the legal range of the second byte, by first byte: RFC 3629, section 4. */
size_t text_character(const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    if (bytes == 0)
        return 0;
    if (s[0] < 0x80)
        return 1;
    size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || bytes < length)
        return 0;
    unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

void text_printable(char *out, size_t capacity, const char *text)
{
    size_t used = 0, bytes = strlen(text);
    for (size_t at = 0; at < bytes;) {
        size_t length = text_character(text + at, bytes - at);
        unsigned char c = (unsigned char)text[at];
        /* C0, DEL, and C1 (U+0080..U+009F is c2 80..c2 9f) steer terminals. */
        bool control = c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)text[at + 1] < 0xa0);
        bool shown = length > 0 && !control;
        size_t wanted = shown ? length : 1;
        if (used + wanted >= capacity)
            break;
        if (shown)
            memcpy(out + used, text + at, length);
        else
            out[used] = '?';
        used += wanted;
        at += length ? length : 1;
    }
    out[used] = 0;
}

/* ---- Tables ---------------------------------------------------------------------------------------- */

void text_table_init(struct text_table *table, const char *align)
{
    *table = (struct text_table){.column_count = (int)strlen(align)};
    CHECK(table->column_count <= TEXT_COLUMNS_MAX);
    memcpy(table->align, align, (size_t)table->column_count);
}

static char *cell_at(const struct text_table *table, size_t index)
{
    return table->cells + index * TEXT_CELL_BYTES_MAX;
}

void text_table_cell(struct text_table *table, const char *format, ...)
{
    if (table->cell_count == table->cell_capacity) {
        table->cell_capacity = table->cell_capacity ? 2 * table->cell_capacity : 64;
        table->cells = realloc(table->cells, table->cell_capacity * TEXT_CELL_BYTES_MAX);
        CHECK(table->cells != NULL);
    }
    char raw[TEXT_CELL_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    text_printable(cell_at(table, table->cell_count++), TEXT_CELL_BYTES_MAX, raw);
}

/* Columns a terminal needs for it: one per character, taking every character as one cell wide. */
static int display_width(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void print_cell(FILE *file, const char *text, int width, char align, bool last)
{
    int pad = width - display_width(text);
    if (align == 'r')
        fprintf(file, "%*s%s", pad, "", text);
    else
        fprintf(file, "%s%*s", text, last ? 0 : pad, "");
    fputs(last ? "\n" : "  ", file);
}

void text_table_close(struct text_table *table, FILE *file)
{
    int width[TEXT_COLUMNS_MAX] = {0};
    size_t columns = (size_t)table->column_count;
    CHECK(table->cell_count % columns == 0);
    for (size_t i = 0; i < table->cell_count; i++) {
        int cell_width = display_width(cell_at(table, i));
        if (cell_width > width[i % columns])
            width[i % columns] = cell_width;
    }
    for (size_t i = 0; i < table->cell_count; i++)
        print_cell(file, cell_at(table, i), width[i % columns], table->align[i % columns],
                   i % columns == columns - 1);
    free(table->cells);
    *table = (struct text_table){0};
}
