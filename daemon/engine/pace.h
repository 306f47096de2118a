/*
 * pace.h - how long until a request ends, for whoever is told to come back later.
 *
 * Idea     A moving average of the time between two ends of requests, while there are any: each end makes a place. Who
 *          waits for one of its own places waits as many times longer as it has fewer of the requests.
 * Owner    The engine thread.
 * Threads  One.
 * See      request.c (requests_find_free), intake.c (place), tests/daemon/test_pace.c.
 */
#ifndef LLMD_ENGINE_PACE_H
#define LLMD_ENGINE_PACE_H

#include <stdint.h>

#include "shm/status.h"

#define PACE_HINT_MS_MAX 600000u

struct pace {
    uint64_t
        last_ns; /* of the last end, or of the first beginning since there was none; 0: nobody is there */
    uint64_t average_ns; /* between two ends; 0: none yet */
};

/* A request came, or ended and left `live` others. */
void pace_begun(struct pace *pace, uint64_t now_ns);
void pace_ended(struct pace *pace, uint64_t now_ns, uint32_t live);

/* When one of `own` out of `live` requests is likely to have ended; 1..PACE_HINT_MS_MAX. */
uint32_t pace_hint_ms(const struct pace *pace, uint64_t now_ns, uint32_t own, uint32_t live);
/* Append "in about N ms" to a sentence that ends with "try again". */
void pace_say(const struct pace *pace, uint64_t now_ns, uint32_t own, uint32_t live,
              struct llm_error *error);

#endif
