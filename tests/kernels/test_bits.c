/*
 * test_bits.c - kernels/cpu: a row's result is the same to the bit, whatever it travels with.
 * How: each op is run once on many rows, then again row by row, in odd batches, in other chunks, with other
 * blocks and with 1, 2 and 3 threads; memcmp decides. Numbers are random (LLM_TEST_SEED), rows are not alike.
 */
#include "tests/kernels/fixture.h"

#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    THREADS_MAX = 3
};

/* Streams with 1, 2 and 3 threads; [0] is the yardstick. */
static struct kernel_stream *streams[THREADS_MAX];

static bool open_streams(int isa, uint64_t salt)
{
    fixture_reseed(salt);
    for (uint32_t i = 0; i < THREADS_MAX; i++) {
        streams[i] = fixture_stream(fixture_isas[isa], i + 1);
        if (!streams[i])
            return false;
    }
    return true;
}

static void close_streams(void)
{
    for (uint32_t i = 0; i < THREADS_MAX; i++)
        kernel_stream_close(streams[i]);
}

static void assert_same_bits(const float *got, const float *want, size_t count, const char *what,
                             int detail, const struct kernel_stream *stream)
{
    size_t i = 0; /* the first that differs */
    while (i < count && memcmp(&got[i], &want[i], sizeof *got) == 0)
        i++;
    if (i < count)
        ck_abort_msg("%s %d, %s: element %zu is %.9g, was %.9g (seed %" PRIu64 ")", what, detail,
                     stream->description, i, (double)got[i], (double)want[i], fixture_seed());
}

/* Batches that begin and end nowhere in particular: from `t`, this many rows of T. */
static int32_t batch_rows(int32_t t, int32_t T, int32_t largest)
{
    int32_t rows = 1 + (int32_t)fixture_random((uint32_t)largest);
    return rows < T - t ? rows : T - t;
}

START_TEST(a_linear_row_is_the_same_alone_and_in_any_batch)
{
    if (!open_streams(_i, 1))
        return;
    enum {
        T = 131,
        N = 83,
        K = 700
    };
    static const struct {
        int32_t largest;
        uint32_t threads;
    } batches[] = {{1, 1},  {2, 1}, {3, 1}, {4, 1},  {5, 1},   {6, 1}, {7, 1}, {13, 1},
                   {40, 1}, {T, 2}, {1, 2}, {13, 2}, {100, 2}, {T, 3}, {1, 3}, {40, 3}};
    float *x = fixture_floats(T * K, 1), *w = fixture_floats(N * K, 1);
    float *bias = fixture_floats(N, 1), *before = fixture_floats(T * N, 1);
    float *want = malloc(T * N * sizeof *want), *got = malloc(T * N * sizeof *got);
    for (int dtype = 0; dtype < KERNEL_DTYPE_COUNT; dtype++) {
        struct kernel_matrix m = fixture_matrix(streams[0], (enum kernel_dtype)dtype, N, K, w);
        memcpy(want, before, T * N * sizeof *want);
        streams[0]->ops->linear(streams[0], want, x, &m, bias, T, KERNEL_LINEAR_ADD);
        for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
            struct kernel_stream *stream = streams[batches[i].threads - 1];
            memcpy(got, before, T * N * sizeof *got);
            for (int32_t t = 0, rows; t < T; t += rows) {
                rows = batch_rows(t, T, batches[i].largest);
                stream->ops->linear(stream, got + t * N, x + t * K, &m, bias, rows,
                                    KERNEL_LINEAR_ADD);
            }
            assert_same_bits(got, want, T * N, "batches up to", batches[i].largest, stream);
        }
        free(m.panels);
    }
    free(x), free(w), free(bias), free(before), free(want), free(got);
    close_streams();
}
END_TEST

START_TEST(merging_matrices_changes_no_bit)
{
    if (!open_streams(_i, 2))
        return;
    enum {
        T = 9,
        N = 90,
        JOINT = 37,
        K = 300
    };
    float *x = fixture_floats(T * K, 1), *w = fixture_floats(N * K, 1);
    float both[T * N], first[T * JOINT], second[T * (N - JOINT)];
    struct kernel_stream *stream = streams[1];
    struct kernel_matrix m = fixture_matrix(stream, KERNEL_BF16, N, K, w);
    struct kernel_matrix a = fixture_matrix(stream, KERNEL_BF16, JOINT, K, w);
    struct kernel_matrix b = fixture_matrix(stream, KERNEL_BF16, N - JOINT, K, w + JOINT * K);
    stream->ops->linear(stream, both, x, &m, NULL, T, KERNEL_LINEAR_STORE);
    stream->ops->linear(stream, first, x, &a, NULL, T, KERNEL_LINEAR_STORE);
    stream->ops->linear(stream, second, x, &b, NULL, T, KERNEL_LINEAR_STORE);
    for (int t = 0; t < T; t++) {
        assert_same_bits(first + t * JOINT, both + t * N, JOINT, "first, row", t, stream);
        assert_same_bits(second + t * (N - JOINT), both + t * N + JOINT, N - JOINT, "second, row",
                         t, stream);
    }
    free(x), free(w), free(m.panels), free(a.panels), free(b.panels);
    close_streams();
}
END_TEST

START_TEST(panels_are_packed_alike_by_any_number_of_threads)
{
    if (!open_streams(_i, 3))
        return;
    enum {
        N = 203,
        K = 333
    };
    float *w = fixture_floats(N * K, 1);
    for (int dtype = 0; dtype < KERNEL_DTYPE_COUNT; dtype++) {
        struct kernel_matrix want = fixture_matrix(streams[0], (enum kernel_dtype)dtype, N, K, w);
        size_t bytes = streams[0]->ops->matrix_bytes(want.dtype, N, K);
        for (int i = 1; i < THREADS_MAX; i++) {
            struct kernel_matrix got =
                fixture_matrix(streams[i], (enum kernel_dtype)dtype, N, K, w);
            ck_assert_mem_eq(got.panels, want.panels, N * K * kernel_dtype_bytes(want.dtype));
            ck_assert_uint_eq(streams[i]->ops->matrix_bytes(want.dtype, N, K), bytes);
            free(got.panels);
        }
        free(want.panels);
    }
    free(w);
    close_streams();
}
END_TEST

/* rmsnorm, rope, silu_mul, add and rmsnorm_heads of T rows, in batches of up to `largest`, all into `out`. */
struct row_ops {
    int32_t T, D;
    const float *x, *gain;
    const int32_t *positions;
    struct kernel_rope rope;
};

static void row_ops_run(const struct row_ops *r, struct kernel_stream *stream, float *out,
                        int32_t largest)
{
    const struct kernel_ops *ops = stream->ops;
    int32_t D = r->D;
    size_t all = (size_t)r->T * (size_t)D;
    memcpy(out + all, r->x, all * sizeof *out); /* rope and add work in place */
    memcpy(out + 3 * all, r->x, all * sizeof *out);
    memcpy(out + 4 * all, r->x, all * sizeof *out);
    for (int32_t t = 0, rows; t < r->T; t += rows) {
        rows = batch_rows(t, r->T, largest);
        size_t at = (size_t)t * (size_t)D;
        ops->rmsnorm(stream, out + at, r->x + at, r->gain, rows, D, 1e-6f);
        ops->rope(stream, out + all + at, D, r->positions + t, &r->rope, rows, D / r->rope.D,
                  r->rope.D);
        ops->silu_mul(stream, out + 2 * all + at / 2, r->x + at, rows, D / 2);
        ops->add(stream, out + 3 * all + at, r->x + at, rows, D);
        ops->rmsnorm_heads(stream, out + 4 * all + at, D, r->gain, rows, D / r->rope.D, r->rope.D,
                           1e-6f);
    }
}

START_TEST(a_row_of_activations_is_the_same_alone_and_in_any_batch)
{
    if (!open_streams(_i, 4))
        return;
    enum {
        T = 67,
        HEAD = 44,
        D = 7 * HEAD,
        P = 100
    };
    float *x = fixture_floats(T * D, 4), *gain = fixture_floats(D, 1);
    double frequencies[HEAD / 2];
    float table[P * HEAD];
    kernel_rope_frequencies(frequencies, HEAD, 10000);
    kernel_rope_fill(table, frequencies, 1, P, HEAD);
    int32_t positions[T];
    for (int t = 0; t < T; t++)
        positions[t] = (int32_t)fixture_random(P);
    struct row_ops ops = {T, D, x, gain, positions, {table, P, HEAD}};
    float *want = calloc(5 * T * D, sizeof *want), *got = calloc(5 * T * D, sizeof *got);
    row_ops_run(&ops, streams[0], want, T);
    for (int32_t largest = 1; largest <= T; largest += 11)
        for (int i = 0; i < THREADS_MAX; i++) {
            row_ops_run(&ops, streams[i], got, largest);
            assert_same_bits(got, want, T * D, "rmsnorm, batches up to", largest, streams[i]);
            assert_same_bits(got + T * D, want + T * D, T * D, "rope, batches up to", largest,
                             streams[i]);
            assert_same_bits(got + 2 * T * D, want + 2 * T * D, T * D / 2,
                             "silu_mul, batches up to", largest, streams[i]);
            assert_same_bits(got + 3 * T * D, want + 3 * T * D, T * D, "add, batches up to",
                             largest, streams[i]);
            assert_same_bits(got + 4 * T * D, want + 4 * T * D, T * D,
                             "rmsnorm_heads, batches up to", largest, streams[i]);
        }
    free(x), free(gain), free(want), free(got);
    close_streams();
}
END_TEST

/* A few sequences whose queries, keys and values are all known beforehand, so that they can be fed in any way. */
enum {
    SEQUENCES = 4,
    LONGEST = 210
};

struct world {
    int32_t H, G, D, window;
    enum kernel_dtype dtype;
    int32_t length[SEQUENCES];
    float *qkv[SEQUENCES]; /* [length, H + 2 G, D] */
    const char *why;
};

static int32_t world_stride(const struct world *w)
{
    return (w->H + 2 * w->G) * w->D;
}

static void world_fill(struct world *w)
{
    for (int s = 0; s < SEQUENCES; s++)
        w->qkv[s] = fixture_floats((size_t)w->length[s] * (size_t)world_stride(w), 1.5f);
}

static void world_free(struct world *w)
{
    for (int s = 0; s < SEQUENCES; s++)
        free(w->qkv[s]);
}

/* How to feed a world: blocks of B tokens, steps of up to `largest` rows of each of the chosen sequences. */
struct feeding {
    int32_t B, largest;
    unsigned chosen; /* bit s: sequence s takes part */
};

/* One step: rows of the unfinished sequences side by side through kv_append and attention. */
static void world_step(const struct world *w, struct kernel_stream *stream,
                       const struct kernel_kv *kv, const struct kernel_sequence *sequences,
                       const int *which, int32_t S, float *const *out)
{
    size_t stride = (size_t)world_stride(w), width = (size_t)w->H * (size_t)w->D;
    const struct kernel_sequence *last = &sequences[S - 1];
    size_t T = (size_t)(last->row_first + last->row_count);
    float *qkv = malloc(T * stride * sizeof *qkv), *rows = fixture_nans(T * width);
    for (int32_t i = 0; i < S; i++)
        memcpy(qkv + (size_t)sequences[i].row_first * stride,
               w->qkv[which[i]] + (size_t)sequences[i].position_first * stride,
               (size_t)sequences[i].row_count * stride * sizeof *qkv);
    const float *k = qkv + width, *v = k + w->G * w->D;
    struct kernel_attention attention = {1 / sqrtf((float)w->D), w->window};
    stream->ops->kv_append(stream, kv, 0, k, v, (int32_t)stride, sequences, S);
    stream->ops->attention(stream, rows, qkv, (int32_t)stride, kv, 0, sequences, S, w->H,
                           &attention);
    for (int32_t i = 0; i < S; i++)
        memcpy(out[which[i]] + (size_t)sequences[i].position_first * width,
               rows + (size_t)sequences[i].row_first * width,
               (size_t)sequences[i].row_count * width * sizeof *rows);
    free(qkv), free(rows);
}

static void world_run(const struct world *w, struct kernel_stream *stream,
                      const struct feeding *feeding, float *const *out)
{
    uint32_t per_sequence = (uint32_t)((LONGEST + feeding->B - 1) / feeding->B);
    struct kernel_kv kv = fixture_kv(w->dtype, 1, w->G, feeding->B, w->D, SEQUENCES * per_sequence);
    uint32_t *blocks = fixture_blocks(kv.block_count);
    int32_t done[SEQUENCES] = {0};
    for (int32_t S = 1; S;) {
        struct kernel_sequence sequences[SEQUENCES];
        int which[SEQUENCES];
        S = 0;
        for (int s = 0, row = 0; s < SEQUENCES; s++) {
            if (!(feeding->chosen >> s & 1) || done[s] == w->length[s])
                continue;
            int32_t rows = batch_rows(done[s], w->length[s], feeding->largest);
            which[S] = s;
            sequences[S++] =
                (struct kernel_sequence){blocks + (uint32_t)s * per_sequence, row, rows, done[s]};
            done[s] += rows;
            row += rows;
        }
        if (S)
            world_step(w, stream, &kv, sequences, which, S, out);
    }
    free(kv.base), free(blocks);
}

static void world_check(struct world *w)
{
    static const struct feeding feedings[] = {
        {16, LONGEST, 15}, {32, LONGEST, 15}, {24, 64, 15}, {64, 37, 15}, {16, 5, 15},
        {16, 1, 15},       {16, 90, 1},       {16, 3, 4},   {1, 70, 10},
    };
    float *want[SEQUENCES], *got[SEQUENCES];
    size_t width = (size_t)w->H * (size_t)w->D;
    world_fill(w);
    for (int s = 0; s < SEQUENCES; s++) {
        want[s] = fixture_nans(LONGEST * width);
        got[s] = fixture_nans(LONGEST * width);
        struct feeding alone = {16, LONGEST, 1u << s};
        world_run(w, streams[0], &alone, want);
    }
    for (size_t f = 0; f < sizeof feedings / sizeof feedings[0]; f++)
        for (int i = 0; i < THREADS_MAX; i++) {
            world_run(w, streams[i], &feedings[f], got);
            for (int s = 0; s < SEQUENCES; s++)
                if (feedings[f].chosen >> s & 1)
                    assert_same_bits(got[s], want[s], (size_t)w->length[s] * width, w->why, (int)f,
                                     streams[i]);
        }
    for (int s = 0; s < SEQUENCES; s++)
        free(want[s]), free(got[s]);
    world_free(w);
}

START_TEST(attention_is_the_same_chunked_batched_alone_and_over_any_blocks)
{
    if (!open_streams(_i, 5))
        return;
    struct world worlds[] = {
        {8, 4, 8, 0, KERNEL_F32, {210, 1, 64, 65}, {0}, "stories260K, feeding"},
        {6, 2, 20, 0, KERNEL_BF16, {130, 33, 5, 90}, {0}, "groups of three, feeding"},
        {4, 1, 64, 0, KERNEL_BF16, {100, 2, 129, 63}, {0}, "one key head, feeding"},
        {3, 3, 16, 70, KERNEL_F32, {210, 70, 71, 128}, {0}, "a window, feeding"},
    };
    for (size_t i = 0; i < sizeof worlds / sizeof worlds[0]; i++)
        world_check(&worlds[i]);
    close_streams();
}
END_TEST

/* A number that a later token brings must not reach an earlier one, not even as 0 * infinity. */
START_TEST(a_poisonous_later_token_leaves_earlier_rows_alone)
{
    if (!open_streams(_i, 6))
        return;
    struct world w = {2, 2, 16, 0, KERNEL_F32, {90, 1, 1, 1}, {0}, "poison"};
    struct feeding whole = {16, LONGEST, 1};
    size_t width = (size_t)w.H * (size_t)w.D, stride = (size_t)world_stride(&w);
    float *want[SEQUENCES] = {fixture_nans(LONGEST * width)};
    float *got[SEQUENCES] = {fixture_nans(LONGEST * width)};
    world_fill(&w);
    world_run(&w, streams[1], &whole, want);
    for (size_t i = 0; i < stride; i++)
        w.qkv[0][70 * stride + i] = i % 2 ? INFINITY : NAN;
    world_run(&w, streams[1], &whole, got);
    assert_same_bits(got[0], want[0], 70 * width, "rows before", 70, streams[1]);
    ck_assert(isnan(got[0][70 * width])); /* and what is poisoned shows it */
    free(want[0]), free(got[0]);
    world_free(&w);
    close_streams();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernels/bits");
    TCase *tc = tcase_create("bits");
    tcase_set_timeout(tc, 90);
    tcase_add_loop_test(tc, a_linear_row_is_the_same_alone_and_in_any_batch, 0, FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, merging_matrices_changes_no_bit, 0, FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, panels_are_packed_alike_by_any_number_of_threads, 0, FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, a_row_of_activations_is_the_same_alone_and_in_any_batch, 0,
                        FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, attention_is_the_same_chunked_batched_alone_and_over_any_blocks, 0,
                        FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, a_poisonous_later_token_leaves_earlier_rows_alone, 0,
                        FIXTURE_ISA_COUNT);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
