/*
 * context_steps.h - the steps that tests of contexts are made of: what must succeed does, or the test says why not.
 *
 * Idea     A reference is an answer to the whole prompt at once, asked of a daemon that knows no contexts; what is said on a
 *          context must be the same, token for token and to the last bit of each log-probability.
 * Owner    The test.
 */
#ifndef TESTS_SUPPORT_CONTEXT_STEPS_H
#define TESTS_SUPPORT_CONTEXT_STEPS_H

#include <check.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/llm.h"
#include "tests/support/daemon.h"

#define STEP_WAIT_NS UINT64_C(60000000000)

#define MUST(call)                                                                   \
    do {                                                                             \
        llm_error must_error = {0};                                                  \
        llm_error *error = &must_error;                                              \
        enum llm_status must_status = (call);                                        \
        ck_assert_msg(must_status == LLM_OK, "%s: %s", llm_status_name(must_status), \
                      must_error.message);                                           \
    } while (0)

/* Ids that a model with 300 or more has: `count` from `first` on. */
static inline void step_ids(uint32_t *out, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = 20 + (first + i * 7) % 250;
}

/* Read to the end; how it ended must be `status`. Returns how many tokens came. */
static inline uint32_t step_read(llm_stream *stream, uint32_t *out, float *out_logprobs,
                                 uint32_t capacity, enum llm_status status)
{
    uint32_t total = 0, count = 0;
    llm_error error;
    enum llm_status got;
    do {
        got = llm_stream_read(stream, out + total, out_logprobs ? out_logprobs + total : NULL,
                              capacity - total, STEP_WAIT_NS, &count, &error);
        if (got == LLM_OK)
            total += count;
    } while (got == LLM_OK && count > 0 && total < capacity);
    if (got == LLM_OK && total == capacity) { /* full: is that all? */
        uint32_t more;
        got = llm_stream_read(stream, &more, NULL, 1, STEP_WAIT_NS, &count, &error);
        ck_assert_msg(got != LLM_OK || count == 0, "more tokens than expected");
    }
    ck_assert_msg(got == status, "%s: %s", llm_status_name(got), error.message);
    return total;
}

static inline llm_context *step_context(llm_connection *connection, const uint32_t *ids,
                                        uint32_t count)
{
    llm_context *context = NULL;
    MUST(llm_context_create(connection, NULL, &context, error));
    if (count > 0)
        MUST(llm_context_append(context, ids, count, error));
    return context;
}

static inline llm_context_info step_info(llm_context *context)
{
    llm_context_info info = {0};
    MUST(llm_context_describe(context, &info, error));
    return info;
}

static inline llm_stream_info step_stream_info(llm_stream *stream)
{
    llm_stream_info info = {0};
    MUST(llm_stream_describe(stream, &info, error));
    return info;
}

/* The context's tokens are exactly these. */
static inline void step_assert_tokens(llm_context *context, const uint32_t *ids, uint32_t count)
{
    uint32_t got[256], taken = 0;
    ck_assert_uint_eq(step_info(context).length, count);
    for (uint32_t from = 0; from < count; from += taken) {
        MUST(llm_context_read(context, from, got, 256, &taken, error));
        ck_assert_uint_gt(taken, 0);
        ck_assert_mem_eq(got, ids + from, taken * sizeof *got);
    }
}

/* A whole prompt's answer, without contexts. */
static inline uint32_t step_answer(llm_connection *connection, const uint32_t *prompt,
                                   uint32_t prompt_tokens, const llm_sampling *sampling,
                                   uint32_t *out, float *out_logprobs)
{
    llm_stream *stream;
    MUST(llm_submit(connection, prompt, prompt_tokens, sampling, &stream, error));
    uint32_t total = step_read(stream, out, out_logprobs, sampling->max_tokens, LLM_OK);
    llm_stream_close(stream);
    return total;
}

/* A program of its own that generates on a context (published, if `name` is given) and is there to be killed. */
struct step_owner {
    pid_t pid;
    uint64_t context_id;
};

static inline struct step_owner step_start_owner(const struct test_daemon *daemon,
                                                 const uint32_t *prompt, uint32_t prompt_tokens,
                                                 uint32_t max_tokens, const char *name)
{
    struct step_owner owner = {0};
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    owner.pid = fork();
    if (owner.pid == 0) {
        uint32_t token, count;
        llm_stream *stream;
        llm_connection *connection = test_daemon_connect(daemon);
        llm_context *context = step_context(connection, prompt, prompt_tokens);
        if (name)
            MUST(llm_context_publish(context, name, NULL, error));
        MUST(llm_generate(context, &(llm_sampling){.max_tokens = max_tokens}, &stream, error));
        MUST(llm_stream_read(stream, &token, NULL, 1, STEP_WAIT_NS, &count, error));
        uint64_t id = llm_context_id(context);
        ck_assert_int_eq(write(ends[1], &id, sizeof id), (ssize_t)sizeof id);
        for (;;)
            pause();
    }
    ck_assert_int_eq(read(ends[0], &owner.context_id, sizeof owner.context_id),
                     (ssize_t)sizeof owner.context_id);
    close(ends[0]);
    close(ends[1]);
    return owner;
}

static inline void step_kill_owner(const struct step_owner *owner)
{
    ck_assert_int_eq(kill(owner->pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(owner->pid, NULL, 0), owner->pid);
}

#endif
