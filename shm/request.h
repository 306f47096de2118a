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

#define LLM_TEMPERATURE_MAX        100.0f
#define LLM_REPETITION_PENALTY_MIN 0.01f
#define LLM_REPETITION_PENALTY_MAX 100.0f
#define LLM_PENALTY_MAX            100.0f /* presence, frequency: -100..100 */
#define LLM_BIAS_MAX               100.0f

/* Everything that can be said of the fixed part alone; whether model, ids and lengths fit is the engine's.
 *   body_bytes       what the submission says the whole body has: the sum of its parts, or with STEERED at least that with
 *                    empty lists (llm_steering_check_bytes() compares the sum)
 *   returns          LLM_OK, LLM_ERR_INVALID */
enum llm_status llm_request_check(const struct llm_request_body *body, uint32_t body_bytes,
                                  struct llm_error *error) LLM_MUST_CHECK;

/* The last part: `count` times (length 1..64, bytes), exactly `bytes` long. LLM_OK, LLM_ERR_INVALID. */
enum llm_status llm_stop_strings_check(const uint8_t *strings, uint32_t bytes, uint32_t count,
                                       struct llm_error *error) LLM_MUST_CHECK;

/* The part that a STEERED body has. `body` was checked. LLM_OK, LLM_ERR_INVALID. */
enum llm_status llm_steering_check(const struct llm_steering *steering,
                                   const struct llm_request_body *body, struct llm_error *error)
    LLM_MUST_CHECK;
/* Then: that body_bytes are exactly the sum of its parts, the lists among them. LLM_OK, LLM_ERR_INVALID. */
enum llm_status llm_steering_check_bytes(const struct llm_steering *steering,
                                         const struct llm_request_body *body, uint32_t body_bytes,
                                         struct llm_error *error) LLM_MUST_CHECK;
/* Each bias is a number in its range; ids are the engine's to check. LLM_OK, LLM_ERR_INVALID. */
enum llm_status llm_biases_check(const struct llm_bias *biases, uint32_t count,
                                 struct llm_error *error) LLM_MUST_CHECK;
/* Everything off. */
struct llm_steering llm_steering_none(void);

/* Where the parts behind the fixed one begin; `bytes` can exceed 32 bits. `steering` counts only with STEERED, where it
 * stands at steering_offset; NULL: its lists are taken to be empty. */
struct llm_request_map {
    uint64_t prompt_offset;
    uint64_t stop_id_offset;
    uint64_t steering_offset;
    uint64_t bias_offset;
    uint64_t banned_id_offset;
    uint64_t allowed_id_offset;
    uint64_t stop_string_offset;
    uint64_t bytes;
};
struct llm_request_map llm_request_map(const struct llm_request_body *body,
                                       const struct llm_steering *steering);

/* What the words of an answer's log are for, capacity C: ids[C], then with log-probabilities f32[C], then with `top_count`
 * struct llm_top[C][top_count], and at the end of the range with `tells` a struct llm_in_force. */
struct llm_log_shape {
    bool logprobs;
    bool tells;
    uint32_t top_count;
};
#define LLM_LOG_IDS      ((struct llm_log_shape){0})
#define LLM_LOG_LOGPROBS ((struct llm_log_shape){.logprobs = true})
struct llm_log_shape llm_request_log_shape(const struct llm_request_body *body,
                                           uint32_t top_logprobs);
/* Words for answers of max_tokens. */
uint64_t llm_log_words(const struct llm_log_shape *shape, uint32_t max_tokens);
/* C of a range of so many words; 0 when it has not even room for what is not per token. */
uint32_t llm_log_capacity(const struct llm_log_shape *shape, uint32_t log_words);

#endif
