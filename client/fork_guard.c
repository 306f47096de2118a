#include "client/fork_guard.h"

#include <sys/mman.h>
#include <unistd.h>

#include "shm/feature.h"
#include "shm/layout.h"

static volatile unsigned char *open_page(void)
{
    if (llm_feature_disabled("wipeonfork"))
        return NULL;
    void *page =
        mmap(NULL, LLM_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, LLM_PAGE_BYTES, MADV_WIPEONFORK) < 0) {
        munmap(page, LLM_PAGE_BYTES);
        return NULL;
    }
    return page;
}

void llm_fork_guard_open(struct llm_fork_guard *guard)
{
    *guard = (struct llm_fork_guard){.page = open_page(), .pid = getpid()};
    if (guard->page)
        *guard->page = 1;
}

void llm_fork_guard_close(struct llm_fork_guard *guard)
{
    if (guard->page)
        munmap((void *)(uintptr_t)guard->page, LLM_PAGE_BYTES);
    guard->page = NULL;
}

bool llm_fork_guard_inherited(const struct llm_fork_guard *guard)
{
    return guard->page ? *guard->page == 0 : getpid() != guard->pid;
}
