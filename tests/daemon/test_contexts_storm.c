/*
 * test_contexts_storm.c - contexts and requests on them under clients that do anything at any time: every structure stays
 * sound, and no context ends up with whom it is not meant for.
 * How: the whole engine with the echo in this process (tests/fuzz/engine_fixture.h). Random submissions (LLM_TEST_SEED replays)
 * of four users, over several streams each: all verbs, all kinds of requests, cancels, deadlines, clients that leave and
 * engines that are replaced. After each step the engine's own walk is made; at the end, with all clients gone,
 * what is left is counted anew.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine/control.h"
#include "daemon/engine/step.h"
#include "shm/clock.h"
#include "shm/wait.h"
#include "tests/fuzz/engine_fixture.h"
#include "tests/support/test_seed.h"

#define STEPS         6000
#define STREAMS       4u
#define BODY_AT(slot) ((slot)*4096u)

static struct fixture fixture;
static uint64_t seed, state;
static uint32_t epochs[FIXTURE_CLIENTS][STREAMS]; /* submitted */
static uint64_t done_well[LLM_CONTEXT_VERB_COUNT],
    ended_well; /* a storm in which nothing works tests nothing */

static uint32_t below(uint32_t end)
{
    return (uint32_t)(test_random(&state) >> 32) % end;
}

static struct llm_up_header *up_of(uint32_t client)
{
    return (void *)fixture.clients[client].up;
}

static const struct llm_stream_record *stream_of(uint32_t client, uint32_t slot)
{
    return (const struct llm_stream_record *)(const void *)(fixture.clients[client].down +
                                                            fixture.down_map.stream_offset) +
           slot;
}

/* ---- What is asked ------------------------------------------------------------------------------------------- */

static struct last { /* what the stream was submitted for */
    bool context;
    uint32_t verb;
} lasts[FIXTURE_CLIENTS][STREAMS];

static bool is_free(uint32_t client, uint32_t slot)
{
    uint64_t commit = atomic_load(&stream_of(client, slot)->commit);
    return llm_commit_epoch(commit) == epochs[client][slot] &&
           (epochs[client][slot] == 0 || llm_commit_done(commit));
}

static void note_end(uint32_t client, uint32_t slot)
{
    if (epochs[client][slot] == 0 || atomic_load(&stream_of(client, slot)->status) != LLM_OK)
        return;
    if (lasts[client][slot].context)
        done_well[lasts[client][slot].verb]++;
    else
        ended_well++;
}

static void submit(uint32_t client, uint32_t slot, struct llm_submission entry, const void *body,
                   size_t bytes)
{
    struct fixture_client *c = &fixture.clients[client];
    struct llm_submission *entries = (void *)(c->up + fixture.up_map.queue_offset);
    uint64_t tail = atomic_load(&up_of(client)->queue_tail);
    struct llm_submission *place = &entries[tail % fixture.geometry.queue_entries];
    memcpy(c->up + fixture.up_map.arena_offset + BODY_AT(slot), body, bytes);
    entry.stream_slot = slot;
    entry.stream_epoch = ++epochs[client][slot];
    entry.log_offset = slot * (fixture.geometry.log_words / STREAMS);
    entry.log_words = fixture.geometry.log_words / STREAMS;
    entry.body_offset = BODY_AT(slot);
    entry.body_bytes = (uint32_t)bytes;
    memcpy((char *)place + sizeof place->stamp, (char *)&entry + sizeof entry.stamp,
           sizeof entry - sizeof entry.stamp);
    atomic_store(&place->stamp, tail + 1);
    atomic_store(&up_of(client)->queue_tail, tail + 1);
    llm_engine_ring((const void *)c->down, c->to_engine_fd);
}

static uint64_t some_running_id(void)
{
    const struct contexts *contexts = &fixture.engine.contexts;
    for (uint32_t slot = 0; slot < contexts->count; slot++)
        if (contexts->slots[slot].live && contexts->slots[slot].request_slot != REQUEST_NONE)
            return context_now(&fixture.engine, slot)->context_id;
    return below(8);
}

/* Mostly of one that there is. */
static uint64_t some_id(void)
{
    const struct contexts *contexts = &fixture.engine.contexts;
    for (int i = 0; i < 20 && below(30) > 0; i++) {
        uint32_t slot = below(contexts->count);
        if (contexts->slots[slot].live)
            return context_now(&fixture.engine, slot)->context_id;
    }
    return below(4) << 16 | below(8);
}

static uint64_t some_request(void)
{
    return fixture.engine.next_request_id - below(10);
}

/* Few, so that prompts have much in common. */
static uint32_t some_ids(uint32_t *out, uint32_t most)
{
    uint32_t count = below(most + 1), first = below(3);
    for (uint32_t i = 0; i < count; i++)
        out[i] = first + i % 40;
    return count;
}

static void ask_context(uint32_t client, uint32_t slot)
{
    static const uint32_t modes[] = {0600, 0640, 0644, 0660, 0666, 0622, 0606, 0};
    static const uint32_t gids[] = {UINT32_MAX, UINT32_MAX, 100, 101, 7};
    struct {
        struct llm_context_body body;
        uint32_t ids[200];
    } ask = {.body = {.verb = 1 + below(LLM_CONTEXT_VERB_COUNT - 1)}};
    struct llm_context_body *body = &ask.body;
    size_t bytes = sizeof *body;
    if (below(4) == 0)
        body->verb = below(3) == 0 ? LLM_CONTEXT_FOLLOW
                     : below(2)    ? LLM_CONTEXT_CREATE
                                   : LLM_CONTEXT_FORK;
    if (body->verb != LLM_CONTEXT_CREATE && body->verb != LLM_CONTEXT_LIST &&
        body->verb < LLM_CONTEXT_PROBE)
        body->id = some_id();
    switch (body->verb) {
    case LLM_CONTEXT_FOLLOW:
        body->id = some_running_id();
        break;
    case LLM_CONTEXT_FORK:
    case LLM_CONTEXT_REWIND:
        body->length = below(3) ? below(200) : UINT32_MAX;
        break;
    case LLM_CONTEXT_APPEND:
    case LLM_CONTEXT_PROBE:
        body->count = some_ids(ask.ids, 200);
        bytes += body->count * sizeof *ask.ids;
        break;
    case LLM_CONTEXT_KEEP:
        body->other = some_id();
        break;
    case LLM_CONTEXT_OPEN:
    case LLM_CONTEXT_CLOSE:
        body->other = below(2) ? some_request() : 0;
        break;
    case LLM_CONTEXT_PUBLISH:
        snprintf(body->name, sizeof body->name, "name/%u", below(6));
        body->mode = modes[below(8)];
        body->gid = gids[below(5)];
        break;
    case LLM_CONTEXT_MODE:
        body->mode = modes[below(8)];
        body->gid = gids[below(5)];
        break;
    case LLM_CONTEXT_LEASE:
        body->lease_ms = below(3) ? below(4) : 100000;
        break;
    case LLM_CONTEXT_READ:
    case LLM_CONTEXT_LIST:
    case LLM_CONTEXT_BLOCKS:
    case LLM_CONTEXT_LEDGER:
        body->length = below(60);
        body->count = below(300);
        break;
    default:
        break;
    }
    lasts[client][slot] = (struct last){.context = true, .verb = body->verb};
    submit(client, slot, (struct llm_submission){.operation = LLM_OP_CONTEXT}, &ask, bytes);
}

static void ask_request(uint32_t client, uint32_t slot)
{
    static const uint32_t kinds[] = {
        LLM_REQUEST_ON_CONTEXT,
        LLM_REQUEST_ON_CONTEXT | LLM_REQUEST_BRANCH,
        LLM_REQUEST_ON_CONTEXT | LLM_REQUEST_BRANCH | LLM_REQUEST_LOGPROBS,
        LLM_REQUEST_ON_CONTEXT | LLM_REQUEST_SCORE | LLM_REQUEST_LOGPROBS,
        LLM_REQUEST_ON_CONTEXT | LLM_REQUEST_COMPUTE,
        LLM_REQUEST_ON_CONTEXT | LLM_REQUEST_COMPUTE | LLM_REQUEST_PIN,
        LLM_REQUEST_COMPUTE,
        0,
    };
    struct {
        struct llm_request_body body;
        uint32_t ids[100];
    } ask = {.body = {.top_p = 1.0f, .flags = kinds[below(8)], .max_tokens = 1}};
    struct llm_request_body *body = &ask.body;
    body->prompt_tokens = some_ids(ask.ids, 100);
    body->priority = below(2);
    if (body->flags & LLM_REQUEST_SCORE) {
        body->score_from = body->prompt_tokens > 0 ? below(body->prompt_tokens) : 0;
        body->max_tokens = body->prompt_tokens - body->score_from;
    } else if (!(body->flags & LLM_REQUEST_COMPUTE)) {
        body->max_tokens = 1 + below(60);
        body->flags |= LLM_REQUEST_IGNORE_EOS;
    }
    lasts[client][slot] = (struct last){.context = false};
    submit(client, slot,
           (struct llm_submission){.operation = LLM_OP_GENERATE,
                                   .argument = body->flags & LLM_REQUEST_ON_CONTEXT ? some_id() : 0,
                                   .deadline_ns = below(20) ? 0 : llm_now_ns() + below(300000)},
           &ask, sizeof *body + body->prompt_tokens * sizeof *ask.ids);
}

static void cancel(uint32_t client, uint32_t slot)
{
    _Atomic uint32_t *words = (void *)(fixture.clients[client].up + fixture.up_map.cancel_offset);
    atomic_store(&words[slot], epochs[client][slot]);
    atomic_fetch_add(&up_of(client)->cancel_bell, 1);
}

static void ask(uint32_t client)
{
    uint32_t slot = below(STREAMS);
    if (!is_free(client, slot)) {
        if (below(10) == 0)
            cancel(client, slot);
        return;
    }
    note_end(client, slot);
    if (below(5) < 3)
        ask_context(client, slot);
    else if (below(20) > 0)
        ask_request(client, slot);
    else {
        lasts[client][slot] = (struct last){.context = false};
        submit(client, slot,
               (struct llm_submission){.operation = LLM_OP_CANCEL, .argument = some_request()}, "",
               0);
    }
}

/* ---- What must hold ------------------------------------------------------------------------------------------ */

static void look(int step)
{
    char text[LLM_NOTE_BYTES];
    ck_assert_msg(control_check(&fixture.engine, text) == LLM_OK, "seed %llu step %d: %s",
                  (unsigned long long)seed, step, text);
    for (uint32_t i = 0; i < FIXTURE_CLIENTS; i++)
        ck_assert_msg(!fixture.engine.connections[fixture.clients[i].slot].broken,
                      "seed %llu step %d: client %u was taken for broken", (unsigned long long)seed,
                      step, i);
}

static void attach(uint32_t client)
{
    memset(epochs[client], 0, sizeof epochs[client]);
    fixture_attach(&fixture, client);
}

static void remove_all(void)
{
    for (uint32_t slot = 0; slot < fixture.engine.contexts.count; slot++)
        if (fixture.engine.contexts.slots[slot].live)
            contexts_remove(&fixture.engine, slot, NULL);
}

START_TEST(whatever_clients_do_everything_stays_sound)
{
    setenv("LLMD_DISABLE", "io_uring", 1);
    seed = state = test_seed();
    fixture_open(&fixture);
    for (uint32_t i = 0; i < FIXTURE_CLIENTS; i++)
        attach(i);
    for (int step = 0; step < STEPS; step++) {
        for (uint32_t i = below(6); i > 0; i--)
            ask(below(FIXTURE_CLIENTS));
        if (below(120) == 0) {
            uint32_t client = below(FIXTURE_CLIENTS);
            fixture_detach(&fixture, client);
            look(step);
            attach(client);
        }
        if (below(200) == 0)
            fixture_restart(&fixture);
        engine_step(&fixture.engine);
        fixture_hear(&fixture);
        look(step);
    }
    for (uint32_t verb = 1; verb < LLM_CONTEXT_VERB_COUNT; verb++)
        ck_assert_msg(done_well[verb] > 0, "seed %llu: verb %u never succeeded",
                      (unsigned long long)seed, verb);
    ck_assert_uint_gt(ended_well, 100);
    for (uint32_t i = 0; i < FIXTURE_CLIENTS; i++)
        fixture_detach(&fixture, i);
    remove_all();
    look(STEPS);
    ck_assert_uint_eq(fixture.engine.requests_live, 0);
    ck_assert_uint_eq(fixture.engine.users.end, 0);
    ck_assert_uint_eq(fixture.engine.contexts.pinned_blocks, 0);
    ck_assert_uint_eq(fixture.engine.contexts.rows.live, 0);
    ck_assert_uint_eq(core_counts(fixture.engine.core).kv.held, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/contexts_storm");
    TCase *tcase = tcase_create("storm");
    tcase_set_timeout(tcase, 280);
    tcase_add_test(tcase, whatever_clients_do_everything_stays_sound);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
