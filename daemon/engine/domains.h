/*
 * domains.h - whose cached blocks a request may find, and where its own are sealed.
 *
 * Idea     A set of sharing domains (llm_domain()), the one to seal in first. A client's own set is its private domain, its
 *          groups and the public one: what it computes is private, what it finds may be its groups' or everybody's. A
 *          request on a context seals in the context's domain instead, and finds that one too.
 * Owner    A connection has its client's set, a request a copy that lasts as long as it does.
 * Trust    uid and groups are what the kernel told the keeper (daemon/keeper/peer.h).
 * See      daemon/core/core.h (struct core_request), shm/layout.h (enum llm_domain_kind), tests/daemon/test_domains.c.
 */
#ifndef LLMD_ENGINE_DOMAINS_H
#define LLMD_ENGINE_DOMAINS_H

#include <stdint.h>

#include "daemon/channel.h"
#include "daemon/core/core.h"

struct domain_set {
    uint32_t count;                     /* 1..CORE_DOMAINS_MAX */
    uint64_t domains[CORE_DOMAINS_MAX]; /* [0] is sealed in; no two are the same */
};

/* Private, the groups (the client's own one first), public. */
struct domain_set domains_of_client(const struct channel_connection *client);
/* `first`, then the others of `set`; when there are too many, its last group is left out. */
struct domain_set domains_sealed_in(uint64_t first, const struct domain_set *set);
/* `set` and `other`; when there are too many, `other` is left out. */
struct domain_set domains_also(const struct domain_set *set, uint64_t other);

#endif
