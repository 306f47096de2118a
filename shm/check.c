#include "shm/check.h"

#include <stdio.h>
#include <stdlib.h>

static void (*check_hook)(void);

void llm_check_set_hook(void (*hook)(void))
{
    check_hook = hook;
}

noreturn void llm_check_failed(const char *expression, const char *file, int line,
                               const char *function)
{
    fprintf(stderr, "CHECK failed: %s (%s:%d, %s)\n", expression, file, line, function);
    void (*hook)(void) = check_hook;
    check_hook = NULL; /* a hook that fails its own CHECK must not loop */
    if (hook)
        hook();
    abort();
}
