#include "daemon/core/scheduler.h"

#include "shm/check.h"

/* Tokens that are found need no computing, but each block of them is hashed and compared: about a hundredth of the
 * work. After so many steps' worth no more requests start, lest one step wait for all of a long queue's. */
#define FOUND_STEPS 32

/* The budget is handed out in so many parts at least: users who are level alternate that finely. */
#define QUANTA 64

void scheduler_init(struct scheduler *scheduler, struct arena *arena, struct request *requests,
                    uint32_t request_slots, struct kv_cache *cache, struct effect_list *effects,
                    const struct scheduler_limits *limits)
{
    *scheduler = (struct scheduler){.requests = requests,
                                    .cache = cache,
                                    .effects = effects,
                                    .limits = *limits,
                                    .running = REQUEST_LIST_EMPTY,
                                    .first = REQUEST_NONE,
                                    .eldest = REQUEST_NONE,
                                    .request_slots = request_slots};
    turns_init(&scheduler->turns, arena, request_slots);
    scheduler->prompts =
        arena_take(arena, (size_t)2 * limits->running_max, sizeof *scheduler->prompts);
    scheduler->line = arena_take(arena, limits->running_max, sizeof *scheduler->line);
}

static struct user *user_of(const struct scheduler *s, const struct request *r)
{
    return &s->turns.users[r->user];
}

static struct turn *turn_of(const struct scheduler *s, const struct request *r)
{
    return &user_of(s, r)->turns[r->rank];
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* ---- The queue ---------------------------------------------------------------------------------------- */

static enum llm_status check_room(const struct scheduler *s, const struct request *r,
                                  const struct scheduler_terms *terms, struct llm_error *error)
{
    uint32_t user = turns_find(&s->turns, r->uid);
    uint32_t own = user == USER_NONE ? 0 : s->turns.users[user].queued;
    uint64_t own_tokens = user == USER_NONE ? 0 : s->turns.users[user].queued_tokens;
    if (s->queued_count >= s->limits.queued_max)
        return llm_fail(error, LLM_ERR_BUSY, "all %u places of the queue are taken; try again",
                        s->limits.queued_max);
    if (own >= s->limits.user_queued_max)
        return llm_fail(error, LLM_ERR_BUSY,
                        "user %u has %u requests waiting, as many as one user may; try again",
                        r->uid, own);
    /* The first may be as long as it likes: it would never be shorter. */
    if (terms->queued_tokens_max > 0 && own > 0 &&
        own_tokens + r->tokens > terms->queued_tokens_max)
        return llm_fail(error, LLM_ERR_BUSY,
                        "user %u has requests of %llu tokens waiting and may have %llu; %u more "
                        "are too many; try again",
                        r->uid, (unsigned long long)own_tokens,
                        (unsigned long long)terms->queued_tokens_max, r->tokens);
    return LLM_OK;
}

enum llm_status scheduler_queue(struct scheduler *s, uint32_t slot,
                                const struct scheduler_terms *terms, struct llm_error *error)
{
    struct request *r = &s->requests[slot];
    enum llm_status status = terms->recovered ? LLM_OK : check_room(s, r, terms, error);
    if (status != LLM_OK)
        return status;
    uint32_t seats_max = terms->seats_max > 0 ? terms->seats_max : s->limits.user_running_max;
    r->user = turns_enter(&s->turns, r->uid, terms->weight, seats_max);
    r->rank = terms->rank;
    r->arrival = ++s->arrivals;
    r->arrival_plan = s->plans;
    r->queued_tokens = r->tokens;
    r->maker = REQUEST_NONE;
    r->state = REQUEST_QUEUED;
    request_list_append(&turn_of(s, r)->queued, s->requests, slot);
    user_of(s, r)->queued++;
    user_of(s, r)->queued_tokens += r->queued_tokens;
    s->queued_tokens += r->queued_tokens;
    s->queued_count++;
    return LLM_OK;
}

static void unqueue(struct scheduler *s, uint32_t slot)
{
    struct request *r = &s->requests[slot];
    request_list_remove(&turn_of(s, r)->queued, s->requests, slot);
    user_of(s, r)->queued--;
    user_of(s, r)->queued_tokens -= r->queued_tokens;
    s->queued_tokens -= r->queued_tokens;
    s->queued_count--;
}

static void leave_list(struct scheduler *s, uint32_t slot)
{
    struct request *r = &s->requests[slot];
    CHECK(r->state != REQUEST_FREE);
    if (r->state == REQUEST_QUEUED) {
        unqueue(s, slot);
    } else if (r->state == REQUEST_PREEMPTED) {
        request_list_remove(&turn_of(s, r)->preempted, s->requests, slot);
        s->preempted_count--;
    } else {
        request_list_remove(&s->running, s->requests, slot);
        user_of(s, r)->seats--;
    }
}

void scheduler_remove(struct scheduler *s, uint32_t slot)
{
    leave_list(s, slot);
    request_release(&s->requests[slot], s->cache);
    turns_leave(&s->turns, s->requests[slot].user);
    if (s->first == slot)
        s->first = REQUEST_NONE;
}

static bool wants_more(const struct request *r)
{
    return request_wants(r) > r->planned_tokens;
}

/* ---- Who is more entitled ------------------------------------------------------------------------------- */

/* Is `clock` so far behind `other` that its user is more entitled? Within the margin age decides, lest two users who are
 * level take a block from each other in turns. */
static bool far_behind(const struct scheduler *s, uint64_t clock, uint64_t other)
{
    uint64_t margin = (uint64_t)SCHEDULER_MARGIN_STEPS * s->limits.step_tokens * TURN_TOKEN;
    return clock < other && other - clock > margin;
}

/* Of any two one is, never both; a third may close a circle, in which anybody will do. */
static bool more_entitled(const struct scheduler *s, uint32_t slot, uint32_t other)
{
    const struct request *a = &s->requests[slot], *b = &s->requests[other];
    if (slot == s->eldest || other == s->eldest)
        return slot == s->eldest;
    if (a->rank != b->rank)
        return a->rank < b->rank;
    uint64_t a_clock = turn_of(s, a)->clock, b_clock = turn_of(s, b)->clock;
    if (far_behind(s, a_clock, b_clock) || far_behind(s, b_clock, a_clock))
        return a_clock < b_clock;
    return a->order < b->order;
}

/* Who came first of all that are here, if it is overdue. */
static uint32_t find_eldest(struct scheduler *s)
{
    if (s->first == REQUEST_NONE)
        for (uint32_t slot = 0; slot < s->request_slots; slot++)
            if (s->requests[slot].state != REQUEST_FREE &&
                (s->first == REQUEST_NONE ||
                 s->requests[slot].arrival < s->requests[s->first].arrival))
                s->first = slot;
    if (s->first == REQUEST_NONE ||
        s->plans - s->requests[s->first].arrival_plan <= s->limits.overdue_steps)
        return REQUEST_NONE;
    return s->first;
}

/* ---- Prompts that may have more in this plan ------------------------------------------------------------- */

static void hunger(struct scheduler *s, uint32_t slot)
{
    struct request *r = &s->requests[slot];
    r->hungry = true;
    turn_of(s, r)->hungry++;
    s->prompts[s->prompt_count++] = slot;
}

static void sate(struct scheduler *s, struct request *r)
{
    turn_of(s, r)->hungry -= r->hungry;
    r->hungry = false;
}

/* The eldest of that turn; there is one. */
static uint32_t find_prompt(const struct scheduler *s, uint32_t user, uint32_t rank)
{
    uint32_t found = REQUEST_NONE;
    for (uint32_t i = 0; i < s->prompt_count; i++) {
        uint32_t slot = s->prompts[i];
        const struct request *r = &s->requests[slot];
        if (r->hungry && r->user == user && r->rank == rank &&
            (found == REQUEST_NONE || r->order < s->requests[found].order))
            found = slot;
    }
    CHECK(found != REQUEST_NONE);
    return found;
}

static void collect_prompts(struct scheduler *s)
{
    s->prompt_count = 0;
    for (uint32_t i = 0; i < s->line_count; i++) {
        const struct request *r = &s->requests[s->line[i]];
        if (r->state == REQUEST_RUNNING && request_wants(r) > 1 && wants_more(r))
            hunger(s, s->line[i]);
    }
}

/* ---- Preemption ----------------------------------------------------------------------------------------- */

/* Back to wait. What it was granted in this plan is not granted to another: so every block taken in a plan costs a
 * token of the budget (effects_max() in core.c). */
static void preempt(struct scheduler *s, uint32_t slot)
{
    struct request *r = &s->requests[slot];
    turn_of(s, r)->granted_tokens -= r->planned_tokens;
    s->planned_tokens -= r->planned_tokens;
    sate(s, r);
    leave_list(s, slot);
    request_release(r, s->cache);
    r->state = REQUEST_PREEMPTED;
    request_list_insert(&turn_of(s, r)->preempted, s->requests, slot);
    s->preempted_count++;
    effect_request(s->effects, CORE_REQUEST_PREEMPTED, slot, 0);
    s->preemptions++;
}

/* The least entitled of those that run and that `may` be preempted for `slot`; REQUEST_NONE: nobody. */
typedef bool may_preempt(const struct scheduler *s, uint32_t slot, uint32_t victim);

static uint32_t find_victim(const struct scheduler *s, uint32_t slot, may_preempt *may)
{
    uint32_t worst = REQUEST_NONE;
    for (uint32_t at = s->running.head; at != REQUEST_NONE; at = s->requests[at].next)
        if (at != s->eldest && may(s, slot, at) &&
            (worst == REQUEST_NONE || more_entitled(s, worst, at)))
            worst = at;
    return worst;
}

static bool user_is_full(const struct scheduler *s, const struct request *r)
{
    return user_of(s, r)->seats >= user_of(s, r)->seats_max;
}

/* For a block: whoever is less entitled. */
static bool may_for_block(const struct scheduler *s, uint32_t slot, uint32_t victim)
{
    return victim != slot && more_entitled(s, slot, victim);
}

/* For interactive work: batch work that had its seat for a while; its own user's when that user has every seat it may. */
static bool may_for_interactive(const struct scheduler *s, uint32_t slot, uint32_t victim)
{
    const struct request *r = &s->requests[slot], *v = &s->requests[victim];
    return v->rank == TURN_BATCH && s->plans - v->start_plan >= SCHEDULER_SEAT_STEPS &&
           (!user_is_full(s, r) || v->user == r->user);
}

/* For the eldest: anybody; of its own user when that one has every seat it may. */
static bool may_for_eldest(const struct scheduler *s, uint32_t slot, uint32_t victim)
{
    const struct request *r = &s->requests[slot];
    return !user_is_full(s, r) || s->requests[victim].user == r->user;
}

static bool preempt_for(struct scheduler *s, uint32_t slot, may_preempt *may)
{
    uint32_t victim = find_victim(s, slot, may);
    if (victim == REQUEST_NONE)
        return false;
    if (s->ahead) {
        s->waits_to_preempt = true; /* the plan that is out may name the victim */
        return false;
    }
    preempt(s, victim);
    return true;
}

/* ---- Granting ------------------------------------------------------------------------------------------- */

static void use_cached(struct scheduler *s, struct request *r, uint32_t tokens)
{
    request_credit(r, tokens);
    s->tokens_cached += tokens;
}

/* Who fills the block that r would begin; REQUEST_NONE: nobody. */
static uint32_t find_maker(const struct scheduler *s, const struct request *r)
{
    uint32_t slot = request_may_wait(r) ? s->running.head : REQUEST_NONE;
    while (slot != REQUEST_NONE && !request_is_made_by(r, &s->requests[slot]))
        slot = s->requests[slot].next;
    return slot;
}

/* Take what others computed. False: r sits this step out, because another computes what it wants next (README rule
 * 16). */
static bool prepare(struct scheduler *s, struct request *r)
{
    use_cached(s, r, request_match(r, s->cache));
    r->maker = find_maker(s, r);
    if (r->maker != REQUEST_NONE)
        return false;
    use_cached(s, r, request_copy(r, s->cache));
    return true;
}

/* How many more tokens of r may be planned. */
static uint32_t tokens_within(const struct scheduler *s, const struct request *r,
                              uint32_t tokens_max)
{
    uint32_t more = least(request_wants(r) - r->planned_tokens, tokens_max);
    more = least(more, s->budget_tokens);
    uint32_t scored = request_scored_rows(r, r->planned_tokens);
    return request_rows_scoring(r, r->planned_tokens + more, scored + s->budget_scores) -
           r->planned_tokens;
}

static void plan_rows(struct scheduler *s, struct request *r, uint32_t rows)
{
    r->planned_tokens += rows;
    s->planned_tokens += rows;
    s->budget_tokens -= rows;
    turn_of(s, r)->granted_tokens += rows;
}

/* Plan as many more of its tokens, at most `tokens_max`, as budget and blocks allow. Every block taken gets at least one
 * row, now or copied. Returns the tokens. */
static uint32_t grant(struct scheduler *s, uint32_t slot, uint32_t tokens_max)
{
    struct request *r = &s->requests[slot];
    if (s->budget_tokens == 0 || (r->planned_tokens == 0 && !prepare(s, r)))
        return 0;
    uint32_t end = request_next_row(r) + r->planned_tokens;
    uint32_t scored = request_scored_rows(r, r->planned_tokens);
    uint32_t tokens = tokens_within(s, r, tokens_max);
    while (request_room(r) < end + tokens) {
        if (request_grow(r, s->cache))
            continue;
        s->starts_over = true;
        if (!preempt_for(s, slot, may_for_block))
            tokens = request_room(r) - end; /* what fits; with 0, r sits this step out */
    }
    plan_rows(s, r, tokens);
    s->budget_scores -= request_scored_rows(r, r->planned_tokens) - scored;
    return tokens;
}

/* ---- Starting ------------------------------------------------------------------------------------------- */

static bool has_seat(const struct scheduler *s, const struct request *r)
{
    return s->running.count < s->limits.running_max && !user_is_full(s, r);
}

/* Can all tokens known by now, and the next, have blocks without preempting anybody? If so r has matched what is cached; if
 * not it holds nothing. Who was preempted leaves a block to everybody who runs. */
static bool fits_now(struct scheduler *s, struct request *r, uint32_t *out_matched_tokens)
{
    uint32_t rows = least(r->tokens + 1, request_rows_end(r));
    bool eldest = s->eldest != REQUEST_NONE && r == &s->requests[s->eldest];
    uint32_t spare = r->state == REQUEST_PREEMPTED && !eldest ? s->running.count : 0;
    *out_matched_tokens = request_match(r, s->cache);
    if (kv_pool_available(&s->cache->pool, r->root.model) >=
        request_blocks_for(r, rows) - r->block_count + spare)
        return true;
    request_release(r, s->cache);
    return false;
}

static void start(struct scheduler *s, uint32_t slot, uint32_t matched_tokens)
{
    struct request *r = &s->requests[slot];
    turn_of(s, r)->last_start = s->plans;
    if (r->state == REQUEST_QUEUED)
        r->order = ++s->starts;
    leave_list(s, slot);
    r->state = REQUEST_RUNNING;
    r->maker = REQUEST_NONE;
    r->start_plan = s->plans;
    request_list_insert(&s->running, s->requests, slot);
    user_of(s, r)->seats++;
    effect_request(s->effects, CORE_REQUEST_STARTED, slot, 0);
    s->found_tokens += matched_tokens;
    use_cached(s, r, matched_tokens);
}

/* Start a waiting request that has a seat, if it fits; interactive work may make room at the cost of batch work. */
static bool start_fitting(struct scheduler *s, uint32_t slot)
{
    struct request *r = &s->requests[slot];
    uint32_t matched_tokens;
    bool fits = fits_now(s, r, &matched_tokens);
    while (!fits && r->rank == TURN_INTERACTIVE && preempt_for(s, slot, may_for_interactive))
        fits = fits_now(s, r, &matched_tokens);
    if (!fits)
        return false;
    start(s, slot, matched_tokens);
    hunger(s, slot);
    return true;
}

/* The eldest starts now, at the cost of whoever is least entitled. */
static void start_eldest(struct scheduler *s)
{
    struct request *r = &s->requests[s->eldest];
    uint32_t matched_tokens = 0;
    while (!has_seat(s, r))
        if (!preempt_for(s, s->eldest, may_for_eldest))
            return;
    while (!fits_now(s, r, &matched_tokens))
        if (!preempt_for(s, s->eldest, may_for_eldest))
            return;
    start(s, s->eldest, matched_tokens);
}

/* Seats for interactive work that finds none: batch work's, as many as there are interactive requests without. Nobody is
 * granted anything yet, so that a step whose budget all goes to answers has a token for them. */
static void make_seats(struct scheduler *s)
{
    uint32_t promised = 0;
    for (uint32_t i = 0; i < s->turns.active_count; i++) {
        const struct user *user = &s->turns.users[s->turns.active[i]];
        const struct turn *turn = &user->turns[TURN_INTERACTIVE];
        uint32_t own = 0;
        for (uint32_t waiting = turn_waiting(turn); waiting > 0; waiting--) {
            bool own_full = user->seats + own >= user->seats_max;
            bool full = own_full || s->running.count + promised >= s->limits.running_max;
            if (own_full && own > 0)
                break; /* the others of its own have their turn in the next plans */
            if (full && !preempt_for(s, turn_first(turn), may_for_interactive))
                break;
            own++;
            promised++;
        }
    }
}

/* ---- One part after the other, to whoever's turn it is -------------------------------------------------- */

static bool may_start(const struct scheduler *s, uint32_t user, uint32_t rank)
{
    const struct user *u = &s->turns.users[user];
    return turn_waiting(&u->turns[rank]) > 0 && !s->starts_over &&
           s->running.count < s->limits.running_max && u->seats < u->seats_max;
}

static bool has_work(const struct scheduler *s, uint32_t user, uint32_t rank)
{
    return s->turns.users[user].turns[rank].hungry > 0 || may_start(s, user, rank);
}

/* Of two in one class. */
static bool is_before(const struct user *a, const struct user *b, uint32_t rank)
{
    if (turn_clock(a, rank) != turn_clock(b, rank))
        return turn_clock(a, rank) < turn_clock(b, rank);
    return a->turns[rank].last_start < b->turns[rank].last_start;
}

/* Whose turn it is in that class, and whose next; USER_NONE: nobody's. */
static uint32_t find_turn(const struct scheduler *s, uint32_t rank, uint32_t *out_second)
{
    const struct user *users = s->turns.users;
    uint32_t first = USER_NONE, second = USER_NONE;
    for (uint32_t i = 0; i < s->turns.active_count; i++) {
        uint32_t user = s->turns.active[i];
        if (!has_work(s, user, rank))
            continue;
        if (first == USER_NONE || is_before(&users[user], &users[first], rank)) {
            second = first;
            first = user;
        } else if (second == USER_NONE || is_before(&users[user], &users[second], rank)) {
            second = user;
        }
    }
    *out_second = second;
    return first;
}

/* Tokens until `user` is level with the next one, and a quantum more; without a next one, all there are. */
static uint32_t part_of(const struct scheduler *s, uint32_t user, uint32_t second, uint32_t rank)
{
    if (second == USER_NONE)
        return s->budget_tokens;
    const struct user *users = s->turns.users;
    uint64_t gap = turn_clock(&users[second], rank) - turn_clock(&users[user], rank);
    uint64_t quantum = s->limits.step_tokens / QUANTA + 1;
    uint64_t tokens = gap / TURN_TOKEN * users[user].weight + quantum;
    return tokens < s->budget_tokens ? (uint32_t)tokens : s->budget_tokens;
}

/* What runs first, eldest first; then who waits. Whoever gets nothing is out of this plan. */
static void serve(struct scheduler *s, uint32_t user, uint32_t rank, uint32_t tokens_max)
{
    const struct turn *turn = &s->turns.users[user].turns[rank];
    bool found_enough = s->found_tokens >= FOUND_STEPS * (uint64_t)s->limits.step_tokens;
    if (turn->hungry == 0 && (found_enough || !start_fitting(s, turn_first(turn)))) {
        s->starts_over = true;
        return;
    }
    uint32_t slot = find_prompt(s, user, rank);
    uint32_t tokens = grant(s, slot, tokens_max);
    if (tokens == 0 || !wants_more(&s->requests[slot]))
        sate(s, &s->requests[slot]);
}

static bool serve_next(struct scheduler *s)
{
    for (uint32_t rank = 0; rank < TURN_CLASSES; rank++) {
        uint32_t second;
        uint32_t user = find_turn(s, rank, &second);
        if (user == USER_NONE)
            continue;
        serve(s, user, rank, part_of(s, user, second, rank));
        return true;
    }
    return false;
}

/* ---- The plan ------------------------------------------------------------------------------------------- */

/* Does it want one row, and has it room for that in its last block? Then there is nothing to find, to wait for or to take. */
static bool is_ready(const struct request *r)
{
    return request_wants(r) == 1 && request_room(r) > request_next_row(r) && r->kind != CORE_SCORE;
}

/* Answers, mostly: a row for each that is ready. The others stand in line. Whoever must move in every step is ready, or there
 * is a row left for it, and for its maker: a step has as many as there are seats. */
static void grant_ready(struct scheduler *s)
{
    s->line_count = 0;
    for (uint32_t at = s->running.head; at != REQUEST_NONE; at = s->requests[at].next) {
        struct request *r = &s->requests[at];
        r->maker = REQUEST_NONE;
        if (is_ready(r))
            plan_rows(s, r, 1);
        else
            s->line[s->line_count++] = at;
    }
}

/* Who must move in every step: the eldest, or else the most entitled that runs; or who makes what it waits for, and
 * itself waits for nobody. */
static void grant_first(struct scheduler *s)
{
    uint32_t best = REQUEST_NONE;
    for (uint32_t at = s->running.head; at != REQUEST_NONE; at = s->requests[at].next)
        if (best == REQUEST_NONE || more_entitled(s, at, best))
            best = at;
    if (best == REQUEST_NONE || s->requests[best].planned_tokens > 0)
        return;
    if (grant(s, best, 1) == 0 && s->requests[best].maker != REQUEST_NONE)
        grant(s, s->requests[best].maker, 1);
}

/* Of the line, those that want exactly one token. Anybody may be preempted on the way. */
static void grant_singles(struct scheduler *s)
{
    for (uint32_t i = 0; i < s->line_count; i++) {
        const struct request *r = &s->requests[s->line[i]];
        if (r->state == REQUEST_RUNNING && request_wants(r) == 1 && r->planned_tokens == 0)
            grant(s, s->line[i], 1);
    }
}

/* Of `slots`, who was not given all it could be given. Who waits for a maker is given it. */
static void note_wants(struct scheduler *s, const uint32_t *slots, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct request *r = &s->requests[slots[i]];
        if (r->state == REQUEST_RUNNING && wants_more(r) && r->maker == REQUEST_NONE)
            turn_of(s, r)->wants = true;
    }
}

/* Who wants more, for the clocks: of those that stood in line or started in this plan, and those that wait. */
static void end_plan(struct scheduler *s)
{
    note_wants(s, s->line, s->line_count);
    note_wants(s, s->prompts, s->prompt_count);
    for (uint32_t i = 0; i < s->turns.active_count; i++) {
        struct user *user = &s->turns.users[s->turns.active[i]];
        for (uint32_t rank = 0; rank < TURN_CLASSES; rank++)
            if (user->seats < user->seats_max && turn_waiting(&user->turns[rank]) > 0)
                user->turns[rank].wants = true;
    }
    turns_end(&s->turns);
}

static void begin_plan(struct scheduler *s)
{
    s->budget_tokens = s->limits.step_tokens;
    s->budget_scores = s->limits.score_rows;
    s->found_tokens = 0;
    s->starts_over = false;
    s->prompt_count = 0;
    s->planned_tokens = 0;
    turns_begin(&s->turns);
}

static void plan_once(struct scheduler *s)
{
    begin_plan(s);
    if (s->eldest != REQUEST_NONE && s->requests[s->eldest].state != REQUEST_RUNNING)
        start_eldest(s);
    make_seats(s);
    grant_ready(s);
    if (s->line_count > 0) {
        grant_first(s);
        grant_singles(s);
    }
    collect_prompts(s);
    while (s->budget_tokens > 0 && serve_next(s))
        ;
    for (uint32_t i = 0; i < s->prompt_count; i++)
        sate(s, &s->requests[s->prompts[i]]);
}

/* Somebody may have waited for one who was preempted for nothing, a block of another model's slab: then nobody moves, and
 * nobody is waited for the next time. */
uint32_t scheduler_plan(struct scheduler *s, bool ahead)
{
    uint64_t preemptions;
    s->plans++;
    if (ahead && s->waits_to_preempt)
        return 0;
    s->waits_to_preempt = false;
    s->ahead = ahead;
    s->eldest = find_eldest(s);
    do {
        preemptions = s->preemptions;
        plan_once(s);
    } while (s->planned_tokens == 0 && s->preemptions > preemptions);
    end_plan(s);
    return s->planned_tokens;
}
