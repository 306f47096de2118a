#include "tests/daemon/memory_files.h"

#include <check.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static enum llm_status memory_open(void *self, const char *name, int *out_fd,
                                   struct llm_error *error)
{
    const struct memory_files *files = self;
    for (int i = 0; i < MEMORY_FILES_MAX; i++) {
        if (files->files[i].name == NULL || strcmp(files->files[i].name, name) != 0)
            continue;
        int fd = memfd_create(name, MFD_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        ssize_t written = write(fd, files->files[i].bytes, files->files[i].byte_count);
        ck_assert_int_eq(written, (ssize_t)files->files[i].byte_count);
        *out_fd = fd;
        return LLM_OK;
    }
    return llm_fail(error, LLM_ERR_NOT_FOUND, "the model has no file \"%s\"", name);
}

struct model_files memory_files_open(struct memory_files *files)
{
    return (struct model_files){.open = memory_open, .self = files};
}
