#include "daemon/model/model_files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME_MAX_BYTES 255               /* NAME_MAX of every file system we know */
#define READ_MAX_BYTES      ((size_t)1 << 30) /* Linux transfers at most 2^31 - 4096 at a time */

bool model_file_name_ok(const char *name)
{
    size_t bytes = strlen(name);
    if (bytes == 0 || bytes > FILE_NAME_MAX_BYTES)
        return false;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    for (size_t i = 0; i < bytes; i++)
        if (name[i] == '/' || (unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    return true;
}

static enum llm_status directory_open_file(void *self, const char *name, int *out_fd,
                                           struct llm_error *error)
{
    const struct model_directory *directory = self;
    if (!model_file_name_ok(name))
        return llm_fail(error, LLM_ERR_INVALID, "a model file's name is not a plain file name");
    /* O_NONBLOCK: opening a FIFO that somebody left here must not wait; regular files do not mind. */
    int fd = openat(directory->directory_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ENOENT)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "the model has no file \"%s\"", name);
    if (fd < 0)
        return llm_fail_errno(error, errno == EACCES ? LLM_ERR_PERMISSION : LLM_ERR_SYSTEM, errno,
                              "cannot open model file \"%s\"", name);
    *out_fd = fd;
    return LLM_OK;
}

struct model_files model_files_below(struct model_directory *directory)
{
    return (struct model_files){.open = directory_open_file, .self = directory};
}

static bool holds(const struct model_files *files, const char *name)
{
    int fd;
    enum llm_status status = files->open(files->self, name, &fd, NULL);
    if (status == LLM_OK)
        close(fd);
    return status != LLM_ERR_NOT_FOUND; /* what cannot be opened is there; its reader says why */
}

enum llm_status model_format_find(const struct model_files *files, const char **out_gguf,
                                  struct llm_error *error)
{
    static const char preset[] = "model.gguf";
    const char *gguf = files->gguf;
    if (gguf == NULL && !holds(files, "config.json") && holds(files, preset))
        gguf = preset;
    if (gguf == NULL && !holds(files, "config.json"))
        return llm_fail(error, LLM_ERR_NOT_FOUND, "the model has neither config.json nor %s",
                        preset);
    *out_gguf = gguf;
    return LLM_OK;
}

enum llm_status model_file_stat(int fd, const char *name, struct model_file_stat *out_stat,
                                struct llm_error *error)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot look at model file \"%s\"",
                              name);
    if (!S_ISREG(st.st_mode))
        return llm_fail(error, LLM_ERR_INVALID, "model file \"%s\" is not a regular file", name);
    *out_stat = (struct model_file_stat){
        .bytes = (uint64_t)st.st_size,
        .device = (uint64_t)st.st_dev,
        .inode = (uint64_t)st.st_ino,
        .modified_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
    };
    return LLM_OK;
}

enum llm_status model_file_read(int fd, const char *name, uint64_t offset, void *out, size_t bytes,
                                struct llm_error *error)
{
    unsigned char *cursor = out;
    while (bytes > 0) {
        size_t want = bytes < READ_MAX_BYTES ? bytes : READ_MAX_BYTES;
        ssize_t got = pread(fd, cursor, want, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot read model file \"%s\"",
                                  name);
        if (got == 0)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "model file \"%s\" ends at byte %" PRIu64 ", %zu bytes too early", name,
                            offset, bytes);
        cursor += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return LLM_OK;
}
