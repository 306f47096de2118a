#include "daemon/model/rope_scaling.h"

#include "kernels/kernels.h"

#include <math.h>

#define TWO_PI 6.283185307179586476925286766559

static void scale_linear(double *frequencies, int32_t D, const struct model_rope *rope)
{
    for (int32_t i = 0; i < D / 2; i++)
        frequencies[i] /= rope->factor;
}

static void scale_llama3(double *frequencies, int32_t D, const struct model_rope *rope)
{
    double low = rope->low_freq_factor, high = rope->high_freq_factor;
    for (int32_t i = 0; i < D / 2; i++) {
        /* how often the original length holds this pair's wavelength */
        double turns = rope->original_context_tokens * frequencies[i] / TWO_PI;
        if (turns > high)
            continue;
        double kept = turns < low ? 0 : (turns - low) / (high - low);
        frequencies[i] *= (1 - kept) / rope->factor + kept;
    }
}

/* The pair, counted with fractions, that turns `turns` times within the original length. */
static double yarn_pair(double turns, int32_t D, double theta, uint32_t original_tokens)
{
    return D * log(original_tokens / (turns * TWO_PI)) / (2 * log(theta));
}

static void scale_yarn(double *frequencies, int32_t D, double theta, const struct model_rope *rope)
{
    uint32_t original = rope->original_context_tokens;
    double first = yarn_pair(rope->beta_fast, D, theta, original);
    double last = yarn_pair(rope->beta_slow, D, theta, original);
    if (!rope->between_dimensions) {
        first = floor(first);
        last = ceil(last);
    }
    first = fmax(first, 0);
    last = fmin(last, D - 1);
    if (first == last)
        last += 0.001; /* a step instead of a line */
    for (int32_t i = 0; i < D / 2; i++) {
        double slowed = fmin(fmax((i - first) / (last - first), 0), 1);
        frequencies[i] *= slowed / rope->factor + (1 - slowed);
    }
}

double rope_scaling_frequencies(double *frequencies, const struct model_config *config)
{
    const struct model_rope *rope = &config->rope;
    int32_t D = (int32_t)config->head_dim;
    kernel_rope_frequencies(frequencies, D, config->rope_theta);
    for (uint32_t i = 0; i < rope->divisor_count; i++)
        frequencies[i] /= (double)rope->divisors[i];
    switch (rope->kind) {
    case MODEL_ROPE_DEFAULT:
        break;
    case MODEL_ROPE_LINEAR:
        scale_linear(frequencies, D, rope);
        break;
    case MODEL_ROPE_LLAMA3:
        scale_llama3(frequencies, D, rope);
        break;
    case MODEL_ROPE_YARN:
        scale_yarn(frequencies, D, config->rope_theta, rope);
        return rope->attention_factor;
    }
    return 1;
}
