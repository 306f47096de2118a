/*
 * recovery.h - what a new engine makes of what the last one left.
 *
 * Idea     Nothing is repaired: what is valid is used, what is not is free. In this order:
 *            blocks     SEALED with a right check value (also partly filled ones), parents first, go into the cache.
 *                       What was being written is QUARANTINED until the devices are quiet, and then free, as all
 *                       others are: a block is handed out again only when nobody can write to it any more
 *            requests   LIVE ones are published again from reqtok and put back into the core; ANSWERED ones get
 *                       their last stream record; those whose client is gone are free
 *          The core then computes what the cache cannot give back.
 * Poison   A request that was being computed when an engine died, without a token since, may be what killed
 *          it. Such requests are tried one at a time, each alone until its first token, so that a second death
 *          in a row points at one of them: that one fails with LLM_ERR_POISON, the others go on.
 * Trust    Only the keeper's tables are believed, never `down` or `up`. Numbers in them are still checked:
 *          the engine that wrote them may have died of a stray write.
 * See      journal.h (the order of stores), shm/tables.h, tests/e2e/test_crash_points.c.
 */
#ifndef LLMD_ENGINE_RECOVERY_H
#define LLMD_ENGINE_RECOVERY_H

#include "shm/status.h"

struct engine;

/* Into an empty core, before anything is admitted. LLM_ERR_MEMORY. */
enum llm_status recovery_adopt_blocks(struct engine *engine, struct llm_error *error)
    LLM_MUST_CHECK;
/* After the connections of the manifest are attached. */
void recovery_resume_requests(struct engine *engine);
/* Let the next request in line have its trial, if nobody else has one. */
void recovery_next_trial(struct engine *engine);
/* A clean stop is nobody's fault. */
void recovery_absolve(struct engine *engine);

#endif
