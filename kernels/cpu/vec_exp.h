/*
 * vec_exp.h - exp() of a vector, the same for every lane and every caller.
 *
 * Idea     exp(x) = 2^n * exp(r) with n the whole number nearest to x / ln 2 and r = x - n ln 2 in +-ln 2 / 2,
 *          ln 2 taken in two pieces so that r keeps its bits; exp(r) by the degree-6 polynomial of the Cephes
 *          library's expf. At most 2 units in the last place from the true value in the normal range; 0 below
 *          -104, infinity above 89, NaN stays NaN.
 * Source   S. Moshier, Cephes Mathematical Library (netlib.org/cephes), single precision expf.
 */
#ifndef LLM_KERNELS_CPU_VEC_EXP_H
#define LLM_KERNELS_CPU_VEC_EXP_H

static inline vec vec_exp(vec x)
{
    x = vec_min(vec_set(89.0f), vec_max(vec_set(-104.0f), x));
    vec n = vec_round(vec_mul(x, vec_set(1.44269504088896341f)));
    vec r = vec_fma(n, vec_set(-0.693359375f), x);
    r = vec_fma(n, vec_set(2.12194440e-4f), r);
    vec p = vec_set(1.9875691500e-4f);
    p = vec_fma(p, r, vec_set(1.3981999507e-3f));
    p = vec_fma(p, r, vec_set(8.3334519073e-3f));
    p = vec_fma(p, r, vec_set(4.1665795894e-2f));
    p = vec_fma(p, r, vec_set(1.6666665459e-1f));
    p = vec_fma(p, r, vec_set(5.0000001201e-1f));
    p = vec_fma(vec_mul(r, r), p, vec_add(r, vec_set(1.0f)));
    return vec_scale2(p, n);
}

#endif
