/*
 * facilities.h - what of the kernel's the daemon does without, said once at the start.
 *
 * Idea     The list is shm/feature.h's. A line for each facility that LLMD_DISABLE takes away or the kernel does not
 *          give, with the reason and what happens instead; none where all is there. A word in LLMD_DISABLE that means
 *          nothing is a warning.
 */
#ifndef LLMD_KEEPER_FACILITIES_H
#define LLMD_KEEPER_FACILITIES_H

void facilities_log(void);

#endif
