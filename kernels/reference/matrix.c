/*
 * matrix.c - matrices and tables, read row by row.
 */
#include "kernels/reference/reference.h"

#include "shm/check.h"

size_t matrix_bytes_reference(enum kernel_dtype dtype, int32_t N, int32_t K)
{
    size_t bytes = (size_t)N * (size_t)K * kernel_dtype_bytes(dtype);
    return (bytes + KERNEL_PANEL_ALIGN_BYTES - 1) & ~(size_t)(KERNEL_PANEL_ALIGN_BYTES - 1);
}

void matrix_pack_reference(struct kernel_stream *stream, struct kernel_matrix *matrix,
                           const void *source, enum kernel_dtype source_dtype, int32_t row_first,
                           int32_t row_count)
{
    (void)stream;
    CHECK(row_first >= 0 && row_count >= 0 && row_count <= matrix->N - row_first);
    size_t first = (size_t)row_first * (size_t)matrix->K;
    size_t count = (size_t)row_count * (size_t)matrix->K;
    for (size_t i = 0; i < count; i++)
        kernel_store(matrix->panels, matrix->dtype, first + i,
                     kernel_load(source, source_dtype, i));
}

static double dot(const float *x, const struct kernel_matrix *w, int32_t n)
{
    size_t first = (size_t)n * (size_t)w->K;
    double sum = 0;
    for (size_t k = 0; k < (size_t)w->K; k++)
        sum += (double)x[k] * (double)kernel_load(w->panels, w->dtype, first + k);
    return sum;
}

void linear_reference(struct kernel_stream *stream, float *out, const float *x,
                      const struct kernel_matrix *w, const float *bias, int32_t T,
                      enum kernel_linear_mode mode)
{
    (void)stream;
    for (int32_t t = 0; t < T; t++) {
        for (int32_t n = 0; n < w->N; n++) {
            float *to = out + (size_t)t * (size_t)w->N + n;
            double sum = dot(x + (size_t)t * (size_t)w->K, w, n);
            if (bias)
                sum += (double)bias[n];
            if (mode == KERNEL_LINEAR_ADD)
                sum += (double)*to;
            *to = (float)sum;
        }
    }
}

void embed_reference(struct kernel_stream *stream, float *out, const int32_t *ids,
                     const struct kernel_table *table, int32_t T)
{
    (void)stream;
    size_t D = (size_t)table->D;
    for (int32_t t = 0; t < T; t++) {
        CHECK(ids[t] >= 0 && ids[t] < table->V);
        for (size_t d = 0; d < D; d++)
            out[(size_t)t * D + d] = kernel_load(table->rows, table->dtype, (size_t)ids[t] * D + d);
    }
}

void embed_matrix_reference(struct kernel_stream *stream, float *out, const int32_t *ids,
                            const struct kernel_matrix *w, int32_t T)
{
    struct kernel_table table = {w->panels, w->dtype, w->N, w->K};
    embed_reference(stream, out, ids, &table, T);
}
