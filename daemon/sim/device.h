/*
 * device.h - how long a step takes on a machine that is not there.
 *
 * Idea     A step is as long as its slower half, memory traffic or arithmetic, and what starting it costs (the
 *          roofline of Williams, Waterman, Patterson 2009). With R rows, of which W want a token, S sequences that see
 *          p positions each, and a model of L layers:
 *
 *            bytes  weights once  +  kv_token_bytes * (sum of p over the sequences + R)
 *            flops  2 * R * weights of the layers  +  2 * W * width * vocab  +  4 * L * heads * head_width * (sum over
 *                   the rows of the positions each sees)
 *            time   overhead + max(bytes / bandwidth, flops / arithmetic)
 *
 *          Bandwidth and arithmetic are what a device reaches, not what its data sheet says.
 * See      README.md (where the numbers are from), tests/sim/test_device.c.
 */
#ifndef LLMD_SIM_DEVICE_H
#define LLMD_SIM_DEVICE_H

#include <stdint.h>

#include "daemon/core/core.h"

struct device {
    const char *name;
    double bytes_per_s; /* reached */
    double flops_per_s; /* reached, a multiply-add is two */
    uint64_t step_ns;   /* what a step costs besides: launches, sampling, publishing */
};

struct shape {
    const char *name;
    uint32_t layers, width, heads, kv_heads, head_width, hidden, vocab;
    uint32_t value_bytes; /* of a weight and of a KV value */
};

/* By name; NULL: no such. The lists end with a row without a name. */
const struct device *device_named(const char *name);
const struct shape *shape_named(const char *name);
extern const struct device devices[];
extern const struct shape shapes[];

uint64_t shape_layer_weights(const struct shape *shape);  /* of all layers, without embeddings */
uint64_t shape_kv_token_bytes(const struct shape *shape); /* of all layers */

/* What a step moves and computes. */
struct work {
    double bytes, flops;
};
struct work device_no_work(const struct shape *shape); /* a step without rows: the weights */
/* `rows` rows from `first_position` on, attending to all before them. */
void device_add_rows(struct work *work, const struct shape *shape, uint32_t first_position,
                     uint32_t rows, bool wants_token);

uint64_t device_work_ns(const struct device *device, const struct work *work);
uint64_t device_step_ns(const struct device *device, const struct shape *shape,
                        const struct core_plan *plan);
/* A request alone on the machine, nothing cached: `prompt` in chunks of `step_tokens`, then the answer. */
uint64_t device_alone_ns(const struct device *device, const struct shape *shape,
                         uint32_t prompt_tokens, uint32_t answer_tokens, uint32_t step_tokens);

#endif
