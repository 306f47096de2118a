#include "daemon/keeper/memories.h"

#include <string.h>
#include <unistd.h>

#include "shm/segment.h"

void memories_init(struct memories *memories)
{
    memset(memories, 0, sizeof *memories);
    for (int i = 0; i < MEMORIES_MAX; i++)
        memories->items[i].fd = -1;
}

void memories_close(struct memories *memories)
{
    for (int i = 0; i < MEMORIES_MAX; i++)
        if (memories->items[i].fd >= 0)
            close(memories->items[i].fd);
    memories_init(memories);
}

bool memories_name_ok(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";
    size_t bytes = strlen(name);
    return bytes >= 1 && bytes < LLM_NAME_BYTES && strspn(name, allowed) == bytes;
}

struct memory *memories_find(struct memories *memories, const char *name)
{
    for (int i = 0; i < MEMORIES_MAX; i++)
        if (memories->items[i].name[0] != '\0' && strcmp(memories->items[i].name, name) == 0)
            return &memories->items[i];
    return NULL;
}

static struct memory *find_free(struct memories *memories)
{
    for (int i = 0; i < MEMORIES_MAX; i++)
        if (memories->items[i].name[0] == '\0')
            return &memories->items[i];
    return NULL;
}

enum llm_status memories_keep(struct memories *memories, const char *name, int fd, uint64_t bytes,
                              struct memory **out_memory, struct llm_error *error)
{
    if (!memories_name_ok(name))
        return llm_fail(error, LLM_ERR_INVALID, "\"%s\" is not a name for a memory", name);
    if (memories_find(memories, name))
        return llm_fail(error, LLM_ERR_INVALID, "memory \"%s\" exists", name);
    struct memory *memory = find_free(memories);
    if (!memory)
        return llm_fail(error, LLM_ERR_LIMIT, "all %d memories are in use", MEMORIES_MAX);
    *memory = (struct memory){.fd = fd, .bytes = bytes};
    memcpy(memory->name, name, strlen(name) + 1);
    *out_memory = memory;
    return LLM_OK;
}

enum llm_status memories_alloc(struct memories *memories, const char *name, uint64_t bytes,
                               struct memory **out_memory, struct llm_error *error)
{
    if (bytes == 0 || bytes > MEMORIES_BYTES_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "memory \"%s\" of %llu bytes: 1..2^46 are allowed",
                        name, (unsigned long long)bytes);
    int fd;
    enum llm_status status = llm_segment_create_draft(name, bytes, &fd, error);
    if (status != LLM_OK)
        return status;
    status = memories_keep(memories, name, fd, bytes, out_memory, error);
    if (status != LLM_OK)
        close(fd);
    return status;
}

static enum llm_status find(struct memories *memories, const char *name, struct memory **out_memory,
                            struct llm_error *error)
{
    *out_memory = memories_find(memories, name);
    return *out_memory ? LLM_OK
                       : llm_fail(error, LLM_ERR_NOT_FOUND, "there is no memory \"%s\"", name);
}

enum llm_status memories_publish(struct memories *memories, const char *name,
                                 struct llm_error *error)
{
    struct memory *memory;
    enum llm_status status = find(memories, name, &memory, error);
    if (status == LLM_OK)
        status = llm_segment_publish(memory->fd, error);
    if (status == LLM_OK)
        memory->flags |= CHANNEL_MEMORY_PUBLIC;
    return status;
}

enum llm_status memories_drop(struct memories *memories, const char *name, struct llm_error *error)
{
    struct memory *memory;
    enum llm_status status = find(memories, name, &memory, error);
    if (status != LLM_OK)
        return status;
    close(memory->fd);
    *memory = (struct memory){.fd = -1};
    return LLM_OK;
}
