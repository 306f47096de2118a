/*
 * llmd_run.h - ask the installed llmd about settings: it alone knows them.
 *
 * Idea     llmctl shares no code with the daemon. What is a valid setting and what is in effect it asks the
 *          program that auto-start would start (client/autostart.h), by --print-config and --check-config.
 * Owner    Output is allocated: free() it. llmd_settings borrow from it.
 */
#ifndef LLMCTL_LLMD_RUN_H
#define LLMCTL_LLMD_RUN_H

#include <stdbool.h>
#include <stddef.h>

#include "shm/status.h"

/*
 * Run llmd with these arguments and read what it prints.
 *
 *   arguments       without the program's name; the last one is NULL
 *   out_text        its standard output, terminated; free() it
 *   out_exit_code   128 + N when signal N ended it
 *   returns         LLM_OK, LLM_ERR_NOT_FOUND (no llmd), LLM_ERR_MEMORY, LLM_ERR_SYSTEM
 */
enum llm_status llmd_run(const char *const *arguments, char **out_text, int *out_exit_code,
                         struct llm_error *error) LLM_MUST_CHECK;

/* One line of `llmd --print-config=list`. */
struct llmd_setting {
    const char *key, *value, *origin, *initial, *type, *range, *sentence;
};
/* Cut the next line off `*text`; false at the end. Lines of another form are skipped. */
bool llmd_setting_next(char **text, struct llmd_setting *out_setting);

#endif
