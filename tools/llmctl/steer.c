/* llmctl ping, cancel, engine restart, drain, resume, stop - one call to the library each. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tools/llmctl/daemon_find.h"
#include "tools/llmctl/json_out.h"
#include "tools/llmctl/llmctl.h"
#include "tools/llmctl/text_out.h"

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* One line for people, or {"done": true, "<name>": value}. */
static void say(const struct arguments *arguments, const char *sentence, const char *name,
                uint64_t value)
{
    if (!arguments->json) {
        puts(sentence);
        return;
    }
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_object(&json, NULL);
    json_out_bool(&json, "done", true);
    json_out_count(&json, name, value);
    json_out_end(&json);
}

enum llmctl_exit llmctl_ping(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_error error;
    if (llmctl_connect(arguments, true, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    uint64_t started_ns = now_ns();
    enum llm_status status = llm_ping(connection, arguments->timeout_ns, &error);
    uint64_t took_ns = now_ns() - started_ns;
    llm_disconnect(connection);
    if (status != LLM_OK)
        return llmctl_fail(&error);
    char sentence[64];
    snprintf(sentence, sizeof sentence, "the engine answered in %.1f us", (double)took_ns / 1e3);
    say(arguments, sentence, "round_trip_ns", took_ns);
    return LLMCTL_DONE;
}

enum llmctl_exit llmctl_cancel(const struct arguments *arguments)
{
    const char *text = arguments->positional[0];
    char *end;
    uint64_t request_id = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || request_id == 0) {
        fprintf(stderr, "llmctl: cancel takes a request's number, not \"%s\"\n", text);
        return LLMCTL_USAGE;
    }
    llm_connection *connection;
    llm_error error;
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status =
        llm_request_cancel(connection, request_id, arguments->timeout_ns, &error);
    llm_disconnect(connection);
    if (status != LLM_OK)
        return llmctl_fail(&error);
    char sentence[64];
    snprintf(sentence, sizeof sentence, "request %" PRIu64 " cancelled", request_id);
    say(arguments, sentence, "request_id", request_id);
    return LLMCTL_DONE;
}

/* Look again every 10 ms until `reached` or the time is up. */
static bool wait_until(const struct arguments *arguments, uint64_t wanted,
                       bool (*reached)(const struct arguments *, uint64_t wanted))
{
    uint64_t end_ns = now_ns() + arguments->timeout_ns;
    while (!reached(arguments, wanted)) {
        if (now_ns() >= end_ns)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return true;
}

/* ---- engine restart -------------------------------------------------------------------------------- */

static bool engine_ready_at(const struct arguments *arguments, uint64_t generation)
{
    struct status_view *view;
    if (daemon_look(arguments, &view, NULL) != LLM_OK)
        return false;
    bool ready = view->ready_generation >= generation;
    free(view);
    return ready;
}

enum llmctl_exit llmctl_engine_restart(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_error error;
    struct status_view *view;
    if (daemon_look(arguments, &view, &error) != LLM_OK)
        return llmctl_fail(&error);
    uint64_t generation = view->engine_generation + 1;
    free(view);
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    uint64_t started_ns = now_ns();
    enum llm_status status = llm_daemon_restart_engine(connection, &error);
    llm_disconnect(connection);
    if (status == LLM_OK && !wait_until(arguments, generation, engine_ready_at))
        status =
            llm_fail(&error, LLM_ERR_TIMEOUT, "engine generation %" PRIu64 " is not ready after %s",
                     generation, text_span(arguments->timeout_ns).text);
    if (status != LLM_OK)
        return llmctl_fail(&error);
    char sentence[96];
    snprintf(sentence, sizeof sentence, "engine generation %" PRIu64 " serves after %s", generation,
             text_span(now_ns() - started_ns).text);
    say(arguments, sentence, "generation", generation);
    return LLMCTL_DONE;
}

/* ---- stop ------------------------------------------------------------------------------------------ */

static bool keeper_gone(const struct arguments *arguments, uint64_t keeper_pid)
{
    (void)arguments;
    return !process_lives((uint32_t)keeper_pid);
}

enum llmctl_exit llmctl_stop(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_error error;
    llm_connection_info info;
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status = llm_connection_describe(connection, &info, &error);
    if (status == LLM_OK)
        status = llm_daemon_stop(connection, &error);
    llm_disconnect(connection);
    if (status == LLM_OK && !wait_until(arguments, info.keeper_pid, keeper_gone))
        status = llm_fail(&error, LLM_ERR_TIMEOUT, "the daemon (pid %u) has not ended after %s",
                          info.keeper_pid, text_span(arguments->timeout_ns).text);
    if (status != LLM_OK)
        return llmctl_fail(&error);
    char sentence[64];
    snprintf(sentence, sizeof sentence, "the daemon (pid %u) has ended", info.keeper_pid);
    say(arguments, sentence, "pid", info.keeper_pid);
    return LLMCTL_DONE;
}

/* ---- drain, resume --------------------------------------------------------------------------------- */

static bool drained(const struct arguments *arguments, uint64_t keeper_pid)
{
    struct status_view *view;
    if (daemon_look(arguments, &view, NULL) != LLM_OK)
        return !process_lives((uint32_t)keeper_pid);
    bool done = view->daemon_state == LLM_DAEMON_DRAINED || !process_lives((uint32_t)keeper_pid);
    free(view);
    return done;
}

static enum llm_status fail_still_running(const struct arguments *arguments,
                                          struct llm_error *error)
{
    struct status_view *view;
    uint32_t left = 0;
    if (daemon_look(arguments, &view, NULL) == LLM_OK) {
        left = view->requests_running + view->requests_queued;
        free(view);
    }
    return llm_fail(error, LLM_ERR_TIMEOUT,
                    "%u requests are left after %s; the daemon goes on draining (`llmctl resume` "
                    "takes that back, `llmctl stop` ends it now)",
                    left, text_span(arguments->timeout_ns).text);
}

enum llmctl_exit llmctl_drain(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_error error;
    llm_connection_info info;
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status = llm_connection_describe(connection, &info, &error);
    if (status == LLM_OK)
        status = llm_daemon_drain(connection, !arguments->stay, &error);
    llm_disconnect(connection);
    if (status == LLM_OK &&
        !wait_until(arguments, info.keeper_pid, arguments->stay ? drained : keeper_gone))
        status = fail_still_running(arguments, &error);
    if (status != LLM_OK)
        return llmctl_fail(&error);
    char sentence[96];
    snprintf(sentence, sizeof sentence, "nothing is left to do; the daemon (pid %u) %s",
             info.keeper_pid, arguments->stay ? "stays and takes no requests" : "has ended");
    say(arguments, sentence, "pid", info.keeper_pid);
    return LLMCTL_DONE;
}

enum llmctl_exit llmctl_resume(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_error error;
    llm_connection_info info;
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status = llm_connection_describe(connection, &info, &error);
    if (status == LLM_OK)
        status = llm_daemon_resume(connection, &error);
    llm_disconnect(connection);
    if (status != LLM_OK)
        return llmctl_fail(&error);
    say(arguments, "the daemon takes requests again", "pid", info.keeper_pid);
    return LLMCTL_DONE;
}
