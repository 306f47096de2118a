/*
 * genmc_stream.c - the real shm/stream.c and shm/event.c: a reader beside the writer, across two answers.
 *
 * Runs
 *   holds  -
 *   holds  AGAIN            the writer's engine died; another one opens the answer again with its token
 *   fails  WEAKEN_RELEASE   the commit word does not carry the log
 *   fails  WEAKEN_ACQUIRE   the commit word is seen, the log is not
 */
#include "tests/proof/genmc.h"

#define LLM_SHM_CHECK_H
#define CHECK(condition) assert(condition)

#define strncpy(to, from, bytes) ((void)0) /* the sentence: ordered like the status beside it */
#include "shm/event.c"
#include "shm/stream.c"
#undef strncpy

static struct llm_down_header down;
static struct llm_stream_record record;
static _Atomic uint32_t log_words[2];
static _Atomic uint64_t hints[2];
static _Atomic uint32_t asked;

static uint32_t token(uint32_t epoch, uint32_t position)
{
    return 10 * epoch + position;
}

static struct llm_stream_writer writer_of(struct llm_event_writer *events, uint32_t epoch)
{
    return (struct llm_stream_writer){.record = &record,
                                      .ids = log_words,
                                      .events = events,
                                      .epoch = epoch,
                                      .capacity_tokens = 2};
}

static void answer(struct llm_event_writer *events, uint32_t epoch)
{
    struct llm_stream_writer writer = writer_of(events, epoch);
    const struct llm_stream_facts facts = {.request_id = epoch, .admitted_ns = 1};
    llm_stream_writer_open(&writer, &facts, NULL, NULL, 0);
    uint32_t id = token(epoch, 0);
    llm_stream_writer_append(&writer, &id, NULL, 1, 2);
#ifdef AGAIN
    struct llm_stream_writer next = writer_of(events, epoch);
    llm_stream_writer_open(&next, &facts, &id, NULL, 1);
    writer = next;
#endif
    STORE(record.status, epoch);
    commit(&writer, true);
}

static void *write_answers(void *unused)
{
    struct llm_event_writer events = {.down = &down, .entries = hints, .entry_count = 2};
    answer(&events, 1);
    if (atomic_load_explicit(&asked, memory_order_acquire) == 2)
        answer(&events, 2);
    return unused;
}

/* A few looks; whatever they find is right. */
static bool read_answer(uint32_t epoch, int looks)
{
    struct llm_stream_reader reader = {
        .record = &record, .ids = log_words, .epoch = epoch, .capacity_tokens = 2};
    for (int i = 0; i < looks; i++) {
        struct llm_stream_look look;
        uint32_t id = 0;
        assert(llm_stream_reader_look(&reader, &look) == LLM_OK);
        if (!look.open)
            continue;
        while (llm_stream_reader_take(&reader, &look, &id, NULL, 1) == 1)
            assert(id == token(epoch, reader.seen - 1));
        assert(LOAD(record.request_id) == epoch);
        if (look.done) {
            assert(reader.seen == 1 && LOAD(record.status) == epoch);
            return true;
        }
    }
    return false;
}

static void *read_answers(void *unused)
{
    if (read_answer(1, 2)) {
        atomic_store_explicit(&asked, 2, memory_order_release);
        read_answer(2, 1);
    }
    return unused;
}

int main(void)
{
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, write_answers, NULL);
    pthread_create(&threads[1], NULL, read_answers, NULL);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    return 0;
}
