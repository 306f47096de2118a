#include "tests/support/vocab_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/model/byte_alphabet.h"
#include "daemon/model/gguf.h"
#include "daemon/model/json_file.h"
#include "daemon/model/model_files.h"
#include "shm/check.h"

/* ---- The two small vocabularies -------------------------------------------------------------------- */

static void add_token(json_t *vocab, const char *name)
{
    CHECK(json_object_set_new(vocab, name, json_integer((json_int_t)json_object_size(vocab))) == 0);
}

static void add_merges(json_t *tokenizer, const char *const *merges, size_t count)
{
    json_t *model = json_object_get(tokenizer, "model");
    json_t *vocab = json_object_get(model, "vocab");
    json_t *list = json_object_get(model, "merges");
    for (size_t i = 0; i < count; i++) {
        char joined[64];
        const char *space = strchr(merges[i], ' ');
        snprintf(joined, sizeof joined, "%.*s%s", (int)(space - merges[i]), merges[i], space + 1);
        if (!json_object_get(vocab, joined))
            add_token(vocab, joined);
        CHECK(json_array_append_new(list, json_string(merges[i])) == 0);
    }
}

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);
    CHECK(root != NULL);
    return root;
}

json_t *small_byte_level(void)
{
    static const char *const merges[] = {"l l",
                                         "h e",
                                         "H e",
                                         "ll o",
                                         "he llo",
                                         "\xc4\xa0 w",
                                         "o r",
                                         "\xc4\xa0w or",
                                         "l d",
                                         "\xc4\xa0wor ld",
                                         "\xc3\x83 \xc2\xa9", /* the two bytes of U+00E9 */
                                         "\xc4\xa0 \xc4\xa0",
                                         "a a",
                                         "aa aa"};
    json_t *root = parse("{\"version\":\"1.0\",\"added_tokens\":[],\"normalizer\":null,"
                         "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                         "\"trim_offsets\":true,\"use_regex\":true},"
                         "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},"
                         "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                         "\"vocab\":{},\"merges\":[]}}");
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t c = byte_alphabet_letter((uint8_t)byte);
        char name[3] = {(char)c, 0, 0};
        if (c >= 0x80) {
            name[0] = (char)(0xc0 | c >> 6);
            name[1] = (char)(0x80 | (c & 0x3f));
        }
        add_token(vocab, name);
    }
    add_merges(root, merges, sizeof merges / sizeof *merges);
    json_int_t next = (json_int_t)json_object_size(vocab);
    json_object_set_new(root, "added_tokens",
                        json_pack("[{s:I,s:s,s:b},{s:I,s:s,s:b}]", "id", next, "content", "<|end|>",
                                  "special", 1, "id", next + 1, "content", "<tool>", "special", 0));
    return root;
}

json_t *small_sentencepiece(void)
{
    static const char *const letters[] = {"\xe2\x96\x81", "h", "e", "l", "o", "w", "r", "d", "a",
                                          "\xc3\xa9"};
    static const char *const merges[] = {"\xe2\x96\x81 h",
                                         "e l",
                                         "l o",
                                         "el lo",
                                         "\xe2\x96\x81h ello",
                                         "\xe2\x96\x81 w",
                                         "o r",
                                         "l d",
                                         "\xe2\x96\x81w or",
                                         "\xe2\x96\x81wor ld",
                                         "\xe2\x96\x81 \xe2\x96\x81"};
    json_t *root = parse("{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},"
                         "{\"id\":1,\"content\":\"<s>\",\"special\":true},{\"id\":2,\"content\":\"<"
                         "/s>\",\"special\":true}],"
                         "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":"
                         "\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},"
                         "{\"type\":\"Replace\",\"pattern\":{\"String\":\" "
                         "\"},\"content\":\"\xe2\x96\x81\"}]},\"pre_tokenizer\":null,"
                         "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{"
                         "\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
                         "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]},"
                         "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
                         "\"pattern\":{\"String\":\"\xe2\x96\x81\"},"
                         "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
                         "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
                         "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,"
                         "\"byte_fallback\":true,"
                         "\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2},\"merges\":[]}}");
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        add_token(vocab, name);
    }
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++)
        add_token(vocab, letters[i]);
    add_merges(root, merges, sizeof merges / sizeof *merges);
    return root;
}

/* A CHECK rather than one of Check's assertions: fuzz targets use this file too. */
static void must_be_ok(enum llm_status status, const llm_error *error)
{
    if (status != LLM_OK)
        fprintf(stderr, "%s\n", error->message);
    CHECK(status == LLM_OK);
}

/* ---- Building -------------------------------------------------------------------------------------- */

static struct vocab_source source_of(const json_t *tokenizer, const json_t *config,
                                     uint32_t token_count)
{
    return (struct vocab_source){.tokenizer = tokenizer,
                                 .tokenizer_config = config,
                                 .facts = {.name = "small",
                                           .fingerprint = {1, 2, 3},
                                           .token_count = token_count,
                                           .context_max_tokens = 512,
                                           .bos_id = LLM_TOKEN_NONE}};
}

void *build_image(const json_t *tokenizer, const json_t *tokenizer_config, size_t *out_bytes)
{
    struct vocab_source source = source_of(tokenizer, tokenizer_config, 0);
    void *image;
    llm_error error;
    enum llm_status status = vocab_build(&source, &image, out_bytes, &error);
    must_be_ok(status, &error);
    return image;
}

enum llm_status try_build(const json_t *tokenizer, uint32_t token_count, llm_error *error)
{
    struct vocab_source source = source_of(tokenizer, NULL, token_count);
    void *image = NULL;
    size_t bytes;
    enum llm_status status = vocab_build(&source, &image, &bytes, error);
    if (status == LLM_OK)
        free(image);
    return status;
}

/* `path` is a file; *out_image only with LLM_OK. */
static enum llm_status build_gguf(const char *path, void **out_image, size_t *out_bytes,
                                  llm_error *error)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    CHECK(slash != NULL && (size_t)(slash - path) < sizeof folder);
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    struct model_directory directory = {open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC)};
    CHECK(directory.directory_fd >= 0);
    struct model_files files = model_files_below(&directory);
    struct gguf gguf;
    enum llm_status status = gguf_open(&gguf, &files, slash + 1, error);
    close(directory.directory_fd);
    if (status != LLM_OK)
        return status;
    struct vocab_source source = source_of(NULL, NULL, 0);
    source.gguf = &gguf;
    status = vocab_build(&source, out_image, out_bytes, error);
    gguf_close(&gguf);
    return status;
}

void *build_gguf_image(const char *path, size_t *out_bytes)
{
    void *image;
    llm_error error;
    enum llm_status status = build_gguf(path, &image, out_bytes, &error);
    must_be_ok(status, &error);
    return image;
}

enum llm_status try_build_gguf(const char *path, llm_error *error)
{
    void *image = NULL;
    size_t bytes;
    enum llm_status status = build_gguf(path, &image, &bytes, error);
    if (status == LLM_OK)
        free(image);
    return status;
}

llm_vocab *open_image(const void *image, size_t bytes)
{
    llm_vocab *vocab;
    llm_error error;
    enum llm_status status = llm_vocab_open(image, bytes, &vocab, &error);
    must_be_ok(status, &error);
    return vocab;
}

/* ---- Test data, seeds ------------------------------------------------------------------------------ */

const char *testdata(const char *path)
{
    static char full[4096];
    const char *root = getenv("LLM_TESTDATA");
    if (!root || !root[0]) {
        printf("skipped: LLM_TESTDATA is not set\n");
        exit(77);
    }
    snprintf(full, sizeof full, "%s/%s", root, path);
    return full;
}

json_t *load_json(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    json_t *root;
    llm_error error;
    enum llm_status status = json_file_read(fd, path, VOCAB_JSON_BYTES_MAX, &root, &error);
    close(fd);
    must_be_ok(status, &error);
    return root;
}

uint64_t test_seed(void)
{
    const char *given = getenv("LLM_TEST_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed =
        given ? strtoull(given, NULL, 0) : (uint64_t)now.tv_sec * 1000003u + (uint64_t)now.tv_nsec;
    return seed ? seed : 1; /* xorshift stays at zero */
}

uint64_t test_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}
