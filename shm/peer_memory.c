/* The kind that remembers; only builds with LLM_DOUBLE_READ compile it. */
#include "shm/peer_memory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "shm/check.h"

#define MEMORIES_MAX   1024
#define BYTES_PER_WORD 64

struct peer_memory {
    const unsigned char *base; /* NULL: a free row */
    size_t bytes;
    uint64_t *copied; /* one bit for each byte that was copied for the position at hand */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct peer_memory memories[MEMORIES_MAX];
static _Atomic uint64_t double_reads;

static struct peer_memory *find(const unsigned char *address)
{
    for (int i = 0; i < MEMORIES_MAX; i++)
        if (memories[i].base && address >= memories[i].base &&
            address < memories[i].base + memories[i].bytes)
            return &memories[i];
    return NULL;
}

static size_t map_words(const struct peer_memory *memory)
{
    return (memory->bytes + BYTES_PER_WORD - 1) / BYTES_PER_WORD;
}

void llm_peer_map(const void *base, size_t bytes)
{
    pthread_mutex_lock(&lock);
    CHECK(!find(base));
    int row = 0;
    while (row < MEMORIES_MAX && memories[row].base)
        row++;
    CHECK(row < MEMORIES_MAX);
    memories[row] = (struct peer_memory){.base = base, .bytes = bytes};
    memories[row].copied = calloc(map_words(&memories[row]), sizeof(uint64_t));
    CHECK(memories[row].copied != NULL);
    pthread_mutex_unlock(&lock);
}

void llm_peer_unmap(const void *base)
{
    pthread_mutex_lock(&lock);
    struct peer_memory *memory = find(base);
    CHECK(memory && memory->base == base);
    free(memory->copied);
    *memory = (struct peer_memory){.base = NULL};
    pthread_mutex_unlock(&lock);
}

/* What a client that waits for the second look would have written meanwhile. */
static unsigned char changed(unsigned char byte)
{
    return (unsigned char)~byte;
}

static void say(size_t offset, uint64_t again)
{
    atomic_fetch_add(&double_reads, again);
    fprintf(stderr, "double read: %llu bytes of up, the first at or after %zu\n",
            (unsigned long long)again, offset);
}

/* `out` holds what was just copied from `offset`: spoil what had been copied before. */
static void mark(struct peer_memory *memory, size_t offset, unsigned char *out, size_t bytes)
{
    uint64_t again = 0;
    CHECK(offset <= memory->bytes && bytes <= memory->bytes - offset);
    for (size_t i = 0; i < bytes; i++) {
        uint64_t *word = &memory->copied[(offset + i) / BYTES_PER_WORD];
        uint64_t bit = UINT64_C(1) << (offset + i) % BYTES_PER_WORD;
        if (*word & bit) {
            out[i] = changed(out[i]);
            again++;
        }
        *word |= bit;
    }
    if (again > 0)
        say(offset, again);
}

static void mark_at(const unsigned char *from, unsigned char *out, size_t bytes)
{
    pthread_mutex_lock(&lock);
    struct peer_memory *memory = find(from);
    if (memory) /* tests of a queue alone map nothing */
        mark(memory, (size_t)(from - memory->base), out, bytes);
    pthread_mutex_unlock(&lock);
}

void llm_peer_copy(void *out, const void *from, size_t bytes)
{
    memcpy(out, from, bytes);
    llm_copy_barrier();
    mark_at(from, out, bytes);
}

ssize_t llm_peer_pread(void *out, const void *base, int fd, size_t offset, size_t bytes)
{
    ssize_t taken = pread(fd, out, bytes, (off_t)offset);
    if (taken > 0)
        mark_at((const unsigned char *)base + offset, out, (size_t)taken);
    return taken;
}

void llm_peer_given_back(const void *base)
{
    pthread_mutex_lock(&lock);
    struct peer_memory *memory = find(base);
    if (memory)
        memset(memory->copied, 0, map_words(memory) * sizeof(uint64_t));
    pthread_mutex_unlock(&lock);
}

uint64_t llm_peer_double_reads(void)
{
    return atomic_load(&double_reads);
}
