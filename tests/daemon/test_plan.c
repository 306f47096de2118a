/*
 * test_plan.c - daemon/model/plan: what the passes may merge and what they must leave alone.
 * How: small plans are written by hand; whether merged plans still compute the same is test_model.c's question.
 */
#include "daemon/model/family.h"
#include "daemon/model/plan.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static struct plan plan;
static int32_t x, y, wide; /* slots of width 8, 8 and 24 */

static void setup(void)
{
    struct llm_error error;
    ck_assert_int_eq(plan_open(&plan, 16, 16, &error), LLM_OK);
    plan.architecture = "test";
    plan.head_dim = 4;
    plan_add_slot(&plan, "logits", 8, PLAN_ROWS_WANTED);
    x = plan_add_slot(&plan, "x", 8, PLAN_ROWS_BATCH);
    y = plan_add_slot(&plan, "y", 8, PLAN_ROWS_BATCH);
    wide = plan_add_slot(&plan, "wide", 24, PLAN_ROWS_BATCH);
}

static void teardown(void)
{
    plan_close(&plan);
}

static void add_linear(int32_t out, int32_t column, int32_t in, const char *name)
{
    struct plan_step *step = plan_add_step(&plan, PLAN_LINEAR, PLAN_ROWS_BATCH, 0);
    step->out = plan_columns(out, column, 8);
    step->in = plan_whole(&plan, in);
    step->weight = plan_add_weight(&plan, PLAN_WEIGHT_MATRIX, 8, 8, "%s", name);
}

START_TEST(neighbours_over_one_input_become_one_matrix)
{
    add_linear(wide, 0, x, "a");
    add_linear(wide, 8, x, "b");
    add_linear(wide, 16, x, "c");
    add_linear(y, 0, x, "d");
    plan_merge_linears(&plan);
    ck_assert_int_eq(plan.step_count, 2);
    ck_assert_int_eq(plan.weight_count, 2);
    const struct plan_weight *merged = &plan.weights[plan.steps[0].weight];
    ck_assert_int_eq(merged->N, 24);
    ck_assert_int_eq(merged->K, 8);
    ck_assert_int_eq(merged->part_count, 3);
    ck_assert_str_eq(merged->parts[2].tensor, "c");
    ck_assert_int_eq(plan.steps[0].out.width, 24);
    ck_assert_str_eq(plan.weights[plan.steps[1].weight].parts[0].tensor, "d");
}
END_TEST

/* Another input, a gap between the outputs, the wrong order, a sum onto the output: each stays as it is. */
START_TEST(what_does_not_belong_together_stays_apart)
{
    add_linear(wide, 0, x, "a");
    add_linear(wide, 8, y, "other input");
    add_linear(wide, 0, y, "wrong order");
    add_linear(wide, 16, y, "gap");
    add_linear(y, 0, x, "b");
    plan.steps[4].op = PLAN_LINEAR_ADD;
    plan_merge_linears(&plan);
    ck_assert_int_eq(plan.step_count, 5);
    ck_assert_int_eq(plan.weight_count, 5);
    for (int32_t i = 0; i < 5; i++)
        ck_assert_int_eq(plan.steps[i].weight, i);
}
END_TEST

static void add_bias(const char *name)
{
    struct plan_step *step = &plan.steps[plan.step_count - 1];
    step->bias = plan_add_weight(&plan, PLAN_WEIGHT_VECTOR, 8, 1, "%s", name);
}

START_TEST(biases_are_merged_like_their_matrices)
{
    add_linear(wide, 0, x, "a");
    add_bias("a bias");
    add_linear(wide, 8, x, "b");
    add_bias("b bias");
    add_linear(wide, 16, x, "c");
    add_bias("c bias");
    add_linear(y, 0, x, "d");
    add_bias("d bias");
    plan_merge_linears(&plan);
    ck_assert_int_eq(plan.step_count, 2);
    ck_assert_int_eq(plan.weight_count, 4);
    const struct plan_weight *bias = &plan.weights[plan.steps[0].bias];
    ck_assert_int_eq(bias->N, 24);
    ck_assert_int_eq(bias->K, 1);
    ck_assert_int_eq(bias->part_count, 3);
    ck_assert_str_eq(bias->parts[1].tensor, "b bias");
    ck_assert_str_eq(plan.weights[plan.steps[1].weight].parts[0].tensor, "d");
    ck_assert_str_eq(plan.weights[plan.steps[1].bias].parts[0].tensor, "d bias");
}
END_TEST

START_TEST(a_matrix_without_bias_stays_apart_from_one_with_a_bias)
{
    add_linear(wide, 0, x, "a");
    add_linear(wide, 8, x, "b");
    add_bias("b bias");
    add_linear(wide, 16, x, "c");
    plan_merge_linears(&plan);
    ck_assert_int_eq(plan.step_count, 3);
    ck_assert_int_eq(plan.steps[0].bias, PLAN_NO_WEIGHT);
    ck_assert_str_eq(plan.weights[plan.steps[1].bias].parts[0].tensor, "b bias");
    ck_assert_int_eq(plan.steps[2].bias, PLAN_NO_WEIGHT);
}
END_TEST

/* A whole layer of each family, as its file writes it and the passes leave it. */
static const struct {
    enum model_architecture architecture;
    const char *ops[16]; /* of the second of three layers */
} layers[] = {
    {MODEL_ARCHITECTURE_LLAMA,
     {"rmsnorm", "linear", "rope", "kv_append", "attention", "linear_add", "rmsnorm", "linear",
      "silu_mul", "linear_add"}},
    {MODEL_ARCHITECTURE_MISTRAL,
     {"rmsnorm", "linear", "rope", "kv_append", "attention", "linear_add", "rmsnorm", "linear",
      "silu_mul", "linear_add"}},
    {MODEL_ARCHITECTURE_QWEN2,
     {"rmsnorm", "linear", "rope", "kv_append", "attention", "linear_add", "rmsnorm", "linear",
      "silu_mul", "linear_add"}},
    {MODEL_ARCHITECTURE_QWEN3,
     {"rmsnorm", "linear", "rmsnorm_heads", "rmsnorm_heads", "rope", "kv_append", "attention",
      "linear_add", "rmsnorm", "linear", "silu_mul", "linear_add"}},
};

START_TEST(a_layer_is_the_familys_list_of_calls)
{
    const struct model_config config = {.architecture = layers[_i].architecture,
                                        .hidden_size = 8,
                                        .intermediate_size = 8,
                                        .layer_count = 3,
                                        .head_count = 2,
                                        .kv_head_count = 1,
                                        .head_dim = 4,
                                        .vocab_size = 8,
                                        .sliding_window = 5,
                                        .full_attention_layers = 2,
                                        .qkv_bias = true};
    struct plan written;
    struct llm_error error;
    char line[256], op[32];
    ck_assert_int_eq(model_family_plan(&written, &config, &error), LLM_OK);
    FILE *text = tmpfile();
    plan_print(&written, text);
    rewind(text);
    int seen = 0, windows = 0;
    while (fgets(line, sizeof line, text) != NULL) {
        windows += strstr(line, "  window 5") != NULL;
        if (sscanf(line, " 1 %31s", op) == 1)
            ck_assert_str_eq(op, layers[_i].ops[seen++]);
    }
    ck_assert_ptr_null(layers[_i].ops[seen]);
    ck_assert_int_eq(windows, layers[_i].architecture != MODEL_ARCHITECTURE_LLAMA); /* layer 2 */
    fclose(text);
    plan_close(&written);
}
END_TEST

START_TEST(a_matrix_has_at_most_four_tensors)
{
    int32_t widest = plan_add_slot(&plan, "widest", 48, PLAN_ROWS_BATCH);
    for (int i = 0; i < 6; i++)
        add_linear(widest, 8 * i, x, "part");
    plan_merge_linears(&plan);
    ck_assert_int_eq(plan.step_count, 2);
    ck_assert_int_eq(plan.weights[0].part_count, 4);
    ck_assert_int_eq(plan.weights[1].part_count, 2);
}
END_TEST

START_TEST(rotations_of_neighbouring_heads_become_one)
{
    plan_add_step(&plan, PLAN_ROPE, PLAN_ROWS_BATCH, 0)->out = plan_columns(wide, 0, 8);
    plan_add_step(&plan, PLAN_ROPE, PLAN_ROWS_BATCH, 0)->out = plan_columns(wide, 8, 4);
    plan_add_step(&plan, PLAN_ROPE, PLAN_ROWS_BATCH, 0)->out = plan_columns(wide, 16, 4);
    plan_merge_ropes(&plan);
    ck_assert_int_eq(plan.step_count, 2);
    ck_assert_int_eq(plan.steps[0].out.width, 12);
    ck_assert_int_eq(plan.steps[1].out.column, 16);
}
END_TEST

START_TEST(a_backend_without_an_op_is_refused_with_its_name)
{
    struct kernel_stream *stream;
    struct llm_error error;
    ck_assert_int_eq(kernel_stream_open("reference", NULL, &stream, &error), LLM_OK);
    struct kernel_ops ops = *stream->ops;
    add_linear(y, 0, x, "a");
    ck_assert_int_eq(plan_check(&plan, &ops, &error), LLM_OK);
    ops.linear = NULL;
    ck_assert_int_eq(plan_check(&plan, &ops, &error), LLM_ERR_UNSUPPORTED);
    ck_assert_str_eq(error.message, "this backend has no op \"linear\"");
    kernel_stream_close(stream);
}
END_TEST

START_TEST(a_matrix_that_fills_part_of_a_row_stops_us)
{
    struct llm_error error;
    struct kernel_ops none = {0};
    add_linear(wide, 0, x, "a");
    (void)!plan_check(&plan, &none, &error);
}
END_TEST

START_TEST(a_head_wider_than_the_kernels_is_refused)
{
    const struct model_config config = {.hidden_size = 8,
                                        .intermediate_size = 8,
                                        .layer_count = 1,
                                        .head_count = 1,
                                        .kv_head_count = 1,
                                        .head_dim = 2 * KERNEL_HEAD_DIM_MAX,
                                        .vocab_size = 8,
                                        .context_max_tokens = 8};
    struct plan llama;
    struct llm_error error;
    ck_assert_int_eq(model_family_plan(&llama, &config, &error), LLM_ERR_UNSUPPORTED);
    ck_assert_str_eq(error.message, "a head has 512 dimensions; the kernels take at most 256");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/plan");
    TCase *tc = tcase_create("plan");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, neighbours_over_one_input_become_one_matrix);
    tcase_add_test(tc, what_does_not_belong_together_stays_apart);
    tcase_add_test(tc, biases_are_merged_like_their_matrices);
    tcase_add_test(tc, a_matrix_without_bias_stays_apart_from_one_with_a_bias);
    tcase_add_loop_test(tc, a_layer_is_the_familys_list_of_calls, 0, 4);
    tcase_add_test(tc, a_matrix_has_at_most_four_tensors);
    tcase_add_test(tc, rotations_of_neighbouring_heads_become_one);
    tcase_add_test(tc, a_backend_without_an_op_is_refused_with_its_name);
    tcase_add_test_raise_signal(tc, a_matrix_that_fills_part_of_a_row_stops_us, SIGABRT);
    tcase_add_test(tc, a_head_wider_than_the_kernels_is_refused);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
