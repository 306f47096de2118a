/*
 * llmctl generate - one prompt, its answer as it comes.
 *
 * Text is read through libllm-text; --tokens, --logprobs, --top-logprobs and --ids read ids. Ctrl-C cancels the request: what
 * arrived stays printed, the daemon goes on, the exit code is 1.
 */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/text.h"
#include "tools/llmctl/json_out.h"
#include "tools/llmctl/llmctl.h"
#include "tools/llmctl/text_out.h"

#define TOKENS_AT_ONCE 256

static llm_stream *volatile streaming; /* what Ctrl-C cancels; NULL: nothing yet */
static volatile sig_atomic_t interrupted;

static void cancel_streaming(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
    if (streaming)
        llm_stream_cancel(streaming); /* may be called here, says its docstring */
}

/* The first Ctrl-C cancels; the handler is then gone, so that a second one ends llmctl at once. */
static void watch_interrupt(llm_stream *stream)
{
    struct sigaction action = {.sa_handler = cancel_streaming, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    interrupted = 0;
    streaming = stream;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void unwatch_interrupt(void)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    streaming = NULL;
}

/* ---- What is asked --------------------------------------------------------------------------------- */

llm_sampling_more llmctl_sampling(const struct arguments *a)
{
    const llm_sampling sampling = {.max_tokens = a->max_tokens,
                                   .temperature = a->temperature,
                                   .top_k = a->top_k,
                                   .top_p = a->top_p,
                                   .min_p = a->min_p,
                                   .seed = a->seed,
                                   .has_seed = a->has_seed,
                                   .logprobs = a->logprobs || a->top_logprobs > 0,
                                   .ignore_eos = a->ignore_eos,
                                   .stop_ids = a->stop_ids,
                                   .stop_id_count = a->stop_id_count,
                                   .stop_strings = a->stop_strings,
                                   .stop_string_count = a->stop_string_count,
                                   .model = a->model,
                                   .model_defaults = (uint32_t)LLM_DEFAULT_ALL & ~a->decided,
                                   .more_bytes = sizeof(llm_sampling_more),
                                   .timeout_ns = a->timeout_ns};
    return (llm_sampling_more){.sampling = sampling,
                               .typical_p = a->typical_p,
                               .repetition_penalty = a->repetition_penalty,
                               .presence_penalty = a->presence_penalty,
                               .frequency_penalty = a->frequency_penalty,
                               .min_tokens = a->min_tokens,
                               .top_logprobs = a->top_logprobs,
                               .biases = a->biases,
                               .bias_count = a->bias_count,
                               .banned_ids = a->banned_ids,
                               .banned_id_count = a->banned_id_count,
                               .allowed_ids = a->allowed_ids,
                               .allowed_id_count = a->allowed_id_count};
}

static enum llm_status submit(llm_connection *connection, const struct arguments *arguments,
                              llm_stream **out_stream, llm_error *error)
{
    const llm_sampling_more more = llmctl_sampling(arguments);
    const llm_sampling *sampling = &more.sampling;
    if (arguments->prompt_ids)
        return llm_submit(connection, arguments->prompt_ids, arguments->prompt_id_count, sampling,
                          out_stream, error);
    if (arguments->positional_count > 0)
        return llm_generate_text(connection, arguments->positional[0], sampling, out_stream, error);
    char *prompt = NULL;
    enum llm_status status = llmctl_read_text("-", &prompt, error);
    if (status != LLM_OK)
        return status;
    status = llm_generate_text(connection, prompt, sampling, out_stream, error);
    free(prompt);
    return status;
}

/* ---- What is answered ------------------------------------------------------------------------------ */

/* With --json the answer is collected in `json`, else it goes to stdout as it comes. */
struct answer {
    llm_stream *stream;
    const struct arguments *arguments;
    FILE *text; /* stdout, or a memory stream for --json */
    char *collected;
    size_t collected_bytes;
    struct json_out json;
    uint32_t printed; /* tokens, with their ids */
};

static enum llm_status relay_text(struct answer *answer, llm_error *error)
{
    for (;;) {
        char piece[1024];
        size_t bytes = 0;
        enum llm_status status =
            llm_stream_read_text(answer->stream, piece, sizeof piece, LLM_FOREVER, &bytes, error);
        if (status != LLM_OK || bytes == 0)
            return status;
        fwrite(piece, 1, bytes, answer->text);
        fflush(answer->text);
    }
}

static bool with_logprobs(const struct arguments *arguments)
{
    return arguments->logprobs || arguments->top_logprobs > 0;
}

/* The likeliest at the place of the token that is printed: "id:logprob" each, or an array. */
static void print_tops(struct answer *answer)
{
    llm_top_logprob tops[32];
    uint32_t count = 0;
    if (answer->arguments->top_logprobs == 0 ||
        llm_stream_tops(answer->stream, answer->printed, tops, 32, &count, NULL) != LLM_OK)
        return;
    if (answer->arguments->json)
        json_out_array(&answer->json, "top");
    for (uint32_t i = 0; i < count; i++) {
        if (!answer->arguments->json) {
            printf("\t%u:%.6f", tops[i].token, (double)tops[i].logprob);
            continue;
        }
        json_out_object(&answer->json, NULL);
        json_out_count(&answer->json, "id", tops[i].token);
        json_out_real(&answer->json, "logprob", (double)tops[i].logprob);
        json_out_end(&answer->json);
    }
    if (answer->arguments->json)
        json_out_end(&answer->json);
}

static void print_ids(struct answer *answer, const uint32_t *ids, const float *logprobs,
                      uint32_t count)
{
    for (uint32_t i = 0; i < count; i++, answer->printed++) {
        if (answer->arguments->json) {
            json_out_object(&answer->json, NULL);
            json_out_count(&answer->json, "id", ids[i]);
            if (with_logprobs(answer->arguments))
                json_out_real(&answer->json, "logprob", (double)logprobs[i]);
            print_tops(answer);
            json_out_end(&answer->json);
        } else if (with_logprobs(answer->arguments)) {
            printf("%u\t%.6f", ids[i], (double)logprobs[i]);
            print_tops(answer);
            putchar('\n');
        } else {
            printf("%u\n", ids[i]);
        }
    }
    fflush(stdout);
}

static enum llm_status relay_ids(struct answer *answer, llm_error *error)
{
    for (;;) {
        uint32_t ids[TOKENS_AT_ONCE], count = 0;
        float logprobs[TOKENS_AT_ONCE];
        enum llm_status status = llm_stream_read(answer->stream, ids, logprobs, TOKENS_AT_ONCE,
                                                 LLM_FOREVER, &count, error);
        if (status != LLM_OK || count == 0)
            return status;
        print_ids(answer, ids, logprobs, count);
    }
}

static const char *finish_name(enum llm_finish_reason finish)
{
    static const char *const names[] = {
        [LLM_FINISHED_NOT] = "not finished",        [LLM_FINISHED_STOP_ID] = "stop id",
        [LLM_FINISHED_STOP_STRING] = "stop string", [LLM_FINISHED_LENGTH] = "length",
        [LLM_FINISHED_CONTEXT] = "context full",    [LLM_FINISHED_CANCELLED] = "cancelled",
        [LLM_FINISHED_FAILED] = "failed",           [LLM_FINISHED_ANSWERED] = "answered",
    };
    return (unsigned)finish < sizeof names / sizeof names[0] ? names[finish] : "unknown";
}

static double tokens_per_second(const llm_stream_info *info)
{
    uint64_t span_ns = info->last_token_ns - info->first_token_ns;
    return info->output_tokens > 1 && info->last_token_ns > info->first_token_ns
               ? (double)(info->output_tokens - 1) * 1e9 / (double)span_ns
               : 0;
}

/* What the tokens were chosen by, what is off left out: "temperature 0.7  top_p 0.9  seed 12". */
static void print_in_force(llm_stream *stream, const llm_stream_info *info)
{
    llm_sampling_in_force f;
    if (llm_stream_sampling(stream, &f, NULL) != LLM_OK)
        return;
    if (f.temperature > 0)
        fprintf(stderr, "temperature %g", (double)f.temperature);
    else
        fputs("greedy", stderr);
    if (f.temperature > 0 && f.top_k > 0)
        fprintf(stderr, "  top_k %u", f.top_k);
    if (f.temperature > 0 && f.top_p < 1)
        fprintf(stderr, "  top_p %g", (double)f.top_p);
    if (f.temperature > 0 && f.min_p > 0)
        fprintf(stderr, "  min_p %g", (double)f.min_p);
    if (f.temperature > 0 && f.typical_p < 1)
        fprintf(stderr, "  typical_p %g", (double)f.typical_p);
    if (f.repetition_penalty < 1 || f.repetition_penalty > 1)
        fprintf(stderr, "  repetition_penalty %g", (double)f.repetition_penalty);
    fprintf(stderr, "  seed %" PRIu64 "\n", info->seed);
}

static void json_in_force(struct json_out *json, llm_stream *stream)
{
    llm_sampling_in_force f;
    if (llm_stream_sampling(stream, &f, NULL) != LLM_OK)
        return;
    json_out_object(json, "sampling");
    json_out_real(json, "temperature", (double)f.temperature);
    json_out_count(json, "top_k", f.top_k);
    json_out_real(json, "top_p", (double)f.top_p);
    json_out_real(json, "min_p", (double)f.min_p);
    json_out_real(json, "typical_p", (double)f.typical_p);
    json_out_real(json, "repetition_penalty", (double)f.repetition_penalty);
    json_out_end(json);
}

static void print_stats(const llm_stream_info *info)
{
    fprintf(stderr,
            "request %" PRIu64 "  prompt %u tokens (%u cached)  queued %s  first token %s  "
            "%u tokens, %.0f/s  finish: %s  seed %" PRIu64 "\n",
            info->request_id, info->prompt_tokens, info->cached_tokens,
            text_span(info->queued_ns).text, text_span(info->first_token_ns).text,
            info->output_tokens, tokens_per_second(info), finish_name(info->finish), info->seed);
}

static void json_stats(struct json_out *json, const llm_stream_info *info)
{
    json_out_text(json, "finish", finish_name(info->finish));
    json_out_text(json, "status", llm_status_name(info->status));
    json_out_text(json, "message", info->message);
    json_out_count(json, "request_id", info->request_id);
    json_out_text(json, "seed",
                  text_plain(info->seed).text); /* many readers lose digits past 2^53 */
    json_out_count(json, "prompt_tokens", info->prompt_tokens);
    json_out_count(json, "cached_tokens", info->cached_tokens);
    json_out_count(json, "output_tokens", info->output_tokens);
    json_out_count(json, "queued_ns", info->queued_ns);
    json_out_count(json, "first_token_ns", info->first_token_ns);
    json_out_count(json, "last_token_ns", info->last_token_ns);
}

/* Relay the whole answer; with --json it becomes one object that ends with the statistics. */
static enum llm_status relay(struct answer *answer, llm_error *error)
{
    const struct arguments *arguments = answer->arguments;
    bool as_ids = arguments->tokens || with_logprobs(arguments) || arguments->prompt_ids;
    llm_stream_info info = {0};
    if (arguments->json) {
        json_out_init(&answer->json, stdout);
        json_out_object(&answer->json, NULL);
    }
    if (arguments->json && as_ids)
        json_out_array(&answer->json, "tokens");
    enum llm_status status = as_ids ? relay_ids(answer, error) : relay_text(answer, error);
    if (llm_stream_describe(answer->stream, &info, NULL) != LLM_OK)
        info.status = status;
    if (arguments->json) {
        fflush(answer->text);
        if (as_ids)
            json_out_end(&answer->json);
        else
            json_out_bytes(&answer->json, "text", answer->collected, answer->collected_bytes);
        json_stats(&answer->json, &info);
        json_in_force(&answer->json, answer->stream);
        json_out_end(&answer->json);
    } else if (!as_ids) {
        putchar('\n');
    }
    fflush(stdout);
    if (arguments->stats) {
        print_stats(&info);
        print_in_force(answer->stream, &info);
    }
    return status;
}

static enum llm_status answer(llm_stream *stream, const struct arguments *arguments,
                              llm_error *error)
{
    struct answer answer = {.stream = stream, .arguments = arguments, .text = stdout};
    if (arguments->json)
        answer.text = open_memstream(&answer.collected, &answer.collected_bytes);
    if (!answer.text)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory to collect the answer in");
    enum llm_status status = relay(&answer, error);
    if (arguments->json)
        fclose(answer.text);
    free(answer.collected);
    return status;
}

enum llmctl_exit llmctl_print_answer(llm_stream *stream, const struct arguments *arguments)
{
    llm_error error;
    watch_interrupt(stream);
    enum llm_status status = answer(stream, arguments, &error);
    unwatch_interrupt();
    llm_stream_close(stream);
    if (interrupted) {
        fputs("llmctl: cancelled\n", stderr);
        return LLMCTL_FAILED;
    }
    return status == LLM_OK ? LLMCTL_DONE : llmctl_fail(&error);
}

enum llmctl_exit llmctl_generate(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_stream *stream;
    llm_error error;
    if (arguments->prompt_ids && arguments->positional_count > 0) {
        fputs("llmctl: generate takes a prompt or --ids, not both\n", stderr);
        return LLMCTL_USAGE;
    }
    if (llmctl_connect(arguments, true, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status = submit(connection, arguments, &stream, &error);
    enum llmctl_exit result =
        status == LLM_OK ? llmctl_print_answer(stream, arguments) : llmctl_fail(&error);
    llm_disconnect(connection);
    return result;
}
