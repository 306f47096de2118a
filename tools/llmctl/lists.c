/* llmctl clients, requests, errors - the status file's rows, as a table or as JSON. */
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <time.h>

#include "tools/llmctl/daemon_find.h"
#include "tools/llmctl/json_out.h"
#include "tools/llmctl/llmctl.h"
#include "tools/llmctl/text_out.h"

/* Take a view and hand it to the printer that the arguments ask for. */
static enum llmctl_exit show(const struct arguments *arguments,
                             void (*print_table)(const struct status_view *),
                             void (*print_rows)(const struct status_view *, struct json_out *))
{
    struct llm_error error;
    struct status_view *view;
    if (daemon_look(arguments, &view, &error) != LLM_OK)
        return llmctl_fail(&error);
    if (arguments->json) {
        struct json_out json;
        json_out_init(&json, stdout);
        print_rows(view, &json);
    } else {
        print_table(view);
    }
    free(view);
    return LLMCTL_DONE;
}

static uint64_t age_ns(const struct status_view *view, uint64_t then_ns)
{
    return view->taken_ns > then_ns ? view->taken_ns - then_ns : 0;
}

static void head(struct text_table *table, const char *align, const char *const *names)
{
    text_table_init(table, align);
    for (int i = 0; i < table->column_count; i++)
        text_table_cell(table, "%s", names[i]);
}

/* ---- clients --------------------------------------------------------------------------------------- */

static const char *user_name(uint32_t uid, char *buffer, size_t bytes)
{
    const struct passwd *user = getpwuid((uid_t)uid);
    if (user)
        return user->pw_name;
    snprintf(buffer, bytes, "%u", uid);
    return buffer;
}

static void clients_table(const struct status_view *view)
{
    static const char *const names[] = {
        "ID", "PID", "USER", "STREAMS", "REQUESTS", "TOKENS IN", "TOKENS OUT", "ATTACHED", "NAME"};
    struct text_table table;
    head(&table, "rrlrrrrrl", names);
    for (uint32_t i = 0; i < view->connection_count; i++) {
        const struct view_connection *c = &view->connections[i];
        char number[16];
        text_table_cell(&table, "%" PRIu64, c->connection_id);
        text_table_cell(&table, "%u", c->pid);
        text_table_cell(&table, "%s", user_name(c->uid, number, sizeof number));
        text_table_cell(&table, "%u", c->live_streams);
        text_table_cell(&table, "%s", text_grouped(c->requests).text);
        text_table_cell(&table, "%s", text_grouped(c->in_tokens).text);
        text_table_cell(&table, "%s", text_grouped(c->out_tokens).text);
        text_table_cell(&table, "%s", text_clock(age_ns(view, c->attached_ns)).text);
        text_table_cell(&table, "%s", c->name);
    }
    text_table_close(&table, stdout);
}

static void clients_json(const struct status_view *view, struct json_out *json)
{
    json_out_array(json, NULL);
    for (uint32_t i = 0; i < view->connection_count; i++) {
        const struct view_connection *c = &view->connections[i];
        json_out_object(json, NULL);
        json_out_count(json, "id", c->connection_id);
        json_out_count(json, "slot", c->slot);
        json_out_count(json, "pid", c->pid);
        json_out_count(json, "uid", c->uid);
        json_out_count(json, "gid", c->gid);
        json_out_text(json, "name", c->name);
        json_out_count(json, "live_streams", c->live_streams);
        json_out_count(json, "requests", c->requests);
        json_out_count(json, "in_tokens", c->in_tokens);
        json_out_count(json, "out_tokens", c->out_tokens);
        json_out_real(json, "attached_seconds", (double)age_ns(view, c->attached_ns) / 1e9);
        json_out_end(json);
    }
    json_out_end(json);
}

enum llmctl_exit llmctl_clients(const struct arguments *arguments)
{
    return show(arguments, clients_table, clients_json);
}

/* ---- requests -------------------------------------------------------------------------------------- */

static void requests_table(const struct status_view *view)
{
    static const char *const names[] = {"ID",     "CLIENT",  "PHASE",  "PROMPT", "CACHED",
                                        "TOKENS", "AT MOST", "BLOCKS", "DEATHS", "AGE"};
    struct text_table table;
    head(&table, "rrlrrrrrrr", names);
    for (uint32_t i = 0; i < view->request_count; i++) {
        const struct view_request *r = &view->requests[i];
        const struct view_connection *client = status_view_connection(view, r->connection_slot);
        text_table_cell(&table, "%" PRIu64, r->request_id);
        text_table_cell(&table, "%" PRIu64, client ? client->connection_id : 0);
        text_table_cell(&table, "%s", status_view_phase_name(r->phase));
        text_table_cell(&table, "%s", text_grouped(r->prompt_tokens).text);
        text_table_cell(&table, "%s", text_grouped(r->cached_tokens).text);
        text_table_cell(&table, "%s", text_grouped(r->produced_tokens).text);
        text_table_cell(&table, "%s", text_grouped(r->max_tokens).text);
        text_table_cell(&table, "%s", text_grouped(r->blocks).text);
        text_table_cell(&table, "%u", r->deaths);
        text_table_cell(&table, "%s", text_clock(age_ns(view, r->admitted_ns)).text);
    }
    text_table_close(&table, stdout);
}

static void requests_json(const struct status_view *view, struct json_out *json)
{
    json_out_array(json, NULL);
    for (uint32_t i = 0; i < view->request_count; i++) {
        const struct view_request *r = &view->requests[i];
        const struct view_connection *client = status_view_connection(view, r->connection_slot);
        json_out_object(json, NULL);
        json_out_count(json, "id", r->request_id);
        json_out_count(json, "client", client ? client->connection_id : 0);
        json_out_text(json, "phase", status_view_phase_name(r->phase));
        json_out_count(json, "prompt_tokens", r->prompt_tokens);
        json_out_count(json, "cached_tokens", r->cached_tokens);
        json_out_count(json, "produced_tokens", r->produced_tokens);
        json_out_count(json, "max_tokens", r->max_tokens);
        json_out_count(json, "blocks", r->blocks);
        json_out_count(json, "deaths", r->deaths);
        json_out_real(json, "age_seconds", (double)age_ns(view, r->admitted_ns) / 1e9);
        json_out_end(json);
    }
    json_out_end(json);
}

enum llmctl_exit llmctl_requests(const struct arguments *arguments)
{
    return show(arguments, requests_table, requests_json);
}

/* ---- errors ---------------------------------------------------------------------------------------- */

static void print_moment(struct text_table *table, uint64_t wall_ns)
{
    time_t seconds = (time_t)(wall_ns / UINT64_C(1000000000));
    struct tm local;
    char text[32];
    localtime_r(&seconds, &local);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local);
    text_table_cell(table, "%s", text);
}

static void errors_table(const struct status_view *view)
{
    static const char *const names[] = {"FIRST", "LAST", "TIMES", "FROM", "WHAT"};
    struct text_table table;
    head(&table, "llrll", names);
    for (uint32_t i = 0; i < view->error_count; i++) {
        const struct view_error *e = &view->errors[i];
        print_moment(&table, e->first_ns);
        print_moment(&table, e->last_ns);
        text_table_cell(&table, "%s", text_grouped(e->count).text);
        text_table_cell(&table, "%s", e->from);
        text_table_cell(&table, "%s", e->text);
    }
    text_table_close(&table, stdout);
}

static void errors_json(const struct status_view *view, struct json_out *json)
{
    json_out_array(json, NULL);
    for (uint32_t i = 0; i < view->error_count; i++) {
        const struct view_error *e = &view->errors[i];
        json_out_object(json, NULL);
        json_out_text(json, "from", e->from);
        json_out_count(json, "count", e->count);
        json_out_count(json, "first_unix_ns", e->first_ns);
        json_out_count(json, "last_unix_ns", e->last_ns);
        json_out_text(json, "text", e->text);
        json_out_end(json);
    }
    json_out_end(json);
}

enum llmctl_exit llmctl_errors(const struct arguments *arguments)
{
    return show(arguments, errors_table, errors_json);
}
