/*
 * models.h - which models a daemon has: the image behind the public memory "models".
 *
 * Idea     Whoever asks for the memory "models" is given a snapshot of the keeper's registry, made for the occasion and
 *          sealed: models by slot, then aliases. A load has an id that is never used again; a name stands for
 *          the newest version of it, "name@2" for that one, an alias for exactly one load.
 * Owner    The keeper makes it, the client maps it read-only.
 * Trust    A client checks magic and counts; texts end with a zero or fill their field.
 * See      docs/PROTOCOL.md ("Models"), daemon/keeper/registry.h, client/models.c, `llmctl models`.
 */
#ifndef LLM_SHM_MODELS_H
#define LLM_SHM_MODELS_H

#include "shm/layout.h"

#define LLM_MODELS_MAX    8u  /* loaded at once, the echo included */
#define LLM_ALIASES_MAX   16u /* of all models */
#define LLM_MODELS_MEMORY "models"
#define LLM_MODELS_MAGIC  UINT64_C(0x534c444d4d4c4c01)
#define LLM_MODELS_PATH   256u

enum llm_model_state {
    LLM_MODEL_FREE = 0,
    LLM_MODEL_LOADING = 1,  /* its files are being read */
    LLM_MODEL_LOADED = 2,   /* in memory; the engine that serves it is being started */
    LLM_MODEL_READY = 3,    /* answers requests */
    LLM_MODEL_DRAINING = 4, /* is unloaded when its last request has ended; takes no new ones */
    LLM_MODEL_FAILED = 5    /* could not be loaded: `reason` */
};

enum llm_model_flags {
    LLM_MODEL_DEFAULT = 1u << 0, /* for requests that name none */
    LLM_MODEL_NEWEST = 1u << 1   /* what its name alone stands for */
};

struct llm_model_record {
    uint64_t id;      /* of this load, never used again */
    uint32_t slot;    /* 0..LLM_MODELS_MAX-1: as in `llmctl kv map` */
    uint32_t version; /* 1.. counts the loads of this name */
    uint32_t state;   /* enum llm_model_state */
    uint32_t flags;   /* enum llm_model_flags */
    uint32_t context_tokens;
    uint32_t requests_live;
    uint64_t requests;      /* since it was loaded */
    uint64_t weights_bytes; /* in memory, or to be read */
    uint64_t loaded_bytes;  /* of those, there */
    uint64_t workspace_bytes;
    uint64_t load_ns; /* how long loading has taken so far, or took */
    uint64_t
        idle_ns; /* since its last request ended or, without one, since it was ready; 0 while it has one */
    char name[LLM_NAME_BYTES];
    char text[128];             /* "8.2 M parameters, bf16, 16.4 MB" */
    char path[LLM_MODELS_PATH]; /* administrators; else empty */
    char reason[LLM_NOTE_BYTES];
    uint8_t reserved[48];
};
static_assert(sizeof(struct llm_model_record) == 768, "wire size");
static_assert(offsetof(struct llm_model_record, name) == 80, "wire");

struct llm_model_alias {
    char name[LLM_NAME_BYTES];
    uint64_t model_id;
};
static_assert(sizeof(struct llm_model_alias) == 72, "wire size");

struct llm_models_image {
    uint64_t magic;
    uint32_t model_count;   /* 0..LLM_MODELS_MAX */
    uint32_t alias_count;   /* 0..LLM_ALIASES_MAX */
    uint64_t names_number;  /* counts the changes of aliases, default and what takes no requests */
    uint64_t names_settled; /* the engine goes by these: equal once the last change is in force */
    struct llm_model_record models[LLM_MODELS_MAX];
    struct llm_model_alias aliases[LLM_ALIASES_MAX];
    uint8_t reserved[864];
};
static_assert(sizeof(struct llm_models_image) == 2 * LLM_PAGE_BYTES, "wire size");

#endif
