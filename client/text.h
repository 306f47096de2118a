/*
 * text.h - text on top of libllm: a model's vocabulary, text to tokens, tokens to text.
 *
 * Idea     The daemon knows token ids only. Its models' vocabularies are read-only images in shared memory;
 *          this library maps one and does all work with text in the calling process, so that a daemon
 *          serves tokens and nobody's text can hurt it.
 * Owner    An llm_vocab belongs to whoever opened it. A decoder is a plain struct that needs no closing.
 * Threads  An llm_vocab never changes after llm_vocab_open(): any number of threads may use it at once. A
 *          decoder belongs to one thread at a time.
 * Trust    Any bytes are accepted as text and any number as a token id; errors are one sentence. Special
 *          tokens such as <|im_end|> in a text are plain characters unless the caller allows them.
 * See      client/text/README.md, `llmctl generate`.
 */
#ifndef LLM_TEXT_H
#define LLM_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/llm.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef LLM_TOKEN_NONE
#define LLM_TOKEN_NONE UINT32_MAX /* "no such token"; never a valid id */
#endif

/* ---- Vocabulary ----------------------------------------------------------------------------------- */

typedef struct llm_vocab llm_vocab;

#define LLM_VOCAB_EOS_IDS_MAX 16

typedef struct llm_vocab_info {
    const char *name;            /* the model's; valid until llm_vocab_close() */
    const uint8_t *fingerprint;  /* [32] of weights and configuration */
    uint32_t token_count;        /* ids are 0..token_count - 1 */
    uint32_t context_max_tokens; /* prompt and answer together */
    uint32_t bos_id;             /* begin of text, or LLM_TOKEN_NONE */
    uint32_t eos_ids[LLM_VOCAB_EOS_IDS_MAX];
    uint32_t eos_count;       /* several tokens can end a text */
    uint32_t token_bytes_max; /* the longest token's text */
    bool has_text; /* false: the model came without a tokeniser that we can run exactly */
} llm_vocab_info;

/*
 * Open a vocabulary image.
 *
 *   image      [image_bytes], 8-byte aligned; stays mapped and unchanged until llm_vocab_close()
 *   out_vocab  close it with llm_vocab_close()
 *   returns    LLM_OK
 *              LLM_ERR_INVALID  `image` is NULL or not aligned
 *              LLM_ERR_VERSION  written by another version; update the older of the two sides
 *              LLM_ERR_CORRUPT  not a vocabulary image, or a damaged one; the model has to be loaded again
 *              LLM_ERR_MEMORY   no memory for the patterns
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_vocab_open(const void *image, size_t image_bytes,
                                                      llm_vocab **out_vocab, llm_error *error);
/* Accepts NULL. */
LLM_API void llm_vocab_close(llm_vocab *vocab);

LLM_API void llm_vocab_describe(const llm_vocab *vocab, llm_vocab_info *out_info);

/*
 * The bytes of one token: a piece of UTF-8 that may start or stop inside a character.
 *
 *   token     any number
 *   out_text  [*out_bytes], not terminated, valid until llm_vocab_close(); 0 bytes for ids without text
 *   returns   LLM_OK
 *             LLM_ERR_INVALID  `token` is not below token_count
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_token_text(const llm_vocab *vocab, uint32_t token,
                                                      const char **out_text, size_t *out_bytes,
                                                      llm_error *error);

/* The added token (special ones among them) with exactly this text, or LLM_TOKEN_NONE. */
LLM_API uint32_t llm_token_find(const llm_vocab *vocab, const char *text, size_t text_bytes);

/* Whether a token is control rather than text. False for ids outside the vocabulary. */
LLM_API bool llm_token_is_special(const llm_vocab *vocab, uint32_t token);
/* Whether a token ends the model's text. */
LLM_API bool llm_token_is_eos(const llm_vocab *vocab, uint32_t token);

/* ---- Text to tokens ------------------------------------------------------------------------------- */

enum llm_encode_flags {
    /* Put the model's usual ids around the text (often a begin-of-text id before it): for a whole prompt,
     * not for a piece that continues one. */
    LLM_ENCODE_AFFIXES = 1u << 0,
    /* Special tokens written in the text become those tokens: for text from a chat template, never for what
     * a user typed. */
    LLM_ENCODE_SPECIAL = 1u << 1,
};

#define LLM_ENCODE_BYTES_MAX ((size_t)64 << 20)

/*
 * Turn text into tokens.
 *
 * Valid UTF-8 gives the ids of the model's reference tokeniser. Bytes that are not UTF-8 are kept: each run of
 * them is a piece of its own, encoded byte by byte, and the text around it as if it stood alone.
 *
 *   text             [text_bytes], 0..LLM_ENCODE_BYTES_MAX; zero bytes are text too
 *   flags            enum llm_encode_flags
 *   out_tokens       [capacity_tokens]; NULL with capacity 0 only counts
 *   out_count        tokens of the text
 *   returns          LLM_OK
 *                    LLM_ERR_LIMIT        the text is too long, or has more tokens than the buffer holds
 *                                         (the sentence says how many), or a pattern gave up on it
 *                    LLM_ERR_INVALID      an unknown flag, or a byte for which the vocabulary has no token
 *                    LLM_ERR_UNSUPPORTED  the model has no tokeniser; submit ids instead
 *                    LLM_ERR_MEMORY       no memory to work in
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_encode(const llm_vocab *vocab, const char *text,
                                                  size_t text_bytes, uint32_t flags,
                                                  uint32_t *out_tokens, size_t capacity_tokens,
                                                  size_t *out_count, llm_error *error);

/* ---- Tokens to text ------------------------------------------------------------------------------- */

enum llm_decode_flags {
    /* The exact bytes of the tokens, at any boundary. Without it: whole UTF-8 characters only; a character
     * that is not complete yet is held back, and bytes that can never become one are given as U+FFFD, one
     * for each maximal broken sequence (Unicode 15, section 3.9). */
    LLM_DECODE_BYTES = 1u << 0,
    /* Special tokens appear as their text. Without it they are silent. */
    LLM_DECODE_SPECIAL = 1u << 1,
    /* The tokens continue a text, so that a leading space is part of it. Without it the tokens are a whole
     * text, and the space that a SentencePiece vocabulary puts before every text is dropped. */
    LLM_DECODE_CONTINUE = 1u << 2,
};

/* The state of one text that is being put together. Fields are private. */
typedef struct llm_decoder {
    const llm_vocab *vocab;
    uint32_t flags;
    uint32_t token_offset; /* bytes of the current token that have been given already */
    uint8_t held[4];       /* the start of a character */
    uint8_t held_bytes;
    bool drop_space; /* nothing has been given yet, and one space is to go */
} llm_decoder;

/* Begin a text. `flags`: enum llm_decode_flags. The vocabulary must outlive the decoder. */
LLM_API void llm_decoder_init(llm_decoder *decoder, const llm_vocab *vocab, uint32_t flags);

#define LLM_DECODE_CAPACITY_MIN 4 /* bytes: the longest character */

/*
 * Give the text of more tokens, as much as the buffer holds.
 *
 * When *out_used < token_count the buffer is full: call again with the tokens from tokens[*out_used] on. The
 * decoder remembers how far it is inside that token, so any buffer size gives the same text.
 *
 *   tokens           [token_count]; any numbers
 *   out_text         [capacity_bytes], at least LLM_DECODE_CAPACITY_MIN; not terminated
 *   out_used         tokens that are done with
 *   out_bytes        bytes written; may be 0 although tokens were used
 *   returns          LLM_OK
 *                    LLM_ERR_INVALID  a token is not below token_count; the text before it has been written,
 *                                     and *out_used and *out_bytes say how much
 *                    LLM_ERR_LIMIT    the buffer is smaller than LLM_DECODE_CAPACITY_MIN; nothing was done
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_decode(llm_decoder *decoder, const uint32_t *tokens,
                                                  size_t token_count, char *out_text,
                                                  size_t capacity_bytes, size_t *out_used,
                                                  size_t *out_bytes, llm_error *error);

/* End the text: an unfinished character becomes one U+FFFD. Returns the bytes written, 0 or 3; the decoder is
 * then as after llm_decoder_init(). */
LLM_API size_t llm_decode_end(llm_decoder *decoder, char out_text[LLM_DECODE_CAPACITY_MIN]);

/*
 * Decode a whole text at once.
 *
 *   flags            enum llm_decode_flags
 *   out_text         [capacity_bytes], not terminated; NULL with capacity 0 only counts
 *   out_bytes        bytes of the text
 *   returns          LLM_OK
 *                    LLM_ERR_INVALID  a token is not below token_count
 *                    LLM_ERR_LIMIT    the text is longer than the buffer; the sentence says how long
 */
LLM_API LLM_MUST_CHECK enum llm_status
llm_decode_whole(const llm_vocab *vocab, const uint32_t *tokens, size_t token_count, uint32_t flags,
                 char *out_text, size_t capacity_bytes, size_t *out_bytes, llm_error *error);

/* ---- Chat templates ------------------------------------------------------------------------------- */

typedef struct llm_template llm_template;

/*
 * Read a chat template: the Jinja text of chat_template.jinja, of tokenizer_config.json's "chat_template" or of a GGUF
 * file's tokenizer.chat_template. Templates are untrusted: what one may compute is bounded.
 *
 *   text          [text_bytes], UTF-8, at most 4 MiB; not needed afterwards
 *   out_template  close it with llm_template_close(); constant, so any number of threads may render it
 *   returns       LLM_OK
 *                 LLM_ERR_INVALID  not a template; the sentence has line and column
 *                 LLM_ERR_LIMIT    too long, or nested too deeply
 *                 LLM_ERR_MEMORY   no memory
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_template_open(const char *text, size_t text_bytes,
                                                         llm_template **out_template,
                                                         llm_error *error);
/* The template that came with a model; its bos_token and eos_token are the vocabulary's. LLM_ERR_NOT_FOUND: the model has
 * none (llm_template_open() takes one from elsewhere); otherwise as llm_template_open(). */
LLM_API LLM_MUST_CHECK enum llm_status
llm_template_open_vocab(const llm_vocab *vocab, llm_template **out_template, llm_error *error);
/* Accepts NULL. */
LLM_API void llm_template_close(llm_template *chat_template);

enum llm_render_flags {
    /* End with what opens the assistant's answer. */
    LLM_RENDER_GENERATION_PROMPT = 1u << 0,
    /* The last message is not finished: end with its text, without what closes a message. Not with the other. */
    LLM_RENDER_CONTINUE_FINAL = 1u << 1,
};

typedef struct llm_render_options {
    uint32_t flags;    /* enum llm_render_flags */
    uint32_t reserved; /* 0 */
    int64_t
        now_s; /* what strftime_now() shows: seconds since 1970, shown as UTC; 0: the clock, local time */
    const char *tools; /* JSON list of tools' descriptions; NULL: none */
    const char
        *variables; /* JSON object of more variables ({"enable_thinking": false}); NULL: none */
    const char
        *bos_token; /* NULL: the vocabulary's, where the template came from one; else empty */
    const char *eos_token;
} llm_render_options;

/*
 * Write a conversation as its model was trained to read it.
 *
 *   messages         JSON list of objects: {"role": "user", "content": "..."}, and whatever else the template knows
 *                    ("tool_calls", content as a list of parts, ...); terminated, UTF-8
 *   options          NULL: none of them
 *   out_text         [*out_bytes], terminated; llm_text_free() it
 *   returns          LLM_OK
 *                    LLM_ERR_INVALID  the JSON is wrong, or the template raises or fails: the sentence has line and column
 *                    LLM_ERR_LIMIT    the template does too much, or writes more than 64 MiB
 *                    LLM_ERR_MEMORY   no memory
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_template_render(const llm_template *chat_template,
                                                           const char *messages,
                                                           const llm_render_options *options,
                                                           char **out_text, size_t *out_bytes,
                                                           llm_error *error);

/*
 * The same as tokens. Special tokens are what the template wrote; text in `messages` and `options->tools` that looks like
 * one stays plain text, so that nobody's content can end its turn. (`options->variables` is the program's own and may
 * name special tokens.)
 *
 *   vocab            the model's
 *   out_tokens       [*out_count]; llm_text_free() it
 *   returns          what llm_template_render() and llm_encode() return
 */
LLM_API LLM_MUST_CHECK enum llm_status
llm_template_encode(const llm_template *chat_template, const llm_vocab *vocab, const char *messages,
                    const llm_render_options *options, uint32_t **out_tokens, size_t *out_count,
                    llm_error *error);

/* Give back what llm_template_render() and llm_template_encode() made. Accepts NULL. */
LLM_API void llm_text_free(void *text);

/* ---- Answers as text ------------------------------------------------------------------------------ */

/*
 * The vocabulary of one of the daemon's models, mapped and opened at its first use.
 *
 *   model            NULL: the daemon's default model
 *   out_vocab        belongs to the connection: good until llm_disconnect()
 *   returns          LLM_OK
 *                    LLM_ERR_NOT_FOUND  the daemon has no such model: `llmctl status` names those it has
 *                    LLM_ERR_INVALID    the name is too long
 *                    and what llm_memory_map() and llm_vocab_open() return
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_connection_vocab(llm_connection *connection,
                                                            const char *model,
                                                            const llm_vocab **out_vocab,
                                                            llm_error *error);

/*
 * Submit a prompt as text; read the answer with llm_stream_read_text(), or its ids with llm_stream_read().
 *
 *   prompt           terminated; special tokens in it are plain text (llm_encode() and llm_submit() for others)
 *   sampling         NULL: greedy, 256 tokens
 *   out_stream       llm_stream_close() ends it
 *   returns          what llm_connection_vocab(), llm_encode() and llm_submit() return
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_generate_text(llm_connection *connection,
                                                         const char *prompt,
                                                         const llm_sampling *sampling,
                                                         llm_stream **out_stream, llm_error *error);

/*
 * Append text to a context (llm.h).
 *
 *   text             terminated; special tokens in it are plain text. An empty context gets the model's usual ids around
 *                    it (LLM_ENCODE_AFFIXES). Empty text appends nothing
 *   returns          what llm_connection_vocab(), llm_encode() and llm_context_append() return
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_append_text(llm_context *context,
                                                               const char *text, llm_error *error);

/*
 * Append text to a context and generate behind it, in one step; read the answer with llm_stream_read_text().
 *
 *   text             as above; NULL or empty: only generate
 *   sampling         NULL: greedy, 256 tokens
 *   returns          what llm_connection_vocab(), llm_encode() and llm_generate_after() return
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_context_ask_text(llm_context *context, const char *text,
                                                            const llm_sampling *sampling,
                                                            llm_stream **out_stream,
                                                            llm_error *error);

/* ---- Conversations -------------------------------------------------------------------------------- */

/*
 * A conversation: messages here, their tokens as a context in the daemon. Each turn is written by the model's chat template as
 * a whole and compared with what the context holds already; only what differs is sent and computed. One thread at a
 * time. Close it before its connection, and its streams before it.
 */
typedef struct llm_chat llm_chat;

/*
 * Begin one.
 *
 *   model            NULL: the daemon's default model
 *   template_text    [template_bytes] a chat template instead of the model's; NULL: the model's
 *   out_chat         llm_chat_close() ends it, and its context
 *   returns          LLM_OK
 *                    LLM_ERR_NOT_FOUND  the model has no chat template: give one
 *                    and what llm_connection_vocab(), llm_template_open() and llm_context_create() return
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_chat_open(llm_connection *connection, const char *model,
                                                     const char *template_text,
                                                     size_t template_bytes, llm_chat **out_chat,
                                                     llm_error *error);
/* Accepts NULL. */
LLM_API void llm_chat_close(llm_chat *chat);

/* Put a message behind the others: of the system, or of an earlier conversation. Any role that the template knows; both
 * texts terminated. LLM_ERR_INVALID: not UTF-8. LLM_ERR_MEMORY. LLM_ERR_BUSY: an answer is still running. */
LLM_API LLM_MUST_CHECK enum llm_status llm_chat_add(llm_chat *chat, const char *role,
                                                    const char *content, llm_error *error);

/*
 * Say something and have it answered. The answer becomes a message of its own when it is complete (also one that was
 * cancelled: as far as it came; a stop string that ended one is part of the message).
 *
 *   content          the user's words, terminated; NULL: answer what was added
 *   options          tools and variables of the template, as llm_template_render(); its flags are not used. NULL: none
 *   sampling         NULL: greedy, 256 tokens
 *   out_stream       read it with llm_stream_read_text(); llm_stream_close() ends it
 *   returns          LLM_OK
 *                    LLM_ERR_BUSY  the answer before is still running
 *                    and what llm_template_encode(), llm_context_rewind() and llm_generate_after() return; the user's
 *                    message is then not part of the conversation, nor when the engine refuses it with the stream
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_chat_ask(llm_chat *chat, const char *content,
                                                    const llm_render_options *options,
                                                    const llm_sampling *sampling,
                                                    llm_stream **out_stream, llm_error *error);

/* The messages so far, as the JSON list that llm_template_render() takes; a finished answer is one of them. Good until
 * the next call. */
LLM_API LLM_MUST_CHECK enum llm_status llm_chat_messages(llm_chat *chat, const char **out_json,
                                                         llm_error *error);
/* Its context: to look at, publish or fork. Belongs to the conversation. */
LLM_API llm_context *llm_chat_context(llm_chat *chat);

/* ---- Reading answers ------------------------------------------------------------------------------ */

/*
 * Copy out the text that has arrived, waiting for some if there is none: whole UTF-8 characters, without
 * end-of-text tokens and stop ids, and nothing of a stop string (an end that may become one is held back
 * until the next token decides). Any stream can be read so, whoever submitted it: the text begins with the first
 * token that was not read as an id.
 *
 *   stream           one thread at a time, either as text or as ids
 *   out_text         [capacity_bytes], at least LLM_DECODE_CAPACITY_MIN; not terminated
 *   timeout_ns       longest wait; 0 only looks; LLM_FOREVER
 *   out_bytes        bytes written; 0 with LLM_OK means the answer is complete
 *   returns          LLM_OK
 *                    LLM_ERR_TIMEOUT  nothing yet; the stream is still good
 *                    LLM_ERR_LIMIT    the buffer is smaller than LLM_DECODE_CAPACITY_MIN
 *                    LLM_ERR_MEMORY   no memory for the text
 *                    what llm_connection_vocab() returns, at the first call
 *                    any other        how the request failed, after the text it produced was read
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_stream_read_text(llm_stream *stream, char *out_text,
                                                            size_t capacity_bytes,
                                                            uint64_t timeout_ns, size_t *out_bytes,
                                                            llm_error *error);

/*
 * Ask and wait for the whole answer.
 *
 *   out_text         [capacity_bytes], terminated. On failure: what had arrived, if the prompt was submitted
 *   returns          LLM_OK
 *                    LLM_ERR_LIMIT  the answer is longer than the buffer; the request is cancelled
 *                    and what llm_generate_text() and llm_stream_read_text() return
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_complete(llm_connection *connection, const char *prompt,
                                                    const llm_sampling *sampling, char *out_text,
                                                    size_t capacity_bytes, llm_error *error);

#ifdef __cplusplus
}
#endif

#endif
