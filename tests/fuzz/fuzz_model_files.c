/*
 * fuzz_model_files.c - daemon/model: any config.json, safetensors file or shard index ends in a checked result
 * or in a sentence.
 * How: the first byte chooses the reader, and whether the rest is the file or a list of edits (place, byte) to a
 * good one. A safetensors file is given its header's length (unless the byte asks for raw bytes), so that the
 * fuzzer gets past the frame; what is accepted is read to the last byte. A shard index stands beside one good shard.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/model/model_config.h"
#include "daemon/model/safetensors.h"
#include "shm/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EDITED_MAX_BYTES 512
#define SHARD_HEADER     "{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}}"

struct fuzzed_files {
    const char *name; /* of the file whose bytes are fuzzed */
    const uint8_t *data;
    size_t size;
    bool framed; /* put the length of everything before it */
};

static int file_of(const void *length, const void *bytes, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0);
    if (length != NULL)
        CHECK(write(fd, length, 8) == 8);
    CHECK(write(fd, bytes, size) == (ssize_t)size);
    return fd;
}

static enum llm_status open_fuzzed(void *self, const char *name, int *out_fd,
                                   struct llm_error *error)
{
    static const char shard[] = SHARD_HEADER "data";
    const struct fuzzed_files *files = self;
    if (strcmp(name, files->name) == 0) {
        uint64_t length = files->size;
        *out_fd = file_of(files->framed ? &length : NULL, files->data, files->size);
        return LLM_OK;
    }
    if (strcmp(name, "x.safetensors") == 0) {
        uint64_t length = sizeof SHARD_HEADER - 1;
        *out_fd = file_of(&length, shard, sizeof shard - 1);
        return LLM_OK;
    }
    CHECK(model_file_name_ok(name));
    return llm_fail(error, LLM_ERR_NOT_FOUND, "no file");
}

static void read_config(const struct model_files *files)
{
    struct model_config c;
    struct llm_error error = {0};
    if (model_config_read(files, &c, &error) == LLM_OK) {
        CHECK(c.head_count % c.kv_head_count == 0);
        CHECK(c.head_dim % 2 == 0 && c.head_dim >= 2);
        CHECK(c.bos_token_id < (int64_t)c.vocab_size);
    } else {
        CHECK(strlen(error.message) > 0);
    }
}

static void read_tensors(const struct model_files *files)
{
    struct safetensors st;
    struct llm_error error = {0};
    if (safetensors_open(&st, files, &error) != LLM_OK) {
        CHECK(strlen(error.message) > 0);
        return;
    }
    for (size_t i = 0; i < st.tensor_count; i++) {
        size_t bytes = (size_t)st.tensors[i].bytes; /* accepted, so no larger than the file */
        void *data = malloc(bytes + 1);
        CHECK(data != NULL);
        CHECK(safetensors_read(&st, &st.tensors[i], 0, data, bytes, &error) == LLM_OK);
        free(data);
    }
    safetensors_close(&st);
}

/* What the first byte chooses from: a file's name, a good one, and whether its length is put before it. */
static const struct {
    const char *name, *good;
    bool framed;
} choices[] = {
    {"config.json",
     "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64, \"intermediate_size\": 172,"
     "\"num_hidden_layers\": 5, \"num_attention_heads\": 8, \"num_key_value_heads\": 4,"
     "\"vocab_size\": 512, \"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-06,"
     "\"rope_theta\": 500000.0, \"rope_scaling\": null, \"eos_token_id\": [2, 3]}",
     false},
    {"model.safetensors",
     "{\"a\": {\"dtype\": \"I64\", \"shape\": [0, 5], \"data_offsets\": [0, 0]},"
     "\"b\": {\"dtype\": \"F32\", \"shape\": [2, 0], \"data_offsets\": [0, 0]}}",
     true},
    {"model.safetensors", SHARD_HEADER "data",
     false}, /* its first 8 bytes are taken for a length */
    {"model.safetensors.index.json", "{\"weight_map\": {\"a\": \"x.safetensors\"}}", false},
};

/* Put each triple (place low, place high, byte) into the text; returns its size. */
static size_t edit(uint8_t *text, const char *good, const uint8_t *edits, size_t edit_bytes)
{
    size_t size = strlen(good);
    CHECK(size <= EDITED_MAX_BYTES);
    memcpy(text, good, size);
    for (; edit_bytes >= 3; edits += 3, edit_bytes -= 3)
        text[(edits[0] + 256u * edits[1]) % size] = edits[2];
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t edited[EDITED_MAX_BYTES];
    if (size == 0)
        return 0;
    int choice = data[0] % 4;
    struct fuzzed_files fuzzed = {choices[choice].name, data + 1, size - 1, choices[choice].framed};
    if (data[0] & 4) {
        fuzzed.size = edit(edited, choices[choice].good, data + 1, size - 1);
        fuzzed.data = edited;
    }
    struct model_files files = {.open = open_fuzzed, .self = &fuzzed};
    if (choice == 0)
        read_config(&files);
    else
        read_tensors(&files);
    return 0;
}
