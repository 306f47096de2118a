/*
 * reference.c - the backend's table; its stream is one static object, for it has no state.
 */
#include "kernels/reference/reference.h"

static const struct kernel_ops reference_ops = {
    .matrix_layout = "rows",
    .matrix_bytes = matrix_bytes_reference,
    .matrix_pack = matrix_pack_reference,
    .linear = linear_reference,
    .embed = embed_reference,
    .embed_matrix = embed_matrix_reference,
    .rmsnorm = rmsnorm_reference,
    .rmsnorm_heads = rmsnorm_heads_reference,
    .rope = rope_reference,
    .kv_append = kv_append_reference,
    .kv_copy = kv_copy_reference,
    .attention = attention_reference,
    .silu_mul = silu_mul_reference,
    .add = add_reference,
    .gather_rows = gather_rows_reference,
};

static struct kernel_stream reference_stream = {
    .backend = &kernel_backend_reference,
    .ops = &reference_ops,
    .description = "reference: plain C, f64 sums, 1 thread",
};

static enum llm_status stream_open(const struct kernel_stream_options *options,
                                   struct kernel_stream **out_stream, struct llm_error *error)
{
    (void)options;
    (void)error;
    *out_stream = &reference_stream;
    return LLM_OK;
}

static void stream_close(struct kernel_stream *stream)
{
    (void)stream;
}

static enum llm_status stream_wait(struct kernel_stream *stream, struct llm_error *error)
{
    (void)stream;
    (void)error;
    return LLM_OK;
}

const struct kernel_backend kernel_backend_reference = {
    .name = "reference",
    .summary = "readable C, f64 sums, one thread: the yardstick, slow",
    .stream_open = stream_open,
    .stream_close = stream_close,
    .stream_wait = stream_wait,
};
