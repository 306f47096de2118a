#include "shm/event.h"

#include "shm/crash_point.h"

void llm_event_writer_init(struct llm_event_writer *writer, void *down,
                           const struct llm_geometry *geometry)
{
    *writer = (struct llm_event_writer){
        .down = down,
        .entries = (void *)((char *)down + llm_down_map(geometry).event_offset),
        .entry_count = geometry->event_entries,
    };
    writer->tail = atomic_load_explicit(&writer->down->event_tail, memory_order_relaxed);
    writer->announced = writer->tail;
}

/* Hints that may lie in the ring beyond event_tail. */
static uint64_t batch_max(uint32_t entry_count)
{
    return entry_count / 4;
}

/* The entry's release pairs with the acquire of the entry in llm_event_take(): whoever sees it overwritten also
 * sees the tail that stood before. */
void llm_event_push(struct llm_event_writer *writer, uint32_t slot, uint32_t epoch)
{
    atomic_store_explicit(&writer->entries[writer->tail & (writer->entry_count - 1)],
                          llm_event_pack(slot, epoch), memory_order_release);
    CRASH_POINT(event_entry);
    writer->tail++;
    if (writer->tail - writer->announced >= batch_max(writer->entry_count))
        llm_event_announce(writer);
}

/* The tail's release pairs with the acquires of the tail in llm_event_take(). The word's release pairs with
 * llm_client_sleep_word() in wait.h: who sees it moved sees the records. */
void llm_event_announce(struct llm_event_writer *writer)
{
    if (writer->announced == writer->tail)
        return;
    writer->announced = writer->tail;
    atomic_store_explicit(&writer->down->event_tail, writer->tail, memory_order_release);
    CRASH_POINT(event_tail);
    atomic_store_explicit(&writer->down->event_word, (uint32_t)writer->tail, memory_order_release);
    CRASH_POINT(event_word);
}

void llm_event_lapse(struct llm_event_writer *writer)
{
    writer->tail += writer->entry_count;
    llm_event_announce(writer);
}

void llm_event_reader_init(struct llm_event_reader *reader, const void *down,
                           const struct llm_geometry *geometry)
{
    *reader = (struct llm_event_reader){
        .down = down,
        .entries = (const void *)((const char *)down + llm_down_map(geometry).event_offset),
        .entry_count = geometry->event_entries,
    };
    reader->next = atomic_load_explicit(&reader->down->event_tail, memory_order_acquire);
}

/* The entry of position `next` starts being overwritten when the writer stands at next + entry_count, and the writer is
 * less than a batch ahead of the tail that it announced; a hint counts only if the tail, read after it, is still short
 * of that. */
enum llm_status llm_event_take(struct llm_event_reader *reader, uint32_t *out_slot,
                               uint32_t *out_epoch)
{
    uint64_t tail = atomic_load_explicit(&reader->down->event_tail, memory_order_acquire);
    if (tail == reader->next)
        return LLM_ERR_TIMEOUT;
    uint64_t hint = atomic_load_explicit(&reader->entries[reader->next & (reader->entry_count - 1)],
                                         memory_order_acquire);
    tail = atomic_load_explicit(&reader->down->event_tail, memory_order_acquire);
    if (tail - reader->next > reader->entry_count - batch_max(reader->entry_count)) {
        reader->next = tail;
        return LLM_ERR_LIMIT;
    }
    reader->next++;
    *out_slot = (uint32_t)hint;
    *out_epoch = (uint32_t)(hint >> 32);
    return LLM_OK;
}
