/*
 * generation_config.h - what a checkpoint's authors recommend for choosing tokens.
 *
 * Idea     generation_config.json beside the weights says how its authors sample. Requests that leave a value to the model
 *          get it from here; a value in a request always wins. Keys: do_sample, temperature, top_k, top_p, min_p, typical_p,
 *          repetition_penalty; end-of-text ids are read by model_config.c.
 * Greedy   Without "do_sample": true the answer is greedy, whatever "temperature" says, as in Hugging Face transformers
 *          (GenerationConfig: do_sample is False unless given); with it the temperature is 1 unless given.
 * Absent   A key that is absent or null is off. That is vLLM's reading (ModelConfig.get_diff_sampling_param takes only what the
 *          file says); transformers itself would add a top_k of 50, a default of the library and not of the model.
 * Source   https://huggingface.co/docs/transformers/main_classes/text_generation (GenerationConfig),
 *          https://docs.vllm.ai/en/latest/configuration/engine_args.html (--generation-config)
 * Trust    The file's numbers are checked like a request's (shm/request.h); a strange one refuses the model with a sentence.
 */
#ifndef LLM_DAEMON_MODEL_GENERATION_CONFIG_H
#define LLM_DAEMON_MODEL_GENERATION_CONFIG_H

#include "daemon/model/json_file.h"
#include "shm/layout.h"

/* Greedy, everything off. */
struct llm_in_force generation_defaults_none(void);

/*
 * Read them from the object `root` of file `name`.
 *
 *   returns   LLM_OK, or LLM_ERR_INVALID with file, key, value and range
 */
LLM_MUST_CHECK enum llm_status generation_defaults_read(const json_t *root, const char *name,
                                                        struct llm_in_force *out_defaults,
                                                        struct llm_error *error);

#endif
