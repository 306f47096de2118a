#include "daemon/engine/pace.h"

#include <stdio.h>
#include <string.h>

#include "shm/clock.h"

#define WEIGHT_OF_ONE 8 /* an interval moves the average by an eighth of the difference */

void pace_begun(struct pace *pace, uint64_t now_ns)
{
    if (pace->last_ns == 0)
        pace->last_ns = now_ns;
}

void pace_ended(struct pace *pace, uint64_t now_ns, uint32_t live)
{
    if (pace->last_ns != 0) {
        uint64_t interval_ns = now_ns - pace->last_ns;
        if (pace->average_ns == 0)
            pace->average_ns = interval_ns;
        else
            pace->average_ns += interval_ns / WEIGHT_OF_ONE - pace->average_ns / WEIGHT_OF_ONE;
    }
    pace->last_ns = live > 0 ? now_ns : 0; /* a pause says nothing */
}

uint32_t pace_hint_ms(const struct pace *pace, uint64_t now_ns, uint32_t own, uint32_t live)
{
    uint64_t each_ns = pace->average_ns;
    if (each_ns == 0 && pace->last_ns != 0)
        each_ns = now_ns - pace->last_ns; /* nobody has ended yet: at least as long again */
    uint64_t each_ms = each_ns / LLM_NS_PER_MS;
    each_ms = each_ms < PACE_HINT_MS_MAX ? each_ms : PACE_HINT_MS_MAX;
    uint64_t ms = own > 0 && own < live ? each_ms * live / own : each_ms;
    return ms < 1 ? 1 : ms < PACE_HINT_MS_MAX ? (uint32_t)ms : PACE_HINT_MS_MAX;
}

void pace_say(const struct pace *pace, uint64_t now_ns, uint32_t own, uint32_t live,
              struct llm_error *error)
{
    size_t used = strlen(error->message);
    snprintf(error->message + used, sizeof error->message - used, " in about %u ms",
             pace_hint_ms(pace, now_ns, own, live));
}
