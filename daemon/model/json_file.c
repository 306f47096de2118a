#include "daemon/model/json_file.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHOWN_MAX_BYTES 80

enum llm_status json_file_parse(const char *name, const char *text, size_t bytes, json_t **out_root,
                                struct llm_error *error)
{
    json_error_t where;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (root == NULL)
        return llm_fail(error, LLM_ERR_CORRUPT, "%s is not valid JSON: line %d, column %d: %s",
                        name, where.line, where.column, json_show(where.text).text);
    if (!json_is_object(root)) {
        json_decref(root);
        return llm_fail(error, LLM_ERR_CORRUPT, "%s is JSON, but not an object", name);
    }
    *out_root = root;
    return LLM_OK;
}

static enum llm_status json_file_load(int fd, const char *name, size_t bytes_max, json_t **out_root,
                                      struct llm_error *error)
{
    struct model_file_stat st;
    enum llm_status status = model_file_stat(fd, name, &st, error);
    if (status != LLM_OK)
        return status;
    if (st.bytes > bytes_max)
        return llm_fail(error, LLM_ERR_LIMIT, "%s has %llu bytes; at most %zu are read", name,
                        (unsigned long long)st.bytes, bytes_max);
    char *text = malloc((size_t)st.bytes + 1); /* + 1: an empty file is not a failed malloc */
    if (text == NULL)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory to read %s", name);
    status = model_file_read(fd, name, 0, text, (size_t)st.bytes, error);
    if (status == LLM_OK)
        status = json_file_parse(name, text, (size_t)st.bytes, out_root, error);
    free(text);
    return status;
}

enum llm_status json_file_read(const struct model_files *files, const char *name, size_t bytes_max,
                               json_t **out_root, struct llm_error *error)
{
    int fd;
    enum llm_status status = files->open(files->self, name, &fd, error);
    if (status != LLM_OK)
        return status;
    status = json_file_load(fd, name, bytes_max, out_root, error);
    close(fd);
    return status;
}

struct json_shown json_show(const char *text)
{
    struct json_shown shown;
    size_t bytes = 0;
    for (; text[bytes] != '\0' && bytes < SHOWN_MAX_BYTES; bytes++) {
        unsigned char c = (unsigned char)text[bytes];
        shown.text[bytes] = c < 0x20 || c == 0x7f ? '?' : text[bytes];
    }
    bool cut = text[bytes] != '\0';
    while (cut && bytes > 0 && ((unsigned char)text[bytes] & 0xc0) == 0x80)
        bytes--; /* cut before, not inside, a UTF-8 character */
    memcpy(shown.text + bytes, cut ? "..." : "", cut ? 4 : 1);
    return shown;
}
