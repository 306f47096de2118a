#include "kernels/cpu/pool.h"

#include "shm/check.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* About 50 us of looking: longer than the gaps inside a step, shorter than anybody's notice. */
#define SPIN_COUNT 2000

static void look_again_soon(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* Wait until *word is no longer `seen`. The sleeper raises `flag` before its last look, the waker changes
 * *word before it looks at the flag, both seq_cst: one of the two notices. */
static uint32_t wait_for_change(const struct cpu_pool *pool, _Atomic uint32_t *word, uint32_t seen,
                                _Atomic uint32_t *flag)
{
    uint32_t now;
    for (uint32_t i = 0; i < pool->spin_count; i++) {
        now = atomic_load_explicit(word, memory_order_acquire);
        if (now != seen)
            return now;
        look_again_soon();
    }
    atomic_fetch_add(flag, 1);
    while ((now = atomic_load(word)) == seen)
        futex_wait(word, seen);
    atomic_fetch_sub(flag, 1);
    return now;
}

static void finish_share(struct cpu_pool *pool)
{
    /* Releases this member's results to the caller, which acquires them by reading `working`. */
    if (atomic_fetch_sub(&pool->working, 1) == 1 && atomic_load(&pool->caller_sleeping))
        futex_wake(&pool->working, 1);
}

static void *member_main(void *argument)
{
    struct cpu_pool_member *member = argument;
    struct cpu_pool *pool = member->pool;
    uint32_t seen = 0;
    for (;;) {
        seen = wait_for_change(pool, &pool->job_count, seen, &pool->sleeping);
        if (atomic_load_explicit(&pool->closing, memory_order_relaxed))
            return NULL;
        pool->job(pool->argument, member->index, pool->thread_count);
        finish_share(pool);
    }
}

static void announce(struct cpu_pool *pool)
{
    /* Releases job, argument, working and closing to the members. */
    atomic_fetch_add(&pool->job_count, 1);
    if (atomic_load(&pool->sleeping))
        futex_wake(&pool->job_count, INT_MAX);
}

void cpu_pool_run(struct cpu_pool *pool, cpu_pool_job job, void *argument)
{
    CHECK(atomic_load_explicit(&pool->working, memory_order_relaxed) == 0);
    if (pool->thread_count == 1) {
        job(argument, 0, 1);
        return;
    }
    pool->job = job;
    pool->argument = argument;
    atomic_store_explicit(&pool->working, pool->thread_count - 1, memory_order_relaxed);
    announce(pool);
    job(argument, 0, pool->thread_count);
    uint32_t left = atomic_load_explicit(&pool->working, memory_order_acquire);
    while (left)
        left = wait_for_change(pool, &pool->working, left, &pool->caller_sleeping);
}

uint32_t cpu_pool_processors(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (uint32_t)CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more processors than cpu_set_t has bits */
    return online > 0 ? (uint32_t)online : 1;
}

enum llm_status cpu_pool_open(struct cpu_pool *pool, uint32_t thread_count, struct llm_error *error)
{
    CHECK(thread_count >= 1);
    memset(pool, 0, sizeof *pool);
    pool->members = calloc(thread_count, sizeof *pool->members);
    if (!pool->members)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a pool of %u threads", thread_count);
    pool->spin_count = thread_count <= cpu_pool_processors() ? SPIN_COUNT : 0;
    /* The members read thread_count only in a job, and no job runs before the last one has started. */
    for (pool->thread_count = 1; pool->thread_count < thread_count; pool->thread_count++) {
        struct cpu_pool_member *member = &pool->members[pool->thread_count];
        member->pool = pool;
        member->index = pool->thread_count;
        int failure = pthread_create(&member->thread, NULL, member_main, member);
        if (failure) {
            uint32_t started = pool->thread_count;
            cpu_pool_close(pool);
            return llm_fail_errno(error, LLM_ERR_SYSTEM, failure,
                                  "thread %u of %u could not be started", started, thread_count);
        }
    }
    return LLM_OK;
}

void cpu_pool_close(struct cpu_pool *pool)
{
    atomic_store_explicit(&pool->closing, 1, memory_order_relaxed);
    announce(pool);
    for (uint32_t i = 1; i < pool->thread_count; i++)
        pthread_join(pool->members[i].thread, NULL);
    free(pool->members);
    memset(pool, 0, sizeof *pool);
}
