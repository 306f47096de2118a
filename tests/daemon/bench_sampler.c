/*
 * bench_sampler.c - what choosing a token costs: daemon/sample over rows of a real vocabulary's size.
 *
 *   bench_sampler [VOCABULARY [ROUNDS]]      128256 tokens, 200 rounds; the median of them, in microseconds per token
 *
 * Not a test. docs/PERFORMANCE.md has figures. Rows are what language models give: a bell curve of logits (standard deviation 2.5)
 * with a few likely tokens above it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/sample/sampler.h"
#include "shm/request.h"
#include "tests/daemon/tiny_model.h"

#define PAST_TOKENS 8192

static struct llm_steering_record steering;

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static float bell(uint64_t *state)
{
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += (double)(tiny_random(state) >> 11) * 0x1p-53;
    return (float)(2.5 * (sum - 6));
}

static const struct {
    const char *name;
    struct sampling sampling;
    struct llm_steering steering;
} kinds[] = {
    {"greedy", {.top_p = 1}, {.typical_p = 0}},
    {"greedy, logprobs", {.top_p = 1, .want_logprob = true}, {.typical_p = 0}},
    {"greedy, logprobs and 20 likeliest",
     {.top_p = 1, .want_logprob = true},
     {.typical_p = 1, .repetition_penalty = 1, .top_logprobs = 20}},
    {"temperature 0.8", {.temperature = 0.8F, .top_p = 1}, {.typical_p = 0}},
    {"temperature 0.8, top_k 50", {.temperature = 0.8F, .top_k = 50, .top_p = 1}, {.typical_p = 0}},
    {"temperature 0.8, top_p 0.95", {.temperature = 0.8F, .top_p = 0.95F}, {.typical_p = 0}},
    {"temperature 0.8, top_k 50, top_p 0.95, logprobs",
     {.temperature = 0.8F, .top_k = 50, .top_p = 0.95F, .want_logprob = true},
     {.typical_p = 0}},
    {"temperature 0.8, typical_p 0.9",
     {.temperature = 0.8F, .top_p = 1},
     {.typical_p = 0.9F, .repetition_penalty = 1}},
    {"greedy, repetition penalty over 8192 ids",
     {.top_p = 1},
     {.typical_p = 1, .repetition_penalty = 1.1F}},
};

static double measure(struct sampler *sampler, const float *logits, size_t kind,
                      const struct sampler_past *past, int rounds, double *times)
{
    struct sampling s = kinds[kind].sampling;
    struct llm_top tops[LLM_TOP_LOGPROBS_MAX];
    steering.steering = kinds[kind].steering;
    s.steering = kinds[kind].steering.typical_p > 0 ? &steering : NULL;
    for (int i = 0; i < rounds; i++) {
        struct sampler_choice choice;
        s.seed = (uint64_t)i;
        double from = now_us();
        if (sampler_choose(sampler, logits, &s, past, &choice, tops, NULL) != LLM_OK)
            abort();
        times[i] = now_us() - from;
    }
    qsort(times, (size_t)rounds, sizeof *times, by_value);
    return times[rounds / 2];
}

int main(int argc, char **argv)
{
    uint32_t vocab_size = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 128256;
    int rounds = argc > 2 ? atoi(argv[2]) : 200;
    if (vocab_size < 64 || vocab_size > 1u << 24 || rounds < 1)
        return EXIT_FAILURE;
    struct sampler sampler;
    uint64_t state = 1;
    float *logits = malloc(vocab_size * sizeof *logits);
    double *times = malloc((size_t)rounds * sizeof *times);
    static uint32_t ids[PAST_TOKENS];
    if (!logits || !times || sampler_open(&sampler, vocab_size, NULL) != LLM_OK)
        return EXIT_FAILURE;
    for (uint32_t v = 0; v < vocab_size; v++)
        logits[v] = bell(&state);
    for (int i = 0; i < 40; i++)
        logits[tiny_random(&state) % vocab_size] = 14 + bell(&state);
    for (int i = 0; i < PAST_TOKENS; i++)
        ids[i] = (uint32_t)(tiny_random(&state) % vocab_size);
    const struct sampler_past past = {
        .ids = ids, .position = PAST_TOKENS, .prompt_tokens = PAST_TOKENS / 2};
    printf("%u tokens, median of %d\n", vocab_size, rounds);
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++)
        printf("%9.1f us  %s\n", measure(&sampler, logits, kind, &past, rounds, times),
               kinds[kind].name);
    sampler_close(&sampler);
    free(logits);
    free(times);
    return EXIT_SUCCESS;
}
