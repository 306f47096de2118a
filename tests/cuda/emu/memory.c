/*
 * memory.c - device memory with guard pages, shared memory per block, and the checks of every access.
 */
#include "tests/cuda/emu/sanitize.h"
#include "tests/cuda/emu/state.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    PAGE_BYTES = 4096,
    POISON = 0xff
};

struct region {
    unsigned char *memory;
    size_t bytes;
    void *mapping; /* under ASan: the allocation */
    size_t mapping_bytes;
};

static struct region *regions; /* device memory, unordered: a test has few */
static size_t region_count, region_capacity;

void *emu_grow(void *items, size_t count, size_t *capacity, size_t item_bytes)
{
    if (count < *capacity)
        return items;
    *capacity = *capacity ? 2 * *capacity : 16;
    void *more = realloc(items, *capacity * item_bytes);
    if (!more)
        emu_die("no memory for %zu records of %zu bytes", *capacity, item_bytes);
    return more;
}

/* `bytes` that end at a guard page, or as near to it as `align` allows; under ASan exactly at a red zone. */
static struct region region_open(size_t bytes, size_t align)
{
    struct region r = {.bytes = bytes};
    if (emu_has_asan()) {
        if (posix_memalign(&r.mapping, align, bytes ? bytes : 1) != 0)
            emu_die("no memory for %zu bytes", bytes);
        r.memory = r.mapping;
    } else {
        size_t rounded = (bytes + align - 1) / align * align;
        size_t pages = (rounded + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
        r.mapping_bytes = pages + PAGE_BYTES;
        r.mapping = mmap(NULL, r.mapping_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (r.mapping == MAP_FAILED ||
            mprotect((unsigned char *)r.mapping + pages, PAGE_BYTES, PROT_NONE) != 0)
            emu_die("no memory for %zu bytes", bytes);
        r.memory = (unsigned char *)r.mapping + pages - rounded;
    }
    emu_raw_fill(r.memory, POISON, bytes);
    emu_forget(r.memory, bytes);
    return r;
}

static void region_close(const struct region *r)
{
    if (emu_has_asan())
        free(r->mapping);
    else
        munmap(r->mapping, r->mapping_bytes);
}

void *emu_alloc(size_t bytes)
{
    emu_quiet_begin();
    regions = emu_grow(regions, region_count, &region_capacity, sizeof *regions);
    regions[region_count] = region_open(bytes, bytes % 256 == 0 && bytes ? 256 : 16);
    void *memory = regions[region_count++].memory;
    emu_quiet_end();
    return memory;
}

void emu_free(void *memory)
{
    for (size_t i = 0; memory && i < region_count; i++) {
        if (regions[i].memory == memory) {
            region_close(&regions[i]);
            regions[i] = regions[--region_count];
            return;
        }
    }
    if (memory)
        emu_die("emu_free(%p): no device memory begins there", memory);
}

static bool is_device(const void *at, size_t bytes)
{
    uintptr_t first = (uintptr_t)at;
    for (size_t i = 0; i < region_count; i++) {
        uintptr_t begin = (uintptr_t)regions[i].memory;
        if (first >= begin && first - begin <= regions[i].bytes &&
            bytes <= regions[i].bytes - (first - begin))
            return true;
    }
    return false;
}

void emu_check_access(const void *at, size_t bytes, const char *what, bool shared, struct site site)
{
    if (bytes == 0 || (uintptr_t)at % bytes != 0)
        emu_die("%s:%d: %s of %zu bytes at %p is not aligned", site.file, site.line, what, bytes,
                at);
    if (emu_asan_poisoned(at, bytes))
        emu_die("%s:%d: %s of %zu bytes at %p is out of bounds", site.file, site.line, what, bytes,
                at);
    if (!shared && !is_device(at, bytes))
        emu_die("%s:%d: %s of %zu bytes at %p: no device memory there", site.file, site.line, what,
                bytes, at);
}

void emu_global(const void *at, size_t bytes, enum emu_access access, const char *file, int line)
{
    struct site site = {file, line};
    emu_check_access(at, bytes, access == EMU_WRITE ? "store" : "load", false, site);
    if (emu_stats_on)
        emu_note(at, bytes, access, false, site);
}

void emu_shared(const void *at, size_t bytes, enum emu_access access, const char *file, int line)
{
    struct site site = {file, line};
    emu_check_access(at, bytes, access == EMU_WRITE ? "shared store" : "shared load", true, site);
    if (emu_stats_on)
        emu_note(at, bytes, access, true, site);
}

/* ---- Shared memory ----------------------------------------------------------------------------------------- */

static struct region dynamic_regions[RESIDENT_BLOCKS_MAX];

void emu_shared_open(struct block *block, size_t dynamic_bytes)
{
    struct region *r = &dynamic_regions[block->slot];
    if (r->mapping && r->bytes != dynamic_bytes) {
        region_close(r);
        r->mapping = NULL;
    }
    if (dynamic_bytes && !r->mapping)
        *r = region_open(dynamic_bytes, 128);
    block->static_count = 0;
    block->dynamic = dynamic_bytes ? r->memory : NULL;
    block->dynamic_bytes = dynamic_bytes;
    if (dynamic_bytes) {
        emu_raw_fill(r->memory, POISON, dynamic_bytes);
        emu_forget(r->memory, dynamic_bytes);
    }
}

void emu_shared_close(struct block *block)
{
    for (int i = 0; i < block->static_count; i++)
        free(block->statics[i].memory);
    block->static_count = 0;
}

void *emu_shared_static(const void *key, size_t bytes, size_t align)
{
    struct block *block = emu_self()->block;
    for (int i = 0; i < block->static_count; i++)
        if (block->statics[i].key == key)
            return block->statics[i].memory;
    if (block->static_count == STATICS_MAX)
        emu_die("a kernel with more than %d static shared variables", STATICS_MAX);
    emu_quiet_begin();
    void *memory = NULL;
    if (posix_memalign(&memory, align < 16 ? 16 : align, bytes) != 0)
        emu_die("no memory for %zu bytes of shared memory", bytes);
    emu_raw_fill(memory, POISON, bytes);
    emu_forget(memory, bytes);
    block->statics[block->static_count++] = (struct shared_static){key, memory};
    emu_quiet_end();
    return memory;
}

void *emu_shared_dynamic(void)
{
    struct block *block = emu_self()->block;
    if (!block->dynamic)
        emu_die("a kernel that uses dynamic shared memory was launched with none");
    return block->dynamic;
}

/* ---- Guard pages ------------------------------------------------------------------------------------------- */

static void fault(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    char line[96];
    int length = snprintf(line, sizeof line, "emulator: access at %p, beyond the end of a buffer\n",
                          info->si_addr);
    if (length > 0 && write(STDERR_FILENO, line, (size_t)length) == length)
        emu_say_where();
    emu_exit(98);
}

void emu_memory_guard(void)
{
    static bool done;
    if (done || emu_has_asan() || emu_has_tsan()) /* they have their own words for it */
        return;
    done = true;
    static unsigned char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}
