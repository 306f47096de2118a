/* fuzz_toml - any bytes as a configuration file are visited key by key, or refused with a place. */
#include <string.h>

#include "daemon/toml.h"
#include "shm/check.h"

static enum llm_status visit(void *self, const char *key, const struct toml_value *value,
                             unsigned line, struct llm_error *error)
{
    size_t *read = self;
    (void)error;
    CHECK(strlen(key) < TOML_KEY_BYTES && line > 0);
    CHECK(value->string_count <= TOML_ARRAY_COUNT_MAX);
    for (uint32_t i = 0; i < value->string_count; i++)
        *read += strlen(value->strings[i]);
    return LLM_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct llm_error error = {0};
    size_t read = 0;
    if (toml_read((const char *)data, size, "fuzz.toml", visit, &read, &error) == LLM_OK)
        CHECK(read <= size * 4); /* escapes may grow a text, never more than fourfold */
    else
        CHECK(error.message[0] != 0);
    return 0;
}
