/*
 * model_files.h - how the files of a model directory are opened and read.
 *
 * Idea     Readers ask for a file by its name inside the model directory and get a descriptor. In the
 *          daemon the keeper opens files (the engine is sandboxed); tests and tools open them below a
 *          directory descriptor. Either way a name is one path component, so no file can lead out.
 * Owner    The caller of the callback owns the descriptor and closes it.
 * Trust    Names may come from a file (a shard index): model_file_name_ok() first. Contents are hostile:
 *          sizes are taken from fstat() and all reading is by pread(), which meets a file that shrinks
 *          under us with a short read, where a mapping would meet it with SIGBUS.
 * See      daemon/model/README.md.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_FILES_H
#define LLM_DAEMON_MODEL_MODEL_FILES_H

#include "shm/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct model_files {
    /* The name of the GGUF file that the model is (of a split: its first); NULL: a directory in Hugging Face's
     * layout, or whatever else model_format_find() recognises. */
    const char *gguf;
    /* Open `name` read-only. LLM_ERR_NOT_FOUND when there is no such file; *out_fd is the caller's. */
    enum llm_status (*open)(void *self, const char *name, int *out_fd, struct llm_error *error);
    void *self;
};

/* Files below a directory descriptor, which stays the caller's and must outlive the readers. Symbolic
 * links are followed (downloaded models are often directories of links); only regular files are opened. */
struct model_directory {
    int directory_fd;
};
struct model_files model_files_below(struct model_directory *directory);

/* Which of the formats the files are in: `files->gguf` where that is given, else Hugging Face's where there is
 * a config.json, else a GGUF file named model.gguf. *out_gguf is the GGUF file's name, NULL for Hugging Face's.
 * LLM_ERR_NOT_FOUND when there is neither. */
LLM_MUST_CHECK enum llm_status model_format_find(const struct model_files *files,
                                                 const char **out_gguf, struct llm_error *error);

/* One path component: not empty, at most 255 bytes, no '/', not "." or "..", no control characters. */
bool model_file_name_ok(const char *name);

/* What a regular file's identity was when it was opened: enough to notice that it was replaced. */
struct model_file_stat {
    uint64_t bytes;
    uint64_t device, inode;
    int64_t modified_ns;
};
LLM_MUST_CHECK enum llm_status model_file_stat(int fd, const char *name,
                                               struct model_file_stat *out_stat,
                                               struct llm_error *error);

/* Read exactly `bytes` at `offset`; LLM_ERR_CORRUPT when the file ends before. */
LLM_MUST_CHECK enum llm_status model_file_read(int fd, const char *name, uint64_t offset, void *out,
                                               size_t bytes, struct llm_error *error);

#endif
