/*
 * request.h - what makes a request body well-formed, said once for both sides.
 *
 * Idea     The client checks before it sends, so that a wrong field fails where it was written; the engine
 *          checks its copy, because nobody else's check counts. Same rules, same sentences.
 * Trust    Give these functions copies: they look more than once.
 * See      struct llm_request_body in layout.h, docs/PROTOCOL.md ("Request body").
 */
#ifndef LLM_SHM_REQUEST_H
#define LLM_SHM_REQUEST_H

#include "shm/layout.h"

#define LLM_TEMPERATURE_MAX 100.0f

/* Everything that can be said of the fixed part alone; whether model, ids and lengths fit is the engine's.
 *   body_bytes       what the submission says the whole body has
 *   returns          LLM_OK, LLM_ERR_INVALID */
enum llm_status llm_request_check(const struct llm_request_body *body, uint32_t body_bytes,
                                  struct llm_error *error) LLM_MUST_CHECK;

/* The last part: `count` times (length 1..64, bytes), exactly `bytes` long. LLM_OK, LLM_ERR_INVALID. */
enum llm_status llm_stop_strings_check(const uint8_t *strings, uint32_t bytes, uint32_t count,
                                       struct llm_error *error) LLM_MUST_CHECK;

/* Where the parts behind the fixed one begin; `bytes` can exceed 32 bits. */
struct llm_request_map {
    uint64_t prompt_offset;
    uint64_t stop_id_offset;
    uint64_t stop_string_offset;
    uint64_t bytes;
};
struct llm_request_map llm_request_map(const struct llm_request_body *body);

#endif
