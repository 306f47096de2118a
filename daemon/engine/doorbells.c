#include "daemon/engine/doorbells.h"

#include "daemon/log.h"

#if !LLMD_HAVE_LIBURING
enum llm_status doorbells_uring_open(struct doorbells **out_doorbells, int channel,
                                     uint32_t completion_max, struct llm_error *error)
{
    (void)out_doorbells, (void)channel, (void)completion_max;
    return llm_fail(error, LLM_ERR_UNSUPPORTED, "built without liburing");
}
#endif

enum llm_status doorbells_open(struct doorbells **out_doorbells, int channel,
                               struct llm_error *error)
{
    struct llm_error reason;
    if (doorbells_uring_open(out_doorbells, channel, DOORBELLS_COMPLETION_MAX, &reason) == LLM_OK) {
        log_line(LOG_LEVEL_INFO, "parking=%s", (*out_doorbells)->ops->name);
        return LLM_OK;
    }
    enum llm_status status = doorbells_epoll_open(out_doorbells, channel, error);
    if (status == LLM_OK)
        log_line(LOG_LEVEL_INFO, "parking=%s reason=\"%s\"", (*out_doorbells)->ops->name,
                 reason.message);
    return status;
}
