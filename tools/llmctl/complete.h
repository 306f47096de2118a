/*
 * complete.h - what can stand where the cursor is: the shells' completion asks here.
 *
 * Idea     `llmctl __complete -- PROGRAM WORDS...` prints a line "candidate<TAB>sentence" for each way to go on with the
 *          last word; the scripts in packaging/completion/ only ask and show. llmctl's verbs and options come from
 *          its table; those of llmd and llm-bench, and the configuration's keys, from their own help.
 * Lines    ":files", ":directories" ask the shell for names of files; ":nospace" to put no blank behind a word.
 * Live     Requests, models, sockets and instances are read from status files, so nothing waits for a daemon; after
 *          2 s the process ends whatever it does.
 * Trust    A name that the shell would not take as one plain word is never offered: other users make status files.
 * See      tests/tools/test_complete.c.
 */
#ifndef LLMCTL_COMPLETE_H
#define LLMCTL_COMPLETE_H

#include <stdio.h>

/* words [count]: the program's name, then what was typed; the last one, maybe empty, is the one to complete. */
void complete_print(int count, const char *const *words, FILE *out);

/* Can `text` stand in a command line as it is? */
_Bool complete_is_plain(const char *text);

#endif
