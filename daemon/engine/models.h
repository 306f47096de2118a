/*
 * models.h - the models of this engine: opened at its start, by the slots of the keeper's registry.
 *
 * Idea     The set is fixed as long as the engine lives; the keeper changes it by starting another one, which finds
 *          the weights packed. What names stand for may change any time (CHANNEL_NAMES): a name is resolved
 *          once, when a request is admitted, and the request goes on with that load to its end.
 *          A slot without a model holds an "absent" executor, so that slots keep their numbers.
 * Pool     How slabs and blocks are laid out is decided by the first engine's models and kept (struct models_geometry), so that
 *          blocks and the tables' rows of one engine mean the same to the next, whatever it serves.
 * Identity The load's id is part of what cached blocks and contexts are known by: those of an old load are never a new one's.
 * Threads  The engine thread.
 * See      daemon/keeper/registry.h, executor.h.
 */
#ifndef LLMD_ENGINE_MODELS_H
#define LLMD_ENGINE_MODELS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/channel.h"
#include "daemon/config.h"
#include "shm/models.h"
#include "shm/status.h"

#define ENGINE_MODELS_MAX LLM_MODELS_MAX

struct engine;
struct executor;

struct model_spec {             /* as the keeper tells it */
    struct channel_model model; /* id 0: the slot is empty */
    char name[LLM_NAME_BYTES];
    char path[CHANNEL_PATH_BYTES];
};

/* Kept; constant once `complete`. */
struct models_geometry {
    _Atomic uint64_t complete;
    uint64_t slab_bytes;
    uint32_t slab_blocks;        /* block = slab * slab_blocks + index, whatever the model */
    uint32_t block_tokens_max;   /* of a row of kvtok */
    uint32_t context_tokens_max; /* of a request's row */
    uint32_t reserved;
};

struct models {
    struct model_spec specs[ENGINE_MODELS_MAX];
    struct channel_names names;
    struct models_geometry *geometry;
    uint32_t idle_told; /* bit of a draining slot: the keeper knows that it is idle */
};

/* Take over what a MODEL message of the manifest says. */
void models_note(struct models *models, const struct channel_message *message);
/* Open all of them, then the geometry that is kept, or make it of them. A required one that fails is a failure; any other is
 * absent then, and the keeper is told why. */
enum llm_status models_open(struct engine *engine, struct llm_error *error) LLM_MUST_CHECK;
void models_close(struct engine *engine);
/* Blocks of `model` that fit a slab. */
uint32_t models_slab_blocks(const struct engine *engine, uint32_t model);

/* The keeper changed what names stand for. */
void models_rename(struct engine *engine, const struct channel_names *names);
/* Tell the keeper which draining models no request uses any more. */
void models_settle(struct engine *engine);

/* The model that `name` stands for: "" the default one, an alias, a name (its newest version), or "name@version".
 * LLM_ERR_NOT_FOUND; LLM_ERR_BUSY: it is being unloaded. */
enum llm_status engine_find_model(const struct engine *engine, const char *name,
                                  uint32_t *out_model, struct llm_error *error) LLM_MUST_CHECK;
/* It takes new requests. LLM_ERR_BUSY: it is being unloaded. */
enum llm_status models_admit(const struct engine *engine, uint32_t model, struct llm_error *error)
    LLM_MUST_CHECK;
/* The slot of load `id`; UINT32_MAX: not here. */
uint32_t models_of_id(const struct engine *engine, uint64_t id);
/* The one for requests that name none; slot 0 where it is absent. */
const struct executor *models_default(const struct engine *engine);

#endif
