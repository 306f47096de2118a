/*
 * genmc_queue.c - the real shm/queue.c: two producers and the consumer.
 *
 * Runs
 *   holds  -                the first lap
 *   holds  LAP              entries that are used again
 *   fails  WEAKEN_RELEASE   the stamp does not carry the entry
 *   fails  WEAKEN_ACQUIRE   the stamp is seen, the entry is not
 */
#include "tests/proof/genmc.h"

#define memcpy copy_words
#include "shm/queue.c"
#undef memcpy

#define ENTRIES 2u

/* As llm_up_map() lays them out, but small. */
static struct llm_up_header up;
static struct llm_down_header down;
static struct llm_submission entries[ENTRIES];

/* A submission as GenMC likes it: words of one size. `deadline_ns` is 5, `argument` 6. */
#define WORDS (sizeof(struct llm_submission) / sizeof(uint64_t))

static struct llm_queue_producer producer_of(void)
{
    return (struct llm_queue_producer){
        .up = &up, .down = &down, .entries = entries, .entry_count = ENTRIES};
}

static void push(uint64_t number)
{
    struct llm_queue_producer producer = producer_of();
    uint64_t words[WORDS];
    for (size_t i = 0; i < WORDS; i++)
        words[i] = i == 5 ? ~number : number;
    uint64_t position;
    enum llm_status status = llm_queue_push(&producer, (const void *)words, &position);
    assert(status == LLM_OK || status == LLM_ERR_BUSY); /* nobody lies here */
}

static void *first(void *unused)
{
    push(1);
#ifdef LAP
    push(2);
#endif
    return unused;
}

static void *second(void *unused)
{
    push(3);
    return unused;
}

static void *consume(void *unused)
{
    struct llm_queue_consumer consumer = {
        .up = &up, .entries = entries, .down = &down, .entry_count = ENTRIES};
    uint64_t last = 0;
    for (int i = 0; i < 3; i++) {
        uint64_t words[WORDS];
        enum llm_status status = llm_queue_peek(&consumer, (void *)words);
        assert(status == LLM_OK || status == LLM_ERR_TIMEOUT);
        if (status != LLM_OK)
            continue;
        assert(words[6] >= 1 && words[6] <= 3);
        assert(words[5] == ~words[6]);
        assert(words[6] != last);
        last = words[6];
        llm_queue_advance(&consumer);
    }
    return unused;
}

int main(void)
{
    pthread_t threads[3];
    pthread_create(&threads[0], NULL, first, NULL);
    pthread_create(&threads[1], NULL, second, NULL);
    pthread_create(&threads[2], NULL, consume, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
