/*
 * ledger.h - who uses which bytes, and what each block of the pool holds: for `llmctl mem` and `llmctl kv map`.
 *
 * Idea     Nothing is counted along the way: a look walks the kept memories, the connections and the pool's blocks and
 *          adds up what is there. Every byte of every memory is in exactly one row, so the sum is what the daemon has taken;
 *          `llmctl mem` compares it with what the memories' descriptors say (LLM_LEDGER_TABLES rows have their names).
 * Threads  The engine thread. A walk over a hundred thousand blocks takes well under a millisecond.
 * See      context_ops.h (who asks), enum llm_ledger_part in shm/layout.h, tests/e2e/test_looking.c.
 */
#ifndef LLMD_ENGINE_LEDGER_H
#define LLMD_ENGINE_LEDGER_H

#include <stdint.h>

#include "shm/layout.h"

struct connection;
struct engine;

#define LEDGER_ROWS_MAX 1024u /* owners beyond are summed into the daemon's own rows */

/*
 * The ledger as `connection`'s user may see it: administrators all of it, others the rows of their own domains.
 *
 *   out_rows   [capacity]
 *   returns    rows written; what did not fit is added to the last row
 */
uint32_t ledger_take(const struct engine *engine, const struct connection *connection,
                     struct llm_ledger_row *out_rows, uint32_t capacity);

/* Blocks from `first` on; returns how many were written, 0 at the end of the pool. */
uint32_t ledger_blocks(const struct engine *engine, uint32_t first,
                       struct llm_block_view *out_blocks, uint32_t capacity);

#endif
