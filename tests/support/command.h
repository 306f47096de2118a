/*
 * command.h - shell commands as an operator types them, with this build's programs first on PATH.
 */
#ifndef TESTS_SUPPORT_COMMAND_H
#define TESTS_SUPPORT_COMMAND_H

#include <stddef.h>

/*
 *   out_text  [capacity] its standard output (and error, where the command says 2>&1), terminated
 *   returns   its exit code; 128 + N when signal N ended it
 */
int run_command(char *out_text, size_t capacity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A number of `llmctl status --json`: status_number("engine", "pid"). Fails the test where there is none. */
long long status_number(const char *object, const char *name);

#endif
