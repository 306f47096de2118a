#include "daemon/engine/kept.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/check.h"
#include "shm/crash_point.h"
#include "shm/feature.h"

void kept_add(struct kept *kept, const char *name, int fd, uint64_t bytes, uint32_t flags)
{
    CHECK(kept->count < KEPT_MAX);
    struct kept_memory *memory = &kept->items[kept->count++];
    *memory = (struct kept_memory){.fd = fd, .bytes = bytes, .flags = flags};
    snprintf(memory->name, sizeof memory->name, "%s", name);
}

const struct kept_memory *kept_find(const struct kept *kept, const char *name)
{
    for (uint32_t i = 0; i < kept->count; i++)
        if (strcmp(kept->items[i].name, name) == 0)
            return &kept->items[i];
    return NULL;
}

static enum llm_status map(const struct kept_memory *memory, void **out_address,
                           struct llm_error *error)
{
    /* A public one is sealed against writing: before Linux 6.7 it can then only be mapped privately. */
    bool published = (memory->flags & CHANNEL_MEMORY_PUBLIC) != 0;
    int protection = published ? PROT_READ : PROT_READ | PROT_WRITE;
    void *address =
        mmap(NULL, memory->bytes, protection, published ? MAP_PRIVATE : MAP_SHARED, memory->fd, 0);
    if (address == MAP_FAILED)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno,
                              "cannot map memory \"%s\" of %llu bytes", memory->name,
                              (unsigned long long)memory->bytes);
    *out_address = address;
    return LLM_OK;
}

enum llm_status kept_map(const struct kept *kept, const char *name, void **out_address,
                         struct llm_error *error)
{
    const struct kept_memory *memory = kept_find(kept, name);
    return memory ? map(memory, out_address, error)
                  : llm_fail(error, LLM_ERR_NOT_FOUND, "the keeper holds no memory \"%s\"", name);
}

enum llm_status kept_drop(struct kept *kept, const char *name, struct llm_error *error)
{
    struct channel_message question = {.kind = CHANNEL_DROP};
    snprintf(question.name, sizeof question.name, "%s", name);
    enum llm_status status = link_ask(kept->link, &question, NULL, error);
    CRASH_POINT(memory_dropped);
    const struct kept_memory *memory = kept_find(kept, name);
    if (status != LLM_OK || !memory)
        return status;
    close(memory->fd);
    size_t index = (size_t)(memory - kept->items);
    kept->items[index] = kept->items[--kept->count];
    return LLM_OK;
}

static enum llm_status make(struct kept *kept, const char *name, uint64_t bytes,
                            struct llm_error *error)
{
    struct channel_message question = {.kind = CHANNEL_ALLOC, .bytes = bytes};
    snprintf(question.name, sizeof question.name, "%s", name);
    int fd;
    enum llm_status status = link_ask(kept->link, &question, &fd, error);
    if (status == LLM_OK)
        kept_add(kept, name, fd, bytes, 0);
    CRASH_POINT(memory_made);
    return status;
}

enum llm_status kept_take(struct kept *kept, const char *name, uint64_t bytes, void **out_address,
                          bool *out_kept, struct llm_error *error)
{
    const struct kept_memory *memory = kept_find(kept, name);
    bool keep = memory && memory->bytes == bytes;
    enum llm_status status = LLM_OK;
    if (memory && !keep)
        status = kept_drop(kept, name, error);
    if (status == LLM_OK && !keep)
        status = make(kept, name, bytes, error);
    if (status == LLM_OK)
        status = kept_map(kept, name, out_address, error);
    if (status == LLM_OK)
        *out_kept = keep;
    return status;
}

void kept_advise_huge(void *address, uint64_t bytes)
{
    if (!llm_feature_disabled("huge_pages"))
        madvise(address, bytes, MADV_HUGEPAGE); /* advice: refused, it costs nothing */
}

static enum llm_status fill(struct kept *kept, const char *name, const void *content,
                            uint64_t bytes, struct llm_error *error)
{
    void *address;
    bool was_kept;
    enum llm_status status = kept_take(kept, name, bytes, &address, &was_kept, error);
    if (status != LLM_OK)
        return status;
    memcpy(address, content, bytes);
    munmap(address, bytes); /* sealing against writing needs that */
    CRASH_POINT(memory_filled);
    return LLM_OK;
}

enum llm_status kept_publish(struct kept *kept, const char *name, const void *content,
                             uint64_t bytes, struct llm_error *error)
{
    enum llm_status status = kept_find(kept, name) ? kept_drop(kept, name, error) : LLM_OK;
    if (status == LLM_OK)
        status = fill(kept, name, content, bytes, error);
    if (status != LLM_OK)
        return status;
    struct channel_message question = {.kind = CHANNEL_DEPOSIT, .flags = CHANNEL_MEMORY_PUBLIC};
    snprintf(question.name, sizeof question.name, "%s", name);
    status = link_ask(kept->link, &question, NULL, error);
    CRASH_POINT(memory_public);
    if (status == LLM_OK)
        kept->items[kept->count - 1].flags |= CHANNEL_MEMORY_PUBLIC; /* the newest */
    return status;
}
