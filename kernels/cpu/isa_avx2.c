/*
 * isa_avx2.c - the loops for x86-64 with AVX2, FMA3 and F16C: compiled with those flags, called only where cpuid shows them.
 */
#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/attention_body.h"
#include "kernels/cpu/linear_body.h"
#include "kernels/cpu/rows_body.h"

const struct cpu_isa cpu_isa_avx2 = {
    .name = "avx2",
    .layout = "panel16",
    .lanes = VEC_LANES,
    .matrix_bytes = panels_bytes,
    .linear = linear_loops,
    .rmsnorm = rmsnorm_row,
    .rope = rope_head,
    .silu_mul = silu_mul_row,
    .add = add_row,
    .attention = attention_loops,
};
