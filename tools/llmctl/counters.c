/* llmctl counters - what was done, once or per second, as a table, JSON or Prometheus' text format. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "tools/llmctl/daemon_find.h"
#include "tools/llmctl/json_out.h"
#include "tools/llmctl/llmctl.h"
#include "tools/llmctl/text_out.h"

#define NS_PER_S 1e9

/* ---- Once ------------------------------------------------------------------------------------------ */

static void print_table(const struct status_view *view)
{
    struct text_table table;
    text_table_init(&table, "lrll");
    text_table_cell(&table, "COUNTER");
    text_table_cell(&table, "VALUE");
    text_table_cell(&table, "UNIT");
    text_table_cell(&table, "WHAT IT COUNTS");
    for (int i = 0; i < LLM_COUNTER_COUNT; i++) {
        text_table_cell(&table, "%s", llm_counter_name((enum llm_counter)i));
        text_table_cell(&table, "%s", text_grouped(view->counters[i]).text);
        text_table_cell(&table, "%s", llm_counter_unit((enum llm_counter)i));
        text_table_cell(&table, "%s", llm_counter_help((enum llm_counter)i));
    }
    text_table_close(&table, stdout);
}

static void print_json(const struct status_view *view)
{
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_object(&json, NULL);
    for (int i = 0; i < LLM_COUNTER_COUNT; i++)
        json_out_count(&json, llm_counter_name((enum llm_counter)i), view->counters[i]);
    json_out_end(&json);
}

/* ---- Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats/ ---------------------- */

static void print_label(const char *name, const char *value)
{
    printf("%s=\"", name);
    for (; *value; value++) { /* texts of a view have no control characters */
        if (*value == '"' || *value == '\\')
            putchar('\\');
        putchar(*value);
    }
    putchar('"');
}

static void print_gauge(const char *name, const char *help, double value)
{
    printf("# HELP llmd_%s %s\n# TYPE llmd_%s gauge\nllmd_%s %.17g\n", name, help, name, name,
           value);
}

static void print_blocks(const struct status_view *view)
{
    const struct {
        const char *state;
        uint32_t count;
    } rows[] = {
        {"held", view->blocks_held}, {"cached", view->blocks_cached}, {"free", view->blocks_free}};
    puts("# HELP llmd_blocks KV blocks by state\n# TYPE llmd_blocks gauge");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        printf("llmd_blocks{state=\"%s\"} %u\n", rows[i].state, rows[i].count);
}

static double seconds_since(const struct status_view *view, uint64_t then_ns)
{
    return view->taken_ns > then_ns ? (double)(view->taken_ns - then_ns) / NS_PER_S : 0;
}

static void print_prometheus(const struct status_view *view)
{
    bool lives = process_lives(view->keeper_pid);
    bool serves =
        lives && view->engine_pid != 0 && view->ready_generation == view->engine_generation;
    puts("# HELP llmd_info what runs\n# TYPE llmd_info gauge");
    fputs("llmd_info{", stdout);
    print_label("version", view->version);
    putchar(',');
    print_label("model", view->model_name);
    putchar(',');
    print_label("device", view->backend_text);
    putchar(',');
    print_label("state", status_view_state_name(view->daemon_state));
    puts("} 1");
    print_gauge("up", "1 while the keeper lives", lives);
    print_gauge("serving", "1 while an engine serves", serves);
    print_gauge("up_seconds", "since the keeper started", seconds_since(view, view->started_ns));
    print_gauge("engine_generation", "engines started so far", (double)view->engine_generation);
    print_gauge("engine_silent_seconds", "since the engine's last sign of life",
                seconds_since(view, view->heartbeat_ns));
    print_gauge("connections", "clients attached", view->connections_open);
    print_gauge("requests_running", "requests in the engine's steps", view->requests_running);
    print_gauge("requests_queued", "requests that wait", view->requests_queued);
    print_gauge("descriptors", "held by the keeper", view->descriptors_held);
    print_blocks(view);
    for (int i = 0; i < LLM_COUNTER_COUNT; i++) {
        const char *name = llm_counter_name((enum llm_counter)i);
        printf("# HELP llmd_%s_total %s\n# TYPE llmd_%s_total counter\nllmd_%s_total %" PRIu64 "\n",
               name, llm_counter_help((enum llm_counter)i), name, name, view->counters[i]);
    }
}

/* ---- Again and again ------------------------------------------------------------------------------- */

struct rates {
    double seconds; /* between the two looks */
    double per_second[LLM_COUNTER_COUNT];
};

/* Another daemon, or one that was started anew, counts from zero. */
static void rates_between(struct rates *rates, const struct status_view *before,
                          const struct status_view *after)
{
    bool same = before->keeper_pid == after->keeper_pid && before->started_ns == after->started_ns;
    rates->seconds = same ? (double)(after->taken_ns - before->taken_ns) / NS_PER_S
                          : seconds_since(after, after->started_ns);
    for (int i = 0; i < LLM_COUNTER_COUNT; i++) {
        uint64_t more = same ? after->counters[i] - before->counters[i] : after->counters[i];
        rates->per_second[i] = rates->seconds > 0 ? (double)more / rates->seconds : 0;
    }
}

static void print_rates_table(const struct status_view *view, const struct rates *rates)
{
    struct text_table table;
    text_table_init(&table, "lrrl");
    text_table_cell(&table, "COUNTER");
    text_table_cell(&table, "VALUE");
    text_table_cell(&table, "PER SECOND");
    text_table_cell(&table, "UNIT");
    for (int i = 0; i < LLM_COUNTER_COUNT; i++) {
        text_table_cell(&table, "%s", llm_counter_name((enum llm_counter)i));
        text_table_cell(&table, "%s", text_grouped(view->counters[i]).text);
        text_table_cell(&table, "%.1f", rates->per_second[i]);
        text_table_cell(&table, "%s", llm_counter_unit((enum llm_counter)i));
    }
    text_table_close(&table, stdout);
    putchar('\n');
}

static void print_rates_json(const struct status_view *view, const struct rates *rates)
{
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_object(&json, NULL);
    json_out_real(&json, "seconds", rates->seconds);
    json_out_object(&json, "counters");
    for (int i = 0; i < LLM_COUNTER_COUNT; i++)
        json_out_count(&json, llm_counter_name((enum llm_counter)i), view->counters[i]);
    json_out_end(&json);
    json_out_object(&json, "per_second");
    for (int i = 0; i < LLM_COUNTER_COUNT; i++)
        json_out_real(&json, llm_counter_name((enum llm_counter)i), rates->per_second[i]);
    json_out_end(&json);
    json_out_end(&json);
}

static void sleep_ns(uint64_t duration_ns)
{
    struct timespec left = {.tv_sec = (time_t)(duration_ns / (uint64_t)NS_PER_S),
                            .tv_nsec = (long)(duration_ns % (uint64_t)NS_PER_S)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

/* `view` is the first look, and is replaced by the last. */
static enum llm_status watch(const struct arguments *arguments, struct status_view **view,
                             struct llm_error *error)
{
    for (uint32_t i = 0; arguments->times == 0 || i < arguments->times; i++) {
        struct status_view *next;
        struct rates rates;
        sleep_ns(arguments->watch_ns);
        enum llm_status status = daemon_look(arguments, &next, error);
        if (status != LLM_OK)
            return status;
        rates_between(&rates, *view, next);
        free(*view);
        *view = next;
        if (arguments->json)
            print_rates_json(next, &rates);
        else
            print_rates_table(next, &rates);
        fflush(stdout);
    }
    return LLM_OK;
}

enum llmctl_exit llmctl_counters(const struct arguments *arguments)
{
    struct llm_error error;
    struct status_view *view;
    enum llm_status status = daemon_look(arguments, &view, &error);
    if (status != LLM_OK)
        return llmctl_fail(&error);
    if (arguments->watch_ns > 0)
        status = watch(arguments, &view, &error);
    else if (arguments->prometheus)
        print_prometheus(view);
    else if (arguments->json)
        print_json(view);
    else
        print_table(view);
    free(view);
    return status == LLM_OK ? LLMCTL_DONE : llmctl_fail(&error);
}
