#include "daemon/engine/context_ops.h"

#include <stdio.h>
#include <string.h>

#include "daemon/engine/contexts.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/follow.h"
#include "daemon/engine/intake.h"
#include "daemon/engine/ledger.h"
#include "daemon/engine/publish.h"
#include "shm/check.h"
#include "shm/clock.h"

#define SPANS_MAX     128u       /* of one probe */
#define SPAN_CONTEXTS 64u        /* compared with a probe's ids, to name one that has them */
#define SPAN_IDS      (1u << 18) /* of those contexts' ids, so many are looked at */
#define LIST_MAX      1024u      /* records in one answer */
#define LOOK_BYTES    16u        /* charged for a slot that is looked at */
#define MODE_BITS     0666u
#define UNCHANGED     UINT32_MAX /* as a gid */
#define RECORD_LOG    LLM_CONTEXT_RECORD_WORDS
#define SPAN_LOG      (sizeof(struct llm_probe_span) / sizeof(uint32_t))
#define VIEW_LOG      (sizeof(struct llm_block_view) / sizeof(uint32_t))
#define ROW_LOG       (sizeof(struct llm_ledger_row) / sizeof(uint32_t))
#define VIEWS_MAX     128u /* in one answer */

/* One submission on its way to its answer. */
struct ask {
    struct engine *engine;
    struct connection *connection;
    const struct llm_submission *submission;
    struct llm_stream_writer *writer;
    struct llm_context_body body; /* the copy */
    const uint32_t *ids;          /* [body.count] the copy; NULL: the verb has none */
    struct context_by by;
    uint32_t slot; /* of the context that was found, or made */
    bool later;    /* the stream is somebody else's from now on: nothing is answered here */
    struct llm_error *error;
};

/* ---- Answers --------------------------------------------------------------------------------------------- */

static uint32_t room(const struct ask *ask)
{
    return ask->writer->capacity_tokens - ask->writer->count;
}

static uint32_t milliseconds(uint64_t ns)
{
    uint64_t ms = ns / LLM_NS_PER_MS + (ns % LLM_NS_PER_MS != 0);
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static uint32_t flags_of(const struct ask *ask, uint32_t slot, const struct llm_ctx_version *now)
{
    const struct context *context = &ask->engine->contexts.slots[slot];
    bool writable = contexts_may(ask->engine, ask->connection, slot, CONTEXT_WRITE);
    return (now->name[0] ? LLM_CONTEXT_NAMED : 0u) |
           (now->pinned_tokens > 0 ? LLM_CONTEXT_PINNED : 0u) |
           (now->lease_until_ns != 0 ? LLM_CONTEXT_LEASED : 0u) |
           (context->request_slot != REQUEST_NONE ? LLM_CONTEXT_GENERATING : 0u) |
           (writable ? LLM_CONTEXT_WRITABLE : 0u);
}

static void put_record(struct ask *ask, uint32_t slot)
{
    const struct engine *engine = ask->engine;
    const struct llm_ctx_version *now = context_now(engine, slot);
    const struct context *context = &engine->contexts.slots[slot];
    const struct executor_facts *facts = contexts_facts(engine, slot);
    uint64_t boot_ns = llm_boot_ns();
    bool idle = context->request_slot == REQUEST_NONE && boot_ns > context->used_ns;
    struct llm_context_record record = {
        .id = now->context_id,
        .parent_id = now->parent_id,
        .request_id = now->request_id,
        .slot = slot,
        .length = contexts_length(engine, slot),
        .shared_tokens = rows_shared(&engine->contexts.rows, contexts_place(engine, slot)),
        .pinned_blocks = context->pinned_blocks,
        .uid = now->uid,
        .gid = now->gid,
        .mode = now->mode,
        .flags = flags_of(ask, slot, now),
        .lease_ms = now->lease_until_ns > boot_ns ? milliseconds(now->lease_until_ns - boot_ns) : 0,
        .idle_ms = idle ? milliseconds(boot_ns - context->used_ns) : 0,
        .block_tokens = facts->block_tokens,
    };
    uint32_t words[RECORD_LOG];
    memcpy(record.name, now->name, sizeof record.name);
    snprintf(record.model, sizeof record.model, "%s", facts->name);
    memcpy(words, &record, sizeof words);
    llm_stream_writer_put(ask->writer, words, RECORD_LOG);
}

/* The user pays for what was looked through, as for bytes that it sent. */
static void charge(struct ask *ask, uint64_t bytes)
{
    users_charge(&ask->engine->users, ask->connection->user,
                 bytes < LLM_PAGE_BYTES * 64 ? (uint32_t)bytes : LLM_PAGE_BYTES * 64);
}

/* ... and for a pin that is looked for anew: every id of it is hashed. */
static void charge_pin(struct ask *ask, uint32_t slot)
{
    charge(ask, (uint64_t)context_now(ask->engine, slot)->pinned_tokens * sizeof(uint32_t));
}

/* ---- Making and ending ----------------------------------------------------------------------------------- */

static enum llm_status create(struct ask *ask)
{
    uint32_t model = 0;
    enum llm_status status = engine_find_model(ask->engine, ask->body.name, &model, ask->error);
    return status == LLM_OK ? contexts_create(ask->engine, ask->connection, model, &ask->by,
                                              &ask->slot, ask->error)
                            : status;
}

static enum llm_status fork_it(struct ask *ask)
{
    return contexts_fork(ask->engine, ask->connection, ask->slot, ask->body.length, &ask->by,
                         &ask->slot, ask->error);
}

static enum llm_status remove_it(struct ask *ask)
{
    contexts_remove(ask->engine, ask->slot, &ask->by);
    return LLM_OK;
}

/* ---- Tokens ---------------------------------------------------------------------------------------------- */

static enum llm_status check_ids(const struct ask *ask, const struct executor_facts *facts)
{
    for (uint32_t i = 0; i < ask->body.count; i++)
        if (ask->ids[i] >= facts->vocab_size)
            return llm_fail(ask->error, LLM_ERR_INVALID,
                            "token %u is %u, the model's vocabulary ends at %u", i, ask->ids[i],
                            facts->vocab_size - 1);
    return LLM_OK;
}

static enum llm_status append(struct ask *ask)
{
    enum llm_status status =
        contexts_may_append(ask->engine, ask->slot, ask->body.count, ask->error);
    if (status == LLM_OK)
        status = check_ids(ask, contexts_facts(ask->engine, ask->slot));
    if (status == LLM_OK)
        contexts_append(ask->engine, ask->slot, ask->ids, ask->body.count, &ask->by);
    return status;
}

static enum llm_status rewind_it(struct ask *ask)
{
    uint32_t length = contexts_length(ask->engine, ask->slot);
    enum llm_status status = contexts_idle(ask->engine, ask->slot, ask->error);
    if (status != LLM_OK)
        return status;
    if (ask->body.length > length)
        return llm_fail(ask->error, LLM_ERR_INVALID, "rewinding to %u tokens: context %llu has %u",
                        ask->body.length,
                        (unsigned long long)context_now(ask->engine, ask->slot)->context_id,
                        length);
    charge_pin(ask, ask->slot);
    contexts_rewind(ask->engine, ask->slot, ask->body.length, &ask->by);
    return LLM_OK;
}

static enum llm_status keep(struct ask *ask)
{
    uint32_t other;
    enum llm_status status = contexts_find(ask->engine, ask->connection, ask->body.other,
                                           CONTEXT_OWN, &other, ask->error);
    if (status == LLM_OK && other == ask->slot)
        status = llm_fail(ask->error, LLM_ERR_INVALID, "context %llu has its own tokens already",
                          (unsigned long long)ask->body.other);
    if (status == LLM_OK)
        status = contexts_idle(ask->engine, ask->slot, ask->error);
    if (status == LLM_OK)
        status = contexts_idle(ask->engine, other, ask->error);
    if (status == LLM_OK &&
        context_now(ask->engine, ask->slot)->model != context_now(ask->engine, other)->model)
        status = llm_fail(ask->error, LLM_ERR_INVALID, "contexts %llu and %llu are of two models",
                          (unsigned long long)context_now(ask->engine, ask->slot)->context_id,
                          (unsigned long long)ask->body.other);
    if (status != LLM_OK)
        return status;
    charge_pin(ask, ask->slot);
    contexts_take_tokens(ask->engine, ask->slot, other, &ask->by);
    contexts_remove(ask->engine, other, NULL);
    return LLM_OK;
}

static enum llm_status read_ids(struct ask *ask)
{
    uint32_t length = contexts_length(ask->engine, ask->slot), from = ask->body.length;
    uint32_t count = from < length ? length - from : 0;
    count = count < ask->body.count ? count : ask->body.count;
    count = count < room(ask) ? count : room(ask);
    uint32_t *ids = ask->engine->contexts.scratch;
    if (count > 0)
        contexts_copy_ids(ask->engine, ask->slot, from, count, ids);
    llm_stream_writer_put(ask->writer, ids, count);
    charge(ask, (uint64_t)count * sizeof *ids);
    return LLM_OK;
}

/* ---- Names, rights, life --------------------------------------------------------------------------------- */

static enum llm_status check_mode(const struct ask *ask)
{
    const struct llm_context_body *body = &ask->body;
    if (body->mode & ~MODE_BITS)
        return llm_fail(ask->error, LLM_ERR_INVALID, "mode %#o: %#o are the bits of a context",
                        body->mode, MODE_BITS);
    if (body->gid != UNCHANGED && !contexts_in_group(ask->connection, body->gid) &&
        !ask->connection->peer.administrator)
        return llm_fail(ask->error, LLM_ERR_PERMISSION, "user %u is not in group %u",
                        ask->connection->peer.uid, body->gid);
    return LLM_OK;
}

static enum llm_status check_name(const struct ask *ask)
{
    const char *name = ask->body.name;
    if (!contexts_name_valid(name))
        return llm_fail(ask->error, LLM_ERR_INVALID,
                        "\"%s\" is no name: parts of letters, digits, '.', '_' and '-', one '/' "
                        "between them",
                        name);
    uint32_t holder = contexts_named(ask->engine, name);
    if (holder != CONTEXT_NONE && holder != ask->slot)
        return llm_fail(ask->error, LLM_ERR_EXISTS, "another context is named \"%s\"", name);
    return LLM_OK;
}

static enum llm_status publish(struct ask *ask)
{
    struct llm_ctx_version next = *context_now(ask->engine, ask->slot);
    enum llm_status status = check_name(ask);
    if (status == LLM_OK)
        status = check_mode(ask);
    if (status != LLM_OK)
        return status;
    memset(next.name, 0, sizeof next.name);
    memcpy(next.name, ask->body.name, strlen(ask->body.name));
    next.mode = ask->body.mode;
    next.gid = ask->body.gid == UNCHANGED ? ask->connection->peer.gid : ask->body.gid;
    contexts_change(ask->engine, ask->slot, &next, &ask->by);
    return LLM_OK;
}

static enum llm_status set_mode(struct ask *ask)
{
    struct llm_ctx_version next = *context_now(ask->engine, ask->slot);
    enum llm_status status = check_mode(ask);
    if (status != LLM_OK)
        return status;
    next.mode = ask->body.mode;
    next.gid = ask->body.gid == UNCHANGED ? next.gid : ask->body.gid;
    contexts_change(ask->engine, ask->slot, &next, &ask->by);
    return LLM_OK;
}

static enum llm_status unpin(struct ask *ask)
{
    enum llm_status status = contexts_idle(ask->engine, ask->slot, ask->error);
    if (status == LLM_OK)
        contexts_unpin(ask->engine, ask->slot, &ask->by);
    return status;
}

static enum llm_status lease(struct ask *ask)
{
    struct llm_ctx_version next = *context_now(ask->engine, ask->slot);
    uint64_t lease_ns = ask->body.lease_ms * LLM_NS_PER_MS;
    next.lease_until_ns = lease_ns > 0 ? llm_boot_ns() + lease_ns : 0;
    contexts_change(ask->engine, ask->slot, &next, &ask->by);
    contexts_end_orphan(ask->engine, ask->slot);
    return LLM_OK;
}

static enum llm_status adopt(struct ask *ask)
{
    struct llm_ctx_version next = *context_now(ask->engine, ask->slot);
    next.connection_id = ask->connection->peer.id;
    contexts_change(ask->engine, ask->slot, &next, &ask->by);
    return LLM_OK;
}

/* ---- Looking --------------------------------------------------------------------------------------------- */

static enum llm_status find(struct ask *ask, uint64_t id, enum context_right right)
{
    return id != 0 ? contexts_find(ask->engine, ask->connection, id, right, &ask->slot, ask->error)
                   : contexts_find_named(ask->engine, ask->connection, ask->body.name, right,
                                         &ask->slot, ask->error);
}

static enum llm_status open_it(struct ask *ask)
{
    uint64_t id = ask->body.id;
    if (ask->body.other != 0) {
        charge(ask, ask->engine->contexts.count * sizeof id);
        id = contexts_id_of_request(ask->engine, ask->body.other);
        if (id == 0)
            return llm_fail(ask->error, LLM_ERR_NOT_FOUND, "request %llu is on no context",
                            (unsigned long long)ask->body.other);
    }
    return find(ask, id, CONTEXT_READ);
}

static enum llm_status close_it(struct ask *ask)
{
    enum llm_status status = open_it(ask);
    if (status == LLM_OK &&
        ask->engine->contexts.slots[ask->slot].connection_id == ask->connection->peer.id)
        contexts_remove(ask->engine, ask->slot, &ask->by);
    return status;
}

static enum llm_status list(struct ask *ask)
{
    uint32_t slot = ask->body.length, most = ask->body.count;
    if (most == 0 || most > LIST_MAX)
        most = LIST_MAX;
    uint32_t looked = 0;
    for (; slot < ask->engine->contexts.count && room(ask) >= RECORD_LOG && most > 0; slot++) {
        looked++;
        if (!ask->engine->contexts.slots[slot].live ||
            !contexts_may(ask->engine, ask->connection, slot, CONTEXT_READ))
            continue;
        put_record(ask, slot);
        looked += RECORD_LOG * sizeof(uint32_t) / LOOK_BYTES;
        most--;
    }
    charge(ask, (uint64_t)looked * LOOK_BYTES);
    return LLM_OK;
}

/* How many of the first `count` ids are the context's first ones. */
static uint32_t common_prefix(const struct ask *ask, uint32_t slot, uint32_t count)
{
    uint32_t chunk[256], same = 0;
    uint32_t length = contexts_length(ask->engine, slot);
    count = count < length ? count : length;
    while (same < count) {
        uint32_t some = count - same < 256 ? count - same : 256, i = 0;
        contexts_copy_ids(ask->engine, slot, same, some, chunk);
        while (i < some && chunk[i] == ask->ids[same + i])
            i++;
        same += i;
        if (i < some)
            break;
    }
    return same;
}

/* Name a readable context for each span whose tokens one has from the first on; not all of them are looked at. */
static void name_contexts(struct ask *ask, struct llm_probe_span *spans, uint32_t count)
{
    uint32_t compared = 0, looked = 0, found_end = 0;
    for (uint32_t i = 0; i < count; i++)
        if (spans[i].kind == LLM_PROBE_HIT || spans[i].kind == LLM_PROBE_COPY)
            found_end = spans[i].to;
    for (uint32_t slot = 0;
         slot < ask->engine->contexts.count && compared < SPAN_CONTEXTS && looked < SPAN_IDS;
         slot++) {
        if (!ask->engine->contexts.slots[slot].live || found_end == 0 ||
            !contexts_may(ask->engine, ask->connection, slot, CONTEXT_READ))
            continue;
        uint32_t same = common_prefix(ask, slot, found_end);
        compared++;
        looked += same;
        for (uint32_t i = 0; i < count; i++)
            if ((spans[i].kind == LLM_PROBE_HIT || spans[i].kind == LLM_PROBE_COPY) &&
                spans[i].to <= same && spans[i].context_id == 0)
                spans[i].context_id = context_now(ask->engine, slot)->context_id;
    }
    charge(ask, (uint64_t)looked * sizeof(uint32_t) +
                    (uint64_t)ask->engine->contexts.count * LOOK_BYTES);
}

static enum llm_status probe(struct ask *ask)
{
    struct core_probe_span found[SPANS_MAX];
    struct llm_probe_span spans[SPANS_MAX];
    uint32_t model = 0, words[SPAN_LOG];
    uint32_t most = room(ask) / SPAN_LOG < SPANS_MAX ? room(ask) / SPAN_LOG : SPANS_MAX;
    enum llm_status status = engine_find_model(ask->engine, ask->body.name, &model, ask->error);
    if (status != LLM_OK)
        return status;
    uint32_t count = core_probe(ask->engine->core, model, ask->connection->domains.domains,
                                ask->connection->domains.count, ask->connection->peer.administrator,
                                ask->ids, ask->body.count, found, most);
    for (uint32_t i = 0; i < count; i++)
        spans[i] = (struct llm_probe_span){.kind = (uint32_t)found[i].kind,
                                           .from = found[i].from,
                                           .to = found[i].to,
                                           .cached_token = found[i].cached_token,
                                           .domain = found[i].domain};
    name_contexts(ask, spans, count);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(words, &spans[i], sizeof words);
        llm_stream_writer_put(ask->writer, words, SPAN_LOG);
    }
    return LLM_OK;
}

/* On success the stream is the follower's. */
static enum llm_status follow(struct ask *ask)
{
    enum llm_status status =
        follow_start(ask->engine, ask->connection, ask->submission, ask->slot, ask->error);
    ask->later = status == LLM_OK;
    return status;
}

/* Records of `log_words` each, in the log's words. */
static void put_words(const struct ask *ask, const void *records, uint32_t count, size_t log_words)
{
    uint32_t words[ROW_LOG > VIEW_LOG ? ROW_LOG : VIEW_LOG];
    for (uint32_t i = 0; i < count; i++) {
        memcpy(words, (const char *)records + i * log_words * sizeof *words,
               log_words * sizeof *words);
        llm_stream_writer_put(ask->writer, words, (uint32_t)log_words);
    }
}

static uint32_t at_most(const struct ask *ask, size_t log_words, uint32_t most)
{
    uint32_t fits = room(ask) / (uint32_t)log_words;
    fits = fits < most ? fits : most;
    return ask->body.count < fits ? ask->body.count : fits;
}

static enum llm_status blocks(struct ask *ask)
{
    struct llm_block_view views[VIEWS_MAX];
    if (!ask->connection->peer.administrator)
        return llm_fail(ask->error, LLM_ERR_PERMISSION, "user %u may not look at the pool's blocks",
                        ask->connection->peer.uid);
    uint32_t count =
        ledger_blocks(ask->engine, ask->body.length, views, at_most(ask, VIEW_LOG, VIEWS_MAX));
    put_words(ask, views, count, VIEW_LOG);
    charge(ask, (uint64_t)count * sizeof views[0]);
    return LLM_OK;
}

/* Added up anew for each page; a walk over the whole pool is paid for like the bytes it looks at. */
static enum llm_status memory(struct ask *ask)
{
    static struct llm_ledger_row rows[LEDGER_ROWS_MAX]; /* the engine thread's, for one call */
    uint32_t count = ledger_take(ask->engine, ask->connection, rows, LEDGER_ROWS_MAX);
    uint32_t first = ask->body.length < count ? ask->body.length : count;
    uint32_t fits = at_most(ask, ROW_LOG, LEDGER_ROWS_MAX);
    put_words(ask, rows + first, count - first < fits ? count - first : fits, ROW_LOG);
    charge(ask, (uint64_t)core_blocks(ask->engine->core) * LOOK_BYTES);
    return LLM_OK;
}

/* ---- The table ------------------------------------------------------------------------------------------- */

enum { /* fields of the body */
    LENGTH = 1 << 0,
    ID = 1 << 1, /* and, with 0, the name */
    OTHER = 1 << 2,
    COUNT = 1 << 3,
    MODE = 1 << 4, /* and the gid */
    LEASE = 1 << 5,
    NAME = 1 << 6
};

enum {                /* how it goes */
    FINDS = 1 << 0,   /* the context that `id` or `name` say, with `right` */
    CHANGES = 1 << 1, /* is done once */
    RECORD = 1 << 2,  /* answers the record of the context that was found or made */
    IDS = 1 << 3,     /* has ids behind the body, at least one */
    MODEL = 1 << 4    /* goes on with its model, which must be there */
};

static const struct verb {
    enum llm_status (*run)(struct ask *ask);
    unsigned fields;
    unsigned ways;
    enum context_right right;
} verbs[LLM_CONTEXT_VERB_COUNT] = {
    [LLM_CONTEXT_CREATE] = {create, NAME, CHANGES | RECORD, CONTEXT_READ},
    [LLM_CONTEXT_OPEN] = {open_it, ID | OTHER, RECORD, CONTEXT_READ},
    [LLM_CONTEXT_FORK] = {fork_it, ID | LENGTH, FINDS | MODEL | CHANGES | RECORD, CONTEXT_READ},
    [LLM_CONTEXT_APPEND] = {append, ID | COUNT, FINDS | MODEL | CHANGES | IDS, CONTEXT_WRITE},
    [LLM_CONTEXT_REWIND] = {rewind_it, ID | LENGTH, FINDS | CHANGES, CONTEXT_WRITE},
    [LLM_CONTEXT_KEEP] = {keep, ID | OTHER, FINDS | MODEL | CHANGES | RECORD, CONTEXT_WRITE},
    [LLM_CONTEXT_PUBLISH] = {publish, ID | NAME | MODE, FINDS | CHANGES | RECORD, CONTEXT_OWN},
    [LLM_CONTEXT_MODE] = {set_mode, ID | MODE, FINDS | CHANGES, CONTEXT_OWN},
    [LLM_CONTEXT_UNPIN] = {unpin, ID, FINDS | CHANGES, CONTEXT_OWN},
    [LLM_CONTEXT_LEASE] = {lease, ID | LEASE, FINDS | CHANGES, CONTEXT_OWN},
    [LLM_CONTEXT_ADOPT] = {adopt, ID, FINDS | CHANGES | RECORD, CONTEXT_WRITE},
    [LLM_CONTEXT_CLOSE] = {close_it, ID | OTHER, CHANGES, CONTEXT_READ},
    [LLM_CONTEXT_REMOVE] = {remove_it, ID, FINDS | CHANGES, CONTEXT_OWN},
    [LLM_CONTEXT_READ] = {read_ids, ID | LENGTH | COUNT, FINDS, CONTEXT_READ},
    [LLM_CONTEXT_LIST] = {list, LENGTH | COUNT, 0, CONTEXT_READ},
    [LLM_CONTEXT_FOLLOW] = {follow, ID, FINDS, CONTEXT_READ},
    [LLM_CONTEXT_PROBE] = {probe, NAME | COUNT, IDS, CONTEXT_READ},
    [LLM_CONTEXT_BLOCKS] = {blocks, LENGTH | COUNT, 0, CONTEXT_READ},
    [LLM_CONTEXT_LEDGER] = {memory, LENGTH | COUNT, 0, CONTEXT_READ},
};

/* ---- The body: copied once, checked on the copy ------------------------------------------------------------ */

static enum llm_status unused(const struct ask *ask, const char *field)
{
    return llm_fail(ask->error, LLM_ERR_INVALID, "verb %u does not use the field %s: it must be 0",
                    ask->body.verb, field);
}

/* A field may get a meaning later, so nobody may send nonsense in it now. */
static enum llm_status check_fields(const struct ask *ask, const struct verb *verb)
{
    const struct llm_context_body *body = &ask->body;
    bool by_name = (verb->fields & ID) && body->id == 0 && body->other == 0;
    const struct {
        const char *name;
        bool used, zero;
    } fields[] = {
        {"length", verb->fields & LENGTH, body->length == 0},
        {"id", verb->fields & ID, body->id == 0},
        {"other", verb->fields & OTHER, body->other == 0},
        {"count", verb->fields & COUNT, body->count == 0},
        {"mode", verb->fields & MODE, body->mode == 0},
        {"gid", verb->fields & MODE, body->gid == 0},
        {"lease_ms", verb->fields & LEASE, body->lease_ms == 0},
        {"name", (verb->fields & NAME) || by_name, body->name[0] == '\0'},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (!fields[i].used && !fields[i].zero)
            return unused(ask, fields[i].name);
    for (size_t i = 0; i < sizeof body->reserved; i++)
        if (body->reserved[i] != 0)
            return unused(ask, "reserved");
    if (!memchr(body->name, '\0', sizeof body->name))
        return llm_fail(ask->error, LLM_ERR_INVALID, "the name has no end within %u bytes",
                        LLM_CONTEXT_NAME_BYTES);
    if ((verb->fields & NAME) && (verb->fields & ID) && body->id == 0)
        return llm_fail(ask->error, LLM_ERR_INVALID, "the context to be named has no id");
    return LLM_OK;
}

static enum llm_status check_size(const struct ask *ask, const struct verb *verb)
{
    bool ids = (verb->ways & IDS) != 0;
    uint64_t bytes = sizeof ask->body + (ids ? (uint64_t)ask->body.count * sizeof(uint32_t) : 0);
    if (ids && ask->body.count == 0)
        return llm_fail(ask->error, LLM_ERR_INVALID, "there are no tokens: at least 1");
    if (ask->submission->body_bytes != bytes)
        return llm_fail(ask->error, LLM_ERR_INVALID, "the body has %u bytes, its parts have %llu",
                        ask->submission->body_bytes, (unsigned long long)bytes);
    if (ids && ask->body.count > ask->engine->tables.context_tokens_max)
        return llm_fail(ask->error, LLM_ERR_LIMIT, "%u tokens do not fit any model's context of %u",
                        ask->body.count, ask->engine->tables.context_tokens_max);
    if ((verb->ways & RECORD) && room(ask) < RECORD_LOG)
        return llm_fail(ask->error, LLM_ERR_INVALID,
                        "a log of %u words has no room for a context's record of %u", room(ask),
                        RECORD_LOG);
    return LLM_OK;
}

static enum llm_status take_body(struct ask *ask, const struct verb **out_verb)
{
    const struct llm_submission *submission = ask->submission;
    if (submission->body_bytes < sizeof ask->body)
        return llm_fail(ask->error, LLM_ERR_INVALID,
                        "the body has %u bytes, at least %zu are needed", submission->body_bytes,
                        sizeof ask->body);
    enum llm_status status = intake_copy(ask->connection, submission->body_offset, &ask->body,
                                         sizeof ask->body, ask->error);
    if (status != LLM_OK)
        return status;
    if (ask->body.verb == 0 || ask->body.verb >= LLM_CONTEXT_VERB_COUNT)
        return llm_fail(ask->error, LLM_ERR_INVALID, "verb %u is not known", ask->body.verb);
    *out_verb = &verbs[ask->body.verb];
    status = check_fields(ask, *out_verb);
    if (status == LLM_OK)
        status = check_size(ask, *out_verb);
    if (status != LLM_OK || !((*out_verb)->ways & IDS))
        return status;
    ask->ids = ask->engine->contexts.scratch;
    return intake_copy(ask->connection, submission->body_offset + sizeof ask->body,
                       ask->engine->contexts.scratch, ask->body.count * sizeof *ask->ids,
                       ask->error);
}

/* ---- Answering ------------------------------------------------------------------------------------------- */

/* The engine died after this submission's change was written down: the rest of it, and the answer. */
static enum llm_status finish_again(struct ask *ask, const struct verb *verb, uint32_t made)
{
    uint32_t other;
    struct llm_error none;
    ask->slot = made;
    if (verb->run == keep &&
        contexts_find(ask->engine, ask->connection, ask->body.other, CONTEXT_OWN, &other, &none) ==
            LLM_OK &&
        other != made)
        contexts_remove(ask->engine, other, NULL);
    if ((verb->ways & RECORD) && !ask->engine->contexts.slots[made].live)
        return llm_fail(ask->error, LLM_ERR_NOT_FOUND, "the context has ended meanwhile");
    return LLM_OK;
}

static uint32_t made_before(const struct ask *ask)
{
    return ask->connection->replayed_position == ask->by.position
               ? contexts_made_by(ask->engine, &ask->by)
               : CONTEXT_NONE;
}

static enum llm_status run(struct ask *ask)
{
    const struct verb *verb = NULL;
    enum llm_status status = take_body(ask, &verb);
    if (status != LLM_OK)
        return status;
    uint32_t made = verb->ways & CHANGES ? made_before(ask) : CONTEXT_NONE;
    if (made != CONTEXT_NONE) {
        status = finish_again(ask, verb, made);
    } else {
        if (verb->ways & FINDS)
            status = find(ask, ask->body.id, verb->right);
        if (status == LLM_OK && (verb->ways & MODEL))
            status = contexts_usable(ask->engine, ask->slot, ask->error);
        if (status == LLM_OK)
            status = verb->run(ask);
    }
    if (status == LLM_OK && (verb->ways & RECORD))
        put_record(ask, ask->slot);
    return status;
}

void context_answer(struct engine *engine, struct connection *connection,
                    const struct llm_submission *submission, struct llm_stream_writer *writer)
{
    struct llm_error error = {.message = ""};
    struct llm_stream_facts facts = {.admitted_ns = llm_now_ns(),
                                     .engine_generation = (uint32_t)engine->generation};
    struct ask ask = {.engine = engine,
                      .connection = connection,
                      .submission = submission,
                      .writer = writer,
                      .by = {connection->peer.id, connection->queue.head},
                      .error = &error};
    llm_stream_writer_open(writer, &facts, NULL, NULL, 0);
    enum llm_status status = run(&ask);
    if (ask.later)
        return;
    llm_stream_writer_finish(writer, status, LLM_FINISH_ANSWERED,
                             status == LLM_OK ? "" : error.message);
    publish_moved(engine, connection);
    publish_announce(engine);
}
