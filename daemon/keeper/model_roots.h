/*
 * model_roots.h - which files the engine may read: those beneath the model directories, and no others.
 *
 * Idea     Roots are opened once, at start; the engine asks by absolute path, and the kernel resolves what
 *          follows the root with RESOLVE_BENEATH, so that no "..", symbolic link or race leads out. A model that was
 *          named as a single GGUF file makes its directory a root for that file (and its split) alone; these may be links.
 * Owner    The descriptors are the keeper's.
 * Trust    Paths come from the engine. Only regular files are handed out, read-only.
 * Source   openat2(2).
 */
#ifndef LLMD_KEEPER_MODEL_ROOTS_H
#define LLMD_KEEPER_MODEL_ROOTS_H

#include <stdint.h>

#include "daemon/config.h"
#include "daemon/model/model_place.h"
#include "shm/status.h"

#define MODEL_ROOTS_MAX (CONFIG_DIRECTORIES_MAX + 2) /* configured, chosen, built-in */

struct model_root {
    char path[CONFIG_PATH_BYTES]; /* canonical */
    int fd;
    struct model_place only; /* with a GGUF file: nothing else is opened through this root */
};

struct model_roots {
    uint32_t count;
    struct model_root roots[MODEL_ROOTS_MAX];
};

/*
 * Open the roots and find the default model: `config->models.preset` becomes the absolute path of its directory or
 * GGUF file ("echo" stays as it is). A name without '/' is looked for in the roots, as it is and with ".gguf".
 *
 *   returns   LLM_OK
 *             LLM_ERR_NOT_FOUND   no such model; the sentence lists where it was looked for
 *             LLM_ERR_INVALID     a configured directory is not one
 */
enum llm_status model_roots_open(struct model_roots *roots, struct config *config,
                                 struct llm_error *error) LLM_MUST_CHECK;
void model_roots_close(struct model_roots *roots);

/* The directory of the model `what`: a name, or an absolute directory beneath a root; "echo" stays as it is.
 * NOT_FOUND, INVALID, PERMISSION. */
enum llm_status model_roots_find(const struct model_roots *roots, const char *what, char *out_path,
                                 size_t bytes, struct llm_error *error) LLM_MUST_CHECK;

/* Open the file at `path`. LLM_ERR_PERMISSION: not beneath a root; LLM_ERR_NOT_FOUND; LLM_ERR_SYSTEM. */
enum llm_status model_roots_open_file(const struct model_roots *roots, const char *path,
                                      int *out_fd, struct llm_error *error) LLM_MUST_CHECK;

#endif
