/*
 * model_notes.h - what opening a model has to tell besides success or failure.
 *
 * Idea     A key that nobody knows, a tensor that is converted: worth a line in the log, no reason to refuse. The
 *          readers hand sentences to whoever opens the model; the daemon writes them to its log.
 * Trust    Names in a sentence come from files; they are made printable before.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_NOTES_H
#define LLM_DAEMON_MODEL_MODEL_NOTES_H

#include "shm/status.h"

struct model_notes {
    void (*note)(void *self, const char *sentence);
    void *self;
};

/* `notes` may be NULL: nobody listens. A sentence is cut at LLM_ERROR_MESSAGE_BYTES. */
void model_note(const struct model_notes *notes, const char *format, ...) LLM_PRINTF(2, 3);

#endif
