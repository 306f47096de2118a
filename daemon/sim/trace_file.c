/* trace_file.c - the files of trace.h. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/sim/trace.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

/* A trace that is being read: the line, and room for its list of numbers. */
struct reading {
    const char *path;
    unsigned line;
    uint64_t *list; /* [list_capacity] */
    size_t list_capacity;
    uint64_t first_ns; /* of a .csv: when it began */
};

static enum llm_status bad_line(const struct reading *reading, const char *what,
                                struct llm_error *error)
{
    return llm_fail(error, LLM_ERR_INVALID, "%.100s, line %u: %s", reading->path, reading->line,
                    what);
}

/* Behind "key": in the line; NULL: not there. Keys of these files stand in no text. */
static const char *value_of(const char *line, const char *key)
{
    size_t bytes = strlen(key);
    for (const char *at = strchr(line, '"'); at; at = strchr(at + 1, '"'))
        if (strncmp(at + 1, key, bytes) == 0 && at[1 + bytes] == '"') {
            at += bytes + 2;
            at += strspn(at, " ");
            return *at == ':' ? at + 1 + strspn(at + 1, " ") : NULL;
        }
    return NULL;
}

static bool read_number(const char **at, uint64_t most, uint64_t *out)
{
    if (!isdigit((unsigned char)**at))
        return false;
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(*at, &end, 10);
    if (errno != 0 || value > most)
        return false;
    *at = end;
    *out = value;
    return true;
}

static bool number_of(const char *line, const char *key, uint64_t most, uint64_t *out)
{
    const char *at = value_of(line, key);
    return at && read_number(&at, most, out);
}

/* "[1, 2, 3]" into reading->list. False: no list of at least one number. */
static bool list_of(struct reading *reading, const char *line, const char *key, uint64_t most,
                    size_t *out_count)
{
    const char *at = value_of(line, key);
    size_t count = 0;
    if (!at || *at != '[')
        return false;
    do {
        at++;
        at += strspn(at, " ");
        if (count == reading->list_capacity) {
            size_t capacity = count > 0 ? 2 * count : 1024;
            void *list = realloc(reading->list, capacity * sizeof *reading->list);
            if (!list)
                return false;
            reading->list = list;
            reading->list_capacity = capacity;
        }
        if (!read_number(&at, most, &reading->list[count++]))
            return false;
        at += strspn(at, " ");
    } while (*at == ',');
    *out_count = count;
    return *at == ']';
}

static enum llm_status add(struct trace *trace, const struct reading *reading, uint64_t arrival_ns,
                           uint64_t prompt_tokens, uint64_t answer_tokens, const uint64_t *parts,
                           struct llm_error *error)
{
    struct llm_error why;
    const struct trace_request request = {.arrival_ns = arrival_ns,
                                          .prompt_tokens = (uint32_t)prompt_tokens,
                                          .answer_tokens =
                                              answer_tokens > 0 ? (uint32_t)answer_tokens : 1};
    enum llm_status status = trace_add(trace, &request, parts, &why);
    return status == LLM_ERR_INVALID ? bad_line(reading, why.message, error)
           : status == LLM_OK        ? LLM_OK
                                     : llm_fail(error, status, "%s", why.message);
}

/* {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]} */
static enum llm_status read_parts(struct trace *trace, struct reading *reading, const char *line,
                                  struct llm_error *error)
{
    uint64_t ms, prompt_tokens, answer_tokens;
    size_t parts = 0;
    if (!number_of(line, "timestamp", UINT64_MAX / NS_PER_MS, &ms) ||
        !number_of(line, "input_length", TRACE_TOKENS_MAX, &prompt_tokens) ||
        !number_of(line, "output_length", TRACE_TOKENS_MAX, &answer_tokens) ||
        !list_of(reading, line, "hash_ids", INT64_MAX, &parts))
        return bad_line(reading, "timestamp, input_length, output_length and hash_ids are wanted",
                        error);
    if (prompt_tokens == 0 || parts != (prompt_tokens - 1) / TRACE_PART_TOKENS + 1)
        return bad_line(reading, "input_length and the number of hash_ids disagree", error);
    return add(trace, reading, ms * NS_PER_MS, prompt_tokens, answer_tokens, reading->list, error);
}

/* {"t_ms": 0, "prompt_ids": [1, 491], "max_tokens": 31} */
static enum llm_status read_ids(struct trace *trace, struct reading *reading, const char *line,
                                struct llm_error *error)
{
    uint64_t ms, answer_tokens;
    size_t ids = 0;
    if (!number_of(line, "t_ms", UINT64_MAX / NS_PER_MS, &ms) ||
        !number_of(line, "max_tokens", TRACE_TOKENS_MAX, &answer_tokens) ||
        !list_of(reading, line, "prompt_ids", INT32_MAX, &ids))
        return bad_line(reading, "t_ms, prompt_ids and max_tokens are wanted", error);
    if (ids > TRACE_TOKENS_MAX)
        return bad_line(reading, "the prompt is too long", error);
    return add(trace, reading, ms * NS_PER_MS, ids, answer_tokens, reading->list, error);
}

/* 2023-11-16 18:15:46.6805900,374,44: one day is enough, so the date only has to be there. */
static enum llm_status read_csv(struct trace *trace, struct reading *reading, const char *line,
                                struct llm_error *error)
{
    struct tm day = {0};
    const char *at = line;
    uint64_t year, month, date, hour, minute, second, fraction = 0, prompt_tokens, answer_tokens;
    bool good = read_number(&at, 9999, &year) && *at++ == '-' && read_number(&at, 12, &month) &&
                *at++ == '-' && read_number(&at, 31, &date) && *at++ == ' ' &&
                read_number(&at, 23, &hour) && *at++ == ':' && read_number(&at, 59, &minute) &&
                *at++ == ':' && read_number(&at, 60, &second);
    if (good && *at == '.') {
        const char *from = ++at;
        good = read_number(&at, NS_PER_S - 1, &fraction);
        for (long digits = at - from; good && digits < 9; digits++)
            fraction *= 10;
    }
    good = good && year >= 1970 && *at++ == ',' &&
           read_number(&at, TRACE_TOKENS_MAX, &prompt_tokens) && *at++ == ',' &&
           read_number(&at, TRACE_TOKENS_MAX, &answer_tokens);
    if (!good || prompt_tokens == 0)
        return bad_line(reading, "TIMESTAMP,ContextTokens,GeneratedTokens are wanted", error);
    day.tm_year = (int)year - 1900;
    day.tm_mon = (int)month - 1;
    day.tm_mday = (int)date;
    uint64_t ns =
        ((uint64_t)timegm(&day) + hour * 3600 + minute * 60 + second) * NS_PER_S + fraction;
    if (trace->count == 0)
        reading->first_ns = ns;
    if (ns < reading->first_ns)
        return bad_line(reading, "a request arrives before the first", error);
    return add(trace, reading, ns - reading->first_ns, prompt_tokens, answer_tokens, NULL, error);
}

static enum llm_status read_line(struct trace *trace, struct reading *reading, bool csv,
                                 const char *line, struct llm_error *error)
{
    if (csv)
        return reading->line == 1 ? LLM_OK : read_csv(trace, reading, line, error);
    if (reading->line == 1 && value_of(line, "prompt_ids"))
        trace->part_tokens = 1;
    return trace->part_tokens == 1 ? read_ids(trace, reading, line, error)
                                   : read_parts(trace, reading, line, error);
}

enum llm_status trace_open(struct trace *trace, const char *path, uint32_t requests_max,
                           struct llm_error *error)
{
    trace_init(trace, TRACE_PART_TOKENS);
    FILE *file = fopen(path, "re");
    if (!file)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot open %.150s", path);
    size_t bytes = strlen(path);
    bool csv = bytes > 4 && strcmp(path + bytes - 4, ".csv") == 0;
    struct reading reading = {.path = path};
    enum llm_status status = LLM_OK;
    char *line = NULL;
    size_t capacity = 0;
    while (status == LLM_OK && trace->count < requests_max && getline(&line, &capacity, file) > 0) {
        reading.line++;
        if (line[strspn(line, " \t\r\n")] != '\0')
            status = read_line(trace, &reading, csv, line, error);
    }
    if (status == LLM_OK && ferror(file))
        status = llm_fail(error, LLM_ERR_SYSTEM, "cannot read %.150s", path);
    if (status == LLM_OK && trace->count == 0)
        status = llm_fail(error, LLM_ERR_INVALID, "%.150s has no requests", path);
    free(line);
    free(reading.list);
    fclose(file);
    if (status != LLM_OK)
        trace_close(trace);
    return status;
}
