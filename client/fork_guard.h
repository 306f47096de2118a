/*
 * fork_guard.h - is this handle ours, or inherited across fork()?
 *
 * Idea     A page that the kernel hands to a child filled with zeroes (MADV_WIPEONFORK): one load tells, also after
 *          a raw clone(). Without it (LLMD_DISABLE=wipeonfork, or a kernel that lacks it) the process id tells,
 *          for the price of a system call.
 * Why      A child shares the parent's socket and would write into the parent's memory as if it were it.
 */
#ifndef LLM_CLIENT_FORK_GUARD_H
#define LLM_CLIENT_FORK_GUARD_H

#include <stdbool.h>
#include <sys/types.h>

struct llm_fork_guard {
    volatile unsigned char *page; /* NULL: `pid` decides */
    pid_t pid;
};

void llm_fork_guard_open(struct llm_fork_guard *guard);
void llm_fork_guard_close(struct llm_fork_guard *guard);
bool llm_fork_guard_inherited(const struct llm_fork_guard *guard);

#endif
