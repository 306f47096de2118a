/* llmctl ctx ls, show, tree - the contexts there are. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/llmctl/ctx.h"
#include "tools/llmctl/json_out.h"
#include "tools/llmctl/text_out.h"

/* ---- A context as words ---------------------------------------------------------------------------- */

static uint32_t blocks_of(uint32_t tokens, const llm_context_info *info)
{
    return info->block_tokens ? tokens / info->block_tokens + (tokens % info->block_tokens != 0)
                              : 0;
}

/* Whole blocks only: the last one, partly filled, is copied before it is written. */
static uint32_t shared_blocks(const llm_context_info *info)
{
    return info->block_tokens ? info->shared_tokens / info->block_tokens : 0;
}

static void json_members(struct json_out *json, const llm_context_info *info)
{
    char mode[8];
    snprintf(mode, sizeof mode, "%04o", info->mode & 07777u);
    json_out_text(json, "id", text_plain(info->id).text); /* many readers lose digits past 2^53 */
    json_out_text(json, "name", info->name);
    json_out_text(json, "parent_id", text_plain(info->parent_id).text);
    json_out_text(json, "model", info->model);
    json_out_count(json, "uid", info->uid);
    json_out_count(json, "gid", info->gid);
    json_out_text(json, "mode", mode);
    json_out_count(json, "tokens", info->length);
    json_out_count(json, "block_tokens", info->block_tokens);
    json_out_count(json, "blocks", blocks_of(info->length, info));
    json_out_count(json, "shared_tokens", info->shared_tokens);
    json_out_count(json, "pinned_blocks", info->pinned_blocks);
    json_out_bool(json, "pinned", info->pinned);
    json_out_bool(json, "generating", info->generating);
    json_out_bool(json, "writable", info->writable);
    json_out_count(json, "request_id", info->request_id);
    if (info->leased)
        json_out_real(json, "lease_seconds", (double)info->lease_ns / 1e9);
    json_out_real(json, "idle_seconds", (double)info->idle_ns / 1e9);
}

static void print_json(const llm_context_info *infos, uint32_t count)
{
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_array(&json, NULL);
    for (uint32_t i = 0; i < count; i++) {
        json_out_object(&json, NULL);
        json_members(&json, &infos[i]);
        json_out_end(&json);
    }
    json_out_end(&json);
}

/* ---- ls -------------------------------------------------------------------------------------------- */

/* Named ones first, by name; then by id. */
static int by_name(const void *left, const void *right)
{
    const llm_context_info *a = left, *b = right;
    if (a->named != b->named)
        return a->named ? -1 : 1;
    int names = a->named ? strcmp(a->name, b->name) : 0;
    return names ? names : (a->id > b->id) - (a->id < b->id);
}

static void print_table(const llm_context_info *infos, uint32_t count)
{
    static const char *const names[] = {"NAME",   "MODEL",  "OWNER", "MODE",     "TOKENS",
                                        "BLOCKS", "SHARED", "PIN",   "LAST USED"};
    struct text_table table;
    text_table_init(&table, "llllrrrlr");
    for (int i = 0; i < table.column_count; i++)
        text_table_cell(&table, "%s", names[i]);
    for (uint32_t i = 0; i < count; i++) {
        const llm_context_info *c = &infos[i];
        char title[128], owner[140];
        ctx_title(c, title, sizeof title);
        ctx_owner(c->uid, c->gid, owner, sizeof owner);
        text_table_cell(&table, "%s", title);
        text_table_cell(&table, "%s", c->model);
        text_table_cell(&table, "%s", owner);
        text_table_cell(&table, "%04o", c->mode);
        text_table_cell(&table, "%s", text_grouped(c->length).text);
        text_table_cell(&table, "%s", text_grouped(blocks_of(c->length, c)).text);
        text_table_cell(&table, "%s", text_grouped(shared_blocks(c)).text);
        text_table_cell(&table, "%s", c->pinned ? "*" : "");
        text_table_cell(&table, "%s", c->generating ? "now" : text_clock(c->idle_ns).text);
    }
    text_table_close(&table, stdout);
}

/* All contexts, sorted, through a function that prints them. */
static enum llmctl_exit show_all(const struct arguments *arguments,
                                 void (*print)(const llm_context_info *, uint32_t))
{
    llm_connection *connection;
    llm_context_info *infos = NULL;
    uint32_t count = 0;
    llm_error error;
    llmctl_limit_time(arguments);
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status = ctx_list(connection, &infos, &count, &error);
    llm_disconnect(connection);
    if (status != LLM_OK)
        return llmctl_fail(&error);
    if (count > 0)
        qsort(infos, count, sizeof *infos, by_name);
    (arguments->json ? print_json : print)(infos, count);
    free(infos);
    return LLMCTL_DONE;
}

enum llmctl_exit llmctl_ctx_ls(const struct arguments *arguments)
{
    return show_all(arguments, print_table);
}

/* ---- show ------------------------------------------------------------------------------------------ */

static void print_one(const llm_context_info *c)
{
    char title[128], owner[140], model[128];
    ctx_title(c, title, sizeof title);
    ctx_owner(c->uid, c->gid, owner, sizeof owner);
    text_printable(model, sizeof model, c->model);
    printf("context   %s  #%" PRIu64 "  %s\n", title, c->id,
           c->named ? "published" : "unnamed, private to its owner");
    printf("model     %s\n", model);
    printf("owner     %s  mode %04o  you may %s\n", owner, c->mode & 07777u,
           c->writable ? "read and write" : "read");
    if (c->parent_id)
        printf("parent    #%" PRIu64 "\n", c->parent_id);
    printf("tokens    %s in %s blocks of %u; the first %s are shared with another context\n",
           text_grouped(c->length).text, text_grouped(blocks_of(c->length, c)).text,
           c->block_tokens, text_grouped(c->shared_tokens).text);
    if (c->pinned)
        printf("pinned    %s blocks\n", text_grouped(c->pinned_blocks).text);
    if (c->leased)
        printf("lease     ends in %s\n", text_clock(c->lease_ns).text);
    if (c->request_id)
        printf("request   %" PRIu64 "%s\n", c->request_id,
               c->generating ? ", generating now" : ", the last one on it");
    printf("last used %s ago\n", text_clock(c->idle_ns).text);
}

static enum llm_status show_one(llm_context *context, const struct arguments *arguments,
                                llm_error *error)
{
    llm_context_info info;
    enum llm_status status = llm_context_describe(context, &info, error);
    if (status != LLM_OK)
        return status;
    if (arguments->json) {
        struct json_out json;
        json_out_init(&json, stdout);
        json_out_object(&json, NULL);
        json_members(&json, &info);
        json_out_end(&json);
    } else {
        print_one(&info);
    }
    return LLM_OK;
}

enum llmctl_exit llmctl_ctx_show(const struct arguments *arguments)
{
    return ctx_run(arguments, show_one, NULL);
}

/* ---- tree ------------------------------------------------------------------------------------------ */

struct tree {
    const llm_context_info *infos; /* [count] */
    uint32_t count;
    uint32_t *children; /* [count] indices, sorted by their parents' ids and then as in `infos` */
    char *indent;       /* room for count levels */
};

static const llm_context_info
    *sorted_infos; /* for the comparison below, which has no other way in */

static int by_parent(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    uint64_t pa = sorted_infos[a].parent_id, pb = sorted_infos[b].parent_id;
    if (pa != pb)
        return pa < pb ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* The first of `children` whose parent is `id`; count: none. */
static uint32_t first_child(const struct tree *tree, uint64_t id)
{
    uint32_t low = 0, high = tree->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (tree->infos[tree->children[middle]].parent_id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_child(const struct tree *tree, uint32_t at, uint64_t id)
{
    return at < tree->count && tree->infos[tree->children[at]].parent_id == id;
}

#define INDENT_BYTES 3

static void print_line(const llm_context_info *c)
{
    char title[128];
    ctx_title(c, title, sizeof title);
    printf("%s  %s tokens", title, text_grouped(c->length).text);
    if (c->parent_id)
        printf(", %s shared", text_grouped(c->shared_tokens).text);
    printf("%s%s\n", c->pinned ? ", pinned" : "", c->generating ? ", generating" : "");
}

/* Without recursion: forks of forks may be as deep as there are contexts. */
struct tree_level {
    uint32_t at; /* in children: the next one to print */
    uint64_t parent;
};

static void print_below(const struct tree *tree, const llm_context_info *root,
                        struct tree_level *levels)
{
    uint32_t depth = 1;
    levels[0] = (struct tree_level){first_child(tree, root->id), root->id};
    while (depth > 0) {
        struct tree_level *level = &levels[depth - 1];
        if (!is_child(tree, level->at, level->parent)) {
            depth--;
            continue;
        }
        const llm_context_info *c = &tree->infos[tree->children[level->at++]];
        bool last = !is_child(tree, level->at, level->parent);
        printf("%.*s%s ", (int)((depth - 1) * INDENT_BYTES), tree->indent, last ? "`-" : "|-");
        print_line(c);
        memcpy(tree->indent + (size_t)(depth - 1) * INDENT_BYTES, last ? "   " : "|  ",
               INDENT_BYTES);
        if (depth < tree->count)
            levels[depth++] = (struct tree_level){first_child(tree, c->id), c->id};
    }
}

/* A root is whose parent is not in the list: none, gone, or not for this user's eyes. */
static bool is_root(const struct tree *tree, const llm_context_info *info)
{
    for (uint32_t i = 0; info->parent_id && i < tree->count; i++)
        if (tree->infos[i].id == info->parent_id)
            return false;
    return true;
}

static void print_tree(const llm_context_info *infos, uint32_t count)
{
    struct tree tree = {.infos = infos,
                        .count = count,
                        .children = calloc(count + 1, sizeof *tree.children),
                        .indent = calloc(count + 1, INDENT_BYTES)};
    struct tree_level *levels = calloc(count + 1, sizeof *levels);
    if (tree.children && tree.indent && levels) {
        for (uint32_t i = 0; i < count; i++)
            tree.children[i] = i;
        sorted_infos = infos;
        if (count > 0)
            qsort(tree.children, count, sizeof *tree.children, by_parent);
        for (uint32_t i = 0; i < count; i++)
            if (is_root(&tree, &infos[i])) {
                print_line(&infos[i]);
                print_below(&tree, &infos[i], levels);
            }
    }
    free(levels);
    free(tree.children);
    free(tree.indent);
}

enum llmctl_exit llmctl_ctx_tree(const struct arguments *arguments)
{
    return show_all(arguments, print_tree);
}
