/*
 * peer_memory.h - reading what somebody else may rewrite at any moment.
 *
 * Idea     A client can change its `up` while the engine reads it. A value that is read twice can be right when it is
 *          checked and wrong when it is used, so each is read once, into memory of the engine's own, and looked
 *          at there. These few functions are the only way from the daemon into `up`; there are two kinds:
 *            poll   a word that is looked at again and again by design, because it may move. Whoever polls
 *                   compares the one value it got and takes nothing else from it. The words: an entry's stamp,
 *                   queue_tail, cancel_bell, the cancel words, sleepers, bell_arms.
 *            copy   the bytes of a submission: each at most once until its position is given back
 * Proof    Builds with LLM_DOUBLE_READ (the program double_read/llmd-engine) keep a map of the bytes that were copied
 *          for the position at hand. A second copy of any of them yields other values and a line on standard error,
 *          so that whatever double fetch there is changes an outcome. Other builds compile all this to the
 *          plain load, memcpy() or pread().
 * Owner    The engine: llm_peer_map() when `up` is mapped, llm_peer_unmap() before it is unmapped.
 * Threads  Copies: the thread that takes submissions. Polls: any.
 * See      README.md rule 4, tests/tidy/peer_memory.sh (nobody reads past this file), tests/shm/test_peer_memory.c,
 *          tests/attack/test_double_read.c.
 */
#ifndef LLM_SHM_PEER_MEMORY_H
#define LLM_SHM_PEER_MEMORY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "shm/fence.h"

/* ---- Words that are polled by design --------------------------------------------------------------- */

static inline uint32_t llm_peer_poll32(const _Atomic uint32_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}
static inline uint64_t llm_peer_poll64(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}
/* The caller says which release it pairs with. */
static inline uint64_t llm_peer_poll64_acquire(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

/* ---- Bytes of a submission ------------------------------------------------------------------------- */

#ifdef LLM_DOUBLE_READ
void llm_peer_map(const void *base, size_t bytes);
void llm_peer_unmap(const void *base);
void llm_peer_copy(void *out, const void *from, size_t bytes);
ssize_t llm_peer_pread(void *out, const void *base, int fd, size_t offset, size_t bytes);
void llm_peer_given_back(const void *base);
uint64_t llm_peer_double_reads(void); /* bytes that were copied twice so far, in all memories */
#else
/* A memory that a peer writes: `bytes` at `base`. */
static inline void llm_peer_map(const void *base, size_t bytes)
{
    (void)base, (void)bytes;
}
static inline void llm_peer_unmap(const void *base)
{
    (void)base;
}
/* Copy [bytes] at `from` once; the caller looks at the copy only. */
static inline void llm_peer_copy(void *out, const void *from, size_t bytes)
{
    memcpy(out, from, bytes);
    llm_copy_barrier();
}
/* The same by pread() of the memory's descriptor: what `base + offset` is mapped to. As pread() answers. */
static inline ssize_t llm_peer_pread(void *out, const void *base, int fd, size_t offset,
                                     size_t bytes)
{
    (void)base;
    return pread(fd, out, bytes, (off_t)offset);
}
/* The submission at hand is taken in: from here on its bytes may be another one's. */
static inline void llm_peer_given_back(const void *base)
{
    (void)base;
}
#endif

#endif
