/*
 * model_place.h - what a path given as a model leads to.
 *
 * Idea     A user names a directory or a file. A model is a directory in Hugging Face's layout (config.json beside
 *          safetensors), or a GGUF file, which may be the only one of a directory, or the first of a split
 *          ("x-00001-of-00003.gguf"; naming another one of them leads to the first).
 * Owner    A plain value; nothing to close.
 * Trust    Names in a directory may be anything; only those that model_file_name_ok() are looked at.
 * See      model_files.h (model_format_find() for those who cannot list a directory), tests/daemon/test_model_place.c.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_PLACE_H
#define LLM_DAEMON_MODEL_MODEL_PLACE_H

#include "shm/status.h"

#include <stdbool.h>
#include <stddef.h>

#define MODEL_PLACE_PATH_BYTES 1024
#define MODEL_PLACE_NAME_BYTES 256

struct model_place {
    char directory[MODEL_PLACE_PATH_BYTES]; /* canonical */
    char gguf[MODEL_PLACE_NAME_BYTES];      /* a file in it; "": Hugging Face's layout */
};

/*
 * Look at `path`.
 *
 *   returns   LLM_OK
 *             LLM_ERR_NOT_FOUND   nothing there, or no model in it
 *             LLM_ERR_INVALID     a file that is not *.gguf, several GGUF files to choose from, or too long
 */
LLM_MUST_CHECK enum llm_status model_place_find(const char *path, struct model_place *out_place,
                                                struct llm_error *error);

/* The path by which others know it: the directory, or the GGUF file in it. */
LLM_MUST_CHECK enum llm_status model_place_path(const struct model_place *place, char *out_path,
                                                size_t bytes, struct llm_error *error);

/* The reverse, from the text alone: a path that ends in ".gguf" is a file. */
LLM_MUST_CHECK enum llm_status
model_place_from_path(const char *path, struct model_place *out_place, struct llm_error *error);

/* What the model is called: the directory's name, or the GGUF file's without ending and split number. */
void model_place_name(const struct model_place *place, char *out_name, size_t bytes);

/* Whether a file name is the place's GGUF file or belongs to the same split. */
bool model_place_holds(const struct model_place *place, const char *name);

#endif
