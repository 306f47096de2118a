/*
 * scheduler.h - who computes how many tokens in the next step.
 *
 * Idea     One loop, no phases. A step has a budget of tokens. First every running request that wants one token gets it;
 *          then the budget goes, a quantum at a time, to whoever's turn it is: the highest class that wants, in it the
 *          user who is furthest behind (turns.h), of that user first what runs, eldest first, then who waits. One user
 *          cannot have every seat, so that nobody waits behind another's answers.
 * Entitled Of two running requests the one of the higher class is more entitled; in a class that of the user who is behind by
 *          more than SCHEDULER_MARGIN_STEPS steps' tokens, else the elder. Who finds no block, also after eviction, preempts
 *          the least entitled; who is that itself sits the step out. What was full of a preempted request stays cached, so
 *          coming back is cheap.
 * Overdue  Who is not done `overdue_steps` after it came is overdue, and the first of those that came is the `eldest`: more
 *          entitled than all others, whatever its class. It starts at once, at the cost of the least entitled, has a row in
 *          every step, or who makes what it waits for has one, and is never preempted. One at a time, so that a crowd of overdue requests is no way past the others.
 *          So everybody is done within overdue_steps, plus the steps of those who came before: nobody starves.
 * Thrash   A seat is taken from a batch request for an interactive one, and only when it had it for SCHEDULER_SEAT_STEPS.
 *          Two users take blocks from each other only when a margin's tokens were computed in between. Who was preempted
 *          comes back when there is a block to spare for everyone who runs, not just for itself.
 * Lag      A plan that is made while another is out preempts nobody. Who would have, waits, and nothing more is planned until no plan
 *          is out (README rule 22).
 * Owner    core.c.
 * Threads  The engine thread.
 * See      request.h, turns.h, scheduler_sane.c (the walk), README.md (rules 7 to 10), tests/daemon/test_scheduler.c, tests/sim/sim_order.h.
 */
#ifndef LLMD_CORE_SCHEDULER_H
#define LLMD_CORE_SCHEDULER_H

#include "daemon/core/request.h"
#include "daemon/core/turns.h"

#define SCHEDULER_SEAT_STEPS 16u /* that a batch request has a seat before it may be taken */
#define SCHEDULER_MARGIN_STEPS \
    16u /* behind by more than so many steps' tokens: more entitled than an elder */

struct scheduler_limits {
    uint32_t running_max;
    uint32_t user_running_max; /* seats of one user, unless its terms say another number */
    uint32_t step_tokens;      /* at least running_max */
    uint32_t queued_max;
    uint32_t user_queued_max;
    uint32_t score_rows; /* scored in one step, over all requests */
    uint64_t overdue_steps;
};

/* How a request stands in line. */
struct scheduler_terms {
    uint32_t rank;              /* 0..TURN_CLASSES-1 */
    uint32_t weight;            /* of its user: 1..TURN_WEIGHT_MAX */
    uint32_t seats_max;         /* of its user; 0: user_running_max */
    uint64_t queued_tokens_max; /* of its user; 0: any number */
    bool recovered;             /* the queue's bounds do not refuse it */
};

struct scheduler {
    struct request *requests; /* [request_slots] */
    struct kv_cache *cache;
    struct effect_list *effects;
    struct turns turns;
    uint32_t request_slots;
    struct scheduler_limits limits;
    struct request_list running; /* by order: the eldest first */
    uint32_t queued_count;       /* never started */
    uint32_t preempted_count;
    uint64_t queued_tokens; /* of the queued ones */
    uint64_t arrivals;      /* requests that came so far */
    uint64_t starts;        /* first starts so far: the next order */
    uint64_t plans;         /* made so far */
    uint64_t preemptions;
    uint64_t tokens_cached;
    bool waits_to_preempt; /* when `ahead`: nothing more is planned until no plan is out */
    uint32_t first;        /* of those that are here, who came first; REQUEST_NONE: look for it */
    /* while a plan is made */
    bool ahead;      /* another plan is out: nobody is preempted */
    uint32_t eldest; /* the one that is overdue; REQUEST_NONE: nobody is */
    uint32_t budget_tokens;
    uint32_t budget_scores;
    uint64_t found_tokens; /* in the cache, of requests that start in this step */
    bool
        starts_over; /* short of blocks, or whose turn it is does not fit: nobody starts any more */
    uint32_t *
        prompts; /* [prompt_count], room for 2 * running_max: those that are `hungry`, and some more */
    uint32_t prompt_count;
    uint32_t *
        line; /* [line_count], room for running_max: those that run and are not simply given a row */
    uint32_t line_count;
    uint32_t planned_tokens;
};

void scheduler_init(struct scheduler *scheduler, struct arena *arena, struct request *requests,
                    uint32_t request_slots, struct kv_cache *cache, struct effect_list *effects,
                    const struct scheduler_limits *limits);

/* Append a request to its user's queue. LLM_ERR_BUSY: the queue, or this user's part in requests or tokens, is full (not
 * with `recovered`). */
enum llm_status scheduler_queue(struct scheduler *scheduler, uint32_t slot,
                                const struct scheduler_terms *terms, struct llm_error *error)
    LLM_MUST_CHECK;
/* Take a request out of whichever list it is in; it holds no block afterwards. */
void scheduler_remove(struct scheduler *scheduler, uint32_t slot);
/* Set planned_tokens of every running request, with blocks for them. `ahead`: another plan is out. Returns their sum. */
uint32_t scheduler_plan(struct scheduler *scheduler, bool ahead);
/* Those that do not run. */
static inline uint32_t scheduler_waiting(const struct scheduler *scheduler)
{
    return scheduler->queued_count + scheduler->preempted_count;
}

/* "Every request is in the list of its state, lists are ordered, counts are those of a walk." */
enum llm_status scheduler_sane(const struct scheduler *scheduler, struct llm_error *error)
    LLM_MUST_CHECK;

#endif
