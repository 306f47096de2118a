#include "client/text/jinja/interpret.h"

static struct jinja_value evaluate_list(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value list =
        llm_jinja_list(run, node->kind == JINJA_NODE_TUPLE ? JINJA_TUPLE : JINJA_PLAIN_LIST, 0);
    for (const struct jinja_node *item = node->list; item && !llm_jinja_failed(run);
         item = item->next)
        llm_jinja_push(run, list, llm_jinja_evaluate(run, item));
    return list;
}

static struct jinja_value evaluate_dict(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value dict = llm_jinja_dict(run);
    for (const struct jinja_node *key = node->list; key && !llm_jinja_failed(run);
         key = key->next->next) {
        struct jinja_value k = llm_jinja_evaluate(run, key);
        struct jinja_value v = llm_jinja_evaluate(run, key->next);
        if (!llm_jinja_is_key(k))
            return llm_jinja_fail(run, LLM_ERR_INVALID, "unhashable type: '%s'",
                                  llm_jinja_type_name(k));
        if (!llm_jinja_failed(run))
            llm_jinja_put(run, dict.dict, k, v);
    }
    return dict;
}

static struct jinja_value evaluate_concat(struct jinja_run *run, const struct jinja_node *node)
{
    struct llm_buffer text = {0};
    for (const struct jinja_node *part = node->list; part && !llm_jinja_failed(run);
         part = part->next) {
        struct jinja_value value = llm_jinja_evaluate(run, part);
        if (!llm_jinja_failed(run))
            llm_jinja_show(run, &text, value);
    }
    return llm_jinja_finish(run, &text);
}

/* a < b <= c: each neighbour pair in turn, each operand once. */
static struct jinja_value evaluate_compare(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value left = llm_jinja_evaluate(run, node->a);
    for (const struct jinja_node *o = node->list; o && !llm_jinja_failed(run); o = o->next) {
        struct jinja_value right = llm_jinja_evaluate(run, o->a);
        if (llm_jinja_failed(run) || !llm_jinja_compare(run, o->op, left, right))
            return jinja_bool(false);
        left = right;
    }
    return jinja_bool(true);
}

static struct jinja_value evaluate_and_or(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value left = llm_jinja_evaluate(run, node->a);
    if (llm_jinja_failed(run) || llm_jinja_truth(left) == (node->kind == JINJA_NODE_OR))
        return left;
    return llm_jinja_evaluate(run, node->b);
}

static struct jinja_value evaluate_not(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value v = llm_jinja_evaluate(run, node->a);
    return jinja_bool(!llm_jinja_failed(run) && !llm_jinja_truth(v));
}

static struct jinja_value evaluate_binary(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value left = llm_jinja_evaluate(run, node->a);
    struct jinja_value right = llm_jinja_evaluate(run, node->b);
    return llm_jinja_failed(run) ? jinja_undefined() : llm_jinja_binary(run, node->op, left, right);
}

static struct jinja_value evaluate_if_else(struct jinja_run *run, const struct jinja_node *node)
{
    static const struct jinja_string sentence = {
        "the inline if-expression evaluated to false and no else section was defined", 75, 75};
    struct jinja_value condition = llm_jinja_evaluate(run, node->a);
    if (llm_jinja_failed(run))
        return jinja_undefined();
    if (llm_jinja_truth(condition))
        return llm_jinja_evaluate(run, node->b);
    if (node->c)
        return llm_jinja_evaluate(run, node->c);
    return (struct jinja_value){
        .kind = JINJA_UNDEFINED, .flavor = JINJA_SENTENCE, .string = &sentence};
}

static struct jinja_value evaluate_bound(struct jinja_run *run, const struct jinja_node *node)
{
    return node ? llm_jinja_evaluate(run, node) : jinja_none();
}

static struct jinja_value evaluate_item(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value object = llm_jinja_evaluate(run, node->a);
    if (node->b->kind == JINJA_NODE_SLICE) {
        struct jinja_value bounds[3] = {evaluate_bound(run, node->b->a),
                                        evaluate_bound(run, node->b->b),
                                        evaluate_bound(run, node->b->c)};
        return llm_jinja_failed(run) ? jinja_undefined() : llm_jinja_slice(run, object, bounds);
    }
    struct jinja_value key = llm_jinja_evaluate(run, node->b);
    return llm_jinja_failed(run) ? jinja_undefined() : llm_jinja_item(run, object, key);
}

static struct jinja_value evaluate_attribute(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value object = llm_jinja_evaluate(run, node->a);
    return llm_jinja_failed(run) ? jinja_undefined() : llm_jinja_attribute(run, object, node->name);
}

static struct jinja_value evaluate_call(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_arguments arguments = {0};
    struct jinja_value callee = llm_jinja_evaluate(run, node->a);
    llm_jinja_evaluate_arguments(run, node->list, &arguments);
    return llm_jinja_failed(run) ? jinja_undefined()
                                 : llm_jinja_call_value(run, callee, &arguments);
}

static struct jinja_value evaluate_filter(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_arguments arguments = {0};
    struct jinja_value self = llm_jinja_evaluate(run, node->a);
    llm_jinja_evaluate_arguments(run, node->list, &arguments);
    return llm_jinja_failed(run) ? jinja_undefined()
                                 : llm_jinja_apply_filter(run, node->name, self, &arguments);
}

static struct jinja_value evaluate_test(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_arguments arguments = {0};
    struct jinja_value self = llm_jinja_evaluate(run, node->a);
    llm_jinja_evaluate_arguments(run, node->list, &arguments);
    return jinja_bool(!llm_jinja_failed(run) &&
                      llm_jinja_apply_test(run, node->name, self, &arguments));
}

static struct jinja_value evaluate_sign(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value v = llm_jinja_evaluate(run, node->a);
    if (llm_jinja_failed(run))
        return v;
    if (node->kind == JINJA_NODE_NEGATE)
        return llm_jinja_negate(run, v);
    return llm_jinja_binary(run, JINJA_ADD, jinja_int(0), v);
}

static struct jinja_value evaluate_kind(struct jinja_run *run, const struct jinja_node *node)
{
    switch (node->kind) {
    case JINJA_NODE_CONSTANT:
        return node->value;
    case JINJA_NODE_NAME:
        return llm_jinja_look_up(run, node->name);
    case JINJA_NODE_LIST:
    case JINJA_NODE_TUPLE:
        return evaluate_list(run, node);
    case JINJA_NODE_DICT:
        return evaluate_dict(run, node);
    case JINJA_NODE_NEGATE:
    case JINJA_NODE_PLUS:
        return evaluate_sign(run, node);
    case JINJA_NODE_NOT:
        return evaluate_not(run, node);
    case JINJA_NODE_AND:
    case JINJA_NODE_OR:
        return evaluate_and_or(run, node);
    case JINJA_NODE_BINARY:
        return evaluate_binary(run, node);
    case JINJA_NODE_CONCAT:
        return evaluate_concat(run, node);
    case JINJA_NODE_COMPARE:
        return evaluate_compare(run, node);
    case JINJA_NODE_IF_ELSE:
        return evaluate_if_else(run, node);
    case JINJA_NODE_ATTRIBUTE:
        return evaluate_attribute(run, node);
    case JINJA_NODE_ITEM:
        return evaluate_item(run, node);
    case JINJA_NODE_CALL:
        return evaluate_call(run, node);
    case JINJA_NODE_FILTER:
        return evaluate_filter(run, node);
    case JINJA_NODE_TEST:
        return evaluate_test(run, node);
    case JINJA_NODE_BLOCK_TEXT:
        return run->block_text;
    default: /* statements and parts of expressions are not evaluated alone */
        return jinja_undefined();
    }
}

struct jinja_value llm_jinja_evaluate(struct jinja_run *run, const struct jinja_node *node)
{
    if (!llm_jinja_charge(run, 1) || !llm_jinja_enter(run))
        return jinja_undefined();
    uint32_t around = run->at;
    run->at = node->at;
    struct jinja_value value = evaluate_kind(run, node);
    run->at = around;
    run->depth--;
    return value;
}
