#include "shm/feature.h"

#include <stdlib.h>
#include <string.h>

bool llm_feature_disabled(const char *name)
{
    const char *list = getenv("LLMD_DISABLE");
    size_t name_bytes = strlen(name);
    while (list && *list) {
        size_t item_bytes = strcspn(list, ",");
        if (item_bytes == name_bytes && memcmp(list, name, name_bytes) == 0)
            return true;
        list += item_bytes + (list[item_bytes] == ',');
    }
    return false;
}
