/*
 * in_flight.h - has every request gone on since a moment?
 *
 * Idea     A request that is in flight at two engine deaths in a row without a token between them is given up as poison.
 *          Tests that kill engine after engine and want every answer remember what is in flight once the new engine
 *          is ready, and kill again when each of those has a token more or is no more.
 */
#ifndef TESTS_SUPPORT_IN_FLIGHT_H
#define TESTS_SUPPORT_IN_FLIGHT_H

#include <stdbool.h>

#include "shm/status_file.h"

struct in_flight {
    struct {
        uint64_t id;
        uint32_t produced_tokens;
    } request[LLM_STATUS_REQUESTS_MAX];
};

static inline uint32_t in_flight_count(const struct llm_status_file *status)
{
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < LLM_STATUS_REQUESTS_MAX; slot++)
        count += atomic_load(&status->requests[slot].request_id) != 0;
    return count;
}

static inline void in_flight_remember(struct in_flight *seen, const struct llm_status_file *status)
{
    for (uint32_t slot = 0; slot < LLM_STATUS_REQUESTS_MAX; slot++) {
        const struct llm_status_request *row = &status->requests[slot];
        seen->request[slot].produced_tokens = atomic_load(&row->produced_tokens);
        seen->request[slot].id = atomic_load(&row->request_id);
    }
}

static inline bool in_flight_moved(const struct in_flight *seen,
                                   const struct llm_status_file *status)
{
    for (uint32_t slot = 0; slot < LLM_STATUS_REQUESTS_MAX; slot++) {
        const struct llm_status_request *row = &status->requests[slot];
        if (seen->request[slot].id != 0 &&
            atomic_load(&row->request_id) == seen->request[slot].id &&
            atomic_load(&row->produced_tokens) <= seen->request[slot].produced_tokens)
            return false;
    }
    return true;
}

#endif
