/*
 * owners.h - what contexts cost, and whom.
 *
 * Idea     A ledger with one row for each user who owns contexts, rows of their ids, or pins: also for one who has no
 *          connection any more, because a published context stays. What forks share is counted once, against the
 *          user who wrote it.
 * Owner    The engine thread. A row of the ledger is free when nothing is counted in it.
 * See      contexts.h, rows.h, users.h (what is counted while a user is connected).
 */
#ifndef LLMD_ENGINE_OWNERS_H
#define LLMD_ENGINE_OWNERS_H

#include <stdint.h>

struct owner {
    uint32_t uid;
    uint32_t contexts;
    uint64_t tokens; /* in rows */
    uint64_t pinned_blocks;
};

struct owners {
    struct owner *rows; /* [count] */
    uint32_t count;     /* enough for every context and every row to be another user's */
    uint32_t end;       /* one past the highest in use */
};

/* The row of `uid`; a new one is free again unless the caller counts something in it. */
uint32_t owners_row(struct owners *owners, uint32_t uid);
/* Nothing is counted any more. */
void owners_reset(struct owners *owners);

#endif
