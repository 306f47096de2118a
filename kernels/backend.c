/*
 * backend.c - the list of backends, and the ways in that do not care which one it is.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/kernels.h"
#include "kernels/reference/reference.h"

#include <math.h>
#include <string.h>

/* The first one serves when no name is given. */
static const struct kernel_backend *const backends[] = {&kernel_backend_cpu,
                                                        &kernel_backend_reference, NULL};

const struct kernel_backend *kernel_backend_at(size_t index)
{
    return index < sizeof backends / sizeof backends[0] ? backends[index] : NULL;
}

const struct kernel_backend *kernel_backend_find(const char *name)
{
    for (size_t i = 0; backends[i]; i++)
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    return NULL;
}

enum llm_status kernel_stream_open(const char *name, const struct kernel_stream_options *options,
                                   struct kernel_stream **out_stream, struct llm_error *error)
{
    const struct kernel_backend *backend = name ? kernel_backend_find(name) : backends[0];
    if (!backend)
        return llm_fail(error, LLM_ERR_NOT_FOUND,
                        "there is no backend \"%s\"; this build has cpu and reference", name);
    return backend->stream_open(options, out_stream, error);
}

void kernel_stream_close(struct kernel_stream *stream)
{
    if (stream)
        stream->backend->stream_close(stream);
}

enum llm_status kernel_stream_wait(struct kernel_stream *stream, struct llm_error *error)
{
    return stream->backend->stream_wait(stream, error);
}

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
