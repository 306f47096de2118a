/*
 * attention.c - sharing out attention: parts of up to ATTENTION_QUERIES_MAX queries of one key/value head.
 *
 * The queries of a part are the (row, head) pairs of one sequence whose heads read the same keys, row by row: so
 * a decode step with grouped heads already reads each key once for several queries. All threads walk the same
 * list of parts, weigh each by what it will cost, and take the stretch of the list that begins in their share.
 */
#include "kernels/cpu/cpu.h"

#include "shm/check.h"

struct attention_job {
    const struct cpu_stream *cpu;
    float *out;
    const float *q;
    int32_t stride;
    const struct kernel_kv *kv;
    int32_t layer;
    const struct kernel_sequence *sequences;
    int32_t S, H;
    const struct kernel_attention *attention;
    int32_t part_queries_max;
    double work; /* of all parts */
};

/* A place in the list of parts. */
struct cursor {
    int32_t sequence, head, query;
};

static int32_t group_heads(const struct attention_job *job)
{
    return job->H / job->kv->G;
}

static int32_t sequence_queries(const struct attention_job *job, int32_t sequence)
{
    return job->sequences[sequence].row_count * group_heads(job);
}

static int32_t part_queries(const struct attention_job *job, const struct cursor *at)
{
    int32_t left = sequence_queries(job, at->sequence) - at->query;
    return left < job->part_queries_max ? left : job->part_queries_max;
}

static int32_t key_first(const struct attention_job *job, int32_t position)
{
    int32_t window = job->attention->window;
    return window && position >= window ? position - window + 1 : 0;
}

/* Queries times the keys of the last one. */
static double part_work(const struct attention_job *job, const struct cursor *at)
{
    int32_t count = part_queries(job, at);
    int32_t row = (at->query + count - 1) / group_heads(job);
    int32_t position = job->sequences[at->sequence].position_first + row;
    return (double)count * (position + 1 - key_first(job, position));
}

/* To the first query of the next part that has any; false at the end of the list. */
static bool cursor_settle(const struct attention_job *job, struct cursor *at)
{
    while (at->sequence < job->S && at->query >= sequence_queries(job, at->sequence)) {
        at->query = 0;
        at->head++;
        if (at->head == job->kv->G || sequence_queries(job, at->sequence) == 0) {
            at->head = 0;
            at->sequence++;
        }
    }
    return at->sequence < job->S;
}

static void part_run(const struct attention_job *job, const struct cursor *at,
                     struct attention_scratch *scratch)
{
    const struct kernel_sequence *sequence = &job->sequences[at->sequence];
    struct attention_part part = {.kv = job->kv,
                                  .blocks = sequence->blocks,
                                  .layer = job->layer,
                                  .head = at->head,
                                  .scale = job->attention->scale,
                                  .query_count = part_queries(job, at)};
    int32_t group = group_heads(job), D = job->kv->D;
    for (int32_t i = 0; i < part.query_count; i++) {
        int32_t row = (at->query + i) / group;
        int32_t head = at->head * group + (at->query + i) % group;
        int32_t position = sequence->position_first + row;
        size_t t = (size_t)sequence->row_first + (size_t)row;
        part.queries[i] = (struct attention_query){
            .q = job->q + t * (size_t)job->stride + (size_t)head * (size_t)D,
            .out = job->out + (t * (size_t)job->H + (size_t)head) * (size_t)D,
            .first = key_first(job, position),
            .end = position + 1};
    }
    job->cpu->isa->attention(&part, scratch);
}

static void attention_share(void *argument, uint32_t index, uint32_t count)
{
    const struct attention_job *job = argument;
    double first = job->work * index / count, end = job->work * (index + 1) / count, done = 0;
    struct cursor at = {0};
    while (cursor_settle(job, &at) && done < end) {
        if (done >= first)
            part_run(job, &at, &job->cpu->scratch[index]);
        done += part_work(job, &at);
        at.query += part_queries(job, &at);
    }
}

/* Add up the work; returns the number of parts. */
static uint32_t job_weigh(struct attention_job *job)
{
    uint32_t parts = 0;
    struct cursor at = {0};
    for (job->work = 0; cursor_settle(job, &at); parts++) {
        job->work += part_work(job, &at);
        at.query += part_queries(job, &at);
    }
    return parts;
}

/* Parts as large as they come, or, where that leaves threads without one, as small as it takes: heads that share
 * keys then read them twice, but at the same time, from the cache they share. */
static void job_cut(struct attention_job *job)
{
    uint32_t threads = job->cpu->pool.thread_count;
    job->part_queries_max = ATTENTION_QUERIES_MAX;
    if (job_weigh(job) >= threads)
        return;
    uint32_t queries = 0;
    for (int32_t s = 0; s < job->S; s++)
        queries += (uint32_t)(job->sequences[s].row_count * job->H);
    job->part_queries_max = queries > threads ? (int32_t)(queries / threads) : 1;
    (void)job_weigh(job);
}

void attention_cpu(struct kernel_stream *stream, float *out, const float *q, int32_t stride,
                   const struct kernel_kv *kv, int32_t layer,
                   const struct kernel_sequence *sequences, int32_t S, int32_t H,
                   const struct kernel_attention *attention)
{
    CHECK(kv->D <= KERNEL_HEAD_DIM_MAX && H % kv->G == 0);
    struct cpu_stream *cpu = cpu_stream_of(stream);
    struct attention_job job = {.cpu = cpu,
                                .out = out,
                                .q = q,
                                .stride = stride,
                                .kv = kv,
                                .layer = layer,
                                .sequences = sequences,
                                .S = S,
                                .H = H,
                                .attention = attention};
    job_cut(&job);
    cpu_stream_run(cpu, attention_share, &job, 2 * job.work * kv->D);
}
