/*
 * control.h - operations that are answered at once: nop, cancel by id, check.
 *
 * Idea     An answer is a stream record with done, a status and a sentence; there are no tokens.
 * Trust    A cancel by id is the owner's (same user) or an administrator's; the check is an administrator's.
 */
#ifndef LLMD_ENGINE_CONTROL_H
#define LLMD_ENGINE_CONTROL_H

#include "shm/stream.h"

struct connection;
struct engine;

/* `submission` passed the entry's checks; its operation is not GENERATE. */
void control_answer(struct engine *engine, struct connection *connection,
                    const struct llm_submission *submission, struct llm_stream_writer *writer);

/* Walk every structure of the engine. LLM_OK and a sentence with counts, or LLM_ERR_CORRUPT and what is wrong. */
enum llm_status control_check(const struct engine *engine, char out_text[LLM_NOTE_BYTES])
    LLM_MUST_CHECK;

#endif
