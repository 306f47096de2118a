#include "client/text/jinja/interpret.h"

struct jinja_scope *llm_jinja_scope(struct jinja_run *run, struct jinja_scope *outer)
{
    struct jinja_scope *scope = llm_jinja_take(run, sizeof *scope);
    if (scope)
        *scope = (struct jinja_scope){.outer = outer};
    return scope;
}

static struct jinja_binding *find(struct jinja_run *run, const struct jinja_scope *scope,
                                  const struct jinja_string *name)
{
    struct jinja_binding *binding = scope->last;
    while (binding && !llm_jinja_same_text(binding->name, name) && llm_jinja_charge(run, 1))
        binding = binding->before;
    return binding;
}

void llm_jinja_bind(struct jinja_run *run, const struct jinja_string *name,
                    struct jinja_value value)
{
    if (llm_jinja_failed(run))
        return;
    struct jinja_binding *binding = find(run, run->scope, name);
    if (!binding) {
        binding = llm_jinja_take(run, sizeof *binding);
        if (!binding)
            return;
        *binding = (struct jinja_binding){.before = run->scope->last, .name = name};
        run->scope->last = binding;
    }
    binding->value = value;
}

/* A global function as a value. */
static struct jinja_value global(struct jinja_run *run, const struct jinja_string *name)
{
    const struct jinja_builtin *row = llm_jinja_find_builtin(llm_jinja_globals, name);
    if (!row)
        return (struct jinja_value){
            .kind = JINJA_UNDEFINED, .flavor = JINJA_NO_NAME, .string = name};
    struct jinja_function *function = llm_jinja_take(run, sizeof *function);
    if (!function)
        return jinja_undefined();
    *function = (struct jinja_function){.builtin = row};
    return (struct jinja_value){.kind = JINJA_FUNCTION, .function = function};
}

struct jinja_value llm_jinja_look_up(struct jinja_run *run, const struct jinja_string *name)
{
    for (const struct jinja_scope *scope = run->scope; scope; scope = scope->outer) {
        const struct jinja_binding *binding = find(run, scope, name);
        if (binding)
            return binding->value;
    }
    const struct jinja_entry *entry = llm_jinja_find(
        run, run->variables.dict, (struct jinja_value){.kind = JINJA_STRING, .string = name});
    return entry ? entry->value : global(run, name);
}

/* ---- Targets ---------------------------------------------------------------------------------------------- */

static void assign_field(struct jinja_run *run, const struct jinja_node *target,
                         struct jinja_value value)
{
    struct jinja_value object = llm_jinja_look_up(run, target->a->name);
    if (llm_jinja_failed(run))
        return;
    if (object.kind == JINJA_NAMESPACE)
        llm_jinja_put(run, object.dict,
                      (struct jinja_value){.kind = JINJA_STRING, .string = target->name}, value);
    else
        (void)llm_jinja_fail(run, LLM_ERR_INVALID,
                             "cannot assign attribute on non-namespace object");
}

static void assign_parts(struct jinja_run *run, const struct jinja_node *target,
                         struct jinja_value value)
{
    const struct jinja_list *items = llm_jinja_iterate(run, value);
    size_t i = 0;
    const struct jinja_node *part = target->list;
    if (!items || !llm_jinja_enter(run))
        return;
    for (; part && i < items->count && !llm_jinja_failed(run); part = part->next, i++)
        llm_jinja_assign(run, part, items->items[i]);
    if (part)
        (void)llm_jinja_fail(run, LLM_ERR_INVALID, "not enough values to unpack: %zu",
                             items->count);
    else if (i < items->count)
        (void)llm_jinja_fail(run, LLM_ERR_INVALID, "too many values to unpack: %zu", items->count);
    run->depth--;
}

void llm_jinja_assign(struct jinja_run *run, const struct jinja_node *target,
                      struct jinja_value value)
{
    uint32_t around = run->at;
    run->at = target->at;
    if (target->kind == JINJA_NODE_NAME)
        llm_jinja_bind(run, target->name, value);
    else if (target->kind == JINJA_NODE_FIELD)
        assign_field(run, target, value);
    else
        assign_parts(run, target, value);
    run->at = around;
}
