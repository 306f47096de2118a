/* What the verbs share: a connection, a longest wait, texts from files, and the way from a status to an exit code. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "client/text.h"
#include "tools/llmctl/llmctl.h"

static enum llmctl_exit exit_code(enum llm_status status)
{
    switch (status) {
    case LLM_OK:
        return LLMCTL_DONE;
    case LLM_ERR_PERMISSION:
    case LLM_ERR_BUSY:
    case LLM_ERR_LIMIT:
        return LLMCTL_REFUSED;
    case LLM_ERR_TIMEOUT:
        return LLMCTL_TIMED_OUT;
    case LLM_ERR_PEER:
        return LLMCTL_NO_DAEMON;
    case LLM_ERR_INVALID:
    case LLM_ERR_NOT_FOUND:
    case LLM_ERR_CANCELLED:
    case LLM_ERR_FORKED:
    case LLM_ERR_SYSTEM:
    case LLM_ERR_MEMORY:
    case LLM_ERR_UNSUPPORTED:
    case LLM_ERR_VERSION:
    case LLM_ERR_CORRUPT:
    case LLM_ERR_POISON:
    case LLM_ERR_EXISTS:
    case LLM_STATUS_COUNT:
        break;
    }
    return LLMCTL_FAILED;
}

enum llmctl_exit llmctl_fail(const struct llm_error *error)
{
    fprintf(stderr, "llmctl: %s\n", error->message);
    return exit_code(error->status);
}

enum llm_status llmctl_connect(const struct arguments *arguments, bool autostart,
                               llm_connection **out_connection, llm_error *error)
{
    llm_connect_options options = {.socket = arguments->socket,
                                   .name = "llmctl",
                                   .no_autostart = !autostart,
                                   .timeout_ns = arguments->timeout_ns};
    enum llm_status status = llm_connect(out_connection, &options, error);
    /* Nobody to connect to is its own exit code; elsewhere "not found" is about a request or a model. */
    if (status == LLM_ERR_NOT_FOUND && error)
        error->status = LLM_ERR_PEER;
    return status == LLM_ERR_NOT_FOUND ? LLM_ERR_PEER : status;
}

/* ---- Time ------------------------------------------------------------------------------------------ */

static char time_is_up[96];

static void end_here(int signal_number)
{
    (void)signal_number;
    (void)!write(STDERR_FILENO, time_is_up, strlen(time_is_up));
    _exit(LLMCTL_TIMED_OUT);
}

void llmctl_limit_time(const struct arguments *arguments)
{
    uint64_t us = arguments->timeout_ns / 1000;
    struct itimerval once = {
        .it_value = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)}};
    if (us == 0)
        return;
    snprintf(time_is_up, sizeof time_is_up, "llmctl: the daemon has not answered within %.3g s\n",
             (double)us / 1e6);
    signal(SIGALRM, end_here);
    setitimer(ITIMER_REAL, &once, NULL);
}

/* ---- Texts ----------------------------------------------------------------------------------------- */

static enum llm_status read_all(FILE *file, const char *name, char **out_text, llm_error *error)
{
    size_t capacity = 0, used = 0;
    char *text = NULL;
    do {
        size_t wanted = capacity ? 2 * capacity : 65536;
        char *larger = wanted > 2 * LLM_ENCODE_BYTES_MAX ? NULL : realloc(text, wanted);
        if (!larger) {
            free(text);
            return llm_fail(error, LLM_ERR_LIMIT, "the text in %s is longer than %zu bytes", name,
                            LLM_ENCODE_BYTES_MAX);
        }
        text = larger;
        capacity = wanted;
        used += fread(text + used, 1, capacity - used - 1, file);
    } while (used == capacity - 1);
    text[used] = 0;
    if (ferror(file)) {
        free(text);
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot read %s", name);
    }
    *out_text = text;
    return LLM_OK;
}

enum llm_status llmctl_read_text(const char *path, char **out_text, llm_error *error)
{
    if (strcmp(path, "-") == 0)
        return read_all(stdin, "stdin", out_text, error);
    FILE *file = fopen(path, "re");
    if (!file)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot open %.150s", path);
    enum llm_status status = read_all(file, path, out_text, error);
    fclose(file);
    return status;
}
