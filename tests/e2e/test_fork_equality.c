/*
 * test_fork_equality.c - forks of a context of 4,000 tokens answer as if nothing had ever been shared.
 * How: on a model of random weights, written here, and on the built-in one, a document of about 4,000 random ids is forked at its end, at a block's
 * border, inside a block, inside its partly filled tail, from another fork, by a branch, and from where its own generation
 * stands; all of them generate at the same time, each with a seed and settings of its own. The counters say that the
 * document was computed once. Then every prompt is submitted as plain ids to a daemon that was just started and is asked
 * nothing else, with other chunk sizes and thread counts, and the counters say that it computed all of it: the tokens and
 * the bits of their log-probabilities must be the same.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/daemon/tiny_model.h"
#include "tests/support/daemon.h"
#include "tests/support/test_seed.h"

#define DOCUMENT_MIN  4000
#define POSITIONS     4608
#define BLOCK_TOKENS  16 /* of models as small as these */
#define TOKENS        48
#define LONG_ANSWER   256 /* there is time to fork while it runs */
#define BRANCHES      3
#define SUFFIX_MAX    20
#define ANSWERS_MAX   16
#define FORK_ATTEMPTS 50
#define MINUTE        UINT64_C(60000000000)

struct answer {
    const char *how;
    uint32_t prompt[POSITIONS];
    uint32_t prompt_tokens;
    uint32_t shared; /* of those, how many another has computed */
    llm_sampling sampling;
    llm_context *context;
    llm_stream *stream;
    uint32_t tokens[LONG_ANSWER + 1];
    float logprobs[LONG_ANSWER + 1];
    uint32_t count;
    uint32_t cached;
};

struct run {
    struct test_daemon daemon;
    llm_connection *connection;
    llm_context *document;
    uint32_t ids[POSITIONS];
    uint32_t length; /* of the document */
    struct answer answers[ANSWERS_MAX];
    uint32_t answer_count;
};

static const struct tiny_shape shape = {.hidden = 32,
                                        .feed_forward = 48,
                                        .layers = 2,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_dim = 8,
                                        .vocab = 61,
                                        .tied = true,
                                        .dtype = "F32",
                                        .positions = POSITIONS};
/* What is asked again alone and cold: every so manyth answer. With sanitizers little: arithmetic is slow then. */
#ifdef __SANITIZE_ADDRESS__
static const uint32_t every[] = {4};
#else
static const uint32_t every[] = {1, 5};
#endif
#define MODELS ((int)(sizeof every / sizeof *every)) /* the tiny one, the built-in one */

static struct tiny_model tiny;
static const char *model;
static struct run run;
static uint64_t seed, random_state;

static uint32_t below(uint32_t end)
{
    return (uint32_t)(test_random(&random_state) % end);
}

#define MUST(call)                                                                            \
    do {                                                                                      \
        llm_error error;                                                                      \
        ck_assert_msg((call) == LLM_OK, "seed %llu: %s: %s", (unsigned long long)seed, #call, \
                      error.message);                                                         \
    } while (0)

/* ---- A daemon ---------------------------------------------------------------------------------------- */

static void start(const char *threads, const char *step_tokens)
{
    test_daemon_start(&run.daemon, (const char *const[]){"--model", model, "--set", threads,
                                                         "--set", step_tokens, NULL});
    run.connection = test_daemon_connect(&run.daemon);
}

static void stop(void)
{
    llm_disconnect(run.connection);
    test_daemon_assert_clean(&run.daemon);
    test_daemon_stop(&run.daemon);
}

static uint64_t counted(enum llm_counter counter)
{
    return atomic_load(&run.daemon.status->engine.counters[counter]);
}

/* ---- Asking ------------------------------------------------------------------------------------------ */

static void draw_ids(uint32_t *out_ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        out_ids[i] = 4 + below((uint32_t)shape.vocab - 4);
}

/* Every third is greedy, the others differ in all else. */
static llm_sampling draw_sampling(uint32_t max_tokens)
{
    static const float temperatures[] = {0.0F, 0.8F, 1.3F};
    uint32_t at = run.answer_count;
    return (llm_sampling){.max_tokens = max_tokens,
                          .temperature = temperatures[at % 3],
                          .top_k = at % 2 == 0 ? 20 : 0,
                          .top_p = at % 4 == 1 ? 0.9F : 0.0F,
                          .min_p = at % 5 == 2 ? 0.02F : 0.0F,
                          .seed = test_random(&random_state),
                          .has_seed = true,
                          .logprobs = true,
                          .ignore_eos = true};
}

/* An answer whose prompt begins with `count` of `ids`. */
static struct answer *new_answer(const char *how, const uint32_t *ids, uint32_t count)
{
    ck_assert_uint_lt(run.answer_count, ANSWERS_MAX);
    struct answer *answer = &run.answers[run.answer_count];
    *answer = (struct answer){.how = how, .prompt_tokens = count, .shared = count};
    memcpy(answer->prompt, ids, count * sizeof *ids);
    answer->sampling = draw_sampling(TOKENS);
    run.answer_count++;
    return answer;
}

static void read_to_the_end(struct answer *answer)
{
    llm_stream_info info;
    uint32_t count;
    do {
        MUST(llm_stream_read(answer->stream, answer->tokens + answer->count,
                             answer->logprobs + answer->count, LONG_ANSWER + 1 - answer->count,
                             MINUTE, &count, &error));
        answer->count += count;
    } while (count > 0);
    ck_assert_uint_eq(answer->count, answer->sampling.max_tokens);
    MUST(llm_stream_describe(answer->stream, &info, &error));
    ck_assert_uint_eq(info.prompt_tokens, answer->prompt_tokens);
    answer->cached = info.cached_tokens;
    llm_stream_close(answer->stream);
    answer->stream = NULL;
    llm_context_close(answer->context);
    answer->context = NULL;
}

/* Fork, append a suffix, begin to generate. */
static struct answer *fork_at(const char *how, llm_context *from, const uint32_t *ids,
                              uint32_t length, uint32_t suffix)
{
    struct answer *answer = new_answer(how, ids, length);
    MUST(llm_context_fork_at(from, length, &answer->context, &error));
    draw_ids(answer->prompt + length, suffix);
    answer->prompt_tokens += suffix;
    MUST(llm_generate_after(answer->context, answer->prompt + length, suffix, &answer->sampling,
                            &answer->stream, &error));
    return answer;
}

/* The document generates; as soon as something came, it is forked where it stands. False: it was over by then. */
static bool fork_while_it_runs(void)
{
    struct answer *parent = new_answer("the document itself", run.ids, run.length);
    parent->sampling.max_tokens = LONG_ANSWER;
    MUST(llm_generate(run.document, &parent->sampling, &parent->stream, &error));
    MUST(llm_stream_read(parent->stream, parent->tokens, parent->logprobs, 1, MINUTE,
                         &parent->count, &error));
    struct answer *child = new_answer("a fork of what runs", run.ids, run.length);
    llm_context_info info;
    MUST(llm_context_fork(run.document, &child->context, &error));
    MUST(llm_context_describe(child->context, &info, &error));
    MUST(llm_generate(child->context, &child->sampling, &child->stream, &error));
    child->prompt_tokens = child->shared = info.length;
    read_to_the_end(parent);
    read_to_the_end(child);
    ck_assert_uint_gt(info.length, run.length);
    if (info.length == run.length + LONG_ANSWER)
        return false;
    memcpy(child->prompt + run.length, parent->tokens,
           (info.length - run.length) * sizeof *parent->tokens);
    return true;
}

static void fork_what_runs(void)
{
    uint32_t before = run.answer_count, attempts = 1;
    for (; !fork_while_it_runs(); attempts++) {
        ck_assert_uint_lt(attempts, FORK_ATTEMPTS);
        MUST(llm_context_rewind(run.document, run.length, &error));
        run.answer_count = before;
    }
}

static void branch(void)
{
    llm_branch branches[BRANCHES] = {0};
    llm_stream *streams[BRANCHES];
    struct answer *first = &run.answers[run.answer_count];
    for (uint32_t i = 0; i < BRANCHES; i++) {
        struct answer *answer = new_answer("a branch", run.ids, run.length);
        branches[i].tokens = answer->prompt + run.length;
        branches[i].token_count = 1 + below(SUFFIX_MAX);
        draw_ids(answer->prompt + run.length, branches[i].token_count);
        answer->prompt_tokens += branches[i].token_count;
        answer->sampling.branch = i;
        branches[i].sampling = answer->sampling;
    }
    MUST(llm_context_branch(run.document, branches, BRANCHES, streams, &error));
    for (uint32_t i = 0; i < BRANCHES; i++)
        first[i].stream = streams[i];
}

/* ---- Shared ------------------------------------------------------------------------------------------ */

static void make_document(void)
{
    run.length = DOCUMENT_MIN + 4 + below(BLOCK_TOKENS - 5); /* 4..14 tokens in its last block */
    draw_ids(run.ids, run.length);
    MUST(llm_context_create(run.connection, NULL, &run.document, &error));
    MUST(llm_context_append(run.document, run.ids, run.length, &error));
    llm_context_info info;
    MUST(llm_context_describe(run.document, &info, &error));
    ck_assert_uint_eq(info.block_tokens, BLOCK_TOKENS);
    ck_assert_uint_ne(info.length % BLOCK_TOKENS, 0);
}

/* All at once, on a document that nothing has computed yet. */
static void fork_all(void)
{
    llm_context *document = run.document;
    uint32_t length = run.length, inside = 128 * BLOCK_TOKENS + 1 + below(BLOCK_TOKENS - 1);
    fork_at("a fork at the end", document, run.ids, length, 0);
    struct answer *other = fork_at("a fork at the end, with a suffix", document, run.ids, length,
                                   1 + below(SUFFIX_MAX));
    fork_at("a fork of a fork", other->context, other->prompt, other->prompt_tokens, 3)->shared =
        length;
    fork_at("a fork at a block's border", document, run.ids, 200 * BLOCK_TOKENS, 0);
    fork_at("a fork inside a block", document, run.ids, inside, 0);
    fork_at("a fork inside a block, with a suffix", document, run.ids, inside + 16, 5);
    fork_at("a fork inside the tail", document, run.ids, length - 2, 0);
    fork_at("a fork inside the tail, with a suffix", document, run.ids, length - 1, 7);
    branch();
    for (uint32_t i = 0; i < run.answer_count; i++)
        read_to_the_end(&run.answers[i]);
}

/* Of the document each row went through the model once; of an answer what is its own, and at most one block. */
static void check_computed_once(void)
{
    uint64_t prompts = 0, most = run.length;
    for (uint32_t i = 0; i < run.answer_count; i++) {
        const struct answer *answer = &run.answers[i];
        uint32_t own = answer->prompt_tokens - answer->shared;
        prompts += answer->prompt_tokens;
        most += own + BLOCK_TOKENS + answer->count - 1;
    }
    printf("%s, seed %llu: a document of %u tokens, %u answers: %llu prompt tokens, %llu rows "
           "computed, answers' own included\n",
           model, (unsigned long long)seed, run.length, run.answer_count,
           (unsigned long long)prompts, (unsigned long long)counted(LLM_COUNTER_TOKENS_COMPUTED));
    ck_assert_uint_ge(counted(LLM_COUNTER_TOKENS_COMPUTED), run.length);
    ck_assert_uint_le(counted(LLM_COUNTER_TOKENS_COMPUTED), most);
}

/* ---- Alone and cold ---------------------------------------------------------------------------------- */

static void ask_alone(const struct answer *answer, struct answer *again)
{
    static const char *const steps[] = {"limits.step_tokens=512", "limits.step_tokens=256",
                                        "limits.step_tokens=77"};
    uint32_t at = (uint32_t)(answer - run.answers);
    start(at % 2 == 0 ? "cpu.threads=1" : "cpu.threads=2", steps[at % 3]);
    MUST(llm_submit(run.connection, again->prompt, again->prompt_tokens, &again->sampling,
                    &again->stream, &error));
    read_to_the_end(again);
    ck_assert_uint_eq(again->cached, 0);
    ck_assert_uint_eq(counted(LLM_COUNTER_TOKENS_CACHED), 0);
    ck_assert_uint_eq(counted(LLM_COUNTER_TOKENS_COMPUTED),
                      again->prompt_tokens + again->count - 1);
    stop();
}

static struct answer alone; /* what was answered last */

static struct answer *question(const struct answer *answer)
{
    alone = *answer;
    alone.count = 0;
    memset(alone.tokens, 0, sizeof alone.tokens);
    memset(alone.logprobs, 0, sizeof alone.logprobs);
    return &alone;
}

static bool is_same(const struct answer *a, const struct answer *b)
{
    return a->count == b->count &&
           memcmp(a->tokens, b->tokens, a->count * sizeof *a->tokens) == 0 &&
           memcmp(a->logprobs, b->logprobs, a->count * sizeof *a->logprobs) == 0;
}

/* One token far back, and the answer is another one: what is compared depends on all of the document. */
static void check_that_it_matters(const struct answer *answer)
{
    struct answer *other = question(answer);
    other->prompt[17] = other->prompt[17] == 4 ? 5 : 4;
    ask_alone(answer, other);
    ck_assert(!is_same(answer, other));
}

START_TEST(forks_of_four_thousand_tokens_answer_as_if_alone)
{
    seed = random_state = test_seed();
    model = _i == 0 ? tiny.directory : "tinynotes";
    start("cpu.threads=1", below(2) ? "limits.step_tokens=256" : "limits.step_tokens=100");
    make_document();
    fork_all();
    fork_what_runs();
    check_computed_once();
    llm_context_close(run.document);
    stop();
    for (uint32_t i = 0; i < run.answer_count; i += every[_i]) {
        ask_alone(&run.answers[i], question(&run.answers[i]));
        ck_assert_msg(is_same(&run.answers[i], &alone),
                      "seed %llu: %s (%u tokens after %u) answers otherwise alone and cold",
                      (unsigned long long)seed, run.answers[i].how, run.answers[i].count,
                      run.answers[i].prompt_tokens);
    }
    check_that_it_matters(&run.answers[0]);
}
END_TEST

static void write_model(void)
{
    tiny_model_open(&tiny, &shape, 8121);
}

static void remove_model(void)
{
    tiny_model_close(&tiny);
}

int main(void)
{
    Suite *suite = suite_create("e2e/fork_equality");
    TCase *tcase = tcase_create("forks");
    tcase_set_timeout(tcase, 280);
    tcase_add_unchecked_fixture(tcase, write_model, remove_model);
    tcase_add_loop_test(tcase, forks_of_four_thousand_tokens_answer_as_if_alone, 0, MODELS);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
