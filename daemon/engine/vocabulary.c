#include "daemon/engine/vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/model/chat_template.h"
#include "daemon/model/gguf.h"
#include "daemon/model/json_file.h"
#include "daemon/model/spm_file.h"
#include "daemon/model/vocab_builder.h"

/* ---- Building -------------------------------------------------------------------------------------- */

/* A file that is not there leaves NULL. */
static enum llm_status read_json(const struct model_files *files, const char *name,
                                 json_t **out_root, struct llm_error *error)
{
    int fd;
    enum llm_status status = files->open(files->self, name, &fd, error);
    if (status == LLM_ERR_NOT_FOUND)
        return LLM_OK;
    if (status != LLM_OK)
        return status;
    status = json_file_read(fd, name, VOCAB_JSON_BYTES_MAX, out_root, error);
    close(fd);
    return status;
}

/* All of a file that is small (tokenizer.model, chat_template.jinja); one that is not there leaves NULL. */
static enum llm_status read_whole(const struct model_files *files, const char *name,
                                  size_t bytes_max, void **out_bytes, size_t *out_count,
                                  struct llm_error *error)
{
    int fd;
    enum llm_status status = files->open(files->self, name, &fd, error);
    if (status == LLM_ERR_NOT_FOUND)
        return LLM_OK;
    struct model_file_stat stat = {.bytes = 0};
    if (status == LLM_OK)
        status = model_file_stat(fd, name, &stat, error);
    else
        return status;
    void *bytes = NULL;
    if (status == LLM_OK && stat.bytes > bytes_max)
        status = llm_fail(error, LLM_ERR_LIMIT, "%s: %llu bytes, at most %zu", name,
                          (unsigned long long)stat.bytes, bytes_max);
    if (status == LLM_OK && !(bytes = malloc((size_t)stat.bytes + 1)))
        status = llm_fail(error, LLM_ERR_MEMORY, "%s: no memory for %llu bytes", name,
                          (unsigned long long)stat.bytes);
    if (status == LLM_OK)
        status = model_file_read(fd, name, 0, bytes, (size_t)stat.bytes, error);
    close(fd);
    if (status != LLM_OK) {
        free(bytes);
        return status;
    }
    *out_bytes = bytes;
    *out_count = (size_t)stat.bytes;
    return LLM_OK;
}

static struct vocab_facts facts_for_builder(const struct model_facts *facts, const char *name)
{
    const struct model_config *config = &facts->config;
    struct vocab_facts out = {
        .name = name,
        .token_count = config->vocab_size,
        .context_max_tokens = config->context_max_tokens,
        .bos_id = config->bos_token_id < 0 ? LLM_TOKEN_NONE : (uint32_t)config->bos_token_id,
        .eos_count = config->eos_token_count,
    };
    static_assert(sizeof out.fingerprint == sizeof facts->fingerprint, "one fingerprint");
    memcpy(out.fingerprint, facts->fingerprint, sizeof out.fingerprint);
    for (uint32_t i = 0; i < config->eos_token_count; i++)
        out.eos_ids[i] = (uint32_t)config->eos_token_ids[i];
    return out;
}

/* What a model's files say about text; NULL or closed where they do not. */
struct text_files {
    json_t *tokenizer, *tokenizer_config;
    void *spm;
    size_t spm_bytes;
    void *chat_template; /* [chat_template_bytes] of chat_template.jinja, or NULL */
    size_t chat_template_bytes;
    struct gguf gguf;
    bool is_gguf;
};

static enum llm_status text_files_open(struct text_files *text, const struct model_files *files,
                                       struct llm_error *error)
{
    const char *gguf_name = NULL;
    *text = (struct text_files){.tokenizer = NULL};
    enum llm_status status = model_format_find(files, &gguf_name, error);
    if (status != LLM_OK)
        return status;
    text->is_gguf = gguf_name != NULL;
    if (text->is_gguf)
        return gguf_open(&text->gguf, files, gguf_name, error);
    status = read_json(files, "tokenizer.json", &text->tokenizer, error);
    if (status == LLM_OK && !text->tokenizer)
        status = read_whole(files, "tokenizer.model", SPM_FILE_BYTES_MAX, &text->spm,
                            &text->spm_bytes, error);
    if (status == LLM_OK)
        status = read_json(files, "tokenizer_config.json", &text->tokenizer_config, error);
    if (status == LLM_OK)
        status = read_whole(files, "chat_template.jinja", CHAT_TEMPLATE_BYTES_MAX,
                            &text->chat_template, &text->chat_template_bytes, error);
    return status;
}

static void text_files_close(struct text_files *text)
{
    free(text->spm);
    free(text->chat_template);
    gguf_close(&text->gguf);
    json_decref(text->tokenizer);
    json_decref(text->tokenizer_config);
}

static enum llm_status build(const struct model_files *files, const struct model_facts *facts,
                             const char *name, void **out_image, size_t *out_bytes,
                             struct llm_error *error)
{
    struct text_files text;
    enum llm_status status = text_files_open(&text, files, error);
    if (status == LLM_OK) {
        struct vocab_source source = {.tokenizer = text.tokenizer,
                                      .spm = text.spm,
                                      .spm_bytes = text.spm_bytes,
                                      .gguf = text.is_gguf ? &text.gguf : NULL,
                                      .tokenizer_config = text.tokenizer_config,
                                      .chat_template = text.chat_template,
                                      .chat_template_bytes = text.chat_template_bytes,
                                      .facts = facts_for_builder(facts, name)};
        status = vocab_build(&source, out_image, out_bytes, error);
        if (status == LLM_ERR_UNSUPPORTED) {
            log_event(LOG_LEVEL_WARN, "model is served by token ids only", log_text("name", name),
                      log_text("reason", error->message));
            source.tokenizer = NULL;
            source.spm = NULL;
            source.gguf = NULL;
            status = vocab_build(&source, out_image, out_bytes, error);
        }
    }
    text_files_close(&text);
    return status;
}

/* ---- Depositing ------------------------------------------------------------------------------------ */

static enum llm_status view_kept(const struct kept *kept, const char *name,
                                 struct llm_vocab_view *out_view, struct llm_error *error)
{
    void *image;
    enum llm_status status = kept_map(kept, name, &image, error);
    if (status != LLM_OK)
        return status;
    return llm_vocab_image_check(image, kept_find(kept, name)->bytes, out_view, error);
}

static bool is_current(const struct kept *kept, const char *name, const struct model_facts *facts)
{
    struct llm_vocab_view view;
    const struct kept_memory *memory = kept_find(kept, name);
    return memory && (memory->flags & CHANNEL_MEMORY_PUBLIC) &&
           view_kept(kept, name, &view, NULL) == LLM_OK &&
           memcmp(view.header->fingerprint, facts->fingerprint, sizeof facts->fingerprint) == 0;
}

enum llm_status vocabulary_open(struct llm_vocab_view *out_view, struct kept *kept,
                                const struct model_files *files, const struct model_facts *facts,
                                const char *model_name, uint64_t model_id, struct llm_error *error)
{
    char name[CHANNEL_NAME_BYTES];
    snprintf(name, sizeof name, "vocab/%llu", (unsigned long long)model_id);
    if (is_current(kept, name, facts))
        return view_kept(kept, name, out_view, error);
    void *image = NULL;
    size_t bytes = 0;
    enum llm_status status = build(files, facts, model_name, &image, &bytes, error);
    if (status == LLM_OK)
        status = kept_publish(kept, name, image, bytes, error);
    free(image);
    return status == LLM_OK ? view_kept(kept, name, out_view, error) : status;
}
