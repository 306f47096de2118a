/* The vocabularies of a connection's models: mapped and opened at first use, closed with the connection. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/attachment.h"
#include "client/text.h"
#include "shm/clock.h"
#include "shm/layout.h"

#define READY_TIMEOUT_NS (30 * LLM_NS_PER_S) /* as llm_connect() waits by default */
#define RETRY_NS         5000000L

struct opened_vocab {
    struct opened_vocab *next;
    char memory_name[LLM_NAME_BYTES];
    const void *image;
    size_t image_bytes;
    llm_vocab *vocab;
};

/* What libllm-text keeps with a connection. Entries are only added, so a found one stays good. */
struct vocab_list {
    struct llm_attachment attachment; /* first: the connection knows it by this */
    pthread_mutex_t lock;
    struct opened_vocab *first;
};

static void vocab_list_close(struct llm_attachment *attachment)
{
    struct vocab_list *list = (struct vocab_list *)attachment;
    while (list->first) {
        struct opened_vocab *entry = list->first;
        list->first = entry->next;
        llm_vocab_close(entry->vocab);
        llm_memory_unmap(entry->image, entry->image_bytes);
        free(entry);
    }
    pthread_mutex_destroy(&list->lock);
    free(list);
}

/* NULL: no memory. */
static struct vocab_list *list_of(llm_connection *connection)
{
    struct vocab_list *list = (struct vocab_list *)llm_connection_attachment(connection);
    if (list)
        return list;
    list = calloc(1, sizeof *list);
    if (!list)
        return NULL;
    list->attachment.close = vocab_list_close;
    pthread_mutex_init(&list->lock, NULL);
    if (llm_connection_attach(connection, &list->attachment))
        return list;
    vocab_list_close(&list->attachment); /* another thread was faster */
    return (struct vocab_list *)llm_connection_attachment(connection);
}

static bool engine_ready(llm_connection *connection)
{
    llm_connection_info info;
    return llm_connection_describe(connection, &info, NULL) != LLM_OK || info.engine_ready;
}

/* Map it. A daemon that has only just started listens before its engine has loaded the model: so "not found"
 * counts only once the engine was ready before we asked. */
static enum llm_status map_when_ready(llm_connection *connection, const char *memory_name,
                                      const void **out_image, size_t *out_bytes, llm_error *error)
{
    uint64_t deadline_ns = llm_deadline_ns(READY_TIMEOUT_NS);
    for (;;) {
        bool final = engine_ready(connection) || llm_remaining_ns(deadline_ns) == 0;
        enum llm_status status =
            llm_memory_map(connection, memory_name, out_image, out_bytes, error);
        if (status != LLM_ERR_NOT_FOUND || final)
            return status;
        nanosleep(&(struct timespec){.tv_nsec = RETRY_NS}, NULL);
    }
}

static enum llm_status open_entry(llm_connection *connection, const char *memory_name,
                                  struct opened_vocab **out_entry, llm_error *error)
{
    struct opened_vocab *entry = calloc(1, sizeof *entry);
    if (!entry)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the vocabulary");
    snprintf(entry->memory_name, sizeof entry->memory_name, "%s", memory_name);
    enum llm_status status =
        map_when_ready(connection, memory_name, &entry->image, &entry->image_bytes, error);
    if (status == LLM_OK) {
        status = llm_vocab_open(entry->image, entry->image_bytes, &entry->vocab, error);
        if (status != LLM_OK)
            llm_memory_unmap(entry->image, entry->image_bytes);
    }
    if (status == LLM_OK)
        *out_entry = entry;
    else
        free(entry);
    return status;
}

static enum llm_status find_or_open(llm_connection *connection, struct vocab_list *list,
                                    const char *memory_name, const llm_vocab **out_vocab,
                                    llm_error *error)
{
    struct opened_vocab *entry = list->first;
    while (entry && strcmp(entry->memory_name, memory_name) != 0)
        entry = entry->next;
    if (!entry) {
        enum llm_status status = open_entry(connection, memory_name, &entry, error);
        if (status != LLM_OK)
            return status;
        entry->next = list->first;
        list->first = entry;
    }
    *out_vocab = entry->vocab;
    return LLM_OK;
}

enum llm_status llm_connection_vocab(llm_connection *connection, const char *model,
                                     const llm_vocab **out_vocab, llm_error *error)
{
    char memory_name[LLM_NAME_BYTES];
    int wanted = model && *model ? snprintf(memory_name, sizeof memory_name, "vocab/%s", model)
                                 : snprintf(memory_name, sizeof memory_name, "vocab");
    if (wanted < 0 || (size_t)wanted >= sizeof memory_name)
        return llm_fail(error, LLM_ERR_INVALID, "a model's name has at most %zu bytes, not %zu",
                        sizeof memory_name - sizeof "vocab/", strlen(model));
    struct vocab_list *list = list_of(connection);
    if (!list)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the connection's vocabularies");
    pthread_mutex_lock(&list->lock);
    enum llm_status status = find_or_open(connection, list, memory_name, out_vocab, error);
    pthread_mutex_unlock(&list->lock);
    return status;
}
