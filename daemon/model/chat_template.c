#include "daemon/model/chat_template.h"

#include <string.h>

/* The template that has this name, or NULL. */
static const json_t *named(const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *entry_name = json_string_value(json_object_get(entry, "name"));
        if (entry_name && strcmp(entry_name, name) == 0)
            return json_object_get(entry, "template");
    }
    return NULL;
}

static enum llm_status from_config(const json_t *tokenizer_config, const char **out_text,
                                   size_t *out_bytes, struct llm_error *error)
{
    const json_t *value = json_object_get(tokenizer_config, "chat_template");
    if (!value || json_is_null(value))
        return LLM_OK;
    if (json_is_array(value))
        value = named(value, "default");
    if (!json_is_string(value))
        return llm_fail(error, LLM_ERR_INVALID,
                        "tokenizer_config.json: \"chat_template\" must be a string, or a list in "
                        "which one has the name \"default\" and a string \"template\"");
    *out_text = json_string_value(value);
    *out_bytes = json_string_length(value);
    return LLM_OK;
}

enum llm_status chat_template_choose(const char *text, size_t text_bytes,
                                     const json_t *tokenizer_config, const char **out_text,
                                     size_t *out_bytes, struct llm_error *error)
{
    const char *chosen = text;
    size_t chosen_bytes = text ? text_bytes : 0;
    enum llm_status status = LLM_OK;
    if (!text)
        status = from_config(tokenizer_config, &chosen, &chosen_bytes, error);
    if (status == LLM_OK && chosen_bytes > CHAT_TEMPLATE_BYTES_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "the chat template has %zu bytes, at most %zu",
                        chosen_bytes, CHAT_TEMPLATE_BYTES_MAX);
    if (status == LLM_OK) {
        *out_text = chosen;
        *out_bytes = chosen_bytes;
    }
    return status;
}
