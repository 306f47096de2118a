#include "tools/llmctl/arguments.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const struct option arguments_common[] = {
    {"socket", "PATH", OPTION_TEXT, offsetof(struct arguments, socket), "the daemon's socket"},
    {"instance", "NAME", OPTION_TEXT, offsetof(struct arguments, instance),
     "the daemon's status file by its name, without the socket"},
    {"timeout", "SECONDS", OPTION_SECONDS, offsetof(struct arguments, timeout_ns),
     "longest wait for the daemon"},
    {"json", NULL, OPTION_FLAG, offsetof(struct arguments, json), "print JSON"},
    {"help", NULL, OPTION_FLAG, offsetof(struct arguments, help), "print this"},
    {0},
};

static enum llm_status parse_integer(const char *name, const char *text, uint64_t max,
                                     uint64_t *out_value, struct llm_error *error)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    bool digits = text[0] >= '0' && text[0] <= '9'; /* strtoull() would take " -1" */
    if (!digits || *end || errno || value > max)
        return llm_fail(error, LLM_ERR_INVALID, "--%s takes a whole number up to %llu, not \"%s\"",
                        name, (unsigned long long)max, text);
    *out_value = value;
    return LLM_OK;
}

/* Any number, NaN and negative ones included: the daemon's own sentence says what is wrong with it. */
static enum llm_status parse_real(const char *name, const char *text, float *out_value,
                                  struct llm_error *error)
{
    char *end;
    float value = strtof(text, &end);
    if (end == text || *end)
        return llm_fail(error, LLM_ERR_INVALID, "--%s takes a number, not \"%s\"", name, text);
    *out_value = value;
    return LLM_OK;
}

static enum llm_status parse_seconds(const char *name, const char *text, uint64_t *out_ns,
                                     struct llm_error *error)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0 && seconds <= 1e9))
        return llm_fail(error, LLM_ERR_INVALID, "--%s takes seconds, 0 to 1e9, not \"%s\"", name,
                        text);
    *out_ns = (uint64_t)(seconds * 1e9);
    return LLM_OK;
}

static enum llm_status parse_ids(const char *name, const char *text, uint32_t **out_ids,
                                 uint32_t *out_count, struct llm_error *error)
{
    uint32_t count = 1;
    for (const char *c = text; *c; c++)
        count += *c == ',';
    uint32_t *ids = malloc(count * sizeof *ids);
    if (!ids)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the %u ids of --%s", count, name);
    const char *at = text;
    for (uint32_t i = 0; i < count; i++) {
        char *end;
        unsigned long long value = strtoull(at, &end, 10);
        bool ends_well = *end == (i + 1 < count ? ',' : 0);
        if (*at < '0' || *at > '9' || !ends_well || value > UINT32_MAX) {
            free(ids);
            return llm_fail(error, LLM_ERR_INVALID, "--%s takes ids like 1,2,3, not \"%s\"", name,
                            text);
        }
        ids[i] = (uint32_t)value;
        at = end + 1;
    }
    free(*out_ids);
    *out_ids = ids;
    *out_count = count;
    return LLM_OK;
}

static enum llm_status parse_biases(const char *name, const char *text, struct arguments *arguments,
                                    struct llm_error *error)
{
    uint32_t count = 1;
    for (const char *c = text; *c; c++)
        count += *c == ',';
    llm_logit_bias *biases = malloc(count * sizeof *biases);
    if (!biases)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the %u biases of --%s", count, name);
    const char *at = text;
    for (uint32_t i = 0; i < count; i++) {
        char *colon, *end = NULL;
        unsigned long long id = strtoull(at, &colon, 10);
        bool good = *at >= '0' && *at <= '9' && *colon == ':' && id <= UINT32_MAX;
        float bias = good ? strtof(colon + 1, &end) : 0;
        if (!good || end == colon + 1 || *end != (i + 1 < count ? ',' : 0)) {
            free(biases);
            return llm_fail(error, LLM_ERR_INVALID,
                            "--%s takes ids and biases like 13:-5,29:2.5, not \"%s\"", name, text);
        }
        biases[i] = (llm_logit_bias){(uint32_t)id, bias};
        at = end + 1;
    }
    free(arguments->biases);
    arguments->biases = biases;
    arguments->bias_count = count;
    return LLM_OK;
}

enum llm_status arguments_mode(const char *what, const char *text, uint32_t *out_mode,
                               struct llm_error *error)
{
    char *end;
    unsigned long value = strtoul(text, &end, 8);
    if (text[0] < '0' || text[0] > '7' || *end || (value & ~0666ul) || value == 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s takes bits for reading and writing, like 0640, not \"%s\"", what, text);
    *out_mode = (uint32_t)value;
    return LLM_OK;
}

enum llm_status arguments_duration(const char *text, uint64_t *out_ns, struct llm_error *error)
{
    static const struct {
        const char *unit;
        double seconds;
    } units[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
    char *end;
    double value = strtod(text, &end);
    bool digits = text[0] >= '0' && text[0] <= '9';
    for (size_t i = 0; digits && i < sizeof units / sizeof units[0]; i++)
        if (strcmp(end, units[i].unit) == 0 && value * units[i].seconds <= 1e9) {
            *out_ns = (uint64_t)(value * units[i].seconds * 1e9);
            return LLM_OK;
        }
    return llm_fail(error, LLM_ERR_INVALID, "a time is like 90s, 10m, 2h or 1d, not \"%s\"", text);
}

static enum llm_status add_stop_string(struct arguments *arguments, const char *text,
                                       struct llm_error *error)
{
    if (arguments->stop_string_count == ARGUMENTS_TEXTS_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "--stop can be given at most %d times",
                        ARGUMENTS_TEXTS_MAX);
    arguments->stop_strings[arguments->stop_string_count++] = text;
    return LLM_OK;
}

/* The value that the model would else decide (enum llm_model_default); 0: none. */
static uint32_t decided_by(size_t offset)
{
    static const struct {
        size_t offset;
        uint32_t bit;
    } fields[] = {
        {offsetof(struct arguments, temperature), LLM_DEFAULT_TEMPERATURE},
        {offsetof(struct arguments, top_k), LLM_DEFAULT_TOP_K},
        {offsetof(struct arguments, top_p), LLM_DEFAULT_TOP_P},
        {offsetof(struct arguments, min_p), LLM_DEFAULT_MIN_P},
        {offsetof(struct arguments, typical_p), LLM_DEFAULT_TYPICAL_P},
        {offsetof(struct arguments, repetition_penalty), LLM_DEFAULT_REPETITION_PENALTY},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (fields[i].offset == offset)
            return fields[i].bit;
    return 0;
}

static enum llm_status take_value(struct arguments *arguments, const struct option *option,
                                  const char *text, struct llm_error *error)
{
    void *field = (char *)arguments + option->offset;
    uint64_t whole = 0;
    enum llm_status status = LLM_OK;
    arguments->decided |= decided_by(option->offset);
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)field = true;
        break;
    case OPTION_TEXT:
        *(const char **)field = text;
        break;
    case OPTION_COUNT:
        status = parse_integer(option->name, text, UINT32_MAX, &whole, error);
        if (status == LLM_OK)
            *(uint32_t *)field = (uint32_t)whole;
        break;
    case OPTION_REAL:
        status = parse_real(option->name, text, field, error);
        break;
    case OPTION_SECONDS:
        status = parse_seconds(option->name, text, field, error);
        break;
    case OPTION_SEED:
        status = parse_integer(option->name, text, UINT64_MAX, &arguments->seed, error);
        arguments->has_seed = status == LLM_OK;
        break;
    case OPTION_STOP:
        status = add_stop_string(arguments, text, error);
        break;
    case OPTION_MODE:
        status = arguments_mode("--mode", text, field, error);
        break;
    case OPTION_BIASES:
        status = parse_biases(option->name, text, arguments, error);
        break;
    case OPTION_IDS:
        status = parse_ids(option->name, text, field, (uint32_t *)((uint32_t **)field + 1), error);
        break;
    }
    return status;
}

static const struct option *find_option(const struct option *table, const char *name, size_t bytes)
{
    for (; table && table->name; table++)
        if (strlen(table->name) == bytes && memcmp(table->name, name, bytes) == 0)
            return table;
    return NULL;
}

/* argv[*at] is an option; its value may be the next argument, which is then taken too. */
static enum llm_status parse_option(struct arguments *arguments, int argc, const char *const *argv,
                                    int *at, const struct option *options, struct llm_error *error)
{
    const char *name = argv[*at] + 2;
    const char *equals = strchr(name, '=');
    size_t bytes = equals ? (size_t)(equals - name) : strlen(name);
    const struct option *option = find_option(options, name, bytes);
    if (!option)
        option = find_option(arguments_common, name, bytes);
    if (!option)
        return llm_fail(error, LLM_ERR_INVALID, "unknown option %.100s", argv[*at]);
    const char *value = equals ? equals + 1 : NULL;
    if (option->kind == OPTION_FLAG && value)
        return llm_fail(error, LLM_ERR_INVALID, "--%s takes no value, but \"%s\" was given",
                        option->name, value);
    if (option->kind != OPTION_FLAG && !value) {
        if (*at + 1 == argc)
            return llm_fail(error, LLM_ERR_INVALID, "--%s needs a value: --%s %s", option->name,
                            option->name, option->value);
        value = argv[++*at];
    }
    return take_value(arguments, option, value, error);
}

enum llm_status arguments_parse(struct arguments *out_arguments, int argc, const char *const *argv,
                                const struct option *options, struct llm_error *error)
{
    bool options_over = false;
    enum llm_status status = LLM_OK;
    for (int at = 0; at < argc && status == LLM_OK; at++) {
        const char *word = argv[at];
        if (!options_over && strcmp(word, "--") == 0)
            options_over = true;
        else if (!options_over && strcmp(word, "-h") == 0)
            out_arguments->help = true;
        else if (!options_over && word[0] == '-' && word[1] == '-')
            status = parse_option(out_arguments, argc, argv, &at, options, error);
        else if (!options_over && word[0] == '-' && word[1])
            status = llm_fail(error, LLM_ERR_INVALID, "unknown option %.100s", word);
        else if (out_arguments->positional_count == ARGUMENTS_POSITIONAL_MAX)
            status = llm_fail(error, LLM_ERR_INVALID, "more than %d arguments; quote the prompt",
                              ARGUMENTS_POSITIONAL_MAX);
        else
            out_arguments->positional[out_arguments->positional_count++] = word;
    }
    return status;
}

void arguments_close(struct arguments *arguments)
{
    free(arguments->stop_ids);
    free(arguments->prompt_ids);
    free(arguments->banned_ids);
    free(arguments->allowed_ids);
    free(arguments->biases);
    arguments->stop_ids = arguments->prompt_ids = NULL;
    arguments->banned_ids = arguments->allowed_ids = NULL;
    arguments->biases = NULL;
}

int arguments_leading(int argc, const char *const *argv)
{
    int at = 0;
    while (at < argc && strncmp(argv[at], "--", 2) == 0) {
        size_t bytes = strcspn(argv[at] + 2, "=");
        const struct option *option = find_option(arguments_common, argv[at] + 2, bytes);
        if (!option)
            break;
        bool apart = option->kind != OPTION_FLAG && argv[at][2 + bytes] != '=';
        at += apart ? 2 : 1;
    }
    return at < argc ? at : argc;
}
