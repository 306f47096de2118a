/*
 * rows.c - sharing out the ops that look at one row at a time: whole rows, or, where rows are few and their
 * elements independent, columns.
 */
#include "kernels/cpu/cpu.h"

#include "shm/check.h"

/* Columns are cut at multiples of a cache line, so that no two threads write the same one. */
#define COLUMN_STEP 16
/* exp and division weigh as much as this many additions. */
#define SILU_WORK 8

struct rmsnorm_job {
    const struct cpu_isa *isa;
    float *out;
    const float *x, *gain;
    int32_t T, D;
    float eps;
};

static void rmsnorm_share(void *argument, uint32_t index, uint32_t count)
{
    const struct rmsnorm_job *job = argument;
    struct cpu_share rows = cpu_share_of(job->T, 1, index, count);
    for (int32_t t = rows.first; t < rows.end; t++) {
        size_t at = (size_t)t * (size_t)job->D;
        job->isa->rmsnorm(job->out + at, job->x + at, job->gain, job->D, job->eps);
    }
}

void rmsnorm_cpu(struct kernel_stream *stream, float *out, const float *x, const float *gain,
                 int32_t T, int32_t D, float eps)
{
    struct cpu_stream *cpu = cpu_stream_of(stream);
    struct rmsnorm_job job = {cpu->isa, out, x, gain, T, D, eps};
    cpu_stream_run(cpu, rmsnorm_share, &job, T == 1 ? 0 : (double)T * D);
}

struct rmsnorm_heads_job {
    const struct cpu_isa *isa;
    float *x;
    int32_t stride;
    const float *gain;
    int32_t T, H, D;
    float eps;
};

static void rmsnorm_heads_share(void *argument, uint32_t index, uint32_t count)
{
    const struct rmsnorm_heads_job *job = argument;
    struct cpu_share rows = cpu_share_of(job->T, 1, index, count);
    for (int32_t t = rows.first; t < rows.end; t++) {
        float *head = job->x + (size_t)t * (size_t)job->stride;
        for (int32_t h = 0; h < job->H; h++, head += job->D)
            job->isa->rmsnorm(head, head, job->gain, job->D, job->eps);
    }
}

void rmsnorm_heads_cpu(struct kernel_stream *stream, float *x, int32_t stride, const float *gain,
                       int32_t T, int32_t H, int32_t D, float eps)
{
    struct cpu_stream *cpu = cpu_stream_of(stream);
    struct rmsnorm_heads_job job = {cpu->isa, x, stride, gain, T, H, D, eps};
    cpu_stream_run(cpu, rmsnorm_heads_share, &job, T == 1 ? 0 : (double)T * H * D);
}

struct rope_job {
    const struct cpu_isa *isa;
    float *x;
    int32_t stride;
    const int32_t *positions;
    const struct kernel_rope *rope;
    int32_t T, H, D;
};

static void rope_share(void *argument, uint32_t index, uint32_t count)
{
    const struct rope_job *job = argument;
    int32_t half = job->rope->D / 2;
    struct cpu_share rows = cpu_share_of(job->T, 1, index, count);
    for (int32_t t = rows.first; t < rows.end; t++) {
        const float *cosines = job->rope->cos_sin + (size_t)job->positions[t] * 2 * (size_t)half;
        float *row = job->x + (size_t)t * (size_t)job->stride;
        for (int32_t h = 0; h < job->H; h++)
            job->isa->rope(row + (size_t)h * (size_t)job->D, cosines, cosines + half, half);
    }
}

void rope_cpu(struct kernel_stream *stream, float *x, int32_t stride, const int32_t *positions,
              const struct kernel_rope *rope, int32_t T, int32_t H, int32_t D)
{
    CHECK(rope->D <= D && rope->D % 2 == 0);
    for (int32_t t = 0; t < T; t++)
        CHECK(positions[t] >= 0 && positions[t] < rope->P);
    struct cpu_stream *cpu = cpu_stream_of(stream);
    struct rope_job job = {cpu->isa, x, stride, positions, rope, T, H, D};
    cpu_stream_run(cpu, rope_share, &job, T == 1 ? 0 : (double)T * H * D);
}

struct silu_mul_job {
    const struct cpu_isa *isa;
    float *out;
    const float *x;
    int32_t T, F;
};

static void silu_mul_share(void *argument, uint32_t index, uint32_t count)
{
    const struct silu_mul_job *job = argument;
    struct cpu_share columns = cpu_share_of(job->F, COLUMN_STEP, index, count);
    for (int32_t t = 0; t < job->T; t++) {
        const float *gate = job->x + 2 * (size_t)t * (size_t)job->F + columns.first;
        job->isa->silu_mul(job->out + (size_t)t * (size_t)job->F + columns.first, gate,
                           gate + job->F, columns.end - columns.first);
    }
}

void silu_mul_cpu(struct kernel_stream *stream, float *out, const float *x, int32_t T, int32_t F)
{
    struct cpu_stream *cpu = cpu_stream_of(stream);
    struct silu_mul_job job = {cpu->isa, out, x, T, F};
    cpu_stream_run(cpu, silu_mul_share, &job, (double)T * F * SILU_WORK);
}

struct add_job {
    const struct cpu_isa *isa;
    float *out;
    const float *x;
    int32_t T, D;
};

static void add_share(void *argument, uint32_t index, uint32_t count)
{
    const struct add_job *job = argument;
    struct cpu_share columns = cpu_share_of(job->D, COLUMN_STEP, index, count);
    for (int32_t t = 0; t < job->T; t++) {
        size_t at = (size_t)t * (size_t)job->D + (size_t)columns.first;
        job->isa->add(job->out + at, job->x + at, columns.end - columns.first);
    }
}

void add_cpu(struct kernel_stream *stream, float *out, const float *x, int32_t T, int32_t D)
{
    struct cpu_stream *cpu = cpu_stream_of(stream);
    struct add_job job = {cpu->isa, out, x, T, D};
    cpu_stream_run(cpu, add_share, &job, (double)T * D);
}
