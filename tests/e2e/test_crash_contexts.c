/*
 * test_crash_contexts.c - the engine dies at every place where a store of a context has just become visible.
 * How: as test_crash_points.c, with one life of contexts in place of plain streams: made, extended, generated on, forked, published,
 * followed, branched from, kept, scored, computed, pinned, rewound, removed. Every call is made once and must be answered
 * once, with what a daemon that never died would say; each row, block and reference must be accounted for in the end.
 */
#include <stdio.h>
#include <stdlib.h>

#include "shm/crash_point.h"
#include "tests/support/context_steps.h"

#define FIRST    40u
#define ANSWER   50u
#define BRANCHES 3u
#define NAME     "crash/one"

static void choose_point(enum llm_crash_point point, int pass, const char *engines)
{
    char text[64];
    snprintf(text, sizeof text, "%s:%d", llm_crash_point_name(point), pass);
    setenv("LLMD_CRASH", text, 1);
    setenv("LLMD_CRASH_ENGINES", engines, 1);
}

/* ---- One life --------------------------------------------------------------------------------------- */

struct life {
    const struct test_daemon *daemon;
    llm_connection *owner, *other;
    llm_context *context;
    uint32_t row[1024]; /* what the context's tokens must be */
    uint32_t length;
};

/* An echo of all that stands before it. */
static void expect_echo(struct life *life, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        life->row[life->length + i] = life->row[i % life->length];
}

static void assert_answer(llm_stream *stream, const uint32_t *want, uint32_t count)
{
    uint32_t got[ANSWER + 1];
    ck_assert_uint_eq(step_read(stream, got, NULL, count, LLM_OK), count);
    ck_assert_mem_eq(got, want, count * sizeof *got);
    llm_stream_close(stream);
}

static void generate_private(struct life *life, bool kill)
{
    llm_stream *stream;
    uint32_t which;
    expect_echo(life, ANSWER);
    MUST(llm_generate(life->context, &(llm_sampling){.max_tokens = ANSWER}, &stream, error));
    if (kill) {
        MUST(llm_streams_wait_any(&stream, 1, STEP_WAIT_NS, &which, error));
        test_daemon_kill_engine(life->daemon);
    }
    assert_answer(stream, life->row + life->length, ANSWER);
    life->length += ANSWER;
    step_assert_tokens(life->context, life->row, life->length);
}

/* Others may read it now: what was private of it is found by everybody. */
static void generate_followed(struct life *life)
{
    const llm_publish publish = {.mode = 0666};
    llm_stream *stream, *follower;
    llm_context *seen;
    llm_error why;
    MUST(llm_context_publish(life->context, NAME, &publish, error));
    MUST(llm_context_open(life->other, NAME, &seen, error));
    expect_echo(life, ANSWER);
    MUST(llm_generate(life->context, &(llm_sampling){.max_tokens = ANSWER}, &stream, error));
    enum llm_status status = llm_context_follow(seen, &follower, &why);
    if (status == LLM_OK)
        assert_answer(follower, life->row + life->length, ANSWER);
    else /* it was faster */
        ck_assert_msg(status == LLM_ERR_NOT_FOUND, "%s", why.message);
    assert_answer(stream, life->row + life->length, ANSWER);
    life->length += ANSWER;
    step_assert_tokens(seen, life->row, life->length);
    llm_context_close(seen);
}

/* Both go their own ways from here. */
static void fork_and_diverge(struct life *life)
{
    llm_context *fork;
    llm_stream *stream;
    uint32_t row[FIRST + 2 * ANSWER + 12];
    memcpy(row, life->row, life->length * sizeof *row);
    MUST(llm_context_fork_at(life->context, life->length - 5, &fork, error));
    step_ids(row + life->length - 5, 90, 7);
    MUST(llm_context_append(fork, row + life->length - 5, 7, error));
    step_ids(life->row + life->length, 60, 3);
    MUST(llm_context_append(life->context, life->row + life->length, 3, error));
    uint32_t length = life->length + 2;
    life->length += 3;
    for (uint32_t i = 0; i < 10; i++)
        row[length + i] = row[i];
    MUST(llm_generate(fork, &(llm_sampling){.max_tokens = 10}, &stream, error));
    assert_answer(stream, row + length, 10);
    step_assert_tokens(fork, row, length + 10);
    step_assert_tokens(life->context, life->row, life->length);
    llm_context_close(fork);
}

static void branch_and_keep(struct life *life)
{
    llm_branch branches[BRANCHES] = {0};
    llm_stream *streams[BRANCHES];
    uint32_t got[8];
    for (uint32_t i = 0; i < BRANCHES; i++)
        branches[i].sampling.max_tokens = 6 + i;
    expect_echo(life, 8);
    MUST(llm_context_branch(life->context, branches, BRANCHES, streams, error));
    for (uint32_t i = 0; i < BRANCHES; i++) {
        ck_assert_uint_eq(step_read(streams[i], got, NULL, 6 + i, LLM_OK), 6 + i);
        ck_assert_mem_eq(got, life->row + life->length, (6 + i) * sizeof *got);
    }
    step_assert_tokens(life->context, life->row, life->length);
    MUST(llm_context_keep(life->context, streams[1], error));
    life->length += 7;
    step_assert_tokens(life->context, life->row, life->length);
    for (uint32_t i = 0; i < BRANCHES; i++)
        llm_stream_close(streams[i]);
}

static void look_and_end(struct life *life)
{
    uint32_t ids[70];
    float logprobs[70];
    step_ids(ids, 33, 70);
    MUST(llm_context_score(life->context, ids, 70, logprobs, error));
    for (uint32_t i = 0; i < 70; i++)
        ck_assert_double_eq((double)logprobs[i], 0.0);
    MUST(llm_context_compute(life->context, error));
    MUST(llm_context_pin(life->context, error));
    ck_assert_uint_gt(step_info(life->context).pinned_blocks, 0);
    MUST(llm_context_unpin(life->context, error));
    MUST(llm_context_rewind(life->context, 17, error));
    step_assert_tokens(life->context, life->row, 17);
    MUST(llm_context_append(life->context, ids, 70, error));
    memcpy(life->row + 17, ids, sizeof ids);
    step_assert_tokens(life->context, life->row, 17 + 70);
    MUST(llm_context_remove(life->context, error));
}

static void live(const struct test_daemon *daemon, bool kill_first)
{
    struct life life = {.daemon = daemon,
                        .owner = test_daemon_connect(daemon),
                        .other = test_daemon_connect(daemon),
                        .length = FIRST};
    step_ids(life.row, 1, FIRST);
    life.context = step_context(life.owner, life.row, FIRST);
    generate_private(&life, kill_first);
    generate_followed(&life);
    fork_and_diverge(&life);
    branch_and_keep(&life);
    look_and_end(&life);
    llm_context_close(life.context);
    llm_disconnect(life.other);
    llm_disconnect(life.owner);
}

/* ---- Deaths ----------------------------------------------------------------------------------------- */

static const struct {
    int pass;
    const char *engines;
    bool kill_first;
    bool surely; /* every point of a context is passed so often */
} ways[] = {
    {1, "1", false, true},  {2, "1", false, false},  {4, "1", false, false},
    {9, "2", false, false}, {2, "2-2", true, false},
};
#ifdef __SANITIZE_ADDRESS__ /* several times as slow */
#define WAYS 1
#else
#define WAYS ((int)(sizeof ways / sizeof ways[0]))
#endif

static bool of_contexts(enum llm_crash_point point)
{
    const char *name = llm_crash_point_name(point);
    return strncmp(name, "ctx_", 4) == 0 || strncmp(name, "row_", 4) == 0 ||
           point == LLM_CRASH_block_widened;
}

START_TEST(contexts_come_out_whole_wherever_the_engine_dies)
{
    enum llm_crash_point point = (enum llm_crash_point)(_i / WAYS);
    int way = _i % WAYS;
    if (llm_crash_point_who(point) != LLM_CRASH_OF_ENGINE)
        return;
    choose_point(point, ways[way].pass, ways[way].engines);
    struct test_daemon daemon;
    test_daemon_start_in(&daemon, "crash",
                         (const char *const[]){"--set", "models.echo_step_us=300", NULL});
    live(&daemon, ways[way].kill_first);
    if (ways[way].surely && of_contexts(point))
        ck_assert_msg(test_daemon_generation(&daemon) > 1, "%s was never passed",
                      llm_crash_point_name(point));
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/crash_contexts");
    TCase *tcase = tcase_create("contexts");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, contexts_come_out_whole_wherever_the_engine_dies, 0,
                        LLM_CRASH_POINT_COUNT * WAYS);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
