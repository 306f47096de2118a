#include "daemon/core/scheduler.h"

/* ---- The invariant, walked -------------------------------------------------------------------------- */

static enum llm_status sane_list(const struct scheduler *s, const struct request_list *list,
                                 enum request_state state, const char *name,
                                 struct llm_error *error)
{
    uint32_t count = 0;
    uint64_t order = 0;
    for (uint32_t slot = list->head; slot != REQUEST_NONE; slot = s->requests[slot].next) {
        if (slot >= s->request_slots || s->requests[slot].state != state || ++count > list->count)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "scheduler: request slot %u stands in the %s list", slot, name);
        const struct request *r = &s->requests[slot];
        uint64_t place = state == REQUEST_QUEUED ? r->arrival : r->order;
        if (place <= order)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "scheduler: request slot %u stands before an elder in the %s list",
                            slot, name);
        order = place;
    }
    if (count != list->count)
        return llm_fail(error, LLM_ERR_CORRUPT, "scheduler: %u requests are %s, counted are %u",
                        count, name, list->count);
    return LLM_OK;
}

static enum llm_status sane_user(const struct scheduler *s, const struct user *user,
                                 struct llm_error *error)
{
    enum llm_status status = LLM_OK;
    uint32_t live = user->seats, queued = 0;
    uint64_t tokens = 0;
    for (uint32_t rank = 0; rank < TURN_CLASSES && status == LLM_OK; rank++) {
        const struct turn *turn = &user->turns[rank];
        live += turn_waiting(turn);
        queued += turn->queued.count;
        status = sane_list(s, &turn->queued, REQUEST_QUEUED, "queued", error);
        if (status == LLM_OK)
            status = sane_list(s, &turn->preempted, REQUEST_PREEMPTED, "preempted", error);
        for (uint32_t at = turn->queued.head; status == LLM_OK && at != REQUEST_NONE;
             at = s->requests[at].next)
            tokens += s->requests[at].queued_tokens;
    }
    if (status == LLM_OK &&
        (live != user->live || queued != user->queued || tokens != user->queued_tokens))
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "scheduler: user %u has %u requests, %u and %llu tokens waiting; counted "
                        "are %u, %u and %llu",
                        user->uid, user->live, user->queued,
                        (unsigned long long)user->queued_tokens, live, queued,
                        (unsigned long long)tokens);
    return status;
}

/* Seats and waiting requests of all users are those of the scheduler. */
static enum llm_status sane_users(const struct scheduler *s, struct llm_error *error)
{
    enum llm_status status = turns_sane(&s->turns, error);
    uint32_t seats = 0, queued = 0, preempted = 0;
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < s->turns.active_count && status == LLM_OK; i++) {
        const struct user *user = &s->turns.users[s->turns.active[i]];
        status = sane_user(s, user, error);
        seats += user->seats;
        queued += user->queued;
        tokens += user->queued_tokens;
        for (uint32_t rank = 0; rank < TURN_CLASSES; rank++)
            preempted += user->turns[rank].preempted.count;
    }
    if (status == LLM_OK && (seats != s->running.count || queued != s->queued_count ||
                             preempted != s->preempted_count || tokens != s->queued_tokens))
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "scheduler: %u run, %u wait and %u are preempted; of the users it is %u, "
                        "%u and %u",
                        s->running.count, s->queued_count, s->preempted_count, seats, queued,
                        preempted);
    return status;
}

enum llm_status scheduler_sane(const struct scheduler *s, struct llm_error *error)
{
    enum llm_status status = sane_users(s, error);
    if (status == LLM_OK)
        status = sane_list(s, &s->running, REQUEST_RUNNING, "running", error);
    uint32_t taken = 0;
    for (uint32_t slot = 0; slot < s->request_slots; slot++)
        taken += s->requests[slot].state != REQUEST_FREE;
    if (status == LLM_OK && taken != scheduler_waiting(s) + s->running.count)
        return llm_fail(error, LLM_ERR_CORRUPT, "scheduler: %u requests, but %u stand in a list",
                        taken, scheduler_waiting(s) + s->running.count);
    return status;
}
