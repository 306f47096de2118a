#include "daemon/engine/users.h"

#include <stdlib.h>

#include "shm/check.h"

enum llm_status users_open(struct users *users, uint32_t owners_max, struct llm_error *error)
{
    uint32_t row_count = LLM_STATUS_CONNECTIONS_MAX + owners_max;
    struct engine_user *rows = calloc(row_count, sizeof *rows);
    if (!rows)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a ledger of %u users", row_count);
    *users = (struct users){.rows = rows, .row_count = row_count};
    return LLM_OK;
}

void users_close(struct users *users)
{
    free(users->rows);
    *users = (struct users){.rows = NULL};
}

static bool is_free(const struct engine_user *user)
{
    return user->connections == 0 && user->contexts == 0 && user->requests == 0 &&
           user->context_tokens == 0 && user->pinned_blocks == 0;
}

uint32_t users_row(struct users *users, uint32_t uid, const struct quota *quota)
{
    uint32_t row = 0, free_row = users->row_count;
    for (; row < users->end; row++) {
        if (is_free(&users->rows[row]))
            free_row = row < free_row ? row : free_row;
        else if (users->rows[row].uid == uid)
            break;
    }
    if (row == users->end) {
        row = free_row < users->end ? free_row : users->end++;
        CHECK(row < users->row_count); /* as many rows as connections, contexts and rows of ids */
        users->rows[row] = (struct engine_user){.uid = uid};
    }
    if (users->rows[row].connections ==
        0) /* else its groups are known: that quota is the right one */
        users->rows[row].quota = *quota;
    return row;
}

void users_settle(struct users *users)
{
    while (users->end > 0 && is_free(&users->rows[users->end - 1]))
        users->end--;
}

uint32_t users_take(struct users *users, uint32_t uid, const struct quota *quota)
{
    uint32_t row = users_row(users, uid, quota);
    users->rows[row].connections++;
    users->rows[row].quota = *quota;
    return row;
}

void users_drop(struct users *users, uint32_t row)
{
    struct engine_user *user = &users->rows[row];
    CHECK(row < users->end && user->connections > 0);
    if (--user->connections == 0)
        CHECK(user->requests == 0); /* a connection's requests end before it does */
    users_settle(users);
}

/* ---- May this user have that? ------------------------------------------------------------------------------- */

enum llm_status users_may_request(const struct users *users, uint32_t row, struct llm_error *error)
{
    const struct engine_user *user = &users->rows[row];
    if (user->requests < user->quota.requests)
        return LLM_OK;
    return llm_fail(error, LLM_ERR_BUSY,
                    "user %u has all of its %u requests (limits.requests_per_user, or its quota) "
                    "in use; try again",
                    user->uid, user->quota.requests);
}

enum llm_status users_may_have_priority(const struct users *users, uint32_t row, uint32_t priority,
                                        struct llm_error *error)
{
    const struct engine_user *user = &users->rows[row];
    if (priority >= LLM_PRIORITY_COUNT)
        return llm_fail(error, LLM_ERR_INVALID, "priority %u is not known", priority);
    if (quota_allows(&user->quota, (enum llm_priority)priority))
        return LLM_OK;
    return llm_fail(error, LLM_ERR_PERMISSION,
                    "user %u may not ask for priority \"%s\": its quota ends at \"%s\"", user->uid,
                    quota_priority_name((enum llm_priority)priority),
                    quota_priority_name(user->quota.priority_max));
}

enum llm_status users_may_own_context(const struct users *users, uint32_t row,
                                      struct llm_error *error)
{
    const struct engine_user *user = &users->rows[row];
    if (user->contexts < user->quota.contexts)
        return LLM_OK;
    return llm_fail(error, LLM_ERR_LIMIT,
                    "user %u has %u contexts and may have %u (limits.contexts_per_user, or its "
                    "quota): end some",
                    user->uid, user->contexts, user->quota.contexts);
}

/* have + more > most, without a sum that wraps */
static bool too_many(uint64_t have, uint64_t more, uint64_t most)
{
    return have > most || more > most - have;
}

enum llm_status users_may_keep_tokens(const struct users *users, uint32_t row, uint64_t tokens,
                                      struct llm_error *error)
{
    const struct engine_user *user = &users->rows[row];
    if (!too_many(user->context_tokens, tokens, user->quota.context_tokens))
        return LLM_OK;
    return llm_fail(error, LLM_ERR_LIMIT,
                    "user %u has %llu tokens in contexts and may have %llu "
                    "(limits.context_tokens_per_user, or its quota): %llu more are too many",
                    user->uid, (unsigned long long)user->context_tokens,
                    (unsigned long long)user->quota.context_tokens, (unsigned long long)tokens);
}

enum llm_status users_may_pin(const struct users *users, uint32_t row, uint64_t blocks,
                              struct llm_error *error)
{
    const struct engine_user *user = &users->rows[row];
    if (!too_many(user->pinned_blocks, blocks, user->quota.pinned_blocks))
        return LLM_OK;
    return llm_fail(error, LLM_ERR_LIMIT,
                    "user %u has %llu blocks pinned and its quota is %llu: %llu more are too many",
                    user->uid, (unsigned long long)user->pinned_blocks,
                    (unsigned long long)user->quota.pinned_blocks, (unsigned long long)blocks);
}

/* ---- Passes of the intake ----------------------------------------------------------------------------------- */

void users_begin_pass(struct users *users)
{
    users->pass++;
}

bool users_may_enter(struct users *users, uint32_t row)
{
    struct engine_user *user = &users->rows[row];
    if (user->pass != users->pass) {
        user->pass = users->pass;
        user->entries = user->bytes = 0;
    }
    return user->entries < USERS_PASS_ENTRIES && user->bytes < USERS_PASS_BYTES;
}

void users_entered(struct users *users, uint32_t row, uint32_t body_bytes)
{
    struct engine_user *user = &users->rows[row];
    user->entries++;
    /* Bodies are at most 1 GiB and the budget ends the sum: this cannot wrap. */
    user->bytes += body_bytes;
}

void users_charge(struct users *users, uint32_t row, uint32_t bytes)
{
    users->rows[row].bytes += bytes; /* a few times in an entry, at most: cannot wrap either */
}
