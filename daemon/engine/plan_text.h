/*
 * plan_text.h - what one step of a model computes, as text that `llmctl model plan` prints.
 *
 * Idea     The plan's kernel calls with their shapes and tensors, printed once when the model is opened and
 *          published as the memory "plan/<id of the load>"; clients ask by name.
 * Owner    The keeper holds the memories.
 * See      daemon/model/plan.h, tools/llmctl/plan.c.
 */
#ifndef LLMD_ENGINE_PLAN_TEXT_H
#define LLMD_ENGINE_PLAN_TEXT_H

#include "daemon/engine/kept.h"
#include "daemon/model/model.h"

enum llm_status plan_text_publish(struct kept *kept, const struct model *model, uint64_t model_id,
                                  struct llm_error *error) LLM_MUST_CHECK;

#endif
