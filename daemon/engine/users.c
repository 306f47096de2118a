#include "daemon/engine/users.h"

#include "shm/check.h"

uint32_t users_take(struct users *users, uint32_t uid)
{
    uint32_t row = 0, free_row = LLM_STATUS_CONNECTIONS_MAX;
    for (; row < users->end; row++) {
        if (users->rows[row].connections == 0)
            free_row = row < free_row ? row : free_row;
        else if (users->rows[row].uid == uid)
            break;
    }
    if (row == users->end) {
        row = free_row < users->end ? free_row : users->end++;
        CHECK(row < LLM_STATUS_CONNECTIONS_MAX); /* as many rows as connections */
        users->rows[row] = (struct engine_user){.uid = uid};
    }
    users->rows[row].connections++;
    return row;
}

void users_drop(struct users *users, uint32_t row)
{
    struct engine_user *user = &users->rows[row];
    CHECK(row < users->end && user->connections > 0);
    if (--user->connections == 0)
        CHECK(user->requests == 0); /* a connection's requests end before it does */
    while (users->end > 0 && users->rows[users->end - 1].connections == 0)
        users->end--;
}

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
