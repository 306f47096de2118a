/*
 * memfd.h - memories that only keeper and engine write: sized once, published perhaps.
 *
 * Idea     Like the segments of shm/segment.h, but the seals stay open, so that a memory which the engine has
 *          filled (a vocabulary) can be sealed against writing before clients map it.
 * Source   memfd_create(2), fcntl(2) "File sealing".
 */
#ifndef LLMD_KEEPER_MEMFD_H
#define LLMD_KEEPER_MEMFD_H

#include <stdint.h>

#include "shm/status.h"

/* Make `bytes` (> 0) zero bytes. LLM_ERR_MEMORY: no descriptors or no memory. */
enum llm_status memfd_make(const char *name, uint64_t bytes, int *out_fd, struct llm_error *error)
    LLM_MUST_CHECK;

/* Forbid writing and further sealing. LLM_ERR_INVALID while somebody still has it mapped writable. */
enum llm_status memfd_publish(int fd, struct llm_error *error) LLM_MUST_CHECK;

#endif
