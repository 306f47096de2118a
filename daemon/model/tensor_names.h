/*
 * tensor_names.h - a tensor's name in a plan and in a GGUF file.
 *
 * Idea     Plans name tensors as Hugging Face's checkpoints do (model.layers.3.self_attn.q_proj.weight); GGUF files have
 *          short names for the same (blk.3.attn_q.weight). One table of parts says which is which.
 * Source   https://github.com/ggml-org/ggml/blob/master/docs/gguf.md ("Standardized tensor names").
 */
#ifndef LLM_DAEMON_MODEL_TENSOR_NAMES_H
#define LLM_DAEMON_MODEL_TENSOR_NAMES_H

#include <stdbool.h>

#define TENSOR_NAME_GGUF_BYTES 65

/* GGUF's name of a tensor that a plan knows as `name`; false when there is none. */
bool tensor_name_gguf(const char *name, char out_name[TENSOR_NAME_GGUF_BYTES]);

#endif
