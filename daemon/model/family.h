/*
 * family.h - the architectures that this build runs, one file each.
 *
 * Idea     A family is a name in "architectures", the keys of config.json that only it has or that it reads in its
 *          own way, and one layer written as a list of kernel calls (decoder.h). Everything else is shared. To add
 *          one: docs/MODELS.md.
 * Owner    Constant tables.
 * See      llama.c, mistral.c, qwen2.c, qwen3.c; tests/daemon/test_families.c.
 */
#ifndef LLM_DAEMON_MODEL_FAMILY_H
#define LLM_DAEMON_MODEL_FAMILY_H

#include "daemon/model/decoder.h"
#include "daemon/model/model_config.h"
#include "daemon/model/model_config_key.h"

struct model_family {
    enum model_architecture architecture;
    const char *name; /* as config.json's "architectures" spells it */

    /* Fill the fields that are this family's own: biases, norms of heads, windows, a usual head_dim. All are zero
     * before; hidden size, layers and query heads have been read, heads' widths and rotation come after. */
    enum llm_status (*read_keys)(const struct config_keys *keys, struct model_config *config,
                                 struct llm_error *error);
    /* Write one layer. */
    void (*add_layer)(struct decoder *decoder, int32_t layer);
};

extern const struct model_family model_family_llama, model_family_mistral, model_family_qwen2,
    model_family_qwen3;

/* The family of that name; NULL: this build has none. */
const struct model_family *model_family_find(const char *name);
const struct model_family *model_family_of(enum model_architecture architecture); /* never NULL */
#define MODEL_FAMILY_NAMES_BYTES 256
/* "LlamaForCausalLM, MistralForCausalLM, ..." for sentences. */
void model_family_names(char text[MODEL_FAMILY_NAMES_BYTES]);

/* The plan of a configuration, by its architecture; errors as decoder_plan(). */
LLM_MUST_CHECK enum llm_status model_family_plan(struct plan *out_plan,
                                                 const struct model_config *config,
                                                 struct llm_error *error);

#endif
