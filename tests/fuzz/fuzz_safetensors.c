/* fuzz_safetensors - any bytes as model.safetensors: after a good open every tensor can be read where it says. */
#include "shm/check.h"
#include "tests/fuzz/memory_file.h"

#include "daemon/model/safetensors.h"

static void read_last_byte(const struct safetensors *st, const struct safetensors_tensor *tensor)
{
    unsigned char last;
    if (tensor->bytes > 0)
        CHECK(safetensors_read(st, tensor, tensor->bytes - 1, &last, 1, NULL) == LLM_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory_file file;
    struct model_files files = memory_file_make(&file, "model.safetensors", data, size);
    struct safetensors st = {0};
    struct llm_error error;
    if (safetensors_open(&st, &files, &error) == LLM_OK)
        for (size_t i = 0; i < st.tensor_count; i++)
            read_last_byte(&st, &st.tensors[i]);
    else
        CHECK(error.message[0] != 0);
    safetensors_close(&st);
    memory_file_close(&file);
    return 0;
}
