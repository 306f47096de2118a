/*
 * segment.h - shared memory as a file descriptor: made, sealed, handed out, mapped.
 *
 * Idea     A segment is a memfd of fixed size. Seals forbid to shrink or grow it, so a mapping of it can never
 *          fault for want of a page that was there (tmpfs pages, never huge ones: a sealed huge page can still
 *          be punched out and not come back). Inode mode 0400 and a read-only re-open make a descriptor that a
 *          client of another user cannot turn into a writable one: O_RDONLY alone would not do,
 *          /proc/self/fd/N can be opened again.
 * Owner    The keeper makes segments and holds their descriptors; maps belong to who made them.
 * Trust    Who maps a descriptor it was handed checks the size first. Seals do not stop a hole from being
 *          punched: content that a client can write may turn to zero at any moment.
 * See      docs/PROTOCOL.md ("Memories"), tests/shm/test_segment.c.
 */
#ifndef LLM_SHM_SEGMENT_H
#define LLM_SHM_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "shm/status.h"

/* A sealed, zeroed memfd of `bytes` (a multiple of a page), close-on-exec, not executable, mode 0400.
 *   name             for people: /proc/<pid>/fd and error sentences
 *   returns          LLM_OK, LLM_ERR_MEMORY (descriptors or memory), LLM_ERR_SYSTEM */
enum llm_status llm_segment_create(const char *name, size_t bytes, int *out_fd,
                                   struct llm_error *error) LLM_MUST_CHECK;

/* The same, but not yet sealed against further seals: the engine fills it, then llm_segment_publish() forbids
 * writing for good. `bytes` may be any number above 0. */
enum llm_status llm_segment_create_draft(const char *name, size_t bytes, int *out_fd,
                                         struct llm_error *error) LLM_MUST_CHECK;
/* LLM_ERR_INVALID while somebody still has it mapped writable. */
enum llm_status llm_segment_publish(int fd, struct llm_error *error) LLM_MUST_CHECK;

/* A second, read-only descriptor of the same memory, for handing out. Needs /proc. LLM_ERR_MEMORY, _SYSTEM. */
enum llm_status llm_segment_reopen_readonly(int fd, int *out_fd, struct llm_error *error)
    LLM_MUST_CHECK;

/* Map all of it, after checking that it is exactly `bytes` long and that its size is sealed.
 *   returns          LLM_OK, LLM_ERR_PEER (another size, or not sealed), LLM_ERR_MEMORY, LLM_ERR_SYSTEM */
enum llm_status llm_segment_map(const char *name, int fd, size_t bytes, bool writable,
                                void **out_address, struct llm_error *error) LLM_MUST_CHECK;
/* NULL is accepted. */
void llm_segment_unmap(const void *address, size_t bytes);

#endif
