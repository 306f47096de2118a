#include "tests/support/client_life.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/llm.h"
#include "shm/clock.h"
#include "tests/support/test_seed.h"

#define STREAMS_MAX 4
#define PROMPT_MAX  70
#define TOKENS_MAX  40
#define PATIENCE_NS (60 * LLM_NS_PER_S) /* a busy machine that restarts engines */

struct life {
    llm_connection *connection;
    uint64_t random;
    struct client_counts *counts;
};

struct asked {
    llm_stream *stream;
    uint32_t prompt[PROMPT_MAX];
    uint32_t prompt_tokens, max_tokens, seen;
    bool cancelled;
};

static uint32_t below(struct life *life, uint32_t end)
{
    return (uint32_t)(test_random(&life->random) % end);
}

static void count(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

static bool fail(struct life *life, const char *doing, const char *message)
{
    if (atomic_fetch_add(&life->counts->failed, 1) == 0)
        snprintf(life->counts->first_failure, sizeof life->counts->first_failure, "%.20s: %.200s",
                 doing, message);
    return false;
}

/* ---- Requests -------------------------------------------------------------------------------------- */

static bool ask(struct life *life, struct asked *asked)
{
    llm_error error;
    *asked = (struct asked){.prompt_tokens = 1 + below(life, PROMPT_MAX),
                            .max_tokens = 1 + below(life, TOKENS_MAX)};
    uint32_t family = below(life, 4); /* prompts of a family share their beginning */
    for (uint32_t i = 0; i < asked->prompt_tokens; i++)
        asked->prompt[i] = family * 1000 + i + (i > 40 ? below(life, 2) : 0);
    const llm_sampling sampling = {.max_tokens = asked->max_tokens};
    if (llm_submit(life->connection, asked->prompt, asked->prompt_tokens, &sampling, &asked->stream,
                   &error) != LLM_OK)
        return fail(life, "submit", error.message);
    count(&life->counts->requests, 1);
    return true;
}

static bool compare(struct life *life, struct asked *asked, const uint32_t *tokens,
                    uint32_t token_count)
{
    for (uint32_t i = 0; i < token_count; i++, asked->seen++)
        if (asked->seen >= asked->max_tokens ||
            tokens[i] != asked->prompt[asked->seen % asked->prompt_tokens]) {
            count(&life->counts->wrong, 1);
            return fail(life, "read", "a token that is not the echo's");
        }
    count(&life->counts->tokens, token_count);
    return true;
}

static bool ended(struct life *life, const struct asked *asked, enum llm_status status,
                  const char *message)
{
    if (status == LLM_ERR_POISON) {
        count(&life->counts->poisoned, 1);
        return true;
    }
    if (status == LLM_ERR_CANCELLED && asked->cancelled)
        return true;
    if (status != LLM_OK)
        return fail(life, "read", message);
    if (asked->seen == asked->max_tokens) {
        count(&life->counts->answers, 1);
        return true;
    }
    count(&life->counts->wrong, 1);
    return fail(life, "read", "an answer that is too short");
}

/* Read until the end, or until `enough` tokens were seen. */
static bool collect(struct life *life, struct asked *asked, uint32_t enough)
{
    while (asked->seen < enough) {
        uint32_t tokens[16], token_count = 0;
        llm_error error;
        enum llm_status status =
            llm_stream_read(asked->stream, tokens, NULL, 16, PATIENCE_NS, &token_count, &error);
        if (status != LLM_OK || token_count == 0)
            return ended(life, asked, status, error.message);
        if (!compare(life, asked, tokens, token_count))
            return false;
    }
    return true;
}

static bool serve_one(struct life *life, struct asked *asked)
{
    bool fine = true;
    switch (below(life, 4)) {
    case 0: /* some of it, then no more */
        fine = collect(life, asked, 1 + below(life, asked->max_tokens));
        break;
    case 1:
        llm_stream_cancel(asked->stream);
        asked->cancelled = true;
        fine = collect(life, asked, UINT32_MAX);
        break;
    default:
        fine = collect(life, asked, UINT32_MAX);
    }
    llm_stream_close(asked->stream); /* cancels what is still running */
    return fine;
}

/* ---- Rounds ---------------------------------------------------------------------------------------- */

/* Long enough for the engine to stop looking at our queue: the next submission rings. */
static void pause_a_moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 12 * 1000 * 1000}, NULL);
}

static bool one_round(struct life *life)
{
    static struct asked asked[STREAMS_MAX]; /* one life per process */
    uint32_t stream_count = 1 + below(life, STREAMS_MAX);
    for (uint32_t i = 0; i < stream_count; i++)
        if (!ask(life, &asked[i]))
            return false;
    for (uint32_t i = 0; i < stream_count; i++)
        if (!serve_one(life, &asked[i]))
            return false;
    if (below(life, 8) == 0)
        pause_a_moment();
    if (below(life, 4) == 0) {
        llm_connection_fd(life->connection);
        llm_connection_acknowledge(life->connection);
    }
    llm_error error;
    if (below(life, 4) == 0 && llm_ping(life->connection, PATIENCE_NS, &error) != LLM_OK)
        return fail(life, "ping", error.message);
    return true;
}

bool client_life(const char *socket, uint64_t seed, uint32_t rounds, struct client_counts *counts)
{
    struct life life = {.random = seed, .counts = counts};
    const llm_connect_options options = {
        .socket = socket, .no_autostart = true, .timeout_ns = PATIENCE_NS};
    bool fine = true;
    for (uint32_t round = 0; fine && (rounds == 0 || round < rounds); round++) {
        llm_error error;
        if (!life.connection && llm_connect(&life.connection, &options, &error) != LLM_OK)
            return fail(&life, "connect", error.message);
        fine = one_round(&life);
        if (fine && below(&life, 4) == 0) {
            llm_disconnect(life.connection);
            life.connection = NULL;
        }
    }
    llm_disconnect(life.connection);
    return fine;
}
