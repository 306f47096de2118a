#include "client/range_set.h"

#include <string.h>

#include "shm/check.h"

void llm_range_set_init(struct llm_range_set *set, struct llm_range *ranges, uint32_t range_max,
                        uint32_t total, uint32_t granule)
{
    *set = (struct llm_range_set){.ranges = ranges,
                                  .range_max = range_max,
                                  .total = total & ~(granule - 1),
                                  .granule = granule};
}

bool llm_range_set_take(struct llm_range_set *set, uint32_t size, uint32_t *out_start)
{
    if (size == 0) {
        *out_start = 0;
        return true;
    }
    if (size > set->total || set->range_count == set->range_max)
        return false;
    size = (size + set->granule - 1) & ~(set->granule - 1);
    uint32_t start = 0, at = 0;
    while (at < set->range_count && set->ranges[at].start - start < size)
        start = set->ranges[at++].end;
    if (set->total - start < size)
        return false;
    memmove(&set->ranges[at + 1], &set->ranges[at],
            (set->range_count - at) * sizeof set->ranges[0]);
    set->ranges[at] = (struct llm_range){start, start + size};
    set->range_count++;
    CHECK_SLOW(llm_range_set_sane(set));
    *out_start = start;
    return true;
}

void llm_range_set_drop(struct llm_range_set *set, uint32_t start, uint32_t size)
{
    if (size == 0)
        return;
    uint32_t at = 0;
    while (at < set->range_count && set->ranges[at].start != start)
        at++;
    CHECK(at < set->range_count);
    CHECK(set->ranges[at].end - start - size < set->granule);
    set->range_count--;
    memmove(&set->ranges[at], &set->ranges[at + 1],
            (set->range_count - at) * sizeof set->ranges[0]);
    CHECK_SLOW(llm_range_set_sane(set));
}

uint32_t llm_range_set_used(const struct llm_range_set *set)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < set->range_count; i++)
        used += set->ranges[i].end - set->ranges[i].start;
    return used;
}

bool llm_range_set_sane(const struct llm_range_set *set)
{
    uint32_t end = 0;
    for (uint32_t i = 0; i < set->range_count; i++) {
        if (set->ranges[i].start < end || set->ranges[i].end <= set->ranges[i].start)
            return false;
        end = set->ranges[i].end;
    }
    return end <= set->total;
}
