/*
 * feature.h - kernel facilities that are used where they exist, and how to do without them.
 *
 * Idea     Each facility newer than Linux 6.1, or forbidden in some containers, is probed where it is used and
 *          has a fallback. LLMD_DISABLE=name,name takes it away, so that tests run both ways.
 * Names    noexec_seal (memfd MFD_NOEXEC_SEAL), wipeonfork (MADV_WIPEONFORK); others belong to daemon/.
 */
#ifndef LLM_SHM_FEATURE_H
#define LLM_SHM_FEATURE_H

#include <stdbool.h>

/* Whether LLMD_DISABLE in the environment lists `name`. */
bool llm_feature_disabled(const char *name);

#endif
