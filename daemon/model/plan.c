#include "daemon/model/plan.h"

#include "shm/check.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *const op_names[PLAN_OP_COUNT] = {
    [PLAN_EMBED] = "embed",
    [PLAN_EMBED_MATRIX] = "embed_matrix",
    [PLAN_RMSNORM] = "rmsnorm",
    [PLAN_LINEAR] = "linear",
    [PLAN_LINEAR_ADD] = "linear_add",
    [PLAN_ROPE] = "rope",
    [PLAN_KV_APPEND] = "kv_append",
    [PLAN_ATTENTION] = "attention",
    [PLAN_SILU_MUL] = "silu_mul",
    [PLAN_GATHER] = "gather_rows",
    [PLAN_RMSNORM_HEADS] = "rmsnorm_heads",
};

static const struct plan_view no_view = {.slot = -1};

enum llm_status plan_open(struct plan *plan, int32_t step_capacity, int32_t weight_capacity,
                          struct llm_error *error)
{
    *plan = (struct plan){.step_capacity = step_capacity, .weight_capacity = weight_capacity};
    plan->steps = calloc((size_t)step_capacity, sizeof *plan->steps);
    plan->weights = calloc((size_t)weight_capacity, sizeof *plan->weights);
    if (plan->steps == NULL || plan->weights == NULL) {
        plan_close(plan);
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a plan of %d steps", step_capacity);
    }
    return LLM_OK;
}

void plan_close(struct plan *plan)
{
    free(plan->steps);
    free(plan->weights);
    *plan = (struct plan){0};
}

/* ---- writing a plan down ---- */

int32_t plan_add_slot(struct plan *plan, const char *name, int32_t width, enum plan_rows rows)
{
    CHECK(plan->slot_count < PLAN_SLOTS_MAX);
    plan->slots[plan->slot_count] = (struct plan_slot){name, width, rows};
    return plan->slot_count++;
}

struct plan_view plan_whole(const struct plan *plan, int32_t slot)
{
    return (struct plan_view){slot, 0, plan->slots[slot].width};
}

struct plan_view plan_columns(int32_t slot, int32_t column, int32_t width)
{
    return (struct plan_view){slot, column, width};
}

int32_t plan_add_weight(struct plan *plan, enum plan_weight_kind kind, int32_t N, int32_t K,
                        const char *format, ...)
{
    CHECK(plan->weight_count < plan->weight_capacity);
    struct plan_weight *weight = &plan->weights[plan->weight_count];
    *weight = (struct plan_weight){.kind = kind, .N = N, .K = K, .part_count = 1};
    weight->parts[0].rows = N;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(weight->parts[0].tensor, PLAN_TENSOR_NAME_BYTES, format, args);
    va_end(args);
    CHECK(length > 0 && length < PLAN_TENSOR_NAME_BYTES);
    return plan->weight_count++;
}

struct plan_step *plan_add_step(struct plan *plan, enum plan_op op, enum plan_rows rows,
                                int32_t layer)
{
    CHECK(plan->step_count < plan->step_capacity);
    struct plan_step *step = &plan->steps[plan->step_count++];
    *step = (struct plan_step){.op = op,
                               .rows = rows,
                               .layer = layer,
                               .weight = PLAN_NO_WEIGHT,
                               .bias = PLAN_NO_WEIGHT,
                               .out = no_view,
                               .in = no_view,
                               .in2 = no_view};
    return step;
}

/* ---- passes ---- */

static bool views_equal(struct plan_view a, struct plan_view b)
{
    return a.slot == b.slot && a.column == b.column && a.width == b.width;
}

static bool views_adjoin(struct plan_view left, struct plan_view right)
{
    return left.slot == right.slot && left.column + left.width == right.column;
}

static bool linears_merge(const struct plan *plan, const struct plan_step *a,
                          const struct plan_step *b)
{
    return a->op == PLAN_LINEAR && b->op == PLAN_LINEAR && a->rows == b->rows &&
           views_equal(a->in, b->in) && views_adjoin(a->out, b->out) &&
           (a->bias == PLAN_NO_WEIGHT) == (b->bias == PLAN_NO_WEIGHT) &&
           plan->weights[a->weight].part_count + plan->weights[b->weight].part_count <=
               PLAN_PARTS_MAX;
}

/* Put b's tensors below a's; b's weight keeps no part and is dropped at the end of the pass. */
static void weights_stack(struct plan_weight *a, struct plan_weight *b)
{
    for (int32_t i = 0; i < b->part_count; i++)
        a->parts[a->part_count++] = b->parts[i];
    a->N += b->N;
    b->part_count = 0;
}

static void drop_empty_weights(struct plan *plan)
{
    int32_t kept = 0;
    for (int32_t w = 0; w < plan->weight_count; w++) {
        if (plan->weights[w].part_count == 0)
            continue;
        for (int32_t i = 0; i < plan->step_count; i++) {
            if (plan->steps[i].weight == w)
                plan->steps[i].weight = kept;
            if (plan->steps[i].bias == w)
                plan->steps[i].bias = kept;
        }
        plan->weights[kept++] = plan->weights[w];
    }
    plan->weight_count = kept;
}

void plan_merge_linears(struct plan *plan)
{
    int32_t last = 0;
    for (int32_t i = 1; i < plan->step_count; i++) {
        struct plan_step *a = &plan->steps[last];
        const struct plan_step *b = &plan->steps[i];
        if (linears_merge(plan, a, b)) {
            weights_stack(&plan->weights[a->weight], &plan->weights[b->weight]);
            if (a->bias != PLAN_NO_WEIGHT)
                weights_stack(&plan->weights[a->bias], &plan->weights[b->bias]);
            a->out.width += b->out.width;
        } else {
            plan->steps[++last] = *b;
        }
    }
    plan->step_count = last + 1;
    drop_empty_weights(plan);
}

void plan_merge_ropes(struct plan *plan)
{
    int32_t last = 0;
    for (int32_t i = 1; i < plan->step_count; i++) {
        struct plan_step *a = &plan->steps[last];
        const struct plan_step *b = &plan->steps[i];
        if (a->op == PLAN_ROPE && b->op == PLAN_ROPE && views_adjoin(a->out, b->out))
            a->out.width += b->out.width;
        else
            plan->steps[++last] = *b;
    }
    plan->step_count = last + 1;
}

/* ---- checking ---- */

static bool view_lies_in_slot(const struct plan *plan, struct plan_view view)
{
    return view.slot < plan->slot_count && view.column >= 0 && view.width > 0 &&
           view.column + view.width <= plan->slots[view.slot].width;
}

static bool view_is_whole(const struct plan *plan, struct plan_view view)
{
    return view.slot >= 0 && views_equal(view, plan_whole(plan, view.slot));
}

/* The weight of that index, its parts counted; NULL for none. */
static const struct plan_weight *checked_weight(const struct plan *plan, int32_t index)
{
    if (index == PLAN_NO_WEIGHT)
        return NULL;
    CHECK(index < plan->weight_count);
    const struct plan_weight *weight = &plan->weights[index];
    int32_t rows = 0;
    for (int32_t i = 0; i < weight->part_count; i++)
        rows += weight->parts[i].rows;
    CHECK(rows == weight->N);
    return weight;
}

static void check_weight(const struct plan *plan, const struct plan_step *step)
{
    const struct plan_weight *weight = checked_weight(plan, step->weight);
    const struct plan_weight *bias = checked_weight(plan, step->bias);
    bool linear = step->op == PLAN_LINEAR || step->op == PLAN_LINEAR_ADD;
    if (linear)
        CHECK(weight != NULL && step->in.width == weight->K && step->out.width == weight->N);
    else if (step->op == PLAN_RMSNORM_HEADS)
        CHECK(weight != NULL && weight->K == plan->head_dim);
    else if (weight != NULL)
        CHECK(step->out.width == weight->K);
    if (bias != NULL)
        CHECK(linear && bias->kind == PLAN_WEIGHT_VECTOR && bias->N == step->out.width &&
              bias->K == 1);
}

/* A view that is a part of a slot's row needs an op that takes a stride. */
static void check_step(const struct plan *plan, const struct plan_step *step)
{
    const struct plan_view views[] = {step->out, step->in, step->in2};
    bool strided = step->op == PLAN_ROPE || step->op == PLAN_RMSNORM_HEADS ||
                   step->op == PLAN_KV_APPEND || step->op == PLAN_ATTENTION;
    for (size_t i = 0; i < 3; i++) {
        if (views[i].slot < 0)
            continue;
        CHECK(view_lies_in_slot(plan, views[i]));
        CHECK(strided || view_is_whole(plan, views[i]));
    }
    check_weight(plan, step);
}

static bool ops_have(const struct kernel_ops *ops, enum plan_op op)
{
    switch (op) {
    case PLAN_EMBED:
        return ops->embed != NULL;
    case PLAN_EMBED_MATRIX:
        return ops->embed_matrix != NULL;
    case PLAN_RMSNORM:
        return ops->rmsnorm != NULL;
    case PLAN_LINEAR:
    case PLAN_LINEAR_ADD:
        return ops->linear != NULL;
    case PLAN_RMSNORM_HEADS:
        return ops->rmsnorm_heads != NULL;
    case PLAN_ROPE:
        return ops->rope != NULL;
    case PLAN_KV_APPEND:
        return ops->kv_append != NULL;
    case PLAN_ATTENTION:
        return ops->attention != NULL;
    case PLAN_SILU_MUL:
        return ops->silu_mul != NULL;
    case PLAN_GATHER:
        return ops->gather_rows != NULL;
    case PLAN_OP_COUNT:
        break;
    }
    return false;
}

enum llm_status plan_check(const struct plan *plan, const struct kernel_ops *ops,
                           struct llm_error *error)
{
    for (int32_t i = 0; i < plan->step_count; i++) {
        check_step(plan, &plan->steps[i]);
        if (!ops_have(ops, plan->steps[i].op))
            return llm_fail(error, LLM_ERR_UNSUPPORTED, "this backend has no op \"%s\"",
                            op_names[plan->steps[i].op]);
    }
    return LLM_OK;
}

/* ---- running ---- */

static float *at(const struct plan_run *run, struct plan_view view)
{
    return run->slots[view.slot] + view.column;
}

static int32_t stride_of(const struct plan *plan, struct plan_view view)
{
    return plan->slots[view.slot].width;
}

static void run_linear(const struct plan_step *step, const struct plan_run *run, int32_t rows)
{
    const float *bias = step->bias == PLAN_NO_WEIGHT ? NULL : run->weights[step->bias].vector;
    run->stream->ops->linear(run->stream, at(run, step->out), at(run, step->in),
                             &run->weights[step->weight].matrix, bias, rows,
                             step->op == PLAN_LINEAR ? KERNEL_LINEAR_STORE : KERNEL_LINEAR_ADD);
}

static void run_attention(const struct plan *plan, const struct plan_step *step,
                          const struct plan_run *run)
{
    struct kernel_attention attention = {.scale = plan->attention_scale, .window = step->window};
    run->stream->ops->attention(run->stream, at(run, step->out), at(run, step->in),
                                stride_of(plan, step->in), run->kv, step->layer, run->sequences,
                                run->S, step->in.width / plan->head_dim, &attention);
}

static void run_step(const struct plan *plan, const struct plan_step *step,
                     const struct plan_run *run)
{
    const struct kernel_ops *ops = run->stream->ops;
    const struct plan_weight_memory *weight =
        step->weight == PLAN_NO_WEIGHT ? NULL : &run->weights[step->weight];
    int32_t rows = step->rows == PLAN_ROWS_BATCH ? run->T : run->L;

    switch (step->op) {
    case PLAN_EMBED:
        ops->embed(run->stream, at(run, step->out), run->token_ids, &weight->table, rows);
        break;
    case PLAN_EMBED_MATRIX:
        ops->embed_matrix(run->stream, at(run, step->out), run->token_ids, &weight->matrix, rows);
        break;
    case PLAN_RMSNORM:
        ops->rmsnorm(run->stream, at(run, step->out), at(run, step->in), weight->vector, rows,
                     step->out.width, plan->eps);
        break;
    case PLAN_LINEAR:
    case PLAN_LINEAR_ADD:
        run_linear(step, run, rows);
        break;
    case PLAN_RMSNORM_HEADS:
        ops->rmsnorm_heads(run->stream, at(run, step->out), stride_of(plan, step->out),
                           weight->vector, rows, step->out.width / plan->head_dim, plan->head_dim,
                           plan->eps);
        break;
    case PLAN_ROPE:
        ops->rope(run->stream, at(run, step->out), stride_of(plan, step->out), run->positions,
                  &run->rope, rows, step->out.width / plan->head_dim, plan->head_dim);
        break;
    case PLAN_KV_APPEND:
        ops->kv_append(run->stream, run->kv, step->layer, at(run, step->in), at(run, step->in2),
                       stride_of(plan, step->in), run->sequences, run->S);
        break;
    case PLAN_ATTENTION:
        run_attention(plan, step, run);
        break;
    case PLAN_SILU_MUL:
        ops->silu_mul(run->stream, at(run, step->out), at(run, step->in), rows, step->out.width);
        break;
    case PLAN_GATHER:
        ops->gather_rows(run->stream, at(run, step->out), at(run, step->in), run->logits_rows, rows,
                         step->out.width);
        break;
    case PLAN_OP_COUNT:
        CHECK(step->op < PLAN_OP_COUNT);
    }
}

void plan_run(const struct plan *plan, const struct plan_run *run)
{
    for (int32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].rows == PLAN_ROWS_BATCH || run->L > 0)
            run_step(plan, &plan->steps[i], run);
}

/* ---- printing ---- */

static void print_view(const struct plan *plan, struct plan_view view, char *text, size_t bytes)
{
    if (view.slot < 0)
        snprintf(text, bytes, "-");
    else if (view_is_whole(plan, view))
        snprintf(text, bytes, "%s", plan->slots[view.slot].name);
    else
        snprintf(text, bytes, "%s[%d..%d]", plan->slots[view.slot].name, view.column,
                 view.column + view.width - 1);
}

static void print_weight(const struct plan_weight *weight, FILE *out)
{
    fprintf(out, "[%d, %d] %s", weight->N, weight->K, weight->parts[0].tensor);
    for (int32_t i = 1; i < weight->part_count; i++)
        fprintf(out, " | %s", weight->parts[i].tensor);
}

static void print_step(const struct plan *plan, const struct plan_step *step, FILE *out)
{
    char layer[16] = "-", to[48], from[48], from2[48];
    if (step->layer != PLAN_NO_LAYER)
        snprintf(layer, sizeof layer, "%d", step->layer);
    print_view(plan, step->out, to, sizeof to);
    print_view(plan, step->in, from, sizeof from);
    print_view(plan, step->in2, from2, sizeof from2);
    fprintf(out, "%5s  %-13s %c  %-14s %s%s%s", layer, op_names[step->op],
            step->rows == PLAN_ROWS_BATCH ? 'T' : 'L', to, from, step->in2.slot < 0 ? "" : ", ",
            step->in2.slot < 0 ? "" : from2);
    if (step->weight != PLAN_NO_WEIGHT) {
        fprintf(out, "  ");
        print_weight(&plan->weights[step->weight], out);
    }
    if (step->bias != PLAN_NO_WEIGHT) {
        fprintf(out, " + ");
        print_weight(&plan->weights[step->bias], out);
    }
    if (step->window > 0)
        fprintf(out, "  window %d", step->window);
    fputc('\n', out);
}

void plan_print(const struct plan *plan, FILE *out)
{
    fprintf(out, "%s: %d calls, %d weights; rows T: the batch, L: those whose logits are wanted\n",
            plan->architecture, plan->step_count, plan->weight_count);
    for (int32_t i = 0; i < plan->slot_count; i++)
        fprintf(out, "slot   %-12s [%c, %d]\n", plan->slots[i].name,
                plan->slots[i].rows == PLAN_ROWS_BATCH ? 'T' : 'L', plan->slots[i].width);
    fprintf(out, "layer  op            rows out            in  weight [N, K]\n");
    for (int32_t i = 0; i < plan->step_count; i++)
        print_step(plan, &plan->steps[i], out);
}
