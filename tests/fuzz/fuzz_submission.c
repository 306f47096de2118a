/*
 * fuzz_submission.c - daemon/engine: whatever clients write into their memory, the engine stays sound, answers within
 * the bounds of `down`, and has nothing left of a client that is gone.
 * How: the whole engine with the echo and two clients (engine_fixture.h). The input is a list of acts: a good
 * submission with wrong numbers in it, numbers written anywhere into `up`, cancels, steps, sleeps, detaching and
 * attaching. At the end everybody is detached and every structure is walked.
 */
#include <stdio.h>
#include <unistd.h>

#include "daemon/engine/control.h"
#include "daemon/engine/step.h"
#include "shm/check.h"
#include "shm/clock.h"
#include "shm/queue.h"
#include "shm/request.h"
#include "tests/fuzz/descriptors.h"
#include "tests/fuzz/engine_fixture.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ACTS_MAX  32
#define STEPS_MAX 48 /* after the last act */

static struct fixture fixture;

/* ---- What a client does ---------------------------------------------------------------------------- */

static struct llm_submission *entry_at(struct fixture_client *client, uint64_t position)
{
    struct llm_submission *entries = (void *)(client->up + fixture.up_map.queue_offset);
    return &entries[position % fixture.geometry.queue_entries];
}

static struct llm_up_header *up_of(struct fixture_client *client)
{
    return (void *)client->up;
}

static const struct llm_stream_record *record_of(const struct fixture_client *client, uint32_t slot)
{
    const struct llm_stream_record *records =
        (const void *)(client->down + fixture.down_map.stream_offset);
    return &records[slot];
}

/* Ids of the small vocabulary, or any. */
static void fill_ids(struct input *in, void *to, uint32_t count)
{
    uint8_t first = input_byte(in);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = first < 250 ? (first + i) % 256 : (uint32_t)input_odd_number(in);
        memcpy((char *)to + i * sizeof id, &id, sizeof id);
    }
}

/* What else a request may be than a prompt by itself. */
static const uint32_t kinds[] = {
    LLM_REQUEST_ON_CONTEXT,
    LLM_REQUEST_ON_CONTEXT | LLM_REQUEST_BRANCH,
    LLM_REQUEST_ON_CONTEXT | LLM_REQUEST_COMPUTE,
    LLM_REQUEST_ON_CONTEXT | LLM_REQUEST_COMPUTE | LLM_REQUEST_PIN,
    LLM_REQUEST_ON_CONTEXT | LLM_REQUEST_SCORE | LLM_REQUEST_LOGPROBS,
    LLM_REQUEST_COMPUTE,
    LLM_REQUEST_SCORE | LLM_REQUEST_LOGPROBS,
};

static void make_kind(struct llm_request_body *body, uint8_t choice)
{
    uint32_t kind = kinds[choice % (sizeof kinds / sizeof kinds[0])];
    body->flags |= kind;
    body->priority = choice / 16 % LLM_PRIORITY_COUNT;
    if (kind & LLM_REQUEST_COMPUTE) {
        body->flags &= ~(uint32_t)LLM_REQUEST_LOGPROBS;
        body->max_tokens = 1;
    }
    if (kind & LLM_REQUEST_SCORE) {
        body->score_from = body->prompt_tokens > 1 ? body->prompt_tokens / 2 : 0;
        body->max_tokens = body->prompt_tokens - body->score_from;
    }
    if (kind & (LLM_REQUEST_COMPUTE | LLM_REQUEST_SCORE))
        body->stop_id_count = body->stop_string_count = body->stop_string_bytes = 0;
}

/* A steering that is in order; the edits of the body's bytes spoil it. */
static struct llm_steering make_steering(struct input *in, struct llm_request_body *body)
{
    struct llm_steering steering = llm_steering_none();
    uint8_t choice = input_byte(in);
    body->defaults = choice & 1 ? input_byte(in) % (LLM_REQUEST_DEFAULTS_KNOWN + 1) : 0;
    if (!(choice & 2))
        return steering;
    body->flags |= LLM_REQUEST_STEERED;
    steering.min_tokens = choice & 4 ? body->max_tokens : 0;
    steering.top_logprobs = body->flags & LLM_REQUEST_LOGPROBS ? choice >> 3 & 7 : 0;
    steering.bias_count = choice & 64 ? 3 : 0;
    steering.banned_id_count = choice & 128 ? 1024 : 0;
    steering.allowed_id_count = choice & 32 ? 2 : 0;
    return steering;
}

static void write_steering(struct input *in, unsigned char *to, const struct llm_request_map *map,
                           const struct llm_steering *steering)
{
    memcpy(to + map->steering_offset, steering, sizeof *steering);
    for (uint32_t i = 0; i < steering->bias_count; i++) {
        const struct llm_bias bias = {input_byte(in), (float)input_byte(in) - 128};
        memcpy(to + map->bias_offset + i * sizeof bias, &bias, sizeof bias);
    }
    fill_ids(in, to + map->banned_id_offset, steering->banned_id_count);
    fill_ids(in, to + map->allowed_id_offset, steering->allowed_id_count);
}

/* A body that is in order, then up to three wrong numbers in it. Returns its bytes. */
static uint32_t write_body(struct input *in, unsigned char *to, uint32_t max_tokens)
{
    uint8_t shape = input_byte(in);
    static const uint32_t lengths[] = {1, 3, 16, 17, 40, 1100}, longest[] = {8191, 8192, 9120};
    uint8_t long_one = input_byte(in);
    struct llm_request_body body = {
        .prompt_tokens = long_one < 250 ? lengths[shape % 6] : longest[shape % 3],
        .max_tokens = max_tokens,
        .top_p = 1.0f,
        .seed = 7,
        .flags = shape & 64 ? LLM_REQUEST_LOGPROBS : LLM_REQUEST_HAS_SEED,
        .stop_id_count = shape & 32 ? 2 : 0,
        .stop_string_count = shape & 128 ? 2 : 0};
    body.stop_string_bytes = body.stop_string_count * 4;
    uint8_t edits = input_byte(in);
    if (edits & 64)
        make_kind(&body, input_byte(in));
    struct llm_steering steering = llm_steering_none();
    if ((edits & 32) && body.prompt_tokens < 2000) /* the arena has room for that */
        steering = make_steering(in, &body);
    struct llm_request_map map = llm_request_map(&body, &steering);
    if (body.flags & LLM_REQUEST_STEERED)
        write_steering(in, to, &map, &steering);
    fill_ids(in, to + map.prompt_offset, body.prompt_tokens);
    fill_ids(in, to + map.stop_id_offset, body.stop_id_count);
    for (uint32_t i = 0; i < body.stop_string_count; i++)
        memcpy(to + map.stop_string_offset + i * 4, i ? "\3 \"#" : "\3abc", 4);
    memcpy(to, &body, sizeof body);
    for (edits = edits < 128 ? 0 : edits % 4; edits > 0; edits--)
        input_edit(in, to, input_byte(in) % 4 ? sizeof body : (size_t)map.bytes);
    return (uint32_t)map.bytes;
}

/* One of those that are there, or an odd number. */
static uint64_t context_id(struct input *in)
{
    const struct contexts *contexts = &fixture.engine.contexts;
    uint8_t choice = input_byte(in);
    uint32_t wanted = contexts->live > 0 ? choice % contexts->live : 0;
    if (choice >= 240)
        return input_odd_number(in);
    for (uint32_t slot = 0; slot < contexts->count; slot++)
        if (contexts->slots[slot].live && wanted-- == 0)
            return context_now(&fixture.engine, slot)->context_id;
    return 0;
}

static const char *const context_names[] = {"", "a", "b/c", "echo", "a//b", "d"};

/* What a verb needs and a little that it does not, then up to three wrong numbers. Returns its bytes. */
static uint32_t write_context_body(struct input *in, unsigned char *to)
{
    static const uint32_t modes[] = {0600, 0666, 0640, 0}, counts[] = {1, 3, 17, 64, 200, 1100};
    uint8_t shape = input_byte(in), edits = input_byte(in);
    uint32_t verb = input_byte(in) % LLM_CONTEXT_VERB_COUNT;
    bool ids = verb == LLM_CONTEXT_APPEND || verb == LLM_CONTEXT_PROBE;
    bool by_number = verb != LLM_CONTEXT_CREATE && verb != LLM_CONTEXT_LIST && !(shape & 128);
    struct llm_context_body body = {.verb = verb};
    if (by_number && verb != LLM_CONTEXT_PROBE)
        body.id = context_id(in);
    if (verb == LLM_CONTEXT_KEEP || (verb == LLM_CONTEXT_OPEN && shape & 64))
        body.other = context_id(in);
    if (ids || verb == LLM_CONTEXT_READ || verb == LLM_CONTEXT_LIST)
        body.count = counts[shape % 6];
    if (verb == LLM_CONTEXT_FORK || verb == LLM_CONTEXT_REWIND || verb == LLM_CONTEXT_READ)
        body.length = shape & 32 && verb == LLM_CONTEXT_FORK ? UINT32_MAX : input_byte(in);
    if (verb == LLM_CONTEXT_PUBLISH || verb == LLM_CONTEXT_MODE) {
        body.mode = modes[shape % 4];
        body.gid = shape & 16 ? UINT32_MAX : 100 + shape % 2;
    }
    if (verb == LLM_CONTEXT_LEASE)
        body.lease_ms = shape;
    if (verb == LLM_CONTEXT_PUBLISH || !by_number)
        snprintf(body.name, sizeof body.name, "%s", context_names[input_byte(in) % 6]);
    if (ids)
        fill_ids(in, to + sizeof body, body.count);
    memcpy(to, &body, sizeof body);
    for (edits = edits < 128 ? 0 : edits % 4; edits > 0; edits--)
        input_edit(in, to, sizeof body);
    return (uint32_t)(sizeof body + (ids ? body.count * sizeof(uint32_t) : 0));
}

/* As libllm would, but for up to two wrong numbers in the entry. */
static void submit(struct input *in, struct fixture_client *client)
{
    uint8_t shape = input_byte(in), edits = input_byte(in);
    uint32_t slot = shape % fixture.geometry.stream_slots;
    uint64_t commit = atomic_load(&record_of(client, slot)->commit);
    uint64_t tail = atomic_load(&up_of(client)->queue_tail);
    uint32_t body_offset = slot * LLM_PAGE_BYTES;
    struct llm_submission entry = {.operation =
                                       shape & 4 ? LLM_OP_GENERATE : shape / 8 % LLM_OP_COUNT,
                                   .stream_slot = slot,
                                   .stream_epoch = llm_commit_epoch(commit) + 1,
                                   .log_offset = slot * 256,
                                   .log_words = 256,
                                   .body_offset = body_offset,
                                   .argument = fixture.engine.next_request_id - 1 - shape % 2};
    if (entry.operation == LLM_OP_GENERATE) {
        entry.body_bytes =
            write_body(in, (unsigned char *)client->up + fixture.up_map.arena_offset + body_offset,
                       1 + shape / 8);
        if (edits & 1)
            entry.argument = context_id(in);
    }
    if (entry.operation == LLM_OP_CONTEXT)
        entry.body_bytes = write_context_body(in, (unsigned char *)client->up +
                                                      fixture.up_map.arena_offset + body_offset);
    for (edits = edits < 160 ? 0 : edits % 3; edits > 0; edits--)
        input_edit(in, &entry, sizeof entry);
    struct llm_submission *place = entry_at(client, tail);
    memcpy((char *)place + sizeof place->stamp, (char *)&entry + sizeof entry.stamp,
           sizeof entry - sizeof entry.stamp);
    atomic_store(&place->stamp, tail + 1);
    atomic_store(&up_of(client)->queue_tail, tail + 1);
    llm_engine_ring((const void *)client->down, client->to_engine_fd);
}

static void cancel(struct input *in, struct fixture_client *client)
{
    uint32_t slot = input_byte(in) % fixture.geometry.stream_slots;
    uint32_t epoch = llm_commit_epoch(atomic_load(&record_of(client, slot)->commit));
    _Atomic uint32_t *words = (void *)(client->up + fixture.up_map.cancel_offset);
    llm_cancel_post(up_of(client), words, slot, epoch + input_byte(in) % 2);
    llm_engine_ring((const void *)client->down, client->to_engine_fd);
}

static void scribble(struct input *in, struct fixture_client *client)
{
    uint8_t where = input_byte(in) % 4;
    if (where == 0)
        input_edit(in, client->up, sizeof(struct llm_up_header));
    else if (where == 1)
        input_edit(in, client->up + fixture.up_map.queue_offset,
                   fixture.geometry.queue_entries * sizeof(struct llm_submission));
    else
        input_edit(in, client->up, fixture.up_map.total_bytes);
    llm_engine_ring((const void *)client->down, client->to_engine_fd);
}

/* ---- What must hold -------------------------------------------------------------------------------- */

/* Everything in `down` is something that the protocol knows. */
static void look_at_answers(const struct fixture_client *client)
{
    for (uint32_t slot = 0; slot < fixture.geometry.stream_slots; slot++) {
        const struct llm_stream_record *record = record_of(client, slot);
        const char *note =
            client->down + fixture.down_map.note_offset + (size_t)slot * LLM_NOTE_BYTES;
        uint64_t commit = atomic_load(&record->commit);
        CHECK(llm_commit_count(commit) <= fixture.geometry.log_words);
        CHECK(atomic_load(&record->status) < LLM_STATUS_COUNT);
        CHECK(atomic_load(&record->finish) <= LLM_FINISH_ANSWERED);
        CHECK(memchr(note, '\0', LLM_NOTE_BYTES) != NULL);
    }
}

static void look_at_engine(void)
{
    char text[LLM_NOTE_BYTES];
    CHECK(control_check(&fixture.engine, text) == LLM_OK);
}

/* Nobody is there: what nobody named or leased is gone. The rest is ended here, and nothing is left of it either. */
static void end_contexts(void)
{
    struct engine *engine = &fixture.engine;
    struct contexts *contexts = &engine->contexts;
    for (uint32_t slot = 0; contexts->live > 0; slot++) {
        CHECK(slot < contexts->count);
        if (!contexts->slots[slot].live)
            continue;
        CHECK(contexts->slots[slot].connection_id == 0);
        contexts_remove(engine, slot, NULL);
    }
    CHECK(contexts->rows.live == 0 && contexts->pinned_blocks == 0);
    CHECK(engine->users.end == 0); /* nothing is counted against anybody */
}

/* Nobody is there, so nothing of anybody may be. */
static void look_for_leftovers(void)
{
    const struct engine *engine = &fixture.engine;
    look_at_engine();
    end_contexts();
    look_at_engine();
    CHECK(engine->requests_live == 0 && engine->requests_in_line == 0);
    CHECK(core_counts(engine->core).kv.held == 0);
    CHECK(engine->connection_end == 0 && engine->parking.hot_count == 0);
    CHECK(engine->egress.marked_count == 0);
    for (uint32_t slot = 0; slot < FIXTURE_REQUESTS; slot++)
        CHECK(engine->requests[slot].place == REQUEST_FREE);
    CHECK(fixture.detached_count == fixture.next_id);
    CHECK(!engine->stopping);
}

/* ---- Acts ------------------------------------------------------------------------------------------ */

static void step(uint32_t count)
{
    for (; count > 0 && engine_step(&fixture.engine); count--)
        ;
    fixture_hear(&fixture);
}

static void act(struct input *in)
{
    uint8_t choice = input_byte(in);
    uint32_t which = choice / 128;
    struct fixture_client *client = &fixture.clients[which];
    if (client->id == 0) {
        fixture_attach(&fixture, which);
        return;
    }
    switch (choice % 8) {
    case 0:
    case 1:
    case 2:
        submit(in, client);
        break;
    case 3:
        scribble(in, client);
        break;
    case 4:
        cancel(in, client);
        break;
    case 5:
        parking_sleep(&fixture.engine, 1); /* its time is over: parks everybody and looks */
        break;
    case 6:
        if (choice & 64)
            fixture_detach(&fixture, which);
        break;
    default:
        step(1 + choice / 8 % 8);
    }
    fixture_hear(&fixture);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    if (fixture.next_id == 0)
        fixture_open(&fixture);
    uint32_t open_before = descriptors_open();
    fixture_attach(&fixture, 0);
    for (int acts = 0; acts < ACTS_MAX && in.left > 0; acts++)
        act(&in);
    step(STEPS_MAX);
    look_at_engine();
    for (uint32_t i = 0; i < FIXTURE_CLIENTS; i++) {
        look_at_answers(&fixture.clients[i]);
        if (fixture.clients[i].id != 0)
            fixture_detach(&fixture, i);
    }
    step(1);
    look_for_leftovers();
    CHECK(descriptors_open() == open_before);
    return 0;
}
