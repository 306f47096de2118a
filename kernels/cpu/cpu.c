/*
 * cpu.c - opening a stream: which instruction set, how many threads, which table.
 */
#include "kernels/cpu/cpu.h"

#include "kernels/reference/reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Below this an op is done before a sleeping thread is awake. */
#define SHARED_WORK_MIN 32768

static bool plain_runs(void)
{
    return true;
}

#if defined(__x86_64__)
static bool avx2_runs(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool avx512_runs(void)
{
    return avx2_runs() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

/* Widest first. F16C came years before AVX2, and every processor with AVX2 has it. */
static const struct {
    const struct cpu_isa *isa;
    bool (*runs)(void);
} isas[] = {
#if defined(__x86_64__)
    {&cpu_isa_avx512, avx512_runs},
    {&cpu_isa_avx2, avx2_runs},
#endif
    {&cpu_isa_plain, plain_runs},
};

#define ISA_COUNT (sizeof isas / sizeof isas[0])

static const struct cpu_isa *isa_widest(void)
{
    for (size_t i = 0; i < ISA_COUNT; i++)
        if (isas[i].runs())
            return isas[i].isa;
    return &cpu_isa_plain;
}

static enum llm_status isa_choose(const char *name, const struct cpu_isa **out_isa,
                                  struct llm_error *error)
{
    if (!name || strcmp(name, "auto") == 0) {
        *out_isa = isa_widest();
        return LLM_OK;
    }
    for (size_t i = 0; i < ISA_COUNT; i++) {
        if (strcmp(name, isas[i].isa->name) != 0)
            continue;
        if (!isas[i].runs())
            return llm_fail(error, LLM_ERR_UNSUPPORTED,
                            "this processor has no %s; the widest it has is %s (isa = \"auto\")",
                            name, isa_widest()->name);
        *out_isa = isas[i].isa;
        return LLM_OK;
    }
    return llm_fail(error, LLM_ERR_INVALID,
                    "isa \"%s\" is unknown on this machine: use auto, avx512, avx2 or plain", name);
}

static const struct kernel_ops ops_of_any_isa = {
    .matrix_pack = matrix_pack_cpu,
    .linear = linear_cpu,
    .embed_matrix = embed_matrix_cpu,
    .rmsnorm = rmsnorm_cpu,
    .rmsnorm_heads = rmsnorm_heads_cpu,
    .rope = rope_cpu,
    .attention = attention_cpu,
    .silu_mul = silu_mul_cpu,
    .add = add_cpu,
    /* These only move rows; the readable loops are as fast as memory. */
    .embed = embed_reference,
    .kv_append = kv_append_reference,
    .kv_copy = kv_copy_reference,
    .gather_rows = gather_rows_reference,
};

static void stream_describe(struct cpu_stream *stream)
{
    stream->stream.backend = &kernel_backend_cpu;
    stream->stream.ops = &stream->ops;
    stream->ops = ops_of_any_isa;
    stream->ops.matrix_layout = stream->isa->layout;
    stream->ops.matrix_bytes = stream->isa->matrix_bytes;
    uint32_t threads = stream->pool.thread_count;
    snprintf(stream->stream.description, sizeof stream->stream.description, "cpu: %s, %u thread%s",
             stream->isa->name, threads, threads == 1 ? "" : "s");
}

static void stream_close(struct kernel_stream *base)
{
    if (!base)
        return;
    struct cpu_stream *stream = cpu_stream_of(base);
    cpu_pool_close(&stream->pool);
    free(stream->scratch);
    free(stream);
}

static enum llm_status stream_make(uint32_t threads, const struct cpu_isa *isa,
                                   struct kernel_stream **out_stream, struct llm_error *error)
{
    struct cpu_stream *stream = calloc(1, sizeof *stream);
    size_t scratch_bytes = threads * sizeof *stream->scratch;
    struct attention_scratch *scratch = aligned_alloc(64, scratch_bytes);
    if (!stream || !scratch) {
        free(stream);
        free(scratch);
        return llm_fail(error, LLM_ERR_MEMORY,
                        "no memory for the workspace of %u threads (%zu KiB)", threads,
                        scratch_bytes / 1024);
    }
    memset(scratch, 0, scratch_bytes);
    enum llm_status status = cpu_pool_open(&stream->pool, threads, error);
    if (status != LLM_OK) {
        free(scratch);
        free(stream);
        return status;
    }
    stream->isa = isa;
    stream->scratch = scratch;
    stream_describe(stream);
    *out_stream = &stream->stream;
    return LLM_OK;
}

static enum llm_status stream_open(const struct kernel_stream_options *options,
                                   struct kernel_stream **out_stream, struct llm_error *error)
{
    static const struct kernel_stream_options defaults;
    options = options ? options : &defaults;
    uint32_t threads = options->threads;
    if (threads > KERNEL_THREADS_MAX)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%u threads are too many: use 1 to %d, or 0 for all processors", threads,
                        KERNEL_THREADS_MAX);
    if (threads == 0) {
        uint32_t processors = cpu_pool_processors();
        threads = processors < KERNEL_THREADS_MAX ? processors : KERNEL_THREADS_MAX;
    }
    const struct cpu_isa *isa = &cpu_isa_plain;
    enum llm_status status = isa_choose(options->isa, &isa, error);
    return status == LLM_OK ? stream_make(threads, isa, out_stream, error) : status;
}

/* Calls have finished when they return, and arithmetic cannot fail. */
static enum llm_status stream_wait(struct kernel_stream *stream, struct llm_error *error)
{
    (void)stream;
    (void)error;
    return LLM_OK;
}

const struct kernel_backend kernel_backend_cpu = {
    .name = "cpu",
    .summary = "threads and vector instructions, weights in packed panels",
    .stream_open = stream_open,
    .stream_close = stream_close,
    .stream_wait = stream_wait,
};

void cpu_stream_run(struct cpu_stream *stream, cpu_pool_job job, void *argument, double work)
{
    if (work < SHARED_WORK_MIN)
        job(argument, 0, 1);
    else
        cpu_pool_run(&stream->pool, job, argument);
}

struct cpu_share cpu_share_of(int32_t total, int32_t step, uint32_t index, uint32_t count)
{
    int64_t steps = ((int64_t)total + step - 1) / step;
    int64_t first = steps * index / count * step, end = steps * (index + 1) / count * step;
    return (struct cpu_share){(int32_t)first, (int32_t)(end < total ? end : total)};
}
