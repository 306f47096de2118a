/*
 * backend.c - the list of backends, and the ways in that do not care which one it is.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/kernels.h"
#include "kernels/reference/reference.h"

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
