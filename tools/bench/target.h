/*
 * target.h - the daemon that is measured.
 *
 * Idea     Normally a private one: llmd from beside this program with the model "echo", in the foreground, in a
 *          directory of its own, so that nobody else's requests are in the numbers. With --socket a running one, which
 *          is left as it was, but for its engine's processor (target_pin()).
 * Owner    target_close() ends a private one and removes its directory, also after Ctrl-C; should the bench be
 *          killed, the kernel tells the daemon to end.
 */
#ifndef BENCH_TARGET_H
#define BENCH_TARGET_H

#include <stdbool.h>
#include <sys/types.h>

#include "client/llm.h"
#include "shm/status_file.h"
#include "tools/bench/machine.h"

struct target {
    char directory[80]; /* in $TMPDIR or /tmp; "" for a running one */
    char socket[108];
    char log[96];
    pid_t child; /* the private keeper; 0 */
    const struct llm_status_file *status;
};

/* `socket`: NULL for a private one, which is given `settings` ("limits.requests=64", up to a NULL). */
enum llm_status target_open(struct target *target, const char *socket, const char *const *settings,
                            struct llm_error *error) LLM_MUST_CHECK;
void target_close(struct target *target); /* accepts one that is all zero */

pid_t target_keeper(const struct target *target);
pid_t target_engine(const struct target *target);
uint64_t target_counter(const struct target *target, enum llm_counter counter);

/* The engine's thread to the second processor of the pair, everything else of the daemon to both. */
void target_pin(const struct target *target, const struct machine *machine);

enum llm_status target_connect(const struct target *target, enum llm_wait wait,
                               llm_connection **out_connection, struct llm_error *error)
    LLM_MUST_CHECK;

#endif
