/*
 * Conversations as contexts.
 *
 * `tokens` is what the context holds, as far as this process knows: the last prompt, and the answer once it was read. A
 * new prompt is compared with it token by token; the context is rewound to where they part, and the rest is appended
 * with the request. Where the template writes the old turns as they were generated, which is the rule, nothing of them is
 * computed again; where it does not (it drops an old turn's reasoning, say), only what stands behind is.
 */
#include <stdlib.h>
#include <string.h>

#include "client/text.h"
#include "client/text/buffer.h"
#include "client/text/utf8.h"

struct llm_chat {
    llm_context *context;
    const llm_vocab *vocab;
    llm_template *chat_template;
    struct llm_buffer messages; /* "[{...},{...}": the list without its end */
    struct llm_buffer shown;    /* the same with it, for the caller */
    uint32_t *tokens;           /* [token_count] of the context */
    size_t token_count;
    bool answering; /* an answer was begun behind `tokens`, and is not read yet */
    size_t
        message_bytes_before; /* ... and so many bytes of messages were there before its question */
};

/* ---- Messages as JSON ---------------------------------------------------------------------------------------- */

static bool append(struct llm_buffer *json, const char *text)
{
    return llm_buffer_append(json, text, strlen(text));
}

/* RFC 8259 section 7: quote, backslash and control characters are escaped; the rest is UTF-8 as it is. */
static bool append_quoted(struct llm_buffer *json, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    bool good = append(json, "\"");
    for (; *text && good; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            good = llm_buffer_append(json, (char[]){'\\', (char)c}, 2);
        else if (c < 0x20)
            good =
                llm_buffer_append(json, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
        else
            good = llm_buffer_append(json, text, 1);
    }
    return good && append(json, "\"");
}

static bool is_utf8(const char *text)
{
    size_t bytes = strlen(text);
    for (size_t at = 0; at < bytes;) {
        unsigned length = llm_utf8_character((const uint8_t *)text + at, bytes - at);
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}

static enum llm_status add_message(llm_chat *chat, const char *role, const char *content,
                                   llm_error *error)
{
    size_t before = chat->messages.count;
    if (!is_utf8(role) || !is_utf8(content))
        return llm_fail(error, LLM_ERR_INVALID, "a message must be UTF-8");
    if (append(&chat->messages, before > 1 ? ",{\"role\":" : "{\"role\":") &&
        append_quoted(&chat->messages, role) && append(&chat->messages, ",\"content\":") &&
        append_quoted(&chat->messages, content) && append(&chat->messages, "}"))
        return LLM_OK;
    chat->messages.count = before;
    return llm_fail(error, LLM_ERR_MEMORY, "no memory for a message of %zu bytes", strlen(content));
}

/* The list with its end. NULL: no memory. */
static const char *show_messages(llm_chat *chat)
{
    chat->shown.count = 0;
    bool good = llm_buffer_append(&chat->shown, chat->messages.bytes, chat->messages.count) &&
                llm_buffer_append(&chat->shown, "]", 2);
    return good ? (const char *)chat->shown.bytes : NULL;
}

/* ---- The answer before -------------------------------------------------------------------------------------- */

/* The context's tokens from chat->token_count on, behind those that are known. */
static enum llm_status read_answer(llm_chat *chat, uint32_t length, llm_error *error)
{
    uint32_t *tokens = realloc(chat->tokens, ((size_t)length + 1) * sizeof *tokens);
    if (!tokens)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u tokens", length);
    chat->tokens = tokens;
    while (chat->token_count < length) {
        uint32_t count = 0;
        enum llm_status status =
            llm_context_read(chat->context, (uint32_t)chat->token_count, tokens + chat->token_count,
                             length - (uint32_t)chat->token_count, &count, error);
        if (status != LLM_OK || count == 0)
            return status;
        chat->token_count += count;
    }
    return LLM_OK;
}

/* Tokens as the assistant's message. */
static enum llm_status add_answer(llm_chat *chat, const uint32_t *tokens, size_t count,
                                  llm_error *error)
{
    size_t bytes = 0;
    while (count > 0 && llm_token_is_eos(chat->vocab, tokens[count - 1]))
        count--;
    enum llm_status status =
        llm_decode_whole(chat->vocab, tokens, count, LLM_DECODE_CONTINUE, NULL, 0, &bytes, error);
    char *text = status == LLM_OK ? malloc(bytes + 1) : NULL;
    if (status == LLM_OK && !text)
        status = llm_fail(error, LLM_ERR_MEMORY, "no memory for an answer of %zu bytes", bytes);
    if (status == LLM_OK)
        status = llm_decode_whole(chat->vocab, tokens, count, LLM_DECODE_CONTINUE, text, bytes,
                                  &bytes, error);
    if (status == LLM_OK) {
        text[bytes] = 0; /* a zero byte that the model wrote ends its text here */
        status = add_message(chat, "assistant", text, error);
    }
    free(text);
    return status;
}

/* Once the answer before is complete it becomes a message. */
static enum llm_status take_answer(llm_chat *chat, llm_error *error)
{
    llm_context_info info;
    size_t prompt_count = chat->token_count;
    if (!chat->answering)
        return LLM_OK;
    enum llm_status status = llm_context_describe(chat->context, &info, error);
    if (status == LLM_OK && info.generating)
        return llm_fail(error, LLM_ERR_BUSY, "the conversation's last answer is still running");
    if (status == LLM_OK &&
        info.length < prompt_count) { /* the engine refused: nothing was appended */
        chat->token_count = info.length;
        chat->messages.count = chat->message_bytes_before;
        chat->answering = false;
        return LLM_OK;
    }
    if (status == LLM_OK)
        status = read_answer(chat, info.length, error);
    if (status == LLM_OK)
        status =
            add_answer(chat, chat->tokens + prompt_count, chat->token_count - prompt_count, error);
    if (status == LLM_OK)
        chat->answering = false;
    else
        chat->token_count = prompt_count;
    return status;
}

/* ---- Asking -------------------------------------------------------------------------------------------------- */

static size_t common_prefix(const llm_chat *chat, const uint32_t *tokens, size_t count)
{
    size_t same = 0;
    while (same < count && same < chat->token_count && chat->tokens[same] == tokens[same])
        same++;
    return same;
}

/* Make the context's tokens these, and generate behind them. `tokens` is the chat's from now on. */
static enum llm_status submit(llm_chat *chat, uint32_t *tokens, size_t count,
                              const llm_sampling *sampling, llm_stream **out_stream,
                              llm_error *error)
{
    size_t same = common_prefix(chat, tokens, count);
    enum llm_status status = LLM_OK;
    if (same < chat->token_count)
        status = llm_context_rewind(chat->context, (uint32_t)same, error);
    if (status == LLM_OK) {
        chat->token_count = same; /* also when the rest fails */
        status = llm_generate_after(chat->context, tokens + same, (uint32_t)(count - same),
                                    sampling, out_stream, error);
    }
    if (status != LLM_OK) {
        free(tokens);
        return status;
    }
    free(chat->tokens);
    chat->tokens = tokens;
    chat->token_count = count;
    chat->answering = true;
    return LLM_OK;
}

static enum llm_status ask(llm_chat *chat, const llm_render_options *options,
                           const llm_sampling *sampling, llm_stream **out_stream, llm_error *error)
{
    llm_render_options asked = options ? *options : (llm_render_options){0};
    uint32_t *tokens;
    size_t count;
    asked.flags = LLM_RENDER_GENERATION_PROMPT;
    const char *messages = show_messages(chat);
    if (!messages)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the conversation's messages");
    enum llm_status status = llm_template_encode(chat->chat_template, chat->vocab, messages, &asked,
                                                 &tokens, &count, error);
    if (status == LLM_OK && (count == 0 || count > UINT32_MAX / 2)) {
        free(tokens);
        return llm_fail(error, LLM_ERR_INVALID, "the chat template writes %zu tokens", count);
    }
    return status == LLM_OK ? submit(chat, tokens, count, sampling, out_stream, error) : status;
}

enum llm_status llm_chat_ask(llm_chat *chat, const char *content, const llm_render_options *options,
                             const llm_sampling *sampling, llm_stream **out_stream,
                             llm_error *error)
{
    enum llm_status status = take_answer(chat, error);
    size_t before = chat->messages.count;
    if (status == LLM_OK && content)
        status = add_message(chat, "user", content, error);
    if (status == LLM_OK)
        status = ask(chat, options, sampling, out_stream, error);
    if (status == LLM_OK)
        chat->message_bytes_before = before;
    else
        chat->messages.count = before;
    return status;
}

enum llm_status llm_chat_add(llm_chat *chat, const char *role, const char *content,
                             llm_error *error)
{
    enum llm_status status = take_answer(chat, error);
    return status == LLM_OK ? add_message(chat, role, content, error) : status;
}

enum llm_status llm_chat_messages(llm_chat *chat, const char **out_json, llm_error *error)
{
    enum llm_status status = take_answer(chat, error);
    const char *json = status == LLM_OK ? show_messages(chat) : NULL;
    if (status == LLM_OK && !json)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the conversation's messages");
    if (json)
        *out_json = json;
    return status;
}

llm_context *llm_chat_context(llm_chat *chat)
{
    return chat->context;
}

/* ---- Beginning and end ------------------------------------------------------------------------------------------ */

enum llm_status llm_chat_open(llm_connection *connection, const char *model,
                              const char *template_text, size_t template_bytes, llm_chat **out_chat,
                              llm_error *error)
{
    llm_chat *chat = calloc(1, sizeof *chat);
    if (!chat || !append(&chat->messages, "[")) {
        free(chat);
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a conversation");
    }
    enum llm_status status = llm_connection_vocab(connection, model, &chat->vocab, error);
    if (status == LLM_OK)
        status = template_text
                     ? llm_template_open(template_text, template_bytes, &chat->chat_template, error)
                     : llm_template_open_vocab(chat->vocab, &chat->chat_template, error);
    if (status == LLM_OK)
        status = llm_context_create(connection, model, &chat->context, error);
    if (status == LLM_OK)
        *out_chat = chat;
    else
        llm_chat_close(chat);
    return status;
}

void llm_chat_close(llm_chat *chat)
{
    if (!chat)
        return;
    llm_context_close(chat->context);
    llm_template_close(chat->chat_template);
    llm_buffer_close(&chat->messages);
    llm_buffer_close(&chat->shown);
    free(chat->tokens);
    free(chat);
}
