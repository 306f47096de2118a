#include "daemon/engine/egress.h"

#include "daemon/engine/connection.h"
#include "shm/fence.h"
#include "shm/peer_memory.h"

static void wake(struct egress *egress, uint32_t slot)
{
    uint32_t calls = llm_client_wake(&egress->connections[slot].waker);
    if (calls > 0)
        atomic_fetch_add_explicit(egress->wake_counter, calls, memory_order_relaxed);
}

/* ---- The thread ------------------------------------------------------------------------------------ */

static void wake_pending(struct egress *egress, uint32_t word)
{
    uint64_t bits;
    while ((bits = atomic_load_explicit(&egress->pending[word], memory_order_acquire)) != 0) {
        uint64_t bit = bits & -bits;
        pthread_mutex_lock(&egress->lock);
        /* Cleared before waking: what is published from now on marks it again. egress_forget() may have
         * cleared it while we waited for the lock. */
        if (atomic_fetch_and(&egress->pending[word], ~bit) & bit)
            wake(egress, word * 64 + (uint32_t)__builtin_ctzll(bit));
        pthread_mutex_unlock(&egress->lock);
    }
}

static void *serve(void *self)
{
    struct egress *egress = self;
    while (!atomic_load(&egress->ending)) {
        if (sem_wait(&egress->posts) != 0)
            continue;                         /* a signal */
        atomic_store(&egress->posted, false); /* before looking: a later post will be seen */
        for (uint32_t word = 0; word < EGRESS_WORDS; word++)
            wake_pending(egress, word);
    }
    return NULL;
}

enum llm_status egress_open(struct egress *egress, struct connection *connections,
                            _Atomic uint64_t *wake_counter, struct llm_error *error)
{
    egress->connections = connections;
    egress->wake_counter = wake_counter;
    sem_init(&egress->posts, 0, 0);
    pthread_mutex_init(&egress->lock, NULL);
    int number = pthread_create(&egress->thread, NULL, serve, egress);
    if (number != 0) {
        egress->connections = NULL;
        return llm_fail_errno(error, LLM_ERR_SYSTEM, number, "cannot start the egress thread");
    }
    pthread_setname_np(egress->thread, "llmd-egress");
    return LLM_OK;
}

void egress_close(struct egress *egress)
{
    if (!egress->connections)
        return;
    atomic_store(&egress->ending, true);
    sem_post(&egress->posts);
    pthread_join(egress->thread, NULL);
    sem_destroy(&egress->posts);
    pthread_mutex_destroy(&egress->lock);
}

/* ---- The engine thread ----------------------------------------------------------------------------- */

void egress_mark(struct egress *egress, uint32_t connection_slot)
{
    uint64_t bit = UINT64_C(1) << connection_slot % 64;
    uint32_t word = connection_slot / 64;
    egress->marked_count += (egress->marked[word] & bit) == 0;
    egress->marked[word] |= bit;
    if (word >= egress->marked_end)
        egress->marked_end = word + 1;
}

static bool wants_waking(struct connection *connection)
{
    const struct llm_up_header *up = connection_up(connection);
    uint32_t arms = llm_peer_poll32(&up->bell_arms);
    bool wants = llm_peer_poll32(&up->sleepers) != 0 || arms != connection->bell_arms_seen;
    connection->bell_arms_seen = arms;
    return wants;
}

/* Leave the marks of those who sleep or wait for a bell. Returns how many. */
static uint32_t drop_the_awake(struct egress *egress)
{
    uint32_t count = 0;
    /* Pairs with the fences in llm_client_sleep() and llm_client_arm_bell(). */
    llm_fence_full();
    for (uint32_t word = 0; word < egress->marked_end; word++)
        for (uint64_t bits = egress->marked[word]; bits != 0; bits &= bits - 1) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
            if (wants_waking(&egress->connections[slot]))
                count++;
            else
                egress->marked[word] &= ~(bits & -bits);
        }
    return count;
}

static void wake_here(struct egress *egress, uint32_t word)
{
    pthread_mutex_lock(&egress->lock);
    for (uint64_t bits = egress->marked[word]; bits != 0; bits &= bits - 1)
        wake(egress, word * 64 + (uint32_t)__builtin_ctzll(bits));
    pthread_mutex_unlock(&egress->lock);
}

static void hand_over(struct egress *egress, uint32_t word)
{
    /* Pairs with the acquire in wake_pending(): what was published is seen by who wakes. */
    atomic_fetch_or_explicit(&egress->pending[word], egress->marked[word], memory_order_release);
}

void egress_flush(struct egress *egress, bool idle)
{
    if (egress->marked_count == 0)
        return;
    uint32_t count = drop_the_awake(egress);
    bool here = idle || count == 1;
    for (uint32_t word = 0; word < egress->marked_end; word++) {
        if (egress->marked[word] != 0 && here)
            wake_here(egress, word);
        else if (egress->marked[word] != 0)
            hand_over(egress, word);
        egress->marked[word] = 0;
    }
    egress->marked_count = 0;
    egress->marked_end = 0;
    if (count > 0 && !here && !atomic_exchange(&egress->posted, true))
        sem_post(&egress->posts);
}

void egress_forget(struct egress *egress, uint32_t connection_slot)
{
    uint64_t bit = UINT64_C(1) << connection_slot % 64;
    uint32_t word = connection_slot / 64;
    egress->marked_count -= (egress->marked[word] & bit) != 0;
    egress->marked[word] &= ~bit;
    pthread_mutex_lock(&egress->lock); /* a wake-up of it that has begun ends first */
    atomic_fetch_and(&egress->pending[word], ~bit);
    pthread_mutex_unlock(&egress->lock);
}
