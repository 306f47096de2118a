#include "daemon/core/scheduler.h"

#include "shm/check.h"

#define USER_NONE REQUEST_NONE

/* Tokens that are found need no computing, but each block of them is hashed and compared: about a hundredth of the
 * work. After so many steps' worth no more requests start, lest one step wait for all of a long queue's. */
#define FOUND_STEPS 32

void scheduler_init(struct scheduler *scheduler, struct arena *arena, struct request *requests,
                    uint32_t request_slots, struct kv_cache *cache, struct effect_list *effects,
                    const struct scheduler_limits *limits)
{
    *scheduler = (struct scheduler){.requests = requests,
                                    .cache = cache,
                                    .effects = effects,
                                    .limits = *limits,
                                    .running = REQUEST_LIST_EMPTY,
                                    .preempted = REQUEST_LIST_EMPTY,
                                    .ring_head = USER_NONE,
                                    .ring_tail = USER_NONE,
                                    .request_slots = request_slots};
    scheduler->users = arena_take(arena, request_slots, sizeof *scheduler->users);
    scheduler->shares = arena_take(arena, request_slots, sizeof *scheduler->shares);
    if (!arena->base)
        return;
    for (uint32_t u = 0; u < request_slots; u++)
        scheduler->users[u].next = u + 1 < request_slots ? u + 1 : USER_NONE;
}

/* ---- Users: in the ring exactly while they have waiting requests ------------------------------------ */

static void ring_append(struct scheduler *s, uint32_t user)
{
    s->users[user].prev = s->ring_tail;
    s->users[user].next = USER_NONE;
    *(s->ring_tail == USER_NONE ? &s->ring_head : &s->users[s->ring_tail].next) = user;
    s->ring_tail = user;
}

static void ring_remove(struct scheduler *s, uint32_t user)
{
    const struct user *u = &s->users[user];
    *(u->prev == USER_NONE ? &s->ring_head : &s->users[u->prev].next) = u->next;
    *(u->next == USER_NONE ? &s->ring_tail : &s->users[u->next].prev) = u->prev;
}

static uint32_t user_find(const struct scheduler *s, uint32_t uid)
{
    uint32_t user = s->ring_head;
    while (user != USER_NONE && s->users[user].uid != uid)
        user = s->users[user].next;
    return user;
}

static uint32_t user_enter(struct scheduler *s, uint32_t uid)
{
    uint32_t user = s->free_users;
    CHECK(user != USER_NONE); /* as many entries as requests */
    s->free_users = s->users[user].next;
    s->users[user].uid = uid;
    s->users[user].queue = REQUEST_LIST_EMPTY;
    ring_append(s, user);
    return user;
}

static void user_leave(struct scheduler *s, uint32_t user)
{
    ring_remove(s, user);
    s->users[user].next = s->free_users;
    s->free_users = user;
}

enum llm_status scheduler_queue(struct scheduler *s, uint32_t slot, bool recovered,
                                struct llm_error *error)
{
    struct request *r = &s->requests[slot];
    uint32_t user = user_find(s, r->uid);
    uint32_t own = user == USER_NONE ? 0 : s->users[user].queue.count;
    if (!recovered && s->queued_count >= s->limits.queued_max)
        return llm_fail(error, LLM_ERR_BUSY, "all %u places of the queue are taken; try again",
                        s->limits.queued_max);
    if (!recovered && own >= s->limits.user_queued_max)
        return llm_fail(error, LLM_ERR_BUSY,
                        "user %u has %u requests waiting, as many as one user may; try again",
                        r->uid, own);
    r->user = user == USER_NONE ? user_enter(s, r->uid) : user;
    r->state = REQUEST_QUEUED;
    request_list_append(&s->users[r->user].queue, s->requests, slot);
    s->queued_count++;
    return LLM_OK;
}

static void unqueue(struct scheduler *s, uint32_t slot)
{
    uint32_t user = s->requests[slot].user;
    request_list_remove(&s->users[user].queue, s->requests, slot);
    s->queued_count--;
    if (s->users[user].queue.count == 0)
        user_leave(s, user);
}

static void leave_list(struct scheduler *s, uint32_t slot)
{
    struct request *r = &s->requests[slot];
    CHECK(r->state != REQUEST_FREE);
    if (r->state == REQUEST_QUEUED)
        unqueue(s, slot);
    else
        request_list_remove(r->state == REQUEST_RUNNING ? &s->running : &s->preempted, s->requests,
                            slot);
}

void scheduler_remove(struct scheduler *s, uint32_t slot)
{
    leave_list(s, slot);
    request_release(&s->requests[slot], s->cache);
}

/* ---- Planning --------------------------------------------------------------------------------------- */

/* Make room for `elder` by sending the youngest back to wait. False: `elder` is itself the youngest. */
static bool preempt_youngest(struct scheduler *s, const struct request *elder)
{
    uint32_t slot = s->running.tail;
    struct request *youngest = &s->requests[slot];
    if (youngest == elder)
        return false;
    s->budget_tokens += youngest->planned_tokens;
    s->budget_scores += request_scored_rows(youngest, youngest->planned_tokens);
    scheduler_remove(s, slot);
    youngest->state = REQUEST_PREEMPTED;
    request_list_insert(&s->preempted, s->requests, slot);
    effect_request(s->effects, CORE_REQUEST_PREEMPTED, slot, 0);
    s->preemptions++;
    return true;
}

static void use_cached(struct scheduler *s, struct request *r, uint32_t tokens)
{
    request_credit(r, tokens);
    s->tokens_cached += tokens;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Does another request fill the block that r would begin? */
static bool is_being_made(const struct scheduler *s, const struct request *r)
{
    uint32_t slot = request_may_wait(r) ? s->running.head : REQUEST_NONE;
    while (slot != REQUEST_NONE && !request_is_made_by(r, &s->requests[slot]))
        slot = s->requests[slot].next;
    return slot != REQUEST_NONE;
}

/* Take what others computed. False: r sits this step out, because another computes what it wants next (README rule
 * 16). */
static bool prepare(struct scheduler *s, struct request *r)
{
    use_cached(s, r, request_match(r, s->cache));
    if (is_being_made(s, r))
        return false;
    use_cached(s, r, request_copy(r, s->cache));
    return true;
}

/* Plan as many of r's tokens, at most `tokens_max`, as budget and blocks allow. Every block taken gets at least one
 * row, now or copied. */
static void grant(struct scheduler *s, struct request *r, uint32_t tokens_max)
{
    if (s->budget_tokens == 0 || !prepare(s, r))
        return;
    uint32_t tokens = least(least(request_wants(r), tokens_max), s->budget_tokens);
    tokens = request_rows_scoring(r, tokens, s->budget_scores);
    while (request_room(r) < r->computed + tokens) {
        if (request_grow(r, s->cache))
            continue;
        s->short_of_blocks = true;
        if (!preempt_youngest(s, r))
            tokens = request_room(r) - r->computed; /* what fits; with 0, r sits this step out */
    }
    r->planned_tokens = tokens;
    s->budget_tokens -= tokens;
    s->budget_scores -= request_scored_rows(r, tokens);
}

/* Those that want exactly one token: answers, mostly. Whoever is preempted on the way stands behind the one it
 * made room for, so the walk never loses its place; nor does that of grant_shares(). */
static void grant_singles(struct scheduler *s)
{
    for (uint32_t slot = s->running.head; slot != REQUEST_NONE; slot = s->requests[slot].next)
        if (request_wants(&s->requests[slot]) == 1)
            grant(s, &s->requests[slot], 1);
}

static bool wants_a_share(const struct request *r)
{
    return r->planned_tokens == 0 && request_wants(r) > 1;
}

static struct user_share *share_of(struct scheduler *s, uint32_t uid)
{
    uint32_t i = 0;
    while (i < s->share_count && s->shares[i].uid != uid)
        i++;
    if (i == s->share_count)
        s->shares[s->share_count++] = (struct user_share){.uid = uid};
    return &s->shares[i];
}

static uint32_t seats_of(const struct scheduler *s, uint32_t uid)
{
    uint32_t seats = 0;
    for (uint32_t slot = s->running.head; slot != REQUEST_NONE; slot = s->requests[slot].next)
        seats += s->requests[slot].uid == uid;
    return seats;
}

static bool may_have_a_seat(const struct scheduler *s, uint32_t user)
{
    return s->running.count < s->limits.running_max &&
           (s->limits.user_running_max == s->limits.running_max ||
            seats_of(s, s->users[user].uid) < s->limits.user_running_max);
}

/* From `user` on in the ring, the first who may have another seat. */
static uint32_t next_user(const struct scheduler *s, uint32_t user)
{
    while (user != USER_NONE && !may_have_a_seat(s, user))
        user = s->users[user].next;
    return user;
}

/* Preempted requests by age, before the user whose turn it is. */
static uint32_t next_waiting(const struct scheduler *s)
{
    if (s->running.count == s->limits.running_max)
        return REQUEST_NONE;
    if (s->preempted.count > 0)
        return s->preempted.head;
    uint32_t user = next_user(s, s->ring_head);
    return user == USER_NONE ? REQUEST_NONE : s->users[user].queue.head;
}

static void count_shares(struct scheduler *s)
{
    s->share_count = 0;
    for (uint32_t slot = s->running.head; slot != REQUEST_NONE; slot = s->requests[slot].next)
        if (wants_a_share(&s->requests[slot]))
            share_of(s, s->requests[slot].uid);
    for (uint32_t user = next_user(s, s->ring_head); user != USER_NONE;
         user = next_user(s, s->users[user].next))
        share_of(s, s->users[user].uid);
    s->share_tokens = s->share_count > 0 ? s->budget_tokens / s->share_count : 0;
}

/* At least one token: the eldest always moves, and who starts has a row. */
static uint32_t rest_of_share(struct scheduler *s, uint32_t uid)
{
    uint32_t granted = share_of(s, uid)->granted_tokens;
    return granted < s->share_tokens ? s->share_tokens - granted : 1;
}

/* Prompts, oldest first, but of each user no more than its share. Users who wait have a share too, which is left
 * over for those who start. */
static void grant_shares(struct scheduler *s)
{
    count_shares(s);
    for (uint32_t slot = s->running.head; slot != REQUEST_NONE; slot = s->requests[slot].next) {
        struct request *r = &s->requests[slot];
        if (!wants_a_share(r))
            continue;
        struct user_share *share = share_of(s, r->uid);
        if (share->granted_tokens > 0 && share->granted_tokens >= s->share_tokens)
            continue;
        grant(s, r, rest_of_share(s, r->uid));
        share->granted_tokens += r->planned_tokens;
    }
}

/* Who starts while others wait leaves them theirs. */
static void grant_first(struct scheduler *s, struct request *r)
{
    uint32_t user = next_user(s, s->ring_head);
    bool alone = user == USER_NONE ||
                 (s->users[user].uid == r->uid && next_user(s, s->users[user].next) == USER_NONE);
    grant(s, r, alone ? UINT32_MAX : rest_of_share(s, r->uid));
    share_of(s, r->uid)->granted_tokens += r->planned_tokens;
}

/* What is left when everybody had a share and nobody starts any more: oldest first; nobody is preempted for it. */
static void grant_rest(struct scheduler *s)
{
    for (uint32_t slot = s->running.head; slot != REQUEST_NONE && s->budget_tokens > 0;
         slot = s->requests[slot].next) {
        struct request *r = &s->requests[slot];
        if (r->planned_tokens == 0 && !prepare(s, r))
            continue;
        uint32_t end = r->computed + r->planned_tokens;
        uint32_t scored = request_scored_rows(r, r->planned_tokens);
        uint32_t tokens = least(request_wants(r) - r->planned_tokens, s->budget_tokens);
        tokens = request_rows_scoring(r, r->planned_tokens + tokens, scored + s->budget_scores) -
                 r->planned_tokens;
        while (request_room(r) < end + tokens && request_grow(r, s->cache))
            ;
        tokens = least(tokens, request_room(r) - end);
        r->planned_tokens += tokens;
        s->budget_tokens -= tokens;
        s->budget_scores -= request_scored_rows(r, r->planned_tokens) - scored;
    }
}

/* Can all tokens known by now, and the next, have blocks without preempting anybody? If so r has matched
 * what is cached; if not it holds nothing. */
static bool fits_now(struct scheduler *s, struct request *r, uint32_t *out_matched_tokens)
{
    uint32_t rows = least(r->tokens + 1, request_rows_end(r));
    *out_matched_tokens = request_match(r, s->cache);
    if (kv_pool_available(&s->cache->pool, r->root.model) >=
        request_blocks_for(r, rows) - r->block_count)
        return true;
    request_release(r, s->cache);
    return false;
}

static void turn_over(struct scheduler *s, uint32_t user)
{
    ring_remove(s, user);
    ring_append(s, user);
}

static bool start_next(struct scheduler *s)
{
    uint32_t slot = next_waiting(s);
    uint32_t matched_tokens;
    if (slot == REQUEST_NONE || !fits_now(s, &s->requests[slot], &matched_tokens))
        return false;
    struct request *r = &s->requests[slot];
    if (r->state == REQUEST_QUEUED) {
        turn_over(s, r->user);
        r->order = ++s->starts;
    }
    leave_list(s, slot);
    r->state = REQUEST_RUNNING;
    request_list_insert(&s->running, s->requests, slot);
    effect_request(s->effects, CORE_REQUEST_STARTED, slot, 0);
    s->found_tokens += matched_tokens;
    use_cached(s, r, matched_tokens);
    grant_first(s, r);
    return true;
}

static void plan_once(struct scheduler *s)
{
    s->budget_tokens = s->limits.step_tokens;
    s->budget_scores = s->limits.score_rows;
    s->short_of_blocks = false;
    s->found_tokens = 0;
    grant_singles(s);
    grant_shares(s);
    while (!s->short_of_blocks && s->budget_tokens > 0 &&
           s->found_tokens < FOUND_STEPS * s->limits.step_tokens && start_next(s))
        ;
    if (s->share_count > 1) /* a single user's share was all there was */
        grant_rest(s);
}

/* An elder may have waited for one who was preempted for nothing, a block of another model's slab: then nobody moves,
 * and nobody is waited for the next time. */
uint32_t scheduler_plan(struct scheduler *s)
{
    uint64_t preemptions;
    do {
        preemptions = s->preemptions;
        plan_once(s);
    } while (s->budget_tokens == s->limits.step_tokens && s->preemptions > preemptions);
    return s->limits.step_tokens - s->budget_tokens;
}

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
        if (state != REQUEST_QUEUED && r->order <= order)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "scheduler: request slot %u stands before an elder in the %s list",
                            slot, name);
        order = r->order;
    }
    if (count != list->count)
        return llm_fail(error, LLM_ERR_CORRUPT, "scheduler: %u requests are %s, counted are %u",
                        count, name, list->count);
    return LLM_OK;
}

static enum llm_status sane_users(const struct scheduler *s, struct llm_error *error)
{
    uint32_t queued = 0;
    for (uint32_t user = s->ring_head; user != USER_NONE; user = s->users[user].next) {
        const struct user *u = &s->users[user];
        if (u->queue.count == 0)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "scheduler: user %u has a turn and nothing waiting", u->uid);
        enum llm_status status = sane_list(s, &u->queue, REQUEST_QUEUED, "queued", error);
        if (status != LLM_OK)
            return status;
        queued += u->queue.count;
    }
    if (queued != s->queued_count)
        return llm_fail(error, LLM_ERR_CORRUPT, "scheduler: %u requests wait, counted are %u",
                        queued, s->queued_count);
    return LLM_OK;
}

enum llm_status scheduler_sane(const struct scheduler *s, struct llm_error *error)
{
    enum llm_status status = sane_users(s, error);
    if (status == LLM_OK)
        status = sane_list(s, &s->running, REQUEST_RUNNING, "running", error);
    if (status == LLM_OK)
        status = sane_list(s, &s->preempted, REQUEST_PREEMPTED, "preempted", error);
    uint32_t taken = 0;
    for (uint32_t slot = 0; slot < s->request_slots; slot++)
        taken += s->requests[slot].state != REQUEST_FREE;
    if (status == LLM_OK && taken != s->queued_count + s->running.count + s->preempted.count)
        return llm_fail(error, LLM_ERR_CORRUPT, "scheduler: %u requests, but %u stand in a list",
                        taken, s->queued_count + s->running.count + s->preempted.count);
    return status;
}
