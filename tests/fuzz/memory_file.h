/*
 * memory_file.h - a model directory with one file, whose bytes the fuzzer chose.
 *
 * Owner    The descriptor that a reader gets is its own; memory_file_close() ends the original.
 */
#ifndef TESTS_FUZZ_MEMORY_FILE_H
#define TESTS_FUZZ_MEMORY_FILE_H

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/model/model_files.h"

struct memory_file {
    const char *name;
    int fd;
};

static enum llm_status memory_file_open(void *self, const char *name, int *out_fd,
                                        struct llm_error *error)
{
    const struct memory_file *file = self;
    if (strcmp(name, file->name) != 0)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "no file %s", name);
    *out_fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
    return LLM_OK;
}

static inline struct model_files memory_file_make(struct memory_file *file, const char *name,
                                                  const uint8_t *bytes, size_t count)
{
    *file = (struct memory_file){.name = name, .fd = memfd_create(name, MFD_CLOEXEC)};
    if (file->fd < 0 || write(file->fd, bytes, count) != (ssize_t)count)
        abort();
    return (struct model_files){.open = memory_file_open, .self = file};
}

static inline void memory_file_close(struct memory_file *file)
{
    close(file->fd);
}

#endif
