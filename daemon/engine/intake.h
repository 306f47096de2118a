/*
 * intake.h - from what a client wrote to an admitted request, or a sentence that says why not.
 *
 * Idea     Copy, then look. Sixty-four bytes of the entry are copied once; the parts of its body are copied
 *          once each, straight to where they will stay (the record in reqtab, the row of ids); every check
 *          is made on the copies. Three outcomes:
 *            admitted   the request is in the core, in reqtab and has an open stream
 *            refused    the stream record carries a status and a sentence (a bad value in a sound entry)
 *            broken     the client is reported and detached (an entry no honest library could have made)
 * Fairness In one pass at most INTAKE_AT_ONCE entries of a connection, and of a user what users.h allows; passes begin
 *          with another connection each time. Only hot connections are looked at (parking.h), the others ring
 *          first. A cancel bell is heard while there is something to cancel.
 * Threads  The engine thread.
 * Trust    This is the door: nothing a client wrote is looked at again after it was copied here.
 * See      shm/layout.h (the fields), journal.h (the order of stores), control.h (the other operations).
 */
#ifndef LLMD_ENGINE_INTAKE_H
#define LLMD_ENGINE_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/status.h"

#define INTAKE_AT_ONCE 32

struct connection;
struct engine;

/* Take in what waits. Returns whether there was anything. */
bool intake_pass(struct engine *engine);
/* Whether anything waits at a hot connection; at this one. */
bool intake_waits(const struct engine *engine);
bool intake_waits_at(const struct connection *connection);
/* Copy [bytes] of the arena, once; the caller has checked that they lie inside it. LLM_ERR_SYSTEM. */
enum llm_status intake_copy(const struct connection *connection, uint64_t arena_offset, void *out,
                            size_t bytes, struct llm_error *error) LLM_MUST_CHECK;

#endif
