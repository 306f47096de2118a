/*
 * test_contexts.c - daemon/engine/contexts and context_ops: what clients may do to contexts, theirs and others', and that each
 * thing is done once, whenever the engine dies.
 * How: the whole engine with the echo in this process (tests/fuzz/engine_fixture.h); clients write submissions into their
 * memory themselves. Client 0 is an administrator; clients 2 and 3 share a group. For
 * deaths a child plays a script and kills itself at a crash point; the parent starts a new engine and plays on.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/engine/context_ops.h"
#include "daemon/engine/control.h"
#include "daemon/engine/step.h"
#include "shm/clock.h"
#include "shm/crash_point.h"
#include "shm/wait.h"
#include "tests/fuzz/engine_fixture.h"

enum client {
    ADMINISTRATOR,
    STRANGER,
    OWNER,
    MEMBER
};

static struct fixture fixture;

static void setup(void)
{
    setenv("LLMD_DISABLE", "io_uring", 1); /* a ring does not go through fork() */
    fixture_open(&fixture);
    for (uint32_t i = 0; i < FIXTURE_CLIENTS; i++)
        fixture_attach(&fixture, i);
}

static void teardown(void)
{
    char text[LLM_NOTE_BYTES];
    ck_assert_msg(control_check(&fixture.engine, text) == LLM_OK, "%s", text);
}

/* ---- A client's side --------------------------------------------------------------------------------------- */

static struct llm_up_header *up_of(uint32_t client)
{
    return (void *)fixture.clients[client].up;
}

static struct llm_stream_record *record_of(uint32_t client)
{
    return (void *)(fixture.clients[client].down + fixture.down_map.stream_offset);
}

static void submit_entry(uint32_t client, enum llm_operation operation, uint64_t argument,
                         const void *body, size_t fixed_bytes, uint32_t body_bytes,
                         const uint32_t *ids, uint32_t id_count, uint32_t log_words)
{
    struct fixture_client *c = &fixture.clients[client];
    struct llm_submission *entries = (void *)(c->up + fixture.up_map.queue_offset);
    uint64_t tail = atomic_load(&up_of(client)->queue_tail);
    uint32_t epoch = llm_commit_epoch(atomic_load(&record_of(client)->commit)) + 1;
    memcpy(c->up + fixture.up_map.arena_offset, body, fixed_bytes);
    if (id_count > 0)
        memcpy(c->up + fixture.up_map.arena_offset + fixed_bytes, ids, id_count * sizeof *ids);
    struct llm_submission entry = {.operation = (uint8_t)operation,
                                   .argument = argument,
                                   .stream_epoch = epoch,
                                   .log_words = log_words,
                                   .body_bytes = body_bytes};
    struct llm_submission *place = &entries[tail % fixture.geometry.queue_entries];
    memcpy((char *)place + sizeof place->stamp, (char *)&entry + sizeof entry.stamp,
           sizeof entry - sizeof entry.stamp);
    atomic_store(&place->stamp, tail + 1);
    atomic_store(&up_of(client)->queue_tail, tail + 1);
    llm_engine_ring((const void *)c->down, c->to_engine_fd);
}

static void submit_bytes(uint32_t client, const struct llm_context_body *body, uint32_t body_bytes,
                         const uint32_t *ids, uint32_t id_count, uint32_t log_words)
{
    submit_entry(client, LLM_OP_CONTEXT, 0, body, sizeof *body, body_bytes, ids, id_count,
                 log_words);
}

static uint32_t answer[1024]; /* words of the last one */
static uint32_t answer_words;
static char note[LLM_NOTE_BYTES];

static enum llm_status await(uint32_t client)
{
    const char *down = fixture.clients[client].down;
    const struct llm_down_header *header = (const void *)down;
    uint64_t position = atomic_load(&up_of(client)->queue_tail);
    for (int i = 0; i < 100; i++) {
        engine_step(&fixture.engine);
        fixture_hear(&fixture);
        ck_assert_msg(fixture.clients[client].id != 0, "client %u was detached", client);
        if (atomic_load(&header->queue_head) == position)
            break;
    }
    uint64_t commit = atomic_load(&record_of(client)->commit);
    ck_assert(llm_commit_done(commit));
    ck_assert_uint_eq(atomic_load(&record_of(client)->finish), LLM_FINISH_ANSWERED);
    answer_words = llm_commit_count(commit);
    ck_assert_uint_le(answer_words, 1024);
    memcpy(answer, down + fixture.down_map.log_offset, answer_words * sizeof *answer);
    memcpy(note, down + fixture.down_map.note_offset, sizeof note);
    return (enum llm_status)atomic_load(&record_of(client)->status);
}

static enum llm_status call_ids(uint32_t client, struct llm_context_body body, const uint32_t *ids)
{
    uint32_t id_count = ids ? body.count : 0;
    submit_bytes(client, &body, (uint32_t)(sizeof body + id_count * sizeof *ids), ids, id_count,
                 1024);
    return await(client);
}

static enum llm_status call(uint32_t client, struct llm_context_body body)
{
    return call_ids(client, body, NULL);
}

static struct llm_context_record answered(void)
{
    struct llm_context_record record;
    ck_assert_msg(answer_words == LLM_CONTEXT_RECORD_WORDS, "%u words: %s", answer_words, note);
    memcpy(&record, answer, sizeof record);
    return record;
}

#define OK(call) ck_assert_msg((call) == LLM_OK, "%s", note)
#define FAILS(call, status, sentence)       \
    do {                                    \
        ck_assert_int_eq((call), (status)); \
        ck_assert_str_eq(note, (sentence)); \
    } while (0)
#define BODY(...) ((struct llm_context_body){__VA_ARGS__})

static uint64_t create(uint32_t client)
{
    OK(call(client, BODY(.verb = LLM_CONTEXT_CREATE)));
    return answered().id;
}

/* ids first, first + 1, ... as the echo's vocabulary has them */
static enum llm_status append(uint32_t client, uint64_t id, uint32_t first, uint32_t count)
{
    static uint32_t ids[8192];
    for (uint32_t i = 0; i < count; i++)
        ids[i] = (first + i) % 250;
    return call_ids(client, BODY(.verb = LLM_CONTEXT_APPEND, .id = id, .count = count), ids);
}

static uint64_t made_with(uint32_t client, uint32_t tokens)
{
    uint64_t id = create(client);
    OK(append(client, id, 0, tokens));
    return id;
}

/* Compute and pin all of it. */
static void compute_pinned(uint32_t client, uint64_t id)
{
    struct llm_request_body body = {.max_tokens = 1,
                                    .top_p = 1.0f,
                                    .flags = LLM_REQUEST_ON_CONTEXT | LLM_REQUEST_COMPUTE |
                                             LLM_REQUEST_PIN};
    submit_entry(client, LLM_OP_GENERATE, id, &body, sizeof body, sizeof body, NULL, 0, 16);
    for (int i = 0; i < 100; i++)
        engine_step(&fixture.engine);
    ck_assert(llm_commit_done(atomic_load(&record_of(client)->commit)));
    memcpy(note, fixture.clients[client].down + fixture.down_map.note_offset, sizeof note);
    ck_assert_msg(atomic_load(&record_of(client)->status) == LLM_OK, "%s", note);
}

static struct llm_context_record look(uint32_t client, uint64_t id)
{
    OK(call(client, BODY(.verb = LLM_CONTEXT_OPEN, .id = id)));
    return answered();
}

static void publish(uint32_t client, uint64_t id, const char *name, uint32_t mode)
{
    struct llm_context_body body = {
        .verb = LLM_CONTEXT_PUBLISH, .id = id, .mode = mode, .gid = UINT32_MAX};
    snprintf(body.name, sizeof body.name, "%s", name);
    OK(call(client, body));
}

static enum llm_status open_named(uint32_t client, const char *name)
{
    struct llm_context_body body = {.verb = LLM_CONTEXT_OPEN};
    snprintf(body.name, sizeof body.name, "%s", name);
    return call(client, body);
}

/* ---- What the verbs do ------------------------------------------------------------------------------------- */

START_TEST(tokens_are_appended_read_forked_and_rewound)
{
    uint64_t id = made_with(OWNER, 100);
    OK(append(OWNER, id, 100, 20));
    ck_assert_uint_eq(look(OWNER, id).length, 120);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_FORK, .id = id, .length = 110)));
    struct llm_context_record fork = answered();
    ck_assert_uint_eq(fork.parent_id, id);
    ck_assert_uint_eq(fork.length, 110);
    ck_assert_uint_eq(fork.shared_tokens, 110);
    ck_assert_uint_eq(fork.mode, 0600);
    ck_assert_uint_eq(fork.uid, 1000 + OWNER);
    OK(append(OWNER, fork.id, 7, 1));
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_REWIND, .id = id, .length = 60)));
    OK(append(OWNER, id, 200, 10));
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_READ, .id = fork.id, .length = 50, .count = 1000)));
    ck_assert_uint_eq(answer_words, 61);
    for (uint32_t i = 0; i < 60; i++)
        ck_assert_uint_eq(answer[i], 50 + i);
    ck_assert_uint_eq(answer[60], 7);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_READ, .id = id, .length = 59, .count = 3)));
    ck_assert_uint_eq(answer_words, 3);
    ck_assert_uint_eq(answer[0], 59);
    ck_assert_uint_eq(answer[1], 200);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_READ, .id = id, .length = 70, .count = 3)));
    ck_assert_uint_eq(answer_words, 0);
}
END_TEST

START_TEST(keeping_gives_the_tokens_and_ends_the_other)
{
    uint64_t id = made_with(OWNER, 50);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_FORK, .id = id, .length = UINT32_MAX)));
    uint64_t fork = answered().id;
    OK(append(OWNER, fork, 9, 5));
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_KEEP, .id = id, .other = fork)));
    ck_assert_uint_eq(answered().id, id);
    ck_assert_uint_eq(answered().length, 55);
    ck_assert_int_eq(call(OWNER, BODY(.verb = LLM_CONTEXT_OPEN, .id = fork)), LLM_ERR_NOT_FOUND);
    ck_assert_int_eq(call(OWNER, BODY(.verb = LLM_CONTEXT_KEEP, .id = id, .other = id)),
                     LLM_ERR_INVALID);
}
END_TEST

START_TEST(a_list_has_what_the_caller_may_read)
{
    uint64_t mine[20];
    for (int i = 0; i < 20; i++)
        mine[i] = made_with(OWNER, 3);
    made_with(STRANGER, 3);
    uint32_t from = 0, found = 0;
    do {
        OK(call(OWNER, BODY(.verb = LLM_CONTEXT_LIST, .length = from)));
        for (uint32_t i = 0; i < answer_words / LLM_CONTEXT_RECORD_WORDS; i++) {
            struct llm_context_record record;
            memcpy(&record, answer + (size_t)i * LLM_CONTEXT_RECORD_WORDS, sizeof record);
            ck_assert_uint_eq(record.id, mine[found++]);
            ck_assert_uint_ge(record.slot, from);
            from = record.slot + 1;
        }
    } while (answer_words > 0);
    ck_assert_uint_eq(found, 20);
}
END_TEST

START_TEST(names_are_checked_unique_and_free_again)
{
    static const char *const wrong[] = {"",  "/a",     "a/",  "a//b",    "a b",
                                        ".", "a/../b", "a\n", "\xc3\xa4"};
    uint64_t id = made_with(OWNER, 3), other = made_with(MEMBER, 3);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct llm_context_body body = {.verb = LLM_CONTEXT_PUBLISH, .id = id, .gid = UINT32_MAX};
        snprintf(body.name, sizeof body.name, "%s", wrong[i]);
        ck_assert_msg(call(OWNER, body) == LLM_ERR_INVALID, "%s", wrong[i]);
    }
    publish(OWNER, id, "team/notes", 0644);
    OK(open_named(STRANGER, "team/notes"));
    ck_assert_uint_eq(answered().id, id);
    ck_assert_str_eq(answered().name, "team/notes");
    FAILS(call(MEMBER, BODY(.verb = LLM_CONTEXT_PUBLISH, .id = other, .mode = 0600,
                            .gid = UINT32_MAX, .name = "team/notes")),
          LLM_ERR_EXISTS, "another context is named \"team/notes\"");
    publish(OWNER, id, "team/old-notes", 0644);
    publish(MEMBER, other, "team/notes", 0600);
    OK(open_named(OWNER, "team/old-notes"));
    ck_assert_int_eq(open_named(OWNER, "team/notes"), LLM_ERR_PERMISSION);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_REMOVE, .name = "team/old-notes")));
    FAILS(open_named(OWNER, "team/old-notes"), LLM_ERR_NOT_FOUND,
          "there is no context \"team/old-notes\"");
}
END_TEST

/* ---- Who may what ------------------------------------------------------------------------------------------ */

static const struct {
    struct llm_context_body body;
    enum context_right right;
} asked[] = {
    {{.verb = LLM_CONTEXT_OPEN}, CONTEXT_READ},
    {{.verb = LLM_CONTEXT_FORK, .length = 2}, CONTEXT_READ},
    {{.verb = LLM_CONTEXT_READ, .count = 2}, CONTEXT_READ},
    {{.verb = LLM_CONTEXT_APPEND, .count = 1}, CONTEXT_WRITE},
    {{.verb = LLM_CONTEXT_REWIND, .length = 2}, CONTEXT_WRITE},
    {{.verb = LLM_CONTEXT_ADOPT}, CONTEXT_WRITE},
    {{.verb = LLM_CONTEXT_PUBLISH, .mode = 0666, .gid = UINT32_MAX, .name = "mine"}, CONTEXT_OWN},
    {{.verb = LLM_CONTEXT_MODE, .mode = 0666, .gid = UINT32_MAX}, CONTEXT_OWN},
    {{.verb = LLM_CONTEXT_UNPIN}, CONTEXT_OWN},
    {{.verb = LLM_CONTEXT_LEASE, .lease_ms = 1000}, CONTEXT_OWN},
    {{.verb = LLM_CONTEXT_REMOVE}, CONTEXT_OWN},
};
#define ASKED (sizeof asked / sizeof asked[0])

static const struct {
    enum client client;
    uint32_t mode;
    bool reads, writes, owns;
} rights[] = {
    {OWNER, 0600, true, true, true},         {MEMBER, 0600, false, false, false},
    {STRANGER, 0600, false, false, false},   {ADMINISTRATOR, 0600, true, true, true},
    {MEMBER, 0640, true, false, false},      {STRANGER, 0640, false, false, false},
    {MEMBER, 0660, true, true, false},       {STRANGER, 0660, false, false, false},
    {MEMBER, 0604, false, false, false},     {STRANGER, 0604, true, false, false},
    {STRANGER, 0666, true, true, false},     {OWNER, 0000, false, false, true},
    {STRANGER, 0620, false, false, false},   {MEMBER, 0620, false, true, false},
    {ADMINISTRATOR, 0000, true, true, true},
};

/* With one of its rights only what needs that right is done, and what is refused changes nothing. */
START_TEST(mode_bits_and_owner_decide)
{
    static const uint32_t token = 5;
    enum client client = rights[_i].client;
    for (size_t i = 0; i < ASKED; i++) {
        uint64_t id = made_with(OWNER, 4);
        OK(call(OWNER, BODY(.verb = LLM_CONTEXT_MODE, .id = id, .mode = rights[_i].mode,
                            .gid = UINT32_MAX)));
        struct llm_ctx_version before =
            *context_now(&fixture.engine, contexts_slot(&fixture.engine, id));
        struct llm_context_body body = asked[i].body;
        body.id = id;
        bool may = asked[i].right == CONTEXT_READ    ? rights[_i].reads
                   : asked[i].right == CONTEXT_WRITE ? rights[_i].writes
                                                     : rights[_i].owns;
        enum llm_status status = call_ids(client, body, body.count == 1 ? &token : NULL);
        ck_assert_msg(status == (may ? LLM_OK : LLM_ERR_PERMISSION), "verb %u: %d %s", body.verb,
                      status, note);
        uint32_t slot = contexts_slot(&fixture.engine, id);
        if (!may) {
            ck_assert_uint_eq(answer_words, 0);
            ck_assert_uint_ne(slot, CONTEXT_NONE);
            ck_assert_mem_eq(&before, context_now(&fixture.engine, slot), sizeof before);
        }
        if (slot != CONTEXT_NONE)
            OK(call(OWNER, BODY(.verb = LLM_CONTEXT_REMOVE, .id = id)));
    }
}
END_TEST

START_TEST(keeping_takes_no_strangers_tokens)
{
    uint64_t mine = made_with(STRANGER, 4), secret = made_with(OWNER, 4);
    publish(OWNER, secret, "read-me", 0666); /* may be read and written, but not ended */
    ck_assert_int_eq(call(STRANGER, BODY(.verb = LLM_CONTEXT_KEEP, .id = mine, .other = secret)),
                     LLM_ERR_PERMISSION);
    ck_assert_uint_eq(look(OWNER, secret).length, 4);
    OK(call(STRANGER, BODY(.verb = LLM_CONTEXT_CLOSE, .id = secret))); /* does nothing */
    ck_assert_uint_eq(look(OWNER, secret).length, 4);
}
END_TEST

START_TEST(nobody_publishes_into_a_group_of_others)
{
    uint64_t id = made_with(STRANGER, 4);
    FAILS(call(STRANGER, BODY(.verb = LLM_CONTEXT_PUBLISH, .id = id, .mode = 0660, .gid = 101,
                              .name = "ours")),
          LLM_ERR_PERMISSION, "user 1001 is not in group 101");
    FAILS(call(STRANGER, BODY(.verb = LLM_CONTEXT_MODE, .id = id, .mode = 0700, .gid = UINT32_MAX)),
          LLM_ERR_INVALID, "mode 0700: 0666 are the bits of a context");
}
END_TEST

START_TEST(a_refusal_says_what_there_is_and_what_is_missing)
{
    char sentence[LLM_NOTE_BYTES];
    uint64_t id = made_with(OWNER, 4);
    snprintf(sentence, sizeof sentence,
             "context %llu belongs to user 1002 and group 101, mode 0600: user 1003 may not read "
             "it",
             (unsigned long long)id);
    FAILS(call(MEMBER, BODY(.verb = LLM_CONTEXT_OPEN, .id = id)), LLM_ERR_PERMISSION, sentence);
    FAILS(call(MEMBER, BODY(.verb = LLM_CONTEXT_OPEN, .id = 77)), LLM_ERR_NOT_FOUND,
          "there is no context 77");
}
END_TEST

/* ---- How long they live ------------------------------------------------------------------------------------ */

static uint32_t live(void)
{
    return fixture.engine.contexts.live;
}

START_TEST(what_nothing_keeps_ends_with_its_connection)
{
    uint64_t named = made_with(OWNER, 3), leased = made_with(OWNER, 3);
    uint64_t adopted = made_with(OWNER, 3), plain = made_with(OWNER, 3);
    publish(OWNER, named, "stays", 0666);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_LEASE, .id = leased, .lease_ms = 60000)));
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_MODE, .id = adopted, .mode = 0666, .gid = UINT32_MAX)));
    OK(call(MEMBER, BODY(.verb = LLM_CONTEXT_ADOPT, .id = adopted)));
    fixture_detach(&fixture, OWNER);
    ck_assert_uint_eq(live(), 3);
    ck_assert_uint_eq(contexts_slot(&fixture.engine, plain), CONTEXT_NONE);
    OK(open_named(MEMBER, "stays"));
    ck_assert_uint_eq(look(ADMINISTRATOR, leased).flags & LLM_CONTEXT_LEASED, LLM_CONTEXT_LEASED);
    fixture_detach(&fixture, MEMBER);
    ck_assert_uint_eq(live(), 2);
    contexts_expire(&fixture.engine, llm_boot_ns() + 59 * LLM_NS_PER_S);
    ck_assert_uint_eq(live(), 2);
    contexts_expire(&fixture.engine, llm_boot_ns() + 61 * LLM_NS_PER_S);
    ck_assert_uint_eq(live(), 1);
    ck_assert_uint_eq(fixture.engine.next_lease_ns, UINT64_MAX);
}
END_TEST

START_TEST(a_lease_is_renewed_and_given_up)
{
    uint64_t id = made_with(OWNER, 3);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_LEASE, .id = id, .lease_ms = 1000)));
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_LEASE, .id = id, .lease_ms = 100000)));
    contexts_expire(&fixture.engine, llm_boot_ns() + 2 * LLM_NS_PER_S);
    ck_assert_uint_eq(live(), 1);
    uint32_t left_ms = look(OWNER, id).lease_ms;
    ck_assert(left_ms > 90000 && left_ms <= 100000);
    fixture_detach(&fixture, OWNER);
    OK(call(ADMINISTRATOR, BODY(.verb = LLM_CONTEXT_LEASE, .id = id)));
    ck_assert_uint_eq(live(), 0); /* neither lease nor connection */
}
END_TEST

START_TEST(ids_are_never_used_twice)
{
    uint64_t last = 0;
    for (int i = 0; i < 50; i++) {
        uint64_t id = create(OWNER);
        ck_assert_uint_gt(id >> 16, last >> 16);
        last = id;
        if (i % 2)
            OK(call(OWNER, BODY(.verb = LLM_CONTEXT_REMOVE, .id = id)));
        if (i % 10 == 9)
            fixture_restart(&fixture);
    }
}
END_TEST

/* ---- Limits and nonsense ----------------------------------------------------------------------------------- */

START_TEST(a_user_has_so_many_contexts_and_others_still_get_some)
{
    uint64_t id = made_with(STRANGER, 3);
    for (int i = 1; i < 32; i++)
        OK(call(STRANGER, BODY(.verb = LLM_CONTEXT_FORK, .id = id, .length = 3)));
    FAILS(call(STRANGER, BODY(.verb = LLM_CONTEXT_CREATE)), LLM_ERR_LIMIT,
          "user 1001 has 32 contexts and may have 32 (limits.contexts_per_user, or its quota): end "
          "some");
    create(OWNER);
    OK(call(STRANGER, BODY(.verb = LLM_CONTEXT_REMOVE, .id = id)));
    create(STRANGER);
}
END_TEST

START_TEST(tokens_that_were_rewound_are_charged_no_more)
{
    uint64_t most = fixture.engine.config.limits.context_tokens_per_user;
    uint64_t id = made_with(OWNER, 1000);
    uint32_t owner = fixture.engine.contexts.slots[contexts_slot(&fixture.engine, id)].owner;
    struct engine_user *user = &fixture.engine.users.rows[owner];
    ck_assert_uint_ge(most, 1000);
    user->quota.context_tokens = 1000;
    ck_assert_int_eq(append(OWNER, id, 0, 1), LLM_ERR_LIMIT);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_REWIND, .id = id, .length = 10)));
    ck_assert_uint_eq(user->context_tokens, 10);
    OK(append(OWNER, id, 0, 990));
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_FORK, .id = id, .length = 500)));
    uint64_t fork = answered().id;
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_REWIND, .id = id, .length = 400)));
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_READ, .id = fork, .length = 499, .count = 10)));
    ck_assert_uint_eq(answer_words, 1);
    ck_assert_uint_eq(answer[0], (499 - 10) % 250);
}
END_TEST

START_TEST(a_models_context_has_an_end)
{
    char sentence[LLM_NOTE_BYTES];
    uint32_t most = fixture.engine.executors[0]->facts.context_tokens_max;
    uint64_t id = create(OWNER);
    for (uint32_t length = 0; length < most; length += 4096)
        OK(append(OWNER, id, 0, most - length < 4096 ? most - length : 4096));
    snprintf(sentence, sizeof sentence,
             "1 tokens behind the %u of context %llu: the model's context has %u", most,
             (unsigned long long)id, most);
    FAILS(append(OWNER, id, 0, 1), LLM_ERR_LIMIT, sentence);
}
END_TEST

static const struct {
    struct llm_context_body body;
    uint32_t body_bytes, log_words;
    enum llm_status status;
    const char *sentence;
} nonsense[] = {
    {{.verb = 0}, 256, 64, LLM_ERR_INVALID, "verb 0 is not known"},
    {{.verb = LLM_CONTEXT_VERB_COUNT}, 256, 64, LLM_ERR_INVALID, "verb 20 is not known"},
    {{.verb = LLM_CONTEXT_CREATE},
     255,
     64,
     LLM_ERR_INVALID,
     "the body has 255 bytes, at least 256 are needed"},
    {{.verb = LLM_CONTEXT_CREATE},
     260,
     64,
     LLM_ERR_INVALID,
     "the body has 260 bytes, its parts have 256"},
    {{.verb = LLM_CONTEXT_CREATE},
     256,
     63,
     LLM_ERR_INVALID,
     "a log of 63 words has no room for a context's record of 64"},
    {{.verb = LLM_CONTEXT_CREATE, .id = 1},
     256,
     64,
     LLM_ERR_INVALID,
     "verb 1 does not use the field id: it must be 0"},
    {{.verb = LLM_CONTEXT_CREATE, .reserved = {[111] = 1}},
     256,
     64,
     LLM_ERR_INVALID,
     "verb 1 does not use the field reserved: it must be 0"},
    {{.verb = LLM_CONTEXT_CREATE, .name = "no-such-model"},
     256,
     64,
     LLM_ERR_NOT_FOUND,
     "model \"no-such-model\" is not loaded"},
    {{.verb = LLM_CONTEXT_OPEN, .id = 1, .name = "x"},
     256,
     64,
     LLM_ERR_INVALID,
     "verb 2 does not use the field name: it must be 0"},
    {{.verb = LLM_CONTEXT_OPEN, .other = 99},
     256,
     64,
     LLM_ERR_NOT_FOUND,
     "request 99 is on no context"},
    {{.verb = LLM_CONTEXT_APPEND, .id = 65537},
     256,
     0,
     LLM_ERR_INVALID,
     "there are no tokens: at least 1"},
    {{.verb = LLM_CONTEXT_APPEND, .id = 65537, .count = UINT32_MAX},
     256,
     0,
     LLM_ERR_INVALID,
     "the body has 256 bytes, its parts have 17179869436"},
    {{.verb = LLM_CONTEXT_FORK, .id = 65537, .length = 4},
     256,
     64,
     LLM_ERR_INVALID,
     "a fork of 4 tokens: context 65537 has 3"},
    {{.verb = LLM_CONTEXT_REWIND, .id = 65537, .length = 4},
     256,
     0,
     LLM_ERR_INVALID,
     "rewinding to 4 tokens: context 65537 has 3"},
    {{.verb = LLM_CONTEXT_PUBLISH, .name = "x", .gid = UINT32_MAX},
     256,
     64,
     LLM_ERR_INVALID,
     "the context to be named has no id"},
    {{.verb = LLM_CONTEXT_LEASE, .id = 65537, .lease_ms = 5, .mode = 1},
     256,
     0,
     LLM_ERR_INVALID,
     "verb 10 does not use the field mode: it must be 0"},
};

START_TEST(nonsense_is_refused_with_a_sentence)
{
    static const uint32_t none[4];
    ck_assert_uint_eq(made_with(OWNER, 3), 65537);
    submit_bytes(OWNER, &nonsense[_i].body, nonsense[_i].body_bytes, none, 4,
                 nonsense[_i].log_words);
    FAILS(await(OWNER), nonsense[_i].status, nonsense[_i].sentence);
    ck_assert_uint_eq(answer_words, 0);
    ck_assert_uint_eq(live(), 1);
}
END_TEST

START_TEST(names_without_an_end_and_ids_beyond_the_vocabulary_are_refused)
{
    uint64_t id = made_with(OWNER, 3);
    struct llm_context_body body = {.verb = LLM_CONTEXT_OPEN};
    memset(body.name, 'n', sizeof body.name);
    FAILS(call(OWNER, body), LLM_ERR_INVALID, "the name has no end within 104 bytes");
    uint32_t beyond[2] = {0, fixture.engine.executors[0]->facts.vocab_size};
    ck_assert_int_eq(
        call_ids(OWNER, BODY(.verb = LLM_CONTEXT_APPEND, .id = id, .count = 2), beyond),
        LLM_ERR_INVALID);
    ck_assert_uint_eq(look(OWNER, id).length, 3);
}
END_TEST

START_TEST(a_probe_covers_the_prompt_and_names_nobody_elses_context)
{
    uint32_t ids[40];
    for (uint32_t i = 0; i < 40; i++)
        ids[i] = i;
    OK(call_ids(OWNER, BODY(.verb = LLM_CONTEXT_PROBE, .count = 40), ids));
    struct llm_probe_span span;
    uint32_t end = 0;
    ck_assert_uint_gt(answer_words, 0);
    for (uint32_t word = 0; word < answer_words; word += sizeof span / sizeof(uint32_t)) {
        memcpy(&span, answer + word, sizeof span);
        ck_assert_uint_eq(span.from, end);
        ck_assert_uint_eq(span.kind, LLM_PROBE_MISS);
        ck_assert_uint_eq(span.context_id, 0);
        end = span.to;
    }
    ck_assert_uint_eq(end, 40);
}
END_TEST

/* ---- Requests on a context: as intake.c and publish.c call ------------------------------------------------- */

/* A request with `prompt` tokens behind the context's own. */
static uint32_t begin_request(uint64_t id, uint32_t prompt)
{
    struct engine *engine = &fixture.engine;
    uint32_t slot = contexts_slot(engine, id), length = contexts_length(engine, slot);
    struct llm_reqtab_record *record = &engine->tables.requests[0];
    struct llm_error error;
    uint32_t *ids = tables_ids(&engine->tables, 0);
    contexts_copy_ids(engine, slot, 0, length, ids);
    for (uint32_t i = 0; i < 20 + prompt; i++)
        ids[length + i] = 100 + i;
    record->request_id = 4711;
    record->context_id = id;
    record->body.prompt_tokens = length + prompt;
    atomic_store(&record->published, 0);
    ck_assert_int_eq(contexts_begin(engine, slot, 0, &error), LLM_OK);
    return slot;
}

START_TEST(a_running_answer_is_read_and_forked_as_far_as_it_is_published)
{
    uint64_t id = made_with(OWNER, 10);
    uint32_t slot = begin_request(id, 2);
    ck_assert_uint_eq(look(OWNER, id).length, 12);
    ck_assert_uint_eq(look(OWNER, id).flags & LLM_CONTEXT_GENERATING, LLM_CONTEXT_GENERATING);
    ck_assert_int_eq(append(OWNER, id, 0, 1), LLM_ERR_BUSY);
    ck_assert_str_eq(note, "request 4711 is running on context 65537");
    ck_assert_int_eq(call(OWNER, BODY(.verb = LLM_CONTEXT_REWIND, .id = id)), LLM_ERR_BUSY);
    atomic_store(&fixture.engine.tables.requests[0].published, 3);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_READ, .id = id, .length = 9, .count = 100)));
    ck_assert_uint_eq(answer_words, 6);
    ck_assert_uint_eq(answer[0], 9);
    ck_assert_uint_eq(answer[5], 104);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_FORK, .id = id, .length = UINT32_MAX)));
    uint64_t fork = answered().id;
    ck_assert_uint_eq(answered().length, 15);
    atomic_store(&fixture.engine.tables.requests[0].published, 5);
    contexts_end(&fixture.engine, slot);
    ck_assert_uint_eq(look(OWNER, id).length, 17);
    OK(append(OWNER, fork, 0, 1));
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_READ, .id = id, .length = 14, .count = 100)));
    ck_assert_uint_eq(answer_words, 3);
    ck_assert_uint_eq(answer[2], 106);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_OPEN, .other = 4711)));
    ck_assert_uint_eq(answered().id, id);
}
END_TEST

/* Its client wrote something else into the entry after the engine had died. */
START_TEST(a_branch_that_is_taken_in_again_runs_on_nobody_elses_context)
{
    struct engine *engine = &fixture.engine;
    struct connection *stranger = &engine->connections[fixture.clients[STRANGER].slot];
    struct llm_error error;
    uint32_t branch;
    uint64_t others = made_with(OWNER, 10), own = made_with(STRANGER, 5);
    publish(OWNER, others, "letterbox", 0622);
    const struct context_by by = {stranger->peer.id, stranger->queue.head};
    OK(append(STRANGER, others, 0, 1));
    uint32_t written = contexts_slot(engine, others), parent = contexts_slot(engine, own);
    ck_assert_uint_eq(contexts_made_by(engine, &by), written);
    stranger->replayed_position = by.position;
    ck_assert_int_eq(contexts_branch(engine, stranger, parent, &by, &branch, &error), LLM_OK);
    ck_assert_uint_ne(branch, written);
    ck_assert_uint_eq(context_now(engine, branch)->parent_id, own);
    ck_assert_uint_eq(contexts_length(engine, branch), 5);
    stranger->replayed_position = UINT64_MAX;
}
END_TEST

START_TEST(an_unnamed_context_ends_with_its_request_when_its_connection_is_gone)
{
    uint64_t id = made_with(OWNER, 10);
    uint32_t slot = begin_request(id, 0);
    fixture_detach(&fixture, OWNER);
    ck_assert_uint_eq(live(), 1);
    contexts_end(&fixture.engine, slot);
    ck_assert_uint_eq(live(), 0);
}
END_TEST

START_TEST(what_a_live_request_published_is_there_after_a_death)
{
    uint64_t id = made_with(OWNER, 10);
    publish(OWNER, id, "kept", 0600);
    begin_request(id, 2);
    atomic_store(&fixture.engine.tables.requests[0].published, 4);
    atomic_store(&fixture.engine.tables.requests[0].word, llm_word_pack(1, LLM_REQ_LIVE));
    fixture.engine.contexts.slots[contexts_slot(&fixture.engine, id)].request_slot = REQUEST_NONE;
    fixture_restart(&fixture);
    ck_assert_uint_eq(look(OWNER, id).length, 16);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_READ, .id = id, .length = 15, .count = 100)));
    ck_assert_uint_eq(answer[0], 105);
}
END_TEST

START_TEST(pins_are_counted_and_refused_with_the_numbers)
{
    struct engine *engine = &fixture.engine;
    struct llm_error error;
    uint32_t block = engine->executors[0]->facts.block_tokens;
    uint32_t blocks = core_counts(engine->core).kv.total, most = blocks / 2;
    uint64_t id = create(OWNER), other = create(OWNER);
    uint32_t slot = contexts_slot(engine, id), second = contexts_slot(engine, other);
    ck_assert_int_eq(contexts_pin_admit(engine, slot, most * block, &error), LLM_OK);
    ck_assert_uint_eq(look(OWNER, id).pinned_blocks, most);
    ck_assert_int_eq(contexts_pin_admit(engine, second, 1, &error), LLM_ERR_LIMIT);
    char sentence[LLM_NOTE_BYTES];
    snprintf(sentence, sizeof sentence,
             "pinning 1 more blocks would exceed the part of the pool that may be pinned "
             "(kv.pinned_percent: %u of %u pinned)",
             most, most);
    ck_assert_str_eq(error.message, sentence);
    contexts_pin_give_up(engine, slot);
    ck_assert_uint_eq(look(OWNER, id).pinned_blocks, 0);
    ck_assert_int_eq(contexts_pin_admit(engine, second, 1, &error), LLM_OK);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_REMOVE, .id = other)));
    ck_assert_uint_eq(engine->contexts.pinned_blocks, 0);
}
END_TEST

START_TEST(a_pin_is_what_is_held_whatever_the_tokens_become)
{
    struct engine *engine = &fixture.engine;
    uint32_t block = engine->executors[0]->facts.block_tokens;
    uint64_t id = made_with(OWNER, 4 * block), other = create(OWNER);
    uint32_t slot = contexts_slot(engine, id);
    OK(append(OWNER, other, 7, 4 * block));
    compute_pinned(OWNER, id);
    ck_assert_uint_eq(context_now(engine, slot)->pinned_tokens, 4 * block);
    ck_assert_uint_eq(engine->contexts.pinned_blocks, 4);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_REWIND, .id = id, .length = 2 * block)));
    ck_assert_uint_eq(context_now(engine, slot)->pinned_tokens, 2 * block);
    ck_assert_uint_eq(look(OWNER, id).pinned_blocks, 2);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_KEEP, .id = id, .other = other)));
    ck_assert_uint_eq(answered().length, 4 * block);
    ck_assert_uint_eq(answered().pinned_blocks, 0); /* none of those tokens was computed */
    ck_assert_uint_eq(context_now(engine, slot)->pinned_tokens, 0);
    ck_assert_uint_eq(engine->contexts.pinned_blocks, 0);
}
END_TEST

/* ---- Deaths ------------------------------------------------------------------------------------------------ */

/* The script: each line is one submission; `id` and `other` are lines whose answers have the ids. */
static const struct line {
    uint32_t verb, id, other, length, count;
    const char *name;
} script[] = {
    {LLM_CONTEXT_CREATE, 0, 0, 0, 0, NULL},         /* 0 */
    {LLM_CONTEXT_APPEND, 0, 0, 0, 40, NULL},        /* 1 */
    {LLM_CONTEXT_FORK, 0, 0, UINT32_MAX, 0, NULL},  /* 2 */
    {LLM_CONTEXT_APPEND, 2, 0, 0, 7, NULL},         /* 3 */
    {LLM_CONTEXT_APPEND, 0, 0, 0, 5, NULL},         /* 4 */
    {LLM_CONTEXT_FORK, 2, 0, 20, 0, NULL},          /* 5 */
    {LLM_CONTEXT_APPEND, 5, 0, 0, 9, NULL},         /* 6 */
    {LLM_CONTEXT_PUBLISH, 5, 0, 0, 0, "crash/one"}, /* 7 */
    {LLM_CONTEXT_REWIND, 0, 0, 10, 0, NULL},        /* 8 */
    {LLM_CONTEXT_APPEND, 0, 0, 0, 3, NULL},         /* 9 */
    {LLM_CONTEXT_KEEP, 0, 2, 0, 0, NULL},           /* 10 */
    {LLM_CONTEXT_PUBLISH, 5, 0, 0, 0, "crash/two"}, /* 11 */
    {LLM_CONTEXT_FORK, 0, 0, UINT32_MAX, 0, NULL},  /* 12 */
    {LLM_CONTEXT_MODE, 0, 0, 0, 0, NULL},           /* 13 */
    {LLM_CONTEXT_REMOVE, 0, 0, 0, 0, NULL},         /* 14 */
    {LLM_CONTEXT_APPEND, 12, 0, 0, 2, NULL},        /* 15 */
    {LLM_CONTEXT_FORK, 5, 0, 5, 0, NULL},           /* 16 */
    {LLM_CONTEXT_CLOSE, 16, 0, 0, 0, NULL},         /* 17 */
    {LLM_CONTEXT_ADOPT, 12, 0, 0, 0, NULL},         /* 18 */
};
#define LINES (sizeof script / sizeof script[0])

static struct progress {
    uint32_t line; /* being played */
    uint64_t ids[LINES];
} * progress;

static void submit_line(uint32_t number)
{
    const struct line *line = &script[number];
    uint32_t ids[64];
    struct llm_context_body body = {
        .verb = line->verb, .length = line->length, .count = line->count};
    bool creates = line->verb == LLM_CONTEXT_CREATE;
    body.id = creates ? 0 : progress->ids[line->id];
    body.other = line->verb == LLM_CONTEXT_KEEP ? progress->ids[line->other] : 0;
    if (line->verb == LLM_CONTEXT_PUBLISH || line->verb == LLM_CONTEXT_MODE) {
        body.mode = 0640;
        body.gid = UINT32_MAX;
    }
    if (line->name)
        snprintf(body.name, sizeof body.name, "%s", line->name);
    for (uint32_t i = 0; i < line->count; i++)
        ids[i] = (number * 16 + i) % 250;
    submit_bytes(OWNER, &body, (uint32_t)(sizeof body + line->count * sizeof *ids), ids,
                 line->count, 64);
}

static void after_line(uint32_t number)
{
    ck_assert_msg(await(OWNER) == LLM_OK, "line %u: %s", number, note);
    if (answer_words > 0)
        progress->ids[number] = answered().id;
    progress->line = number + 1;
}

static void play(void)
{
    while (progress->line < LINES) {
        submit_line(progress->line);
        after_line(progress->line);
    }
}

/* What the script leaves, whoever died meanwhile. */
static void look_at_the_end(void)
{
    ck_assert_uint_eq(live(), 2);
    struct llm_context_record fork = look(OWNER, progress->ids[12]);
    ck_assert_uint_eq(fork.length, 49);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_READ, .id = fork.id, .count = 64)));
    for (uint32_t i = 0; i < 49; i++)
        ck_assert_uint_eq(answer[i], i < 40 ? 16 + i : i < 47 ? 48 + i - 40 : 240 + i - 47);
    OK(open_named(OWNER, "crash/two"));
    ck_assert_uint_eq(answered().id, progress->ids[5]);
    ck_assert_uint_eq(answered().length, 29);
    ck_assert_uint_eq(answered().mode, 0640);
    ck_assert_int_eq(open_named(OWNER, "crash/one"), LLM_ERR_NOT_FOUND);
    OK(call(OWNER, BODY(.verb = LLM_CONTEXT_READ, .id = progress->ids[5], .count = 64)));
    for (uint32_t i = 0; i < 29; i++)
        ck_assert_uint_eq(answer[i], i < 20 ? 16 + i : 96 + i - 20);
}

static void share_progress(void)
{
    progress =
        mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(progress != MAP_FAILED);
}

START_TEST(the_script_ends_as_it_should_when_nobody_dies)
{
    share_progress();
    play();
    look_at_the_end();
}
END_TEST

static const enum llm_crash_point points[] = {
    LLM_CRASH_ctx_version, LLM_CRASH_ctx_word,      LLM_CRASH_row_ids,     LLM_CRASH_row_end,
    LLM_CRASH_row_fields,  LLM_CRASH_row_live,      LLM_CRASH_row_free,    LLM_CRASH_stream_open,
    LLM_CRASH_stream_end,  LLM_CRASH_conn_answered, LLM_CRASH_stream_done, LLM_CRASH_conn_head,
    LLM_CRASH_queue_head,
};
#define POINTS     (sizeof points / sizeof points[0])
#define PASSES_MAX 24

/* False: the script passes the point less often. */
static bool die_while_playing(enum llm_crash_point point, int pass)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        char text[64];
        snprintf(text, sizeof text, "%s:%d", llm_crash_point_name(point), pass);
        llm_crash_point_choose(text);
        play();
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    ck_assert_msg(killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0), "%s:%d: status %#x",
                  llm_crash_point_name(point), pass, (unsigned)status);
    return killed;
}

START_TEST(each_line_is_done_once_whenever_the_engine_dies)
{
    enum llm_crash_point point = points[(size_t)_i / PASSES_MAX];
    int pass = _i % PASSES_MAX + 1;
    share_progress();
    bool killed = die_while_playing(point, pass);
    ck_assert_msg(killed || pass > 1, "%s was never passed", llm_crash_point_name(point));
    fixture_restart(&fixture);
    if (killed)
        after_line(progress->line); /* it was submitted: the new engine finds it */
    play();
    look_at_the_end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/contexts");
    TCase *tc = tcase_create("contexts");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, tokens_are_appended_read_forked_and_rewound);
    tcase_add_test(tc, keeping_gives_the_tokens_and_ends_the_other);
    tcase_add_test(tc, a_list_has_what_the_caller_may_read);
    tcase_add_test(tc, names_are_checked_unique_and_free_again);
    tcase_add_loop_test(tc, mode_bits_and_owner_decide, 0, sizeof rights / sizeof rights[0]);
    tcase_add_test(tc, keeping_takes_no_strangers_tokens);
    tcase_add_test(tc, nobody_publishes_into_a_group_of_others);
    tcase_add_test(tc, a_refusal_says_what_there_is_and_what_is_missing);
    tcase_add_test(tc, what_nothing_keeps_ends_with_its_connection);
    tcase_add_test(tc, a_lease_is_renewed_and_given_up);
    tcase_add_test(tc, ids_are_never_used_twice);
    tcase_add_test(tc, a_user_has_so_many_contexts_and_others_still_get_some);
    tcase_add_test(tc, tokens_that_were_rewound_are_charged_no_more);
    tcase_add_test(tc, a_models_context_has_an_end);
    tcase_add_loop_test(tc, nonsense_is_refused_with_a_sentence, 0,
                        sizeof nonsense / sizeof nonsense[0]);
    tcase_add_test(tc, names_without_an_end_and_ids_beyond_the_vocabulary_are_refused);
    tcase_add_test(tc, a_probe_covers_the_prompt_and_names_nobody_elses_context);
    tcase_add_test(tc, a_running_answer_is_read_and_forked_as_far_as_it_is_published);
    tcase_add_test(tc, a_branch_that_is_taken_in_again_runs_on_nobody_elses_context);
    tcase_add_test(tc, an_unnamed_context_ends_with_its_request_when_its_connection_is_gone);
    tcase_add_test(tc, what_a_live_request_published_is_there_after_a_death);
    tcase_add_test(tc, pins_are_counted_and_refused_with_the_numbers);
    tcase_add_test(tc, a_pin_is_what_is_held_whatever_the_tokens_become);
    tcase_add_test(tc, the_script_ends_as_it_should_when_nobody_dies);
    tcase_add_loop_test(tc, each_line_is_done_once_whenever_the_engine_dies, 0,
                        POINTS * PASSES_MAX);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
