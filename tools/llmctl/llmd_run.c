#include "tools/llmctl/llmd_run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/autostart.h"

#define ARGUMENTS_MAX 16

static void become_llmd(const char *program, const char *const *arguments, int out_fd)
{
    const char *argv[ARGUMENTS_MAX + 2] = {"llmd"};
    for (int i = 0; i < ARGUMENTS_MAX && arguments[i]; i++)
        argv[i + 1] = arguments[i];
    dup2(out_fd, STDOUT_FILENO);
    execv(program, (char *const *)(uintptr_t)argv);
    fprintf(stderr, "llmctl: cannot run %s: %s\n", program, strerror(errno));
    _exit(127);
}

static char *read_all(int fd)
{
    size_t used = 0, capacity = 16384;
    char *text = malloc(capacity);
    for (ssize_t taken = 1; text && taken != 0;) {
        if (used + 1 == capacity) {
            char *larger = realloc(text, capacity *= 2);
            if (!larger)
                free(text);
            text = larger;
            continue;
        }
        taken = read(fd, text + used, capacity - used - 1);
        if (taken < 0 && errno != EINTR)
            break;
        used += taken > 0 ? (size_t)taken : 0;
    }
    if (text)
        text[used] = '\0';
    return text;
}

static int wait_for(pid_t pid)
{
    int how = 0;
    while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
}

enum llm_status llmd_run(const char *const *arguments, char **out_text, int *out_exit_code,
                         struct llm_error *error)
{
    char program[PATH_MAX];
    int ends[2];
    enum llm_status status = llm_autostart_find_program(program, error);
    if (status != LLM_OK)
        return status;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot run %.150s", program);
    fflush(NULL); /* the child must not print it again */
    pid_t pid = fork();
    if (pid == 0)
        become_llmd(program, arguments, ends[1]);
    int fork_errno = errno;
    close(ends[1]);
    char *text = pid > 0 ? read_all(ends[0]) : NULL;
    close(ends[0]);
    if (pid < 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, fork_errno, "cannot run %.150s", program);
    int exit_code = wait_for(pid);
    if (!text)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for what %.150s prints", program);
    *out_text = text;
    *out_exit_code = exit_code;
    return LLM_OK;
}

bool llmd_setting_next(char **text, struct llmd_setting *out_setting)
{
    const char **const fields[] = {&out_setting->key,     &out_setting->value, &out_setting->origin,
                                   &out_setting->initial, &out_setting->type,  &out_setting->range,
                                   &out_setting->sentence};
    for (char *line; (line = strsep(text, "\n")) != NULL;) {
        size_t count = 0;
        for (char *field; count < 7 && (field = strsep(&line, "\t")) != NULL; count++)
            *fields[count] = field;
        if (count == 7)
            return true;
    }
    return false;
}
