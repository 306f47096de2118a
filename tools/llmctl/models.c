/* llmctl models, load, unload, swap, model default, model unalias - which models there are, and which are to be. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/llmctl/json_out.h"
#include "tools/llmctl/llmctl.h"
#include "tools/llmctl/text_out.h"

#define PROGRESS_NS UINT64_C(200000000)

static const char *stage_name(enum llm_model_stage stage)
{
    static const char *const names[] = {[LLM_STAGE_LOADING] = "loading",
                                        [LLM_STAGE_LOADED] = "loaded",
                                        [LLM_STAGE_READY] = "ready",
                                        [LLM_STAGE_DRAINING] = "draining",
                                        [LLM_STAGE_FAILED] = "failed"};
    return stage >= LLM_STAGE_LOADING && stage <= LLM_STAGE_FAILED ? names[stage] : "?";
}

/* ---- models ---------------------------------------------------------------------------------------- */

/* "default chat fast" */
static void names_of(const llm_models *models, const llm_model *model, char *out, size_t bytes)
{
    size_t used = (size_t)snprintf(out, bytes, "%s", model->is_default ? "default" : "");
    for (uint32_t i = 0; i < models->alias_count && used < bytes; i++)
        if (models->aliases[i].model_id == model->id)
            used += (size_t)snprintf(out + used, bytes - used, "%s%s", used ? " " : "",
                                     models->aliases[i].name);
}

static void print_table(const llm_models *models)
{
    static const char *const names[] = {"NAME",     "VERSION", "STATE", "ALSO", "WEIGHTS",
                                        "REQUESTS", "LIVE",    "IDLE",  "ABOUT"};
    struct text_table table;
    text_table_init(&table, "lrllrrrrl");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        text_table_cell(&table, "%s", names[i]);
    for (uint32_t i = 0; i < models->model_count; i++) {
        const llm_model *model = &models->models[i];
        char also[256], about[200];
        names_of(models, model, also, sizeof also);
        text_printable(about, sizeof about,
                       model->stage == LLM_STAGE_FAILED ? model->reason : model->text);
        text_table_cell(&table, "%s", model->name);
        text_table_cell(&table, "%u", model->version);
        text_table_cell(&table, "%s", stage_name(model->stage));
        text_table_cell(&table, "%s", also);
        text_table_cell(&table, "%s", text_bytes(model->weights_bytes).text);
        text_table_cell(&table, "%s", text_grouped(model->requests).text);
        text_table_cell(&table, "%u", model->live_requests);
        text_table_cell(&table, "%s", model->idle_ns ? text_clock(model->idle_ns).text : "");
        text_table_cell(&table, "%s", about);
    }
    text_table_close(&table, stdout);
}

static void print_model(const llm_models *models, const llm_model *model, struct json_out *json)
{
    json_out_object(json, NULL);
    json_out_text(json, "name", model->name);
    json_out_count(json, "version", model->version);
    json_out_count(json, "id", model->id);
    json_out_count(json, "slot", model->slot);
    json_out_text(json, "state", stage_name(model->stage));
    json_out_bool(json, "default", model->is_default);
    json_out_bool(json, "newest", model->is_newest);
    json_out_array(json, "aliases");
    for (uint32_t i = 0; i < models->alias_count; i++)
        if (models->aliases[i].model_id == model->id)
            json_out_text(json, NULL, models->aliases[i].name);
    json_out_end(json);
    json_out_count(json, "context_tokens", model->context_tokens);
    json_out_count(json, "live_requests", model->live_requests);
    json_out_count(json, "requests", model->requests);
    json_out_count(json, "weights_bytes", model->weights_bytes);
    json_out_count(json, "loaded_bytes", model->loaded_bytes);
    json_out_count(json, "workspace_bytes", model->workspace_bytes);
    json_out_real(json, "load_seconds", (double)model->load_ns / 1e9);
    json_out_real(json, "idle_seconds", (double)model->idle_ns / 1e9);
    json_out_text(json, "about", model->text);
    json_out_text(json, "path", model->path);
    json_out_text(json, "reason", model->reason);
    json_out_end(json);
}

static void print_json(const llm_models *models)
{
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_array(&json, NULL);
    for (uint32_t i = 0; i < models->model_count; i++)
        print_model(models, &models->models[i], &json);
    json_out_end(&json);
}

enum llmctl_exit llmctl_models(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_models models;
    llm_error error;
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status = llm_models_list(connection, &models, &error);
    llm_disconnect(connection);
    if (status != LLM_OK)
        return llmctl_fail(&error);
    if (arguments->json)
        print_json(&models);
    else
        print_table(&models);
    return LLMCTL_DONE;
}

/* ---- load ------------------------------------------------------------------------------------------ */

static void say(const struct arguments *arguments, const char *sentence, const char *name)
{
    if (!arguments->json) {
        puts(sentence);
        return;
    }
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_object(&json, NULL);
    json_out_bool(&json, "done", true);
    json_out_text(&json, "model", name);
    json_out_end(&json);
}

static const llm_model *find(const llm_models *models, uint64_t id)
{
    for (uint32_t i = 0; i < models->model_count; i++)
        if (models->models[i].id == id)
            return &models->models[i];
    return NULL;
}

/* "412 MB of 2.0 GB, 810 MB/s, 2 s left", over itself on a terminal. */
static void show_progress(llm_connection *connection, uint64_t id)
{
    llm_models models;
    if (llm_models_list(connection, &models, NULL) != LLM_OK)
        return;
    const llm_model *model = find(&models, id);
    if (!model || model->weights_bytes == 0 || model->load_ns == 0)
        return;
    double rate = (double)model->loaded_bytes / ((double)model->load_ns / 1e9);
    uint64_t left_bytes = model->weights_bytes - model->loaded_bytes;
    uint64_t left_ns = rate > 0 ? (uint64_t)((double)left_bytes / rate * 1e9) : 0;
    fprintf(stderr, "\r%s of %s, %s/s, %s left   ", text_bytes(model->loaded_bytes).text,
            text_bytes(model->weights_bytes).text, text_bytes((uint64_t)rate).text,
            text_span(left_ns).text);
}

static enum llm_status wait_for_load(llm_connection *connection, const struct arguments *arguments,
                                     uint64_t id, llm_error *error)
{
    bool terminal = isatty(STDERR_FILENO) && !arguments->json, shown = false;
    uint64_t waited_ns = 0;
    enum llm_status status = LLM_ERR_TIMEOUT;
    while (status == LLM_ERR_TIMEOUT && waited_ns < arguments->timeout_ns) {
        status = llm_model_wait(connection, id, PROGRESS_NS, error);
        waited_ns += PROGRESS_NS;
        if (status == LLM_ERR_TIMEOUT && terminal) {
            show_progress(connection, id);
            shown = true;
        }
    }
    if (shown)
        fputs("\r\033[K", stderr);
    return status;
}

static void say_loaded(const struct arguments *arguments, llm_connection *connection, uint64_t id)
{
    llm_models models;
    char sentence[400], name[80] = "";
    const llm_model *model =
        llm_models_list(connection, &models, NULL) == LLM_OK ? find(&models, id) : NULL;
    if (model)
        snprintf(name, sizeof name, "%s@%u", model->name, model->version);
    snprintf(sentence, sizeof sentence, "%s serves: %s, %s after %s", name,
             model ? model->text : "", text_bytes(model ? model->weights_bytes : 0).text,
             text_span(model ? model->load_ns : 0).text);
    say(arguments, sentence, name);
}

enum llmctl_exit llmctl_load(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_error error;
    uint64_t id = 0;
    char exact[96];
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status =
        llm_model_load(connection, arguments->positional[0], arguments->name, &id, &error);
    if (status == LLM_OK)
        status = wait_for_load(connection, arguments, id, &error);
    if (status == LLM_OK && arguments->alias) {
        llm_models models;
        status = llm_models_list(connection, &models, &error);
        const llm_model *model = status == LLM_OK ? find(&models, id) : NULL;
        snprintf(exact, sizeof exact, "%s@%u", model ? model->name : "",
                 model ? model->version : 0);
        if (status == LLM_OK)
            status =
                llm_model_alias(connection, arguments->alias, exact, arguments->timeout_ns, &error);
    }
    if (status == LLM_OK)
        say_loaded(arguments, connection, id);
    llm_disconnect(connection);
    return status == LLM_OK ? LLMCTL_DONE : llmctl_fail(&error);
}

/* ---- unload, swap, default, unalias ---------------------------------------------------------------- */

enum llmctl_exit llmctl_unload(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_error error;
    const char *name = arguments->positional[0];
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status = llm_model_unload(connection, name, arguments->timeout_ns, &error);
    llm_disconnect(connection);
    if (status != LLM_OK)
        return llmctl_fail(&error);
    char sentence[160];
    snprintf(sentence, sizeof sentence, "%.80s is unloaded", name);
    say(arguments, sentence, name);
    return LLMCTL_DONE;
}

static enum llmctl_exit change_name(const struct arguments *arguments, const char *alias,
                                    const char *model)
{
    llm_connection *connection;
    llm_error error;
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status =
        alias ? llm_model_alias(connection, alias, model, arguments->timeout_ns, &error)
              : llm_model_default(connection, model, arguments->timeout_ns, &error);
    llm_disconnect(connection);
    if (status != LLM_OK)
        return llmctl_fail(&error);
    char sentence[256];
    if (model)
        snprintf(sentence, sizeof sentence, "%.80s stands for %.80s from the next request on",
                 alias ? alias : "the default", model);
    else
        snprintf(sentence, sizeof sentence, "%.80s stands for nothing any more", alias);
    say(arguments, sentence, model ? model : "");
    return LLMCTL_DONE;
}

enum llmctl_exit llmctl_swap(const struct arguments *arguments)
{
    return change_name(arguments, arguments->positional[0], arguments->positional[1]);
}

enum llmctl_exit llmctl_model_unalias(const struct arguments *arguments)
{
    return change_name(arguments, arguments->positional[0], NULL);
}

enum llmctl_exit llmctl_model_default(const struct arguments *arguments)
{
    return change_name(arguments, NULL, arguments->positional[0]);
}
