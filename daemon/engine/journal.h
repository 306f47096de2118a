/*
 * journal.h - what is written down before anybody is told.
 *
 * Idea     Each function changes one record of the keeper's tables and makes the change valid by one store, in
 *          the order that recovery relies on:
 *
 *            admission   record and prompt -> LIVE -> stream opened -> conntab.queue_head -> down.queue_head
 *            token       id in reqtok -> published -> log -> commit word
 *            end         status, finish, note -> ANSWERED -> stream done -> FREE
 *            context     ids in ctxids -> row's end, or row LIVE -> version -> context's word -> rows nobody has: FREE
 *            block       WRITING -> rows computed -> header and ids -> SEALED -> (wider domain) -> ... -> FREE
 *
 *          A crash between any two stores is a state that recovery.c understands; each store is followed by
 *          a CRASH_POINT at which the tests kill the engine.
 * Threads  The engine thread is the tables' only writer.
 * See      shm/tables.h, recovery.h, daemon/engine/README.md rule 2.
 */
#ifndef LLMD_ENGINE_JOURNAL_H
#define LLMD_ENGINE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/core.h"
#include "shm/tables.h"

struct connection;
struct engine;

/* The connection's row. True when an earlier engine knew it: `out_head` is where its queue goes on (else 0). */
bool journal_attach(struct engine *engine, const struct connection *connection, uint64_t *out_head);
void journal_detach(struct engine *engine, uint32_t connection_slot);
/* Every position below `queue_head` was admitted or answered. */
void journal_taken(struct engine *engine, const struct connection *connection, uint64_t queue_head);

/* The record in `slot` is filled in, the prompt is in its row: it counts from now on. */
void journal_live(struct engine *engine, uint32_t slot);
/* One more attempt to compute it begins (README rule 5). */
void journal_try(struct engine *engine, uint32_t slot);
/* `count` generated ids in the row count from now on; the request has made progress. */
void journal_published(struct engine *engine, uint32_t slot, uint32_t count);
/* How it ended is decided. */
void journal_answered(struct engine *engine, uint32_t slot, enum llm_status status,
                      enum llm_finish finish, const char *note);
void journal_free(struct engine *engine, uint32_t slot);

void journal_block_taken(struct engine *engine, block_id block);
void journal_block_sealed(struct engine *engine, block_id block);
/* Others may find it now: the header's domain is that of core_block_info(). */
void journal_block_widened(struct engine *engine, block_id block);
void journal_block_freed(struct engine *engine, block_id block);
/* Was being written when an engine died: free once the device is quiet (recovery.h). */
void journal_block_quarantined(struct engine *engine, block_id block);

/* Ids below `end` are in the row: so many count from now on, more than before or fewer. */
void journal_row_end(struct llm_ctxrow_record *row, uint32_t end);
/* A new row, whose ids are there. */
void journal_row_live(struct llm_ctxrow_record *row, uint32_t parent, uint32_t start, uint32_t end,
                      uint32_t uid);
void journal_row_free(struct llm_ctxrow_record *row);
/* A context becomes `version`, all at once; with LLM_CTX_FREE it ends, and the version says by whom. */
void journal_context(struct llm_ctxtab_record *record, const struct llm_ctx_version *version,
                     enum llm_ctx_state state);

/* Of everything in the header but the word's state and the value itself, and of the ids. */
uint32_t journal_block_check(const struct llm_kvhdr_record *header, uint64_t generation,
                             const uint32_t *ids);

#endif
