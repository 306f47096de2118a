/*
 * run_bug.c - one wrong kernel under one schedule: run_bug BUG POLICY SEED.
 * Exits with 0 when nothing was noticed, 3 when the result is wrong, else as the emulator or a sanitizer does.
 */
#include "kernels/cuda/cuda.h"
#include "tests/cuda/bugs.h"
#include "tests/cuda/emu/emu.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    RESULT_IS_WRONG = 3
};

static float input_at(int i)
{
    return (float)(i * 7 % 1009);
}

/* What the kernel would give without its mistake; NaN where the mistake is all there is to see. */
static float wanted(enum bug bug, int i)
{
    int me = i % BUG_THREADS, block = i - me;
    switch ((int)bug) {
    case BUG_NONE:
    case BUG_NO_BARRIER:
    case BUG_SHARED_UNSET:
        return input_at(block + BUG_THREADS - 1 - me);
    case BUG_NO_SYNCWARP:
    case BUG_NONE_SYNCWARP:
        return input_at(i ^ 1);
    case BUG_COPY_NOT_WAITED:
    case BUG_NONE_COPY:
        return input_at(me % 32);
    default:
        return input_at(i); /* WRITE_AFTER_READ reverses twice */
    }
}

static int has_result(enum bug bug)
{
    return bug <= BUG_SHARED_UNSET && bug != BUG_COPY_LEFT;
}

static int wrong_count(enum bug bug, const float *out)
{
    int wrong = 0;
    for (int i = 0; has_result(bug) && i < BUG_FLOATS; i++)
        wrong += !(out[i] == wanted(bug, i));
    if (bug == BUG_LAST_BLOCK || bug == BUG_NONE_LAST_BLOCK) {
        float sum = 0;
        for (int b = 0; b < BUG_BLOCKS; b++)
            sum += input_at(b * BUG_THREADS);
        wrong = out[BUG_BLOCKS] != sum;
    }
    return wrong;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("usage: run_bug BUG POLICY SEED\n", stderr);
        return 2;
    }
    enum bug bug = (enum bug)atoi(argv[1]);
    emu_schedule((enum emu_policy)atoi(argv[2]), strtoull(argv[3], NULL, 10), 2);
    float *in = emu_alloc(BUG_FLOATS * sizeof *in), *out = emu_alloc(BUG_FLOATS * sizeof *out);
    unsigned *counter = emu_alloc(sizeof *counter);
    *counter = 0;
    for (int i = 0; i < BUG_FLOATS; i++)
        in[i] = input_at(i);
    struct cuda_stream stream = {0};
    bug_launch(&stream, bug, out, in, counter);
    int wrong = wrong_count(bug, out);
    if (wrong)
        printf("%d results are wrong\n", wrong);
    emu_free(in), emu_free(out), emu_free(counter);
    return wrong ? RESULT_IS_WRONG : 0;
}
