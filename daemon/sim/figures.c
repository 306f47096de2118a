#include "daemon/sim/figures.h"

#include <math.h>
#include <stdlib.h>

#define NS_PER_MS 1e6
#define NS_PER_S  1e9

static bool belongs(const struct trace_request *asked, enum figures_of of, uint32_t user)
{
    switch (of) {
    case FIGURES_OF_ALL:
        return true;
    case FIGURES_OF_OWN:
        return asked->kind == TRACE_OWN;
    case FIGURES_OF_SCAN:
        return asked->kind == TRACE_SCAN;
    case FIGURES_OF_FLOOD:
        return asked->kind == TRACE_FLOOD;
    case FIGURES_OF_USER:
        break;
    }
    return asked->user == user;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* values [count], sorted by this */
static double percentile(double *values, uint32_t count, double percent)
{
    if (count == 0)
        return (double)NAN;
    qsort(values, count, sizeof *values, by_size);
    uint32_t rank = (uint32_t)ceil(percent / 100 * count);
    return values[rank > 0 ? rank - 1 : 0];
}

/* Time that the request would have taken alone, as part of what it took. */
static double alone_part(const struct world_options *options, const struct trace_request *asked,
                         const struct world_request *got)
{
    uint64_t alone_ns = device_alone_ns(options->device, options->shape, asked->prompt_tokens,
                                        got->tokens, options->step_tokens);
    return (double)alone_ns / (double)(got->end_ns - got->arrival_ns + 1);
}

struct samples { /* [trace->count] each */
    double *first_ms, *token_ms;
    uint32_t first_count, token_count;
    double alone_sum;
};

static void count_request(struct figures *figures, struct samples *samples,
                          const struct world_options *options, const struct trace_request *asked,
                          const struct world_request *got)
{
    figures->requests++;
    figures->answered += got->end == WORLD_ANSWERED;
    figures->cancelled += got->end == WORLD_CANCELLED;
    figures->refused += got->end == WORLD_REFUSED;
    figures->prompt_tokens += asked->prompt_tokens;
    figures->hit_tokens += got->hit_tokens;
    figures->answer_tokens += got->tokens;
    if (got->tokens > 0)
        samples->first_ms[samples->first_count++] =
            (double)(got->first_token_ns - got->arrival_ns) / NS_PER_MS;
    if (got->tokens > 1)
        samples->token_ms[samples->token_count++] =
            (double)(got->end_ns - got->first_token_ns) / NS_PER_MS / (got->tokens - 1);
    if (got->end == WORLD_ANSWERED)
        samples->alone_sum += alone_part(options, asked, got);
}

enum llm_status figures_compute(const struct trace *trace, const struct world_options *options,
                                const struct world_result *result, enum figures_of of,
                                uint32_t user, struct figures *out_figures, struct llm_error *error)
{
    struct figures figures = {0};
    struct samples samples = {.first_ms = calloc(trace->count, sizeof(double)),
                              .token_ms = calloc(trace->count, sizeof(double))};
    enum llm_status status = LLM_OK;
    if (samples.first_ms && samples.token_ms) {
        for (uint32_t i = 0; i < trace->count; i++)
            if (belongs(&trace->requests[i], of, user))
                count_request(&figures, &samples, options, &trace->requests[i],
                              &result->requests[i]);
        figures.first_p50_ms = percentile(samples.first_ms, samples.first_count, 50);
        figures.first_p99_ms = percentile(samples.first_ms, samples.first_count, 99);
        figures.token_p50_ms = percentile(samples.token_ms, samples.token_count, 50);
        figures.token_p99_ms = percentile(samples.token_ms, samples.token_count, 99);
        figures.alone = figures.answered > 0 ? samples.alone_sum / figures.answered : (double)NAN;
        *out_figures = figures;
    } else {
        status = llm_fail(error, LLM_ERR_MEMORY, "no memory for %u samples", trace->count);
    }
    free(samples.first_ms);
    free(samples.token_ms);
    return status;
}

struct user_speed {
    double sum;
    uint32_t count;
};

enum llm_status figures_fairness(const struct trace *trace, const struct world_options *options,
                                 const struct world_result *result, double *out_jain,
                                 struct llm_error *error)
{
    struct user_speed *users = calloc(trace->user_count, sizeof *users);
    if (!users)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u users", trace->user_count);
    for (uint32_t i = 0; i < trace->count; i++) {
        struct user_speed *user = &users[trace->requests[i].user];
        if (result->requests[i].end != WORLD_ANSWERED)
            continue;
        user->sum += alone_part(options, &trace->requests[i], &result->requests[i]);
        user->count++;
    }
    double sum = 0, squares = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < trace->user_count; i++) {
        double mean = users[i].count > 0 ? users[i].sum / users[i].count : 0;
        count += users[i].count > 0;
        sum += mean;
        squares += mean * mean;
    }
    *out_jain = squares > 0 ? sum * sum / (count * squares) : (double)NAN;
    free(users);
    return LLM_OK;
}

/* ---- Rows ------------------------------------------------------------------------------------------- */

void figures_head(FILE *file)
{
    fputs("who,blocks,requests,answered,cancelled,refused,prompt_tokens,hit_tokens,hit_percent,"
          "lru_percent,ideal_percent,answer_tokens,tokens_per_s,rows_per_s,first_p50_ms,"
          "first_p99_ms,token_p50_ms,token_p99_ms,alone,jain,preemptions,evictions,deaths,steps,"
          "longest_step_ms,seconds\n",
          file);
}

static void real(FILE *file, double value)
{
    if (isnan(value))
        fputc(',', file);
    else
        fprintf(file, ",%.6g", value);
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole > 0 ? 100.0 * (double)part / (double)whole : (double)NAN;
}

static double ideal_percent(const struct ideal *ideal)
{
    return ideal ? percent(ideal->hit_tokens, ideal->prompt_tokens) : (double)NAN;
}

void figures_row(FILE *file, const char *who, const struct world_result *result,
                 const struct figures *f, const struct ideal *ideal, const struct ideal *lru,
                 double jain)
{
    double seconds = (double)result->end_ns / NS_PER_S;
    fprintf(file, "%s,%llu,%u,%u,%u,%u,%llu,%llu", who, (unsigned long long)result->blocks,
            f->requests, f->answered, f->cancelled, f->refused,
            (unsigned long long)f->prompt_tokens, (unsigned long long)f->hit_tokens);
    real(file, percent(f->hit_tokens, f->prompt_tokens));
    real(file, ideal_percent(lru));
    real(file, ideal_percent(ideal));
    fprintf(file, ",%llu", (unsigned long long)f->answer_tokens);
    real(file, seconds > 0 ? (double)f->answer_tokens / seconds : (double)NAN);
    real(file, seconds > 0 ? (double)result->rows / seconds : (double)NAN);
    real(file, f->first_p50_ms);
    real(file, f->first_p99_ms);
    real(file, f->token_p50_ms);
    real(file, f->token_p99_ms);
    real(file, f->alone);
    real(file, jain);
    fprintf(file, ",%llu,%llu,%llu,%llu", (unsigned long long)result->preemptions,
            (unsigned long long)result->evictions, (unsigned long long)result->deaths,
            (unsigned long long)result->steps);
    real(file, (double)result->longest_step_ns / NS_PER_MS);
    real(file, seconds);
    fputc('\n', file);
}
