/* llmctl check - walks what llmctl can read by itself, then has the engine walk the rest. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/llmctl/daemon_find.h"
#include "tools/llmctl/json_out.h"
#include "tools/llmctl/llmctl.h"
#include "tools/llmctl/status_check.h"

#define BETWEEN_WALKS_NS 100000000L /* longer than a step: what moves at all has moved by then */

static enum llm_status walk(const struct arguments *arguments, struct findings *findings,
                            struct llm_error *error)
{
    struct status_view *view;
    enum llm_status status = daemon_look(arguments, &view, error);
    if (status != LLM_OK)
        return status;
    struct llm_error ailment;
    if (status_view_health(view, &ailment) != LLM_OK && findings->count < FINDINGS_MAX)
        snprintf(findings->sentence[findings->count++], LLM_NOTE_BYTES, "%.*s",
                 (int)LLM_NOTE_BYTES - 1, ailment.message);
    status_check(view, findings);
    status_check_descriptors(view, findings);
    free(view);
    return LLM_OK;
}

static enum llm_status walk_twice(const struct arguments *arguments, struct findings *findings,
                                  struct llm_error *error)
{
    struct findings second = {0};
    enum llm_status status = walk(arguments, findings, error);
    if (status != LLM_OK || findings->count == 0)
        return status;
    nanosleep(&(struct timespec){.tv_nsec = BETWEEN_WALKS_NS}, NULL);
    status = walk(arguments, &second, error);
    if (status == LLM_OK)
        findings_intersect(findings, &second);
    return status;
}

/* `out_report` is the engine's sentence, or why there is none. */
static enum llm_status ask_engine(const struct arguments *arguments, char *out_report, size_t bytes)
{
    llm_connection *connection;
    llm_error error = {.status = LLM_OK};
    enum llm_status status = llmctl_connect(arguments, false, &connection, &error);
    if (status == LLM_OK) {
        status = llm_daemon_check(connection, arguments->timeout_ns, out_report, bytes, &error);
        llm_disconnect(connection);
    }
    if (status != LLM_OK)
        snprintf(out_report, bytes, "%s", error.message);
    return status;
}

static void print_text(const struct findings *findings, enum llm_status engine, const char *report)
{
    for (uint32_t i = 0; i < findings->count; i++)
        printf("wrong    %s\n", findings->sentence[i]);
    if (findings->count == 0)
        puts("status   everything adds up");
    printf("%s   %s\n", engine == LLM_OK ? "engine" : "wrong ", report);
}

static void print_json(const struct findings *findings, enum llm_status engine, const char *report)
{
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_object(&json, NULL);
    json_out_bool(&json, "ok", findings->count == 0 && engine == LLM_OK);
    json_out_array(&json, "wrong");
    for (uint32_t i = 0; i < findings->count; i++)
        json_out_text(&json, NULL, findings->sentence[i]);
    json_out_end(&json);
    json_out_text(&json, "engine_status", llm_status_name(engine));
    json_out_text(&json, "engine_report", report);
    json_out_end(&json);
}

enum llmctl_exit llmctl_check(const struct arguments *arguments)
{
    struct llm_error error;
    struct findings findings = {0};
    char report[LLM_ERROR_MESSAGE_BYTES] = "";
    if (walk_twice(arguments, &findings, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status engine = ask_engine(arguments, report, sizeof report);
    if (arguments->json)
        print_json(&findings, engine, report);
    else
        print_text(&findings, engine, report);
    return findings.count == 0 && engine == LLM_OK ? LLMCTL_DONE : LLMCTL_FAILED;
}
