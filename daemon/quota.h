/*
 * quota.h - what one user may take: tables [quota.<name>] over the limits that hold for all.
 *
 * Idea     `[quota.alice]` is for a user, `[quota."@students"]` for each member of a group (every member has it for
 *          itself, the group shares nothing); digits are a uid or a gid. Key by key the most specific wins: the user's
 *          table, then the first table in the order of the files whose group the user is in, then [limits]. Two names of
 *          one user, or of one group, are one table.
 * Keys     Rows like those of config.h, with offsets in struct config_quota; parsing, help, --print-config and man page
 *          walk them as they walk the table.
 * Names    are looked up once, when the table is first mentioned: a user who is not there is a mistyped one. The engine
 *          gets ids and asks nobody.
 * Threads  One, until the configuration is read; then it is constant.
 * See      config.h, engine/users.h (what is counted against a quota), docs/OPERATING.md, tests/daemon/test_quota.c.
 */
#ifndef LLMD_DAEMON_QUOTA_H
#define LLMD_DAEMON_QUOTA_H

#include "daemon/config.h"
#include "shm/layout.h"

#define QUOTA_WEIGHT_MAX 1000u

/* All that holds for one user. */
struct quota {
    uint32_t weight;      /* 1..QUOTA_WEIGHT_MAX: its share of the steps, against others' weights */
    uint32_t connections; /* attached at once */
    uint32_t requests;    /* running and waiting */
    uint32_t sequences;   /* of those, in one step */
    uint64_t queued_tokens;         /* of the waiting ones */
    uint32_t contexts;              /* owned */
    uint64_t context_tokens;        /* in all of them; what forks share is counted once */
    uint64_t pinned_blocks;         /* UINT64_MAX: whatever kv.pinned_percent leaves */
    enum llm_priority priority_max; /* the highest it may ask for */
};

/* What holds for user `uid` of group `gid`, a member of `groups` [group_count] too (NULL with 0). */
struct quota quota_of(const struct config *config, uint32_t uid, uint32_t gid,
                      const uint32_t *groups, uint32_t group_count);
/* May a request of `priority` be asked for? */
bool quota_allows(const struct quota *quota, enum llm_priority priority);
const char *quota_priority_name(enum llm_priority priority);

/* ---- Keys, for config.c and config_text.c ------------------------------------------------------------- */

/* Set "quota.<name>.<key>". As config_set(). */
enum llm_status quota_set(struct config *config, const char *name, const char *value,
                          const char *place, struct llm_error *error) LLM_MUST_CHECK;
/* The row of "quota.<name>.<key>"; NULL: there is none. */
const struct config_key *quota_find_key(const char *name);
/* Row 0..CONFIG_QUOTA_KEYS-1; its name is "quota.<key>". */
const struct config_key *quota_key(unsigned key);
bool quota_is_set(const struct config_quota *quota, unsigned key);

#endif
