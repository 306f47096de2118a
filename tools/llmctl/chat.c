/*
 * llmctl chat - a conversation, turn by turn.
 *
 * Turns are the arguments, or all of stdin as one, or (on a terminal) the lines as they are typed. The conversation is a
 * context of the daemon (llm_chat): a turn costs what is new in it. Ctrl-C stops an answer and keeps what came; at the
 * prompt it ends llmctl, as Ctrl-D does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/text.h"
#include "tools/llmctl/llmctl.h"

/* One turn: said, answered, printed. */
static enum llmctl_exit say(llm_chat *chat, const char *words, const struct arguments *arguments)
{
    llm_sampling_more more = llmctl_sampling(arguments);
    llm_stream *stream;
    llm_error error;
    more.sampling.model = NULL; /* the conversation has one */
    if (llm_chat_ask(chat, words, NULL, &more.sampling, &stream, &error) != LLM_OK)
        return llmctl_fail(&error);
    return llmctl_print_answer(stream, arguments);
}

static enum llmctl_exit say_arguments(llm_chat *chat, const struct arguments *arguments)
{
    enum llmctl_exit result = LLMCTL_DONE;
    for (int i = 0; i < arguments->positional_count && result == LLMCTL_DONE; i++)
        result = say(chat, arguments->positional[i], arguments);
    return result;
}

static enum llmctl_exit say_stdin(llm_chat *chat, const struct arguments *arguments)
{
    char *words;
    llm_error error;
    if (llmctl_read_text("-", &words, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llmctl_exit result = say(chat, words, arguments);
    free(words);
    return result;
}

/* Lines of a terminal. A turn that fails is told, and the next one may do better; without a daemon there is none. */
static enum llmctl_exit say_lines(llm_chat *chat, const struct arguments *arguments)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t bytes;
    enum llmctl_exit result = LLMCTL_DONE;
    for (;;) {
        fputs("> ", stderr);
        bytes = getline(&line, &capacity, stdin);
        if (bytes < 0 || result == LLMCTL_NO_DAEMON)
            break;
        if (bytes > 0 && line[bytes - 1] == '\n')
            line[bytes - 1] = 0;
        if (*line)
            result = say(chat, line, arguments);
    }
    fputs("\n", stderr);
    free(line);
    return result == LLMCTL_NO_DAEMON ? result : LLMCTL_DONE;
}

static enum llm_status begin(llm_connection *connection, const struct arguments *arguments,
                             llm_chat **out_chat, llm_error *error)
{
    char *template_text = NULL;
    llm_chat *chat = NULL;
    enum llm_status status = LLM_OK;
    if (arguments->template_file)
        status = llmctl_read_text(arguments->template_file, &template_text, error);
    if (status == LLM_OK)
        status = llm_chat_open(connection, arguments->model, template_text,
                               template_text ? strlen(template_text) : 0, &chat, error);
    if (status == LLM_OK && arguments->system)
        status = llm_chat_add(chat, "system", arguments->system, error);
    free(template_text);
    if (status == LLM_OK)
        *out_chat = chat;
    else
        llm_chat_close(chat);
    return status;
}

enum llmctl_exit llmctl_chat(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_chat *chat;
    llm_error error;
    enum llmctl_exit result;
    if (llmctl_connect(arguments, true, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    if (begin(connection, arguments, &chat, &error) != LLM_OK) {
        result = llmctl_fail(&error);
    } else {
        if (arguments->positional_count > 0)
            result = say_arguments(chat, arguments);
        else
            result = isatty(STDIN_FILENO) ? say_lines(chat, arguments) : say_stdin(chat, arguments);
        llm_chat_close(chat);
    }
    llm_disconnect(connection);
    return result;
}
