#include "daemon/model/vocab_pretokenizers.h"

#include <stddef.h>

/* ---- Patterns -------------------------------------------------------------------------------------- */

/* Radford et al. 2019, https://github.com/openai/gpt-2/blob/master/src/encoder.py */
#define GPT2      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define WORD_ENDS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER     "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER     "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define BEFORE    "[^\\r\\n\\p{L}\\p{N}]?"

static const char *const gpt2[] = {GPT2, NULL};

/* cl100k with numbers cut into threes (Llama 3) or ones (Qwen2). */
#define CL100K(numbers)                     \
    WORD_ENDS "|" BEFORE "\\p{L}+|" numbers \
              "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
static const char *const llama3[] = {CL100K("\\p{N}{1,3}"), NULL};
static const char *const qwen2[] = {CL100K("\\p{N}"), NULL};

static const char *const digits_gpt2[] = {"\\p{N}", GPT2, NULL};
static const char *const falcon[] = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]", NULL};
static const char *const plain[] = {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]",
                                    NULL};

static const char *const deepseek_coder[] = {
    "[\\r\\n]",    "\\s?\\p{L}+",
    "\\s?\\p{P}+", "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+",
    "\\p{N}",      NULL};

/* Letters of Latin, Greek, Cyrillic and their like, as the model's file lists them. */
static const char deepseek_letters[] =
    "\\s?[A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}"
    "\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}\\x{3f7}-"
    "\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}"
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-"
    "\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}"
    "\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}"
    "\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}"
    "\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-"
    "\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}"
    "\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}"
    "\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}"
    "\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-"
    "\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}]+";
static const char *const deepseek_llm[] = {
    "[\\r\\n]",
    deepseek_letters,
    "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
    "\\s+$",
    "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+",
    "\\p{N}+",
    NULL};
static const char *const deepseek_v3[] = {
    "\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
    "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    NULL};

#define BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"
static const char *const bloom[] = {BLOOM, NULL};
static const char *const viking[] = {BLOOM, "\\p{N}", NULL};

#define CASES(ends) BEFORE UPPER "*" LOWER "+" ends "|" BEFORE UPPER "+" LOWER "*" ends
#define REST        "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
static const char *const tekken[] = {CASES("") "|\\p{N}" REST, NULL};
static const char *const o200k[] = {CASES(WORD_ENDS "?") "|\\p{N}{1,3}" REST, NULL};

/* ---- Names ----------------------------------------------------------------------------------------- */

#define WHOLE LLM_VOCAB_IGNORE_MERGES
#define NFC   LLM_VOCAB_FORM_NFC
static const struct vocab_pretokenizer rows[] = {
    {"default", plain, 0, 0, false},
    {"gpt-2", gpt2, 0, 0, false},
    {"phi-2", gpt2, 0, 0, false},
    {"jais", gpt2, 0, 0, false},
    {"gigachat", gpt2, 0, 0, false},
    {"roberta-bpe", gpt2, 0, 0, false},
    {"mpt", gpt2, 0, 0, false},
    {"olmo", gpt2, 0, 0, false},
    {"starcoder", digits_gpt2, 0, 0, false},
    {"refact", digits_gpt2, 0, 0, false},
    {"command-r", digits_gpt2, 0, 0, false},
    {"smollm", digits_gpt2, 0, 0, false},
    {"codeshell", digits_gpt2, 0, 0, false},
    {"exaone", digits_gpt2, 0, 0, false},
    {"minerva-7b", digits_gpt2, 0, 0, false},
    {"llama-bpe", llama3, WHOLE, 0, true},
    {"llama3", llama3, WHOLE, 0, true},
    {"llama-v3", llama3, WHOLE, 0, true},
    {"falcon3", llama3, WHOLE, 0, true},
    {"dbrx", llama3, 0, 0, false},
    {"smaug-bpe", llama3, 0, 0, false},
    {"chatglm-bpe", llama3, 0, 0, false},
    {"qwen2", qwen2, 0, NFC, false},
    {"deepseek-r1-qwen", qwen2, 0, NFC, false},
    {"megrez", qwen2, 0, NFC, false},
    {"stablelm2", qwen2, 0, 0, false},
    {"deepseek-llm", deepseek_llm, 0, 0, false},
    {"deepseek-coder", deepseek_coder, 0, 0, false},
    {"deepseek-v3", deepseek_v3, 0, 0, false},
    {"falcon", falcon, 0, 0, false},
    {"bloom", bloom, 0, 0, false},
    {"poro-chat", bloom, 0, 0, false},
    {"gpt3-finnish", bloom, 0, 0, false},
    {"viking", viking, 0, 0, false},
    {"tekken", tekken, WHOLE, 0, true},
    {"gpt-4o", o200k, 0, 0, false},
    {"llama4", o200k, 0, 0, false},
};
#define ROW_COUNT (uint32_t)(sizeof rows / sizeof *rows)

const struct vocab_pretokenizer *vocab_pretokenizer_at(uint32_t index)
{
    return index < ROW_COUNT ? &rows[index] : NULL;
}

const struct vocab_pretokenizer *vocab_pretokenizer_find(struct gguf_text name)
{
    for (uint32_t i = 0; i < ROW_COUNT; i++)
        if (gguf_text_is(name, rows[i].name))
            return &rows[i];
    return NULL;
}
