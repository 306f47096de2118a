#include "daemon/engine/owners.h"

#include <stdbool.h>

#include "shm/check.h"

static bool is_free(const struct owner *owner)
{
    return owner->contexts == 0 && owner->tokens == 0 && owner->pinned_blocks == 0;
}

uint32_t owners_row(struct owners *owners, uint32_t uid)
{
    uint32_t free_row = owners->count;
    while (owners->end > 0 && is_free(&owners->rows[owners->end - 1]))
        owners->end--;
    for (uint32_t row = 0; row < owners->end; row++) {
        if (is_free(&owners->rows[row]))
            free_row = row < free_row ? row : free_row;
        else if (owners->rows[row].uid == uid)
            return row;
    }
    uint32_t row = free_row < owners->end ? free_row : owners->end++;
    CHECK(row < owners->count);
    owners->rows[row] = (struct owner){.uid = uid};
    return row;
}

void owners_reset(struct owners *owners)
{
    owners->end = 0;
}
