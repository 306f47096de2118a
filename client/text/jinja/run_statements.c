#include "client/text/jinja/interpret.h"

/* ---- Bodies ------------------------------------------------------------------------------------------- */

struct jinja_value llm_jinja_body_text(struct jinja_run *run, const struct jinja_node *first,
                                       struct jinja_scope *outer)
{
    struct llm_buffer text = {0}, *out_around = run->out;
    struct jinja_scope *around = run->scope, *scope = llm_jinja_scope(run, outer);
    if (!scope)
        return jinja_undefined();
    run->scope = scope;
    run->out = &text;
    (void)llm_jinja_run_body(run, first);
    run->out = out_around;
    run->scope = around;
    return llm_jinja_finish(run, &text);
}

/* In a scope of its own, writing to where output goes. */
static enum jinja_flow run_scoped(struct jinja_run *run, const struct jinja_node *first)
{
    struct jinja_scope *around = run->scope, *scope = llm_jinja_scope(run, around);
    if (!scope)
        return JINJA_BREAK;
    run->scope = scope;
    enum jinja_flow flow = llm_jinja_run_body(run, first);
    run->scope = around;
    return flow;
}

/* ---- if ------------------------------------------------------------------------------------------------ */

static enum jinja_flow run_if(struct jinja_run *run, const struct jinja_node *node)
{
    for (; node && !llm_jinja_failed(run); node = node->b) {
        if (node->kind == JINJA_NODE_BODY)
            return llm_jinja_run_body(run, node->list);
        struct jinja_value condition = llm_jinja_evaluate(run, node->a);
        if (!llm_jinja_failed(run) && llm_jinja_truth(condition))
            return llm_jinja_run_body(run, node->list);
    }
    return JINJA_GO_ON;
}

/* ---- for ----------------------------------------------------------------------------------------------- */

static const struct jinja_string loop_name = {"loop", 4, 4};

/* Those items for which the loop's condition holds. */
static struct jinja_list *select_items(struct jinja_run *run, const struct jinja_node *node,
                                       const struct jinja_list *all)
{
    struct jinja_value selected = llm_jinja_list(run, JINJA_PLAIN_LIST, 0);
    struct jinja_scope *around = run->scope;
    for (size_t i = 0; i < all->count && !llm_jinja_failed(run); i++) {
        run->scope = llm_jinja_scope(run, around);
        if (!run->scope)
            break;
        llm_jinja_assign(run, node->a, all->items[i]);
        struct jinja_value condition = llm_jinja_evaluate(run, node->c);
        if (!llm_jinja_failed(run) && llm_jinja_truth(condition))
            llm_jinja_push(run, selected, all->items[i]);
    }
    run->scope = around;
    return selected.kind == JINJA_LIST ? selected.list : NULL;
}

static void run_rounds(struct jinja_run *run, const struct jinja_node *node,
                       struct jinja_loop *loop)
{
    enum jinja_flow flow = JINJA_GO_ON;
    for (; loop->index < loop->items->count && flow != JINJA_BREAK; loop->index++) {
        run->scope = llm_jinja_scope(run, loop->scope);
        if (!run->scope)
            break;
        llm_jinja_bind(run, &loop_name, (struct jinja_value){.kind = JINJA_LOOP, .loop = loop});
        llm_jinja_assign(run, node->a, loop->items->items[loop->index]);
        flow = llm_jinja_run_body(run, node->list);
        if (llm_jinja_failed(run))
            break;
    }
    run->scope = loop->scope;
}

static void run_loop(struct jinja_run *run, const struct jinja_node *node,
                     struct jinja_value iterable, unsigned depth)
{
    struct jinja_list *items = llm_jinja_iterate(run, iterable);
    if (items && node->c)
        items = select_items(run, node, items);
    struct jinja_loop *loop = llm_jinja_take(run, sizeof *loop);
    if (!items || !loop)
        return;
    *loop = (struct jinja_loop){.items = items,
                                .depth = depth,
                                .recursive = node->op ? node : NULL,
                                .scope = run->scope,
                                .changed = {.kind = JINJA_ABSENT}};
    if (items->count == 0 && node->d)
        (void)run_scoped(run, node->d->list);
    else
        run_rounds(run, node, loop);
}

struct jinja_value llm_jinja_loop_again(struct jinja_run *run, const struct jinja_loop *loop,
                                        struct jinja_value items)
{
    if (!loop->recursive)
        return llm_jinja_fail(run, LLM_ERR_INVALID,
                              "loop() is called, but the loop is not marked as recursive");
    if (!llm_jinja_enter(run))
        return jinja_undefined();
    struct llm_buffer text = {0}, *out_around = run->out;
    struct jinja_scope *around = run->scope;
    run->scope = loop->scope;
    run->out = &text;
    run_loop(run, loop->recursive, items, loop->depth + 1);
    run->out = out_around;
    run->scope = around;
    run->depth--;
    return llm_jinja_finish(run, &text);
}

/* The item beside the one at work, or undefined beyond the ends. */
static struct jinja_value neighbour(const struct jinja_loop *loop, bool next)
{
    if (next ? loop->index + 1 < loop->items->count : loop->index > 0)
        return loop->items->items[next ? loop->index + 1 : loop->index - 1];
    return (struct jinja_value){.kind = JINJA_UNDEFINED,
                                .flavor = JINJA_NO_ATTRIBUTE,
                                .of = JINJA_LOOP,
                                .string = &loop_name};
}

struct jinja_value llm_jinja_loop_attribute(struct jinja_run *run, struct jinja_loop *loop,
                                            const struct jinja_string *name)
{
    int64_t count = (int64_t)loop->items->count, index = (int64_t)loop->index;
    const struct {
        const char *name;
        struct jinja_value value;
    } attributes[] = {
        {"index", jinja_int(index + 1)},        {"index0", jinja_int(index)},
        {"revindex", jinja_int(count - index)}, {"revindex0", jinja_int(count - index - 1)},
        {"first", jinja_bool(index == 0)},      {"last", jinja_bool(index == count - 1)},
        {"length", jinja_int(count)},           {"depth", jinja_int(loop->depth + 1)},
        {"depth0", jinja_int(loop->depth)},     {"previtem", neighbour(loop, false)},
        {"nextitem", neighbour(loop, true)},
    };
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        if (llm_jinja_is_text(name, attributes[i].name))
            return attributes[i].value;
    const struct jinja_builtin *row = llm_jinja_find_builtin(llm_jinja_loop_methods, name);
    struct jinja_function *function = row ? llm_jinja_take(run, sizeof *function) : NULL;
    if (!function)
        return (struct jinja_value){.kind = JINJA_UNDEFINED,
                                    .flavor = JINJA_NO_ATTRIBUTE,
                                    .of = JINJA_LOOP,
                                    .string = name};
    *function = (struct jinja_function){.builtin = row, .self = {.kind = JINJA_LOOP, .loop = loop}};
    return (struct jinja_value){.kind = JINJA_FUNCTION, .function = function};
}

/* ---- set, filter, call, with -------------------------------------------------------------------------------- */

/* The filters around a block's text, applied to it. */
static struct jinja_value filtered_block(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value around = run->block_text;
    run->block_text = llm_jinja_body_text(run, node->list, run->scope);
    struct jinja_value value = llm_jinja_evaluate(run, node->b);
    run->block_text = around;
    return value;
}

static void run_call_block(struct jinja_run *run, const struct jinja_node *node)
{
    static const struct jinja_string caller = {"caller", 6, 6};
    struct jinja_arguments arguments = {0};
    struct jinja_value callee = llm_jinja_evaluate(run, node->a->a);
    llm_jinja_evaluate_arguments(run, node->a->list, &arguments);
    llm_jinja_add_keyword(run, &arguments, &caller, llm_jinja_macro_value(run, node->b));
    struct jinja_value text = llm_jinja_call_value(run, callee, &arguments);
    if (!llm_jinja_failed(run))
        llm_jinja_show(run, run->out, text);
}

static enum jinja_flow run_with(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_scope *around = run->scope, *scope = llm_jinja_scope(run, around);
    for (const struct jinja_node *set = node->a; scope && set; set = set->next) {
        run->scope = around; /* values are those outside */
        struct jinja_value value = llm_jinja_evaluate(run, set->b);
        run->scope = scope;
        llm_jinja_assign(run, set->a, value);
    }
    enum jinja_flow flow = JINJA_BREAK;
    if (scope) {
        run->scope = scope;
        flow = llm_jinja_run_body(run, node->list);
    }
    run->scope = around;
    return flow;
}

/* ---- All ------------------------------------------------------------------------------------------------------ */

static void run_output(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value = llm_jinja_evaluate(run, node->a);
    if (!llm_jinja_failed(run))
        llm_jinja_show(run, run->out, value);
}

static void run_set(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value =
        node->kind == JINJA_NODE_SET ? llm_jinja_evaluate(run, node->b) : filtered_block(run, node);
    if (!llm_jinja_failed(run))
        llm_jinja_assign(run, node->a, value);
}

static enum jinja_flow run_statement(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value;
    switch (node->kind) {
    case JINJA_NODE_DATA:
        llm_jinja_append_string(run, run->out, node->value.string);
        break;
    case JINJA_NODE_OUTPUT:
        run_output(run, node);
        break;
    case JINJA_NODE_IF:
        return run_if(run, node);
    case JINJA_NODE_FOR:
        value = llm_jinja_evaluate(run, node->b);
        if (!llm_jinja_failed(run))
            run_loop(run, node, value, 0);
        break;
    case JINJA_NODE_SET:
    case JINJA_NODE_SET_BLOCK:
        run_set(run, node);
        break;
    case JINJA_NODE_MACRO:
        llm_jinja_bind(run, node->name, llm_jinja_macro_value(run, node));
        break;
    case JINJA_NODE_CALL_BLOCK:
        run_call_block(run, node);
        break;
    case JINJA_NODE_FILTER_BLOCK:
        value = filtered_block(run, node);
        if (!llm_jinja_failed(run))
            llm_jinja_show(run, run->out, value);
        break;
    case JINJA_NODE_WITH:
        return run_with(run, node);
    case JINJA_NODE_BODY:
        return run_scoped(run, node->list);
    case JINJA_NODE_BREAK:
        return JINJA_BREAK;
    case JINJA_NODE_CONTINUE:
        return JINJA_GO_TO_NEXT;
    default: /* expressions are no statements */
        break;
    }
    return JINJA_GO_ON;
}

enum jinja_flow llm_jinja_run_body(struct jinja_run *run, const struct jinja_node *first)
{
    enum jinja_flow flow = JINJA_GO_ON;
    uint32_t around = run->at;
    if (!llm_jinja_enter(run))
        return JINJA_BREAK;
    for (const struct jinja_node *node = first; node && flow == JINJA_GO_ON; node = node->next) {
        run->at = node->at;
        if (!llm_jinja_charge(run, 1))
            break;
        flow = run_statement(run, node);
    }
    run->depth--;
    run->at = around;
    return flow;
}
