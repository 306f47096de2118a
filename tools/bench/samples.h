/*
 * samples.h - numbers that were measured, and what they say.
 *
 * Idea     A round gives a set of samples; a set gives a summary (minimum, percentiles, mean); the summaries of all
 *          rounds give a result: the median over the rounds of each figure, and how far rounds lay apart. What is
 *          measured in turns and compared round by round is not misled by a machine that becomes slow meanwhile.
 * Terms    percentile q  the smallest sample that at least q of all samples do not exceed (nearest rank)
 *          median        of an even count: the mean of the two in the middle
 *          MAD           median of the absolute distances from the median; IQR: 75th minus 25th percentile
 *          Jain          (sum x)^2 / (n * sum x^2): 1 when all are equal, 1/n when one has everything
 * Empty    Without samples every figure is NaN.
 * See      tests/tools/test_bench_samples.c.
 */
#ifndef BENCH_SAMPLES_H
#define BENCH_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>

#include "shm/status.h"

struct samples {
    double *values; /* [capacity] */
    size_t count, capacity;
};

enum llm_status samples_open(struct samples *samples, size_t capacity, struct llm_error *error)
    LLM_MUST_CHECK;
void samples_close(struct samples *samples);
void samples_reset(struct samples *samples);
/* What no longer fits is left out; samples_full() tells. */
void samples_add(struct samples *samples, double value);
bool samples_full(const struct samples *samples);

/* These sort `values` in place. */
double samples_percentile(double *values, size_t count, double q);
double samples_median(double *values, size_t count);
double samples_mad(double *values, size_t count); /* spoils `values` */

double samples_jain(const double *values, size_t count);

struct summary { /* of one round */
    size_t count;
    double min, p50, p99, p999, mean;
};
struct summary samples_summarise(struct samples *samples);

#define RESULT_ROUNDS_MAX 1000

struct result {    /* of all rounds: medians over them */
    size_t count;  /* samples in all */
    size_t rounds; /* that have samples */
    double min;    /* of all */
    double p50, p99, p999, mean;
    double p50_mad, p50_iqr; /* of the rounds' medians */
};
/* Rounds without samples are passed over. */
struct result samples_result(const struct summary *rounds, size_t count);

/* Median over the rounds of rounds[i].p50 / floors[i].p50. */
double samples_ratio(const struct summary *rounds, const struct summary *floors, size_t count);

#endif
