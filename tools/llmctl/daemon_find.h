/*
 * daemon_find.h - which daemon is meant, without asking it.
 *
 * Idea     Every daemon has a status file "/llmd.<uid>.<instance>", and the file says which socket the
 *          daemon serves. So the daemon behind a socket is found by looking through the status files: that works
 *          when the daemon hangs, and also when it is dead and left its file behind.
 * Order    A file whose keeper lives goes before one whose keeper is gone.
 * See      shm/status_file.h, client/llm.h (which socket is the usual one).
 */
#ifndef LLMCTL_DAEMON_FIND_H
#define LLMCTL_DAEMON_FIND_H

#include "shm/status_file.h"
#include "tools/llmctl/arguments.h"
#include "tools/llmctl/status_view.h"

/*
 * Map the status file of the daemon that `arguments` names (--instance, --socket, or the usual socket).
 *
 *   returns   LLM_OK; llm_status_close() ends it
 *             LLM_ERR_PEER        no such daemon: the sentence says which socket or name was looked for
 *             LLM_ERR_PERMISSION  its status file is another user's
 */
enum llm_status daemon_find(const struct arguments *arguments,
                            const struct llm_status_file **out_file, struct llm_error *error)
    LLM_MUST_CHECK;

/* The same, and one view of it. `out_view` is allocated: free() it. */
enum llm_status daemon_look(const struct arguments *arguments, struct status_view **out_view,
                            struct llm_error *error) LLM_MUST_CHECK;

#endif
