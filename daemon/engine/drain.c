#include "daemon/engine/drain.h"

#include "daemon/engine/engine.h"

void drain_set(struct engine *engine, uint64_t number)
{
    engine->drain = (struct drain){.number = number};
}

enum llm_status drain_admits(const struct engine *engine, struct llm_error *error)
{
    if (engine->drain.number == 0)
        return LLM_OK;
    return llm_fail(error, LLM_ERR_BUSY,
                    "llmd is draining: it ends what runs and takes no new requests");
}

void drain_settle(struct engine *engine)
{
    struct drain *drain = &engine->drain;
    struct llm_error error;
    if (drain->number == 0 || drain->settled || engine->requests_live > 0)
        return;
    drain->settled = true;
    if (link_say(&engine->link, CHANNEL_DRAINED, drain->number, 0, "", &error) != LLM_OK)
        engine->stopping = true; /* no keeper, no engine */
}
