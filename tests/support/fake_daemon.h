/*
 * fake_daemon.h - keeper and engine in one thread, so that libllm can be proved without the daemon.
 *
 * Idea     Built from the same primitives of shm/ as the real engine, but its model is an echo: token i of an
 *          answer is prompt[i % prompt_tokens], its log-probability -(i + 1) / 8. The model's name says how it
 *          behaves:
 *            ""       one token per pass, as fast as it can
 *            "hold"   admits and never produces: only a cancel, a deadline or the end of the connection help
 *            "fail"   two tokens, then LLM_ERR_UNSUPPORTED with the sentence "the echo is broken"
 *            "lie"    a count beyond the log
 *            "expel"  ends the connection with a farewell: "token 7 is not to our taste"
 *            "leave"  closes the connection's socket without a word
 *          Contexts are those of fake_contexts.h: a request on one echoes its tokens and the prompt's, and appends what it
 *          produces; a score is the prompt with -(i + 1) / 8.
 * Owner    The test; fake_daemon_close() ends the thread and every connection.
 * Threads  One of its own. Counters may be read by the test at any time.
 */
#ifndef TESTS_SUPPORT_FAKE_DAEMON_H
#define TESTS_SUPPORT_FAKE_DAEMON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/layout.h"
#include "tests/support/fake_contexts.h"

struct fake_daemon;

/* What is wrong with the answer to a hello. */
enum fake_lie {
    FAKE_HONEST,
    FAKE_SHORT_REPLY,
    FAKE_WRONG_MAGIC,
    FAKE_NO_DESCRIPTORS,
    FAKE_WRONG_GEOMETRY,  /* one that is not valid */
    FAKE_LARGER_GEOMETRY, /* valid, but the memories are smaller */
    FAKE_WRONG_BOOT_ID
};

struct fake_daemon_options {
    struct llm_geometry geometry; /* all zero: a small one */
    uint32_t first_epoch;         /* where every record's epoch starts */
    enum llm_status refuse;       /* answer each hello with this status and "not today" */
    bool refuse_at_door;          /* ... before reading it */
    bool refuse_wordless;         /* ... or with no sentence at all */
    bool wrong_version;           /* answer as another protocol version */
    bool silent;                  /* accept, and never answer */
    enum fake_lie lie;
};

/* Listens at `path` when it returns. Failures stop the test. */
struct fake_daemon *fake_daemon_open(const char *path, const struct fake_daemon_options *options);
void fake_daemon_close(struct fake_daemon *daemon);

struct fake_daemon_counts {
    uint32_t connections; /* ever */
    uint32_t requests;    /* admitted */
    uint32_t cancelled;
    uint32_t sleeps;   /* times the thread went to sleep */
    uint32_t open;     /* connections now */
    uint32_t contexts; /* now */
};
/* How contexts are answered from now on. */
void fake_daemon_refuse_contexts(struct fake_daemon *daemon, enum llm_status status);
void fake_daemon_lie_about_contexts(struct fake_daemon *daemon, enum fake_context_lie lie);
/* Hold queues: nothing is taken in until this is called again with false. */
void fake_daemon_pause(struct fake_daemon *daemon, bool paused);
struct fake_daemon_counts fake_daemon_counts(struct fake_daemon *daemon);

#endif
