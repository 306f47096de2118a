/*
 * fixture.h - what the tests of the CUDA kernels share: schedules, buffers on the emulated device.
 *
 * Random numbers, KV pools and comparisons come from tests/kernels/fixture.h.
 */
#ifndef LLM_TESTS_CUDA_FIXTURE_H
#define LLM_TESTS_CUDA_FIXTURE_H

#include "kernels/cuda/batch.h"
#include "tests/cuda/emu/emu.h"
#include "tests/kernels/fixture.h"

/* Loop tests run over [0, cuda_schedules()): all of them in a plain build, fewer where a sanitizer slows every
 * thread down; LLM_TEST_SEED moves the seeds. */
int cuda_schedules(void);
struct cuda_stream cuda_begin(int schedule,
                              uint64_t salt); /* a stream under it, numbers from seed and salt */
void cuda_end(struct cuda_stream *stream);    /* asserts that no launch failed */

/* Copies of host memory on the device, and back into memory that the caller frees. */
void *cuda_upload(const void *host, size_t bytes);
float *cuda_floats(const float *host, size_t count);
float *cuda_download(const float *device, size_t count);

/* A batch on the device; cuda_free_batch() frees it. */
struct cuda_batch cuda_batch_upload(const struct kernel_sequence *sequences, int32_t S, int32_t B,
                                    int32_t window);
void cuda_free_batch(const struct cuda_batch *batch);

/* The same pool on the device: same bytes, and unwritten ones still NaN; emu_free(.base). */
struct cuda_kv cuda_kv_upload(const struct kernel_kv *kv);
size_t cuda_kv_bytes(const struct kernel_kv *kv);

/* Weights w [N, K] as the kernels want them; emu_free() of .rows. */
struct cuda_matrix cuda_matrix_upload(enum kernel_dtype dtype, int32_t N, int32_t K,
                                      const float *w);

/* The worst element must be within its tolerance. */
void cuda_expect(struct fixture_worst worst, const char *op, const char *shape, const char *why);

#endif
