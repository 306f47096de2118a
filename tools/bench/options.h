/*
 * options.h - a verb's options out of argv.
 *
 * Idea     A verb lists its options: name, kind, field of struct bench_options, range. One parser reads them all and
 *          refuses what it does not know, or what is out of range, with one sentence.
 * Forms    "--name value" or "--name=value".
 * Owner    Texts are borrowed from argv.
 * See      tests/tools/test_bench_options.c.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/status.h"

#define SIM_OPTIONS 25

struct bench_options {
    /* every verb */
    bool help, json, csv, quick, fifo;
    uint32_t rounds;
    double seconds;     /* of one measurement in one round */
    const char *cpus;   /* "A,B"; NULL: chosen */
    const char *socket; /* NULL: a private daemon */

    /* ipc */
    const char *point; /* only names that begin so; NULL: all */
    uint32_t rest_us;

    /* throughput, connections */
    const char *reader; /* "late,look,spin,futex,eventfd"; NULL: all */
    uint32_t clients, streams, requests, tokens, prompt, workers, look_us, step_us;
    bool threads;

    /* contexts; flood */
    uint32_t forks; /* contexts: `tokens` as well */
    uint32_t flood; /* requests in flight; `prompt`, `tokens` as well */
    uint32_t step_tokens;

    /* ops */
    const char *op, *shape, *isa;
    uint32_t op_threads;
    bool reference;

    /* sim */
    const char *sim[SIM_OPTIONS]; /* as typed, in the order of sim_options */
    bool sim_private, sim_each_user;
};

enum option_kind {
    OPTION_FLAG,  /* bool */
    OPTION_TEXT,  /* const char * */
    OPTION_COUNT, /* uint32_t in least..most */
    OPTION_REAL   /* double in least..most */
};

struct option_row {
    const char *name;  /* without the dashes; NULL ends a table */
    const char *value; /* what help calls the value; NULL for flags */
    enum option_kind kind;
    size_t offset; /* of the field in struct bench_options */
    double least, most;
    const char *sentence;
};

extern const struct option_row options_common[];

/*
 * Read argv [argc], without the program's name and the verb, into `options`, which holds the defaults.
 *   returns   LLM_OK, or LLM_ERR_INVALID with a sentence that names the option and the value
 */
enum llm_status options_parse(struct bench_options *options, int argc, const char *const *argv,
                              const struct option_row *rows, struct llm_error *error)
    LLM_MUST_CHECK;

/* "0,1" to two different processors. LLM_ERR_INVALID. */
enum llm_status options_cpu_pair(const char *text, int out_cpus[2], struct llm_error *error)
    LLM_MUST_CHECK;

#endif
