#include "tools/llmctl/ctx.h"

#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/llmctl/json_out.h"
#include "tools/llmctl/text_out.h"

/* ---- Which ----------------------------------------------------------------------------------------- */

/* *out_id 0: it is a name. */
static enum llm_status parse_which(const char *which, uint64_t *out_id, llm_error *error)
{
    char *end = NULL;
    uint64_t id = which[0] == '#' ? strtoull(which + 1, &end, 10) : 0;
    if (which[0] == '#' && (which[1] < '1' || which[1] > '9' || *end))
        return llm_fail(error, LLM_ERR_INVALID, "a context is a name or '#ID', not \"%.100s\"",
                        which);
    *out_id = id;
    return LLM_OK;
}

enum llm_status ctx_open(llm_connection *connection, const char *which, llm_context **out_context,
                         llm_error *error)
{
    uint64_t id = 0;
    enum llm_status status = parse_which(which, &id, error);
    if (status != LLM_OK)
        return status;
    return id ? llm_context_attach(connection, id, out_context, error)
              : llm_context_open(connection, which, out_context, error);
}

void ctx_title(const llm_context_info *info, char *out, size_t capacity)
{
    if (info->named)
        text_printable(out, capacity, info->name);
    else
        snprintf(out, capacity, "#%" PRIu64, info->id);
}

enum llm_status ctx_list(llm_connection *connection, llm_context_info **out_infos,
                         uint32_t *out_count, llm_error *error)
{
    uint32_t total = 0, capacity = 0, cursor = 0, count = 1;
    llm_context_info *infos = NULL;
    enum llm_status status = LLM_OK;
    while (status == LLM_OK && count > 0) {
        if (total == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            llm_context_info *larger = realloc(infos, capacity * sizeof *infos);
            if (!larger) {
                status = llm_fail(error, LLM_ERR_MEMORY, "no memory for %u contexts", capacity);
                break;
            }
            infos = larger;
        }
        status =
            llm_contexts_list(connection, &cursor, infos + total, capacity - total, &count, error);
        if (status == LLM_OK)
            total += count;
    }
    if (status != LLM_OK) {
        free(infos);
        return status;
    }
    *out_infos = infos;
    *out_count = total;
    return LLM_OK;
}

/* ---- Whose ----------------------------------------------------------------------------------------- */

void ctx_user_name(uint32_t uid, char *out, size_t capacity)
{
    const struct passwd *user = getpwuid((uid_t)uid);
    if (user)
        snprintf(out, capacity, "%s", user->pw_name);
    else
        snprintf(out, capacity, "%u", uid);
}

void ctx_group_name(uint32_t gid, char *out, size_t capacity)
{
    const struct group *group = getgrgid((gid_t)gid);
    if (group)
        snprintf(out, capacity, "%s", group->gr_name);
    else
        snprintf(out, capacity, "%u", gid);
}

void ctx_owner(uint32_t uid, uint32_t gid, char *out, size_t capacity)
{
    char user[64], group[64];
    ctx_user_name(uid, user, sizeof user);
    ctx_group_name(gid, group, sizeof group);
    snprintf(out, capacity, "%s:%s", user, group);
}

static enum llm_status find_group(const char *text, uint32_t *out_gid, llm_error *error)
{
    char *end;
    const struct group *group = getgrnam(text);
    unsigned long number = strtoul(text, &end, 10);
    if (group) {
        *out_gid = (uint32_t)group->gr_gid;
        return LLM_OK;
    }
    if (text[0] < '0' || text[0] > '9' || *end || number >= UINT32_MAX)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "there is no group \"%.100s\"", text);
    *out_gid = (uint32_t)number;
    return LLM_OK;
}

enum llm_status ctx_publish_options(const struct arguments *arguments, llm_publish *out_options,
                                    llm_error *error)
{
    *out_options = (llm_publish){
        .mode = arguments->mode, .pin = arguments->pin, .has_gid = arguments->group != NULL};
    return arguments->group ? find_group(arguments->group, &out_options->gid, error) : LLM_OK;
}

/* ---- What ------------------------------------------------------------------------------------------ */

static enum llm_status encode(llm_connection *connection, const char *model, const char *text,
                              bool whole, uint32_t **out_tokens, uint32_t *out_count,
                              llm_error *error)
{
    const llm_vocab *vocab;
    uint32_t flags = whole ? LLM_ENCODE_AFFIXES : 0;
    size_t count, bytes = strlen(text);
    enum llm_status status = llm_connection_vocab(connection, model, &vocab, error);
    if (status == LLM_OK)
        status = llm_encode(vocab, text, bytes, flags, NULL, 0, &count, error);
    if (status != LLM_OK)
        return status;
    uint32_t *tokens = malloc((count + 1) * sizeof *tokens);
    if (!tokens || count > UINT32_MAX) {
        free(tokens);
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %zu tokens", count);
    }
    status = llm_encode(vocab, text, bytes, flags, tokens, count, &count, error);
    if (status != LLM_OK) {
        free(tokens);
        return status;
    }
    *out_tokens = tokens;
    *out_count = (uint32_t)count;
    return LLM_OK;
}

static enum llm_status copy_ids(const struct arguments *arguments, uint32_t **out_tokens,
                                uint32_t *out_count, llm_error *error)
{
    uint32_t count = arguments->prompt_id_count;
    uint32_t *tokens = malloc(((size_t)count + 1) * sizeof *tokens);
    if (!tokens)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u tokens", count);
    if (count > 0)
        memcpy(tokens, arguments->prompt_ids, count * sizeof *tokens);
    *out_tokens = tokens;
    *out_count = count;
    return LLM_OK;
}

enum llm_status ctx_input_check(const struct arguments *arguments, int at, bool optional,
                                llm_error *error)
{
    int ways = (arguments->positional_count > at) + (arguments->text != NULL) +
               (arguments->text_file != NULL) + (arguments->prompt_ids != NULL);
    if (ways > 1 || (ways == 0 && !optional))
        return llm_fail(error, LLM_ERR_INVALID,
                        "say in one way what is meant: a text, --text, --file or --ids");
    return LLM_OK;
}

enum llm_status ctx_input(llm_connection *connection, const char *model,
                          const struct arguments *arguments, int at, bool whole,
                          uint32_t **out_tokens, uint32_t *out_count, llm_error *error)
{
    const char *typed =
        arguments->positional_count > at ? arguments->positional[at] : arguments->text;
    if (!typed && !arguments->text_file)
        return copy_ids(arguments, out_tokens, out_count, error);
    if (!arguments->text_file)
        return encode(connection, model, typed, whole, out_tokens, out_count, error);
    char *text;
    enum llm_status status = llmctl_read_text(arguments->text_file, &text, error);
    if (status != LLM_OK)
        return status;
    status = encode(connection, model, text, whole, out_tokens, out_count, error);
    free(text);
    return status;
}

/* ---- Running --------------------------------------------------------------------------------------- */

enum llmctl_exit ctx_usage(const llm_error *error)
{
    fprintf(stderr, "llmctl: %s\n", error->message);
    return LLMCTL_USAGE;
}

void ctx_say(const struct arguments *arguments, const char *done, const llm_context *context)
{
    struct json_out json;
    if (!arguments->json) {
        puts(done);
        return;
    }
    json_out_init(&json, stdout);
    json_out_object(&json, NULL);
    json_out_bool(&json, "done", true);
    json_out_count(&json, "id", llm_context_id(context));
    json_out_end(&json);
}

enum llmctl_exit ctx_run(const struct arguments *arguments, ctx_verb *verb, const char *done)
{
    llm_connection *connection;
    llm_context *context;
    llm_error error;
    uint64_t id;
    if (parse_which(arguments->positional[0], &id, &error) != LLM_OK)
        return ctx_usage(&error);
    llmctl_limit_time(arguments);
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status = ctx_open(connection, arguments->positional[0], &context, &error);
    if (status == LLM_OK) {
        status = verb(context, arguments, &error);
        if (status == LLM_OK && done)
            ctx_say(arguments, done, context);
        llm_context_close(context);
    }
    llm_disconnect(connection);
    return status == LLM_OK ? LLMCTL_DONE : llmctl_fail(&error);
}
