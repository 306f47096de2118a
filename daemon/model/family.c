#include "daemon/model/family.h"

#include "shm/check.h"

#include <stdio.h>
#include <string.h>

static const struct model_family *const families[] = {
    &model_family_llama,
    &model_family_mistral,
    &model_family_qwen2,
    &model_family_qwen3,
};
#define FAMILIES (sizeof families / sizeof families[0])

const struct model_family *model_family_find(const char *name)
{
    for (size_t i = 0; i < FAMILIES; i++)
        if (strcmp(families[i]->name, name) == 0)
            return families[i];
    return NULL;
}

const struct model_family *model_family_of(enum model_architecture architecture)
{
    const struct model_family *found = NULL;
    for (size_t i = 0; i < FAMILIES; i++)
        if (families[i]->architecture == architecture)
            found = families[i];
    CHECK(found != NULL);
    return found;
}

const char *model_architecture_name(enum model_architecture architecture)
{
    return model_family_of(architecture)->name;
}

void model_family_names(char text[MODEL_FAMILY_NAMES_BYTES])
{
    size_t used = 0;
    for (size_t i = 0; i < FAMILIES && used < MODEL_FAMILY_NAMES_BYTES; i++)
        used += (size_t)snprintf(text + used, MODEL_FAMILY_NAMES_BYTES - used, "%s%s",
                                 i == 0 ? "" : ", ", families[i]->name);
}

enum llm_status model_family_plan(struct plan *out_plan, const struct model_config *config,
                                  struct llm_error *error)
{
    return decoder_plan(out_plan, config, model_family_of(config->architecture)->add_layer, error);
}
