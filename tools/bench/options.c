#include "tools/bench/options.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(name) offsetof(struct bench_options, name)

const struct option_row options_common[] = {
    {"rounds", "N", OPTION_COUNT, FIELD(rounds), 1, 1000,
     "how often everything is measured, in turns"},
    {"seconds", "S", OPTION_REAL, FIELD(seconds), 0.001, 3600,
     "how long one measurement takes in one round"},
    {"quick", NULL, OPTION_FLAG, FIELD(quick), 0, 0,
     "two short rounds: whether it works, not how fast"},
    {"cpus", "A,B", OPTION_TEXT, FIELD(cpus), 0, 0,
     "client on processor A, engine on B; default: the first two allowed"},
    {"fifo", NULL, OPTION_FLAG, FIELD(fifo), 0, 0,
     "SCHED_FIFO for both sides where it is permitted"},
    {"socket", "PATH", OPTION_TEXT, FIELD(socket), 0, 0,
     "measure the daemon that listens there instead of a private one"},
    {"json", NULL, OPTION_FLAG, FIELD(json), 0, 0, "one JSON document"},
    {"csv", NULL, OPTION_FLAG, FIELD(csv), 0, 0,
     "comma-separated values, the first line names them"},
    {"help", NULL, OPTION_FLAG, FIELD(help), 0, 0, "this text"},
    {NULL, NULL, OPTION_FLAG, 0, 0, 0, NULL},
};

static const struct option_row *find(const struct option_row *rows, const char *name, size_t bytes)
{
    for (; rows && rows->name; rows++)
        if (strlen(rows->name) == bytes && strncmp(rows->name, name, bytes) == 0)
            return rows;
    return NULL;
}

static enum llm_status set_number(const struct option_row *row, const char *value, void *field,
                                  struct llm_error *error)
{
    char *end = NULL;
    errno = 0;
    double number = strtod(value, &end);
    if (end == value || *end != '\0' || errno != 0 ||
        (row->kind == OPTION_COUNT && strspn(value, "0123456789") != strlen(value)))
        return llm_fail(error, LLM_ERR_INVALID, "--%s %.60s is not a %s", row->name, value,
                        row->kind == OPTION_COUNT ? "whole number" : "number");
    if (!(number >= row->least && number <= row->most))
        return llm_fail(error, LLM_ERR_INVALID, "--%s %.60s is out of range %g..%.10g", row->name,
                        value, row->least, row->most);
    if (row->kind == OPTION_COUNT)
        *(uint32_t *)field = (uint32_t)number;
    else
        *(double *)field = number;
    return LLM_OK;
}

static enum llm_status set(struct bench_options *options, const struct option_row *row,
                           const char *value, struct llm_error *error)
{
    void *field = (char *)options + row->offset;
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)field = true;
        return LLM_OK;
    case OPTION_TEXT:
        *(const char **)field = value;
        return LLM_OK;
    case OPTION_COUNT:
    case OPTION_REAL:
        break;
    }
    return set_number(row, value, field, error);
}

enum llm_status options_parse(struct bench_options *options, int argc, const char *const *argv,
                              const struct option_row *rows, struct llm_error *error)
{
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0)
            return llm_fail(error, LLM_ERR_INVALID, "\"%.60s\" is not an option", argv[i]);
        const char *name = argv[i] + 2;
        size_t bytes = strcspn(name, "=");
        const char *value = name[bytes] == '=' ? name + bytes + 1 : NULL;
        const struct option_row *row = find(rows, name, bytes);
        if (!row)
            row = find(options_common, name, bytes);
        if (!row)
            return llm_fail(error, LLM_ERR_INVALID, "unknown option --%.*s",
                            (int)(bytes > 60 ? 60 : bytes), name);
        if (row->kind == OPTION_FLAG && value)
            return llm_fail(error, LLM_ERR_INVALID, "--%s takes no value", row->name);
        if (row->kind != OPTION_FLAG && !value && ++i == argc)
            return llm_fail(error, LLM_ERR_INVALID, "--%s needs a value: %s", row->name,
                            row->value);
        enum llm_status status = set(options, row, value ? value : argv[i], error);
        if (status != LLM_OK)
            return status;
    }
    if (options->json && options->csv)
        return llm_fail(error, LLM_ERR_INVALID, "--json and --csv exclude each other");
    return LLM_OK;
}

enum llm_status options_cpu_pair(const char *text, int out_cpus[2], struct llm_error *error)
{
    char *end = NULL;
    long first = strtol(text, &end, 10), second = -1;
    bool whole = end != text && *end == ',';
    if (whole) {
        const char *from = end + 1;
        second = strtol(from, &end, 10);
        whole = end != from && *end == '\0';
    }
    if (!whole || first < 0 || second < 0 || first >= CPU_SETSIZE || second >= CPU_SETSIZE ||
        first == second)
        return llm_fail(error, LLM_ERR_INVALID,
                        "--cpus %.60s is not a pair of different processors, for example 0,1",
                        text);
    out_cpus[0] = (int)first;
    out_cpus[1] = (int)second;
    return LLM_OK;
}
