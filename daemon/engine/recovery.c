#include "daemon/engine/recovery.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/follow.h"
#include "daemon/engine/journal.h"
#include "daemon/engine/on_context.h"
#include "daemon/engine/publish.h"
#include "daemon/engine/report.h"
#include "daemon/engine/step.h"
#include "daemon/log.h"
#include "shm/check.h"

#define DEATHS_SUSPECT 1 /* attempts without a token: tried alone */
#define DEATHS_POISON  2 /* not tried again */
#define QUIET_LOOK_NS  1000000

static unsigned state_of(const _Atomic uint64_t *word)
{
    return llm_word_state(atomic_load_explicit(word, memory_order_acquire));
}

/* ---- Blocks ---------------------------------------------------------------------------------------- */

struct candidate {
    uint32_t depth;
    block_id block;
};

static int by_depth(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    if (a->depth != b->depth)
        return a->depth < b->depth ? -1 : 1;
    return a->block < b->block ? -1 : 1;
}

static uint32_t *ids_of(const struct engine *engine, block_id block)
{
    return engine->tables.block_ids + (size_t)block * engine->tables.block_tokens_max;
}

static bool header_whole(const struct engine *engine, block_id block)
{
    const struct llm_kvhdr_record *header = &engine->tables.blocks[block];
    uint64_t generation =
        llm_word_generation(atomic_load_explicit(&header->word, memory_order_relaxed));
    return state_of(&header->word) == LLM_BLOCK_SEALED && header->tokens > 0 &&
           header->tokens <= engine->tables.block_tokens_max &&
           header->header_check == journal_block_check(header, generation, ids_of(engine, block));
}

static bool adopt(struct engine *engine, block_id block)
{
    const struct llm_kvhdr_record *header = &engine->tables.blocks[block];
    struct core_block_info info = {
        .ids = ids_of(engine, block),
        .tokens = header->tokens,
        .depth = header->depth,
        .domain = atomic_load_explicit(&header->domain, memory_order_relaxed),
        .model = header->model,
    };
    memcpy(info.chain.bytes, header->chain, sizeof header->chain);
    memcpy(info.parent.bytes, header->parent, sizeof header->parent);
    struct llm_error error;
    return core_adopt_block(engine->core, block, &info, &error) == LLM_OK;
}

static bool perhaps_written(const struct llm_kvhdr_record *header)
{
    unsigned state = state_of(&header->word);
    return state == LLM_BLOCK_WRITING || state == LLM_BLOCK_QUARANTINED;
}

/* Wait until no device can write to the pool any more; on the CPU nothing can when its engine is dead. */
static void await_quiet(struct engine *engine)
{
    for (uint32_t model = 0; model < engine->executor_count; model++)
        while (!engine->executors[model]->ops->quiet(engine->executors[model]))
            nanosleep(&(struct timespec){.tv_nsec = QUIET_LOOK_NS}, NULL);
}

/* Blocks that a dead engine was writing; returns how many. The state outlives this engine's death too. */
static uint32_t quarantine(struct engine *engine)
{
    uint32_t count = 0;
    for (block_id block = 0; block < engine->tables.block_count; block++)
        if (perhaps_written(&engine->tables.blocks[block])) {
            journal_block_quarantined(engine, block);
            count++;
        }
    if (count > 0)
        await_quiet(engine);
    return count;
}

/* Candidates in the order of their depth; everything else is free. */
static uint32_t gather(struct engine *engine, struct candidate *candidates)
{
    uint32_t count = 0;
    for (block_id block = 0; block < engine->tables.block_count; block++) {
        struct llm_kvhdr_record *header = &engine->tables.blocks[block];
        if (engine->tables.blocks_kept && header_whole(engine, block))
            candidates[count++] = (struct candidate){header->depth, block};
        else if (state_of(&header->word) != LLM_BLOCK_FREE)
            journal_block_freed(engine, block);
    }
    qsort(candidates, count, sizeof *candidates, by_depth);
    return count;
}

enum llm_status recovery_adopt_blocks(struct engine *engine, struct llm_error *error)
{
    struct candidate *candidates = malloc(engine->tables.block_count * sizeof *candidates);
    if (!candidates)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory to look through %u blocks",
                        engine->tables.block_count);
    uint32_t quarantined = quarantine(engine);
    uint32_t count = gather(engine, candidates), adopted = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (adopt(engine, candidates[i].block))
            adopted++;
        else
            journal_block_freed(engine, candidates[i].block);
    }
    free(candidates);
    if (count > 0 || quarantined > 0)
        log_event(LOG_LEVEL_INFO, "recovered blocks", log_count("adopted", adopted),
                  log_count("of", count), log_count("quarantined", quarantined));
    return LLM_OK;
}

/* ---- Requests -------------------------------------------------------------------------------------- */

static struct connection *connection_of(struct engine *engine,
                                        const struct llm_reqtab_record *record)
{
    if (record->connection_slot >= LLM_STATUS_CONNECTIONS_MAX)
        return NULL;
    struct connection *connection = &engine->connections[record->connection_slot];
    bool same =
        connection->attached && !connection->broken && connection->peer.id == record->connection_id;
    return same && record->stream_slot < connection->peer.geometry.stream_slots ? connection : NULL;
}

/* What an engine that died of a stray write might have left. */
static bool record_whole(const struct engine *engine, const struct llm_reqtab_record *record)
{
    uint64_t from = request_answer_start(record);
    uint64_t published = atomic_load_explicit(&record->published, memory_order_acquire);
    return from > 0 && from <= record->body.prompt_tokens &&
           record->body.prompt_tokens <= engine->tables.context_tokens_max &&
           from + published <= engine->tables.context_tokens_max &&
           published <= record->body.max_tokens && record->body.stop_id_count <= LLM_STOP_IDS_MAX &&
           record->body.stop_string_count <= LLM_STOP_STRINGS_MAX &&
           record->body.model[LLM_NAME_BYTES - 1] == '\0';
}

/* The stop strings' tail, and whether the last published token was the last of its answer. */
static enum core_finish replay_published(struct engine *engine, uint32_t slot)
{
    const struct llm_reqtab_record *record = &engine->tables.requests[slot];
    const uint32_t *ids = tables_ids(&engine->tables, slot) + record->body.prompt_tokens;
    uint32_t count = atomic_load_explicit(&record->published, memory_order_relaxed);
    enum core_finish finish = CORE_FINISH_NONE;
    if (request_kind(record) == CORE_SCORE) /* its ids were given: none of them stops it */
        return count == record->body.max_tokens ? CORE_FINISH_LENGTH : CORE_FINISH_NONE;
    for (uint32_t i = 0; i < count && finish == CORE_FINISH_NONE; i++)
        finish = step_finish_after(engine, slot, ids[i]);
    return finish;
}

static void put_into_core(struct engine *engine, uint32_t slot)
{
    struct request *request = &engine->requests[slot];
    struct llm_error error;
    journal_try(engine, slot);
    struct core_request again = request_for_core(engine, slot, true);
    enum llm_status status = core_admit(engine->core, &again, slot, &error);
    if (status != LLM_OK) {
        request_end(engine, slot, CORE_FINISH_FAILED, status, error.message);
        return;
    }
    engine->requests_in_line--;
    request->place = REQUEST_IN_CORE;
    publish_effects(engine);
}

static void go_on(struct engine *engine, uint32_t slot)
{
    struct llm_error error;
    uint32_t deaths = engine->tables.requests[slot].deaths;
    request_enter(engine, slot, REQUEST_IN_LINE);
    publish_opened(engine, slot);
    report_recovered(engine, slot);
    follow_gather(engine, slot);
    enum llm_status status = on_context_resume(engine, slot, &error);
    enum core_finish finish = replay_published(engine, slot);
    if (status != LLM_OK)
        request_end(engine, slot, CORE_FINISH_FAILED, status, error.message);
    else if (finish != CORE_FINISH_NONE)
        publish_finished(engine, slot, finish);
    else if (deaths >= DEATHS_POISON)
        request_end(engine, slot, CORE_FINISH_FAILED, LLM_ERR_POISON,
                    "the request was being computed at two engine deaths in a row");
    else if (deaths < DEATHS_SUSPECT)
        put_into_core(engine, slot);
}

static void go_on_following(struct engine *engine, uint32_t slot)
{
    request_enter(engine, slot, REQUEST_FOLLOWS);
    publish_opened(engine, slot);
    report_recovered(engine, slot);
    follow_resume(engine, slot);
}

/* Decided, perhaps not told: tell it unless the record says that it was. */
static void tell_again(struct engine *engine, uint32_t slot)
{
    struct llm_reqtab_record *record = &engine->tables.requests[slot];
    struct request *request = &engine->requests[slot];
    uint64_t commit = atomic_load_explicit(&request->writer.record->commit, memory_order_relaxed);
    if (llm_commit_epoch(commit) != record->stream_epoch || !llm_commit_done(commit)) {
        publish_opened(engine, slot);
        record->note[LLM_NOTE_BYTES - 1] = '\0';
        llm_stream_writer_finish(&request->writer, (enum llm_status)record->status,
                                 (enum llm_finish)record->finish, record->note);
        publish_moved(engine, request->connection);
    }
    journal_free(engine, slot);
}

/* The keeper waits for a model's requests before it takes it away; but a model may be lost in between, to files that were
 * written to. */
static void end_without_model(struct engine *engine, uint32_t slot)
{
    request_enter(engine, slot, REQUEST_IN_LINE);
    publish_opened(engine, slot);
    request_end(engine, slot, CORE_FINISH_FAILED, LLM_ERR_NOT_FOUND,
                "the model that answered it is not loaded any more");
}

static bool open_stream(struct engine *engine, uint32_t slot, struct connection *connection)
{
    const struct llm_reqtab_record *record = &engine->tables.requests[slot];
    struct llm_stream_writer *writer = &engine->requests[slot].writer;
    struct llm_error error;
    return llm_stream_writer_init(writer, &connection->publisher, record->stream_slot,
                                  record->stream_epoch, record->log_offset, record->log_words,
                                  request_log_shape(engine, slot), &error) == LLM_OK &&
           atomic_load_explicit(&record->published, memory_order_relaxed) <=
               writer->capacity_tokens;
}

static void resume(struct engine *engine, uint32_t slot)
{
    struct llm_reqtab_record *record = &engine->tables.requests[slot];
    struct connection *connection = connection_of(engine, record);
    uint32_t model = models_of_id(engine, record->model_id);
    bool usable = connection && record_whole(engine, record);
    if (usable) {
        request_init(engine, slot, connection, model != UINT32_MAX ? model : 0);
        usable = (model == UINT32_MAX || request_check_sampling(engine, slot, NULL) == LLM_OK) &&
                 open_stream(engine, slot, connection);
    }
    if (!usable) {
        journal_free(engine, slot);
        return;
    }
    if (state_of(&record->word) == LLM_REQ_ANSWERED)
        tell_again(engine, slot);
    else if (model == UINT32_MAX)
        end_without_model(engine, slot);
    else if (record->leader_id != 0)
        go_on_following(engine, slot);
    else
        go_on(engine, slot);
}

/* Rows of connections that left while no engine was there. */
static void free_connections(struct engine *engine)
{
    for (uint32_t slot = 0; slot < LLM_STATUS_CONNECTIONS_MAX; slot++)
        if (!engine->connections[slot].attached &&
            state_of(&engine->tables.connections[slot].word) != LLM_CONN_FREE)
            journal_detach(engine, slot);
}

/* Those that follow another, or those that follow nobody. */
static void resume_all(struct engine *engine, bool followers)
{
    for (uint32_t slot = 0; slot < engine->tables.request_slots; slot++) {
        const struct llm_reqtab_record *record = &engine->tables.requests[slot];
        if (record->request_id >= engine->next_request_id)
            engine->next_request_id = record->request_id + 1; /* ids are never used twice */
        if (state_of(&record->word) != LLM_REQ_FREE && (record->leader_id != 0) == followers)
            resume(engine, slot);
    }
}

/* Followers are there before their leaders go on, which may end at once. */
void recovery_resume_requests(struct engine *engine)
{
    free_connections(engine);
    resume_all(engine, true);
    resume_all(engine, false);
    follow_settle(engine);
    if (engine->requests_live > 0)
        log_event(LOG_LEVEL_INFO, "recovered requests", log_count("live", engine->requests_live),
                  log_count("in_line", engine->requests_in_line));
}

/* ---- Trials ---------------------------------------------------------------------------------------- */

static uint32_t first_in_line(const struct engine *engine)
{
    uint32_t first = REQUEST_NONE;
    for (uint32_t slot = 0; slot < engine->tables.request_slots; slot++)
        if (engine->requests[slot].place == REQUEST_IN_LINE &&
            (first == REQUEST_NONE ||
             engine->tables.requests[slot].request_id < engine->tables.requests[first].request_id))
            first = slot;
    return first;
}

void recovery_next_trial(struct engine *engine)
{
    if (engine->requests_in_line == 0 || engine->trial_slot != REQUEST_NONE)
        return;
    uint32_t slot = first_in_line(engine);
    CHECK(slot != REQUEST_NONE);
    engine->trial_slot = slot;
    put_into_core(engine, slot);
}

void recovery_absolve(struct engine *engine)
{
    for (uint32_t slot = 0; slot < engine->tables.request_slots; slot++)
        if (engine->requests[slot].place != REQUEST_FREE)
            engine->tables.requests[slot].deaths = 0;
}
