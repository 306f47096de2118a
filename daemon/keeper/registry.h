/*
 * registry.h - which models the daemon has, and what names stand for.
 *
 * Idea     A table of slots that keep their number while loaded: it is the core's model number, and what blocks and contexts
 *          are marked with. Each load has an id that is never used again. An engine is told the table when it starts and serves
 *          just that; a change of the set replaces the engine, which takes some ten milliseconds and which no client
 *          notices, since requests, blocks and weights are in the keeper's memories:
 *
 *            load    LOADING ──loader: READY──> LOADED ──a new engine serves──> READY
 *                       └──loader: FAILED, died──> FAILED ("unload", or the next load, takes it away)
 *            unload  READY ──told: no new requests──> DRAINING ──engine: none is left──> gone; a new engine
 *
 *          A name stands for its newest version that takes requests, "name@2" for that one, an alias and the default
 *          for one load each. Such changes are told to the running engine (CHANNEL_NAMES, numbered) and count from the next
 *          admission on; what runs stays with the load it began with.
 * Files    The descriptors that a load opened are kept with it: a restarted engine reads the directories of the very files that
 *          were loaded, whatever stands at their paths by now.
 * Owner    The keeper's only thread.
 * Trust    Names and paths come from administrators and configuration, ids from engines and loaders: all checked.
 * See      loader.h, engine.h, shm/models.h, docs/OPERATING.md, `llmctl models`.
 */
#ifndef LLMD_KEEPER_REGISTRY_H
#define LLMD_KEEPER_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/channel.h"
#include "daemon/config.h"
#include "shm/models.h"
#include "shm/status.h"

#define REGISTRY_NAME_MAX \
    40u /* bytes of a model's or an alias's name: "vocab/<name>@<version>" fits LLM_NAME_BYTES */
#define REGISTRY_FILES_MAX 512u
#define REGISTRY_TRIES_MAX 3u /* engines that may die while they open a model for the first time */
#define REGISTRY_SLOT_NONE UINT32_MAX
#define REGISTRY_ECHO      "echo"

struct keeper;
struct registry_files; /* of one load: names and descriptors */

struct registry_model {
    enum llm_model_state state; /* LLM_MODEL_FREE: the slot is empty */
    uint64_t id;
    uint32_t version;
    char name[LLM_NAME_BYTES];
    char path[CHANNEL_PATH_BYTES]; /* the directory, or REGISTRY_ECHO */
    char reason[LLM_NOTE_BYTES];   /* FAILED */
    bool configured;               /* at the start: without it the daemon does not start */
    bool whole;                    /* it was loaded once: no other file is opened for it any more */
    bool told;                     /* the engine serves it, or is about to */
    uint32_t tries;                /* engines that died before they served it */
    uint64_t begun_ns, ended_ns;   /* loading */
    uint64_t ready_ns;
    struct registry_files *files; /* NULL: none */
};

struct registry {
    struct registry_model models[LLM_MODELS_MAX];
    struct llm_model_alias aliases[LLM_ALIASES_MAX]; /* [alias_count] */
    uint32_t alias_count;
    uint64_t default_id;
    uint64_t last_id;
    uint64_t names_number; /* of the last change */
    bool stale;            /* the engine was told a model that is gone */
};

/* The configured models, default first, then echo, and the aliases. `roots` are open, models.default is a directory. */
enum llm_status registry_open(struct keeper *keeper, const struct config *config,
                              struct llm_error *error) LLM_MUST_CHECK;
void registry_close(struct registry *registry);

/* ---- Asked by administrators ------------------------------------------------------------------------- */

/* Start loading `what`, a name or a directory beneath the roots, as `name` (empty: the directory's). BUSY: another one is being
 * loaded; LIMIT: no slot is free; INVALID, NOT_FOUND, PERMISSION. */
enum llm_status registry_load(struct keeper *keeper, const char *what, const char *name,
                              uint64_t *out_id, struct llm_error *error) LLM_MUST_CHECK;
/* Refused (BUSY) for the default model and behind an alias. Its requests end first. */
enum llm_status registry_unload(struct keeper *keeper, const char *name, uint64_t *out_id,
                                struct llm_error *error) LLM_MUST_CHECK;
/* `alias` means `name` from now on; empty: nothing. */
enum llm_status registry_alias(struct keeper *keeper, const char *alias, const char *name,
                               uint64_t *out_id, struct llm_error *error) LLM_MUST_CHECK;
enum llm_status registry_set_default(struct keeper *keeper, const char *name, uint64_t *out_id,
                                     struct llm_error *error) LLM_MUST_CHECK;

/* ---- For the engine's part --------------------------------------------------------------------------- */

/* Fill a MODEL message for the engine that is being started; false: nothing is to be told of the slot. */
bool registry_untold(const struct registry *registry, uint32_t slot, bool served_once,
                     struct channel_message *message);
void registry_told(struct registry *registry, uint32_t slot);
void registry_forget_told(struct registry *registry);
void registry_names(const struct registry *registry, struct channel_names *out_names);
/* The engine serves all it was told. */
void registry_served(struct keeper *keeper);
/* It died before: a model that no engine has served yet may be why. */
void registry_blame(struct keeper *keeper);
/* No request is left of the draining load `id`. */
void registry_idle(struct keeper *keeper, uint64_t id);
/* The engine cannot open load `id`. */
void registry_failed(struct keeper *keeper, uint64_t id, const char *why);
/* A file of load `id`: one that was opened before, or, until it is whole, one at `path` beneath the roots. */
enum llm_status registry_open_file(struct keeper *keeper, uint64_t id, const char *path,
                                   int *out_fd, struct llm_error *error) LLM_MUST_CHECK;
/* Replace the engine where the set has changed, unload what is idle. Returns when to come back. */
uint64_t registry_expire(struct keeper *keeper, uint64_t now_ns);

/* ---- For the loader's part --------------------------------------------------------------------------- */

/* The loader of `slot` is done: `why` NULL, or what was wrong. */
void registry_loaded(struct keeper *keeper, uint32_t slot, const char *why);

/* ---- Looking (registry_view.c) ----------------------------------------------------------------------- */

/* The load that `name` stands for: "", an alias, a name or "name@version"; REGISTRY_SLOT_NONE. */
uint32_t registry_find(const struct registry *registry, const char *name);
uint32_t registry_find_id(const struct registry *registry, uint64_t id);
/* What its name alone stands for. */
bool registry_is_newest(const struct registry *registry, uint32_t slot);
/* Clients ask for "vocab", "vocab/<name>", "plan/<name>": the memory's own name. False: it is not such a name. */
bool registry_memory_name(const struct registry *registry, const char *asked,
                          char out_name[CHANNEL_NAME_BYTES]);
/* A sealed memory with a struct llm_models_image, for one client; paths only for administrators. */
enum llm_status registry_image(const struct keeper *keeper, bool administrator, int *out_fd,
                               struct llm_error *error) LLM_MUST_CHECK;
/* Without a request for so long; 0: it has one, or does not serve. */
uint64_t registry_idle_ns(const struct keeper *keeper, uint32_t slot, uint64_t now_ns);
/* Bring the status file's row of `slot` up to date. */
void registry_show(const struct keeper *keeper, uint32_t slot);
uint32_t registry_descriptors(const struct registry *registry);

/* ---- Between registry*.c ------------------------------------------------------------------------------ */

struct registry_files {
    uint32_t count;
    struct registry_file {
        char name[256];
        int fd;
    } items[REGISTRY_FILES_MAX];
};
bool registry_name_ok(const char *name);

#endif
