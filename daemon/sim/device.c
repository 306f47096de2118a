#include "daemon/sim/device.h"

#include <string.h>

/* h200: NVIDIA H200 SXM data sheet, 4.8 TB/s and 989 TFLOP/s (bf16, dense); of these 80 % and 50 % are taken as reached,
 * which is what well-tuned kernels get. cpu: one thread of an AMD EPYC (Zen 3), as docs/PERFORMANCE.md measured it. */
const struct device devices[] = {
    {"h200", 0.8 * 4.8e12, 0.5 * 989e12, 200000},
    {"cpu", 21e9, 126e9, 20000},
    {NULL, 0, 0, 0},
};

/* The published config.json of Llama-3.1-8B, Llama-3.2-1B and of stories260K. */
const struct shape shapes[] = {
    {"8b", 32, 4096, 32, 8, 128, 14336, 128256, 2},
    {"1b", 16, 2048, 32, 8, 64, 8192, 128256, 2},
    {"260k", 5, 64, 8, 4, 8, 172, 512, 4},
    {NULL, 0, 0, 0, 0, 0, 0, 0, 0},
};

const struct device *device_named(const char *name)
{
    const struct device *device = devices;
    while (device->name && strcmp(device->name, name) != 0)
        device++;
    return device->name ? device : NULL;
}

const struct shape *shape_named(const char *name)
{
    const struct shape *shape = shapes;
    while (shape->name && strcmp(shape->name, name) != 0)
        shape++;
    return shape->name ? shape : NULL;
}

uint64_t shape_layer_weights(const struct shape *s)
{
    uint64_t attention = 2 * (uint64_t)s->width * s->heads * s->head_width +
                         2 * (uint64_t)s->width * s->kv_heads * s->head_width;
    return s->layers * (attention + 3 * (uint64_t)s->width * s->hidden);
}

uint64_t shape_kv_token_bytes(const struct shape *s)
{
    return UINT64_C(2) * s->layers * s->kv_heads * s->head_width * s->value_bytes;
}

struct work device_no_work(const struct shape *s)
{
    uint64_t weights = shape_layer_weights(s) + (uint64_t)s->width * s->vocab;
    return (struct work){.bytes = (double)(weights * s->value_bytes)};
}

void device_add_rows(struct work *work, const struct shape *s, uint32_t first_position,
                     uint32_t rows, bool wants_token)
{
    double seen = (double)rows * first_position + (double)rows * (rows + 1.0) / 2;
    work->bytes += (double)shape_kv_token_bytes(s) * ((double)first_position + rows + (double)rows);
    work->flops += 2.0 * rows * (double)shape_layer_weights(s) +
                   4.0 * s->layers * s->heads * s->head_width * seen;
    if (wants_token)
        work->flops += 2.0 * s->width * s->vocab;
}

uint64_t device_work_ns(const struct device *device, const struct work *work)
{
    double moving_s = work->bytes / device->bytes_per_s;
    double computing_s = work->flops / device->flops_per_s;
    return device->step_ns + (uint64_t)(1e9 * (moving_s > computing_s ? moving_s : computing_s));
}

uint64_t device_step_ns(const struct device *device, const struct shape *shape,
                        const struct core_plan *plan)
{
    struct work work = device_no_work(shape);
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const struct core_sequence *sequence = &plan->sequences[i];
        device_add_rows(&work, shape, sequence->first_position, sequence->token_count,
                        sequence->wants_token);
    }
    return device_work_ns(device, &work);
}

uint64_t device_alone_ns(const struct device *device, const struct shape *shape,
                         uint32_t prompt_tokens, uint32_t answer_tokens, uint32_t step_tokens)
{
    uint64_t ns = 0;
    for (uint32_t from = 0; from < prompt_tokens; from += step_tokens) {
        uint32_t rows = prompt_tokens - from < step_tokens ? prompt_tokens - from : step_tokens;
        struct work work = device_no_work(shape);
        device_add_rows(&work, shape, from, rows, from + rows == prompt_tokens);
        ns += device_work_ns(device, &work);
    }
    struct work middle = device_no_work(shape); /* the time is linear in the position */
    device_add_rows(&middle, shape, prompt_tokens + answer_tokens / 2, 1, true);
    return ns + (uint64_t)(answer_tokens - 1) * device_work_ns(device, &middle);
}
