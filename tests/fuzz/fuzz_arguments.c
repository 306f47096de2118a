/*
 * fuzz_arguments.c - tools/llmctl/arguments: any command line is taken or refused with a sentence.
 * How: the first byte chooses a verb; words are one of its options, with a value that some option takes, or bytes.
 * Every list that was accepted is read to its end.
 */
#include <stdio.h>
#include <stdlib.h>

#include "shm/check.h"
#include "tests/fuzz/input.h"
#include "tools/llmctl/llmctl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WORDS_MAX  12
#define WORD_BYTES 64

static const char *const values[] = {"1,2,3",  "4294967295", "4294967296", "18446744073709551616",
                                     "0",      "-1",         " 1",         "1,",
                                     "1e9",    "2.5",        "nan",        "1e99",
                                     "999,,1", "inf",        "",           "0x10"};

static const char *option_name(const struct option *table, uint8_t choice)
{
    size_t count = 0;
    while (table && table[count].name)
        count++;
    return count ? table[choice % count].name : arguments_common[choice % 5].name;
}

static void make_word(struct input *in, const struct llmctl_verb *verb, char word[WORD_BYTES])
{
    char bytes[24];
    uint8_t choice = input_byte(in);
    const char *value = values[input_byte(in) % (sizeof values / sizeof values[0])];
    const char *name = option_name(choice % 2 ? verb->options : arguments_common, input_byte(in));
    size_t count = input_byte(in) % sizeof bytes;
    switch (choice / 2 % 5) {
    case 0:
        snprintf(word, WORD_BYTES, "--%s=%s", name, value);
        break;
    case 1:
        snprintf(word, WORD_BYTES, "--%s", name);
        break;
    case 2:
        snprintf(word, WORD_BYTES, "%s", value);
        break;
    default:
        input_copy(in, bytes, count);
        snprintf(word, WORD_BYTES, "%s%s%.*s", choice % 3 ? "" : "--", choice % 3 ? "" : name,
                 (int)count, bytes);
    }
}

static uint64_t read_all(const struct arguments *arguments)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < arguments->stop_id_count; i++)
        sum += arguments->stop_ids[i];
    for (uint32_t i = 0; i < arguments->prompt_id_count; i++)
        sum += arguments->prompt_ids[i];
    for (uint32_t i = 0; i < arguments->stop_string_count; i++)
        sum += strlen(arguments->stop_strings[i]);
    for (int i = 0; i < arguments->positional_count; i++)
        sum += strlen(arguments->positional[i]);
    CHECK(arguments->positional_count <= ARGUMENTS_POSITIONAL_MAX);
    CHECK(arguments->stop_string_count <= ARGUMENTS_TEXTS_MAX);
    CHECK(arguments->timeout_ns <= UINT64_C(1000000000) * 1000000000);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char words[WORDS_MAX][WORD_BYTES];
    const char *argv[WORDS_MAX];
    struct input in = {data, size};
    size_t verbs = 0;
    while (llmctl_verbs[verbs].noun)
        verbs++;
    const struct llmctl_verb *verb = &llmctl_verbs[input_byte(&in) % verbs];
    if (input_byte(&in) % 2)
        for (verb = llmctl_verbs; !verb->options; verb++) /* the one with the most options */
            ;
    int argc = input_byte(&in) % WORDS_MAX;
    for (int i = 0; i < argc; i++) {
        make_word(&in, verb, words[i]);
        argv[i] = words[i];
    }
    int leading = arguments_leading(argc, argv);
    CHECK(leading >= 0 && leading <= argc);
    struct arguments arguments = {0};
    struct llm_error error = {0};
    if (arguments_parse(&arguments, argc, argv, verb->options, &error) == LLM_OK)
        CHECK(read_all(&arguments) < UINT64_MAX);
    else
        CHECK(error.message[0]);
    arguments_close(&arguments);
    return 0;
}
