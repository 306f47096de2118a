#include "shm/layout.h"

static bool power_of_two_within(uint32_t value, uint32_t least, uint32_t most)
{
    return value >= least && value <= most && (value & (value - 1)) == 0;
}

static size_t align_up(size_t value, size_t alignment)
{
    return (value + alignment - 1) / alignment * alignment;
}

bool llm_geometry_valid(const struct llm_geometry *geometry)
{
    return power_of_two_within(geometry->queue_entries, 8, 4096) &&
           power_of_two_within(geometry->event_entries, 8, 65536) && geometry->stream_slots >= 1 &&
           geometry->stream_slots <= 4096 && geometry->log_words >= 1024 &&
           geometry->log_words <= UINT32_C(1) << 28 && geometry->arena_bytes >= LLM_PAGE_BYTES &&
           geometry->arena_bytes <= UINT32_C(1) << 30 &&
           geometry->arena_bytes % LLM_PAGE_BYTES == 0 && geometry->reserved == 0;
}

/* The first page holds the header alone; parts that different threads write start on their own line. */
struct llm_up_map llm_up_map(const struct llm_geometry *geometry)
{
    struct llm_up_map map = {.queue_offset = LLM_PAGE_BYTES};
    map.cancel_offset = map.queue_offset + geometry->queue_entries * sizeof(struct llm_submission);
    map.arena_offset =
        align_up(map.cancel_offset + geometry->stream_slots * sizeof(uint32_t), LLM_PAGE_BYTES);
    map.total_bytes = map.arena_offset + geometry->arena_bytes;
    return map;
}

struct llm_down_map llm_down_map(const struct llm_geometry *geometry)
{
    struct llm_down_map map = {.stream_offset = LLM_PAGE_BYTES};
    map.note_offset = map.stream_offset + geometry->stream_slots * sizeof(struct llm_stream_record);
    map.event_offset = align_up(map.note_offset + (size_t)geometry->stream_slots * LLM_NOTE_BYTES,
                                LLM_CACHE_LINE_BYTES);
    map.log_offset =
        align_up(map.event_offset + geometry->event_entries * sizeof(uint64_t), LLM_PAGE_BYTES);
    map.total_bytes =
        align_up(map.log_offset + (size_t)geometry->log_words * sizeof(uint32_t), LLM_PAGE_BYTES);
    return map;
}
