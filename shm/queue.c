#include "shm/queue.h"

#include <string.h>

#include "shm/crash_point.h"
#include "shm/peer_memory.h"

/* ---- Client side ---------------------------------------------------------------------------------- */

void llm_queue_producer_init(struct llm_queue_producer *producer, void *up, const void *down,
                             const struct llm_geometry *geometry)
{
    *producer = (struct llm_queue_producer){
        .up = up,
        .down = down,
        .entries = (void *)((char *)up + llm_up_map(geometry).queue_offset),
        .entry_count = geometry->queue_entries,
    };
}

/* Claim the next position. Head is read before tail: it is then never ahead of an honest tail, and a fill
 * above the capacity means either that head has moved on meanwhile (look again) or that it is nonsense.
 * The acquire of head pairs with the release in llm_queue_advance(): the consumer is done with the entry that
 * the claim lets us overwrite. The acquire of tail pairs with the release of the claim itself: who sees a tail
 * also sees the head that allowed it, so the second look cannot find the old one again (tests/proof/queue.pml,
 * CLAIM_RELAXED). */
static enum llm_status claim(struct llm_queue_producer *producer, uint64_t *out_position)
{
    for (;;) {
        uint64_t head = atomic_load_explicit(&producer->down->queue_head, memory_order_acquire);
        uint64_t tail = atomic_load_explicit(&producer->up->queue_tail, memory_order_acquire);
        uint64_t fill = tail - head;
        if (fill >= producer->entry_count) {
            if (head != atomic_load_explicit(&producer->down->queue_head, memory_order_acquire))
                continue;
            return fill == producer->entry_count ? LLM_ERR_BUSY : LLM_ERR_PEER;
        }
        if (atomic_compare_exchange_weak_explicit(&producer->up->queue_tail, &tail, tail + 1,
                                                  memory_order_release, memory_order_relaxed)) {
            *out_position = tail;
            return LLM_OK;
        }
    }
}

static void fill_entry(struct llm_submission *entry, const struct llm_submission *submission)
{
    const size_t stamp_bytes = sizeof entry->stamp;
    memcpy((char *)entry + stamp_bytes, (const char *)submission + stamp_bytes,
           sizeof *entry - stamp_bytes);
}

enum llm_status llm_queue_push(struct llm_queue_producer *producer,
                               const struct llm_submission *submission, uint64_t *out_position)
{
    uint64_t position;
    enum llm_status status = claim(producer, &position);
    if (status != LLM_OK)
        return status;
    CRASH_POINT(queue_claim);
    struct llm_submission *entry = &producer->entries[position & (producer->entry_count - 1)];
    fill_entry(entry, submission);
    CRASH_POINT(queue_entry);
    /* Pairs with the acquire in llm_queue_peek(): entry and body become visible before the stamp. */
    atomic_store_explicit(&entry->stamp, position + 1, memory_order_release);
    CRASH_POINT(queue_publish);
    *out_position = position;
    return LLM_OK;
}

bool llm_queue_taken(const struct llm_queue_producer *producer, uint64_t position)
{
    /* Pairs with the release in llm_queue_advance(): the engine has finished reading entry and body. */
    return atomic_load_explicit(&producer->down->queue_head, memory_order_acquire) > position;
}

/* ---- Engine side ---------------------------------------------------------------------------------- */

void llm_queue_consumer_init(struct llm_queue_consumer *consumer, const void *up, void *down,
                             const struct llm_geometry *geometry, uint64_t head)
{
    *consumer = (struct llm_queue_consumer){
        .up = up,
        .entries = (const void *)((const char *)up + llm_up_map(geometry).queue_offset),
        .down = down,
        .entry_count = geometry->queue_entries,
        .head = head,
    };
    atomic_store_explicit(&consumer->down->queue_head, head, memory_order_release);
    CRASH_POINT(queue_resumed);
}

/* What an honest producer leaves in the entry of `position` until it publishes it: the stamp of the lap
 * before, or zero in the first lap. */
static uint64_t stamp_before(uint64_t position, uint32_t entry_count)
{
    return position < entry_count ? 0 : position - entry_count + 1;
}

static const struct llm_submission *entry_at_head(const struct llm_queue_consumer *consumer)
{
    return &consumer->entries[consumer->head & (consumer->entry_count - 1)];
}

enum llm_status llm_queue_look(const struct llm_queue_consumer *consumer)
{
    uint64_t head = consumer->head;
    /* Relaxed: an idle connection costs this one load. A claim seen late is a claim seen on the next pass,
     * or by the engine's re-check after its fence when it goes to sleep (wait.h). */
    uint64_t tail = llm_peer_poll64(&consumer->up->queue_tail);
    if (tail == head)
        return LLM_ERR_TIMEOUT;
    if (tail - head > consumer->entry_count)
        return LLM_ERR_PEER;
    /* Pairs with the release in llm_queue_push(). */
    uint64_t stamp = llm_peer_poll64_acquire(&entry_at_head(consumer)->stamp);
    if (stamp == head + 1)
        return LLM_OK;
    return stamp == stamp_before(head, consumer->entry_count) ? LLM_ERR_TIMEOUT : LLM_ERR_PEER;
}

enum llm_status llm_queue_peek(const struct llm_queue_consumer *consumer,
                               struct llm_submission *out_submission)
{
    enum llm_status status = llm_queue_look(consumer);
    if (status != LLM_OK)
        return status;
    /* Copy, then look: the client can still write to its memory. The stamp was polled already. */
    const size_t stamp_bytes = sizeof out_submission->stamp;
    atomic_init(&out_submission->stamp, consumer->head + 1);
    llm_peer_copy((char *)out_submission + stamp_bytes,
                  (const char *)entry_at_head(consumer) + stamp_bytes,
                  sizeof *out_submission - stamp_bytes);
    return LLM_OK;
}

void llm_queue_advance(struct llm_queue_consumer *consumer)
{
    consumer->head++;
    llm_peer_given_back(consumer->up);
    /* Pairs with the acquires in claim() and llm_queue_taken(): our reads come before the client's next
     * writes to the same entry and body. */
    atomic_store_explicit(&consumer->down->queue_head, consumer->head, memory_order_release);
    CRASH_POINT(queue_head);
}
