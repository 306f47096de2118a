/*
 * llama.h - the plan of LlamaForCausalLM.
 *
 * Idea     A transformer block per layer: RMSNorm, grouped-query attention with rotary embeddings, residual;
 *          RMSNorm, SwiGLU, residual. Written down here as the checkpoint names its tensors; merging is
 *          left to the passes of plan.h.
 * See      Touvron et al. 2023, arXiv:2302.13971; Ainslie et al. 2023, arXiv:2305.13245 (grouped queries);
 *          tests/daemon/test_model.c (a forward pass in f64, written without this file).
 */
#ifndef LLM_DAEMON_MODEL_LLAMA_H
#define LLM_DAEMON_MODEL_LLAMA_H

#include "daemon/model/model_config.h"
#include "daemon/model/plan.h"

/* Build the plan, passes included. LLM_ERR_MEMORY, or LLM_ERR_UNSUPPORTED when a width is beyond the kernels. */
LLM_MUST_CHECK enum llm_status llama_plan(struct plan *out_plan, const struct model_config *config,
                                          struct llm_error *error);

#endif
