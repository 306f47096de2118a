/*
 * rope_scaling.h - the frequencies of scaled rotary embeddings.
 *
 * Idea     Dimension pair i of a head turns by frequency f(i) per position, f(i) = theta^(-2 i / D); its
 *          wavelength is 2 pi / f(i) positions. A model that is to read more tokens than it was trained on
 *          turns slower, and the kinds differ in which pairs do:
 *
 *              linear   all: f(i) / factor
 *              llama3   by wavelength, L the original length: pairs shorter than L / high_freq_factor stay, pairs
 *                       longer than L / low_freq_factor turn at f(i) / factor, and between them
 *                       f(i) ((1 - s) / factor + s),  s = (L / wavelength - low) / (high - low)
 *              yarn     by the number of turns within L: pairs with more than beta_fast stay, pairs with fewer
 *                       than beta_slow turn at f(i) / factor, and between them a straight line over i. Both bounds
 *                       are whole pairs (rounded outwards) unless between_dimensions. Cosines and sines
 *                       are multiplied with attention_factor, which makes the softmax sharper.
 *
 * Numbers  All in f64; kernel_rope_fill() rounds the table once.
 * Source   linear: Chen et al. 2023, arXiv:2306.15595. llama3: the Llama 3.1 reference (arXiv:2407.21783 and
 *          https://huggingface.co/docs/transformers/internal/rope_utils). yarn: Peng et al. 2023,
 *          arXiv:2309.00071, sections 3.2 and 3.4.
 * See      model_config.h (struct model_rope), tests/daemon/test_rope_scaling.c, tests/daemon/test_families.c.
 */
#ifndef LLM_DAEMON_MODEL_ROPE_SCALING_H
#define LLM_DAEMON_MODEL_ROPE_SCALING_H

#include "daemon/model/model_config.h"

/* Write frequencies [head_dim / 2]; returns what cosines and sines are multiplied with, 1 but for YaRN. */
double rope_scaling_frequencies(double *frequencies, const struct model_config *config);

#endif
