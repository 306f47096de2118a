/* llmctl ctx ask, cat, score, follow - a context's words. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/attachment.h"
#include "tools/llmctl/ctx.h"
#include "tools/llmctl/json_out.h"
#include "tools/llmctl/text_out.h"

/* ---- ask ------------------------------------------------------------------------------------------- */

/* The question: an argument, or stdin. `*out_read` is what the caller frees. */
static enum llm_status question_of(const struct arguments *arguments, const char **out_question,
                                   char **out_read, llm_error *error)
{
    *out_read = NULL;
    *out_question = arguments->positional_count > 1 ? arguments->positional[1] : NULL;
    if (*out_question)
        return LLM_OK;
    enum llm_status status = llmctl_read_text("-", out_read, error);
    *out_question = *out_read;
    return status;
}

/* On a fork, which ends with its handle, or (--keep) on the context itself. */
static enum llmctl_exit ask(llm_context *context, const char *question,
                            const struct arguments *arguments)
{
    const llm_sampling_more more = llmctl_sampling(arguments);
    llm_context *fork = NULL;
    llm_stream *stream;
    llm_error error;
    enum llm_status status = arguments->keep ? LLM_OK : llm_context_fork(context, &fork, &error);
    if (status == LLM_OK)
        status =
            llm_context_ask_text(fork ? fork : context, question, &more.sampling, &stream, &error);
    enum llmctl_exit result =
        status == LLM_OK ? llmctl_print_answer(stream, arguments) : llmctl_fail(&error);
    llm_context_close(fork);
    return result;
}

enum llmctl_exit llmctl_ctx_ask(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_context *context;
    llm_error error;
    char *read = NULL;
    const char *question = NULL;
    enum llmctl_exit result;
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status = ctx_open(connection, arguments->positional[0], &context, &error);
    if (status == LLM_OK) {
        status = question_of(arguments, &question, &read, &error);
        result = status == LLM_OK ? ask(context, question, arguments) : llmctl_fail(&error);
        llm_context_close(context);
    } else {
        result = llmctl_fail(&error);
    }
    free(read);
    llm_disconnect(connection);
    return result;
}

/* ---- follow ---------------------------------------------------------------------------------------- */

enum llmctl_exit llmctl_ctx_follow(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_context *context;
    llm_stream *stream;
    llm_error error;
    enum llmctl_exit result;
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status = ctx_open(connection, arguments->positional[0], &context, &error);
    if (status == LLM_OK) {
        status = llm_context_follow(context, &stream, &error);
        result = status == LLM_OK ? llmctl_print_answer(stream, arguments) : llmctl_fail(&error);
        llm_context_close(context);
    } else {
        result = llmctl_fail(&error);
    }
    llm_disconnect(connection);
    return result;
}

/* ---- cat ------------------------------------------------------------------------------------------- */

static enum llm_status read_tokens(llm_context *context, uint32_t length, uint32_t **out_tokens,
                                   uint32_t *out_count, llm_error *error)
{
    uint32_t count = 0;
    uint32_t *tokens = malloc(((size_t)length + 1) * sizeof *tokens);
    if (!tokens)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u tokens", length);
    enum llm_status status =
        length > 0 ? llm_context_read(context, 0, tokens, length, &count, error) : LLM_OK;
    if (status != LLM_OK) {
        free(tokens);
        return status;
    }
    *out_tokens = tokens;
    *out_count = count;
    return LLM_OK;
}

/* The ids as text, in memory that the caller frees. */
static enum llm_status to_text(const llm_vocab *vocab, const uint32_t *tokens, uint32_t count,
                               char **out_text, size_t *out_bytes, llm_error *error)
{
    size_t bytes;
    enum llm_status status = llm_decode_whole(vocab, tokens, count, 0, NULL, 0, &bytes, error);
    if (status != LLM_OK)
        return status;
    char *text = malloc(bytes + 1);
    if (!text)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a text of %zu bytes", bytes);
    status = llm_decode_whole(vocab, tokens, count, 0, text, bytes, &bytes, error);
    if (status != LLM_OK) {
        free(text);
        return status;
    }
    *out_text = text;
    *out_bytes = bytes;
    return LLM_OK;
}

static void print_ids(const uint32_t *tokens, uint32_t count, bool as_json)
{
    struct json_out json;
    json_out_init(&json, stdout);
    if (as_json) {
        json_out_object(&json, NULL);
        json_out_array(&json, "tokens");
    }
    for (uint32_t i = 0; i < count; i++)
        if (as_json)
            json_out_count(&json, NULL, tokens[i]);
        else
            printf("%u\n", tokens[i]);
    if (as_json) {
        json_out_end(&json);
        json_out_end(&json);
    }
}

static void print_text(const char *text, size_t bytes, bool as_json)
{
    struct json_out json;
    if (!as_json) {
        fwrite(text, 1, bytes, stdout);
        if (bytes == 0 || text[bytes - 1] != '\n')
            putchar('\n');
        return;
    }
    json_out_init(&json, stdout);
    json_out_object(&json, NULL);
    json_out_bytes(&json, "text", text, bytes);
    json_out_end(&json);
}

static enum llm_status cat(llm_context *context, const struct arguments *arguments,
                           llm_error *error)
{
    llm_context_info info;
    uint32_t *tokens = NULL, count = 0;
    const llm_vocab *vocab;
    enum llm_status status = llm_context_describe(context, &info, error);
    if (status == LLM_OK)
        status = read_tokens(context, info.length, &tokens, &count, error);
    if (status == LLM_OK && arguments->tokens) {
        print_ids(tokens, count, arguments->json);
    } else if (status == LLM_OK) {
        char *text = NULL;
        size_t bytes = 0;
        status = llm_connection_vocab(llm_context_connection(context), info.model, &vocab, error);
        if (status == LLM_OK)
            status = to_text(vocab, tokens, count, &text, &bytes, error);
        if (status == LLM_OK)
            print_text(text, bytes, arguments->json);
        free(text);
    }
    free(tokens);
    return status;
}

enum llmctl_exit llmctl_ctx_cat(const struct arguments *arguments)
{
    return ctx_run(arguments, cat, NULL);
}

/* ---- score ----------------------------------------------------------------------------------------- */

static void print_scores(const struct arguments *arguments, const llm_vocab *vocab,
                         const uint32_t *tokens, const float *logprobs, uint32_t count)
{
    struct json_out json;
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += (double)logprobs[i];
    json_out_init(&json, stdout);
    if (arguments->json) {
        json_out_object(&json, NULL);
        json_out_array(&json, "tokens");
    }
    for (uint32_t i = 0; i < count; i++) {
        const char *text = "";
        size_t bytes = 0;
        if (!vocab || llm_token_text(vocab, tokens[i], &text, &bytes, NULL) != LLM_OK)
            bytes = 0;
        if (arguments->json) {
            json_out_object(&json, NULL);
            json_out_count(&json, "id", tokens[i]);
            json_out_bytes(&json, "text", text, bytes);
            json_out_real(&json, "logprob", (double)logprobs[i]);
            json_out_end(&json);
        } else {
            char raw[TEXT_CELL_BYTES_MAX], shown[TEXT_CELL_BYTES_MAX];
            snprintf(raw, sizeof raw, "%.*s", (int)(bytes < 100 ? bytes : 100), text);
            text_printable(shown, sizeof shown, raw);
            printf("%u\t%.6f\t\"%s\"\n", tokens[i], (double)logprobs[i], shown);
        }
    }
    if (arguments->json) {
        json_out_end(&json);
        json_out_real(&json, "logprob", sum);
        json_out_real(&json, "perplexity", exp(-sum / count));
        json_out_end(&json);
    } else {
        printf("%u tokens  log-probability %.6f  perplexity %.4g\n", count, sum, exp(-sum / count));
    }
}

static enum llm_status score(llm_context *context, const struct arguments *arguments,
                             llm_error *error)
{
    uint32_t *tokens, count;
    const llm_vocab *vocab = NULL;
    llm_connection *connection = llm_context_connection(context);
    enum llm_status status = ctx_input(connection, llm_context_model(context), arguments, 1, false,
                                       &tokens, &count, error);
    if (status != LLM_OK)
        return status;
    float *logprobs = malloc(((size_t)count + 1) * sizeof *logprobs);
    if (!logprobs)
        status = llm_fail(error, LLM_ERR_MEMORY, "no memory for %u log-probabilities", count);
    if (status == LLM_OK)
        status = llm_context_score(context, tokens, count, logprobs, error);
    if (status == LLM_OK) {
        if (llm_connection_vocab(connection, llm_context_model(context), &vocab, NULL) != LLM_OK)
            vocab = NULL; /* ids alone, then */
        print_scores(arguments, vocab, tokens, logprobs, count);
    }
    free(logprobs);
    free(tokens);
    return status;
}

enum llmctl_exit llmctl_ctx_score(const struct arguments *arguments)
{
    llm_error error;
    if (ctx_input_check(arguments, 1, false, &error) != LLM_OK)
        return ctx_usage(&error);
    return ctx_run(arguments, score, NULL);
}
