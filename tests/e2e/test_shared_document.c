/*
 * test_shared_document.c - sixty-four processes ask about one document, and it is computed once.
 * How: the document is published as a context that nothing has computed yet. The processes wait at a gate, open it by name,
 * fork it, append a question of their own and generate, all at the same time; their answers must be those that a daemon gives
 * which is asked nothing else. The counter of computed rows says how much work it was; alone, every process would have
 * computed the document for itself.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/text.h"
#include "tests/support/daemon.h"

#define PROCESSES 64
#ifdef __SANITIZE_ADDRESS__
#define ALONE 4 /* of the questions, asked again of a daemon of their own */
#else
#define ALONE PROCESSES
#endif
#define ANSWER_BYTES 256
#define MINUTE       UINT64_C(60000000000)

static const char *const people[] = {"Mara", "Ivo", "Tam", "Ada", "Lena", "Odo", "Pia", "Rui"};
static const char *const things[] = {"copper key",    "blue lantern", "small boat", "red ball",
                                     "striped clock", "green hat",    "old map",    "tin whistle"};

struct shared {
    _Atomic bool open; /* the gate */
    _Atomic uint32_t ready;
    _Atomic uint64_t prompt_tokens, cached_tokens, output_tokens;
    char answers[PROCESSES][ANSWER_BYTES];
    char failure[PROCESSES][LLM_ERROR_MESSAGE_BYTES];
};

static struct shared *shared;

static void write_document(char *out, size_t bytes)
{
    size_t used = 0;
    for (uint32_t i = 0; i < 40; i++) {
        int more = snprintf(out + used, bytes - used, "%s keeps the %s. ", people[i % 8],
                            things[(i * 3 + i / 8) % 8]);
        ck_assert(more > 0 && used + (size_t)more < bytes);
        used += (size_t)more;
    }
}

static void write_question(uint32_t i, char *out, size_t bytes)
{
    snprintf(out, bytes, "\nQ: Who keeps the %s?%.*s\nA:", things[i % 8], (int)(i / 8), "????????");
}

static const llm_sampling sampling = {.max_tokens = 12, .ignore_eos = true};

/* Fork, ask, read. Empty: it worked. */
static void ask(llm_context *document, uint32_t i, char out_answer[ANSWER_BYTES],
                struct llm_error *error)
{
    char question[128];
    llm_context *mine = NULL;
    llm_stream *stream = NULL;
    llm_stream_info info;
    size_t used = 0, bytes = 1;
    write_question(i, question, sizeof question);
    enum llm_status status = llm_context_fork(document, &mine, error);
    if (status == LLM_OK)
        status = llm_context_ask_text(mine, question, &sampling, &stream, error);
    while (status == LLM_OK && bytes > 0) {
        status = llm_stream_read_text(stream, out_answer + used, ANSWER_BYTES - 1 - used, MINUTE,
                                      &bytes, error);
        used += status == LLM_OK ? bytes : 0;
    }
    if (status == LLM_OK)
        status = llm_stream_describe(stream, &info, error);
    if (status == LLM_OK) {
        atomic_fetch_add(&shared->prompt_tokens, info.prompt_tokens);
        atomic_fetch_add(&shared->cached_tokens, info.cached_tokens);
        atomic_fetch_add(&shared->output_tokens, info.output_tokens);
        error->message[0] = '\0';
    }
    out_answer[used] = '\0';
    llm_stream_close(stream);
    llm_context_close(mine);
}

static _Noreturn void be_a_process(const struct test_daemon *daemon, uint32_t i)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct llm_error error;
    llm_context *document;
    llm_connection *connection = test_daemon_connect(daemon);
    atomic_fetch_add(&shared->ready, 1);
    while (!atomic_load(&shared->open))
        usleep(200);
    if (llm_context_open(connection, "shared/notes", &document, &error) == LLM_OK) {
        ask(document, i, shared->answers[i], &error);
        llm_context_close(document);
    }
    snprintf(shared->failure[i], sizeof shared->failure[i], "%s", error.message);
    llm_disconnect(connection);
    _exit(0);
}

static llm_context *publish(llm_connection *connection)
{
    static char text[8192];
    llm_context *document;
    llm_error error;
    write_document(text, sizeof text);
    ck_assert_msg(llm_context_create(connection, NULL, &document, &error) == LLM_OK &&
                      llm_context_append_text(document, text, &error) == LLM_OK &&
                      llm_context_publish(document, "shared/notes", &(llm_publish){.mode = 0644},
                                          &error) == LLM_OK,
                  "%s", error.message);
    return document;
}

static void run_processes(const struct test_daemon *daemon)
{
    pid_t pids[PROCESSES];
    for (uint32_t i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        ck_assert_int_ge(pids[i], 0);
        if (pids[i] == 0)
            be_a_process(daemon, i);
    }
    while (atomic_load(&shared->ready) < PROCESSES)
        test_sleep_ms(1);
    atomic_store(&shared->open, true);
    for (uint32_t i = 0; i < PROCESSES; i++) {
        int status;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(status, 0);
        ck_assert_msg(shared->failure[i][0] == '\0', "process %u: %s", i, shared->failure[i]);
    }
}

/* The same question to a daemon that was just started: nothing is shared with anybody. */
static void compare_with_alone(uint32_t i)
{
    struct test_daemon daemon;
    char answer[ANSWER_BYTES];
    llm_error error;
    test_daemon_start(&daemon, (const char *const[]){"--model", "tinynotes", NULL});
    llm_connection *connection = test_daemon_connect(&daemon);
    llm_context *document = publish(connection);
    ask(document, i, answer, &error);
    ck_assert_str_eq(error.message, "");
    ck_assert_str_eq(answer, shared->answers[i]);
    llm_context_close(document);
    llm_disconnect(connection);
    test_daemon_stop(&daemon);
}

START_TEST(a_document_is_computed_once_for_sixty_four)
{
    struct test_daemon daemon;
    llm_error error;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
    test_daemon_start(&daemon, (const char *const[]){"--model", "tinynotes", NULL});
    llm_connection *connection = test_daemon_connect(&daemon);
    llm_context *document = publish(connection);
    llm_context_info info;
    ck_assert_int_eq(llm_context_describe(document, &info, &error), LLM_OK);
    const _Atomic uint64_t *computed = &daemon.status->engine.counters[LLM_COUNTER_TOKENS_COMPUTED];
    ck_assert_uint_eq(atomic_load(computed), 0);
    run_processes(&daemon);

    uint64_t rows = atomic_load(computed), alone = atomic_load(&shared->prompt_tokens),
             outputs = atomic_load(&shared->output_tokens);
    ck_assert_uint_gt(rows, outputs);
    uint64_t prefill = rows - outputs + PROCESSES; /* an answer's last token is not fed back */
    printf("document of %u tokens, %u processes: %llu prompt tokens, %llu computed (%.1f times "
           "less), %llu reported as cached\n",
           info.length, PROCESSES, (unsigned long long)alone, (unsigned long long)prefill,
           (double)alone / (double)prefill,
           (unsigned long long)atomic_load(&shared->cached_tokens));
    ck_assert_uint_ge(alone, 10 * prefill);
    /* Once: what is left of each prompt behind the document, and a part of a block at most. */
    ck_assert_uint_le(prefill, info.length + alone - (uint64_t)PROCESSES * info.length +
                                   (uint64_t)PROCESSES * info.block_tokens);
    llm_context_close(document);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
    for (uint32_t i = 0; i < ALONE; i++)
        compare_with_alone(i * (PROCESSES / ALONE));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/shared_document");
    TCase *tcase = tcase_create("shared");
    tcase_set_timeout(tcase, 280);
    tcase_add_test(tcase, a_document_is_computed_once_for_sixty_four);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
