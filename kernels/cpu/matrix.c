/*
 * matrix.c - packing weights into panels, reading single rows back, and sharing out the products.
 */
#include "kernels/cpu/cpu.h"

#include "shm/check.h"

/* Inputs packed at a time: a stretch of W source rows stays in the cache while it is turned. */
#define PACK_INPUTS 64

struct pack_job {
    const struct kernel_matrix *matrix;
    const unsigned char *source;
    enum kernel_dtype source_dtype;
    int32_t row_first, row_end;
    int32_t lanes;
};

/* Inputs [k, k_end) of the rows of one panel that the job brings; what is beyond N becomes zero. */
ALWAYS_INLINE void pack_stretch(const struct pack_job *job, int32_t panel, int32_t k, int32_t k_end,
                                enum kernel_dtype to, enum kernel_dtype from)
{
    const struct kernel_matrix *m = job->matrix;
    int32_t width = 2 * job->lanes;
    unsigned char *at =
        (unsigned char *)m->panels + (size_t)panel * panel_bytes(to, m->K, job->lanes);
    for (int32_t column = 0; column < width; column++) {
        int32_t n = panel * width + column, slot = panel_slot(to, job->lanes, column);
        if (n < m->N && (n < job->row_first || n >= job->row_end))
            continue; /* another call brings it */
        for (int32_t i = k; i < k_end; i++) {
            size_t source = (size_t)(n - job->row_first) * (size_t)m->K + (size_t)i;
            float value = n < m->N ? kernel_load(job->source, from, source) : 0;
            kernel_store(at, to, (size_t)i * (size_t)width + (size_t)slot, value);
        }
    }
}

/* The formats are constants in each call, so that the inner loop holds no question. */
static void pack_panel(const struct pack_job *job, int32_t panel, int32_t k, int32_t k_end)
{
    enum kernel_dtype to = job->matrix->dtype, from = job->source_dtype;
    if (to == KERNEL_BF16 && from == KERNEL_BF16)
        pack_stretch(job, panel, k, k_end, KERNEL_BF16, KERNEL_BF16);
    else if (to == KERNEL_F32 && from == KERNEL_F32)
        pack_stretch(job, panel, k, k_end, KERNEL_F32, KERNEL_F32);
    else
        pack_stretch(job, panel, k, k_end, to, from);
}

static void pack_share(void *argument, uint32_t index, uint32_t count)
{
    const struct pack_job *job = argument;
    int32_t width = 2 * job->lanes, K = job->matrix->K;
    int32_t first = job->row_first / width, end = (job->row_end + width - 1) / width;
    struct cpu_share share = cpu_share_of(end - first, 1, index, count);
    for (int32_t panel = first + share.first; panel < first + share.end; panel++)
        for (int32_t k = 0; k < K; k += PACK_INPUTS)
            pack_panel(job, panel, k, K - k < PACK_INPUTS ? K : k + PACK_INPUTS);
}

void matrix_pack_cpu(struct kernel_stream *stream, struct kernel_matrix *matrix, const void *source,
                     enum kernel_dtype source_dtype, int32_t row_first, int32_t row_count)
{
    CHECK(row_first >= 0 && row_count >= 0 && row_count <= matrix->N - row_first);
    CHECK((uintptr_t)matrix->panels % KERNEL_PANEL_ALIGN_BYTES == 0);
    struct cpu_stream *cpu = cpu_stream_of(stream);
    struct pack_job job = {matrix,         source, source_dtype, row_first, row_first + row_count,
                           cpu->isa->lanes};
    if (row_count > 0)
        cpu_stream_run(cpu, pack_share, &job, (double)row_count * matrix->K);
}

struct linear_job {
    const struct cpu_isa *isa;
    struct linear_part whole;
};

/* Threads divide the panels; where there are fewer panels than threads, also the rows. */
static void linear_share(void *argument, uint32_t index, uint32_t count)
{
    const struct linear_job *job = argument;
    struct linear_part part = job->whole;
    uint32_t all = (uint32_t)part.panel_end, columns = all < count ? all : count;
    uint32_t bands = count / columns;
    if (index >= columns * bands)
        return;
    struct cpu_share panels = cpu_share_of(part.panel_end, 1, index % columns, columns);
    struct cpu_share rows = cpu_share_of(part.row_end, 1, index / columns, bands);
    part.panel_first = panels.first;
    part.panel_end = panels.end;
    part.row_first = rows.first;
    part.row_end = rows.end;
    job->isa->linear(&part);
}

void linear_cpu(struct kernel_stream *stream, float *out, const float *x,
                const struct kernel_matrix *w, const float *bias, int32_t T,
                enum kernel_linear_mode mode)
{
    struct cpu_stream *cpu = cpu_stream_of(stream);
    CHECK(T >= 0 && w->N > 0 && w->K > 0);
    struct linear_job job = {cpu->isa,
                             {.out = out,
                              .x = x,
                              .w = w,
                              .bias = bias,
                              .mode = mode,
                              .row_end = T,
                              .panel_end = panel_count(w->N, cpu->isa->lanes)}};
    if (T > 0)
        cpu_stream_run(cpu, linear_share, &job, (double)T * w->N * w->K);
}

void embed_matrix_cpu(struct kernel_stream *stream, float *out, const int32_t *ids,
                      const struct kernel_matrix *w, int32_t T)
{
    int32_t lanes = cpu_stream_of(stream)->isa->lanes, width = 2 * lanes;
    for (int32_t t = 0; t < T; t++, out += w->K) {
        CHECK(ids[t] >= 0 && ids[t] < w->N);
        const unsigned char *panel = (const unsigned char *)w->panels +
                                     (size_t)(ids[t] / width) * panel_bytes(w->dtype, w->K, lanes);
        size_t slot = (size_t)panel_slot(w->dtype, lanes, ids[t] % width);
        for (size_t k = 0; k < (size_t)w->K; k++)
            out[k] = kernel_load(panel, w->dtype, k * (size_t)width + slot);
    }
}
