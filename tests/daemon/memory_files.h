/*
 * memory_files.h - a model directory that exists only in the test: names and bytes, opened as memfds.
 */
#ifndef LLM_TESTS_DAEMON_MEMORY_FILES_H
#define LLM_TESTS_DAEMON_MEMORY_FILES_H

#include "daemon/model/model_files.h"

#include <stddef.h>

#define MEMORY_FILES_MAX 4

struct memory_files {
    struct {
        const char *name; /* NULL: no file in this place */
        const void *bytes;
        size_t byte_count;
    } files[MEMORY_FILES_MAX];
};

struct model_files memory_files_open(struct memory_files *files);

#endif
