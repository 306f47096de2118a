#include "daemon/sim/trace.h"

#include <stdlib.h>
#include <string.h>

#include "shm/check.h"

void trace_init(struct trace *trace, uint32_t part_tokens)
{
    *trace = (struct trace){.part_tokens = part_tokens, .user_count = 1};
}

void trace_close(struct trace *trace)
{
    free(trace->requests);
    free(trace->parts);
    trace_init(trace, trace->part_tokens);
}

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014), over both words. */
uint64_t trace_mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * UINT64_C(0x9e3779b97f4a7c15) + b + UINT64_C(0x632be59bd9b4e019);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* 0 <= it < 1 */
static double draw(uint64_t seed, uint64_t number)
{
    return (double)(trace_mix(seed, number) >> 11) / 9007199254740992.0;
}

void trace_ids(const struct trace *trace, const struct trace_request *request, uint32_t from,
               uint32_t count, uint32_t *out_ids)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t position = from + i;
        uint64_t part = trace->parts[request->first_part + position / trace->part_tokens];
        out_ids[i] = trace->part_tokens == 1 && request->kind == TRACE_OWN
                         ? (uint32_t)part
                         : (uint32_t)trace_mix(part, position % trace->part_tokens) & INT32_MAX;
    }
}

/* ---- Adding ----------------------------------------------------------------------------------------- */

static size_t parts_of(const struct trace *trace, uint32_t prompt_tokens)
{
    return (prompt_tokens - 1) / trace->part_tokens + 1;
}

static enum llm_status make_room(struct trace *trace, size_t parts, struct llm_error *error)
{
    if (trace->count == trace->capacity) {
        uint32_t capacity = trace->capacity > 0 ? 2 * trace->capacity : 1024;
        void *requests = realloc(trace->requests, capacity * sizeof *trace->requests);
        if (!requests)
            return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u requests", capacity);
        trace->requests = requests;
        trace->capacity = capacity;
    }
    if (trace->part_count + parts > trace->part_capacity) {
        size_t capacity = 2 * (trace->part_count + parts);
        void *memory = realloc(trace->parts, capacity * sizeof *trace->parts);
        if (!memory)
            return llm_fail(error, LLM_ERR_MEMORY, "no memory for %zu parts", capacity);
        trace->parts = memory;
        trace->part_capacity = capacity;
    }
    return LLM_OK;
}

static enum llm_status check_request(const struct trace *trace, const struct trace_request *request,
                                     struct llm_error *error)
{
    if (request->prompt_tokens < 1 || request->prompt_tokens > TRACE_TOKENS_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "a prompt of %u tokens; 1..%u are possible",
                        request->prompt_tokens, TRACE_TOKENS_MAX);
    if (request->answer_tokens < 1 || request->answer_tokens > TRACE_TOKENS_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "an answer of %u tokens; 1..%u are possible",
                        request->answer_tokens, TRACE_TOKENS_MAX);
    if (trace->count > 0 && request->arrival_ns < trace->requests[trace->count - 1].arrival_ns)
        return llm_fail(error, LLM_ERR_INVALID, "a request arrives before the one before it");
    if (trace->count == TRACE_REQUESTS_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "more than %u requests", TRACE_REQUESTS_MAX);
    return LLM_OK;
}

enum llm_status trace_add(struct trace *trace, const struct trace_request *request,
                          const uint64_t *parts, struct llm_error *error)
{
    enum llm_status status = check_request(trace, request, error);
    if (status != LLM_OK)
        return status;
    size_t count = parts_of(trace, request->prompt_tokens);
    status = make_room(trace, count, error);
    if (status != LLM_OK)
        return status;
    struct trace_request *added = &trace->requests[trace->count++];
    *added = *request;
    added->first_part = trace->part_count;
    for (size_t i = 0; i < count; i++) {
        uint64_t part = parts ? parts[i] : trace->next_part;
        trace->parts[trace->part_count++] = part;
        trace->next_part = part >= trace->next_part ? part + 1 : trace->next_part;
    }
    return LLM_OK;
}

/* ---- What a trace does not have --------------------------------------------------------------------- */

static const uint64_t *own_parts(const struct trace *trace, const struct trace_request *request)
{
    return &trace->parts[request->first_part];
}

/* The requests of `trace`, and behind each the `added` ones that arrive before the next: in turn, into a new trace. */
typedef enum llm_status add_fn(struct trace *into, const struct trace *from, uint32_t index,
                               const void *self, struct llm_error *error);

static enum llm_status rewrite(struct trace *trace, add_fn *add, const void *self,
                               struct llm_error *error)
{
    struct trace into;
    trace_init(&into, trace->part_tokens);
    into.user_count = trace->user_count;
    into.next_part = trace->next_part;
    enum llm_status status = LLM_OK;
    for (uint32_t i = 0; i < trace->count && status == LLM_OK; i++) {
        const struct trace_request *request = &trace->requests[i];
        status = trace_add(&into, request, own_parts(trace, request), error);
        if (status == LLM_OK)
            status = add(&into, trace, i, self, error);
    }
    if (status != LLM_OK) {
        trace_close(&into);
        return status;
    }
    trace_close(trace);
    *trace = into;
    return LLM_OK;
}

struct scan {
    double share;
    uint32_t tokens;
    uint64_t seed;
};

static enum llm_status add_scan(struct trace *into, const struct trace *from, uint32_t index,
                                const void *self, struct llm_error *error)
{
    const struct scan *scan = self;
    if (draw(scan->seed, 2 * (uint64_t)index) >= scan->share)
        return LLM_OK;
    struct trace_request request = from->requests[index];
    request.kind = TRACE_SCAN;
    request.answer_tokens = 1;
    request.prompt_tokens =
        1 + scan->tokens / 2 +
        (uint32_t)(draw(scan->seed, 2 * (uint64_t)index + 1) * (double)scan->tokens);
    return trace_add(into, &request, NULL, error);
}

enum llm_status trace_scan(struct trace *trace, double share, uint32_t tokens, uint64_t seed,
                           struct llm_error *error)
{
    return rewrite(trace, add_scan, &(struct scan){share, tokens, seed}, error);
}

struct flood {
    double each; /* requests of the flood for each one of the others */
    uint32_t user;
    uint64_t seed;
};

/* Between this request and the next: as many as make `each` a request in the long run. */
static enum llm_status add_flood(struct trace *into, const struct trace *from, uint32_t index,
                                 const void *self, struct llm_error *error)
{
    const struct flood *flood = self;
    uint64_t first = (uint64_t)(flood->each * index);
    uint64_t count = (uint64_t)(flood->each * (index + 1.0)) - first;
    uint64_t from_ns = from->requests[index].arrival_ns;
    uint64_t until_ns = index + 1 < from->count ? from->requests[index + 1].arrival_ns : from_ns;
    enum llm_status status = LLM_OK;
    for (uint64_t i = 0; i < count && status == LLM_OK; i++) {
        struct trace_request request =
            from->requests[trace_mix(flood->seed, first + i) % from->count];
        request.kind = TRACE_FLOOD;
        request.user = flood->user;
        request.arrival_ns = from_ns + (until_ns - from_ns) * i / count;
        status = trace_add(into, &request, NULL, error);
    }
    return status;
}

enum llm_status trace_flood(struct trace *trace, double times, uint64_t seed,
                            struct llm_error *error)
{
    const struct flood flood = {times / trace->user_count, trace->user_count, seed};
    enum llm_status status = rewrite(trace, add_flood, &flood, error);
    trace->user_count += status == LLM_OK;
    return status;
}

struct session {
    uint64_t part;
    uint32_t user_and_one; /* 0: an empty place */
};

static struct session *find_session(struct session *sessions, size_t mask, uint64_t part)
{
    size_t at = trace_mix(part, 1) & mask;
    while (sessions[at].user_and_one != 0 && sessions[at].part != part)
        at = (at + 1) & mask;
    return &sessions[at];
}

/* The request's deepest part but the first that was seen before says whose session it is. */
static uint32_t user_of(struct session *sessions, size_t mask, const uint64_t *parts, size_t count,
                        uint32_t *next_user, uint32_t users)
{
    uint32_t user = UINT32_MAX;
    for (size_t i = count; i-- > 1 && user == UINT32_MAX;)
        user = find_session(sessions, mask, parts[i])->user_and_one - 1;
    if (user == UINT32_MAX)
        user = (*next_user)++ % users;
    for (size_t i = 1; i < count; i++) {
        struct session *session = find_session(sessions, mask, parts[i]);
        if (session->user_and_one == 0)
            *session = (struct session){parts[i], user + 1};
    }
    return user;
}

enum llm_status trace_users(struct trace *trace, uint32_t users, struct llm_error *error)
{
    CHECK(users >= 1 && users <= TRACE_USERS_MAX);
    size_t mask = 1;
    while (mask < 2 * trace->part_count)
        mask = 2 * mask + 1;
    struct session *sessions = calloc(mask + 1, sizeof *sessions);
    if (!sessions)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the sessions of %zu parts",
                        trace->part_count);
    uint32_t next_user = 0;
    for (uint32_t i = 0; i < trace->count; i++) {
        struct trace_request *request = &trace->requests[i];
        request->user = user_of(sessions, mask, own_parts(trace, request),
                                parts_of(trace, request->prompt_tokens), &next_user, users);
    }
    trace->user_count = users;
    free(sessions);
    return LLM_OK;
}

void trace_hurry(struct trace *trace, double times)
{
    for (uint32_t i = 0; i < trace->count; i++)
        trace->requests[i].arrival_ns = (uint64_t)((double)trace->requests[i].arrival_ns / times);
}

void trace_shorten(struct trace *trace, uint32_t answer_tokens)
{
    for (uint32_t i = 0; i < trace->count; i++)
        if (trace->requests[i].answer_tokens > answer_tokens)
            trace->requests[i].answer_tokens = answer_tokens;
}
