#include "daemon/model/model_memory.h"

#include <errno.h>
#include <sys/mman.h>

enum llm_status model_memory_changed(struct llm_error *error)
{
    return llm_fail(error, LLM_ERR_CORRUPT,
                    "the model's files were changed in place after it was loaded: load it again");
}

static enum llm_status pages_take(void *self, const char *name, size_t bytes, void **out_address,
                                  bool *out_kept, struct llm_error *error)
{
    struct model_pages *pages = self;
    if (pages->piece_count == MODEL_PAGES_PIECES_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "no room to note memory \"%s\": %d pieces are taken",
                        name, MODEL_PAGES_PIECES_MAX);
    void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "no memory for \"%s\" (%zu MiB)", name,
                              bytes >> 20);
    pages->addresses[pages->piece_count] = address;
    pages->bytes[pages->piece_count] = bytes;
    pages->piece_count++;
    *out_address = address;
    *out_kept = false;
    return LLM_OK;
}

struct model_memory model_memory_from_pages(struct model_pages *pages)
{
    return (struct model_memory){.take = pages_take, .self = pages};
}

void model_pages_close(struct model_pages *pages)
{
    while (pages->piece_count > 0) {
        pages->piece_count--;
        munmap(pages->addresses[pages->piece_count], pages->bytes[pages->piece_count]);
    }
}
