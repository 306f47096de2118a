/*
 * counter_weights.h - random weights that a name and a number give, in any language.
 *
 * Idea     Element i of a tensor is a hash of (tensor's name, seed, i), so a checkpoint of any size is its list of
 *          names and shapes: goldens made elsewhere need not carry it. tests/vectors/families.py has the same
 *          generator; a change here is a change there, and new goldens.
 * Method   key = FNV-1a of the name + seed * golden ratio; splitmix64 of the counter (Steele, Lea & Flood 2014,
 *          https://doi.org/10.1145/2660193.2660195); the upper 24 bits as k / 2^23 in [-1, 1).
 * Numbers  center + u * spread in f64, rounded once to f32; sqrt, product and sum are IEEE's, so every machine
 *          gives the same bits. What center and spread are depends on the tensor's role, see the source.
 */
#ifndef LLM_TESTS_DAEMON_COUNTER_WEIGHTS_H
#define LLM_TESTS_DAEMON_COUNTER_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

/* The i-th of a name's uniform numbers, [-1, 1). */
double counter_uniform(const char *name, uint64_t seed, uint64_t i);

/* Fill `count` weights of the tensor `name`, whose rows have `columns` elements. */
void counter_weights(float *out, size_t count, const char *name, uint64_t seed, size_t columns);

#endif
