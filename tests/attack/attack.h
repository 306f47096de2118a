/*
 * attack.h - one attacker, one bystander, one daemon: what all tests of this folder do.
 *
 * Idea     A daemon of one's own and a bystander; first quiet, then with the attacker's process at work; the attacker is
 *          killed. The bystander's answers must be exact and come at all, the daemon be of the same generation,
 *          nothing be left behind. Times are printed, quiet, attacked and their ratio, and decide nothing:
 *          wall time on a shared machine says nothing for sure.
 * Users    As root the attacker drops to another user, and the bystander also attaches anew all the time. Else both
 *          are one user, whose limits they share: then attackers that need_root are left out.
 * Attacker A function that runs in a child until it is killed, and counts what it did in `acts`: an attack that never took
 *          place must not pass.
 * Env      LLM_ATTACK_MS: length of the quiet phase, the attacked one is twice as long (default 400).
 *          LLM_ATTACK_ONLY: part of the name of the rows to play.
 *          LLM_ATTACK_TABLE: a file to which the table's lines are appended.
 * Priority The attacker runs under SCHED_OTHER whatever the test runs under, so that `chrt -f 10` for the test
 *          program takes the machine's own scheduling out of the numbers.
 */
#ifndef TESTS_ATTACK_ATTACK_H
#define TESTS_ATTACK_ATTACK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/attack/bystander.h"
#include "tests/support/daemon.h"

struct attack { /* what the attacker's process sees */
    const struct test_daemon *daemon;
    _Atomic uint64_t *acts; /* shared with the test */
};

struct attacker {
    const char *name;
    void (*run)(const struct attack *attack); /* never returns by itself */
    uint64_t acts_least;                      /* it did at least this much, or it was no attack */
    bool needs_root;
    const char *settings[7]; /* more arguments of llmd; NULL at the end */
};

/* Print the bystander's times as a line of the table, also into LLM_ATTACK_TABLE. */
void attack_report(const char *name, struct bystander *bystander, uint64_t acts);

/* Main of a test program: one test for each attacker. */
int attack_main(const char *suite, const struct attacker *attackers, int count);

static inline void attack_count(const struct attack *attack)
{
    atomic_fetch_add_explicit(attack->acts, 1, memory_order_relaxed);
}

#endif
