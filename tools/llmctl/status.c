/* llmctl status - the daemon on five lines, read from the status file without asking it. */
#include <inttypes.h>
#include <stdlib.h>

#include "tools/llmctl/daemon_find.h"
#include "tools/llmctl/json_out.h"
#include "tools/llmctl/llmctl.h"
#include "tools/llmctl/text_out.h"

static uint64_t up_ns(const struct status_view *view)
{
    return view->taken_ns > view->started_ns ? view->taken_ns - view->started_ns : 0;
}

static void print_text(const struct status_view *v, const char *ailment)
{
    const uint64_t *c = v->counters;
    printf("daemon   llmd %s  pid %u  up %s  engine generation %" PRIu64 "\n", v->version,
           v->keeper_pid, text_clock(up_ns(v)).text, v->engine_generation);
    if (ailment)
        printf("trouble  %s\n", ailment);
    if (v->daemon_state == LLM_DAEMON_DRAINING)
        printf("state    draining, %u requests left\n", v->requests_running + v->requests_queued);
    if (v->daemon_state == LLM_DAEMON_DRAINED)
        puts("state    drained; `llmctl resume` takes requests again, `llmctl stop` ends it");
    if (v->ready_generation == 0) /* no engine ever got so far as to write its half */
        return;
    printf("device   %-32s  pool %s blocks x %u tokens, %s held, %s cached, %s free\n",
           v->backend_text, text_grouped(v->blocks_total).text, v->block_tokens,
           text_grouped(v->blocks_held).text, text_grouped(v->blocks_cached).text,
           text_grouped(v->blocks_free).text);
    printf("models   %s* (%s)\n", v->model_name, v->model_text);
    printf("clients  %u attached   requests %u running, %u queued   served %s   tokens %s out, "
           "%s in (%s cached)\n",
           v->connections_open, v->requests_running, v->requests_queued,
           text_grouped(c[LLM_COUNTER_REQUESTS_SERVED]).text,
           text_grouped(c[LLM_COUNTER_TOKENS_OUT]).text,
           text_grouped(c[LLM_COUNTER_TOKENS_IN]).text,
           text_grouped(c[LLM_COUNTER_TOKENS_CACHED]).text);
}

static void print_json(const struct status_view *v, const char *ailment)
{
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_object(&json, NULL);
    json_out_object(&json, "daemon");
    json_out_text(&json, "version", v->version);
    json_out_text(&json, "socket", v->socket_path);
    json_out_count(&json, "pid", v->keeper_pid);
    json_out_count(&json, "uid", v->keeper_uid);
    json_out_text(&json, "state", status_view_state_name(v->daemon_state));
    json_out_real(&json, "up_seconds", (double)up_ns(v) / 1e9);
    json_out_text(&json, "trouble", ailment ? ailment : "");
    json_out_end(&json);
    json_out_object(&json, "engine");
    json_out_count(&json, "pid", v->engine_pid);
    json_out_count(&json, "generation", v->engine_generation);
    json_out_count(&json, "ready_generation", v->ready_generation);
    json_out_real(&json, "recovery_seconds", (double)v->recovery_ns / 1e9);
    json_out_text(&json, "device", v->backend_text);
    json_out_count(&json, "weights_bytes", v->weights_bytes);
    json_out_count(&json, "workspace_bytes", v->workspace_bytes);
    json_out_end(&json);
    json_out_object(&json, "model");
    json_out_text(&json, "name", v->model_name);
    json_out_text(&json, "text", v->model_text);
    json_out_end(&json);
    json_out_object(&json, "pool");
    json_out_count(&json, "block_tokens", v->block_tokens);
    json_out_count(&json, "block_bytes", v->block_bytes);
    json_out_count(&json, "total_blocks", v->blocks_total);
    json_out_count(&json, "held_blocks", v->blocks_held);
    json_out_count(&json, "cached_blocks", v->blocks_cached);
    json_out_count(&json, "free_blocks", v->blocks_free);
    json_out_end(&json);
    json_out_object(&json, "clients");
    json_out_count(&json, "attached", v->connections_open);
    json_out_count(&json, "running", v->requests_running);
    json_out_count(&json, "queued", v->requests_queued);
    json_out_end(&json);
    json_out_object(&json, "counters");
    for (int i = 0; i < LLM_COUNTER_COUNT; i++)
        json_out_count(&json, llm_counter_name((enum llm_counter)i), v->counters[i]);
    json_out_end(&json);
    json_out_end(&json);
}

enum llmctl_exit llmctl_status(const struct arguments *arguments)
{
    struct llm_error error, ailment;
    struct status_view *view;
    if (daemon_look(arguments, &view, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status health = status_view_health(view, &ailment);
    if (arguments->json)
        print_json(view, health == LLM_OK ? NULL : ailment.message);
    else
        print_text(view, health == LLM_OK ? NULL : ailment.message);
    enum llmctl_exit result = process_lives(view->keeper_pid) ? LLMCTL_DONE : LLMCTL_NO_DAEMON;
    free(view);
    return result;
}
