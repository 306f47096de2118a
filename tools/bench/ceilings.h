/*
 * ceilings.h - the most this machine can read, and multiply and add, with so many threads.
 *
 * Idea     A kernel's GB/s and GFLOP/s mean something beside what the same number of threads on the same machine in
 *          the same minute reach in loops that do nothing else: reading a buffer that no cache holds, and independent
 *          fused multiply-adds on registers.
 * Isa      "avx512", "avx2", "plain" as in kernels/kernels.h. The plain one multiplies and adds as the compiler finds
 *          it without either.
 */
#ifndef BENCH_CEILINGS_H
#define BENCH_CEILINGS_H

#include <stddef.h>
#include <stdint.h>

#include "shm/status.h"

struct ceilings {
    double read_bytes_per_s;
    double flop_per_s; /* of f32; a fused multiply-add is two */
};

enum llm_status ceilings_measure(const char *isa, uint32_t threads, size_t buffer_bytes,
                                 uint64_t run_ns, struct ceilings *out_ceilings,
                                 struct llm_error *error) LLM_MUST_CHECK;

#endif
