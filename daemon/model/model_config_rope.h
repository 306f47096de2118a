/*
 * model_config_rope.h - how config.json describes rotary embeddings, read and checked.
 *
 * Idea     Files of transformers 4 have "rope_theta" and, where positions are scaled, an object
 *          "rope_scaling" beside it; files of transformers 5 have one object, "rope_parameters", with the
 *          theta inside. Both become a theta and a struct model_rope in which nothing is left to derive:
 *          defaults are filled in here.
 * Keys     What such an object holds is nearly all numbers that change every angle, so a kind or a key that we do
 *          not know is refused by name. A key of another kind ("original_max_position_embeddings" beside
 *          "linear") is without effect in transformers, and so it is here.
 * See      https://huggingface.co/docs/transformers/internal/rope_utils; the formulas are in rope_scaling.h;
 *          tests/daemon/test_model_config.c, tests/daemon/test_families.c.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_CONFIG_ROPE_H
#define LLM_DAEMON_MODEL_MODEL_CONFIG_ROPE_H

#include "daemon/model/model_config.h"
#include "daemon/model/model_config_key.h"

/*
 * Fill rope_theta and rope. context_max_tokens has been read, and grows where the scaled positions go further
 * than it ("linear": factor times it; "yarn": factor times the original length, where the file gives that).
 *
 *   returns   LLM_OK
 *             LLM_ERR_INVALID       a key is missing, ill-typed or out of range
 *             LLM_ERR_UNSUPPORTED   a kind of scaling, or a key of it, that this build does not have
 */
LLM_MUST_CHECK enum llm_status config_read_rope(const struct config_keys *keys,
                                                struct model_config *config,
                                                struct llm_error *error);

#endif
