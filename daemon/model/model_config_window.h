/*
 * model_config_window.h - which layers of a Qwen model see only a window of the tokens before them.
 *
 * Idea     "use_sliding_window" switches "sliding_window" on; then the first "max_window_layers" layers see
 *          everything and the others the window. Newer files spell it out, layer by layer, in "layer_types".
 *          Both become two numbers, so a list in any other order than full layers first is refused.
 * See      https://huggingface.co/docs/transformers/model_doc/qwen2 (Qwen2Config), daemon/model/qwen2.c, qwen3.c.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_CONFIG_WINDOW_H
#define LLM_DAEMON_MODEL_MODEL_CONFIG_WINDOW_H

#include "daemon/model/model_config.h"
#include "daemon/model/model_config_key.h"

#define MODEL_WINDOW_TOKENS_MAX (1u << 30)

/* Fill sliding_window and full_attention_layers; layer_count has been read.
 *   returns   LLM_OK
 *             LLM_ERR_INVALID       ill-typed, out of range, or "layer_types" asks for a window that is not given
 *             LLM_ERR_UNSUPPORTED   "layer_types" in an order or of a kind that this build does not have */
LLM_MUST_CHECK enum llm_status config_read_windows(const struct config_keys *keys,
                                                   struct model_config *config,
                                                   struct llm_error *error);

#endif
