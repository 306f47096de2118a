/*
 * sim_still.h - did a core stay exactly as it was?
 *
 * Idea     A refused admission changes nothing but the record of its slot, which is free before and after, and the list of
 *          effects, which is empty then. So where all was right before, and every other byte is as it was, all is right: a walk
 *          would read the same and find the same. More than half of all calls are such refusals, and comparing bytes takes a
 *          fraction of a walk. Whatever else differs is walked.
 * Owner    sim_core.c; one for each core.
 * Threads  One.
 * See      core_sane() in daemon/core/core.h; the record is struct request.
 */
#ifndef LLMD_TESTS_SIM_STILL_H
#define LLMD_TESTS_SIM_STILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct core;

struct sim_still {
    const unsigned char *memory; /* [bytes] the core's; struct core stands first */
    unsigned char *copy;         /* [bytes] when it was noted */
    size_t bytes;
    bool checked; /* all was right at the end of the last call */
    bool noted;   /* and that is what `copy` has */
};

/* `memory` [bytes] is what core_open() got. */
void sim_still_open(struct sim_still *still, const void *memory, size_t bytes);
void sim_still_close(struct sim_still *still);
/* The last call was followed by a walk, which found all right. */
void sim_still_checked(struct sim_still *still);
/* A call was made that is not followed by a walk. */
void sim_still_forget(struct sim_still *still);
/* A refusal comes next. */
void sim_still_expect(struct sim_still *still);
/* It came, for `slot`: is all as it was, and was it right? */
bool sim_still_holds(const struct sim_still *still, const struct core *core, uint32_t slot);

#endif
