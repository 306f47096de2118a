#include "client/text/jinja/run.h"

#include <stdarg.h>
#include <stdio.h>

#include "client/text/utf8.h"

/* Line and column, from 1, of a place in the source; a column is a character. */
static void find_place(const struct jinja_run *run, unsigned *out_line, unsigned *out_column)
{
    unsigned line = 1, column = 1;
    for (size_t i = 0; i < run->at && i < run->source_bytes; i++) {
        if (run->source[i] == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)run->source[i] & 0xc0) != 0x80) {
            column++;
        }
    }
    *out_line = line;
    *out_column = column;
}

struct jinja_value llm_jinja_fail(struct jinja_run *run, enum llm_status status, const char *format,
                                  ...)
{
    if (llm_jinja_failed(run))
        return jinja_undefined();
    run->status = status;
    char sentence[LLM_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    unsigned line, column;
    find_place(run, &line, &column);
    (void)llm_fail(run->error, status, "template line %u, column %u: %s", line, column, sentence);
    return jinja_undefined();
}

bool llm_jinja_charge(struct jinja_run *run, uint64_t steps)
{
    if (llm_jinja_failed(run))
        return false;
    if (steps > run->steps_left) {
        (void)llm_jinja_fail(run, LLM_ERR_LIMIT, "the template needs more than %llu steps",
                             (unsigned long long)JINJA_STEPS_MAX);
        return false;
    }
    run->steps_left -= steps;
    return true;
}

bool llm_jinja_charge_bytes(struct jinja_run *run, size_t bytes)
{
    return llm_jinja_charge(run, 1 + bytes / 64);
}

bool llm_jinja_enter(struct jinja_run *run)
{
    if (llm_jinja_failed(run))
        return false;
    if (run->depth >= JINJA_DEPTH_MAX) {
        (void)llm_jinja_fail(run, LLM_ERR_LIMIT, "nested deeper than %u levels", JINJA_DEPTH_MAX);
        return false;
    }
    run->depth++;
    return true;
}

void *llm_jinja_take(struct jinja_run *run, size_t bytes)
{
    void *piece = llm_jinja_failed(run) ? NULL : llm_jinja_arena_take(run->arena, bytes);
    if (!piece && !llm_jinja_failed(run))
        (void)llm_jinja_fail(run, LLM_ERR_LIMIT, "more than %zu MiB of memory are needed",
                             run->arena->limit_bytes >> 20);
    return piece;
}

void llm_jinja_append(struct jinja_run *run, struct llm_buffer *text, const void *bytes,
                      size_t count)
{
    if (!llm_jinja_charge_bytes(run, count))
        return;
    if (count > JINJA_OUTPUT_BYTES_MAX - text->count)
        (void)llm_jinja_fail(run, LLM_ERR_LIMIT, "a text grows beyond %zu MiB",
                             JINJA_OUTPUT_BYTES_MAX >> 20);
    else if (!llm_buffer_append(text, bytes, count))
        (void)llm_jinja_fail(run, LLM_ERR_MEMORY, "no memory for a text of %zu bytes",
                             text->count + count);
}

void llm_jinja_append_text(struct jinja_run *run, struct llm_buffer *text, const char *terminated)
{
    llm_jinja_append(run, text, terminated, strlen(terminated));
}

void llm_jinja_append_string(struct jinja_run *run, struct llm_buffer *text,
                             const struct jinja_string *string)
{
    llm_jinja_append(run, text, string->bytes, string->count);
}

void llm_jinja_append_code_point(struct jinja_run *run, struct llm_buffer *text, uint32_t c)
{
    uint8_t bytes[4];
    llm_jinja_append(run, text, bytes, llm_utf8_write(c, bytes));
}

struct jinja_value llm_jinja_finish(struct jinja_run *run, struct llm_buffer *text)
{
    struct jinja_value v = llm_jinja_copy(run, (const char *)text->bytes, text->count);
    llm_buffer_close(text);
    return v;
}
