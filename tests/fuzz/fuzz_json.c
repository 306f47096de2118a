/*
 * fuzz_json.c - daemon/model/json_file and tools/llmctl/json_out: any bytes are a tree or a sentence, and any text
 * can be written as JSON.
 * How: what is read is written and read again, and must be equal. The first byte may instead have the rest written
 * by llmctl as text, key and number, which a strict reader must take.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/model/json_file.h"
#include "shm/check.h"
#include "tests/fuzz/input.h"
#include "tools/llmctl/json_out.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT_BYTES 4000

static void read_twice(const struct input *in)
{
    json_t *root = NULL, *again = NULL;
    struct llm_error error = {0};
    if (json_bytes_read((const char *)in->data, in->left, "fuzz.json", &root, &error) != LLM_OK) {
        CHECK(error.message[0] && !root);
        return;
    }
    char *text = json_dumps(root, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    CHECK(text);
    CHECK(json_bytes_read(text, strlen(text), "again.json", &again, &error) == LLM_OK);
    CHECK(json_equal(root, again));
    free(text);
    json_decref(root);
    json_decref(again);
}

/* The same bytes as a file, which may be larger than allowed. */
static void read_file(const struct input *in)
{
    json_t *root = NULL;
    struct llm_error error = {0};
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, in->data, in->left) == (ssize_t)in->left);
    enum llm_status status = json_file_read(fd, "fuzz.json", LIMIT_BYTES, &root, &error);
    CHECK((status == LLM_OK) == (root != NULL));
    CHECK((status == LLM_ERR_LIMIT) == (in->left > LIMIT_BYTES));
    json_decref(root);
    close(fd);
}

/* Writes text and numbers as llmctl does. What was UTF-8 comes back as it was. */
static void write_out(struct input *in)
{
    char key[8], text[256], *out = NULL;
    size_t out_bytes = 0;
    input_copy(in, key, sizeof key);
    key[sizeof key - 1] = '\0';
    uint64_t number = input_odd_number(in), bits = input_odd_number(in);
    double real;
    memcpy(&real, &bits, sizeof real);
    size_t bytes = in->left < sizeof text ? in->left : sizeof text;
    input_copy(in, text, bytes);

    FILE *file = open_memstream(&out, &out_bytes);
    struct json_out json;
    json_out_init(&json, file);
    json_out_object(&json, NULL);
    json_out_array(&json, key);
    json_out_bytes(&json, NULL, text, bytes);
    json_out_count(&json, NULL, number);
    json_out_real(&json, NULL, real);
    json_out_bool(&json, NULL, number & 1);
    json_out_end(&json);
    json_out_end(&json);
    fclose(file);

    json_t *root = json_loadb(out, out_bytes, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    CHECK(root);
    const json_t *array = json_object_iter_value(json_object_iter(root));
    CHECK(json_array_size(array) == 4 && json_is_null(json_array_get(array, 2)) == !isfinite(real));
    json_t *same = json_stringn(text, bytes);
    CHECK(!same || json_equal(same, json_array_get(array, 0)));
    json_decref(same);
    json_decref(root);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    uint8_t choice = input_byte(&in) % 4;
    if (choice == 0)
        write_out(&in);
    else if (choice == 1)
        read_file(&in);
    else
        read_twice(&in);
    return 0;
}
