/*
 * config_check.h - what only all settings together, or the machine, can get wrong.
 *
 * Idea     config_set() judges one value. Here are the rules between values (a step has a token for each
 *          sequence), between values and the machine (descriptors, memory), and between a file and its
 *          permissions. Each rule is one function that adds at most a sentence or two to a list.
 * See      `llmd --check-config`, `llmctl config check`, tests/daemon/test_config_check.c.
 */
#ifndef LLMD_DAEMON_CONFIG_CHECK_H
#define LLMD_DAEMON_CONFIG_CHECK_H

#include "daemon/config.h"
#include "shm/layout.h"

#define CONFIG_DESCRIPTORS_EACH 6   /* that the keeper holds for a connection */
#define CONFIG_DESCRIPTORS_MORE 512 /* for everything else */

/* What the rules are judged against; 0: not known. */
struct config_machine {
    uint64_t memory_bytes;    /* the cgroup's limit counted */
    uint64_t descriptors_max; /* hard limit of RLIMIT_NOFILE */
    uint64_t shm_free_bytes;  /* in /dev/shm */
    uint32_t cpus;            /* that this process may use */
    uint32_t uid;
};
void config_machine_take(struct config_machine *out_machine);

/* The geometry that these limits give a connection. */
struct llm_geometry config_geometry(const struct config *config);

/* The rule that an engine cannot start without. LLM_ERR_INVALID. */
enum llm_status config_limits_fit(const struct config *config, struct llm_error *error)
    LLM_MUST_CHECK;

/* Add what is wrong between the settings, and between them and the machine. */
void config_check(const struct config *config, const struct config_machine *machine,
                  struct config_findings *findings);
/* Add what is wrong with a configuration file's owner and mode. */
void config_check_file(const char *path, const struct config_machine *machine,
                       struct config_findings *findings);

#endif
