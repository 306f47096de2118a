/*
 * model_config_gguf.h - the configuration of a model that is a GGUF file, from its keys.
 *
 * Idea     The same numbers, ranges and refusals as model_config.h, by the names that GGUF gives them: "llama.block_count".
 *          A key below the architecture's name that we do not know is named in a note and ignored; one that would
 *          change what is computed and that this build does not have (experts, partial rotation, ...) is refused by name.
 *          Biases and an output projection of its own are there when their tensors are.
 * Rope     GGUF files of Llama 3.1 have no numbers for its scaled rotation but a tensor "rope_freqs.weight", one
 *          divisor per frequency; it is read here, into the configuration.
 * Ends     GGUF names one end-of-sequence token; the ids that end an answer are it, the end-of-turn and end-of-message
 *          tokens, and the control tokens whose text is one of the usual ends ("<|im_end|>"), as llama.cpp has it.
 * Trust    The keys are hostile.
 * Source   https://github.com/ggml-org/ggml/blob/master/docs/gguf.md ("Standardized key-value pairs").
 * See      model_config.h, tests/daemon/test_model_config_gguf.c.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_CONFIG_GGUF_H
#define LLM_DAEMON_MODEL_MODEL_CONFIG_GGUF_H

#include "daemon/model/gguf.h"
#include "daemon/model/model_config.h"
#include "daemon/model/model_notes.h"
#include "shm/status.h"

/*
 * Work out the configuration.
 *
 *   notes     may be NULL
 *   returns   LLM_OK
 *             LLM_ERR_INVALID       a key is missing, ill-typed or out of range; the sentence names it
 *             LLM_ERR_UNSUPPORTED   an architecture or feature that this build does not have
 *             LLM_ERR_CORRUPT       the file was cut short since it was opened
 */
LLM_MUST_CHECK enum llm_status model_config_from_gguf(const struct gguf *gguf,
                                                      const struct model_notes *notes,
                                                      struct model_config *out_config,
                                                      struct llm_error *error);

#endif
