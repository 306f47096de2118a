/*
 * publish.h - from the core's effects to tables, logs and commit words.
 *
 * Idea     The core says in a list what a call changed. publish_effects() walks it once, in order: first the
 *          tables (journal.h), then the client's memory, then a mark that its connection has something to be
 *          woken for. Nobody is woken here.
 * See      daemon/core/effect.h, egress.h (waking).
 */
#ifndef LLMD_ENGINE_PUBLISH_H
#define LLMD_ENGINE_PUBLISH_H

#include <stdint.h>

#include "daemon/core/core.h"
#include "shm/stream.h"

struct connection;
struct engine;

/* Streams of `connection` moved. Its hints are announced, and it is marked for waking, before those of another
 * connection move and by publish_announce(): once for a step that moves many of its streams. */
void publish_moved(struct engine *engine, struct connection *connection);
void publish_announce(struct engine *engine);

/* Mirror what the last call into the core changed, and announce it. */
void publish_effects(struct engine *engine);
/* The next `more` ids of a request's row, with their log-probabilities, are its answer's. */
void publish_ids(struct engine *engine, uint32_t slot, uint32_t more, uint64_t now_ns);
/* End a request that the core has let go of, or never had. */
void publish_finished(struct engine *engine, uint32_t slot, enum core_finish finish);

/* Begin the answer of an admitted request in its stream record. */
void publish_opened(struct engine *engine, uint32_t slot);
/* Answer a submission that never becomes a request: refused, or a control operation. */
void publish_answer(struct engine *engine, struct connection *connection,
                    struct llm_stream_writer *writer, enum llm_status status,
                    enum llm_finish finish, const char *note);

#endif
