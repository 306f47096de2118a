#include "daemon/engine/doorbells.h"

#include "daemon/log.h"
#include "shm/feature.h"

#if !LLMD_HAVE_LIBURING
enum llm_status doorbells_uring_open(struct doorbells **out_doorbells, int channel,
                                     uint32_t completion_max, struct llm_error *error)
{
    (void)out_doorbells, (void)channel, (void)completion_max;
    return llm_fail(error, LLM_ERR_UNSUPPORTED, "built without liburing");
}
#endif

/* Asked for before anything is tried, so that the reason is the same in every build. */
static enum llm_status try_uring(struct doorbells **out_doorbells, int channel,
                                 struct llm_error *error)
{
    if (llm_feature_disabled("io_uring"))
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "LLMD_DISABLE names io_uring");
    return doorbells_uring_open(out_doorbells, channel, DOORBELLS_COMPLETION_MAX, error);
}

enum llm_status doorbells_open(struct doorbells **out_doorbells, int channel,
                               struct llm_error *error)
{
    struct llm_error reason;
    if (try_uring(out_doorbells, channel, &reason) == LLM_OK) {
        log_event(LOG_LEVEL_INFO, "parking", log_text("by", (*out_doorbells)->ops->name));
        return LLM_OK;
    }
    enum llm_status status = doorbells_epoll_open(out_doorbells, channel, error);
    if (status == LLM_OK)
        log_event(LOG_LEVEL_INFO, "parking", log_text("by", (*out_doorbells)->ops->name),
                  log_text("reason", reason.message));
    return status;
}
