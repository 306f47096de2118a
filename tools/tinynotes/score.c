/*
 * llm-notes-score - how many questions about notes it has never seen does the built-in model answer exactly?
 *
 * Every question of `--notes` notes of 8 to 20 facts (test split: names the model never met) is asked through
 * llmd, greedily, many at once; an answer counts when it is the expected sentence, byte for byte. Exit code 0
 * only if the share reaches --require.
 */
#include <argp.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/llm.h"
#include "client/text.h"
#include "tools/tinynotes/corpus.h"

#define FACTS_MIN    8
#define FACTS_MAX    20
#define ANSWER_BYTES 256 /* longer than any answer there is */
#define ROOM_BYTES   8   /* least that a piece is read into: room for one character */
#define IN_FLIGHT    48
#define SHOWN_WRONG  5

struct score_options {
    const char *socket;
    const char *model;
    uint64_t notes;
    uint64_t seed;
    double require;
};

/* One question on its way. */
struct asked {
    llm_stream *stream; /* NULL: free */
    struct corpus_question question;
    char answer[ANSWER_BYTES];
    size_t answer_bytes;
};

struct score {
    const struct score_options *options;
    llm_connection *connection;
    struct corpus_note note; /* the one whose questions are being asked */
    uint64_t notes_begun;
    int32_t next_question;
    struct asked asked[IN_FLIGHT];
    uint64_t questions;
    uint64_t exact;
    uint64_t prompt_tokens;
    uint64_t cached_tokens;
};

/* ---- Asking ---------------------------------------------------------------------------------------- */

/* The next question of the run; false when all have been asked. */
static bool next_question(struct score *score, struct corpus_question *out_question)
{
    if (score->next_question == score->note.fact_count) {
        if (score->notes_begun == score->options->notes)
            return false;
        corpus_note(&score->note, CORPUS_TEST, score->options->seed + score->notes_begun, FACTS_MIN,
                    FACTS_MAX);
        score->notes_begun++;
        score->next_question = 0;
    }
    *out_question = score->note.questions[score->next_question++];
    return true;
}

static enum llm_status ask(struct score *score, struct asked *asked, llm_error *error)
{
    static const char *const stop[] = {"\n"};
    char prompt[CORPUS_NOTE_BYTES + CORPUS_LINE_BYTES + 8];
    size_t bytes = strlen(score->note.text);
    memcpy(prompt, score->note.text, bytes);
    corpus_ask(prompt + bytes, sizeof prompt - bytes, asked->question.question);
    llm_sampling sampling = {.max_tokens = 48,
                             .stop_strings = stop,
                             .stop_string_count = 1,
                             .model = score->options->model};
    asked->answer_bytes = 0;
    return llm_generate_text(score->connection, prompt, &sampling, &asked->stream, error);
}

/* Put a question into every free place. */
static enum llm_status fill(struct score *score, llm_error *error)
{
    for (int i = 0; i < IN_FLIGHT; i++) {
        struct asked *asked = &score->asked[i];
        if (asked->stream)
            continue;
        if (!next_question(score, &asked->question))
            return LLM_OK;
        enum llm_status status = ask(score, asked, error);
        if (status != LLM_OK)
            return status;
    }
    return LLM_OK;
}

/* ---- Reading --------------------------------------------------------------------------------------- */

static void judge(struct score *score, struct asked *asked)
{
    const char *answer = asked->answer;
    asked->answer[asked->answer_bytes] = 0;
    if (*answer == ' ')
        answer++;
    bool exact = strcmp(answer, asked->question.answer) == 0;
    score->questions++;
    score->exact += exact;
    if (!exact && score->questions - score->exact <= SHOWN_WRONG)
        printf("wrong: %s -> \"%s\", not \"%s\"\n", asked->question.question, answer,
               asked->question.answer);
}

/* Take what has arrived; an answer that is complete, or longer than any, is judged and its place becomes free. */
static enum llm_status take(struct score *score, struct asked *asked, llm_error *error)
{
    size_t room, bytes = 0;
    enum llm_status status;
    do {
        room = ANSWER_BYTES - 1 - asked->answer_bytes;
        status = llm_stream_read_text(asked->stream, asked->answer + asked->answer_bytes, room, 0,
                                      &bytes, error);
        if (status == LLM_OK)
            asked->answer_bytes += bytes;
    } while (status == LLM_OK && bytes > 0 && room - bytes >= ROOM_BYTES);
    if (status == LLM_ERR_TIMEOUT)
        return LLM_OK;
    llm_stream_info info;
    if (status == LLM_OK)
        status = llm_stream_describe(asked->stream, &info, error);
    if (status != LLM_OK)
        return status;
    judge(score, asked);
    score->prompt_tokens += info.prompt_tokens;
    score->cached_tokens += info.cached_tokens;
    llm_stream_close(asked->stream);
    asked->stream = NULL;
    return LLM_OK;
}

static enum llm_status take_all(struct score *score, bool *out_idle, llm_error *error)
{
    llm_stream *streams[IN_FLIGHT];
    uint32_t live = 0, which;
    for (int i = 0; i < IN_FLIGHT; i++) {
        streams[i] = score->asked[i].stream;
        live += streams[i] != NULL;
    }
    *out_idle = live == 0;
    if (live == 0)
        return LLM_OK;
    enum llm_status status = llm_streams_wait_any(streams, IN_FLIGHT, LLM_FOREVER, &which, error);
    for (int i = 0; i < IN_FLIGHT && status == LLM_OK; i++)
        if (score->asked[i].stream)
            status = take(score, &score->asked[i], error);
    return status;
}

static enum llm_status run(struct score *score, llm_error *error)
{
    bool idle = false;
    enum llm_status status = LLM_OK;
    while (status == LLM_OK && !idle) {
        status = fill(score, error);
        if (status == LLM_OK)
            status = take_all(score, &idle, error);
    }
    for (int i = 0; i < IN_FLIGHT; i++)
        llm_stream_close(score->asked[i].stream);
    return status;
}

/* ---- Saying ---------------------------------------------------------------------------------------- */

/* The commit of the checkout that this was built from, "-dirty" when it has changes. */
static void read_commit(char *out, size_t bytes)
{
    FILE *git = popen("git -C '" LLM_SOURCE_DIR "' describe --always --dirty 2>/dev/null", "r");
    snprintf(out, bytes, "unknown");
    if (!git)
        return;
    char line[64];
    if (fgets(line, sizeof line, git)) {
        line[strcspn(line, "\n")] = 0;
        snprintf(out, bytes, "%s", line);
    }
    pclose(git);
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool report(const struct score *score, double seconds)
{
    char commit[64];
    read_commit(commit, sizeof commit);
    double share = score->questions ? (double)score->exact / (double)score->questions : 0;
    bool reached = share >= score->options->require;
    printf("%" PRIu64 " of %" PRIu64
           " questions answered exactly: %.2f %% (%s; required %.2f %%)\n",
           score->exact, score->questions, 100 * share, reached ? "reached" : "NOT reached",
           100 * score->options->require);
    printf("%" PRIu64 " notes of %d to %d facts, seed %" PRIu64 ", commit %s\n",
           score->options->notes, FACTS_MIN, FACTS_MAX, score->options->seed, commit);
    printf("%.1f s, %.0f questions/s, %.1f %% of %" PRIu64 " prompt tokens came from the cache\n",
           seconds, (double)score->questions / seconds,
           100 * (double)score->cached_tokens / (double)(score->prompt_tokens + 1),
           score->prompt_tokens);
    return reached;
}

/* ---- Options --------------------------------------------------------------------------------------- */

static const struct argp_option option_table[] = {
    {"socket", 's', "PATH", 0, "the daemon's socket; a private daemon where none runs", 0},
    {"model", 'm', "NAME", 0, "which model; without it the daemon's default", 0},
    {"notes", 'n', "N", 0, "how many notes (500)", 0},
    {"seed", 'e', "N", 0, "number of the first note (1)", 0},
    {"require", 'r', "SHARE", 0, "least share of exact answers for exit code 0 (0.95)", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct score_options *options = state->input;
    char *end = NULL;
    switch (key) {
    case 's':
        options->socket = value;
        return 0;
    case 'm':
        options->model = value;
        return 0;
    case 'n':
        options->notes = strtoull(value, &end, 10);
        break;
    case 'e':
        options->seed = strtoull(value, &end, 10);
        break;
    case 'r':
        options->require = strtod(value, &end);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    if (end == value || *end)
        argp_error(state, "\"%s\" is not a number", value);
    return 0;
}

static const struct argp parser = {
    .options = option_table,
    .parser = parse_option,
    .doc = "Asks the daemon's model every question about notes it was not trained on.",
};

int main(int argc, char **argv)
{
    struct score_options options = {.notes = 500, .seed = 1, .require = 0.95};
    static struct score score; /* large */
    llm_error error;
    argp_parse(&parser, argc, argv, 0, NULL, &options);
    score.options = &options;
    llm_connect_options connect = {.socket = options.socket, .name = "llm-notes-score"};
    double started = seconds_now();
    enum llm_status status = llm_connect(&score.connection, &connect, &error);
    if (status == LLM_OK)
        status = run(&score, &error);
    if (status != LLM_OK)
        fprintf(stderr, "llm-notes-score: %s\n", error.message);
    bool reached = status == LLM_OK && report(&score, seconds_now() - started);
    llm_disconnect(score.connection);
    return reached ? EXIT_SUCCESS : EXIT_FAILURE;
}
