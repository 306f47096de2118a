/*
 * turns.h - whose turn it is: what each user has been given, in each class.
 *
 * Idea     A clock for each user and class counts the tokens computed for it, divided by the user's weight. Who is behind is
 *          next. Two users who always want something stay as close as what one of them has running (README rule 9), however many
 *          requests either sends: virtual token time, as in Sheng et al., "Fairness in Serving Large Language Models",
 *          OSDI 2024.
 * Level    Only who wants and does not get may be behind. After each plan everybody else is brought up to the `level` of
 *          its class, the clock of the one who is furthest behind of those who want; when nobody wants, that of the
 *          furthest ahead: a step in which all were satisfied leaves no debts. So who comes back after a pause has no credit.
 *          Who leaves ahead of the level is remembered, so that leaving and coming back pays off no debt.
 * Owner    scheduler.c.
 * Threads  The engine thread.
 * See      scheduler.h, README.md (rules 7 to 9), tests/daemon/test_turns.c.
 */
#ifndef LLMD_CORE_TURNS_H
#define LLMD_CORE_TURNS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/request.h"

#define TURN_CLASSES     3u /* 0 interactive, 1 normal, 2 batch */
#define TURN_INTERACTIVE 0u
#define TURN_BATCH       2u
#define TURN_TOKEN       (UINT64_C(1) << 20) /* of a clock, for a token at weight 1 */
#define TURN_WEIGHT_MAX  1000u
#define USER_NONE        REQUEST_NONE

/* A user in one class. */
struct turn {
    uint64_t clock;      /* after the last plan */
    uint64_t last_start; /* of two with one clock, who has waited longer for a start is next */
    struct request_list queued;    /* by arrival: never started */
    struct request_list preempted; /* by age: before the queued ones */
    uint32_t granted_tokens;       /* in the plan that is being made */
    uint32_t hungry;               /* ... running requests that may have more of it */
    bool wants;                    /* ... more than it got */
};

struct user {
    uint32_t uid;
    uint32_t weight;    /* 1..TURN_WEIGHT_MAX */
    uint32_t seats_max; /* of its requests in one step */
    uint32_t live;      /* its requests in any list; 0: only remembered, or free */
    uint32_t seats;     /* running */
    uint32_t queued;    /* never started, of all classes */
    uint64_t queued_tokens;
    struct turn turns[TURN_CLASSES];
    uint32_t place; /* in `active`, while live > 0 */
};

struct turns {
    struct user *users; /* [user_count] */
    uint32_t *active;   /* [active_count] those with live requests, in no order */
    uint32_t user_count;
    uint32_t active_count;
    uint64_t level[TURN_CLASSES];
};

/* Twice as many users as requests: half of them only remembered. */
void turns_init(struct turns *turns, struct arena *arena, uint32_t request_slots);
/* The user's entry; USER_NONE: it has no live request. */
uint32_t turns_find(const struct turns *turns, uint32_t uid);
/* One more live request of `uid`; weight and seats_max hold from now on. And one less. */
uint32_t turns_enter(struct turns *turns, uint32_t uid, uint32_t weight, uint32_t seats_max);
void turns_leave(struct turns *turns, uint32_t user);

/* The clock, with what the plan that is being made has granted so far. */
static inline uint64_t turn_clock(const struct user *user, uint32_t rank)
{
    const struct turn *turn = &user->turns[rank];
    return turn->clock + turn->granted_tokens * TURN_TOKEN / user->weight;
}
static inline uint32_t turn_waiting(const struct turn *turn)
{
    return turn->queued.count + turn->preempted.count;
}
/* Who waits first: who was preempted, then who came first. REQUEST_NONE: nobody. */
static inline uint32_t turn_first(const struct turn *turn)
{
    return turn->preempted.count > 0 ? turn->preempted.head : turn->queued.head;
}

/* Nothing is granted or wanted yet. */
void turns_begin(struct turns *turns);
/* The plan is made: clocks go on by what was granted, and those who want nothing are levelled. */
void turns_end(struct turns *turns);

/* "Active users are those with live requests, and no clock is behind its level." */
enum llm_status turns_sane(const struct turns *turns, struct llm_error *error) LLM_MUST_CHECK;

#endif
