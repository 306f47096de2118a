#include "daemon/model/json_file.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum llm_status json_bytes_read(const char *bytes, size_t byte_count, const char *name,
                                json_t **out_root, struct llm_error *error)
{
    json_error_t where;
    json_t *root = json_loadb(bytes, byte_count, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (root) {
        *out_root = root;
        return LLM_OK;
    }
    if (json_error_code(&where) == json_error_null_byte_in_key)
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "%s: line %d: a key contains a zero byte", name,
                        where.line);
    return llm_fail(error, LLM_ERR_INVALID, "%s: line %d: %s", name, where.line, where.text);
}

static enum llm_status read_bytes(int fd, const char *name, char *bytes, size_t byte_count,
                                  struct llm_error *error)
{
    size_t done = 0;
    while (done < byte_count) {
        ssize_t got = pread(fd, bytes + done, byte_count - done, (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot read %s", name);
        if (got == 0)
            return llm_fail(error, LLM_ERR_INVALID,
                            "%s became shorter while it was read: %zu of "
                            "%zu bytes",
                            name, done, byte_count);
        done += (size_t)got;
    }
    return LLM_OK;
}

enum llm_status json_file_read(int fd, const char *name, size_t limit_bytes, json_t **out_root,
                               struct llm_error *error)
{
    struct stat facts;
    if (fstat(fd, &facts) != 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot look at %s", name);
    if (!S_ISREG(facts.st_mode))
        return llm_fail(error, LLM_ERR_INVALID, "%s is not a regular file", name);
    if ((uintmax_t)facts.st_size > limit_bytes)
        return llm_fail(error, LLM_ERR_LIMIT, "%s has %jd bytes, the limit is %zu", name,
                        (intmax_t)facts.st_size, limit_bytes);

    size_t byte_count = (size_t)facts.st_size;
    char *bytes = malloc(byte_count + 1); /* + 1: an empty file is no null pointer */
    if (!bytes)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the %zu bytes of %s", byte_count,
                        name);
    enum llm_status status = read_bytes(fd, name, bytes, byte_count, error);
    if (status == LLM_OK)
        status = json_bytes_read(bytes, byte_count, name, out_root, error);
    free(bytes);
    return status;
}
