/*
 * isa_plain.c - the loops for any machine.
 */
#include "kernels/cpu/vec_plain.h"

#include "kernels/cpu/attention_body.h"
#include "kernels/cpu/linear_body.h"
#include "kernels/cpu/rows_body.h"

const struct cpu_isa cpu_isa_plain = {
    .name = "plain",
    .layout = "panel8",
    .lanes = VEC_LANES,
    .matrix_bytes = panels_bytes,
    .linear = linear_loops,
    .rmsnorm = rmsnorm_row,
    .rope = rope_head,
    .silu_mul = silu_mul_row,
    .add = add_row,
    .attention = attention_loops,
};
