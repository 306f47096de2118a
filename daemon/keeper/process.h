/*
 * process.h - child processes by handle instead of by number.
 *
 * Idea     A pidfd names one process for ever: it becomes readable when that process is gone, and waiting or
 *          killing through it can never hit another one that got the same number.
 * Source   pidfd_open(2), pidfd_send_signal(2), waitid(2) P_PIDFD. (Debian 12's libc has no wrappers yet.)
 */
#ifndef LLMD_KEEPER_PROCESS_H
#define LLMD_KEEPER_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* -1 with errno: no such process, or no descriptors. */
int process_open(pid_t pid);
void process_kill(int pidfd, int signal_number);
/* Collect a child that ended; `out_text` says how ("exit code 1", "signal 9 (Killed)"). False: it lives. */
bool process_collect(int pidfd, int *out_exit_code, char *out_text, size_t bytes);

#endif
