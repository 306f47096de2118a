#include "client/text/jinja/parse.h"

static struct jinja_node *parse_body(struct jinja_parser *p, const char *const *ends);

static void expect_block_end(struct jinja_parser *p)
{
    if (p->token.kind != JINJA_TOKEN_BLOCK_END)
        llm_jinja_unexpected(p, "%}");
    llm_jinja_advance(p);
}

/* The body up to one of `ends` (a NULL-terminated list of tags' names), on whose name the parser then stands. The tag
 * before it is ended first. */
static struct jinja_node *parse_until(struct jinja_parser *p, const char *const *ends)
{
    expect_block_end(p);
    return parse_body(p, ends);
}

static struct jinja_node *parse_until_end(struct jinja_parser *p, const char *end)
{
    const char *const ends[] = {end, NULL};
    struct jinja_node *body = parse_until(p, ends);
    llm_jinja_advance(p);
    return body;
}

static struct jinja_node *body_node(struct jinja_parser *p, uint32_t at, struct jinja_node *first)
{
    struct jinja_node *node = llm_jinja_node(p, JINJA_NODE_BODY, at);
    if (node)
        node->list = first;
    return node;
}

static bool is_target(const struct jinja_node *node)
{
    if (!node)
        return false;
    if (node->kind != JINJA_NODE_TUPLE && node->kind != JINJA_NODE_LIST)
        return node->kind == JINJA_NODE_NAME || node->kind == JINJA_NODE_FIELD;
    for (const struct jinja_node *part = node->list; part; part = part->next)
        if (!is_target(part))
            return false;
    return true;
}

static struct jinja_node *parse_target(struct jinja_parser *p, unsigned rules)
{
    uint32_t at = p->token.at;
    struct jinja_node *target = llm_jinja_parse_tuple(p, rules | JINJA_ONLY_TARGETS);
    if (!is_target(target)) {
        p->run->at = at;
        (void)llm_jinja_fail(p->run, LLM_ERR_INVALID, "only names can be assigned to");
    }
    return target;
}

/* ---- if, for ------------------------------------------------------------------------------------------ */

/* Behind "if" or "elif". */
static void parse_if(struct jinja_parser *p, struct jinja_node *node)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    while (!llm_jinja_failed(p->run)) { /* each elif hangs in the branch before it */
        node->a = llm_jinja_parse_tuple(p, JINJA_WITHOUT_IF);
        node->list = parse_until(p, ends);
        uint32_t at = p->token.at;
        if (llm_jinja_skip_name(p, "elif")) {
            node->b = llm_jinja_node(p, JINJA_NODE_IF, at);
            node = node->b;
            if (!node)
                return;
            continue;
        }
        if (llm_jinja_skip_name(p, "else"))
            node->b = body_node(p, at, parse_until_end(p, "endif"));
        else
            llm_jinja_advance(p);
        return;
    }
}

static void parse_for(struct jinja_parser *p, struct jinja_node *node)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    node->a = parse_target(p, JINJA_ENDS_AT_WORD);
    if (!llm_jinja_skip_name(p, "in"))
        llm_jinja_unexpected(p, "'in'");
    node->b = llm_jinja_parse_tuple(p, JINJA_WITHOUT_IF | JINJA_ENDS_AT_WORD);
    if (llm_jinja_skip_name(p, "if"))
        node->c = llm_jinja_parse_expression(p);
    node->op = llm_jinja_skip_name(p, "recursive");
    p->loops++;
    node->list = parse_until(p, ends);
    p->loops--;
    uint32_t at = p->token.at;
    if (llm_jinja_skip_name(p, "else"))
        node->d = body_node(p, at, parse_until_end(p, "endfor"));
    else
        llm_jinja_advance(p);
}

static void parse_loop_control(struct jinja_parser *p, struct jinja_node *node)
{
    if (p->loops == 0) {
        p->run->at = node->at;
        (void)llm_jinja_fail(p->run, LLM_ERR_INVALID, "break and continue belong into a loop");
    }
}

/* ---- set, with, filter, generation ---------------------------------------------------------------------- */

static struct jinja_node *block_text(struct jinja_parser *p)
{
    return llm_jinja_node(p, JINJA_NODE_BLOCK_TEXT, p->token.at);
}

static void parse_set(struct jinja_parser *p, struct jinja_node *node)
{
    node->a = parse_target(p, JINJA_NAMESPACE_TARGETS);
    if (llm_jinja_skip_sign(p, JINJA_SIGN('=', 0))) {
        node->b = llm_jinja_parse_tuple(p, 0);
        return;
    }
    node->kind = JINJA_NODE_SET_BLOCK;
    node->b = llm_jinja_parse_filters(p, block_text(p), false);
    node->list = parse_until_end(p, "endset");
}

static void parse_with(struct jinja_parser *p, struct jinja_node *node)
{
    struct jinja_chain sets = {0};
    while (p->token.kind != JINJA_TOKEN_BLOCK_END && !llm_jinja_failed(p->run)) {
        struct jinja_node *set = llm_jinja_node(p, JINJA_NODE_SET, p->token.at);
        if (!set)
            return;
        set->a = parse_target(p, 0);
        llm_jinja_expect_sign(p, '=');
        set->b = llm_jinja_parse_expression(p);
        llm_jinja_link(&sets, set);
        if (!llm_jinja_skip_sign(p, JINJA_SIGN(',', 0)))
            break;
    }
    node->a = sets.first;
    node->list = parse_until_end(p, "endwith");
}

static void parse_filter_block(struct jinja_parser *p, struct jinja_node *node)
{
    node->b = llm_jinja_parse_filters(p, block_text(p), true);
    node->list = parse_until_end(p, "endfilter");
}

/* ---- macro, call -------------------------------------------------------------------------------------- */

static struct jinja_node *parse_parameters(struct jinja_parser *p)
{
    struct jinja_chain parameters = {0};
    bool defaults = false;
    llm_jinja_expect_sign(p, '(');
    while (!llm_jinja_at_sign(p, JINJA_SIGN(')', 0)) && !llm_jinja_failed(p->run)) {
        struct jinja_node *parameter = llm_jinja_node(p, JINJA_NODE_PARAMETER, p->token.at);
        if (!parameter)
            return NULL;
        parameter->name = llm_jinja_expect_name(p, "a parameter's name");
        if (llm_jinja_skip_sign(p, JINJA_SIGN('=', 0))) {
            parameter->a = llm_jinja_parse_expression(p);
            defaults = true;
        } else if (defaults) {
            llm_jinja_unexpected(p, "a default (the parameter before has one)");
        }
        llm_jinja_link(&parameters, parameter);
        if (!llm_jinja_skip_sign(p, JINJA_SIGN(',', 0)))
            break;
    }
    llm_jinja_expect_sign(p, ')');
    return parameters.first;
}

/* Parameters are behind us. */
static void parse_macro_body(struct jinja_parser *p, struct jinja_node *macro, const char *end)
{
    uint8_t uses_around = p->macro_uses;
    unsigned loops_around = p->loops;
    p->macro_uses = 0;
    p->loops = 0;
    macro->list = parse_until_end(p, end);
    macro->op = p->macro_uses;
    p->macro_uses = uses_around;
    p->loops = loops_around;
}

static void parse_macro(struct jinja_parser *p, struct jinja_node *node)
{
    node->name = llm_jinja_expect_name(p, "a macro's name");
    node->a = parse_parameters(p);
    parse_macro_body(p, node, "endmacro");
}

static void parse_call_block(struct jinja_parser *p, struct jinja_node *node)
{
    struct jinja_node *caller = llm_jinja_node(p, JINJA_NODE_MACRO, p->token.at);
    if (!caller)
        return;
    if (llm_jinja_at_sign(p, JINJA_SIGN('(', 0)))
        caller->a = parse_parameters(p);
    node->a = llm_jinja_parse_expression(p);
    if (node->a && node->a->kind != JINJA_NODE_CALL)
        llm_jinja_unexpected(p, "the call of a macro");
    parse_macro_body(p, caller, "endcall");
    node->b = caller;
}

/* {% generation %}: marks the assistant's own text for training; here its body is only a scope. */
static void parse_generation(struct jinja_parser *p, struct jinja_node *node)
{
    node->op = 1;
    node->list = parse_until_end(p, "endgeneration");
}

/* ---- The template ----------------------------------------------------------------------------------------- */

static const struct statement {
    const char *name;
    enum jinja_node_kind kind;
    void (*parse)(struct jinja_parser *p, struct jinja_node *node);
} statements[] = {
    {"if", JINJA_NODE_IF, parse_if},
    {"for", JINJA_NODE_FOR, parse_for},
    {"set", JINJA_NODE_SET, parse_set},
    {"macro", JINJA_NODE_MACRO, parse_macro},
    {"call", JINJA_NODE_CALL_BLOCK, parse_call_block},
    {"filter", JINJA_NODE_FILTER_BLOCK, parse_filter_block},
    {"with", JINJA_NODE_WITH, parse_with},
    {"generation", JINJA_NODE_BODY, parse_generation},
    {"break", JINJA_NODE_BREAK, parse_loop_control},
    {"continue", JINJA_NODE_CONTINUE, parse_loop_control},
};

/* Behind "{%". */
static struct jinja_node *parse_statement(struct jinja_parser *p)
{
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        uint32_t at = p->token.at;
        if (!llm_jinja_skip_name(p, statements[i].name))
            continue;
        struct jinja_node *node = llm_jinja_node(p, statements[i].kind, at);
        if (!node || !llm_jinja_enter(p->run))
            return NULL;
        statements[i].parse(p, node);
        p->run->depth--;
        expect_block_end(p);
        return node;
    }
    llm_jinja_unexpected(p, "a tag that chat templates have (if, for, set, macro, call, filter, "
                            "with, generation, break, continue)");
    return NULL;
}

static bool at_one_of(const struct jinja_parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (llm_jinja_at_name(p, *ends))
            return true;
    return false;
}

static struct jinja_node *parse_data(struct jinja_parser *p)
{
    struct jinja_node *node = llm_jinja_node(p, JINJA_NODE_DATA, p->token.at);
    if (node)
        node->value = p->token.value;
    llm_jinja_advance(p);
    return node;
}

static struct jinja_node *parse_output(struct jinja_parser *p)
{
    struct jinja_node *node = llm_jinja_node(p, JINJA_NODE_OUTPUT, p->token.at);
    llm_jinja_advance(p);
    struct jinja_node *value = llm_jinja_parse_tuple(p, 0);
    if (node)
        node->a = value;
    if (p->token.kind != JINJA_TOKEN_VARIABLE_END)
        llm_jinja_unexpected(p, "}}");
    llm_jinja_advance(p);
    return node;
}

/* Up to the name of one of the tags in `ends`, or to the template's end when that is NULL. */
static struct jinja_node *parse_body(struct jinja_parser *p, const char *const *ends)
{
    struct jinja_chain body = {0};
    while (p->token.kind != JINJA_TOKEN_END && !llm_jinja_failed(p->run)) {
        if (p->token.kind == JINJA_TOKEN_DATA) {
            llm_jinja_link(&body, parse_data(p));
        } else if (p->token.kind == JINJA_TOKEN_VARIABLE_BEGIN) {
            llm_jinja_link(&body, parse_output(p));
        } else {
            llm_jinja_advance(p); /* {% */
            if (at_one_of(p, ends))
                return body.first;
            llm_jinja_link(&body, parse_statement(p));
        }
    }
    if (ends)
        llm_jinja_unexpected(p, ends[1] ? ends[1] : ends[0]);
    return body.first;
}

struct jinja_node *llm_jinja_parse(struct jinja_run *run)
{
    struct jinja_parser p = {.run = run, .lexer = {.run = run, .line_start = true}};
    llm_jinja_advance(&p);
    llm_jinja_advance(&p);
    struct jinja_node *root = body_node(&p, 0, parse_body(&p, NULL));
    return llm_jinja_failed(run) ? NULL : root;
}
