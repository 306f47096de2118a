/* fuzz_model_config - any bytes as config.json end in a configuration within its ranges, or in a sentence. */
#include "shm/check.h"
#include "tests/fuzz/memory_file.h"

#include "daemon/model/model_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory_file file;
    struct model_files files = memory_file_make(&file, "config.json", data, size);
    struct model_config config;
    struct llm_error error;
    if (model_config_read(&files, &config, &error) == LLM_OK)
        CHECK(config.kv_head_count > 0 && config.head_count % config.kv_head_count == 0);
    else
        CHECK(error.message[0] != 0);
    memory_file_close(&file);
    return 0;
}
