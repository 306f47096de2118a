/*
 * log.h - one line per event, on standard error, for people and programs alike.
 *
 * Idea     An event is a message in our words and fields, key and value. The line is logfmt
 *          (time=... level=info process=llmd pid=7 generation=1 msg="client attached" name="a b"), JSON, or text
 *          for a terminal; a line is one write(2), so lines of keeper and engine never mix.
 * Journal  When standard error is the journal's stream ($JOURNAL_STREAM, systemd.exec(5)) a line begins with its
 *          priority (<6>, sd-daemon(3)) and has the monotonic clock, for the journal stamps the other.
 * Limit    Each place in the program writes at most log.lines_per_minute lines, all at once or spread; its
 *          next line then says how many were left out (suppressed=N). So nobody can fill a disk from outside.
 * Threads  Any.
 * Trust    Values may be a client's: quotes, backslashes, control characters and bytes that are not UTF-8 are
 *          escaped, so a value never ends early and never begins a line. They are cut at LOG_VALUE_BYTES.
 * See      tests/daemon/test_log.c.
 */
#ifndef LLMD_DAEMON_LOG_H
#define LLMD_DAEMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/status.h"

#define LOG_VALUE_BYTES 600
#define LOG_FIELDS_MAX  8

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARN,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_COUNT
};

enum log_format {
    LOG_FORMAT_LOGFMT,
    LOG_FORMAT_JSON,
    LOG_FORMAT_TEXT,
    LOG_FORMAT_COUNT
};

/* "error", "warn", "info", "debug"; false for any other name. */
bool log_level_parse(const char *name, enum log_level *out_level);
/* "logfmt", "json", "text" */
bool log_format_parse(const char *name, enum log_format *out_format);

/* How to write from now on; `lines_per_minute` 0: without limit. `process` must outlive the log. */
void log_open(enum log_level most, enum log_format format, uint64_t lines_per_minute,
              const char *process);
/* The engine generation that lines are about; 0: none yet, and no field. */
void log_set_generation(uint64_t generation);

struct log_field {
    const char *key;  /* ours: letters and '_' */
    const char *text; /* NULL: `count` is the value */
    uint64_t count;
};
static inline struct log_field log_count(const char *key, uint64_t count)
{
    return (struct log_field){.key = key, .count = count};
}
static inline struct log_field log_text(const char *key, const char *text)
{
    return (struct log_field){.key = key, .text = text};
}

/* log_event(LOG_LEVEL_INFO, "client attached", log_count("connection", id), log_text("name", name)) */
#define log_event(level, message, ...)                                     \
    do {                                                                   \
        static struct log_site log_site_;                                  \
        const struct log_field log_fields_[] = {__VA_ARGS__};              \
        log_write(&log_site_, (level), (message), log_fields_,             \
                  (unsigned)(sizeof log_fields_ / sizeof log_fields_[0])); \
    } while (0)

/* log_line(LOG_LEVEL_INFO, "stopped"): a sentence without fields, formatted as by printf. */
#define log_line(level, ...)                         \
    do {                                             \
        static struct log_site log_site_;            \
        log_print(&log_site_, (level), __VA_ARGS__); \
    } while (0)

/* ---- What the macros expand to -------------------------------------------------------------------- */

struct log_site { /* one place in the program; zero to begin with */
    _Atomic uint64_t
        due_ns; /* when all that it wrote would have been written at the allowed rate */
    _Atomic uint64_t suppressed;
};
void log_write(struct log_site *site, enum log_level level, const char *message,
               const struct log_field *fields, unsigned field_count);
void log_print(struct log_site *site, enum log_level level, const char *format, ...)
    LLM_PRINTF(3, 4);

#endif
