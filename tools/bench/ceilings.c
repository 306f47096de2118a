#include "tools/bench/ceilings.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "shm/clock.h"
#include "tools/bench/bench.h"

#define CHUNK_BYTES (1u << 20) /* read between two looks at the clock */
#define WINDOWS     8
#define FMA_TURNS   2000

/* ---- Loops ----------------------------------------------------------------------------------------- */

/* Read `bytes`, a multiple of 256, and return what keeps the compiler from leaving it out. */
typedef uint64_t read_fn(const void *from, size_t bytes);
/* FMA_TURNS times as many independent multiply-adds as fill the pipes; *out_flop of them. */
typedef float fma_fn(double *out_flop);

static uint64_t read_plain(const void *from, size_t bytes)
{
    const uint64_t *words = from;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i < bytes / 8; i += 4) {
        a ^= words[i];
        b ^= words[i + 1];
        c ^= words[i + 2];
        d ^= words[i + 3];
    }
    return a ^ b ^ c ^ d;
}

#define PLAIN_LANES 32

static float fma_plain(double *out_flop)
{
    float sums[PLAIN_LANES], total = 0;
    for (int lane = 0; lane < PLAIN_LANES; lane++)
        sums[lane] = (float)lane;
    for (int turn = 0; turn < FMA_TURNS; turn++)
        for (int lane = 0; lane < PLAIN_LANES; lane++)
            sums[lane] = sums[lane] * 0.999F + 0.5F;
    for (int lane = 0; lane < PLAIN_LANES; lane++)
        total += sums[lane];
    *out_flop = 2.0 * PLAIN_LANES * FMA_TURNS;
    return total;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t read_avx2(const void *from, size_t bytes)
{
    const __m256i *lines = from;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (size_t i = 0; i < bytes / 32; i += 4) {
        a = _mm256_xor_si256(a, _mm256_load_si256(&lines[i]));
        b = _mm256_xor_si256(b, _mm256_load_si256(&lines[i + 1]));
        c = _mm256_xor_si256(c, _mm256_load_si256(&lines[i + 2]));
        d = _mm256_xor_si256(d, _mm256_load_si256(&lines[i + 3]));
    }
    a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
    return (uint64_t)_mm256_extract_epi64(a, 0) ^ (uint64_t)_mm256_extract_epi64(a, 1);
}

/* Ten chains: more than latency times pipes of any processor that has them. */
__attribute__((target("avx2,fma"))) static float fma_avx2(double *out_flop)
{
    const __m256 x = _mm256_set1_ps(0.999F), y = _mm256_set1_ps(0.5F);
    __m256 s0 = x, s1 = x, s2 = x, s3 = x, s4 = x, s5 = y, s6 = y, s7 = y, s8 = y, s9 = y;
    for (int turn = 0; turn < FMA_TURNS; turn++) {
        s0 = _mm256_fmadd_ps(s0, x, y);
        s1 = _mm256_fmadd_ps(s1, x, y);
        s2 = _mm256_fmadd_ps(s2, x, y);
        s3 = _mm256_fmadd_ps(s3, x, y);
        s4 = _mm256_fmadd_ps(s4, x, y);
        s5 = _mm256_fmadd_ps(s5, x, y);
        s6 = _mm256_fmadd_ps(s6, x, y);
        s7 = _mm256_fmadd_ps(s7, x, y);
        s8 = _mm256_fmadd_ps(s8, x, y);
        s9 = _mm256_fmadd_ps(s9, x, y);
    }
    s0 = _mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3));
    s4 = _mm256_add_ps(_mm256_add_ps(s4, s5), _mm256_add_ps(s6, s7));
    s0 = _mm256_add_ps(_mm256_add_ps(s0, s4), _mm256_add_ps(s8, s9));
    *out_flop = 2.0 * 8 * 10 * FMA_TURNS;
    return _mm256_cvtss_f32(s0);
}

__attribute__((target("avx512f"))) static uint64_t read_avx512(const void *from, size_t bytes)
{
    const __m512i *lines = from;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i < bytes / 64; i += 4) {
        a = _mm512_xor_si512(a, _mm512_load_si512(&lines[i]));
        b = _mm512_xor_si512(b, _mm512_load_si512(&lines[i + 1]));
        c = _mm512_xor_si512(c, _mm512_load_si512(&lines[i + 2]));
        d = _mm512_xor_si512(d, _mm512_load_si512(&lines[i + 3]));
    }
    a = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
    return (uint64_t)_mm512_reduce_add_epi64(a);
}

__attribute__((target("avx512f"))) static float fma_avx512(double *out_flop)
{
    const __m512 x = _mm512_set1_ps(0.999F), y = _mm512_set1_ps(0.5F);
    __m512 s0 = x, s1 = x, s2 = x, s3 = x, s4 = x, s5 = y, s6 = y, s7 = y, s8 = y, s9 = y;
    for (int turn = 0; turn < FMA_TURNS; turn++) {
        s0 = _mm512_fmadd_ps(s0, x, y);
        s1 = _mm512_fmadd_ps(s1, x, y);
        s2 = _mm512_fmadd_ps(s2, x, y);
        s3 = _mm512_fmadd_ps(s3, x, y);
        s4 = _mm512_fmadd_ps(s4, x, y);
        s5 = _mm512_fmadd_ps(s5, x, y);
        s6 = _mm512_fmadd_ps(s6, x, y);
        s7 = _mm512_fmadd_ps(s7, x, y);
        s8 = _mm512_fmadd_ps(s8, x, y);
        s9 = _mm512_fmadd_ps(s9, x, y);
    }
    s0 = _mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3));
    s4 = _mm512_add_ps(_mm512_add_ps(s4, s5), _mm512_add_ps(s6, s7));
    s0 = _mm512_add_ps(_mm512_add_ps(s0, s4), _mm512_add_ps(s8, s9));
    *out_flop = 2.0 * 16 * 10 * FMA_TURNS;
    return _mm512_cvtss_f32(s0);
}
#endif

static const struct {
    const char *isa;
    read_fn *read;
    fma_fn *fma;
} loops[] = {
#if defined(__x86_64__)
    {"avx512", read_avx512, fma_avx512},
    {"avx2", read_avx2, fma_avx2},
#endif
    {"plain", read_plain, fma_plain},
};
#define LOOP_COUNT (sizeof loops / sizeof loops[0])

/* ---- Threads --------------------------------------------------------------------------------------- */

struct work {
    const unsigned char *buffer; /* [buffer_bytes] this thread's part */
    size_t buffer_bytes, at;
    size_t loop;
    uint64_t run_ns;
    pthread_barrier_t *barrier;
    struct ceilings windows[WINDOWS];
    uint64_t kept; /* results, so that they are computed */
};

static double read_for(struct work *work, uint64_t run_ns)
{
    uint64_t start_ns = llm_now_ns(), now_ns = start_ns;
    double bytes = 0;
    while (now_ns - start_ns < run_ns) {
        work->kept ^= loops[work->loop].read(work->buffer + work->at, CHUNK_BYTES);
        work->at = work->at + 2 * CHUNK_BYTES <= work->buffer_bytes ? work->at + CHUNK_BYTES : 0;
        bytes += CHUNK_BYTES;
        now_ns = llm_now_ns();
    }
    return bytes / ((double)(now_ns - start_ns) / 1e9);
}

static double multiply_for(struct work *work, uint64_t run_ns)
{
    uint64_t start_ns = llm_now_ns(), now_ns = start_ns;
    double flop = 0, more;
    while (now_ns - start_ns < run_ns) {
        work->kept ^= (uint64_t)(int64_t)loops[work->loop].fma(&more);
        flop += more;
        now_ns = llm_now_ns();
    }
    return flop / ((double)(now_ns - start_ns) / 1e9);
}

static void *serve(void *self)
{
    struct work *work = self;
    for (int i = 0; i < WINDOWS; i++) {
        pthread_barrier_wait(work->barrier);
        work->windows[i].read_bytes_per_s = read_for(work, work->run_ns / WINDOWS);
        pthread_barrier_wait(work->barrier);
        work->windows[i].flop_per_s = multiply_for(work, work->run_ns / WINDOWS);
    }
    return NULL;
}

static enum llm_status run_threads(struct work *works, uint32_t threads, struct llm_error *error)
{
    static pthread_barrier_t barrier; /* static: should a thread not start, the others stay at it */
    pthread_t *handles = calloc(threads, sizeof *handles);
    if (!handles)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u threads", threads);
    pthread_barrier_init(&barrier, NULL, threads);
    uint32_t started = 1; /* we are the first */
    int number = 0;
    for (; started < threads && number == 0; started += number == 0) {
        works[started].barrier = &barrier;
        number = pthread_create(&handles[started], NULL, serve, &works[started]);
    }
    if (number != 0) {
        free(handles);
        return llm_fail_errno(error, LLM_ERR_SYSTEM, number, "cannot start thread %u of %u",
                              started + 1, threads);
    }
    works[0].barrier = &barrier;
    serve(&works[0]);
    for (uint32_t i = 1; i < threads; i++)
        pthread_join(handles[i], NULL);
    pthread_barrier_destroy(&barrier);
    free(handles);
    return LLM_OK;
}

/* A ceiling is what can be reached: the best of several moments, all threads of a moment together. */
static struct ceilings best_window(const struct work *works, uint32_t threads)
{
    struct ceilings best = {0};
    for (int window = 0; window < WINDOWS; window++) {
        struct ceilings sum = {0};
        for (uint32_t i = 0; i < threads; i++) {
            sum.read_bytes_per_s += works[i].windows[window].read_bytes_per_s;
            sum.flop_per_s += works[i].windows[window].flop_per_s;
        }
        best.read_bytes_per_s = fmax(best.read_bytes_per_s, sum.read_bytes_per_s);
        best.flop_per_s = fmax(best.flop_per_s, sum.flop_per_s);
    }
    return best;
}

enum llm_status ceilings_measure(const char *isa, uint32_t threads, size_t buffer_bytes,
                                 uint64_t run_ns, struct ceilings *out_ceilings,
                                 struct llm_error *error)
{
    size_t loop = 0, part = buffer_bytes / threads / CHUNK_BYTES * CHUNK_BYTES;
    while (loop < LOOP_COUNT && strcmp(loops[loop].isa, isa) != 0)
        loop++;
    if (loop == LOOP_COUNT)
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "no ceiling for instruction set \"%s\"", isa);
    if (part < CHUNK_BYTES)
        part = CHUNK_BYTES;
    unsigned char *buffer =
        mmap(NULL, part * threads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct work *works = calloc(threads, sizeof *works);
    enum llm_status status = LLM_OK;
    if (buffer == MAP_FAILED || !works)
        status =
            llm_fail(error, LLM_ERR_MEMORY, "no memory for a buffer of %zu bytes", part * threads);
    if (status == LLM_OK) {
        madvise(buffer, part * threads, MADV_HUGEPAGE);
        memset(buffer, 1, part * threads);
        for (uint32_t i = 0; i < threads; i++)
            works[i] = (struct work){
                .buffer = buffer + i * part, .buffer_bytes = part, .loop = loop, .run_ns = run_ns};
        status = run_threads(works, threads, error);
    }
    if (status == LLM_OK)
        *out_ceilings = best_window(works, threads);
    if (buffer != MAP_FAILED)
        munmap(buffer, part * threads);
    free(works);
    return status;
}
