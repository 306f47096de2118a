/* llm-bench - how fast llmd is on this machine, beside what the machine can do. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "tools/bench/bench.h"

/* ---- Interrupts ------------------------------------------------------------------------------------ */

static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

bool bench_interrupted(void)
{
    return interrupted != 0;
}

/* The second Ctrl-C ends us at once: the kernel then tells the private daemon. */
static void take_signals(void)
{
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

void bench_child_begins(void)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* ---- Help ------------------------------------------------------------------------------------------ */

static void print_options(const struct option_row *rows)
{
    for (; rows && rows->name; rows++) {
        char left[48];
        snprintf(left, sizeof left, "--%s %s", rows->name, rows->value ? rows->value : "");
        printf("  %-22s %s\n", left, rows->sentence);
    }
}

static void print_help(void)
{
    puts("llm-bench - how fast llmd is on this machine, beside what the machine can do\n");
    for (const struct bench_verb *verb = bench_verbs; verb->name; verb++)
        printf("  llm-bench %-12s %s\n", verb->name, verb->sentence);
    puts("\nEvery verb takes:");
    print_options(options_common);
    puts("\n`llm-bench VERB --help` lists a verb's own options. Exit codes: 0 done, 1 failed, 2 "
         "usage,\n3 no daemon, 130 interrupted.");
}

static void print_verb_help(const struct bench_verb *verb)
{
    printf("llm-bench %s [OPTIONS]: %s\n\n", verb->name, verb->sentence);
    print_options(verb->options);
    puts("\nEvery verb takes:");
    print_options(options_common);
}

/* ---- Running --------------------------------------------------------------------------------------- */

static enum bench_exit exit_code(enum llm_status status)
{
    if (bench_interrupted())
        return BENCH_INTERRUPTED;
    if (status == LLM_OK)
        return BENCH_DONE;
    if (status == LLM_ERR_INVALID)
        return BENCH_USAGE;
    return status == LLM_ERR_PEER ? BENCH_NO_DAEMON : BENCH_FAILED;
}

static enum bench_exit run(const struct bench_verb *verb, int argc, const char *const *argv)
{
    struct bench_options options = verb->initial;
    struct llm_error error;
    if (options_parse(&options, argc, argv, verb->options, &error) != LLM_OK) {
        fprintf(stderr, "llm-bench: %s; see `llm-bench %s --help`\n", error.message, verb->name);
        return BENCH_USAGE;
    }
    if (options.help) {
        print_verb_help(verb);
        return BENCH_DONE;
    }
    take_signals();
    enum llm_status status = verb->run(&options, &error);
    if (bench_interrupted())
        fputs("llm-bench: interrupted\n", stderr);
    else if (status != LLM_OK)
        fprintf(stderr, "llm-bench: %s\n", error.message);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("llm-bench: cannot write the output");
        return BENCH_FAILED;
    }
    return exit_code(status);
}

int main(int argc, char **writable_argv)
{
    const char *const *argv = (const char *const *)writable_argv;
    if (argc < 2) {
        fputs("llm-bench: what shall be measured? `llm-bench help` lists the verbs\n", stderr);
        return BENCH_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        print_help();
        return BENCH_DONE;
    }
    for (const struct bench_verb *verb = bench_verbs; verb->name; verb++)
        if (strcmp(verb->name, argv[1]) == 0)
            return (int)run(verb, argc - 2, argv + 2);
    fprintf(stderr, "llm-bench: unknown verb \"%.60s\"; `llm-bench help` lists the verbs\n",
            argv[1]);
    return BENCH_USAGE;
}
