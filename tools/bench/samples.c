#include "tools/bench/samples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum llm_status samples_open(struct samples *samples, size_t capacity, struct llm_error *error)
{
    double *values = calloc(capacity, sizeof *values);
    if (!values)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %zu samples", capacity);
    *samples = (struct samples){.values = values, .capacity = capacity};
    return LLM_OK;
}

void samples_close(struct samples *samples)
{
    free(samples->values);
    *samples = (struct samples){0};
}

void samples_reset(struct samples *samples)
{
    samples->count = 0;
}

void samples_add(struct samples *samples, double value)
{
    if (samples->count < samples->capacity)
        samples->values[samples->count++] = value;
}

bool samples_full(const struct samples *samples)
{
    return samples->count == samples->capacity;
}

/* ---- Order statistics ------------------------------------------------------------------------------ */

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void sort(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
}

static double ranked(const double *sorted, size_t count, double q)
{
    size_t rank = (size_t)ceil(q * (double)count);
    return sorted[rank == 0 ? 0 : rank > count ? count - 1 : rank - 1];
}

static double middle(const double *sorted, size_t count)
{
    return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

double samples_percentile(double *values, size_t count, double q)
{
    if (count == 0)
        return NAN;
    sort(values, count);
    return ranked(values, count, q);
}

double samples_median(double *values, size_t count)
{
    if (count == 0)
        return NAN;
    sort(values, count);
    return middle(values, count);
}

double samples_mad(double *values, size_t count)
{
    double median = samples_median(values, count);
    for (size_t i = 0; i < count; i++)
        values[i] = fabs(values[i] - median);
    return samples_median(values, count);
}

double samples_jain(const double *values, size_t count)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        sum += values[i];
        squares += values[i] * values[i];
    }
    return squares > 0 ? sum * sum / ((double)count * squares) : (double)NAN;
}

/* ---- Rounds ---------------------------------------------------------------------------------------- */

struct summary samples_summarise(struct samples *samples)
{
    if (samples->count == 0)
        return (struct summary){0, NAN, NAN, NAN, NAN, NAN};
    double sum = 0;
    for (size_t i = 0; i < samples->count; i++)
        sum += samples->values[i];
    sort(samples->values, samples->count);
    return (struct summary){
        .count = samples->count,
        .min = samples->values[0],
        .p50 = middle(samples->values, samples->count),
        .p99 = ranked(samples->values, samples->count, 0.99),
        .p999 = ranked(samples->values, samples->count, 0.999),
        .mean = sum / (double)samples->count,
    };
}

/* One figure of every round that has samples; returns how many. */
static size_t column(const struct summary *rounds, size_t count, size_t offset, double *out)
{
    size_t used = 0;
    for (size_t i = 0; i < count && used < RESULT_ROUNDS_MAX; i++)
        if (rounds[i].count > 0)
            memcpy(&out[used++], (const char *)&rounds[i] + offset, sizeof *out);
    return used;
}

static double median_of(const struct summary *rounds, size_t count, size_t offset)
{
    double values[RESULT_ROUNDS_MAX];
    return samples_median(values, column(rounds, count, offset, values));
}

struct result samples_result(const struct summary *rounds, size_t count)
{
    double values[RESULT_ROUNDS_MAX];
    struct result result = {
        .min = NAN,
        .p50 = median_of(rounds, count, offsetof(struct summary, p50)),
        .p99 = median_of(rounds, count, offsetof(struct summary, p99)),
        .p999 = median_of(rounds, count, offsetof(struct summary, p999)),
        .mean = median_of(rounds, count, offsetof(struct summary, mean)),
    };
    for (size_t i = 0; i < count; i++) {
        result.count += rounds[i].count;
        if (rounds[i].count > 0 && !(result.min <= rounds[i].min))
            result.min = rounds[i].min;
    }
    result.rounds = column(rounds, count, offsetof(struct summary, p50), values);
    result.p50_iqr = samples_percentile(values, result.rounds, 0.75) -
                     samples_percentile(values, result.rounds, 0.25);
    result.p50_mad = samples_mad(values, result.rounds);
    return result;
}

double samples_ratio(const struct summary *rounds, const struct summary *floors, size_t count)
{
    double values[RESULT_ROUNDS_MAX];
    size_t used = 0;
    for (size_t i = 0; i < count && used < RESULT_ROUNDS_MAX; i++)
        if (rounds[i].count > 0 && floors[i].count > 0 && floors[i].p50 > 0)
            values[used++] = rounds[i].p50 / floors[i].p50;
    return samples_median(values, used);
}
