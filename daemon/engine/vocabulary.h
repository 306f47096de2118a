/*
 * vocabulary.h - a model's vocab image, where clients can map it.
 *
 * Idea     Built once from the model's tokeniser files, deposited as the public memory "vocab/<id of the load>";
 *          clients ask by name and the keeper knows whose that is. A restarted engine finds it there. The engine
 *          itself maps it for one thing:
 *          the bytes of a token, which stop strings are matched on.
 * Owner    The keeper holds the memories; the view borrows a mapping that lasts until the engine ends.
 * Trust    The files are hostile (vocab_builder.h); a model whose tokeniser this build cannot express exactly
 *          is served by token ids alone, with a warning.
 * See      shm/vocab_image.h, client/text/.
 */
#ifndef LLMD_ENGINE_VOCABULARY_H
#define LLMD_ENGINE_VOCABULARY_H

#include "daemon/engine/kept.h"
#include "daemon/model/model.h"
#include "shm/vocab_image.h"

enum llm_status vocabulary_open(struct llm_vocab_view *out_view, struct kept *kept,
                                const struct model_files *files, const struct model_facts *facts,
                                const char *model_name, uint64_t model_id, struct llm_error *error)
    LLM_MUST_CHECK;

#endif
