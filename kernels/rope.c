/*
 * rope.c - the tables of rotary embeddings, the same for every backend.
 */
#include "kernels/kernels.h"

#include <math.h>

void kernel_rope_frequencies(double *frequencies, int32_t D, double theta)
{
    for (int32_t i = 0; i < D / 2; i++)
        frequencies[i] = pow(theta, -2.0 * i / D);
}

void kernel_rope_fill(float *cos_sin, const double *frequencies, double scale, int32_t P, int32_t D)
{
    size_t half = (size_t)D / 2;
    for (int32_t p = 0; p < P; p++) {
        float *row = cos_sin + 2 * half * (size_t)p;
        for (size_t i = 0; i < half; i++) {
            row[i] = (float)(cos(p * frequencies[i]) * scale);
            row[half + i] = (float)(sin(p * frequencies[i]) * scale);
        }
    }
}
