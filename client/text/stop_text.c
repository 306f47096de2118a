#include "client/text/stop_text.h"

#include <string.h>

void llm_stop_text_init(struct llm_stop_text *stop, const char *const *strings, uint32_t count)
{
    *stop = (struct llm_stop_text){0};
    for (uint32_t i = 0; i < count && stop->count < LLM_STOP_STRINGS_MAX; i++) {
        size_t bytes = strlen(strings[i]);
        if (bytes == 0 || bytes > LLM_STOP_STRING_BYTES_MAX)
            continue;
        memcpy(stop->strings[stop->count], strings[i], bytes);
        stop->bytes[stop->count++] = bytes;
    }
}

/* Does a stop string begin at `text`? *out_whole: all of it is there, not only its beginning. */
static bool begins(const struct llm_stop_text *stop, const char *text, size_t bytes,
                   bool *out_whole)
{
    bool begun = false;
    for (uint32_t i = 0; i < stop->count; i++) {
        size_t compared = bytes < stop->bytes[i] ? bytes : stop->bytes[i];
        if (memcmp(text, stop->strings[i], compared) != 0)
            continue;
        begun = true;
        if (compared == stop->bytes[i]) {
            *out_whole = true;
            return true;
        }
    }
    return begun;
}

size_t llm_stop_text_shown(const struct llm_stop_text *stop, const char *text, size_t bytes,
                           bool *out_found)
{
    size_t shown = bytes;
    *out_found = false;
    for (size_t at = 0; at < bytes; at++) {
        bool whole = false;
        if (!begins(stop, text + at, bytes - at, &whole))
            continue;
        if (at < shown)
            shown = at; /* the first place that may be one; a whole one may still follow */
        if (whole) {
            *out_found = true;
            return at;
        }
    }
    return shown;
}
