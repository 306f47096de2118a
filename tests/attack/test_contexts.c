/*
 * test_contexts.c - contexts and another user: who may run what on them, and whose cached blocks are found.
 * How: needs root: contexts are root's, a child drops to uid 65534 ("nobody"), with or without a supplementary group, and tries.
 * Root changes the mode between the child's steps, which the two take in turns. Skipped otherwise.
 */
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/context_steps.h"

#define NOBODY 65534
#define GROUP  4242u /* of nobody, when it is in one */
#define AUTHOR 65533 /* another one, no administrator either; always in the group */
#define PROMPT 100u
#define TAIL   64u  /* whole blocks of them */
#define ANSWER 200u /* of an answer that is long enough to be interrupted */

static struct test_daemon server;

static void setup(void)
{
    test_daemon_start(&server, (const char *const[]){"--model", "echo", "--set",
                                                     "models.echo_step_us=1000", NULL});
    ck_assert_int_eq(chmod(server.directory, 0711), 0);
    ck_assert_int_eq(chmod(server.socket, 0666), 0);
}

static void teardown(void)
{
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}

/* ---- Two users in turns ------------------------------------------------------------------------------ */

struct nobody {
    pid_t pid;
    int turn; /* a socket: each side's byte gives the turn to the other */
};

static void give_turn(int turn)
{
    ck_assert_int_eq(send(turn, "x", 1, MSG_NOSIGNAL), 1);
}

static void await_turn(int turn)
{
    char byte;
    ck_assert_int_eq(recv(turn, &byte, 1, 0),
                     1); /* 0: the other one is gone, its asserts say why */
}

static struct nobody start_user(uid_t uid, void (*what)(int turn, uint64_t argument),
                                uint64_t argument, bool in_group)
{
    int ends[2];
    const gid_t group = GROUP;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        if (setgroups(in_group, &group) != 0 || setgid(NOBODY) != 0 || setuid(uid) != 0)
            _exit(9);
        what(ends[1], argument);
        _exit(0);
    }
    close(ends[1]);
    return (struct nobody){.pid = pid, .turn = ends[0]};
}

static struct nobody start_nobody(void (*what)(int turn, uint64_t argument), uint64_t argument,
                                  bool in_group)
{
    return start_user(NOBODY, what, argument, in_group);
}

static void join_nobody(const struct nobody *nobody)
{
    int status;
    ck_assert_int_eq(waitpid(nobody->pid, &status, 0), nobody->pid);
    close(nobody->turn);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with 0x%x",
                  (unsigned)status);
}

/* ---- Rights ------------------------------------------------------------------------------------------ */

static enum llm_status end_of(llm_stream *stream)
{
    uint32_t tokens[64], count = 0;
    llm_error why;
    enum llm_status status;
    do
        status = llm_stream_read(stream, tokens, NULL, 64, STEP_WAIT_NS, &count, &why);
    while (status == LLM_OK && count > 0);
    llm_stream_close(stream);
    return status;
}

static enum llm_status try_generate(llm_context *context)
{
    llm_stream *stream;
    MUST(llm_generate(context, &(llm_sampling){.max_tokens = 2}, &stream, error));
    return end_of(stream);
}

static enum llm_status try_score(llm_context *context)
{
    const uint32_t token = 5;
    float logprob;
    llm_error why;
    return llm_context_score(context, &token, 1, &logprob, &why);
}

static enum llm_status try_branch(llm_context *context)
{
    const llm_branch branch = {.sampling = {.max_tokens = 2}};
    llm_stream *stream;
    llm_error why;
    enum llm_status status = llm_context_branch(context, &branch, 1, &stream, &why);
    return status == LLM_OK ? end_of(stream) : status;
}

static enum llm_status try_compute(llm_context *context)
{
    llm_error why;
    return llm_context_compute(context, &why);
}

static enum llm_status try_pin(llm_context *context)
{
    llm_error why;
    return llm_context_pin(context, &why);
}

static enum llm_status try_follow(llm_context *context)
{
    llm_stream *stream;
    llm_error why;
    enum llm_status status = llm_context_follow(context, &stream, &why);
    return status == LLM_OK ? end_of(stream) : status;
}

#define OK LLM_OK
#define NO LLM_ERR_PERMISSION
/* Nothing is being generated: who may follow hears that. */
static const struct {
    uint32_t mode;
    enum llm_status generate, score, branch, compute, follow;
} rights[] = {
    {0666, OK, OK, OK, OK, LLM_ERR_NOT_FOUND},
    {0644, NO, OK, OK, NO, LLM_ERR_NOT_FOUND},
    {0622, NO, NO, NO, NO, NO},
    {0600, NO, NO, NO, NO, NO},
    {0660, NO, NO, NO, NO, NO},
};
#define RIGHTS (sizeof rights / sizeof rights[0])

/* It found the context while it could; what it may is asked for anew each time. */
static void tries_everything(int turn, uint64_t id)
{
    llm_connection *connection = test_daemon_connect(&server);
    llm_context *context;
    MUST(llm_context_attach(connection, id, &context, error));
    for (size_t i = 0; i < RIGHTS; i++) {
        give_turn(turn);
        await_turn(turn);
        ck_assert_int_eq(try_generate(context), rights[i].generate);
        ck_assert_int_eq(try_score(context), rights[i].score);
        ck_assert_int_eq(try_branch(context), rights[i].branch);
        ck_assert_int_eq(try_compute(context), rights[i].compute);
        ck_assert_int_eq(try_follow(context), rights[i].follow);
        ck_assert_int_ne(try_pin(context), LLM_OK); /* its owner's alone */
    }
    llm_context_close(context);
    llm_disconnect(connection);
}

START_TEST(each_request_asks_for_its_right_again)
{
    const uint32_t ids[] = {1, 2, 3};
    llm_connection *connection = test_daemon_connect(&server);
    llm_context *context = step_context(connection, ids, 3);
    MUST(llm_context_chmod(context, 0666, error));
    struct nobody nobody = start_nobody(tries_everything, llm_context_id(context), false);
    for (size_t i = 0; i < RIGHTS; i++) {
        await_turn(nobody.turn);
        MUST(llm_context_chmod(context, rights[i].mode, error));
        give_turn(nobody.turn);
    }
    join_nobody(&nobody);
    ck_assert_uint_eq(step_info(context).length, 3 + 2); /* what the first one generated */
    llm_context_close(context);
    llm_disconnect(connection);
}
END_TEST

/* ---- Whose blocks ------------------------------------------------------------------------------------ */

/* One prompt for each case: what nobody computed itself it would find the next time. */
static void prompt_of(uint32_t *out, uint32_t which)
{
    for (uint32_t i = 0; i < PROMPT; i++)
        out[i] = which * 1000 + i;
}

static uint32_t cached_of(uint32_t which)
{
    uint32_t prompt[PROMPT], token;
    llm_stream *stream;
    prompt_of(prompt, which);
    llm_connection *connection = test_daemon_connect(&server);
    MUST(llm_submit(connection, prompt, PROMPT, &(llm_sampling){.max_tokens = 1}, &stream, error));
    ck_assert_uint_eq(step_read(stream, &token, NULL, 1, LLM_OK), 1);
    uint32_t cached = step_stream_info(stream).cached_tokens;
    llm_stream_close(stream);
    llm_disconnect(connection);
    return cached;
}

static void finds(int turn, uint64_t which_and_cached)
{
    (void)turn;
    ck_assert_uint_eq(cached_of((uint32_t)(which_and_cached >> 32)), (uint32_t)which_and_cached);
}

static void nobody_finds(uint32_t which, bool in_group, uint32_t cached)
{
    struct nobody nobody = start_nobody(finds, (uint64_t)which << 32 | cached, in_group);
    join_nobody(&nobody);
}

static llm_context *computed(llm_connection *connection, uint32_t which, uint32_t mode)
{
    uint32_t prompt[PROMPT];
    char name[32];
    prompt_of(prompt, which);
    snprintf(name, sizeof name, "shared/%u", which);
    const llm_publish publish = {.mode = mode, .gid = GROUP, .has_gid = true};
    llm_context *context = step_context(connection, prompt, PROMPT);
    MUST(llm_context_publish(context, name, &publish, error));
    MUST(llm_context_compute(context, error));
    return context;
}

START_TEST(what_is_private_is_found_by_nobody_else_and_what_is_published_by_its_readers)
{
    llm_connection *connection = test_daemon_connect(&server);
    ck_assert_uint_eq(cached_of(1), 0);
    ck_assert_uint_eq(cached_of(1), PROMPT - 1);
    nobody_finds(1, true, 0);

    llm_context *contexts[] = {computed(connection, 2, 0600), computed(connection, 3, 0640),
                               computed(connection, 4, 0640), computed(connection, 5, 0644)};
    nobody_finds(2, true, 0);
    nobody_finds(3, false, 0);
    nobody_finds(4, true, PROMPT - 1);
    nobody_finds(5, false, PROMPT - 1);
    for (size_t i = 0; i < sizeof contexts / sizeof contexts[0]; i++) {
        MUST(llm_context_remove(contexts[i], error));
        llm_context_close(contexts[i]);
    }
    llm_disconnect(connection);
}
END_TEST

/* Nobody's own blocks are not for everybody because nobody scored them behind something public. */
static void scores_a_secret(int turn, uint64_t id)
{
    uint32_t secret[PROMPT];
    float logprobs[PROMPT];
    llm_connection *connection = test_daemon_connect(&server);
    llm_context *context;
    prompt_of(secret, 7);
    MUST(llm_context_attach(connection, id, &context, error));
    MUST(llm_context_score(context, secret, PROMPT, logprobs, error));
    MUST(llm_context_score(context, secret, PROMPT, logprobs, error));
    give_turn(turn);
    await_turn(turn);
    llm_context_close(context);
    llm_disconnect(connection);
}

START_TEST(what_was_scored_on_a_public_context_stays_the_scorers)
{
    uint32_t row[2 * PROMPT], token;
    llm_stream *stream;
    llm_connection *connection = test_daemon_connect(&server);
    llm_context *context = computed(connection, 6, 0644);
    struct nobody nobody = start_nobody(scores_a_secret, llm_context_id(context), false);
    await_turn(nobody.turn);
    prompt_of(row, 6);
    prompt_of(row + PROMPT, 7);
    MUST(llm_submit(connection, row, 2 * PROMPT, &(llm_sampling){.max_tokens = 1}, &stream, error));
    ck_assert_uint_eq(step_read(stream, &token, NULL, 1, LLM_OK), 1);
    ck_assert_uint_le(step_stream_info(stream).cached_tokens, PROMPT);
    llm_stream_close(stream);
    give_turn(nobody.turn);
    join_nobody(&nobody);
    MUST(llm_context_remove(context, error));
    llm_context_close(context);
    llm_disconnect(connection);
}
END_TEST

/* ---- A document of one user, forked by another ------------------------------------------------------- */

/* Document `which` and behind it the tail that is its forker's alone. */
static void document_and_tail(uint32_t out[PROMPT + TAIL], uint32_t which)
{
    prompt_of(out, which);
    for (uint32_t i = 0; i < TAIL; i++)
        out[PROMPT + i] = 40000 + which * 1000 + i;
}

/* One more token behind `context`'s own and `count` ids; how many of them were found. */
static uint32_t cached_behind(llm_context *context, const uint32_t *ids, uint32_t count)
{
    uint32_t token;
    llm_stream *stream;
    MUST(llm_generate_after(context, ids, count, &(llm_sampling){.max_tokens = 1}, &stream, error));
    ck_assert_uint_eq(step_read(stream, &token, NULL, 1, LLM_OK), 1);
    uint32_t cached = step_stream_info(stream).cached_tokens;
    llm_stream_close(stream);
    return cached;
}

/* What the caller's probe may say of the tail: nothing is there, nor what stands there. */
static void finds_no_tail(llm_connection *connection, uint32_t which)
{
    uint32_t ids[PROMPT + TAIL], count = 0;
    llm_probe_result spans[16];
    document_and_tail(ids, which);
    MUST(llm_cache_probe(connection, NULL, ids, PROMPT + TAIL, spans, 16, &count, error));
    ck_assert_uint_gt(count, 1);
    ck_assert_uint_eq(spans[count - 1].to, PROMPT + TAIL);
    for (uint32_t i = 0; i < count; i++) {
        if (spans[i].to <= PROMPT)
            continue;
        ck_assert_uint_eq(spans[i].kind, 4); /* a miss */
        if (spans[i].cached_token != UINT32_MAX)
            ck_assert_uint_lt(spans[i].cached_token, 40000);
    }
}

/* Writes the documents 8 and 9 and computes the second; then the other one is at work; then asks about the first. */
static void is_the_author(int turn, uint64_t unused)
{
    (void)unused;
    uint32_t prompt[PROMPT];
    llm_connection *connection = test_daemon_connect(&server);
    llm_context *contexts[2];
    for (uint32_t i = 0; i < 2; i++) {
        char name[32];
        const llm_publish publish = {.mode = 0640, .gid = GROUP, .has_gid = true};
        snprintf(name, sizeof name, "author/%u", 8 + i);
        prompt_of(prompt, 8 + i);
        contexts[i] = step_context(connection, prompt, PROMPT);
        MUST(llm_context_publish(contexts[i], name, &publish, error));
    }
    MUST(llm_context_compute(contexts[1], error));
    give_turn(turn);
    await_turn(turn);
    uint32_t block = step_info(contexts[0]).block_tokens;
    ck_assert_uint_ge(cached_behind(contexts[0], NULL, 0), PROMPT - PROMPT % block);
    finds_no_tail(connection, 8);
    finds_no_tail(connection, 9);
    give_turn(turn);
    await_turn(turn);
    for (uint32_t i = 0; i < 2; i++) {
        MUST(llm_context_remove(contexts[i], error));
        llm_context_close(contexts[i]);
    }
    llm_disconnect(connection);
}

static void is_the_forker(int turn, uint64_t which)
{
    char name[32];
    uint32_t ids[PROMPT + TAIL];
    llm_connection *connection = test_daemon_connect(&server);
    llm_context *context, *fork;
    snprintf(name, sizeof name, "author/%u", (uint32_t)which);
    document_and_tail(ids, (uint32_t)which);
    MUST(llm_context_open(connection, name, &context, error));
    MUST(llm_context_fork(context, &fork, error));
    uint32_t block = step_info(fork).block_tokens;
    uint32_t cached = cached_behind(fork, ids + PROMPT, TAIL);
    if (which == 8) /* nobody had computed it */
        ck_assert_uint_eq(cached, 0);
    else
        ck_assert_uint_ge(cached, PROMPT - PROMPT % block);
    llm_context_close(fork);
    llm_context_close(context);
    llm_disconnect(connection);
    (void)turn;
}

/* Rows computed so far, of everything that is answered by now. */
static uint64_t computed_rows(llm_connection *connection)
{
    for (int i = 0; i < 2; i++) /* a pass behind the one that answered */
        MUST(llm_ping(connection, STEP_WAIT_NS, error));
    return atomic_load(&server.status->engine.counters[LLM_COUNTER_TOKENS_COMPUTED]);
}

START_TEST(a_shared_document_is_computed_once_and_what_stands_behind_it_stays_private)
{
    llm_connection *connection = test_daemon_connect(&server);
    struct nobody author = start_user(AUTHOR, is_the_author, 0, true);
    await_turn(author.turn);
    ck_assert_uint_eq(computed_rows(connection), PROMPT);
    struct nobody nobody = start_nobody(is_the_forker, 8, true);
    join_nobody(&nobody);
    uint64_t rows = computed_rows(connection);
    ck_assert_uint_eq(rows, 2 * PROMPT + TAIL);
    nobody = start_nobody(is_the_forker, 9, true);
    join_nobody(&nobody);
    uint64_t more = computed_rows(connection) - rows;
    ck_assert_uint_ge(more, TAIL);
    ck_assert_uint_lt(more, TAIL + PROMPT / 2);
    rows += more;
    give_turn(author.turn);
    await_turn(author.turn);
    more = computed_rows(connection) - rows;
    ck_assert_uint_ge(more, 1);
    ck_assert_uint_lt(more, PROMPT / 2);
    give_turn(author.turn);
    join_nobody(&author);
    llm_disconnect(connection);
}
END_TEST

/* ---- A context that becomes private while it is generated on ------------------------------------------ */

static uint32_t answered[PROMPT + ANSWER];

static void finds_at_most(int turn, uint64_t most)
{
    (void)turn;
    llm_connection *connection = test_daemon_connect(&server);
    llm_context *context = step_context(connection, NULL, 0);
    uint32_t cached = cached_behind(context, answered, PROMPT + ANSWER);
    ck_assert_uint_ge(cached, PROMPT - PROMPT % step_info(context).block_tokens);
    ck_assert_uint_le(cached, most);
    llm_context_close(context);
    llm_disconnect(connection);
}

START_TEST(what_is_generated_after_a_context_became_private_is_found_by_nobody_else)
{
    llm_stream *stream;
    uint32_t count;
    llm_connection *connection = test_daemon_connect(&server);
    llm_context *context = computed(connection, 10, 0644);
    prompt_of(answered, 10);
    MUST(llm_generate(context, &(llm_sampling){.max_tokens = ANSWER}, &stream, error));
    MUST(llm_stream_read(stream, answered + PROMPT, NULL, 1, STEP_WAIT_NS, &count, error));
    MUST(llm_context_chmod(context, 0600, error));
    uint32_t before = step_stream_info(stream).output_tokens;
    ck_assert_uint_eq(step_read(stream, answered + PROMPT + 1, NULL, ANSWER - 1, LLM_OK),
                      ANSWER - 1);
    llm_stream_close(stream);
    struct nobody nobody = start_nobody(finds_at_most, PROMPT + before, false);
    join_nobody(&nobody);
    MUST(llm_context_remove(context, error));
    llm_context_close(context);
    llm_disconnect(connection);
}
END_TEST

int main(void)
{
    if (geteuid() != 0) {
        puts("attack/contexts: skipped, it needs root to become another user");
        return 77;
    }
    Suite *suite = suite_create("attack/contexts");
    TCase *tcase = tcase_create("users");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, each_request_asks_for_its_right_again);
    tcase_add_test(tcase,
                   what_is_private_is_found_by_nobody_else_and_what_is_published_by_its_readers);
    tcase_add_test(tcase, what_was_scored_on_a_public_context_stays_the_scorers);
    tcase_add_test(tcase,
                   a_shared_document_is_computed_once_and_what_stands_behind_it_stays_private);
    tcase_add_test(tcase, what_is_generated_after_a_context_became_private_is_found_by_nobody_else);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
