/*
 * status_check.h - does everything in the status file add up?
 *
 * Idea     One walk states each invariant as a sentence and lists the violations it sees. On live memory a
 *          single look may fall between two stores, so the caller walks twice, some time apart, and keeps
 *          what stands there word for word both times: only a fault that stands still is reported.
 * See      `llmctl check`, which also asks the live engine for the walks over its own structures;
 *          tests/tools/test_status_check.c.
 */
#ifndef LLMCTL_STATUS_CHECK_H
#define LLMCTL_STATUS_CHECK_H

#include "tools/llmctl/status_view.h"

#define FINDINGS_MAX 32

struct findings {
    uint32_t
        count; /* sentences below; what does not fit is left out: 32 are enough to be alarmed */
    char sentence[FINDINGS_MAX][LLM_NOTE_BYTES];
};

/* Append what is wrong with `view`. */
void status_check(const struct status_view *view, struct findings *findings);
/* Compare the keeper's own count of descriptors with what the kernel says (/proc/PID/fd); nothing is
 * found where we may not look. */
void status_check_descriptors(const struct status_view *view, struct findings *findings);
/* Keep in `first` only what `second` says too. */
void findings_intersect(struct findings *first, const struct findings *second);

#endif
