/*
 * log.h - one line per event, on standard error.
 *
 * Idea     "level text", the text being a noun followed by key=value pairs, so that people and scripts
 *          read the same lines. A line is one write(2): lines of keeper and engine never mix.
 * Threads  Any.
 * Trust    Text from clients is printed through `%s` only, and control characters come out as '?'.
 */
#ifndef LLMD_DAEMON_LOG_H
#define LLMD_DAEMON_LOG_H

#include <stdbool.h>

#include "shm/status.h"

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARN,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_COUNT
};

/* "error", "warn", "info", "debug"; false for any other name. */
bool log_level_parse(const char *name, enum log_level *out_level);

/* Lines above `most` are dropped; `program` follows the level ("info engine: ..."); NULL: nothing does. */
void log_set(enum log_level most, const char *program);

void log_line(enum log_level level, const char *format, ...) LLM_PRINTF(2, 3);

#endif
