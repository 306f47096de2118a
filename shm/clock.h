/*
 * clock.h - the clocks, in nanoseconds.
 *
 * Idea     Everything that is compared (deadlines, time stamps in shared memory) is CLOCK_MONOTONIC, which
 *          all processes of one machine share. CLOCK_REALTIME is for people: logs and the status file. Leases run
 *          on CLOCK_BOOTTIME, which a suspended machine does not stop.
 * See      shm/wait.h for deadlines.
 */
#ifndef LLM_SHM_CLOCK_H
#define LLM_SHM_CLOCK_H

#include <stdint.h>
#include <time.h>

#define LLM_NS_PER_US UINT64_C(1000)
#define LLM_NS_PER_MS UINT64_C(1000000)
#define LLM_NS_PER_S  UINT64_C(1000000000)

static inline uint64_t llm_clock_read_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * LLM_NS_PER_S + (uint64_t)now.tv_nsec;
}

static inline uint64_t llm_now_ns(void)
{
    return llm_clock_read_ns(CLOCK_MONOTONIC);
}

static inline uint64_t llm_wall_ns(void)
{
    return llm_clock_read_ns(CLOCK_REALTIME);
}

static inline uint64_t llm_boot_ns(void)
{
    return llm_clock_read_ns(CLOCK_BOOTTIME);
}

/* The moment `timeout_ns` from now. UINT64_MAX, and whatever lies beyond it, is "never". */
static inline uint64_t llm_deadline_ns(uint64_t timeout_ns)
{
    uint64_t now = llm_now_ns();
    return timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}

/* How long until `deadline_ns`; 0 when it has passed, UINT64_MAX for "never". */
static inline uint64_t llm_remaining_ns(uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX)
        return UINT64_MAX;
    uint64_t now = llm_now_ns();
    return deadline_ns > now ? deadline_ns - now : 0;
}

#endif
