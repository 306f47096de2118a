/*
 * client_life.h - a client that does everything libllm can do with token ids, over and over, and checks each token.
 *
 * Idea     It attaches, submits, reads, cancels, closes, arms its bell, leaves; what and how much is drawn from a seed. It
 *          is made to be killed: at a crash point (linked with llm_static_crash), or from outside. The model is "echo",
 *          so each token is known beforehand.
 * Owner    Whoever calls it; `counts` may lie in memory shared with the process that kills.
 */
#ifndef TESTS_SUPPORT_CLIENT_LIFE_H
#define TESTS_SUPPORT_CLIENT_LIFE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct client_counts {
    _Atomic uint64_t requests; /* submitted */
    _Atomic uint64_t answers;  /* read to their end */
    _Atomic uint64_t tokens;   /* read and compared */
    _Atomic uint64_t wrong;    /* tokens that differ, and answers that are too long or too short */
    _Atomic uint64_t poisoned; /* LLM_ERR_POISON: in flight at two engine deaths in a row */
    _Atomic uint64_t failed;   /* anything else that went wrong */
    char first_failure[256];   /* its sentence */
};

/* One life: `rounds` of requests (0: until killed) on connections of its own. False: something was wrong, and
 * `counts` says what. */
bool client_life(const char *socket, uint64_t seed, uint32_t rounds, struct client_counts *counts);

#endif
