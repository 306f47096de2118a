#include "tools/llmctl/json_out.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "shm/check.h"
#include "tools/llmctl/text_out.h"

void json_out_init(struct json_out *json, FILE *file)
{
    *json = (struct json_out){.file = file};
}

static void write_string(struct json_out *json, const char *text, size_t bytes)
{
    fputc('"', json->file);
    for (size_t at = 0; at < bytes;) {
        unsigned char c = (unsigned char)text[at];
        size_t length = text_character(text + at, bytes - at);
        if (length == 0) {
            fputs("\\ufffd", json->file);
            at++;
            continue;
        }
        if (c == '"' || c == '\\')
            fprintf(json->file, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", json->file);
        else if (c < 0x20 || c == 0x7f)
            fprintf(json->file, "\\u%04x", c);
        else
            fwrite(text + at, 1, length, json->file);
        at += length;
    }
    fputc('"', json->file);
}

static void begin_value(struct json_out *json, const char *key)
{
    bool in_object = json->depth > 0 && json->closers[json->depth - 1] == '}';
    CHECK(in_object == (key != NULL)); /* values of objects have keys, no others do */
    if (json->comma_due[json->depth])
        fputs(", ", json->file);
    json->comma_due[json->depth] = true;
    if (key) {
        write_string(json, key, strlen(key));
        fputs(": ", json->file);
    }
}

static void open_level(struct json_out *json, const char *key, char opener, char closer)
{
    begin_value(json, key);
    CHECK(json->depth < JSON_OUT_DEPTH_MAX);
    fputc(opener, json->file);
    json->closers[json->depth++] = closer;
    json->comma_due[json->depth] = false;
}

void json_out_object(struct json_out *json, const char *key)
{
    open_level(json, key, '{', '}');
}

void json_out_array(struct json_out *json, const char *key)
{
    open_level(json, key, '[', ']');
}

void json_out_end(struct json_out *json)
{
    CHECK(json->depth > 0);
    fputc(json->closers[--json->depth], json->file);
    if (json->depth == 0)
        fputc('\n', json->file);
}

void json_out_bytes(struct json_out *json, const char *key, const char *text, size_t bytes)
{
    begin_value(json, key);
    write_string(json, text, bytes);
}

void json_out_text(struct json_out *json, const char *key, const char *text)
{
    json_out_bytes(json, key, text, strlen(text));
}

void json_out_count(struct json_out *json, const char *key, uint64_t value)
{
    begin_value(json, key);
    fprintf(json->file, "%" PRIu64, value);
}

void json_out_real(struct json_out *json, const char *key, double value)
{
    begin_value(json, key);
    if (isfinite(value))
        fprintf(json->file, "%.9g", value);
    else
        fputs("null", json->file);
}

void json_out_thousandths(struct json_out *json, const char *key, uint64_t thousandths)
{
    begin_value(json, key);
    fprintf(json->file, "%" PRIu64 ".%03u", thousandths / 1000, (unsigned)(thousandths % 1000));
}

void json_out_bool(struct json_out *json, const char *key, bool value)
{
    begin_value(json, key);
    fputs(value ? "true" : "false", json->file);
}
