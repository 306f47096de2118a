#include "tests/daemon/counter_weights.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static uint64_t key_of(const char *name, uint64_t seed)
{
    uint64_t key = UINT64_C(0xcbf29ce484222325);
    for (; *name != '\0'; name++)
        key = (key ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    return key + seed * UINT64_C(0x9e3779b97f4a7c15);
}

static double uniform(uint64_t key, uint64_t i)
{
    uint64_t z = key + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return ((double)(z >> 40) - 0x1p23) / 0x1p23;
}

double counter_uniform(const char *name, uint64_t seed, uint64_t i)
{
    return uniform(key_of(name, seed), i);
}

static bool has(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

static bool ends(const char *name, const char *end)
{
    return strlen(name) >= strlen(end) && strcmp(name + strlen(name) - strlen(end), end) == 0;
}

/* Gains around 1, biases large enough to matter, queries and keys that attend sharply. */
static void role_of(const char *name, size_t columns, double *center, double *spread)
{
    *center = 0;
    if (ends(name, "norm.weight")) {
        *center = has(name, "q_norm") || has(name, "k_norm") ? 2 : 1;
        *spread = 0.25;
    } else if (ends(name, ".bias")) {
        *spread = 0.5;
    } else if (ends(name, "embed_tokens.weight")) {
        *spread = 1;
    } else {
        bool sharp = has(name, "q_proj") || has(name, "k_proj") || has(name, "lm_head");
        *spread = sqrt(3.0 / (double)columns) * (sharp ? 2 : 1);
    }
}

void counter_weights(float *out, size_t count, const char *name, uint64_t seed, size_t columns)
{
    double center, spread;
    uint64_t key = key_of(name, seed);
    role_of(name, columns, &center, &spread);
    for (size_t i = 0; i < count; i++) {
        double scaled = uniform(key, i) * spread; /* rounded before it is added */
        out[i] = (float)(center + scaled);
    }
}
