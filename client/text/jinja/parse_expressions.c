#include <stdio.h>

#include "client/text/jinja/parse.h"

/* ---- Tokens ----------------------------------------------------------------------------------------- */

struct jinja_node *llm_jinja_node(struct jinja_parser *p, enum jinja_node_kind kind, uint32_t at)
{
    struct jinja_node *node = llm_jinja_take(p->run, sizeof *node);
    if (!node)
        return NULL;
    *node = (struct jinja_node){.kind = (uint8_t)kind, .at = at};
    return node;
}

void llm_jinja_link(struct jinja_chain *chain, struct jinja_node *node)
{
    if (!node)
        return;
    if (!chain->first)
        chain->first = node;
    else
        *chain->end = node;
    chain->end = &node->next;
}

void llm_jinja_advance(struct jinja_parser *p)
{
    p->token = p->ahead;
    p->ahead = llm_jinja_lex(&p->lexer);
    if (llm_jinja_failed(p->run))
        p->token = p->ahead = (struct jinja_token){.kind = JINJA_TOKEN_END};
}

bool llm_jinja_at_sign(const struct jinja_parser *p, uint16_t sign)
{
    return p->token.kind == JINJA_TOKEN_SIGN && p->token.sign == sign;
}

static bool is_name(const struct jinja_token *token, const char *name)
{
    return token->kind == JINJA_TOKEN_NAME && jinja_is_string(token->value) &&
           llm_jinja_is_text(token->value.string, name);
}

bool llm_jinja_at_name(const struct jinja_parser *p, const char *name)
{
    return is_name(&p->token, name);
}

bool llm_jinja_skip_sign(struct jinja_parser *p, uint16_t sign)
{
    bool here = llm_jinja_at_sign(p, sign);
    if (here)
        llm_jinja_advance(p);
    return here;
}

bool llm_jinja_skip_name(struct jinja_parser *p, const char *name)
{
    bool here = llm_jinja_at_name(p, name);
    if (here)
        llm_jinja_advance(p);
    return here;
}

static void describe(const struct jinja_token *token, char out[64])
{
    static const char *const words[] = {[JINJA_TOKEN_END] = "the template's end",
                                        [JINJA_TOKEN_DATA] = "text",
                                        [JINJA_TOKEN_BLOCK_BEGIN] = "{%",
                                        [JINJA_TOKEN_BLOCK_END] = "%}",
                                        [JINJA_TOKEN_VARIABLE_BEGIN] = "{{",
                                        [JINJA_TOKEN_VARIABLE_END] = "}}",
                                        [JINJA_TOKEN_NAME] = "a name",
                                        [JINJA_TOKEN_NUMBER] = "a number",
                                        [JINJA_TOKEN_STRING] = "a string",
                                        [JINJA_TOKEN_SIGN] = "a sign"};
    if (token->kind == JINJA_TOKEN_NAME && jinja_is_string(token->value))
        snprintf(out, 64, "'%.*s'",
                 (int)(token->value.string->count < 50 ? token->value.string->count : 50),
                 token->value.string->bytes);
    else if (token->kind == JINJA_TOKEN_SIGN)
        snprintf(out, 64, "'%c%.1s'", token->sign & 0xff, (char[]){(char)(token->sign >> 8), 0});
    else
        snprintf(out, 64, "%s", words[token->kind]);
}

void llm_jinja_unexpected(struct jinja_parser *p, const char *wanted)
{
    char found[64];
    describe(&p->token, found);
    p->run->at = p->token.at;
    (void)llm_jinja_fail(p->run, LLM_ERR_INVALID, "%s where %s should be", found, wanted);
    llm_jinja_advance(p); /* to the end */
}

void llm_jinja_expect_sign(struct jinja_parser *p, char sign)
{
    if (!llm_jinja_skip_sign(p, JINJA_SIGN(sign, 0)))
        llm_jinja_unexpected(p, (char[]){'\'', sign, '\'', 0});
}

const struct jinja_string *llm_jinja_expect_name(struct jinja_parser *p, const char *what)
{
    static const struct jinja_string nothing = {"", 0, 0};
    if (p->token.kind != JINJA_TOKEN_NAME || !jinja_is_string(p->token.value)) {
        llm_jinja_unexpected(p, what);
        return &nothing;
    }
    const struct jinja_string *name = p->token.value.string;
    llm_jinja_advance(p);
    return name;
}

/* ---- Small builders --------------------------------------------------------------------------------- */

static struct jinja_node *two(struct jinja_parser *p, enum jinja_node_kind kind, uint32_t at,
                              struct jinja_node *a, struct jinja_node *b)
{
    struct jinja_node *node = llm_jinja_node(p, kind, at);
    if (node) {
        node->a = a;
        node->b = b;
    }
    return node;
}

static struct jinja_node *constant(struct jinja_parser *p, uint32_t at, struct jinja_value value)
{
    struct jinja_node *node = llm_jinja_node(p, JINJA_NODE_CONSTANT, at);
    if (node)
        node->value = value;
    return node;
}

static struct jinja_node *named(struct jinja_parser *p, enum jinja_node_kind kind, uint32_t at,
                                struct jinja_node *a, const struct jinja_string *name)
{
    struct jinja_node *node = two(p, kind, at, a, NULL);
    if (node)
        node->name = name;
    return node;
}

static struct jinja_node *listed(struct jinja_parser *p, enum jinja_node_kind kind, uint32_t at,
                                 struct jinja_node *first)
{
    struct jinja_node *node = llm_jinja_node(p, kind, at);
    if (node)
        node->list = first;
    return node;
}

/* ---- Primary expressions ---------------------------------------------------------------------------- */

static struct jinja_node *parse_list(struct jinja_parser *p)
{
    uint32_t at = p->token.at;
    struct jinja_chain items = {0};
    llm_jinja_advance(p);
    while (!llm_jinja_at_sign(p, JINJA_SIGN(']', 0)) && !llm_jinja_failed(p->run)) {
        llm_jinja_link(&items, llm_jinja_parse_expression(p));
        if (!llm_jinja_skip_sign(p, JINJA_SIGN(',', 0)))
            break;
    }
    llm_jinja_expect_sign(p, ']');
    return listed(p, JINJA_NODE_LIST, at, items.first);
}

static struct jinja_node *parse_dict(struct jinja_parser *p)
{
    uint32_t at = p->token.at;
    struct jinja_chain items = {0};
    llm_jinja_advance(p);
    while (!llm_jinja_at_sign(p, JINJA_SIGN('}', 0)) && !llm_jinja_failed(p->run)) {
        llm_jinja_link(&items, llm_jinja_parse_expression(p));
        llm_jinja_expect_sign(p, ':');
        llm_jinja_link(&items, llm_jinja_parse_expression(p));
        if (!llm_jinja_skip_sign(p, JINJA_SIGN(',', 0)))
            break;
    }
    llm_jinja_expect_sign(p, '}');
    return listed(p, JINJA_NODE_DICT, at, items.first);
}

static void note_macro_use(struct jinja_parser *p, const struct jinja_string *name)
{
    if (llm_jinja_is_text(name, "caller"))
        p->macro_uses |= JINJA_USES_CALLER;
    else if (llm_jinja_is_text(name, "varargs"))
        p->macro_uses |= JINJA_USES_VARARGS;
    else if (llm_jinja_is_text(name, "kwargs"))
        p->macro_uses |= JINJA_USES_KWARGS;
}

static struct jinja_node *parse_name(struct jinja_parser *p, bool namespace_target)
{
    uint32_t at = p->token.at;
    const struct jinja_string *name = llm_jinja_expect_name(p, "a name");
    if (llm_jinja_is_text(name, "true") || llm_jinja_is_text(name, "True"))
        return constant(p, at, jinja_bool(true));
    if (llm_jinja_is_text(name, "false") || llm_jinja_is_text(name, "False"))
        return constant(p, at, jinja_bool(false));
    if (llm_jinja_is_text(name, "none") || llm_jinja_is_text(name, "None"))
        return constant(p, at, jinja_none());
    note_macro_use(p, name);
    struct jinja_node *node = named(p, JINJA_NODE_NAME, at, NULL, name);
    if (namespace_target && llm_jinja_skip_sign(p, JINJA_SIGN('.', 0)))
        node = named(p, JINJA_NODE_FIELD, at, node, llm_jinja_expect_name(p, "a field's name"));
    return node;
}

/* Neighbouring string literals are one. */
static struct jinja_node *parse_strings(struct jinja_parser *p)
{
    uint32_t at = p->token.at;
    struct jinja_value value = p->token.value;
    llm_jinja_advance(p);
    while (p->token.kind == JINJA_TOKEN_STRING && jinja_is_string(p->token.value)) {
        struct llm_buffer joined = {0};
        if (jinja_is_string(value))
            llm_jinja_append_string(p->run, &joined, value.string);
        llm_jinja_append_string(p->run, &joined, p->token.value.string);
        value = llm_jinja_finish(p->run, &joined);
        llm_jinja_advance(p);
    }
    return constant(p, at, value);
}

static struct jinja_node *parse_primary(struct jinja_parser *p, bool namespace_target)
{
    struct jinja_node *node;
    if (p->token.kind == JINJA_TOKEN_NAME)
        return parse_name(p, namespace_target);
    if (p->token.kind == JINJA_TOKEN_STRING)
        return parse_strings(p);
    if (p->token.kind == JINJA_TOKEN_NUMBER) {
        node = constant(p, p->token.at, p->token.value);
        llm_jinja_advance(p);
        return node;
    }
    if (llm_jinja_at_sign(p, JINJA_SIGN('[', 0)))
        return parse_list(p);
    if (llm_jinja_at_sign(p, JINJA_SIGN('{', 0)))
        return parse_dict(p);
    if (llm_jinja_skip_sign(p, JINJA_SIGN('(', 0))) {
        node = llm_jinja_parse_tuple(p, JINJA_MAY_BE_EMPTY);
        llm_jinja_expect_sign(p, ')');
        return node;
    }
    llm_jinja_unexpected(p, "an expression");
    return NULL;
}

/* ---- What may stand behind: attributes, items, calls, filters, tests -------------------------------------- */

static struct jinja_node *parse_arguments(struct jinja_parser *p)
{
    struct jinja_chain arguments = {0};
    llm_jinja_expect_sign(p, '(');
    while (!llm_jinja_at_sign(p, JINJA_SIGN(')', 0)) && !llm_jinja_failed(p->run)) {
        struct jinja_node *node = llm_jinja_node(p, JINJA_NODE_ARGUMENT, p->token.at);
        if (!node)
            break;
        if (llm_jinja_skip_sign(p, JINJA_SIGN('*', 0))) {
            node->op = JINJA_SPREAD_LIST;
        } else if (llm_jinja_skip_sign(p, JINJA_SIGN('*', '*'))) {
            node->op = JINJA_SPREAD_DICT;
        } else if (p->token.kind == JINJA_TOKEN_NAME && p->ahead.kind == JINJA_TOKEN_SIGN &&
                   p->ahead.sign == JINJA_SIGN('=', 0)) {
            node->op = JINJA_KEYWORD;
            node->name = llm_jinja_expect_name(p, "a name");
            llm_jinja_advance(p);
        }
        node->a = llm_jinja_parse_expression(p);
        llm_jinja_link(&arguments, node);
        if (!llm_jinja_skip_sign(p, JINJA_SIGN(',', 0)))
            break;
    }
    llm_jinja_expect_sign(p, ')');
    return arguments.first;
}

struct jinja_node *llm_jinja_parse_call(struct jinja_parser *p, struct jinja_node *callee)
{
    struct jinja_node *node = two(p, JINJA_NODE_CALL, p->token.at, callee, NULL);
    struct jinja_node *arguments = parse_arguments(p);
    if (node)
        node->list = arguments;
    return node;
}

static bool at_slice_end(const struct jinja_parser *p)
{
    return llm_jinja_at_sign(p, JINJA_SIGN(']', 0)) || llm_jinja_at_sign(p, JINJA_SIGN(',', 0)) ||
           llm_jinja_at_sign(p, JINJA_SIGN(':', 0)) || llm_jinja_failed(p->run);
}

/* One of the things between brackets: an expression or a slice. */
static struct jinja_node *parse_subscript(struct jinja_parser *p)
{
    uint32_t at = p->token.at;
    struct jinja_node *start = at_slice_end(p) ? NULL : llm_jinja_parse_expression(p);
    if (!llm_jinja_skip_sign(p, JINJA_SIGN(':', 0)))
        return start;
    struct jinja_node *slice = two(p, JINJA_NODE_SLICE, at, start, NULL);
    struct jinja_node *stop = at_slice_end(p) ? NULL : llm_jinja_parse_expression(p), *step = NULL;
    if (llm_jinja_skip_sign(p, JINJA_SIGN(':', 0)) && !at_slice_end(p))
        step = llm_jinja_parse_expression(p);
    if (slice) {
        slice->b = stop;
        slice->c = step;
    }
    return slice;
}

static struct jinja_node *parse_item(struct jinja_parser *p, struct jinja_node *object)
{
    uint32_t at = p->token.at;
    struct jinja_chain subscripts = {0};
    llm_jinja_advance(p);
    while (!llm_jinja_at_sign(p, JINJA_SIGN(']', 0)) && !llm_jinja_failed(p->run)) {
        struct jinja_node *subscript = parse_subscript(p);
        if (!subscript)
            llm_jinja_unexpected(p, "an expression");
        llm_jinja_link(&subscripts, subscript);
        if (!llm_jinja_skip_sign(p, JINJA_SIGN(',', 0)))
            break;
    }
    llm_jinja_expect_sign(p, ']');
    struct jinja_node *key = subscripts.first;
    if (!key || key->next) /* "a[]" and "a[1, 2]" ask for a tuple */
        key = listed(p, JINJA_NODE_TUPLE, at, key);
    return two(p, JINJA_NODE_ITEM, at, object, key);
}

static struct jinja_node *parse_attribute(struct jinja_parser *p, struct jinja_node *object)
{
    uint32_t at = p->token.at;
    llm_jinja_advance(p);
    if (p->token.kind == JINJA_TOKEN_NUMBER && p->token.value.kind == JINJA_INT) {
        struct jinja_node *key = constant(p, p->token.at, p->token.value);
        llm_jinja_advance(p);
        return two(p, JINJA_NODE_ITEM, at, object, key);
    }
    return named(p, JINJA_NODE_ATTRIBUTE, at, object, llm_jinja_expect_name(p, "an attribute"));
}

static struct jinja_node *parse_postfix(struct jinja_parser *p, struct jinja_node *node)
{
    while (!llm_jinja_failed(p->run)) {
        if (llm_jinja_at_sign(p, JINJA_SIGN('.', 0)))
            node = parse_attribute(p, node);
        else if (llm_jinja_at_sign(p, JINJA_SIGN('[', 0)))
            node = parse_item(p, node);
        else if (llm_jinja_at_sign(p, JINJA_SIGN('(', 0)))
            node = llm_jinja_parse_call(p, node);
        else
            break;
    }
    return node;
}

/* The name of a filter or test. The reference allows dots in it for extensions; nothing has any. */
static struct jinja_node *parse_filter(struct jinja_parser *p, struct jinja_node *input)
{
    uint32_t at = p->token.at;
    struct jinja_node *node =
        named(p, JINJA_NODE_FILTER, at, input, llm_jinja_expect_name(p, "a filter's name"));
    if (llm_jinja_at_sign(p, JINJA_SIGN('(', 0))) {
        struct jinja_node *arguments = parse_arguments(p);
        if (node)
            node->list = arguments;
    }
    return node;
}

struct jinja_node *llm_jinja_parse_filters(struct jinja_parser *p, struct jinja_node *node,
                                           bool start_inline)
{
    while ((start_inline || llm_jinja_skip_sign(p, JINJA_SIGN('|', 0))) &&
           !llm_jinja_failed(p->run)) {
        node = parse_filter(p, node);
        start_inline = false;
    }
    return node;
}

/* Whether a test's single argument may follow without parentheses. */
static bool at_bare_argument(const struct jinja_parser *p)
{
    if (p->token.kind == JINJA_TOKEN_NAME)
        return !llm_jinja_at_name(p, "else") && !llm_jinja_at_name(p, "or") &&
               !llm_jinja_at_name(p, "and");
    return p->token.kind == JINJA_TOKEN_STRING || p->token.kind == JINJA_TOKEN_NUMBER ||
           llm_jinja_at_sign(p, JINJA_SIGN('[', 0)) || llm_jinja_at_sign(p, JINJA_SIGN('{', 0));
}

static struct jinja_node *bare_argument(struct jinja_parser *p)
{
    if (llm_jinja_at_name(p, "is"))
        llm_jinja_unexpected(p, "a test's argument (tests cannot be chained)");
    struct jinja_node *argument = llm_jinja_node(p, JINJA_NODE_ARGUMENT, p->token.at);
    struct jinja_node *value = parse_postfix(p, parse_primary(p, false));
    if (argument)
        argument->a = value;
    return argument;
}

static struct jinja_node *parse_test(struct jinja_parser *p, struct jinja_node *subject)
{
    uint32_t at = p->token.at;
    llm_jinja_advance(p);
    bool negated = llm_jinja_skip_name(p, "not");
    struct jinja_node *node =
        named(p, JINJA_NODE_TEST, at, subject, llm_jinja_expect_name(p, "a test's name"));
    struct jinja_node *arguments = NULL;
    if (llm_jinja_at_sign(p, JINJA_SIGN('(', 0)))
        arguments = parse_arguments(p);
    else if (at_bare_argument(p))
        arguments = bare_argument(p);
    if (node)
        node->list = arguments;
    return negated ? two(p, JINJA_NODE_NOT, at, node, NULL) : node;
}

static struct jinja_node *parse_filters_and_tests(struct jinja_parser *p, struct jinja_node *node)
{
    while (!llm_jinja_failed(p->run)) {
        if (llm_jinja_at_sign(p, JINJA_SIGN('|', 0)))
            node = llm_jinja_parse_filters(p, node, false);
        else if (llm_jinja_at_name(p, "is"))
            node = parse_test(p, node);
        else if (llm_jinja_at_sign(p, JINJA_SIGN('(', 0)))
            node = llm_jinja_parse_call(p, node);
        else
            break;
    }
    return node;
}

/* ---- Operators, tightest first ---------------------------------------------------------------------------- */

static struct jinja_node *parse_unary(struct jinja_parser *p, bool with_filters)
{
    if (!llm_jinja_enter(p->run))
        return NULL;
    uint32_t at = p->token.at;
    struct jinja_node *node;
    if (llm_jinja_skip_sign(p, JINJA_SIGN('-', 0)))
        node = two(p, JINJA_NODE_NEGATE, at, parse_unary(p, false), NULL);
    else if (llm_jinja_skip_sign(p, JINJA_SIGN('+', 0)))
        node = two(p, JINJA_NODE_PLUS, at, parse_unary(p, false), NULL);
    else
        node = parse_primary(p, false);
    node = parse_postfix(p, node);
    if (with_filters)
        node = parse_filters_and_tests(p, node);
    p->run->depth--;
    return node;
}

struct operator_sign {
    uint16_t sign;
    uint8_t op;
};

/* The operator of `known` at the current token, stepped over; -1: none. */
static int skip_operator(struct jinja_parser *p, const struct operator_sign *known, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (llm_jinja_skip_sign(p, known[i].sign))
            return known[i].op;
    return -1;
}

static struct jinja_node *binary(struct jinja_parser *p, int op, uint32_t at, struct jinja_node *a,
                                 struct jinja_node *b)
{
    struct jinja_node *node = two(p, JINJA_NODE_BINARY, at, a, b);
    if (node)
        node->op = (uint8_t)op;
    return node;
}

static struct jinja_node *parse_power(struct jinja_parser *p)
{
    struct jinja_node *left = parse_unary(p, true);
    for (uint32_t at = p->token.at; llm_jinja_skip_sign(p, JINJA_SIGN('*', '*')); at = p->token.at)
        left = binary(p, JINJA_POWER, at, left, parse_unary(p, true));
    return left;
}

static struct jinja_node *parse_products(struct jinja_parser *p)
{
    static const struct operator_sign signs[] = {{JINJA_SIGN('*', 0), JINJA_MULTIPLY},
                                                 {JINJA_SIGN('/', 0), JINJA_DIVIDE},
                                                 {JINJA_SIGN('/', '/'), JINJA_FLOOR_DIVIDE},
                                                 {JINJA_SIGN('%', 0), JINJA_MODULO}};
    struct jinja_node *left = parse_power(p);
    for (;;) {
        uint32_t at = p->token.at;
        int op = skip_operator(p, signs, 4);
        if (op < 0)
            return left;
        left = binary(p, op, at, left, parse_power(p));
    }
}

static struct jinja_node *parse_concat(struct jinja_parser *p)
{
    uint32_t at = p->token.at;
    struct jinja_chain parts = {0};
    do
        llm_jinja_link(&parts, parse_products(p));
    while (llm_jinja_skip_sign(p, JINJA_SIGN('~', 0)));
    if (!parts.first || !parts.first->next)
        return parts.first;
    return listed(p, JINJA_NODE_CONCAT, at, parts.first);
}

static struct jinja_node *parse_sums(struct jinja_parser *p)
{
    static const struct operator_sign signs[] = {{JINJA_SIGN('+', 0), JINJA_ADD},
                                                 {JINJA_SIGN('-', 0), JINJA_SUBTRACT}};
    struct jinja_node *left = parse_concat(p);
    for (;;) {
        uint32_t at = p->token.at;
        int op = skip_operator(p, signs, 2);
        if (op < 0)
            return left;
        left = binary(p, op, at, left, parse_concat(p));
    }
}

static int skip_comparison(struct jinja_parser *p)
{
    static const struct operator_sign signs[] = {
        {JINJA_SIGN('=', '='), JINJA_EQUAL}, {JINJA_SIGN('!', '='), JINJA_UNEQUAL},
        {JINJA_SIGN('<', 0), JINJA_LESS},    {JINJA_SIGN('<', '='), JINJA_LESS_EQUAL},
        {JINJA_SIGN('>', 0), JINJA_GREATER}, {JINJA_SIGN('>', '='), JINJA_GREATER_EQUAL}};
    int op = skip_operator(p, signs, 6);
    if (op < 0 && llm_jinja_skip_name(p, "in"))
        return JINJA_IN;
    if (op < 0 && llm_jinja_at_name(p, "not") && is_name(&p->ahead, "in")) {
        llm_jinja_advance(p);
        llm_jinja_advance(p);
        return JINJA_NOT_IN;
    }
    return op;
}

static struct jinja_node *parse_compare(struct jinja_parser *p)
{
    uint32_t at = p->token.at;
    struct jinja_node *left = parse_sums(p);
    struct jinja_chain operands = {0};
    for (;;) {
        uint32_t operand_at = p->token.at;
        int op = skip_comparison(p);
        if (op < 0)
            break;
        struct jinja_node *operand = two(p, JINJA_NODE_OPERAND, operand_at, parse_sums(p), NULL);
        if (!operand)
            break;
        operand->op = (uint8_t)op;
        llm_jinja_link(&operands, operand);
    }
    if (!operands.first)
        return left;
    struct jinja_node *node = listed(p, JINJA_NODE_COMPARE, at, operands.first);
    if (node)
        node->a = left;
    return node;
}

static struct jinja_node *parse_not(struct jinja_parser *p)
{
    uint32_t at = p->token.at;
    if (!llm_jinja_skip_name(p, "not"))
        return parse_compare(p);
    if (!llm_jinja_enter(p->run))
        return NULL;
    struct jinja_node *node = two(p, JINJA_NODE_NOT, at, parse_not(p), NULL);
    p->run->depth--;
    return node;
}

static struct jinja_node *parse_and(struct jinja_parser *p)
{
    struct jinja_node *left = parse_not(p);
    for (uint32_t at = p->token.at; llm_jinja_skip_name(p, "and"); at = p->token.at)
        left = two(p, JINJA_NODE_AND, at, left, parse_not(p));
    return left;
}

static struct jinja_node *parse_or(struct jinja_parser *p)
{
    struct jinja_node *left = parse_and(p);
    for (uint32_t at = p->token.at; llm_jinja_skip_name(p, "or"); at = p->token.at)
        left = two(p, JINJA_NODE_OR, at, left, parse_and(p));
    return left;
}

struct jinja_node *llm_jinja_parse_expression(struct jinja_parser *p)
{
    if (!llm_jinja_enter(p->run))
        return NULL;
    struct jinja_node *node = parse_or(p);
    for (uint32_t at = p->token.at; llm_jinja_skip_name(p, "if"); at = p->token.at) {
        struct jinja_node *condition = parse_or(p), *other = NULL;
        if (llm_jinja_skip_name(p, "else"))
            other = llm_jinja_parse_expression(p);
        node = two(p, JINJA_NODE_IF_ELSE, at, condition, node);
        if (!node)
            break;
        node->c = other;
    }
    p->run->depth--;
    return node;
}

/* ---- Tuples ------------------------------------------------------------------------------------------- */

static bool at_tuple_end(const struct jinja_parser *p, unsigned rules)
{
    if (rules & JINJA_ENDS_AT_WORD &&
        (llm_jinja_at_name(p, "in") || llm_jinja_at_name(p, "recursive")))
        return true;
    return p->token.kind == JINJA_TOKEN_BLOCK_END || p->token.kind == JINJA_TOKEN_VARIABLE_END ||
           p->token.kind == JINJA_TOKEN_END || llm_jinja_at_sign(p, JINJA_SIGN(')', 0));
}

static struct jinja_node *parse_tuple_part(struct jinja_parser *p, unsigned rules)
{
    if (rules & JINJA_ONLY_TARGETS)
        return parse_primary(p, rules & JINJA_NAMESPACE_TARGETS);
    return rules & JINJA_WITHOUT_IF ? parse_or(p) : llm_jinja_parse_expression(p);
}

struct jinja_node *llm_jinja_parse_tuple(struct jinja_parser *p, unsigned rules)
{
    uint32_t at = p->token.at;
    struct jinja_chain parts = {0};
    bool tuple = false;
    if (!llm_jinja_enter(p->run))
        return NULL;
    while (!at_tuple_end(p, rules) && !llm_jinja_failed(p->run)) {
        llm_jinja_link(&parts, parse_tuple_part(p, rules));
        if (!llm_jinja_skip_sign(p, JINJA_SIGN(',', 0)))
            break;
        tuple = true;
    }
    p->run->depth--;
    if (!parts.first && !(rules & JINJA_MAY_BE_EMPTY)) {
        llm_jinja_unexpected(p, "an expression");
        return NULL;
    }
    if (parts.first && !tuple)
        return parts.first;
    return listed(p, JINJA_NODE_TUPLE, at, parts.first);
}
