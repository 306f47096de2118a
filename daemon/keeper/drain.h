/*
 * drain.h - ending without losing anything: no new requests, the running ones end, then the daemon.
 *
 * Idea     While it drains, the engine refuses new requests, the keeper new clients (but not administrators, who
 *          must be able to steer). The engine says when nothing is left. Each drain has a number, so that
 *          a "nothing is left" of an earlier one is not taken for this one's.
 *              SERVING --drain--> DRAINING --engine: nothing left--> DRAINED --(then_stop)--> stopping
 *                 ^------------------resume------'----------------------'
 * Asked    By an administrator (LLM_VERB_DRAIN, DRAIN_STOP, RESUME: the last word counts), or by SIGTERM, which
 *          gives the running requests daemon.drain_s seconds; a second signal ends it at once.
 * Deaths   A fresh engine is told in its manifest, like everything else.
 * See      tests/e2e/test_drain.c, `llmctl drain`.
 */
#ifndef LLMD_KEEPER_DRAIN_H
#define LLMD_KEEPER_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

struct keeper;

struct drain {
    uint64_t number;      /* of this or the last drain; 0: there was none */
    bool active;          /* draining or drained */
    bool empty;           /* the engine said that nothing is left */
    bool then_stop;       /* end the daemon then */
    bool by_signal;       /* a second one ends it at once */
    uint64_t deadline_ns; /* end it then in any case; UINT64_MAX: never */
};

/* `then_stop` of the last call counts. */
void drain_begin(struct keeper *keeper, bool then_stop);
void drain_resume(struct keeper *keeper);
/* SIGTERM, SIGINT: drain with a time limit, or, where there is nothing to wait for, stop. */
void drain_by_signal(struct keeper *keeper);

/* The engine says that nothing is left of drain `number`. */
void drain_settled(struct keeper *keeper, uint64_t number);
/* What the engine should have been told: the number of the drain, or 0. */
uint64_t drain_wanted(const struct keeper *keeper);
/* The engine is gone; the next one will say by itself that nothing is left. */
void drain_engine_gone(struct keeper *keeper);
/* Stop when the time is over. Returns when to come back. */
uint64_t drain_expire(struct keeper *keeper, uint64_t now_ns);

/* Requests of all clients that run or wait, as the engine last said. */
uint32_t drain_requests_left(const struct keeper *keeper);

#endif
