/*
 * feature.h - kernel facilities that are used where they exist, and how to do without them.
 *
 * Idea     Each facility newer than Linux 6.1, or forbidden in some containers, has a row in llm_features[]: what it
 *          gives and what happens without. It is tried where it is used, and has a fallback there. LLMD_DISABLE=name,name
 *          takes it away, so that tests run both ways; llmd says at its start which ones it lacks, and why.
 * Threads  Any; the environment is only read.
 * See      docs/TESTING.md ("Without newer kernel facilities"), tests/e2e/test_fallbacks.c.
 */
#ifndef LLM_SHM_FEATURE_H
#define LLM_SHM_FEATURE_H

#include <stdbool.h>

#include "shm/status.h"

struct llm_feature {
    const char *name;    /* as in LLMD_DISABLE; NULL ends the list */
    const char *gives;   /* what it is good for */
    const char *without; /* what happens where it is not */
    bool (*here)(void);  /* try it; false leaves the reason in errno */
};
extern const struct llm_feature llm_features[];

/* Whether LLMD_DISABLE in the environment lists `name`, which has a row. */
bool llm_feature_disabled(const char *name);

/* LLM_OK when it can be used; else LLM_ERR_UNSUPPORTED with the reason: LLMD_DISABLE, or what the kernel said. */
enum llm_status llm_feature_look(const struct llm_feature *feature, struct llm_error *error)
    LLM_MUST_CHECK;

/* LLM_ERR_INVALID when LLMD_DISABLE holds a word that is not in the list; the sentence names it and those that are. */
enum llm_status llm_feature_list_check(struct llm_error *error) LLM_MUST_CHECK;

#endif
