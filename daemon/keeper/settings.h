/*
 * settings.h - from the usual files, --config and --set to one struct config.
 *
 * Idea     Later wins: defaults, /etc/llmd/llmd.toml, $XDG_CONFIG_HOME/llmd/llmd.toml, --config, --set. The daemon
 *          stops at the first wrong line; `llmd --check-config` goes on and lists everything.
 * See      daemon/config.h, daemon/config_check.h, `llmctl config`.
 */
#ifndef LLMD_KEEPER_SETTINGS_H
#define LLMD_KEEPER_SETTINGS_H

#include <stdio.h>

#include "daemon/config.h"

struct settings {
    const char *config_path;  /* --config; NULL: none */
    const char *const *pairs; /* [pair_count] "key=value" */
    unsigned pair_count;
};

enum llm_status settings_load(struct config *config, const struct settings *settings,
                              struct llm_error *error) LLM_MUST_CHECK;
/*
 * List everything that is wrong, one line each: "fail <sentence>" or "warn <sentence>", then one "ok" or a sum.
 *
 *   only_path  check this file as if there were no other; NULL: the usual ones and --config
 *   returns    an exit code: 0 when the daemon would start
 */
int settings_check(const struct settings *settings, const char *only_path, FILE *out);

#endif
