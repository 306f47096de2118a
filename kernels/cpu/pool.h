/*
 * pool.h - a few threads that carry out one job at a time together.
 *
 * Idea     cpu_pool_run() hands the same function to every member; the caller is member 0. Each member takes
 *          its own fixed share, found from its number alone: nothing is stolen, so who computes what is the
 *          same in every run. Jobs follow each other within microseconds during a step, so a member looks for
 *          the next one for a short while before it sleeps; an idle pool costs nothing.
 * Words    `job_count` is the number of jobs ever started: a member that sees it change takes part in that
 *          job. `working` counts the members that have not finished it; the last one wakes the caller.
 *          Both words are futexes. A flag beside each says whether anybody sleeps on it.
 * Owner    The stream that opened it. All memory is taken in cpu_pool_open().
 * Threads  One thread runs jobs and closes; a job must not run another.
 * See      tests/kernels/test_pool.c.
 */
#ifndef LLM_KERNELS_CPU_POOL_H
#define LLM_KERNELS_CPU_POOL_H

#include "shm/status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct cpu_pool;

struct cpu_pool_member {
    struct cpu_pool *pool;
    uint32_t index;
    pthread_t thread;
};

/* The share of one member: member `index` of `count`. */
typedef void (*cpu_pool_job)(void *argument, uint32_t index, uint32_t count);

struct cpu_pool {
    /* constant after open */
    uint32_t thread_count;
    uint32_t spin_count; /* looks before sleeping; 0 when threads outnumber processors */
    struct cpu_pool_member *members; /* [thread_count]; [0], the caller, has no thread */
    /* caller; read by members after they see job_count change */
    cpu_pool_job job;
    void *argument;
    _Atomic uint32_t job_count;
    _Atomic uint32_t closing;
    /* members */
    _Atomic uint32_t sleeping;        /* members asleep, or about to be, on job_count */
    _Atomic uint32_t working;         /* members still at the current job */
    _Atomic uint32_t caller_sleeping; /* the caller is asleep, or about to be, on working */
};

/*
 * Start thread_count - 1 threads beside the caller's.
 *
 *   thread_count  1..KERNEL_THREADS_MAX
 *   returns       LLM_OK
 *                 LLM_ERR_MEMORY  no memory for the members
 *                 LLM_ERR_SYSTEM  a thread could not be started; none is left running
 */
LLM_MUST_CHECK enum llm_status cpu_pool_open(struct cpu_pool *pool, uint32_t thread_count,
                                             struct llm_error *error);
void cpu_pool_close(struct cpu_pool *pool);

/* Run job(argument, index, thread_count) once per member and return when all have finished. */
void cpu_pool_run(struct cpu_pool *pool, cpu_pool_job job, void *argument);

/* Processors this process may run on, at least 1. */
uint32_t cpu_pool_processors(void);

#endif
