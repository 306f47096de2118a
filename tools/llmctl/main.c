/* llmctl - shows and steers llmd. Finds the verb in the table, reads its options, runs it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/llmctl/complete.h"
#include "tools/llmctl/llmctl.h"

#define COMPLETION_S 2

static void print_options(const struct option *options)
{
    for (; options && options->name; options++) {
        char left[40];
        snprintf(left, sizeof left, "--%s %s", options->name, options->value ? options->value : "");
        printf("  %-22s %s\n", left, options->sentence);
    }
}

static void print_name(const struct llmctl_verb *verb, char *out, size_t capacity)
{
    snprintf(out, capacity, "%s%s%s%s%s", verb->noun, verb->verb ? " " : "",
             verb->verb ? verb->verb : "", verb->shape[0] ? " " : "", verb->shape);
}

static void print_all_help(void)
{
    puts("llmctl - shows and steers llmd, the inference daemon of this machine\n");
    for (const struct llmctl_verb *verb = llmctl_verbs; verb->noun; verb++) {
        char name[64];
        print_name(verb, name, sizeof name);
        printf("  llmctl %-26s %s\n", name, verb->sentence);
    }
    puts("\nEvery verb takes:");
    print_options(arguments_common);
    puts("\n`llmctl VERB --help` lists a verb's own options. Exit codes: 0 done, 1 failed, 2 "
         "usage,\n"
         "3 no daemon, 4 refused, 5 timed out.");
}

static void print_verb_help(const struct llmctl_verb *verb)
{
    char name[64];
    print_name(verb, name, sizeof name);
    printf("llmctl %s [OPTIONS]: %s\n\n", name, verb->sentence);
    print_options(verb->options);
    print_options(arguments_common);
}

static enum llmctl_exit usage(const char *sentence, const char *word)
{
    fprintf(stderr, "llmctl: %s%s; `llmctl help` lists the verbs\n", sentence, word);
    return LLMCTL_USAGE;
}

/* The row for argv[0] (and argv[1]); *out_words is how many of them it took. NULL: none. */
static const struct llmctl_verb *find_verb(int argc, const char *const *argv, int *out_words)
{
    for (const struct llmctl_verb *verb = llmctl_verbs; verb->noun; verb++) {
        if (strcmp(verb->noun, argv[0]) != 0)
            continue;
        *out_words = verb->verb ? 2 : 1;
        if (!verb->verb || (argc > 1 && strcmp(verb->verb, argv[1]) == 0))
            return verb;
    }
    return NULL;
}

static enum llmctl_exit run_verb(const struct llmctl_verb *verb, int argc, const char *const *argv)
{
    struct arguments arguments = {.timeout_ns = verb->timeout_ns, .max_tokens = 256};
    struct llm_error error;
    enum llmctl_exit result;
    if (arguments_parse(&arguments, argc, argv, verb->options, &error) != LLM_OK) {
        fprintf(stderr, "llmctl: %s; see `llmctl %s --help`\n", error.message, verb->noun);
        result = LLMCTL_USAGE;
    } else if (arguments.help) {
        print_verb_help(verb);
        result = LLMCTL_DONE;
    } else if (arguments.positional_count < verb->positional_min) {
        fprintf(stderr, "llmctl: %s needs %s\n", verb->noun, verb->shape);
        result = LLMCTL_USAGE;
    } else if (arguments.positional_count > verb->positional_max) {
        fprintf(stderr, "llmctl: %s does not take \"%s\"\n", verb->noun,
                arguments.positional[verb->positional_max]);
        result = LLMCTL_USAGE;
    } else {
        result = verb->run(&arguments);
    }
    arguments_close(&arguments);
    return result;
}

/* What build and shells ask, people do not: `llmctl __man PART`, `llmctl __complete -- PROGRAM WORDS...`. */
static bool answer_machine(int argc, const char *const *argv, enum llmctl_exit *out_result)
{
    if (argc == 3 && strcmp(argv[1], "__man") == 0) {
        *out_result = llmctl_print_man(argv[2]) ? LLMCTL_DONE : LLMCTL_USAGE;
        return true;
    }
    if (argc > 2 && strcmp(argv[1], "__complete") == 0 && strcmp(argv[2], "--") == 0) {
        alarm(COMPLETION_S); /* whoever pressed a key does not wait for us */
        complete_print(argc - 3, argv + 3, stdout);
        *out_result = LLMCTL_DONE;
        return true;
    }
    return false;
}

static enum llmctl_exit act(int argc, char **writable_argv)
{
    const char *const *argv = (const char *const *)writable_argv;
    enum llmctl_exit machine;
    if (argc < 2)
        return usage("what shall be done?", "");
    if (answer_machine(argc, argv, &machine))
        return machine;
    if (strcmp(argv[1], "--version") == 0) {
        puts("llmctl " LLMD_VERSION);
        return LLMCTL_DONE;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        print_all_help();
        return LLMCTL_DONE;
    }
    int words = 0, leading = arguments_leading(argc - 1, argv + 1);
    if (leading == argc - 1)
        return usage("what shall be done?", "");
    const char *const *named = argv + 1 + leading;
    const struct llmctl_verb *verb = find_verb(argc - 1 - leading, named, &words);
    if (!verb && words == 2)
        return usage("unknown verb after ", named[0]);
    if (!verb)
        return usage("unknown verb ", named[0]);
    /* Options before the verb are read like those behind it. */
    memmove(writable_argv + 1 + words, writable_argv + 1, (size_t)leading * sizeof *writable_argv);
    enum llmctl_exit result = run_verb(verb, argc - 1 - words, argv + 1 + words);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("llmctl: cannot write the output");
        return LLMCTL_FAILED;
    }
    return result;
}

int main(int argc, char **argv)
{
    return (int)act(argc, argv);
}
