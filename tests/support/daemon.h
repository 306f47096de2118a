/*
 * daemon.h - a real llmd of one's own, for tests of the whole path.
 *
 * Idea     Started from the build tree in a directory of its own under /tmp, in the foreground, logging to a
 *          file there; stopped by SIGTERM, after which socket and status file must be gone. Failures stop the
 *          test with the daemon's last words. It leaves by itself when the test dies first (--idle-exit).
 * Owner    The test that started it stops it.
 */
#ifndef TESTS_SUPPORT_DAEMON_H
#define TESTS_SUPPORT_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/llm.h"
#include "shm/status_file.h"

struct test_daemon {
    char directory[64];
    char socket[96];
    char log[96];
    pid_t pid;
    const struct llm_status_file *status;
    char status_name[64];
};

/* Start "llmd --foreground --socket ... arguments" and wait until it serves. `arguments` ends with NULL.
 * `folder` is "bin", or "crash" for the build with crash points. */
void test_daemon_start_in(struct test_daemon *daemon, const char *folder,
                          const char *const *arguments);
/* The same, with `prepare` called between fork and exec: limits, filters, another user. */
void test_daemon_start_prepared(struct test_daemon *daemon,
                                void (*prepare)(const struct test_daemon *daemon),
                                const char *const *arguments);
void test_daemon_start(struct test_daemon *daemon, const char *const *arguments);
/* The two halves of it, for a daemon that may die on its way, or that is started again in its directory: a launch
 * keeps a directory that is set, and waits for nothing. */
void test_daemon_launch(struct test_daemon *daemon, const char *folder,
                        const char *const *arguments);
void test_daemon_await(struct test_daemon *daemon);
/* SIGTERM; it must end with exit code 0 and leave nothing behind. */
void test_daemon_stop(struct test_daemon *daemon);
/* The same for one that was told to stop otherwise, or is to be found dead. */
void test_daemon_wait(struct test_daemon *daemon);

llm_connection *test_daemon_connect(const struct test_daemon *daemon);
uint64_t test_daemon_generation(const struct test_daemon *daemon); /* of the engine that serves */
/* Kill the engine, now. */
void test_daemon_kill_engine(const struct test_daemon *daemon);
/* Wait until an engine of at least this generation serves. */
void test_daemon_wait_generation(const struct test_daemon *daemon, uint64_t generation);
/* llm_daemon_check() must say that all is sound, and the keeper must hold no descriptor too many. */
void test_daemon_assert_clean(const struct test_daemon *daemon);

/* Echo of `prompt`: token i of the answer. */
static inline uint32_t test_echo(const uint32_t *prompt, uint32_t prompt_tokens, uint32_t i)
{
    return prompt[i % prompt_tokens];
}
/* Read all of it and compare with the echo; returns how many came. `status` is how it must end. */
uint32_t test_read_echo(llm_stream *stream, const uint32_t *prompt, uint32_t prompt_tokens,
                        enum llm_status status);

/* Run llmd with these arguments until it ends; its exit code, and what it said on standard error. */
int test_run_llmd(const char *const *arguments, char *out_text, size_t bytes);

void test_sleep_ms(unsigned ms);

#endif
