/*
 * json_out.h - append JSON to a file, value by value.
 *
 * Idea     A value is written the moment it is named; the writer only remembers how deep it is and whether a
 *          comma is due. Inside an object every value has a key, inside an array none (key NULL).
 * Owner    The caller owns the file. json_out_end() closes what json_out_object() or _array() opened.
 * Trust    Texts may come from clients and models: control characters, quotes and bytes that are not
 *          UTF-8 are escaped or replaced (U+FFFD), so that the result is always valid JSON (RFC 8259).
 * See      tests/tools/test_json_out.c, `llmctl VERB --json`.
 */
#ifndef LLMCTL_JSON_OUT_H
#define LLMCTL_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_OUT_DEPTH_MAX 8

struct json_out {
    FILE *file;
    int depth;
    char closers[JSON_OUT_DEPTH_MAX]; /* '}' or ']' per open level */
    bool comma_due[JSON_OUT_DEPTH_MAX + 1];
};

void json_out_init(struct json_out *json, FILE *file);

/* Open an object or an array; the outermost one has no key. */
void json_out_object(struct json_out *json, const char *key);
void json_out_array(struct json_out *json, const char *key);
/* Close the innermost; the outermost is followed by a newline. */
void json_out_end(struct json_out *json);

void json_out_text(struct json_out *json, const char *key, const char *text);
void json_out_bytes(struct json_out *json, const char *key, const char *text, size_t bytes);
void json_out_count(struct json_out *json, const char *key, uint64_t value);
void json_out_real(struct json_out *json, const char *key, double value); /* NaN, infinity: null */
/* thousandths / 1000, to the last digit: microseconds of nanoseconds. */
void json_out_thousandths(struct json_out *json, const char *key, uint64_t thousandths);
void json_out_bool(struct json_out *json, const char *key, bool value);

#endif
