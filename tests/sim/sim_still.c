#include "tests/sim/sim_still.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/core/core_state.h"
#include "shm/check.h"

void sim_still_open(struct sim_still *still, const void *memory, size_t bytes)
{
    *still = (struct sim_still){.memory = memory, .copy = malloc(bytes), .bytes = bytes};
    CHECK(still->copy != NULL);
}

void sim_still_close(struct sim_still *still)
{
    free(still->copy);
    *still = (struct sim_still){.memory = NULL};
}

void sim_still_checked(struct sim_still *still)
{
    still->checked = true;
    still->noted = false;
}

void sim_still_forget(struct sim_still *still)
{
    still->checked = false;
    still->noted = false;
}

void sim_still_expect(struct sim_still *still)
{
    if (!still->checked || still->noted)
        return;
    memcpy(still->copy, still->memory, still->bytes);
    still->noted = true;
}

static size_t place(const struct sim_still *still, const void *part)
{
    return (size_t)((const unsigned char *)part - still->memory);
}

static bool same(const struct sim_still *still, size_t from, size_t to)
{
    return memcmp(still->memory + from, still->copy + from, to - from) == 0;
}

bool sim_still_holds(const struct sim_still *still, const struct core *core, uint32_t slot)
{
    const struct request *record = &core->requests[slot];
    size_t effects = place(still, &core->effects), at = place(still, record);
    return still->noted && record->state == REQUEST_FREE && same(still, 0, effects) &&
           same(still, effects + sizeof core->effects, at) &&
           same(still, at + sizeof *record, still->bytes);
}
