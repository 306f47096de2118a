/*
 * isa_avx512.c - the loops for x86-64 with AVX-512 F, BW, VL and DQ: compiled with those flags, called only where cpuid shows
 * them.
 */
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/attention_body.h"
#include "kernels/cpu/linear_body.h"
#include "kernels/cpu/rows_body.h"

const struct cpu_isa cpu_isa_avx512 = {
    .name = "avx512",
    .layout = "panel32",
    .lanes = VEC_LANES,
    .matrix_bytes = panels_bytes,
    .linear = linear_loops,
    .rmsnorm = rmsnorm_row,
    .rope = rope_head,
    .silu_mul = silu_mul_row,
    .add = add_row,
    .attention = attention_loops,
};
