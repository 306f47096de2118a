/* llmctl __man - the table of verbs as parts of a manual page, in scdoc(5); docs/man/make.sh puts them in. */
#include <stdio.h>
#include <string.h>

#include "tools/llmctl/llmctl.h"

static void print_escaped(const char *text)
{
    for (; *text; text++) {
        if (strchr("\\*_<>#`~|[]", *text))
            putchar('\\');
        putchar(*text);
    }
}

/* "[PROMPT]": what stands for something else is in capitals and is underlined. */
static void print_shape(const char *shape)
{
    while (*shape) {
        size_t capitals = strspn(shape, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        char one[2] = {*shape, 0};
        if (capitals > 0)
            printf("_%.*s_", (int)capitals, shape);
        else
            print_escaped(one);
        shape += capitals > 0 ? capitals : 1;
    }
}

static void print_option(const struct option *option, const char *indent)
{
    printf("%s*--%s*", indent, option->name);
    if (option->value)
        printf(" _%s_", option->value);
    printf("\n%s\t", indent);
    print_escaped(option->sentence);
    fputs("\n\n", stdout);
}

static void print_verb(const struct llmctl_verb *verb)
{
    printf("*%s%s%s*", verb->noun, verb->verb ? " " : "", verb->verb ? verb->verb : "");
    if (verb->shape[0]) {
        putchar(' ');
        print_shape(verb->shape);
    }
    fputs("\n\t", stdout);
    print_escaped(verb->sentence);
    if (verb->timeout_ns > 0)
        printf("; waits at most %u s unless told otherwise",
               (unsigned)(verb->timeout_ns / 1000000000));
    fputs("\n\n", stdout);
    for (const struct option *option = verb->options; option && option->name; option++)
        print_option(option, "\t");
}

bool llmctl_print_man(const char *part)
{
    if (strcmp(part, "verbs") == 0)
        for (const struct llmctl_verb *verb = llmctl_verbs; verb->noun; verb++)
            print_verb(verb);
    else if (strcmp(part, "options") == 0)
        for (const struct option *option = arguments_common; option->name; option++)
            print_option(option, "");
    else
        return false;
    return true;
}
