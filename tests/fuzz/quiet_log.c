/* quiet_log.c - daemon/log.h for fuzzers: lines are made, so that sanitizers see how, and thrown away. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/log.h"
#include "shm/check.h"

bool log_level_parse(const char *name, enum log_level *out_level)
{
    *out_level = LOG_LEVEL_INFO;
    return strlen(name) > 0;
}

void log_set(enum log_level most, const char *program)
{
    CHECK(most < LOG_LEVEL_COUNT && program);
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    CHECK(vsnprintf(line, sizeof line, format, args) > 0 && level < LOG_LEVEL_COUNT);
    va_end(args);
}
