#include "tests/support/command.h"

#include <check.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

static int exit_code(int wait_status)
{
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

int run_command(char *out_text, size_t capacity, const char *format, ...)
{
    char command[8192];
    int used = snprintf(command, sizeof command, "PATH=%s/bin:$PATH; ", LLM_BINARY_DIR);
    va_list args;
    va_start(args, format);
    vsnprintf(command + used, sizeof command - (size_t)used, format, args);
    va_end(args);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t bytes = fread(out_text, 1, capacity - 1, pipe);
    out_text[bytes] = 0;
    return exit_code(pclose(pipe));
}

long long status_number(const char *object, const char *name)
{
    static char output[65536];
    int rc = run_command(output, sizeof output, "llmctl status --json");
    ck_assert_msg(rc == 0, "llmctl status: exit code %d", rc);
    json_t *root = json_loads(output, 0, NULL);
    json_t *value = json_object_get(json_object_get(root, object), name);
    ck_assert_msg(json_is_integer(value), "no number %s.%s in %s", object, name, output);
    long long number = json_integer_value(value);
    json_decref(root);
    return number;
}
