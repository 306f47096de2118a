/*
 * genmc_event.c - the real shm/event.c: a reader that may be lapped.
 *
 * Runs
 *   holds  -
 *   fails  WEAKEN_RELEASE   the overwritten entry does not carry the tail
 *   fails  WEAKEN_ACQUIRE   the tail read again is older than the entry
 */
#include "tests/proof/genmc.h"

#include "shm/event.c"

#define ENTRIES 2u
#define HINTS   3u

static struct llm_down_header down;
static _Atomic uint64_t hints[ENTRIES];

static void *write_hints(void *unused)
{
    struct llm_event_writer writer = {.down = &down, .entries = hints, .entry_count = ENTRIES};
    for (uint32_t i = 1; i <= HINTS; i++)
        llm_event_push(&writer, i, 10 + i);
    return unused;
}

static void *read_hints(void *unused)
{
    struct llm_event_reader reader = {.down = &down, .entries = hints, .entry_count = ENTRIES};
    for (int i = 0; i < 2; i++) {
        uint32_t slot = 0, epoch = 0;
        uint64_t position = reader.next;
        if (llm_event_take(&reader, &slot, &epoch) == LLM_OK)
            assert(slot == position + 1 && epoch == 10 + slot);
    }
    return unused;
}

int main(void)
{
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, write_hints, NULL);
    pthread_create(&threads[1], NULL, read_hints, NULL);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    return 0;
}
