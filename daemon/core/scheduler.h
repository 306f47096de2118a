/*
 * scheduler.h - who computes how many tokens in the next step.
 *
 * Idea     One loop, no phases. A step has a budget of tokens. First every running request that wants one
 *          token gets it; then the others, oldest first, get their users' equal shares of what is left, in
 *          chunks; then waiting requests start while budget, seats and blocks last; what nobody else wanted
 *          goes to those who want more. Users take turns at starting, so that nobody waits behind another's
 *          queue, and one user cannot have every seat, so that nobody waits behind another's answers.
 * Blocks   An elder that finds no block, also after eviction, preempts the youngest; its full blocks stay
 *          cached, so coming back is cheap. The youngest itself just sits the step out. Preempted requests
 *          come back before anybody new starts, and everybody keeps the age of the first start: so the
 *          eldest always moves, each request becomes the eldest at last, and nobody starves.
 * Owner    core.c.
 * Threads  The engine thread.
 * See      request.h, README.md (rules 7 to 10), tests/daemon/test_scheduler.c.
 */
#ifndef LLMD_CORE_SCHEDULER_H
#define LLMD_CORE_SCHEDULER_H

#include "daemon/core/request.h"

struct scheduler_limits {
    uint32_t running_max;
    uint32_t user_running_max; /* seats of one user */
    uint32_t step_tokens;      /* at least running_max */
    uint32_t queued_max;
    uint32_t user_queued_max;
    uint32_t score_rows; /* scored in one step, over all requests */
};

/* A user with waiting requests; users stand in a ring, the head's turn is next. */
struct user {
    uint32_t uid;
    struct request_list queue;
    uint32_t prev, next; /* in the ring, or next in the list of free entries */
};

/* While a plan is made: a user with a prompt to compute, or about to start one. */
struct user_share {
    uint32_t uid;
    uint32_t granted_tokens;
};

struct scheduler {
    struct request *requests; /* [request_slots] */
    struct kv_cache *cache;
    struct effect_list *effects;
    struct user *users; /* [request_slots] */
    uint32_t request_slots;
    struct scheduler_limits limits;
    struct request_list running;   /* by order: the eldest first */
    struct request_list preempted; /* by order */
    uint32_t ring_head, ring_tail; /* users; REQUEST_NONE when nobody waits */
    uint32_t free_users;
    uint32_t queued_count; /* in the users' queues */
    uint64_t starts;       /* first starts so far: the next order */
    uint64_t preemptions;
    uint64_t tokens_cached;
    /* while a plan is made */
    uint32_t budget_tokens;
    uint32_t budget_scores;
    uint64_t found_tokens; /* in the cache, of requests that start in this step */
    bool short_of_blocks;
    struct user_share *shares; /* [request_slots], of which share_count are filled */
    uint32_t share_count;
    uint32_t share_tokens; /* what each of them may have */
};

void scheduler_init(struct scheduler *scheduler, struct arena *arena, struct request *requests,
                    uint32_t request_slots, struct kv_cache *cache, struct effect_list *effects,
                    const struct scheduler_limits *limits);

/* Append a request to its user's queue. LLM_ERR_BUSY: the queue, or this user's part, is full (not with
 * `recovered`). */
enum llm_status scheduler_queue(struct scheduler *scheduler, uint32_t slot, bool recovered,
                                struct llm_error *error) LLM_MUST_CHECK;
/* Take a request out of whichever list it is in; it holds no block afterwards. */
void scheduler_remove(struct scheduler *scheduler, uint32_t slot);
/* Set planned_tokens of every running request, with blocks for them. Returns their sum. */
uint32_t scheduler_plan(struct scheduler *scheduler);

/* "Every request is in the list of its state, lists are ordered, counts are those of a walk." */
enum llm_status scheduler_sane(const struct scheduler *scheduler, struct llm_error *error)
    LLM_MUST_CHECK;

#endif
