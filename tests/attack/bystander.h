/*
 * bystander.h - a program that minds its own business, and says how long everything takes.
 *
 * Idea     A process of its own asks the echo model for short answers, one after the other, compares each token, and
 *          notes three times: submit to first token, submit to done, and the gaps between tokens. Where the
 *          attacker is another user, it now and then attaches once more and notes how long that takes. The
 *          test tells it which phase it is; each phase has its own samples.
 * Owner    bystander_start() forks; bystander_stop() ends it and fails the test if any answer was wrong.
 * See      attack.h
 */
#ifndef TESTS_ATTACK_BYSTANDER_H
#define TESTS_ATTACK_BYSTANDER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/support/daemon.h"

#define BYSTANDER_TOKENS      4      /* of an answer */
#define BYSTANDER_SAMPLES_MAX 200000 /* of one kind in one phase; later ones are not kept */

enum bystander_phase {
    BYSTANDER_WARMING, /* connects and asks; nothing is kept */
    BYSTANDER_QUIET,
    BYSTANDER_ATTACKED,
    BYSTANDER_PHASES,
    BYSTANDER_ENDING
};
enum bystander_time {
    BYSTANDER_FIRST,
    BYSTANDER_DONE,
    BYSTANDER_GAP,
    BYSTANDER_ATTACH,
    BYSTANDER_TIMES
};

struct bystander_samples {
    _Atomic uint32_t count;
    uint32_t ns[BYSTANDER_SAMPLES_MAX];
};
struct bystander_shared {
    _Atomic uint32_t phase;   /* the test */
    _Atomic uint32_t answers; /* the bystander, in all phases */
    _Atomic bool wrong;       /* ... and then `what` */
    char what[256];
    struct bystander_samples samples[BYSTANDER_PHASES][BYSTANDER_TIMES];
};
struct bystander {
    pid_t pid;
    struct bystander_shared *shared;
};

/* Fork, connect, and ask until the first answers are there. `attaches`: also attach now and then; being refused is
 * wrong. */
void bystander_start(struct bystander *bystander, const struct test_daemon *daemon, bool attaches);
void bystander_enter(struct bystander *bystander, enum bystander_phase phase);
/* It must have answers that are all right; its process ends. */
void bystander_stop(struct bystander *bystander);

uint32_t bystander_answers(const struct bystander *bystander, enum bystander_phase phase);
/* The `permille`th part of the samples is at most this long: 500 is the median. */
double bystander_us(struct bystander *bystander, enum bystander_phase phase,
                    enum bystander_time time, unsigned permille);

#endif
