/*
 * public_headers.c - a stranger's program: only <llm/...> of the build tree, only the shared library.
 * It is enough that it builds (warnings are errors) and that names resolve when it runs.
 */
#include <llm/llm.h>
#include <llm/text.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    llm_connection *connection = NULL;
    llm_error error;
    const llm_connect_options options = {.socket = "/nonexistent/llmd.sock", .no_autostart = true};
    enum llm_status status = llm_connect(&connection, &options, &error);
    llm_stream_close(NULL);
    llm_disconnect(NULL);
    printf("%s: %s\n", llm_status_name(status), error.message);
    return status != LLM_ERR_NOT_FOUND || strstr(error.message, "/nonexistent/llmd.sock") == NULL;
}
