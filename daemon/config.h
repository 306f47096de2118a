/*
 * config.h - every setting of the daemon: one table gives parsing, ranges, defaults and help.
 *
 * Idea     A setting is a row: name, type, range, default as text, one sentence. Files (toml.h), `--set
 *          table.key=value` and the keeper's hand-over to the engine all end in the same conversion of the
 *          same row, so a value is right or wrong everywhere alike, and the sentence is the same.
 * Order    Later wins: defaults, /etc/llmd/llmd.toml, $XDG_CONFIG_HOME/llmd/llmd.toml, --config, --set.
 * Trust    Files belong to the administrator but may be mistyped: an unknown key, a wrong type and a value
 *          out of range are refused with the key's name, the value and the place.
 * See      daemon/config.c (the table), config_text.h (help, file, man page), config_check.h (what only all
 *          settings together can get wrong), `llmctl config`, tests/daemon/test_config.c.
 */
#ifndef LLMD_DAEMON_CONFIG_H
#define LLMD_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "shm/status.h"

#define CONFIG_TEXT_BYTES      256
#define CONFIG_DIRECTORIES_MAX 8
#define CONFIG_PATH_BYTES      1024
#define CONFIG_KEYS_MAX        72
#define CONFIG_FINDINGS_MAX    64
#define CONFIG_QUOTAS_MAX      64
#define CONFIG_QUOTA_KEYS      9
#define CONFIG_QUOTA_NAME      64 /* bytes of a user's or "@group"'s name, with the final zero */
#define CONFIG_QUOTA_UNSET     UINT64_MAX
#define CONFIG_NAME_BYTES      128 /* of any key: "quota.<name>.<key>" is the longest */
#define CONFIG_VALUE_BYTES     (CONFIG_DIRECTORIES_MAX * CONFIG_PATH_BYTES) /* of any value as text */

struct config_directories {
    uint32_t count;
    char paths[CONFIG_DIRECTORIES_MAX][CONFIG_PATH_BYTES]; /* absolute */
};

struct config_origin {            /* where a value comes from */
    char text[CONFIG_TEXT_BYTES]; /* "default", "/etc/llmd/llmd.toml:12", "command line" */
};

/* [quota.<name>]: what one user, or each member of one group, may take; see quota.h. */
struct config_quota {
    char name[CONFIG_QUOTA_NAME]; /* "alice", "1000", "@students", "@100" */
    bool group;
    uint32_t id; /* uid, or gid of a group */
    /* CONFIG_QUOTA_UNSET, and the empty text: not set here */
    uint64_t weight;
    uint64_t connections;
    uint64_t requests;
    uint64_t queued_tokens;
    uint64_t contexts;
    uint64_t context_tokens;
    uint64_t pinned_blocks;
    uint64_t sequences;
    char priority_max[16];
    struct config_origin origins[CONFIG_QUOTA_KEYS];
};

struct config {
    struct { /* [daemon] */
        char socket[CONFIG_TEXT_BYTES];
        char instance[CONFIG_TEXT_BYTES];
        char group[CONFIG_TEXT_BYTES];
        char admin_group[CONFIG_TEXT_BYTES];
        uint64_t idle_exit_s;
        uint64_t drain_s;
        uint64_t engine_hang_s;
        bool engine_hang_kill;
        bool debugging;
    } daemon;
    struct { /* [limits] */
        uint64_t connections;
        uint64_t connections_per_user;
        uint64_t stream_slots;
        uint64_t queue_entries;
        uint64_t event_entries;
        uint64_t log_words;
        uint64_t prompt_bytes;
        uint64_t requests;
        uint64_t requests_per_user;
        uint64_t sequences;
        uint64_t sequences_per_user;
        uint64_t queued_tokens_per_user;
        uint64_t contexts;
        uint64_t contexts_per_user;
        uint64_t context_tokens_per_user;
        uint64_t context_tokens;
        uint64_t step_tokens;
        uint64_t engine_deaths;
        uint64_t engine_deaths_window_s;
    } limits;
    struct {                 /* [kv] */
        uint64_t pool_bytes; /* 0: see the sentence in the table */
        uint64_t pinned_percent;
    } kv;
    struct { /* [cpu] */
        char backend[CONFIG_TEXT_BYTES];
        uint64_t threads;
    } cpu;
    struct {                                /* [models] */
        char preset[CONFIG_TEXT_BYTES * 4]; /* key "default": a name, or an absolute directory */
        struct config_directories directories;
        char load[CONFIG_TEXT_BYTES * 4];
        char aliases[CONFIG_TEXT_BYTES * 4];
        uint64_t idle_unload_s;
        uint64_t context_tokens;
        uint64_t echo_step_us;
        uint64_t echo_context_tokens;
    } models;
    struct { /* [log] */
        char level[CONFIG_TEXT_BYTES];
        char format[CONFIG_TEXT_BYTES];
        uint64_t lines_per_minute;
    } log;
    uint32_t quota_count;
    struct config_quota quotas[CONFIG_QUOTAS_MAX]; /* [quota_count] in the order of first mention */
    struct config_origin origins[CONFIG_KEYS_MAX]; /* of key i of the table */
};

/* Every setting at its default. */
void config_init(struct config *config);

/*
 * Set one key from text, as after --set: `key` "limits.requests" or "quota.alice.weight", `value` as in a file but
 * without quotes.
 *
 *   place     for the sentence: "--set", or "llmd.toml:12"
 *   returns   LLM_OK, LLM_ERR_NOT_FOUND (no such key, user or group), LLM_ERR_INVALID (type, range), LLM_ERR_LIMIT (more
 *             than CONFIG_QUOTAS_MAX quotas)
 */
enum llm_status config_set(struct config *config, const char *key, const char *value,
                           const char *place, struct llm_error *error) LLM_MUST_CHECK;
/* The same from "key=value". */
enum llm_status config_set_pair(struct config *config, const char *pair, const char *place,
                                struct llm_error *error) LLM_MUST_CHECK;

/* Read a file. LLM_ERR_NOT_FOUND when there is none, and what toml_read() and config_set() return. */
enum llm_status config_read(struct config *config, const char *path, struct llm_error *error)
    LLM_MUST_CHECK;

/* ---- Everything that is wrong, not only the first thing ------------------------------------------- */

struct config_finding {
    bool fails; /* the daemon does not start with it; else a warning */
    char sentence[LLM_ERROR_MESSAGE_BYTES];
};
struct config_findings {
    unsigned count; /* of those below; what does not fit is left out */
    unsigned fail_count;
    struct config_finding items[CONFIG_FINDINGS_MAX];
};
void config_findings_add(struct config_findings *findings, bool fails, const char *format, ...)
    LLM_PRINTF(3, 4);

/* config_read(), but a wrong line is added to `findings` and the rest is read all the same. */
void config_read_all(struct config *config, const char *path, struct config_findings *findings);

/* ---- The table -------------------------------------------------------------------------------------- */

enum config_type {
    CONFIG_TEXT,        /* char[most] */
    CONFIG_COUNT,       /* uint64_t within least..most */
    CONFIG_POWER,       /* the same, a power of two */
    CONFIG_SIZE,        /* the same in bytes; text like "4GiB" */
    CONFIG_BOOLEAN,     /* bool */
    CONFIG_DIRECTORIES, /* struct config_directories; as text separated by ':' */
};

struct config_key {
    const char *name; /* "table.key" */
    enum config_type type;
    size_t offset; /* in struct config */
    uint64_t least, most;
    const char *initial;
    const char *sentence;
};

/* Rows of the table, for loops over all settings: the row, its value as config_set() takes it, its origin. */
unsigned config_key_count(void);
const struct config_key *config_key(unsigned key);
const char *config_key_name(unsigned key);
void config_key_text(const struct config *config, unsigned key, char *out_text, size_t bytes);

/* What the engine is to know: every key of the table, then every key that is set in a quota, with the id for the name.
 * Item 0..config_item_count() - 1. */
unsigned config_item_count(const struct config *config);
void config_item(const struct config *config, unsigned item, char out_name[CONFIG_NAME_BYTES],
                 char *out_text, size_t bytes);

#endif
