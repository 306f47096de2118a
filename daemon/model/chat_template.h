/*
 * chat_template.h - which of a model's files says how its chats are written.
 *
 * Idea     chat_template.jinja where it is there; else "chat_template" of tokenizer_config.json, which is the text itself
 *          or a list of {"name", "template"}, of which "default" counts; else, for a GGUF file, the string under
 *          tokenizer.chat_template, which whoever opened it passes as it would the file's text. The daemon never runs a
 *          template: its text goes into the vocab image, and clients do.
 * Trust    Any bytes; only the length is looked at. A wrong type ends with a sentence that names the key.
 * See      https://huggingface.co/docs/transformers/chat_templating_writing, client/text.h ("Chat templates")
 */
#ifndef LLM_DAEMON_MODEL_CHAT_TEMPLATE_H
#define LLM_DAEMON_MODEL_CHAT_TEMPLATE_H

#include <jansson.h>
#include <stddef.h>

#include "shm/status.h"

#define CHAT_TEMPLATE_BYTES_MAX ((size_t)4 << 20)

/*
 * Choose the template's text.
 *
 *   text              [text_bytes] of chat_template.jinja or of a GGUF key; NULL: there is none
 *   tokenizer_config  tokenizer_config.json's root, or NULL
 *   out_text          [*out_bytes], borrowed from one of the two; NULL: the model has no template
 *   returns           LLM_OK
 *                     LLM_ERR_INVALID  "chat_template" is neither a string nor a list of named strings
 *                     LLM_ERR_LIMIT    longer than CHAT_TEMPLATE_BYTES_MAX
 */
LLM_MUST_CHECK enum llm_status chat_template_choose(const char *text, size_t text_bytes,
                                                    const json_t *tokenizer_config,
                                                    const char **out_text, size_t *out_bytes,
                                                    struct llm_error *error);

#endif
