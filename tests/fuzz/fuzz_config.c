/*
 * fuzz_config.c - daemon/config: any file and any --set is taken or refused with a sentence, and what was taken
 * survives being printed and read, and being handed to the engine.
 * How: the first byte chooses a raw file or lines made of the table's own keys; values are odd numbers, words that
 * some key takes, or bytes. The engine's hand-over and `--print-config` must give the same settings again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/config_check.h"
#include "daemon/config_text.h"
#include "daemon/quota.h"
#include "shm/check.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const words[] = {"true",
                                    "false",
                                    "\"512MiB\"",
                                    "\"4 GiB\"",
                                    "\"99999999999TiB\"",
                                    "[\"/a\", \"/b\"]",
                                    "[]",
                                    "\"auto\"",
                                    "\"\"",
                                    "\"echo\"",
                                    "1e3",
                                    "0x10",
                                    "[\"a:b\"]",
                                    "1_0",
                                    "'info'"};

static void put_value(struct input *in, FILE *file)
{
    char bytes[24];
    uint8_t choice = input_byte(in);
    if (choice < 96)
        fputs(words[choice % (sizeof words / sizeof words[0])], file);
    else if (choice < 192)
        fprintf(file, choice % 2 ? "%llu" : "\"%lluKiB\"",
                (unsigned long long)input_odd_number(in));
    else {
        size_t count = input_byte(in) % sizeof bytes;
        input_copy(in, bytes, count);
        fputc('"', file);
        fwrite(bytes, 1, count, file);
        fputc('"', file);
    }
}

/* A key of the table, or one of a quota: of a user or group that is there, a number, or none of these. */
static const char *a_key(struct input *in)
{
    static const char *const names[] = {"root",    "@root", "0",          "@0",    "1000",
                                        "\"a.b\"", "@",     "4294967295", "no.one"};
    static char name[CONFIG_NAME_BYTES];
    unsigned key = input_byte(in) % (config_key_count() + CONFIG_QUOTA_KEYS);
    if (key < config_key_count())
        return config_key_name(key);
    snprintf(name, sizeof name, "quota.%s%s",
             names[input_byte(in) % (sizeof names / sizeof *names)],
             strchr(quota_key(key - config_key_count())->name, '.'));
    return name;
}

/* "[table]" and "key = value", or the whole key; sometimes with a line that is neither. */
static void put_line(struct input *in, FILE *file)
{
    const char *key = a_key(in), *dot = strrchr(key, '.');
    uint8_t form = input_byte(in);
    if (form < 128)
        fprintf(file, "[%.*s]\n%s = ", (int)(dot - key), key, dot + 1);
    else
        fprintf(file, "%s = ", form < 240 ? key : "");
    put_value(in, file);
    fputc('\n', file);
}

/* As `llmctl config check` does: every fault, in a list that has an end. */
static void find_everything(const char *path, bool in_order)
{
    static struct config config;
    static struct config_findings findings;
    const struct config_machine machine = {
        .memory_bytes = 1 << 30, .descriptors_max = 1024, .shm_free_bytes = 1 << 20, .cpus = 2};
    findings = (struct config_findings){0};
    config_init(&config);
    config_read_all(&config, path, &findings);
    CHECK((findings.fail_count == 0) == in_order);
    config_check(&config, &machine, &findings);
    config_check_file(path, &machine, &findings);
    CHECK(findings.count <= CONFIG_FINDINGS_MAX);
    for (unsigned i = 0; i < findings.count; i++)
        CHECK(findings.items[i].sentence[0]);
}

static void read_text(struct config *config, const void *text, size_t bytes, bool must)
{
    char path[64];
    struct llm_error error = {0};
    struct config before = *config;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, text, bytes) == (ssize_t)bytes);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum llm_status status = config_read(config, path, &error);
    CHECK(status == LLM_OK || (!must && error.message[0]));
    if (status != LLM_OK)
        *config = before;
    find_everything(path, status == LLM_OK);
    close(fd);
}

static void same(const struct config *a, const struct config *b)
{
    static char text_a[CONFIG_DIRECTORIES_MAX * CONFIG_PATH_BYTES], text_b[sizeof text_a];
    char name_a[CONFIG_NAME_BYTES], name_b[CONFIG_NAME_BYTES];
    CHECK(config_item_count(a) == config_item_count(b));
    for (unsigned item = 0; item < config_item_count(a); item++) {
        config_item(a, item, name_a, text_a, sizeof text_a);
        config_item(b, item, name_b, text_b, sizeof text_b);
        CHECK(strcmp(name_a, name_b) == 0 && strcmp(text_a, text_b) == 0);
    }
}

static void print_and_read(const struct config *config)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    config_print(config, file);
    fclose(file);
    static struct config again;
    config_init(&again);
    read_text(&again, text, bytes, true);
    same(config, &again);
    free(text);
}

/* As the keeper hands them to the engine. */
static void hand_over(const struct config *config)
{
    static struct config engine;
    static char pair[CONFIG_VALUE_BYTES + CONFIG_NAME_BYTES];
    config_init(&engine);
    char name[CONFIG_NAME_BYTES];
    static char text[CONFIG_VALUE_BYTES];
    for (unsigned item = 0; item < config_item_count(config); item++) {
        struct llm_error error;
        config_item(config, item, name, text, sizeof text);
        snprintf(pair, sizeof pair, "%s=%s", name, text);
        CHECK(config_set_pair(&engine, pair, "llmd-engine", &error) == LLM_OK);
    }
    same(config, &engine);
}

/* Like --set: a key of the table or bytes, '=', bytes. */
static void set_pair(struct input *in, struct config *config)
{
    static const char *const texts[] = {"a\\b", "\"",       "\\",         "a\\\"b#",
                                        "'",    "\303\251", "/a\"b:/c\\", "/"};
    char pair[256], value[48];
    struct llm_error error = {0};
    const char *key = a_key(in);
    uint8_t form = input_byte(in);
    size_t bytes = input_byte(in) % sizeof value;
    input_copy(in, value, bytes);
    value[bytes] = '\0';
    if (form < 64)
        snprintf(pair, sizeof pair, "%s", value);
    else
        snprintf(pair, sizeof pair, "%s=%s", key, form < 160 ? value : texts[form % 8]);
    CHECK(config_set_pair(config, pair, "--set", &error) == LLM_OK || error.message[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config;
    struct input in = {data, size};
    config_init(&config);
    uint8_t choice = input_byte(&in);
    if (choice % 4 == 0) {
        read_text(&config, in.data, in.left, false);
    } else {
        char *text = NULL;
        size_t bytes = 0;
        FILE *file = open_memstream(&text, &bytes);
        for (uint8_t lines = choice / 4 % 8; lines > 0; lines--)
            put_line(&in, file);
        fclose(file);
        read_text(&config, text, bytes, false);
        free(text);
        for (uint8_t pairs = choice / 64; pairs > 0; pairs--)
            set_pair(&in, &config);
    }
    print_and_read(&config);
    hand_over(&config);
    return 0;
}
