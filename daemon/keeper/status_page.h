/*
 * status_page.h - the keeper's part of the status file.
 *
 * Idea     Each function copies what just changed; nothing is read back.
 * Owner    The file is created by status_page_open() and removed by status_page_close(). A lock on its
 *          descriptor says that its keeper lives: a second daemon of the same instance is refused.
 * See      shm/status_file.h.
 */
#ifndef LLMD_KEEPER_STATUS_PAGE_H
#define LLMD_KEEPER_STATUS_PAGE_H

#include <stdint.h>

#include "shm/status.h"

struct keeper;

/* `out_fd` is the caller's, for the engine. LLM_ERR_BUSY: another daemon uses this instance name. */
enum llm_status status_page_open(struct keeper *keeper, int *out_fd, struct llm_error *error)
    LLM_MUST_CHECK;
void status_page_close(struct keeper *keeper);

/* Engine pid, generation and the daemon's state, here and in the control page. */
void status_page_engine(struct keeper *keeper);
void status_page_died(struct keeper *keeper, uint64_t now_ns);
void status_page_attached(struct keeper *keeper, uint32_t slot, const char *name);
void status_page_left(struct keeper *keeper, uint32_t slot);
/* Once, when all that stays open is open: what is there beyond it later belongs to a connection, or to nobody. */
void status_page_count_own(struct keeper *keeper);
void status_page_count_descriptors(struct keeper *keeper);
void status_page_error(struct keeper *keeper, const char *text);

#endif
