#include "daemon/engine/domains.h"

#include <stdbool.h>

#include "shm/check.h"
#include "shm/layout.h"

static bool has(const struct domain_set *set, uint64_t domain)
{
    for (uint32_t i = 0; i < set->count; i++)
        if (set->domains[i] == domain)
            return true;
    return false;
}

/* Unless it is there, or only `room_left` places are. */
static void add(struct domain_set *set, uint64_t domain, uint32_t room_left)
{
    if (!has(set, domain) && set->count + room_left < CORE_DOMAINS_MAX)
        set->domains[set->count++] = domain;
}

struct domain_set domains_of_client(const struct channel_connection *client)
{
    struct domain_set set = {.count = 0};
    add(&set, llm_domain(LLM_DOMAIN_PRIVATE, client->uid), 0);
    add(&set, llm_domain(LLM_DOMAIN_GROUP, client->gid), 1);
    for (uint32_t i = 0; i < client->group_count && i < CHANNEL_GROUPS_MAX; i++)
        add(&set, llm_domain(LLM_DOMAIN_GROUP, client->groups[i]), 1);
    add(&set, llm_domain(LLM_DOMAIN_PUBLIC, 0), 0);
    return set;
}

struct domain_set domains_sealed_in(uint64_t first, const struct domain_set *set)
{
    struct domain_set out = {.count = 1, .domains = {first}};
    CHECK(set->count >= 1 && set->count <= CORE_DOMAINS_MAX);
    /* The last one is the public domain: it has its place whatever the groups are. */
    for (uint32_t i = 0; i + 1 < set->count; i++)
        add(&out, set->domains[i], 1);
    add(&out, set->domains[set->count - 1], 0);
    return out;
}

struct domain_set domains_also(const struct domain_set *set, uint64_t other)
{
    struct domain_set out = *set;
    add(&out, other, 0);
    return out;
}
