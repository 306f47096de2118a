/*
 * machine.h - on what, and with what, a number was measured.
 *
 * Idea     A figure without its machine is worth nothing: processor, cores, kernel, governor, load, commit and build
 *          are read at the run, not at the writing of a report. What cannot be read is "unknown".
 */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "shm/status.h"

struct json_out;

struct machine {
    char cpu[96];
    uint32_t cpus; /* that this process may use */
    char kernel[96];
    char hypervisor[24]; /* "none", "kvm", ... as far as /sys and cpuid flags tell */
    char governor[24];
    double load; /* runnable tasks, one-minute average */
    char commit[64];
    char build[160]; /* "gcc 12.2.0, Release, -O3 -DNDEBUG" */
    int pair[2];     /* processors of the client and of the engine */
    bool fifo;       /* SCHED_FIFO is on */
    cpu_set_t allowed;
};

/* `cpus`: "A,B" or NULL. LLM_ERR_INVALID: a processor that this process may not use. */
enum llm_status machine_open(struct machine *machine, const char *cpus, bool fifo,
                             struct llm_error *error) LLM_MUST_CHECK;
void machine_print(const struct machine *machine, FILE *file);
void machine_json(const struct machine *machine, struct json_out *json); /* "machine": {...} */

/* Put a thread (0: this one) on processor pair[side]; with machine->fifo also under SCHED_FIFO. */
void machine_pin(const struct machine *machine, pid_t thread, int side);
/* Put it on both, under SCHED_FIFO like the others. */
void machine_pin_both(const struct machine *machine, pid_t thread);
/* Put it on every processor this process may use but pair[side]. */
void machine_avoid(const struct machine *machine, pid_t thread, int side);
/* To the hard limit: each connection takes a few descriptors on either side. */
void machine_raise_descriptors(void);

/* ---- What a process used --------------------------------------------------------------------------- */

/* Processor time of all its threads so far; 0: it is gone. */
uint64_t process_cpu_ns(pid_t pid);
/* Context switches of all its threads, wanted and forced. */
uint64_t process_switches(pid_t pid);

struct process_memory {
    uint64_t rss_bytes, pss_bytes; /* pss 0: not readable (another user's, or not dumpable) */
    uint64_t shared_bytes;         /* of rss: shared memory */
};
struct process_memory process_memory(pid_t pid);

/* Call for each thread of `pid` with its id, name and processor time. */
typedef void thread_fn(void *self, pid_t thread, const char *name, uint64_t cpu_ns);
void process_threads(pid_t pid, thread_fn *each, void *self);

#endif
