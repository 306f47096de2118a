#include "daemon/engine/stop_strings.h"

#include <string.h>

#define PIECE_BYTES 256

void stop_strings_init(struct stop_strings *stops, const struct llm_reqtab_record *record)
{
    *stops = (struct stop_strings){.count = record->body.stop_string_count,
                                   .lengths = record->stop_string_length,
                                   .strings = record->stop_strings};
}

static bool contains_any(const struct stop_strings *stops, const uint8_t *text, size_t bytes)
{
    for (uint32_t i = 0; i < stops->count; i++)
        if (memmem(text, bytes, stops->strings[i], stops->lengths[i]))
            return true;
    return false;
}

/* bytes: at most PIECE_BYTES */
static bool feed_piece(struct stop_strings *stops, const uint8_t *text, size_t bytes)
{
    uint8_t window[STOP_TAIL_BYTES + PIECE_BYTES];
    memcpy(window, stops->tail, stops->tail_bytes);
    memcpy(window + stops->tail_bytes, text, bytes);
    size_t window_bytes = stops->tail_bytes + bytes;
    size_t kept_bytes = window_bytes < STOP_TAIL_BYTES ? window_bytes : STOP_TAIL_BYTES;
    memcpy(stops->tail, window + window_bytes - kept_bytes, kept_bytes);
    stops->tail_bytes = (uint32_t)kept_bytes;
    return contains_any(stops, window, window_bytes);
}

bool stop_strings_feed(struct stop_strings *stops, const uint8_t *text, size_t bytes)
{
    bool found = false;
    while (stops->count > 0 && bytes > 0 && !found) {
        size_t piece_bytes = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
        found = feed_piece(stops, text, piece_bytes);
        text += piece_bytes;
        bytes -= piece_bytes;
    }
    return found;
}
