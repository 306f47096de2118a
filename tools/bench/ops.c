/*
 * llm-bench ops - every kernel of a backend's table, over shapes that people run, beside the machine's ceilings.
 *
 * A row is an op on a shape. Its bytes and floating-point operations are those that kernels/kernels.h states as its
 * cost; GB/s and GFLOP/s are these divided by the median time of a call. The ceilings (ceilings.h) are measured in
 * each round with the same threads and instruction set. `percent` is the roofline: the longer of bytes / read ceiling
 * and flop / multiply-add ceiling, as percent of the time taken; `bound` says which of the two it was.
 *
 * Weights are read from memory: calls go round over as many copies of a matrix as fill ROTATE_BYTES. Activations
 * are where the step before left them, in caches; a small op on them may exceed 100 percent of what memory gives.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "shm/clock.h"
#include "tools/bench/bench.h"
#include "tools/bench/ceilings.h"
#include "tools/bench/report.h"
#include "tools/bench/samples.h"

#define ROTATE_BYTES (UINT64_C(128) << 20)
#define COPIES_MAX   64
#define SAMPLES_MAX  10000
#define BATCH_NS     (20 * LLM_NS_PER_US) /* calls that are shorter are timed several at once */
#define HEADS        32
#define KV_HEADS     8
#define HEAD_DIM     128
#define BLOCK_TOKENS 16
#define CONTEXT      1024 /* positions of each sequence in attention */
#define TABLE_ROWS   4096
#define ROPE_ROWS    4096

/* ---- A job: buffers for one op on one shape --------------------------------------------------------- */

struct job {
    struct kernel_stream *stream;
    enum kernel_dtype dtype;
    int32_t T, K, N; /* rows, width of the input, width of the output */
    float *x, *y, *gain, *out;
    int32_t *ids; /* [T] */
    void *rows;   /* a table, or the source of a packing */
    struct kernel_matrix matrices[COPIES_MAX];
    uint32_t matrix_count, turn;
    struct kernel_kv kv;
    struct kernel_sequence *sequences; /* [T] */
    uint32_t *blocks;
    struct kernel_rope rope;
    float *cos_sin;
    uint64_t rotate_bytes;
    double bytes, flop; /* of one call */
};

static float *floats(size_t count)
{
    float *values = aligned_alloc(64, (count * sizeof *values + 63) / 64 * 64);
    for (size_t i = 0; values && i < count; i++)
        values[i] = (float)((i * 2654435761u >> 8) % 1024) / 512.0F - 1.0F;
    return values;
}

static enum llm_status no_memory(struct llm_error *error)
{
    return llm_fail(error, LLM_ERR_MEMORY, "no memory for an op's buffers: name a smaller --shape");
}

static enum llm_status take_rows(struct job *job, size_t x_width, size_t y_width, size_t out_width,
                                 struct llm_error *error)
{
    size_t T = (size_t)job->T;
    job->x = floats(T * x_width);
    job->y = floats(T * y_width + 1);
    job->out = floats(T * out_width);
    job->gain = floats(x_width);
    job->ids = calloc(T, sizeof *job->ids);
    if (!job->x || !job->y || !job->out || !job->gain || !job->ids)
        return no_memory(error);
    for (size_t i = 0; i < T; i++)
        job->ids[i] = (int32_t)(i * 7919 % TABLE_ROWS);
    return LLM_OK;
}

static void close_job(struct job *job)
{
    free(job->x);
    free(job->y);
    free(job->out);
    free(job->gain);
    free(job->ids);
    free(job->rows);
    for (uint32_t i = 0; i < job->matrix_count; i++)
        free(job->matrices[i].panels);
    free(job->kv.base);
    free(job->sequences);
    free(job->blocks);
    free(job->cos_sin);
}

/* ---- Matrices -------------------------------------------------------------------------------------- */

static enum llm_status take_matrix(struct job *job, struct llm_error *error)
{
    size_t bytes = job->stream->ops->matrix_bytes(job->dtype, job->N, job->K);
    struct kernel_matrix *matrix = &job->matrices[job->matrix_count];
    *matrix = (struct kernel_matrix){.dtype = job->dtype, .N = job->N, .K = job->K};
    matrix->panels = aligned_alloc(KERNEL_PANEL_ALIGN_BYTES, bytes);
    if (!matrix->panels)
        return no_memory(error);
    job->matrix_count++;
    if (job->matrix_count == 1)
        job->stream->ops->matrix_pack(job->stream, matrix, job->rows, KERNEL_F32, 0, job->N);
    else
        memcpy(matrix->panels, job->matrices[0].panels, bytes);
    return LLM_OK;
}

static enum llm_status take_matrices(struct job *job, uint64_t rotate_bytes,
                                     struct llm_error *error)
{
    size_t bytes = job->stream->ops->matrix_bytes(job->dtype, job->N, job->K);
    uint64_t copies = rotate_bytes / bytes + 1;
    job->rows = floats((size_t)job->N * (size_t)job->K);
    if (!job->rows)
        return no_memory(error);
    enum llm_status status = LLM_OK;
    for (uint64_t i = 0; i < copies && i < COPIES_MAX && status == LLM_OK; i++)
        status = take_matrix(job, error);
    return status;
}

static double weight_bytes(const struct job *job)
{
    return (double)job->N * (double)job->K * (double)kernel_dtype_bytes(job->dtype);
}

static enum llm_status open_linear(struct job *job, struct llm_error *error)
{
    double T = (double)job->T, K = (double)job->K, N = (double)job->N;
    job->bytes = weight_bytes(job) + 4 * T * (K + N);
    job->flop = 2 * T * K * N;
    enum llm_status status = take_rows(job, (size_t)job->K, 0, (size_t)job->N, error);
    return status == LLM_OK ? take_matrices(job, job->rotate_bytes, error) : status;
}

static void call_linear(struct job *job)
{
    job->stream->ops->linear(job->stream, job->out, job->x,
                             &job->matrices[job->turn++ % job->matrix_count], NULL, job->T,
                             KERNEL_LINEAR_STORE);
}

static enum llm_status open_matrix_pack(struct job *job, struct llm_error *error)
{
    job->bytes = weight_bytes(job) + 4 * (double)job->N * (double)job->K;
    return take_matrices(job, 0, error);
}

static void call_matrix_pack(struct job *job)
{
    job->stream->ops->matrix_pack(job->stream, &job->matrices[0], job->rows, KERNEL_F32, 0, job->N);
}

static enum llm_status open_embed_matrix(struct job *job, struct llm_error *error)
{
    /* a cache line for each element, as the table's comment says */
    job->bytes = (double)job->T * (double)job->K * (64 + 4);
    job->N = job->N < TABLE_ROWS ? job->N : TABLE_ROWS;
    enum llm_status status = take_rows(job, (size_t)job->K, 0, (size_t)job->K, error);
    for (int32_t i = 0; status == LLM_OK && i < job->T; i++)
        job->ids[i] %= job->N;
    return status == LLM_OK ? take_matrices(job, 0, error) : status;
}

static void call_embed_matrix(struct job *job)
{
    job->stream->ops->embed_matrix(job->stream, job->out, job->ids, &job->matrices[0], job->T);
}

/* ---- Rows ------------------------------------------------------------------------------------------ */

static enum llm_status open_embed(struct job *job, struct llm_error *error)
{
    size_t element = kernel_dtype_bytes(job->dtype);
    job->bytes = (double)job->T * (double)job->K * (double)(4 + element);
    job->rows = calloc((size_t)TABLE_ROWS * (size_t)job->K, element);
    if (!job->rows)
        return no_memory(error);
    memset(job->rows, 1, (size_t)TABLE_ROWS * (size_t)job->K * element);
    return take_rows(job, 1, 0, (size_t)job->K, error);
}

static void call_embed(struct job *job)
{
    struct kernel_table table = {
        .rows = job->rows, .dtype = job->dtype, .V = TABLE_ROWS, .D = job->K};
    for (int32_t i = 0; i < job->T; i++) /* other rows each time: they come from memory */
        job->ids[i] = (job->ids[i] + 4099) % TABLE_ROWS;
    job->stream->ops->embed(job->stream, job->out, job->ids, &table, job->T);
}

static enum llm_status open_rmsnorm(struct job *job, struct llm_error *error)
{
    job->bytes = (8.0 * job->T + 4.0) * job->K;
    job->flop = 4.0 * job->T * job->K;
    return take_rows(job, (size_t)job->K, 0, (size_t)job->K, error);
}

static void call_rmsnorm(struct job *job)
{
    job->stream->ops->rmsnorm(job->stream, job->out, job->x, job->gain, job->T, job->K, 1e-5F);
}

static enum llm_status open_rmsnorm_heads(struct job *job, struct llm_error *error)
{
    job->bytes = 8.0 * job->T * job->K;
    job->flop = 4.0 * job->T * job->K;
    return take_rows(job, (size_t)job->K, 0, 1, error);
}

static void call_rmsnorm_heads(struct job *job)
{
    job->stream->ops->rmsnorm_heads(job->stream, job->x, job->K, job->gain, job->T,
                                    job->K / HEAD_DIM, HEAD_DIM, 1e-5F);
}

static enum llm_status open_silu_mul(struct job *job, struct llm_error *error)
{
    job->bytes = 12.0 * job->T * job->K;
    job->flop = 4.0 * job->T * job->K;
    return take_rows(job, 2 * (size_t)job->K, 0, (size_t)job->K, error);
}

static void call_silu_mul(struct job *job)
{
    job->stream->ops->silu_mul(job->stream, job->out, job->x, job->T, job->K);
}

static enum llm_status open_add(struct job *job, struct llm_error *error)
{
    job->bytes = 12.0 * job->T * job->K;
    job->flop = 1.0 * job->T * job->K;
    return take_rows(job, (size_t)job->K, 0, (size_t)job->K, error);
}

static void call_add(struct job *job)
{
    job->stream->ops->add(job->stream, job->out, job->x, job->T, job->K);
}

static enum llm_status open_gather_rows(struct job *job, struct llm_error *error)
{
    job->bytes = 8.0 * job->T * job->K;
    enum llm_status status = take_rows(job, (size_t)job->K, 0, (size_t)job->K, error);
    for (int32_t i = 0; status == LLM_OK && i < job->T; i++)
        job->ids[i] = job->T - 1 - i;
    return status;
}

static void call_gather_rows(struct job *job)
{
    job->stream->ops->gather_rows(job->stream, job->out, job->x, job->ids, job->T, job->K);
}

static enum llm_status open_rope(struct job *job, struct llm_error *error)
{
    double frequencies[HEAD_DIM / 2];
    job->bytes = 8.0 * job->T * job->K;
    job->flop = 3.0 * job->T * job->K;
    job->cos_sin = floats((size_t)ROPE_ROWS * HEAD_DIM);
    if (!job->cos_sin)
        return no_memory(error);
    kernel_rope_frequencies(frequencies, HEAD_DIM, 10000);
    kernel_rope_fill(job->cos_sin, frequencies, 1, ROPE_ROWS, HEAD_DIM);
    job->rope = (struct kernel_rope){.cos_sin = job->cos_sin, .P = ROPE_ROWS, .D = HEAD_DIM};
    enum llm_status status = take_rows(job, (size_t)job->K, 0, 1, error);
    for (int32_t i = 0; status == LLM_OK && i < job->T; i++)
        job->ids[i] %= ROPE_ROWS;
    return status;
}

static void call_rope(struct job *job)
{
    job->stream->ops->rope(job->stream, job->x, job->K, job->ids, &job->rope, job->T,
                           job->K / HEAD_DIM, HEAD_DIM);
}

/* ---- Keys and values: T sequences of N positions each ------------------------------------------------ */

static enum llm_status take_kv(struct job *job, struct llm_error *error)
{
    int32_t blocks_each = job->N / BLOCK_TOKENS;
    job->kv = (struct kernel_kv){.block_count = (uint32_t)(job->T * blocks_each),
                                 .dtype = job->dtype,
                                 .layers = 1,
                                 .G = KV_HEADS,
                                 .B = BLOCK_TOKENS,
                                 .D = HEAD_DIM};
    job->kv.blocks_per_slab = job->kv.block_count;
    size_t bytes = job->kv.block_count * kernel_kv_block_bytes(&job->kv);
    job->kv.slab_bytes = bytes;
    job->kv.base = aligned_alloc(64, bytes);
    job->blocks = calloc(job->kv.block_count, sizeof *job->blocks);
    job->sequences = calloc((size_t)job->T, sizeof *job->sequences);
    if (!job->kv.base || !job->blocks || !job->sequences)
        return no_memory(error);
    memset(job->kv.base, 0, bytes);
    for (uint32_t block = 0; block < job->kv.block_count; block++) /* scattered, as in use */
        job->blocks[block] = (uint32_t)((uint64_t)block * 7919 % job->kv.block_count);
    for (int32_t s = 0; s < job->T; s++)
        job->sequences[s] = (struct kernel_sequence){.blocks = &job->blocks[s * blocks_each],
                                                     .row_first = s,
                                                     .row_count = 1,
                                                     .position_first = job->N - 1};
    return LLM_OK;
}

static enum llm_status open_attention(struct job *job, struct llm_error *error)
{
    double element = (double)kernel_dtype_bytes(job->dtype);
    job->bytes = 2.0 * job->T * job->N * KV_HEADS * HEAD_DIM * element + 8.0 * job->T * job->K;
    job->flop = 4.0 * job->T * job->N * job->K;
    enum llm_status status = take_rows(job, (size_t)job->K, 0, (size_t)job->K, error);
    return status == LLM_OK ? take_kv(job, error) : status;
}

static void call_attention(struct job *job)
{
    const struct kernel_attention attention = {.scale = 0.088F};
    job->stream->ops->attention(job->stream, job->out, job->x, job->K, &job->kv, 0, job->sequences,
                                job->T, HEADS, &attention);
}

static enum llm_status open_kv_append(struct job *job, struct llm_error *error)
{
    double element = (double)kernel_dtype_bytes(job->dtype);
    job->bytes = 2.0 * job->T * KV_HEADS * HEAD_DIM * (4 + element);
    enum llm_status status = take_rows(job, KV_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, 1, error);
    return status == LLM_OK ? take_kv(job, error) : status;
}

static void call_kv_append(struct job *job)
{
    job->stream->ops->kv_append(job->stream, &job->kv, 0, job->x, job->y, KV_HEADS * HEAD_DIM,
                                job->sequences, job->T);
}

static enum llm_status open_kv_copy(struct job *job, struct llm_error *error)
{
    double element = (double)kernel_dtype_bytes(job->dtype);
    job->bytes = 4.0 * KV_HEADS * HEAD_DIM * BLOCK_TOKENS * element;
    return take_kv(job, error);
}

static void call_kv_copy(struct job *job)
{
    uint32_t to = job->turn++ % job->kv.block_count;
    job->stream->ops->kv_copy(job->stream, &job->kv, to, (to + 1) % job->kv.block_count,
                              BLOCK_TOKENS);
}

/* ---- The table ------------------------------------------------------------------------------------- */

enum shape_kind {
    SHAPE_MATRIX,  /* T x K x N */
    SHAPE_PACK,    /* K x N */
    SHAPE_ROWS,    /* T x K */
    SHAPE_CONTEXT, /* T sequences x N positions */
    SHAPE_BLOCK    /* one block */
};

static const struct op_row {
    const char *name;
    enum shape_kind shape;
    bool typed; /* once for each dtype */
    enum llm_status (*open)(struct job *job, struct llm_error *error);
    void (*call)(struct job *job);
} op_rows[] = {
    {"linear", SHAPE_MATRIX, true, open_linear, call_linear},
    {"matrix_pack", SHAPE_PACK, true, open_matrix_pack, call_matrix_pack},
    {"embed", SHAPE_ROWS, true, open_embed, call_embed},
    {"embed_matrix", SHAPE_ROWS, true, open_embed_matrix, call_embed_matrix},
    {"rmsnorm", SHAPE_ROWS, false, open_rmsnorm, call_rmsnorm},
    {"rmsnorm_heads", SHAPE_ROWS, false, open_rmsnorm_heads, call_rmsnorm_heads},
    {"rope", SHAPE_ROWS, false, open_rope, call_rope},
    {"silu_mul", SHAPE_ROWS, false, open_silu_mul, call_silu_mul},
    {"add", SHAPE_ROWS, false, open_add, call_add},
    {"gather_rows", SHAPE_ROWS, false, open_gather_rows, call_gather_rows},
    {"attention", SHAPE_CONTEXT, true, open_attention, call_attention},
    {"kv_append", SHAPE_CONTEXT, true, open_kv_append, call_kv_append},
    {"kv_copy", SHAPE_BLOCK, true, open_kv_copy, call_kv_copy},
};
#define OP_COUNT (sizeof op_rows / sizeof op_rows[0])

static const int32_t row_counts[] = {1, 2, 8, 64, 512};
static const int32_t sequence_counts[] = {1, 8, 64};
static const int32_t matrix_shapes[][2] = {{2048, 2048}, {2048, 8192}, {8192, 2048}};
static const int32_t row_widths[] = {2048, 8192};
static const enum kernel_dtype dtypes[] = {KERNEL_F32, KERNEL_BF16, KERNEL_F16};
#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

struct shape {
    int32_t T, K, N;
    char text[32];
};

/* The i-th shape of a kind; false beyond the last. */
static bool shape_at(enum shape_kind kind, size_t i, struct shape *out)
{
    *out = (struct shape){.K = HEADS * HEAD_DIM, .N = CONTEXT};
    switch (kind) {
    case SHAPE_MATRIX:
        out->T = row_counts[i % LENGTH(row_counts)];
        i /= LENGTH(row_counts);
        if (i >= LENGTH(matrix_shapes))
            return false;
        out->K = matrix_shapes[i][0];
        out->N = matrix_shapes[i][1];
        snprintf(out->text, sizeof out->text, "%dx%dx%d", out->T, out->K, out->N);
        return true;
    case SHAPE_PACK:
        if (i >= LENGTH(matrix_shapes))
            return false;
        out->K = matrix_shapes[i][0];
        out->N = matrix_shapes[i][1];
        snprintf(out->text, sizeof out->text, "%dx%d", out->K, out->N);
        return true;
    case SHAPE_ROWS:
        out->T = row_counts[i % LENGTH(row_counts)];
        i /= LENGTH(row_counts);
        if (i >= LENGTH(row_widths))
            return false;
        out->K = out->N = row_widths[i];
        snprintf(out->text, sizeof out->text, "%dx%d", out->T, out->K);
        return true;
    case SHAPE_CONTEXT:
        if (i >= LENGTH(sequence_counts))
            return false;
        out->T = sequence_counts[i];
        snprintf(out->text, sizeof out->text, "%dx%d", out->T, out->N);
        return true;
    case SHAPE_BLOCK:
        out->T = 64;
        snprintf(out->text, sizeof out->text, "block");
        return i == 0;
    }
    return false;
}

/* ---- Cases and rounds ------------------------------------------------------------------------------ */

struct op_case {
    const struct op_row *op;
    const char *backend;
    enum kernel_dtype dtype;
    struct shape shape;
    double bytes, flop;
    struct summary *times; /* [round_count] nanoseconds of a call */
};

struct run {
    const struct bench_options *options;
    struct machine machine;
    struct op_case *cases; /* [case_count] */
    size_t case_count, case_capacity;
    struct samples samples;
    struct ceilings *ceilings; /* [round_count] */
    uint32_t round_count, threads;
    uint64_t run_ns, rotate_bytes;
    char isa[16];
};

/* --quick: the smallest ones. */
static bool wanted(const struct run *run, const struct op_row *op, const struct shape *shape)
{
    const char *name = run->options->op, *text = run->options->shape;
    if (run->options->quick && (shape->T > 8 || shape->N > 2048) && op->shape != SHAPE_BLOCK)
        return false;
    return (!name || strcmp(name, op->name) == 0) &&
           (!text || strncmp(text, shape->text, strlen(text)) == 0);
}

static bool kv_dtype(const struct op_row *op)
{
    return op->shape == SHAPE_CONTEXT || op->shape == SHAPE_BLOCK;
}

static enum llm_status add_case(struct run *run, const struct op_row *op, const char *backend,
                                enum kernel_dtype dtype, const struct shape *shape,
                                struct llm_error *error)
{
    if (run->case_count == run->case_capacity) {
        size_t capacity = run->case_capacity ? 2 * run->case_capacity : 64;
        struct op_case *cases = realloc(run->cases, capacity * sizeof *cases);
        if (!cases)
            return no_memory(error);
        run->cases = cases;
        run->case_capacity = capacity;
    }
    struct op_case *added = &run->cases[run->case_count];
    *added = (struct op_case){.op = op, .backend = backend, .dtype = dtype, .shape = *shape};
    added->times = calloc(run->round_count, sizeof *added->times);
    if (!added->times)
        return no_memory(error);
    run->case_count++;
    return LLM_OK;
}

static enum llm_status add_cases(struct run *run, const char *backend, struct llm_error *error)
{
    struct shape shape;
    enum llm_status status = LLM_OK;
    for (size_t op = 0; op < OP_COUNT; op++)
        for (size_t i = 0; shape_at(op_rows[op].shape, i, &shape); i++)
            for (size_t d = 0; d < LENGTH(dtypes) && status == LLM_OK; d++) {
                bool none = !op_rows[op].typed && d > 0;
                bool strange = kv_dtype(&op_rows[op]) && dtypes[d] == KERNEL_F16;
                if (!none && !strange && wanted(run, &op_rows[op], &shape))
                    status = add_case(run, &op_rows[op], backend, dtypes[d], &shape, error);
            }
    return status;
}

static void time_calls(struct run *run, struct job *job, const struct op_row *op)
{
    uint64_t start_ns = llm_now_ns();
    op->call(job);
    uint64_t first_ns = llm_now_ns() - start_ns;
    uint32_t batch = first_ns < BATCH_NS ? (uint32_t)(BATCH_NS / (first_ns + 1)) + 1 : 1;
    uint64_t end_ns = llm_now_ns() + run->run_ns, now_ns;
    samples_reset(&run->samples);
    do {
        start_ns = llm_now_ns();
        for (uint32_t i = 0; i < batch; i++)
            op->call(job);
        now_ns = llm_now_ns();
        samples_add(&run->samples, (double)(now_ns - start_ns) / batch);
    } while (now_ns < end_ns && !samples_full(&run->samples) && !bench_interrupted());
}

static enum llm_status measure_case(struct run *run, struct op_case *op_case, uint32_t round,
                                    struct llm_error *error)
{
    struct kernel_stream_options stream_options = {.threads = run->threads, .isa = run->isa};
    struct job job = {.dtype = op_case->dtype,
                      .T = op_case->shape.T,
                      .K = op_case->shape.K,
                      .N = op_case->shape.N,
                      .rotate_bytes = run->rotate_bytes};
    enum llm_status status =
        kernel_stream_open(op_case->backend, &stream_options, &job.stream, error);
    if (status != LLM_OK)
        return status;
    status = op_case->op->open(&job, error);
    if (status == LLM_OK) {
        time_calls(run, &job, op_case->op);
        status = kernel_stream_wait(job.stream, error);
        op_case->times[round] = samples_summarise(&run->samples);
        op_case->bytes = job.bytes;
        op_case->flop = job.flop;
    }
    close_job(&job);
    kernel_stream_close(job.stream);
    return status;
}

static enum llm_status measure_round(struct run *run, uint32_t round, struct llm_error *error)
{
    size_t buffer_bytes = run->options->quick ? (size_t)32 << 20 : (size_t)512 << 20;
    enum llm_status status = ceilings_measure(run->isa, run->threads, buffer_bytes,
                                              run->options->quick ? run->run_ns : LLM_NS_PER_S / 4,
                                              &run->ceilings[round], error);
    for (size_t i = 0; i < run->case_count && status == LLM_OK && !bench_interrupted(); i++)
        status = measure_case(run, &run->cases[i], round, error);
    return status;
}

/* ---- Report ---------------------------------------------------------------------------------------- */

static const struct report_column columns[] = {
    {"backend", "backend", "", REPORT_TEXT},     {"op", "op", "", REPORT_TEXT},
    {"dtype", "dtype", "", REPORT_TEXT},         {"shape", "shape", "", REPORT_TEXT},
    {"time", "time", "us", REPORT_REAL},         {"time_mad", "+-", "us", REPORT_REAL},
    {"gb_per_s", "GB/s", "", REPORT_REAL},       {"gflop_per_s", "GFLOP/s", "", REPORT_REAL},
    {"percent", "of ceiling", "%", REPORT_REAL}, {"bound", "bound", "", REPORT_TEXT},
};

/* Seconds that the ceilings of a round allow. */
static double least_time(const struct op_case *op_case, const struct ceilings *ceilings)
{
    return fmax(op_case->bytes / ceilings->read_bytes_per_s, op_case->flop / ceilings->flop_per_s);
}

static void add_row(const struct run *run, const struct op_case *op_case, struct report *report)
{
    struct result result = samples_result(op_case->times, run->round_count);
    double percent[RESULT_ROUNDS_MAX], compute = 0;
    size_t rounds = 0;
    for (uint32_t r = 0; r < run->round_count; r++)
        if (op_case->times[r].count > 0) {
            percent[rounds++] =
                100 * least_time(op_case, &run->ceilings[r]) / (op_case->times[r].p50 / 1e9);
            compute += op_case->flop / run->ceilings[r].flop_per_s >
                       op_case->bytes / run->ceilings[r].read_bytes_per_s;
        }
    report_text(report, op_case->backend);
    report_text(report, op_case->op->name);
    report_text(report, op_case->op->typed ? kernel_dtype_name(op_case->dtype) : "f32");
    report_text(report, op_case->shape.text);
    report_real(report, result.p50 / 1e3);
    report_real(report, result.p50_mad / 1e3);
    report_real(report, op_case->bytes / result.p50);
    report_real(report, op_case->flop > 0 ? op_case->flop / result.p50 : (double)NAN);
    report_real(report, samples_median(percent, rounds));
    report_text(report, 2 * compute > (double)rounds ? "compute" : "memory");
}

static double median_ceiling(const struct run *run, size_t offset)
{
    double values[RESULT_ROUNDS_MAX];
    for (uint32_t r = 0; r < run->round_count; r++)
        memcpy(&values[r], (const char *)&run->ceilings[r] + offset, sizeof values[r]);
    return samples_median(values, run->round_count) / 1e9;
}

static void write_report(const struct run *run)
{
    struct report report;
    report_init(&report, "ops", columns, sizeof columns / sizeof columns[0]);
    report_set_number(&report, "rounds", run->round_count);
    report_set_number(&report, "seconds", (double)run->run_ns / 1e9);
    report_set_number(&report, "threads", run->threads);
    report_set_text(&report, "isa", run->isa);
    report_set_number(&report, "read_gb_per_s",
                      median_ceiling(run, offsetof(struct ceilings, read_bytes_per_s)));
    report_set_number(&report, "fma_gflop_per_s",
                      median_ceiling(run, offsetof(struct ceilings, flop_per_s)));
    for (size_t i = 0; i < run->case_count; i++)
        add_row(run, &run->cases[i], &report);
    report_note(&report, "Ceilings of this run: read_gb_per_s from memory, fma_gflop_per_s of f32, "
                         "both with these threads.");
    report_note(&report, "of ceiling: the least time that they allow, as percent of the time "
                         "taken; above 100: the data came from caches.");
    report_write(&report, &run->machine, run->options, stdout);
    report_close(&report);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

/* What "auto" means here, out of the stream's description: "cpu: avx2, 2 threads". */
static enum llm_status choose_isa(struct run *run, struct llm_error *error)
{
    struct kernel_stream *stream;
    struct kernel_stream_options options = {.threads = 1, .isa = run->options->isa};
    enum llm_status status = kernel_stream_open("cpu", &options, &stream, error);
    if (status != LLM_OK)
        return status;
    if (sscanf(stream->description, "cpu: %15[a-z0-9]", run->isa) != 1)
        snprintf(run->isa, sizeof run->isa, "plain");
    kernel_stream_close(stream);
    return LLM_OK;
}

static enum llm_status check_filters(const struct run *run, struct llm_error *error)
{
    if (run->case_count > 0)
        return LLM_OK;
    return llm_fail(error, LLM_ERR_INVALID, "nothing matches --op %.40s --shape %.40s",
                    run->options->op ? run->options->op : "(any)",
                    run->options->shape ? run->options->shape : "(any)");
}

static enum llm_status open_run(struct run *run, struct llm_error *error)
{
    const struct bench_options *options = run->options;
    run->round_count = options->quick ? 2 : options->rounds;
    run->run_ns = (uint64_t)((options->quick ? 0.002 : options->seconds) * 1e9);
    run->rotate_bytes = options->quick ? 0 : ROTATE_BYTES;
    run->ceilings = calloc(run->round_count, sizeof *run->ceilings);
    if (!run->ceilings)
        return no_memory(error);
    enum llm_status status = machine_open(&run->machine, options->cpus, options->fifo, error);
    run->threads = options->op_threads ? options->op_threads : run->machine.cpus;
    if (status == LLM_OK)
        status = samples_open(&run->samples, SAMPLES_MAX, error);
    if (status == LLM_OK)
        status = choose_isa(run, error);
    if (status == LLM_OK)
        status = add_cases(run, "cpu", error);
    if (status == LLM_OK && options->reference)
        status = add_cases(run, "reference", error);
    if (status == LLM_OK)
        status = check_filters(run, error);
    return status;
}

enum llm_status bench_ops(const struct bench_options *options, struct llm_error *error)
{
    struct run run = {.options = options};
    enum llm_status status = open_run(&run, error);
    for (uint32_t round = 0; round < run.round_count && status == LLM_OK && !bench_interrupted();
         round++)
        status = measure_round(&run, round, error);
    if (status == LLM_OK && !bench_interrupted())
        write_report(&run);
    for (size_t i = 0; i < run.case_count; i++)
        free(run.cases[i].times);
    free(run.cases);
    free(run.ceilings);
    samples_close(&run.samples);
    return status;
}

const struct option_row ops_options[] = {
    {"op", "NAME", OPTION_TEXT, offsetof(struct bench_options, op), 0, 0, "only this op"},
    {"shape", "TEXT", OPTION_TEXT, offsetof(struct bench_options, shape), 0, 0,
     "only shapes that begin so, as the table prints them: 8x2048"},
    {"threads", "N", OPTION_COUNT, offsetof(struct bench_options, op_threads), 1,
     KERNEL_THREADS_MAX, "threads that compute; default: one per processor"},
    {"isa", "NAME", OPTION_TEXT, offsetof(struct bench_options, isa), 0, 0,
     "instruction set: avx512, avx2, plain; default: the widest"},
    {"reference", NULL, OPTION_FLAG, offsetof(struct bench_options, reference), 0, 0,
     "the reference backend as well"},
    {NULL, NULL, OPTION_FLAG, 0, 0, 0, NULL},
};
