/*
 * test_bit_equality.c - the same tokens whatever happened: random programs of contexts against each answer alone and cold.
 * How: a program drawn from LLM_TEST_SEED appends, generates, forks (also what is generating), rewinds, branches, keeps, scores,
 * pins, cancels and removes on a daemon whose pool is too small, whose steps are short and whose engine is killed now
 * and then. A plain array of ids beside each context says what it must hold. Every answer is then asked for again, of a
 * daemon that was just started and is asked nothing else, with other chunk sizes and thread counts: tokens and
 * log-probabilities must be the same, bit for bit.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/daemon.h"
#include "tests/support/test_seed.h"

#define CONTEXTS      10
#define OPERATIONS    300
#define TOKENS_MAX    400
#define ANSWER_TOKENS 28
#define BRANCHES      3
#define ANSWERS_MAX   256
#define REPLAYS       24
#define VOCAB_TOKENS  2048
#define MINUTE        UINT64_C(60000000000)

/* What was asked and what came. */
struct answer {
    uint32_t prompt[TOKENS_MAX];
    uint32_t prompt_tokens;
    uint32_t score_from; /* 0: generated */
    llm_sampling sampling;
    uint32_t tokens[TOKENS_MAX];
    float logprobs[TOKENS_MAX];
    uint32_t count;
};

struct place {
    llm_context *context; /* NULL: none */
    uint32_t ids[TOKENS_MAX];
    uint32_t length;
    llm_stream *stream; /* of `answer`, running */
    struct answer *answer;
    bool cancelled;
    bool was_killed; /* an engine died under its answer */
};

struct run {
    struct test_daemon daemon;
    llm_connection *connection;
    struct place places[CONTEXTS];
    struct answer answers[ANSWERS_MAX];
    uint32_t answer_count;
    uint64_t random;
    uint32_t kills;
    uint32_t since_kill; /* operations */
};

static uint64_t seed;
static struct run *run;

static uint32_t below(uint32_t end)
{
    return (uint32_t)(test_random(&run->random) % end);
}

#define MUST(call)                                                                            \
    do {                                                                                      \
        llm_error error;                                                                      \
        ck_assert_msg((call) == LLM_OK, "seed %llu: %s: %s", (unsigned long long)seed, #call, \
                      error.message);                                                         \
    } while (0)

/* ---- Drawing --------------------------------------------------------------------------------------- */

/* Ids of one of four families, so that contexts begin alike. */
static uint32_t draw_ids(uint32_t position, uint32_t *out_ids)
{
    uint32_t count = 1 + below(below(2) == 0 ? 100 : 20), family = below(4);
    for (uint32_t i = 0; i < count; i++)
        out_ids[i] = position + i < 48
                         ? 3 + (family * 977 + (position + i) * 31) % (VOCAB_TOKENS - 3)
                         : 3 + below(VOCAB_TOKENS - 3);
    return count;
}

static llm_sampling draw_sampling(void)
{
    return (llm_sampling){.max_tokens = 1 + below(ANSWER_TOKENS),
                          .temperature = below(3) == 0 ? 0.0F : 0.9F,
                          .top_k = below(3) == 0 ? 50 : 0,
                          .top_p = below(3) == 0 ? 0.9F : 0.0F,
                          .seed = test_random(&run->random),
                          .has_seed = true,
                          .logprobs = true,
                          .ignore_eos = true};
}

static struct answer *new_answer(const struct place *place, const llm_sampling *sampling)
{
    if (run->answer_count == ANSWERS_MAX)
        return NULL;
    struct answer *answer = &run->answers[run->answer_count++];
    memcpy(answer->prompt, place->ids, place->length * sizeof *place->ids);
    answer->prompt_tokens = place->length;
    answer->sampling = *sampling;
    return answer;
}

/* ---- Reading --------------------------------------------------------------------------------------- */

static void read_to_the_end(llm_stream *stream, struct answer *answer, bool cancelled)
{
    for (;;) {
        llm_error error;
        uint32_t count = 0;
        enum llm_status status = llm_stream_read(
            stream, answer->tokens + answer->count, answer->logprobs + answer->count,
            TOKENS_MAX - answer->count, MINUTE, &count, &error);
        if (cancelled && status == LLM_ERR_CANCELLED)
            return;
        ck_assert_msg(status == LLM_OK, "seed %llu, after %u tokens: %s", (unsigned long long)seed,
                      answer->count, error.message);
        if (count == 0)
            return;
        answer->count += count;
    }
}

/* The context holds exactly what the array beside it says, and perhaps more, but not less, while it generates. */
static void compare(const struct place *place, const uint32_t *ids, uint32_t length)
{
    uint32_t held[TOKENS_MAX + 1], total = 0, count;
    do {
        MUST(llm_context_read(place->context, total, held + total, TOKENS_MAX + 1 - total, &count,
                              &error));
        total += count;
    } while (count > 0 && total <= TOKENS_MAX);
    ck_assert_msg(total == length && memcmp(held, ids, length * sizeof *ids) == 0,
                  "seed %llu: a context holds %u tokens, %u are its own", (unsigned long long)seed,
                  total, length);
}

/* Take in the answer that runs on it, if one does. */
static void finish(struct place *place)
{
    if (!place->stream)
        return;
    read_to_the_end(place->stream, place->answer, place->cancelled);
    llm_stream_close(place->stream);
    place->stream = NULL;
    memcpy(place->ids + place->length, place->answer->tokens,
           place->answer->count * sizeof *place->ids);
    place->length += place->answer->count;
    compare(place, place->ids, place->length);
}

/* ---- Operations ------------------------------------------------------------------------------------ */

static struct place *any(bool used)
{
    uint32_t first = below(CONTEXTS);
    for (uint32_t i = 0; i < CONTEXTS; i++) {
        struct place *place = &run->places[(first + i) % CONTEXTS];
        if ((place->context != NULL) == used)
            return place;
    }
    return NULL;
}

static void append(struct place *place)
{
    uint32_t ids[100];
    uint32_t count = draw_ids(place->length, ids);
    finish(place);
    if (place->length + count + ANSWER_TOKENS + 40 > TOKENS_MAX)
        return;
    MUST(llm_context_append(place->context, ids, count, &error));
    memcpy(place->ids + place->length, ids, count * sizeof *ids);
    place->length += count;
}

static void create(void)
{
    struct place *place = any(false);
    if (!place)
        return;
    *place = (struct place){0};
    MUST(llm_context_create(run->connection, NULL, &place->context, &error));
    append(place);
}

static void generate(struct place *place)
{
    finish(place);
    if (place->length == 0 || place->length + ANSWER_TOKENS + 40 > TOKENS_MAX)
        return;
    llm_sampling sampling = draw_sampling();
    place->answer = new_answer(place, &sampling);
    if (!place->answer)
        return;
    MUST(llm_generate(place->context, &sampling, &place->stream, &error));
    place->was_killed = false;
    place->cancelled = below(6) == 0;
    if (place->cancelled)
        llm_stream_cancel(place->stream);
    if (below(2) == 0)
        finish(place); /* else others go on beside it */
}

/* Of whatever state it is in: while it generates, the fork has what was published by then. */
static void fork_it(struct place *place)
{
    struct place *child = any(false);
    if (!child)
        return;
    *child = (struct place){0};
    bool running = place->stream != NULL;
    uint32_t length = !running && below(2) == 0 ? below(place->length + 1) : LLM_WHOLE;
    MUST(llm_context_fork_at(place->context, length, &child->context, &error));
    if (!running) {
        child->length = length == LLM_WHOLE ? place->length : length;
    } else {
        llm_context_info info;
        MUST(llm_context_describe(child->context, &info, &error));
        ck_assert_uint_ge(info.length, place->length);
        finish(place);
        ck_assert_uint_le(info.length, place->length);
        child->length = info.length;
    }
    memcpy(child->ids, place->ids, child->length * sizeof *child->ids);
    compare(child, child->ids, child->length);
}

static void rewind_it(struct place *place)
{
    finish(place);
    uint32_t length = below(place->length + 1);
    MUST(llm_context_rewind(place->context, length, &error));
    place->length = length;
}

static void branch(struct place *place)
{
    finish(place);
    if (place->length == 0 || place->length + ANSWER_TOKENS + 40 > TOKENS_MAX ||
        run->answer_count + BRANCHES > ANSWERS_MAX)
        return;
    llm_branch branches[BRANCHES] = {0};
    uint32_t suffixes[BRANCHES][16];
    struct answer *answers[BRANCHES];
    llm_stream *streams[BRANCHES];
    for (uint32_t i = 0; i < BRANCHES; i++) {
        branches[i].token_count = below(8);
        for (uint32_t t = 0; t < branches[i].token_count; t++)
            suffixes[i][t] = 3 + below(VOCAB_TOKENS - 3);
        branches[i].tokens = suffixes[i];
        branches[i].sampling = draw_sampling();
        answers[i] = new_answer(place, &branches[i].sampling);
        answers[i]->sampling.branch = i;
        memcpy(answers[i]->prompt + place->length, suffixes[i],
               branches[i].token_count * sizeof(uint32_t));
        answers[i]->prompt_tokens += branches[i].token_count;
    }
    MUST(llm_context_branch(place->context, branches, BRANCHES, streams, &error));
    for (uint32_t i = 0; i < BRANCHES; i++)
        read_to_the_end(streams[i], answers[i], false);
    compare(place, place->ids, place->length);
    uint32_t best = below(BRANCHES);
    if (below(2) == 0) {
        MUST(llm_context_keep(place->context, streams[best], &error));
        place->length = answers[best]->prompt_tokens + answers[best]->count;
        memcpy(place->ids, answers[best]->prompt, answers[best]->prompt_tokens * sizeof(uint32_t));
        memcpy(place->ids + answers[best]->prompt_tokens, answers[best]->tokens,
               answers[best]->count * sizeof(uint32_t));
        compare(place, place->ids, place->length);
    }
    for (uint32_t i = 0; i < BRANCHES; i++)
        llm_stream_close(streams[i]);
}

static void score(struct place *place)
{
    static const llm_sampling nothing = {.max_tokens = 1};
    finish(place);
    if (place->length == 0 || place->length + 40 > TOKENS_MAX)
        return;
    struct answer *answer = new_answer(place, &nothing);
    if (!answer)
        return;
    answer->score_from = place->length;
    answer->count = 1 + below(30);
    for (uint32_t i = 0; i < answer->count; i++)
        answer->tokens[i] = 3 + below(VOCAB_TOKENS - 3);
    MUST(
        llm_context_score(place->context, answer->tokens, answer->count, answer->logprobs, &error));
    compare(place, place->ids, place->length);
}

static void pin(struct place *place)
{
    llm_error error;
    finish(place);
    if (place->length == 0)
        return; /* there is nothing to pin */
    enum llm_status status = below(2) == 0 ? llm_context_pin(place->context, &error)
                                           : llm_context_unpin(place->context, &error);
    ck_assert_msg(status == LLM_OK || status == LLM_ERR_LIMIT, "seed %llu: %s",
                  (unsigned long long)seed, error.message);
}

static void drop(struct place *place)
{
    finish(place);
    if (below(2) == 0)
        MUST(llm_context_remove(place->context, &error));
    llm_context_close(place->context);
    place->context = NULL;
}

/* Not twice under one answer: in flight at two deaths without a token in between, it would be poison. */
static void kill_engine(void)
{
    if (run->since_kill < 10)
        return;
    run->since_kill = 0;
    for (uint32_t i = 0; i < CONTEXTS; i++)
        if (run->places[i].was_killed)
            finish(&run->places[i]);
    for (uint32_t i = 0; i < CONTEXTS; i++)
        run->places[i].was_killed = run->places[i].stream != NULL;
    uint64_t generation = test_daemon_generation(&run->daemon);
    test_daemon_kill_engine(&run->daemon);
    if (below(2) == 0)
        test_daemon_wait_generation(&run->daemon, generation + 1);
    else
        test_sleep_ms(1 + below(20)); /* the next call meets an engine that is not there */
    run->kills++;
}

static void operate(void)
{
    uint32_t what = below(100);
    struct place *place = any(true);
    run->since_kill++;
    if (what < 12 || !place)
        create();
    else if (what < 30)
        append(place);
    else if (what < 56)
        generate(place);
    else if (what < 70)
        fork_it(place);
    else if (what < 76)
        rewind_it(place);
    else if (what < 82)
        branch(place);
    else if (what < 87)
        score(place);
    else if (what < 91)
        pin(place);
    else if (what < 97)
        drop(place);
    else
        kill_engine();
}

/* ---- Alone and cold -------------------------------------------------------------------------------- */

static void start(const char *threads, const char *step_tokens, const char *pool)
{
    test_daemon_start(&run->daemon, (const char *const[]){"--model", "tinynotes", "--set", threads,
                                                          "--set", step_tokens, "--set", pool,
                                                          "--set", "limits.sequences=8", "--set",
                                                          "limits.sequences_per_user=8", "--set",
                                                          "limits.engine_deaths=1000", NULL});
    run->connection = test_daemon_connect(&run->daemon);
}

static void stop(void)
{
    llm_disconnect(run->connection);
    test_daemon_assert_clean(&run->daemon);
    test_daemon_stop(&run->daemon);
}

static void ask_again(const struct answer *answer)
{
    struct answer again = {.count = 0};
    if (answer->score_from > 0) {
        llm_context *context;
        MUST(llm_context_create(run->connection, NULL, &context, &error));
        MUST(llm_context_append(context, answer->prompt, answer->prompt_tokens, &error));
        MUST(llm_context_score(context, answer->tokens, answer->count, again.logprobs, &error));
        memcpy(again.tokens, answer->tokens, sizeof again.tokens);
        again.count = answer->count;
        llm_context_close(context);
    } else {
        llm_stream *stream;
        MUST(llm_submit(run->connection, answer->prompt, answer->prompt_tokens, &answer->sampling,
                        &stream, &error));
        read_to_the_end(stream, &again, false);
        llm_stream_close(stream);
    }
    ck_assert_msg(again.count >= answer->count &&
                      memcmp(again.tokens, answer->tokens, answer->count * sizeof(uint32_t)) == 0 &&
                      memcmp(again.logprobs, answer->logprobs, answer->count * sizeof(float)) == 0,
                  "seed %llu: answer %td (%u tokens after %u, %s) is another one alone and cold",
                  (unsigned long long)seed, answer - run->answers, answer->count,
                  answer->prompt_tokens, answer->score_from > 0 ? "scored" : "generated");
}

static void replay(void)
{
    for (uint32_t i = 0; i < REPLAYS && run->answer_count > 0; i++) {
        start(i % 2 ? "cpu.threads=1" : "cpu.threads=2",
              i % 3 ? "limits.step_tokens=512" : "limits.step_tokens=9", "kv.pool_bytes=64MiB");
        ask_again(&run->answers[below(run->answer_count)]);
        stop();
    }
}

START_TEST(every_answer_is_the_one_given_alone_and_cold)
{
    seed = test_seed();
    run = calloc(1, sizeof *run);
    ck_assert_ptr_nonnull(run);
    run->random = seed;
    /* 64 blocks of 16 tokens: ten contexts of 400 would like 250 */
    start(below(2) ? "cpu.threads=1" : "cpu.threads=2",
          below(2) ? "limits.step_tokens=16" : "limits.step_tokens=40", "kv.pool_bytes=2MiB");
    for (uint32_t i = 0; i < OPERATIONS; i++)
        operate();
    for (uint32_t i = 0; i < CONTEXTS; i++)
        if (run->places[i].context)
            drop(&run->places[i]);
    uint64_t evictions = atomic_load(&run->daemon.status->engine.counters[LLM_COUNTER_EVICTIONS]);
    stop();
    printf("seed %llu: %u answers, %u engine kills, %llu evictions\n", (unsigned long long)seed,
           run->answer_count, run->kills, (unsigned long long)evictions);
    replay();
    free(run);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/bit_equality");
    TCase *tcase = tcase_create("programs");
    tcase_set_timeout(tcase, 280);
    tcase_add_test(tcase, every_answer_is_the_one_given_alone_and_cold);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
