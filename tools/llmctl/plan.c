/* llmctl model plan - the kernel calls of one step, as the engine published them. */
#include <stdio.h>
#include <string.h>

#include "tools/llmctl/json_out.h"
#include "tools/llmctl/llmctl.h"

static void print_lines(const char *text, size_t bytes)
{
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_object(&json, NULL);
    json_out_array(&json, "plan");
    while (bytes > 0) {
        const char *end = memchr(text, '\n', bytes);
        size_t line_bytes = end ? (size_t)(end - text) : bytes;
        json_out_bytes(&json, NULL, text, line_bytes);
        size_t used = end ? line_bytes + 1 : line_bytes;
        text += used;
        bytes -= used;
    }
    json_out_end(&json);
    json_out_end(&json);
}

enum llmctl_exit llmctl_model_plan(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_error error;
    char name[80] = "plan";
    if (arguments->positional_count > 0)
        snprintf(name, sizeof name, "plan/%.60s", arguments->positional[0]);
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    const void *text;
    size_t bytes;
    enum llm_status status = llm_memory_map(connection, name, &text, &bytes, &error);
    llm_disconnect(connection);
    if (status == LLM_ERR_NOT_FOUND)
        llm_fail(&error, status,
                 arguments->positional_count > 0 ? "the daemon has no plan of a model \"%.60s\""
                                                 : "the daemon serves no model that has a plan%s",
                 arguments->positional_count > 0 ? arguments->positional[0] : "");
    if (status != LLM_OK)
        return llmctl_fail(&error);
    if (arguments->json)
        print_lines(text, bytes);
    else
        fwrite(text, 1, bytes, stdout);
    llm_memory_unmap(text, bytes);
    return LLMCTL_DONE;
}
