/* llmd-sim - a request trace on a machine that is not there, with daemon/core as it is. */
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/sim/figures.h"

#define POOLS_MAX 16u

struct settings {
    const char *trace, *device, *shape, *pools;
    double requests, users, answers, hurry, scan, scan_tokens, flood;
    double block_tokens, step_tokens, running, user_running, slots, user_slots, clients, lag;
    double die, die_s, slow, slow_s, deaths_s, restart_s, seed;
    bool private_kept, each_user, walk, help;
};

enum kind {
    FLAG,
    TEXT,
    COUNT,
    REAL
};

struct row {
    const char *name, *value;
    enum kind kind;
    size_t offset;
    double least, most;
    const char *sentence;
};

#define FIELD(name) offsetof(struct settings, name)

static const struct row rows[] = {
    {"trace", "FILE", TEXT, FIELD(trace), 0, 0, "who asks what, and when: .jsonl or .csv"},
    {"requests", "N", COUNT, FIELD(requests), 1, TRACE_REQUESTS_MAX, "only its first N requests"},
    {"pools", "N,...", TEXT, FIELD(pools), 0, 0,
     "simulate with pools of so many blocks in turns; 0: more than are ever used"},
    {"block-tokens", "N", COUNT, FIELD(block_tokens), 1, CORE_BLOCK_TOKENS_MAX,
     "rows of a block; default: 512, with prompt_ids 16"},
    {"device", "NAME", TEXT, FIELD(device), 0, 0, "h200 or cpu"},
    {"shape", "NAME", TEXT, FIELD(shape), 0, 0, "the model: 8b, 1b or 260k"},
    {"step-tokens", "N", COUNT, FIELD(step_tokens), 1, 1 << 20, "rows in one step"},
    {"running", "N", COUNT, FIELD(running), 1, 1 << 16, "requests in one step"},
    {"user-running", "N", COUNT, FIELD(user_running), 1, 1 << 16,
     "of those by one user; default: eight in nine"},
    {"lag", "N", COUNT, FIELD(lag), 0, CORE_LAG_MAX,
     "a step is planned when so many before it are not done; default: 0"},
    {"slots", "N", COUNT, FIELD(slots), 1, 1 << 16, "requests that the engine knows at once"},
    {"user-slots", "N", COUNT, FIELD(user_slots), 1, 1 << 16,
     "waiting ones by one user; default: seven in eight"},
    {"clients", "N", COUNT, FIELD(clients), 1, 1 << 20,
     "so many requests at a time in the trace's order, instead of by its clock"},
    {"hurry", "X", REAL, FIELD(hurry), 1e-6, 1e6, "arrivals X times as fast"},
    {"answers", "N", COUNT, FIELD(answers), 1, TRACE_TOKENS_MAX, "no answer has more tokens"},
    {"users", "N", COUNT, FIELD(users), 1, TRACE_USERS_MAX, "who share the trace's sessions"},
    {"private", NULL, FLAG, FIELD(private_kept), 0, 0, "a user finds only what that user cached"},
    {"scan", "P", REAL, FIELD(scan), 0, 1, "behind this part of the requests a one-shot prompt"},
    {"scan-tokens", "N", COUNT, FIELD(scan_tokens), 1, TRACE_TOKENS_MAX / 2,
     "its length on average"},
    {"flood", "X", REAL, FIELD(flood), 0, 1e4,
     "one user more, who sends X times as many requests as the others on average"},
    {"die", "P", REAL, FIELD(die), 0, 1, "this part of the clients die"},
    {"die-s", "S", REAL, FIELD(die_s), 0, 1e6, "within S seconds from when they asked"},
    {"slow", "P", REAL, FIELD(slow), 0, 1, "this part of the clients read late"},
    {"slow-s", "S", REAL, FIELD(slow_s), 0, 1e6, "up to S seconds"},
    {"deaths-s", "S", REAL, FIELD(deaths_s), 1, 1e9, "an engine dies every S seconds"},
    {"restart-s", "S", REAL, FIELD(restart_s), 0, 1e6, "until the next one plans"},
    {"seed", "N", COUNT, FIELD(seed), 0, 4294967295.0, "of everything that is drawn"},
    {"each-user", NULL, FLAG, FIELD(each_user), 0, 0, "a row for each user"},
    {"walk", NULL, FLAG, FIELD(walk), 0, 0, "check the core after every call: slow"},
    {"help", NULL, FLAG, FIELD(help), 0, 0, "this text"},
};

static const struct settings initial = {.device = "h200",
                                        .shape = "8b",
                                        .pools = "0",
                                        .requests = TRACE_REQUESTS_MAX,
                                        .users = 1,
                                        .hurry = 1,
                                        .scan_tokens = 30000,
                                        .step_tokens = 8192,
                                        .running = 256,
                                        .slots = 1024,
                                        .die_s = 10,
                                        .slow_s = 10,
                                        .restart_s = 2,
                                        .seed = 1};

/* ---- Arguments -------------------------------------------------------------------------------------- */

static enum llm_status set(struct settings *settings, const struct row *row, const char *value,
                           struct llm_error *error)
{
    void *field = (char *)settings + row->offset;
    if (row->kind == FLAG) {
        *(bool *)field = true;
        return LLM_OK;
    }
    if (row->kind == TEXT) {
        *(const char **)field = value;
        return LLM_OK;
    }
    char *end = NULL;
    double number = strtod(value, &end);
    if (end == value || *end != '\0' || !(number >= row->least && number <= row->most) ||
        (row->kind == COUNT && number != floor(number)))
        return llm_fail(error, LLM_ERR_INVALID, "--%s %.60s: a %s of %g..%.10g is wanted",
                        row->name, value, row->kind == COUNT ? "whole number" : "number",
                        row->least, row->most);
    *(double *)field = number;
    return LLM_OK;
}

static enum llm_status parse(struct settings *settings, int argc, const char *const *argv,
                             struct llm_error *error)
{
    for (int i = 0; i < argc; i++) {
        const struct row *row = rows;
        const struct row *end = rows + sizeof rows / sizeof rows[0];
        while (row < end && (strncmp(argv[i], "--", 2) != 0 || strcmp(row->name, argv[i] + 2) != 0))
            row++;
        if (row == end)
            return llm_fail(error, LLM_ERR_INVALID, "unknown option %.60s", argv[i]);
        if (row->kind != FLAG && ++i == argc)
            return llm_fail(error, LLM_ERR_INVALID, "--%s needs a value: %s", row->name,
                            row->value);
        enum llm_status status = set(settings, row, argv[i], error);
        if (status != LLM_OK)
            return status;
    }
    if (!settings->trace && !settings->help)
        return llm_fail(error, LLM_ERR_INVALID, "--trace FILE is wanted");
    return LLM_OK;
}

static void print_help(void)
{
    puts("llmd-sim --trace FILE [OPTIONS] - the figures of a simulated machine as CSV\n");
    for (const struct row *row = rows; row < rows + sizeof rows / sizeof rows[0]; row++)
        printf("  --%-14s %-6s %s\n", row->name, row->value ? row->value : "", row->sentence);
}

static enum llm_status parse_pools(const char *text, uint64_t out_pools[POOLS_MAX],
                                   uint32_t *out_count, struct llm_error *error)
{
    uint32_t count = 0;
    for (const char *at = text;; at++) {
        char *end = NULL;
        errno = 0;
        unsigned long long blocks = strtoull(at, &end, 10);
        if (end == at || *at == '-' || errno != 0 || blocks > UINT32_MAX || count == POOLS_MAX)
            return llm_fail(error, LLM_ERR_INVALID,
                            "--pools %.60s: up to %u numbers of blocks are wanted", text,
                            POOLS_MAX);
        out_pools[count++] = blocks;
        at = end;
        if (*at == '\0')
            break;
        if (*at != ',')
            return llm_fail(error, LLM_ERR_INVALID, "--pools %.60s: a comma is wanted", text);
    }
    *out_count = count;
    return LLM_OK;
}

/* ---- From settings to a world ------------------------------------------------------------------------ */

static uint64_t seconds_ns(double seconds)
{
    return (uint64_t)(seconds * 1e9);
}

static enum llm_status make_trace(struct trace *trace, const struct settings *s,
                                  struct llm_error *error)
{
    enum llm_status status = trace_open(trace, s->trace, (uint32_t)s->requests, error);
    if (status != LLM_OK)
        return status;
    trace_hurry(trace, s->hurry);
    if (s->answers > 0)
        trace_shorten(trace, (uint32_t)s->answers);
    uint64_t seed = (uint64_t)s->seed;
    if (s->scan > 0)
        status = trace_scan(trace, s->scan, (uint32_t)s->scan_tokens, seed, error);
    if (status == LLM_OK)
        status = trace_users(trace, (uint32_t)s->users, error);
    if (status == LLM_OK && s->flood > 0)
        status = trace_flood(trace, s->flood, seed, error);
    if (status != LLM_OK)
        trace_close(trace);
    return status;
}

static double or_else(double value, double otherwise)
{
    return value > 0 ? value : otherwise;
}

static enum llm_status make_options(struct world_options *o, const struct settings *s,
                                    const struct trace *trace, struct llm_error *error)
{
    bool many = trace->user_count > 1;
    *o = (struct world_options){
        .device = device_named(s->device),
        .shape = shape_named(s->shape),
        .block_tokens = (uint32_t)or_else(s->block_tokens, trace->part_tokens == 1 ? 16 : 512),
        .step_tokens = (uint32_t)s->step_tokens,
        .running_max = (uint32_t)s->running,
        .user_running_max =
            (uint32_t)or_else(s->user_running, many ? ceil(s->running * 8 / 9) : s->running),
        .slots = (uint32_t)s->slots,
        .user_slots = (uint32_t)or_else(s->user_slots, many ? ceil(s->slots * 7 / 8) : s->slots),
        .clients = (uint32_t)s->clients,
        .lag = (uint32_t)s->lag,
        .private_kept = s->private_kept,
        .slow_share = s->slow,
        .slow_ns = seconds_ns(s->slow_s),
        .die_share = s->die,
        .die_ns = seconds_ns(s->die_s),
        .death_ns = seconds_ns(s->deaths_s),
        .restart_ns = seconds_ns(s->restart_s),
        .seed = (uint64_t)s->seed,
        .walk = s->walk};
    if (!o->device)
        return llm_fail(error, LLM_ERR_INVALID, "--device %.60s: h200 or cpu is wanted", s->device);
    if (!o->shape)
        return llm_fail(error, LLM_ERR_INVALID, "--shape %.60s: 8b, 1b or 260k is wanted",
                        s->shape);
    return LLM_OK;
}

static enum llm_status print_group(const char *who, enum figures_of of, uint32_t user,
                                   const struct trace *trace, const struct world_options *options,
                                   const struct world_result *result, struct llm_error *error)
{
    struct figures figures;
    enum llm_status status = figures_compute(trace, options, result, of, user, &figures, error);
    if (status == LLM_OK && figures.requests > 0)
        figures_row(stdout, who, result, &figures, NULL, NULL, (double)NAN);
    return status;
}

static enum llm_status print_all(const struct trace *trace, const struct world_options *options,
                                 const struct world_result *result, const struct ideal *ideal,
                                 struct llm_error *error)
{
    struct figures figures;
    struct ideal lru = *ideal;
    double jain = (double)NAN;
    enum llm_status status =
        figures_compute(trace, options, result, FIGURES_OF_ALL, 0, &figures, error);
    if (status == LLM_OK && options->blocks > 0)
        status = ideal_compute(trace, options->block_tokens, options->blocks, &lru, error);
    if (status == LLM_OK)
        status = figures_fairness(trace, options, result, &jain, error);
    if (status == LLM_OK)
        figures_row(stdout, "all", result, &figures, ideal, &lru, jain);
    return status;
}

static enum llm_status print_world(const struct settings *settings, const struct trace *trace,
                                   const struct world_options *options,
                                   const struct world_result *result, const struct ideal *ideal,
                                   struct llm_error *error)
{
    enum llm_status status = print_all(trace, options, result, ideal, error);
    bool parts = settings->scan > 0 || settings->flood > 0;
    if (status == LLM_OK && parts)
        status = print_group("own", FIGURES_OF_OWN, 0, trace, options, result, error);
    if (status == LLM_OK && settings->scan > 0)
        status = print_group("scan", FIGURES_OF_SCAN, 0, trace, options, result, error);
    if (status == LLM_OK && settings->flood > 0)
        status = print_group("flood", FIGURES_OF_FLOOD, 0, trace, options, result, error);
    for (uint32_t user = 0; settings->each_user && user < trace->user_count && status == LLM_OK;
         user++) {
        char name[24];
        snprintf(name, sizeof name, "user %u", user);
        status = print_group(name, FIGURES_OF_USER, user, trace, options, result, error);
    }
    return status;
}

static enum llm_status simulate(const struct settings *settings, const struct trace *trace,
                                struct llm_error *error)
{
    struct world_options options;
    struct ideal ideal;
    uint64_t pools[POOLS_MAX];
    uint32_t pool_count = 0;
    enum llm_status status = parse_pools(settings->pools, pools, &pool_count, error);
    if (status == LLM_OK)
        status = make_options(&options, settings, trace, error);
    if (status == LLM_OK)
        status = ideal_compute(trace, options.block_tokens, 0, &ideal, error);
    if (status == LLM_OK)
        figures_head(stdout);
    for (uint32_t i = 0; i < pool_count && status == LLM_OK; i++) {
        struct world_result result;
        options.blocks = pools[i];
        status = world_run(trace, &options, &result, error);
        if (status != LLM_OK)
            break;
        status = print_world(settings, trace, &options, &result, &ideal, error);
        world_result_close(&result);
        fflush(stdout);
    }
    return status;
}

int main(int argc, char **writable_argv)
{
    const char *const *argv = (const char *const *)writable_argv;
    struct settings settings = initial;
    struct llm_error error = {.message = ""};
    enum llm_status status = parse(&settings, argc - 1, argv + 1, &error);
    if (status == LLM_OK && settings.help) {
        print_help();
        return 0;
    }
    struct trace trace;
    if (status == LLM_OK)
        status = make_trace(&trace, &settings, &error);
    if (status == LLM_OK) {
        status = simulate(&settings, &trace, &error);
        trace_close(&trace);
    }
    if (status != LLM_OK)
        fprintf(stderr, "llmd-sim: %s\n", error.message);
    else if (fflush(stdout) != 0 || ferror(stdout))
        perror("llmd-sim: cannot write the output");
    return status == LLM_OK ? 0 : status == LLM_ERR_INVALID ? 2 : 1;
}
