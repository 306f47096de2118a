#include "daemon/keeper/facilities.h"

#include "daemon/log.h"
#include "shm/feature.h"

void facilities_log(void)
{
    struct llm_error error;
    if (llm_feature_list_check(&error) != LLM_OK)
        log_line(LOG_LEVEL_WARN, "%s", error.message);
    for (const struct llm_feature *feature = llm_features; feature->name; feature++)
        if (llm_feature_look(feature, &error) != LLM_OK)
            log_event(LOG_LEVEL_INFO, "facility missing", log_text("name", feature->name),
                      log_text("reason", error.message), log_text("instead", feature->without));
}
