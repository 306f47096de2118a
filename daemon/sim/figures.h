/*
 * figures.h - what a simulated world was like for those who asked.
 *
 * Idea     One row of figures for all requests, for the trace's own, for the scan's and the flood's, and where wanted for
 *          each user. Percentiles are by nearest rank.
 * Output   CSV: the first line names the columns, a figure without samples is empty (llm-bench reads it, see
 *          tools/bench/sim.c).
 * See      README.md (what each column means).
 */
#ifndef LLMD_SIM_FIGURES_H
#define LLMD_SIM_FIGURES_H

#include <stdio.h>

#include "daemon/sim/ideal.h"
#include "daemon/sim/world.h"

struct figures {
    uint32_t requests, answered, cancelled, refused;
    uint64_t prompt_tokens, hit_tokens, answer_tokens;
    double first_p50_ms, first_p99_ms; /* NaN: nobody got a token */
    double token_p50_ms, token_p99_ms; /* of a request: the time between its tokens, on average */
    double
        alone; /* how fast an answered request was, 1: as if it were alone on the machine; the mean */
};

enum figures_of {
    FIGURES_OF_ALL,
    FIGURES_OF_OWN,
    FIGURES_OF_SCAN,
    FIGURES_OF_FLOOD,
    FIGURES_OF_USER
};

/* `user` only with FIGURES_OF_USER. LLM_ERR_MEMORY. */
enum llm_status figures_compute(const struct trace *trace, const struct world_options *options,
                                const struct world_result *result, enum figures_of of,
                                uint32_t user, struct figures *out_figures, struct llm_error *error)
    LLM_MUST_CHECK;

/* Jain's index (Jain, Chiu, Hawe 1984) over the users' `alone`, leaving out those without an answer: 1 is fair. */
enum llm_status figures_fairness(const struct trace *trace, const struct world_options *options,
                                 const struct world_result *result, double *out_jain,
                                 struct llm_error *error) LLM_MUST_CHECK;

void figures_head(FILE *file);
/* ideal, lru: of the whole trace, NULL: unknown; jain NaN: unknown. */
void figures_row(FILE *file, const char *who, const struct world_result *result,
                 const struct figures *figures, const struct ideal *ideal, const struct ideal *lru,
                 double jain);

#endif
