/*
 * llmctl kv probe, kv why - what of a prompt is in the cache now, and why the rest is not.
 *
 * Both ask the same question (llm_cache_probe()); probe prints the spans, why a sentence for each.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/llmctl/ctx.h"
#include "tools/llmctl/json_out.h"
#include "tools/llmctl/text_out.h"

#define SPANS_MAX 128

/* As enum llm_probe_kind on the wire. */
enum span_kind {
    SPAN_HIT = 1,
    SPAN_COPY = 2,
    SPAN_BEING_MADE = 3,
    SPAN_MISS = 4,
    SPAN_FOREIGN = 5
};

struct probe {
    llm_connection *connection;
    const llm_vocab *vocab; /* NULL: the model has no text */
    uint32_t *tokens;       /* [token_count] */
    uint32_t token_count;
    llm_probe_result spans[SPANS_MAX];
    uint32_t span_count;
};

/* ---- Asking ---------------------------------------------------------------------------------------- */

static enum llm_status ask(const struct arguments *arguments, struct probe *probe, llm_error *error)
{
    enum llm_status status = llmctl_connect(arguments, false, &probe->connection, error);
    if (status == LLM_OK)
        status = ctx_input(probe->connection, arguments->model, arguments, 0, true, &probe->tokens,
                           &probe->token_count, error);
    if (status == LLM_OK)
        status =
            llm_cache_probe(probe->connection, arguments->model, probe->tokens, probe->token_count,
                            probe->spans, SPANS_MAX, &probe->span_count, error);
    if (status == LLM_OK &&
        llm_connection_vocab(probe->connection, arguments->model, &probe->vocab, NULL) != LLM_OK)
        probe->vocab = NULL;
    return status;
}

static enum llmctl_exit with_probe(const struct arguments *arguments,
                                   void (*print)(const struct probe *))
{
    struct probe *probe = calloc(1, sizeof *probe);
    llm_error error = {.status = LLM_ERR_MEMORY, .message = "no memory"};
    if (!probe)
        return llmctl_fail(&error);
    if (ctx_input_check(arguments, 0, false, &error) != LLM_OK) {
        free(probe);
        return ctx_usage(&error);
    }
    llmctl_limit_time(arguments);
    enum llm_status status = ask(arguments, probe, &error);
    if (status == LLM_OK)
        print(probe);
    free(probe->tokens);
    llm_disconnect(probe->connection);
    free(probe);
    return status == LLM_OK ? LLMCTL_DONE : llmctl_fail(&error);
}

/* ---- Words ----------------------------------------------------------------------------------------- */

static const char *kind_name(uint32_t kind)
{
    switch ((enum span_kind)kind) {
    case SPAN_HIT:
        return "hit";
    case SPAN_COPY:
        return "copy";
    case SPAN_BEING_MADE:
        return "wait";
    case SPAN_FOREIGN:
        return "foreign";
    case SPAN_MISS:
        break;
    }
    return "miss";
}

/* Who may use what is cached there: "readable by group team". */
static void say_domain(const llm_probe_result *span, char *out, size_t capacity)
{
    char name[64];
    if (span->domain_kind == 2) {
        snprintf(out, capacity, "readable by all");
    } else if (span->domain_kind == 1) {
        ctx_group_name(span->domain_id, name, sizeof name);
        snprintf(out, capacity, "readable by group %s", name);
    } else {
        ctx_user_name(span->domain_id, name, sizeof name);
        snprintf(out, capacity, "private to user %s", name);
    }
}

/* The context's name or '#ID'; "" for none. */
static void say_context(const struct probe *probe, uint64_t id, char *out, size_t capacity)
{
    llm_context *context;
    llm_context_info info;
    snprintf(out, capacity, id ? "#%" PRIu64 : "", id);
    if (id == 0 || llm_context_attach(probe->connection, id, &context, NULL) != LLM_OK)
        return;
    if (llm_context_describe(context, &info, NULL) == LLM_OK)
        ctx_title(&info, out, capacity);
    llm_context_close(context);
}

/* A token between quotes, as a C string would have it; without text its number. */
static void say_token(const struct probe *probe, uint32_t token, char *out, size_t capacity)
{
    const char *text;
    size_t bytes, used = 0;
    char quoted[TEXT_CELL_BYTES_MAX];
    if (!probe->vocab || llm_token_text(probe->vocab, token, &text, &bytes, NULL) != LLM_OK ||
        bytes == 0) {
        snprintf(out, capacity, "token %u", token);
        return;
    }
    for (size_t i = 0; i < bytes && used + 3 < sizeof quoted; i++) {
        if (text[i] == '\n' || text[i] == '\t' || text[i] == '"' || text[i] == '\\') {
            quoted[used++] = '\\';
            quoted[used++] = text[i] == '\n' ? 'n' : text[i] == '\t' ? 't' : text[i];
        } else {
            quoted[used++] = text[i];
        }
    }
    quoted[used] = 0;
    char shown[TEXT_CELL_BYTES_MAX];
    text_printable(shown, sizeof shown, quoted);
    snprintf(out, capacity, "\"%s\"", shown);
}

/* ---- probe ----------------------------------------------------------------------------------------- */

static void print_table(const struct probe *probe)
{
    static const char *const names[] = {"FROM", "TO", "TOKENS", "WHAT", "DOMAIN", "CONTEXT"};
    struct text_table table;
    text_table_init(&table, "rrrlll");
    for (int i = 0; i < table.column_count; i++)
        text_table_cell(&table, "%s", names[i]);
    for (uint32_t i = 0; i < probe->span_count; i++) {
        const llm_probe_result *span = &probe->spans[i];
        char domain[96] = "", context[128];
        if (span->kind == SPAN_HIT || span->kind == SPAN_COPY || span->kind == SPAN_FOREIGN)
            say_domain(span, domain, sizeof domain);
        say_context(probe, span->context_id, context, sizeof context);
        text_table_cell(&table, "%u", span->from);
        text_table_cell(&table, "%u", span->to - 1);
        text_table_cell(&table, "%u", span->to - span->from);
        text_table_cell(&table, "%s", kind_name(span->kind));
        text_table_cell(&table, "%s", domain);
        text_table_cell(&table, "%s", context);
    }
    text_table_close(&table, stdout);
}

static void print_json(const struct probe *probe)
{
    static const char *const domains[] = {"private", "group", "public"};
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_array(&json, NULL);
    for (uint32_t i = 0; i < probe->span_count; i++) {
        const llm_probe_result *span = &probe->spans[i];
        json_out_object(&json, NULL);
        json_out_text(&json, "what", kind_name(span->kind));
        json_out_count(&json, "from", span->from);
        json_out_count(&json, "to", span->to);
        if (span->kind == SPAN_HIT || span->kind == SPAN_COPY || span->kind == SPAN_FOREIGN) {
            json_out_text(&json, "domain", domains[span->domain_kind]);
            json_out_count(&json, "domain_id", span->domain_id);
        }
        if (span->context_id)
            json_out_text(&json, "context", text_plain(span->context_id).text);
        if (span->cached_token != UINT32_MAX)
            json_out_count(&json, "cached_token", span->cached_token);
        json_out_end(&json);
    }
    json_out_end(&json);
}

enum llmctl_exit llmctl_kv_probe(const struct arguments *arguments)
{
    return with_probe(arguments, arguments->json ? print_json : print_table);
}

/* ---- why ------------------------------------------------------------------------------------------- */

static void explain_miss(const struct probe *probe, uint32_t at, char *out, size_t capacity)
{
    const llm_probe_result *span = &probe->spans[at];
    char cached[TEXT_CELL_BYTES_MAX + 4], here[TEXT_CELL_BYTES_MAX + 4];
    bool found_before = at > 0 && probe->spans[at - 1].kind != SPAN_MISS;
    if (span->cached_token != UINT32_MAX) {
        say_token(probe, span->cached_token, cached, sizeof cached);
        say_token(probe, probe->tokens[span->from], here, sizeof here);
        snprintf(out, capacity, "first difference at %u: cached %s here %s", span->from, cached,
                 here);
    } else if (found_before) {
        snprintf(out, capacity,
                 "nothing is cached behind it in a domain that this user may use: never computed, "
                 "or evicted");
    } else {
        snprintf(out, capacity,
                 "nothing is cached for this beginning in a domain that this user may use: never "
                 "computed, or evicted");
    }
}

static void explain(const struct probe *probe, uint32_t at, char *out, size_t capacity)
{
    const llm_probe_result *span = &probe->spans[at];
    char context[128], domain[96];
    say_context(probe, span->context_id, context, sizeof context);
    say_domain(span, domain, sizeof domain);
    if (!context[0])
        snprintf(context, sizeof context, "an earlier prompt");
    switch ((enum span_kind)span->kind) {
    case SPAN_HIT:
        snprintf(out, capacity, "%s (%s)", context, domain);
        return;
    case SPAN_COPY:
        snprintf(out, capacity, "%s (%s): the leading rows of a block, which are copied", context,
                 domain);
        return;
    case SPAN_BEING_MADE:
        snprintf(out, capacity, "another request is computing them: they are waited for");
        return;
    case SPAN_FOREIGN:
        snprintf(out, capacity, "computed, but in a domain that this user may not use (%s)",
                 domain);
        return;
    case SPAN_MISS:
        break;
    }
    explain_miss(probe, at, out, capacity);
}

static uint32_t found_tokens(const struct probe *probe)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < probe->span_count; i++)
        if (probe->spans[i].kind <= SPAN_BEING_MADE)
            found += probe->spans[i].to - probe->spans[i].from;
    return found;
}

static void print_reasons(const struct probe *probe)
{
    int width = 0;
    for (uint32_t i = 0; i < probe->span_count; i++) {
        int bytes = snprintf(NULL, 0, "%u..%u", probe->spans[i].from, probe->spans[i].to - 1);
        width = bytes > width ? bytes : width;
    }
    for (uint32_t i = 0; i < probe->span_count; i++) {
        char range[32], reason[2 * TEXT_CELL_BYTES_MAX + 128];
        snprintf(range, sizeof range, "%u..%u", probe->spans[i].from, probe->spans[i].to - 1);
        explain(probe, i, reason, sizeof reason);
        printf("tokens %-*s  %-7s  %s\n", width, range, kind_name(probe->spans[i].kind), reason);
    }
    printf("%s of %s tokens need not be computed\n", text_grouped(found_tokens(probe)).text,
           text_grouped(probe->token_count).text);
}

static void json_reasons(const struct probe *probe)
{
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_array(&json, NULL);
    for (uint32_t i = 0; i < probe->span_count; i++) {
        char reason[2 * TEXT_CELL_BYTES_MAX + 128];
        explain(probe, i, reason, sizeof reason);
        json_out_object(&json, NULL);
        json_out_text(&json, "what", kind_name(probe->spans[i].kind));
        json_out_count(&json, "from", probe->spans[i].from);
        json_out_count(&json, "to", probe->spans[i].to);
        json_out_text(&json, "why", reason);
        json_out_end(&json);
    }
    json_out_end(&json);
}

enum llmctl_exit llmctl_kv_why(const struct arguments *arguments)
{
    return with_probe(arguments, arguments->json ? json_reasons : print_reasons);
}
