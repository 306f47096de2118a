#include "daemon/quota.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config_value.h"
#include "shm/check.h"

#define PREFIX       "quota."
#define PREFIX_BYTES (sizeof PREFIX - 1)

#define NUMBER(name) offsetof(struct config_quota, name)

static const struct config_key keys[] = {
    {"quota.weight", CONFIG_COUNT, NUMBER(weight), 1, QUOTA_WEIGHT_MAX, "1",
     "share of the steps: who has 3 gets three times what one who has 1 gets"},
    {"quota.connections", CONFIG_COUNT, NUMBER(connections), 0, 4096, "limits.connections_per_user",
     "clients attached at once; 0: none"},
    {"quota.requests", CONFIG_COUNT, NUMBER(requests), 0, 1024, "limits.requests_per_user",
     "requests that run or wait; 0: none"},
    {"quota.sequences", CONFIG_COUNT, NUMBER(sequences), 1, 512, "limits.sequences_per_user",
     "of those, in one step"},
    {"quota.queued_tokens", CONFIG_COUNT, NUMBER(queued_tokens), 1, UINT64_C(1) << 40,
     "limits.queued_tokens_per_user", "tokens of requests that wait for their start"},
    {"quota.contexts", CONFIG_COUNT, NUMBER(contexts), 0, 65535, "limits.contexts_per_user",
     "contexts; 0: none"},
    {"quota.context_tokens", CONFIG_COUNT, NUMBER(context_tokens), 0, UINT64_C(1) << 40,
     "limits.context_tokens_per_user", "tokens in all contexts, forks counted in full"},
    {"quota.pinned_blocks", CONFIG_COUNT, NUMBER(pinned_blocks), 0, UINT64_C(1) << 28,
     "what kv.pinned_percent leaves", "blocks that pinned contexts hold; 0: none"},
    {"quota.priority_max", CONFIG_TEXT, NUMBER(priority_max), 0,
     sizeof((struct config_quota *)0)->priority_max, "interactive",
     "the highest that may be asked for: \"interactive\", \"normal\" or \"batch\""},
};
static_assert(sizeof keys / sizeof keys[0] == CONFIG_QUOTA_KEYS, "one origin for each key");

const struct config_key *quota_key(unsigned key)
{
    CHECK(key < CONFIG_QUOTA_KEYS);
    return &keys[key];
}

static uint64_t number_of(const struct config_quota *quota, const struct config_key *key)
{
    return *(const uint64_t *)(const void *)((const char *)quota + key->offset);
}

bool quota_is_set(const struct config_quota *quota, unsigned key)
{
    const struct config_key *row = quota_key(key);
    if (row->type == CONFIG_TEXT)
        return *((const char *)quota + row->offset) != '\0';
    return number_of(quota, row) != CONFIG_QUOTA_UNSET;
}

/* ---- Names ------------------------------------------------------------------------------------------ */

static const char *key_part(const char *name) /* of "quota.<name>.<key>": ".<key>" */
{
    const char *dot = strrchr(name, '.');
    bool shaped = strncmp(name, PREFIX, PREFIX_BYTES) == 0 && dot > name + PREFIX_BYTES;
    return shaped ? dot : NULL;
}

const struct config_key *quota_find_key(const char *name)
{
    const char *dot = key_part(name);
    for (unsigned i = 0; dot && i < CONFIG_QUOTA_KEYS; i++)
        if (strcmp(keys[i].name + PREFIX_BYTES - 1, dot) == 0)
            return &keys[i];
    return NULL;
}

/* "1000": an id that needs no looking up. */
static bool parse_id(const char *text, uint32_t *out_id)
{
    char *rest;
    if (*text < '0' || *text > '9' || strlen(text) > 10)
        return false;
    unsigned long long id = strtoull(text, &rest, 10);
    *out_id = (uint32_t)id;
    return *rest == '\0' && id < UINT32_MAX;
}

static bool name_is_plain(const char *name)
{
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c <= ' ' || strchr("\"\\'[]=#", *c) || (unsigned char)*c >= 0x7f)
            return false;
    return name[0] != '\0';
}

/* Fill name, group and id. `text` [bytes] stands in quotes or not. */
static enum llm_status resolve(struct config_quota *quota, const char *text, size_t bytes,
                               const char *key, const char *place, struct llm_error *error)
{
    if (bytes >= 2 && text[0] == '"' && text[bytes - 1] == '"') {
        text++;
        bytes -= 2;
    }
    if (bytes >= sizeof quota->name)
        return llm_fail(error, LLM_ERR_INVALID, "%s: %s: a name has at most %zu bytes", place, key,
                        sizeof quota->name - 1);
    memcpy(quota->name, text, bytes);
    quota->name[bytes] = '\0';
    quota->group = quota->name[0] == '@';
    const char *name = quota->name + quota->group;
    if (!name_is_plain(name))
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: %s: \"%s\" is neither a user nor, behind an '@', a group", place, key,
                        name_is_plain(quota->name) ? quota->name : "");
    if (parse_id(name, &quota->id))
        return LLM_OK;
    const struct passwd *user = quota->group ? NULL : getpwnam(name);
    const struct group *group = quota->group ? getgrnam(name) : NULL;
    if (!user && !group)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "%s: %s: there is no %s \"%s\"", place, key,
                        quota->group ? "group" : "user", name);
    quota->id = user ? user->pw_uid : group->gr_gid;
    return LLM_OK;
}

static struct config_quota *find(struct config *config, const struct config_quota *like)
{
    for (uint32_t i = 0; i < config->quota_count; i++)
        if (config->quotas[i].group == like->group && config->quotas[i].id == like->id)
            return &config->quotas[i];
    return NULL;
}

static void clear(struct config_quota *quota)
{
    memset(quota, 0, sizeof *quota);
    for (unsigned i = 0; i < CONFIG_QUOTA_KEYS; i++)
        if (keys[i].type != CONFIG_TEXT)
            *(uint64_t *)(void *)((char *)quota + keys[i].offset) = CONFIG_QUOTA_UNSET;
}

static enum llm_status refuse_key(const char *name, const char *place, struct llm_error *error)
{
    char list[160] = "";
    size_t used = 0;
    for (unsigned i = 0; i < CONFIG_QUOTA_KEYS; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "",
                                 keys[i].name + PREFIX_BYTES);
    return llm_fail(error, LLM_ERR_NOT_FOUND,
                    "%s: %.*s is not known; a quota is quota.<user or @group>.<key>, and its keys "
                    "are %s",
                    place, CONFIG_NAME_BYTES, name, list);
}

enum llm_status quota_set(struct config *config, const char *name, const char *value,
                          const char *place, struct llm_error *error)
{
    const struct config_key *row = quota_find_key(name);
    const char *dot = key_part(name);
    if (!row)
        return refuse_key(name, place, error);
    struct config_quota fresh;
    clear(&fresh);
    enum llm_status status = resolve(&fresh, name + PREFIX_BYTES,
                                     (size_t)(dot - name) - PREFIX_BYTES, name, place, error);
    if (status != LLM_OK)
        return status;
    struct config_quota *old = find(config, &fresh);
    if (!old && config->quota_count == CONFIG_QUOTAS_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "%s: %s: there are %d quotas already, the most",
                        place, name, CONFIG_QUOTAS_MAX);
    struct config_key named = *row;
    named.name = name;
    struct config_quota *quota = old ? old : &fresh;
    status = config_value_set(quota, &named, value, place, error);
    if (status != LLM_OK)
        return status;
    struct config_origin *origin = &quota->origins[row - keys];
    snprintf(origin->text, sizeof origin->text, "%s", place);
    if (!old)
        config->quotas[config->quota_count++] = fresh;
    return LLM_OK;
}

/* ---- What holds for whom ------------------------------------------------------------------------------ */

static const char *const priority_names[LLM_PRIORITY_COUNT] = {
    [LLM_PRIORITY_NORMAL] = "normal",
    [LLM_PRIORITY_INTERACTIVE] = "interactive",
    [LLM_PRIORITY_BATCH] = "batch",
};

const char *quota_priority_name(enum llm_priority priority)
{
    CHECK(priority < LLM_PRIORITY_COUNT);
    return priority_names[priority];
}

/* Interactive before normal before batch: the lower, the higher. */
static unsigned rank_of(enum llm_priority priority)
{
    CHECK(priority < LLM_PRIORITY_COUNT);
    static const unsigned ranks[LLM_PRIORITY_COUNT] = {
        [LLM_PRIORITY_INTERACTIVE] = 0, [LLM_PRIORITY_NORMAL] = 1, [LLM_PRIORITY_BATCH] = 2};
    return ranks[priority];
}

bool quota_allows(const struct quota *quota, enum llm_priority priority)
{
    return rank_of(priority) >= rank_of(quota->priority_max);
}

/* What `more` says of the keys that nobody more specific has set. */
static void add(struct config_quota *sum, const struct config_quota *more)
{
    for (unsigned i = 0; i < CONFIG_QUOTA_KEYS; i++) {
        if (quota_is_set(sum, i) || !quota_is_set(more, i))
            continue;
        size_t bytes = keys[i].type == CONFIG_TEXT ? keys[i].most : sizeof(uint64_t);
        memcpy((char *)sum + keys[i].offset, (const char *)more + keys[i].offset, bytes);
    }
}

static bool among(uint32_t id, const uint32_t *groups, uint32_t group_count)
{
    for (uint32_t i = 0; i < group_count; i++)
        if (groups[i] == id)
            return true;
    return false;
}

static enum llm_priority priority_named(const char *name)
{
    for (unsigned i = 0; i < LLM_PRIORITY_COUNT; i++)
        if (strcmp(priority_names[i], name) == 0)
            return (enum llm_priority)i;
    return LLM_PRIORITY_INTERACTIVE; /* not set: all are allowed */
}

static uint64_t number_or(uint64_t value, uint64_t otherwise)
{
    return value != CONFIG_QUOTA_UNSET ? value : otherwise;
}

struct quota quota_of(const struct config *config, uint32_t uid, uint32_t gid,
                      const uint32_t *groups, uint32_t group_count)
{
    struct config_quota sum;
    clear(&sum);
    for (uint32_t i = 0; i < config->quota_count; i++)
        if (!config->quotas[i].group && config->quotas[i].id == uid)
            add(&sum, &config->quotas[i]);
    for (uint32_t i = 0; i < config->quota_count; i++)
        if (config->quotas[i].group &&
            (config->quotas[i].id == gid || among(config->quotas[i].id, groups, group_count)))
            add(&sum, &config->quotas[i]);
    return (struct quota){
        .weight = (uint32_t)number_or(sum.weight, 1),
        .connections = (uint32_t)number_or(sum.connections, config->limits.connections_per_user),
        .requests = (uint32_t)number_or(sum.requests, config->limits.requests_per_user),
        .sequences = (uint32_t)number_or(sum.sequences, config->limits.sequences_per_user),
        .queued_tokens = number_or(sum.queued_tokens, config->limits.queued_tokens_per_user),
        .contexts = (uint32_t)number_or(sum.contexts, config->limits.contexts_per_user),
        .context_tokens = number_or(sum.context_tokens, config->limits.context_tokens_per_user),
        .pinned_blocks = sum.pinned_blocks, /* not set: UINT64_MAX */
        .priority_max = priority_named(sum.priority_max),
    };
}
