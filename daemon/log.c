#include "daemon/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOG_LINE_BYTES 1024

static const char *const level_names[LOG_LEVEL_COUNT] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARN] = "warn",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

static enum log_level level_most = LOG_LEVEL_INFO;
static const char *program_name;

bool log_level_parse(const char *name, enum log_level *out_level)
{
    for (unsigned level = 0; level < LOG_LEVEL_COUNT; level++)
        if (strcmp(name, level_names[level]) == 0) {
            *out_level = (enum log_level)level;
            return true;
        }
    return false;
}

void log_set(enum log_level most, const char *program)
{
    level_most = most;
    program_name = program;
}

static void replace_control_characters(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

void log_line(enum log_level level, const char *format, ...)
{
    if (level > level_most)
        return;
    char line[LOG_LINE_BYTES];
    int used = snprintf(line, sizeof line, "%s %s%s", level_names[level],
                        program_name ? program_name : "", program_name ? ": " : "");
    va_list args;
    va_start(args, format);
    vsnprintf(line + used, sizeof line - (size_t)used - 1, format, args); /* room for the newline */
    va_end(args);
    replace_control_characters(line);
    size_t bytes = strlen(line);
    line[bytes++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, bytes);
    (void)written; /* nowhere to say that there is nowhere to say it */
}
