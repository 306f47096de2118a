#include "daemon/core/turns.h"

#include "shm/check.h"

void turns_init(struct turns *turns, struct arena *arena, uint32_t request_slots)
{
    *turns = (struct turns){.user_count = 2 * request_slots};
    turns->users = arena_take(arena, turns->user_count, sizeof *turns->users);
    turns->active = arena_take(arena, request_slots, sizeof *turns->active);
}

uint32_t turns_find(const struct turns *turns, uint32_t uid)
{
    for (uint32_t i = 0; i < turns->active_count; i++)
        if (turns->users[turns->active[i]].uid == uid)
            return turns->active[i];
    return USER_NONE;
}

/* ---- Coming and going: who owes is remembered --------------------------------------------------------- */

/* What `user` is ahead of the levels, at the most. */
static uint64_t debt_of(const struct turns *turns, const struct user *user)
{
    uint64_t most = 0;
    for (uint32_t rank = 0; rank < TURN_CLASSES; rank++) {
        uint64_t clock = user->turns[rank].clock;
        uint64_t debt = clock > turns->level[rank] ? clock - turns->level[rank] : 0;
        most = debt > most ? debt : most;
    }
    return most;
}

/* The remembered entry of `uid`, or else that of whoever owes least. */
static uint32_t entry_for(const struct turns *turns, uint32_t uid)
{
    uint32_t best = USER_NONE;
    uint64_t best_debt = UINT64_MAX;
    for (uint32_t i = 0; i < turns->user_count; i++) {
        const struct user *user = &turns->users[i];
        if (user->live > 0)
            continue;
        uint64_t debt = debt_of(turns, user);
        if (user->uid == uid && debt > 0)
            return i;
        if (debt < best_debt) {
            best = i;
            best_debt = debt;
        }
    }
    CHECK(best != USER_NONE); /* there are more entries than requests */
    return best;
}

static void clear_turn(struct turn *turn, uint64_t clock)
{
    *turn = (struct turn){
        .clock = clock, .queued = REQUEST_LIST_EMPTY, .preempted = REQUEST_LIST_EMPTY};
}

uint32_t turns_enter(struct turns *turns, uint32_t uid, uint32_t weight, uint32_t seats_max)
{
    uint32_t user = turns_find(turns, uid);
    if (user == USER_NONE) {
        user = entry_for(turns, uid);
        struct user *entry = &turns->users[user];
        for (uint32_t rank = 0; rank < TURN_CLASSES; rank++) {
            uint64_t clock = entry->uid == uid ? entry->turns[rank].clock : 0;
            uint64_t level = turns->level[rank];
            clear_turn(&entry->turns[rank], clock > level ? clock : level);
        }
        entry->uid = uid;
        entry->place = turns->active_count;
        turns->active[turns->active_count++] = user;
    }
    struct user *entry = &turns->users[user];
    CHECK(weight >= 1 && weight <= TURN_WEIGHT_MAX && seats_max > 0);
    entry->weight = weight;
    entry->seats_max = seats_max;
    entry->live++;
    return user;
}

void turns_leave(struct turns *turns, uint32_t user)
{
    struct user *entry = &turns->users[user];
    CHECK(entry->live > 0);
    if (--entry->live > 0)
        return;
    uint32_t last = turns->active[--turns->active_count];
    turns->active[entry->place] = last;
    turns->users[last].place = entry->place;
}

/* ---- A plan ------------------------------------------------------------------------------------------- */

void turns_begin(struct turns *turns)
{
    for (uint32_t i = 0; i < turns->active_count; i++)
        for (uint32_t rank = 0; rank < TURN_CLASSES; rank++) {
            struct turn *turn = &turns->users[turns->active[i]].turns[rank];
            turn->granted_tokens = turn->hungry = 0;
            turn->wants = false;
        }
}

static void level(struct turns *turns, uint32_t rank)
{
    uint64_t behind = UINT64_MAX, ahead = turns->level[rank];
    for (uint32_t i = 0; i < turns->active_count; i++) {
        const struct turn *turn = &turns->users[turns->active[i]].turns[rank];
        if (turn->wants && turn->clock < behind)
            behind = turn->clock;
        if (turn->clock > ahead)
            ahead = turn->clock;
    }
    turns->level[rank] = behind < UINT64_MAX ? behind : ahead;
    for (uint32_t i = 0; i < turns->active_count; i++) {
        struct turn *turn = &turns->users[turns->active[i]].turns[rank];
        if (turn->clock < turns->level[rank])
            turn->clock = turns->level[rank];
    }
}

void turns_end(struct turns *turns)
{
    for (uint32_t i = 0; i < turns->active_count; i++) {
        struct user *user = &turns->users[turns->active[i]];
        for (uint32_t rank = 0; rank < TURN_CLASSES; rank++) {
            user->turns[rank].clock = turn_clock(user, rank);
            user->turns[rank].granted_tokens = 0;
        }
    }
    for (uint32_t rank = 0; rank < TURN_CLASSES; rank++)
        level(turns, rank);
}

enum llm_status turns_sane(const struct turns *turns, struct llm_error *error)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < turns->user_count; i++)
        live += turns->users[i].live > 0;
    if (live != turns->active_count)
        return llm_fail(error, LLM_ERR_CORRUPT, "turns: %u users are active, %u have requests",
                        turns->active_count, live);
    for (uint32_t i = 0; i < turns->active_count; i++) {
        const struct user *user = &turns->users[turns->active[i]];
        if (user->place != i || user->live == 0)
            return llm_fail(error, LLM_ERR_CORRUPT, "turns: user %u is not at its place %u",
                            user->uid, i);
        for (uint32_t rank = 0; rank < TURN_CLASSES; rank++)
            if (user->turns[rank].clock < turns->level[rank])
                return llm_fail(error, LLM_ERR_CORRUPT,
                                "turns: user %u is behind the level of class %u", user->uid, rank);
    }
    return LLM_OK;
}
