/* How a connection's threads wait: asleep in the kernel, or looking again and again. */
#include "client/connection.h"

#include <sched.h>

#include "shm/clock.h"
#include "shm/fence.h"
#include "shm/wait.h"

/* Nobody wakes us when the keeper dies: threads sleep in slices and look at the socket between them. */
#define LIVENESS_NS    (250 * LLM_NS_PER_MS)
#define SPINS_PER_LOOK 4096 /* some tens of microseconds */

enum llm_status llm_connection_own(const struct llm_connection *connection, struct llm_error *error)
{
    if (!llm_fork_guard_inherited(&connection->guard))
        return LLM_OK;
    return llm_fail(error, LLM_ERR_FORKED,
                    "this handle belongs to the parent process: connect again in the child");
}

enum llm_status llm_connection_alive(struct llm_connection *connection, struct llm_error *error)
{
    uint64_t now = llm_now_ns();
    uint64_t next = atomic_load_explicit(&connection->next_liveness_ns, memory_order_relaxed);
    bool gone = atomic_load_explicit(&connection->link.gone, memory_order_relaxed);
    if (!gone && (now < next || !atomic_compare_exchange_strong_explicit(
                                    &connection->next_liveness_ns, &next, now + LIVENESS_NS,
                                    memory_order_relaxed, memory_order_relaxed)))
        return LLM_OK; /* not yet, or another thread looks */
    return llm_keeper_link_check(&connection->link, error);
}

static void sleep_slice(struct llm_connection *connection, uint32_t word, uint64_t remaining_ns)
{
    llm_client_sleep(connection->up, connection->down, word,
                     remaining_ns < LIVENESS_NS ? remaining_ns : LIVENESS_NS);
}

/* Until the next hint, or for SPINS_PER_LOOK turns; then others may have the core. */
static void spin_slice(const struct llm_connection *connection, uint32_t word)
{
    for (int turn = 0; turn < SPINS_PER_LOOK; turn++) {
        if (llm_client_sleep_word(connection->down) != word)
            return;
        llm_spin_pause();
    }
    sched_yield();
}

enum llm_status llm_connection_wait(struct llm_connection *connection, llm_ready_fn *ready,
                                    void *what, uint64_t deadline_ns, struct llm_error *error)
{
    for (;;) {
        uint32_t word = llm_client_sleep_word(connection->down);
        enum llm_status status = ready(what, error);
        if (status == LLM_ERR_TIMEOUT)
            status = llm_connection_alive(connection, error);
        else
            return status;
        if (status != LLM_OK)
            return status;
        uint64_t remaining_ns = llm_remaining_ns(deadline_ns);
        if (remaining_ns == 0)
            return llm_fail(error, LLM_ERR_TIMEOUT, "nothing has arrived in time");
        if (connection->wait == LLM_WAIT_SPIN)
            spin_slice(connection, word);
        else
            sleep_slice(connection, word, remaining_ns);
    }
}
