#include "daemon/engine/plan_text.h"

#include <stdio.h>
#include <stdlib.h>

/* NULL: no memory. */
static char *print(const struct model *model, size_t *out_bytes)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, out_bytes);
    if (!out)
        return NULL;
    model_print_plan(model, out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

enum llm_status plan_text_publish(struct kept *kept, const struct model *model, uint64_t model_id,
                                  struct llm_error *error)
{
    size_t bytes;
    char *text = print(model, &bytes);
    if (!text)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the text of the plan");
    char name[CHANNEL_NAME_BYTES];
    snprintf(name, sizeof name, "plan/%llu", (unsigned long long)model_id);
    enum llm_status status = kept_publish(kept, name, text, bytes, error);
    free(text);
    return status;
}
