#include "daemon/model/model_json.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define SHOWN_MAX_BYTES 80

static enum llm_status insist_on_object(json_t *root, const char *name, json_t **out_object,
                                        struct llm_error *error)
{
    if (!json_is_object(root)) {
        json_decref(root);
        return llm_fail(error, LLM_ERR_INVALID, "%s is JSON, but not an object", name);
    }
    *out_object = root;
    return LLM_OK;
}

enum llm_status model_json_read(const struct model_files *files, const char *name,
                                size_t limit_bytes, json_t **out_object, struct llm_error *error)
{
    int fd;
    enum llm_status status = files->open(files->self, name, &fd, error);
    if (status != LLM_OK)
        return status;
    json_t *root = NULL;
    status = json_file_read(fd, name, limit_bytes, &root, error);
    close(fd);
    return status == LLM_OK ? insist_on_object(root, name, out_object, error) : status;
}

enum llm_status model_json_parse(const char *bytes, size_t byte_count, const char *name,
                                 json_t **out_object, struct llm_error *error)
{
    json_t *root = NULL;
    enum llm_status status = json_bytes_read(bytes, byte_count, name, &root, error);
    return status == LLM_OK ? insist_on_object(root, name, out_object, error) : status;
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
