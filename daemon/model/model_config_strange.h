/*
 * model_config_strange.h - keys of config.json that nobody here knows.
 *
 * Idea     A key that we do not read is ignored, as transformers does; but a new one may be why a model answers strangely,
 *          so each is named in a note. Known are the keys that model_config.c and the families read, and those that
 *          transformers writes for these families and that change nothing when a model only answers
 *          (dropout, initialisation, versions).
 * See      https://huggingface.co/docs/transformers/main_classes/configuration, tests/daemon/test_model_source.c.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_CONFIG_STRANGE_H
#define LLM_DAEMON_MODEL_MODEL_CONFIG_STRANGE_H

#include "daemon/model/model_files.h"
#include "daemon/model/model_notes.h"

/* Name every unknown key at the top of config.json. A file that cannot be read has no keys: its reader says why. */
void model_config_note_strange(const struct model_files *files, const struct model_notes *notes);

#endif
