/*
 * text_speed.c - how fast a vocabulary encodes and decodes a text: `text_speed <vocabulary> <text> [rounds]`.
 * The vocabulary is a tokenizer.json, a tokenizer.model or a GGUF file. Each round encodes the whole text in one call
 * and decodes it in one; printed are the medians of wall time and of processor time, as MB of text per second. Not a
 * test: docs/PERFORMANCE.md has the numbers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/check.h"
#include "tests/support/spm_fixture.h"
#include "tests/support/vocab_fixture.h"

#define ROUNDS_MAX 101

static double seconds(clockid_t clock)
{
    struct timespec now;
    CHECK(clock_gettime(clock, &now) == 0);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return values[count / 2];
}

static llm_vocab *open_vocabulary(const char *path)
{
    size_t bytes;
    void *image;
    if (strstr(path, ".gguf")) {
        image = build_gguf_image(path, &bytes);
    } else if (strstr(path, ".model")) {
        image = build_spm_image(load_spm(path), &bytes);
    } else {
        image = build_image(load_json(path), NULL, &bytes);
    }
    return open_image(image, bytes);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: text_speed <vocabulary> <text> [rounds]\n");
        return 2;
    }
    llm_vocab *vocab = open_vocabulary(argv[1]);
    struct spm_bytes text = load_spm(argv[2]); /* any file's bytes */
    int rounds = argc > 3 ? atoi(argv[3]) : 5;
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    uint32_t *tokens = malloc(text.count * 2 * sizeof *tokens + 64);
    char *back = malloc(text.count * 4 + 64);
    double wall[2][ROUNDS_MAX], cpu[2][ROUNDS_MAX];
    size_t count = 0, back_bytes = 0;
    for (int r = 0; r < rounds; r++) {
        double begin[2], middle[2], end[2];
        static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID};
        for (int c = 0; c < 2; c++)
            begin[c] = seconds(clocks[c]);
        CHECK(llm_encode(vocab, (const char *)text.bytes, text.count, 0, tokens, text.count * 2,
                         &count, NULL) == LLM_OK);
        for (int c = 0; c < 2; c++)
            middle[c] = seconds(clocks[c]);
        CHECK(llm_decode_whole(vocab, tokens, count, 0, back, text.count * 4, &back_bytes, NULL) ==
              LLM_OK);
        for (int c = 0; c < 2; c++)
            end[c] = seconds(clocks[c]);
        wall[0][r] = middle[0] - begin[0];
        wall[1][r] = end[0] - middle[0];
        cpu[0][r] = middle[1] - begin[1];
        cpu[1][r] = end[1] - middle[1];
    }
    double megabytes = (double)text.count / 1e6;
    printf("%zu bytes, %zu tokens; encode %.1f MB/s (%.1f of processor time), decode %.1f MB/s "
           "(%.1f)\n",
           text.count, count, megabytes / median(wall[0], rounds),
           megabytes / median(cpu[0], rounds), megabytes / median(wall[1], rounds),
           megabytes / median(cpu[1], rounds));
    return 0;
}
