/*
 * stale.h - status files of our user's daemons that were killed: removed when the next one starts.
 *
 * Idea     Only what is provably dead goes: our user's file, complete, and without the lock that a keeper holds
 *          for its life (llm_status_abandoned()); and only an hour after its last sign of life, for until then
 *          somebody may want to look at it. The name is moved aside first: should it have come to mean another
 *          daemon's file between the look and the move, it is put back.
 * See      `llmctl doctor` names those of other users; tests/e2e/test_stale.c.
 */
#ifndef LLMD_KEEPER_STALE_H
#define LLMD_KEEPER_STALE_H

void stale_sweep(void);

#endif
