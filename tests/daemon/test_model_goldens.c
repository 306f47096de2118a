/*
 * test_model_goldens.c - daemon/model: models of the test data against what f64 arithmetic makes of them.
 * How: stories260K (260 thousand parameters, trained on TinyStories by Andrej Karpathy, MIT licence) and random
 * checkpoints of other architectures in bf16, with golden tokens, margins, log-probabilities, logits and negative
 * log-likelihoods; needs LLM_TESTDATA. Generated ids must be the golden ones up to the first step where the two
 * best logits are closer than the tolerance. Some come in several forms: a directory and a GGUF file of the same
 * f32 weights must agree to the bit, and a GGUF file in q8_0 has goldens of its own.
 */
#include "tests/daemon/model_fixture.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXT_TOKENS 512

static const struct fixture_backend backends[] = {
    {"reference", NULL, 1},
    {"cpu", "plain", 1},
    {"cpu", NULL, 2},
};
#define BACKENDS ((int)(sizeof backends / sizeof backends[0]))

/* What a run may differ by: of the margin between the two best logits, and of a logit or a token's negative
 * log-likelihood, absolutely and relative to the largest logit; of a log-probability among the best. */
struct tolerance {
    double margin, logit, logit_of_largest, logprob;
};

/* What stories260K comes as. */
static const struct form {
    const char *path, *goldens;
    enum model_kv_type kv_type;
    struct tolerance tolerance;
    double nll;           /* of the mean, relative */
    int32_t compared_min; /* golden ids: margins are rarely small */
} forms[] = {
    {"hf-f32", "golden-f32.json", MODEL_KV_AUTO, {1e-3, 1e-3, 0, 5e-4}, 0.002, 12 * 100},
    {"stories260K-q8_0.gguf", "golden-q8_0.json", MODEL_KV_AUTO, {0.1, 0.3, 0, 0.3}, 0.02, 250},
    /* what the weights alone lose on their way into f16 */
    {"stories260K-q8_0.gguf", "golden-q8_0.json", MODEL_KV_F32, {0.02, 0.02, 0, 0.02}, 0.005, 350},
};
#define FORMS ((int)(sizeof forms / sizeof forms[0]))

static const char *data; /* the test data's folder */
static const struct form *form;
static struct model_fixture fixture;
static json_t *goldens;

/* In the models' folder of the test data; good until the next call. */
static const char *path_of(const char *folder, const char *file)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/models/%s/%s", data, folder, file);
    return path;
}

/* Every form with every backend. */
static void open_stories(int i)
{
    form = &forms[i / BACKENDS];
    fixture_open(&fixture, path_of("stories260K", form->path), &backends[i % BACKENDS],
                 form->kv_type);
    goldens = json_load_file(path_of("stories260K", form->goldens), 0, NULL);
    ck_assert_ptr_nonnull(goldens);
}

static void close_stories(void)
{
    json_decref(goldens);
    fixture_close(&fixture);
}

static int32_t ids_from(const json_t *list, int32_t *out)
{
    int32_t count = (int32_t)json_array_size(list);
    ck_assert_int_le(count, CONTEXT_TOKENS);
    for (int32_t i = 0; i < count; i++)
        out[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    return count;
}

static int32_t best_of(const float *logits)
{
    int32_t best = 0;
    for (int32_t v = 1; v < (int32_t)fixture.facts->config.vocab_size; v++)
        if (logits[v] > logits[best])
            best = v;
    return best;
}

static double log_probability(const float *logits, int32_t id)
{
    double sum = 0, best = (double)logits[best_of(logits)];
    for (uint32_t v = 0; v < fixture.facts->config.vocab_size; v++)
        sum += exp((double)logits[v] - best);
    return (double)logits[id] - best - log(sum);
}

static const float *logits_after(const struct fixture_sequence *s, int32_t token)
{
    return s->logits + (size_t)token * fixture.facts->config.vocab_size;
}

/* ---- one golden generation ---- */

static void assert_top_logprobs(const json_t *row, int32_t step, const float *logits,
                                const struct tolerance *tolerance)
{
    const json_t *top = json_array_get(json_object_get(row, "top_logprobs"), (size_t)step);
    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *pair = json_array_get(top, i);
        int32_t id = (int32_t)json_integer_value(json_array_get(pair, 0));
        double want = json_number_value(json_array_get(pair, 1));
        double got = log_probability(logits, id);
        ck_assert_msg(fabs(got - want) < tolerance->logprob,
                      "step %d: log-probability of token %d is %.6f, expected %.6f", step, id, got,
                      want);
    }
}

static double allowed(const struct tolerance *tolerance, const float *logits)
{
    double largest = 0;
    for (uint32_t v = 0; v < fixture.facts->config.vocab_size; v++)
        largest = fmax(largest, fabs((double)logits[v]));
    return tolerance->logit + tolerance->logit_of_largest * largest;
}

static void assert_logits_after_prompt(const json_t *row, const float *logits,
                                       const struct tolerance *tolerance)
{
    const json_t *want = json_object_get(row, "logits_after_prompt");
    for (size_t v = 0; v < json_array_size(want); v++) {
        double value = json_number_value(json_array_get(want, v));
        ck_assert_msg(fabs((double)logits[v] - value) < allowed(tolerance, logits),
                      "logit %zu is %.6f, expected %.6f", v, (double)logits[v], value);
    }
}

static void assert_prompt_nll(const json_t *row, const struct fixture_sequence *s,
                              const struct tolerance *tolerance)
{
    const json_t *want = json_object_get(row, "prompt_nll");
    for (int32_t i = 0; i < (int32_t)json_array_size(want); i++) {
        const float *logits = logits_after(s, i);
        double got = -log_probability(logits, s->ids[i + 1]);
        double value = json_number_value(json_array_get(want, (size_t)i));
        ck_assert_msg(fabs(got - value) < 2 * allowed(tolerance, logits),
                      "token %d of the prompt has %.6f, expected %.6f", i + 1, got, value);
    }
}

/* Prompt at once, then token by token; returns how many golden ids were compared. */
static int32_t play(const json_t *row, const struct tolerance *tolerance)
{
    int32_t ids[CONTEXT_TOKENS], golden[CONTEXT_TOKENS], step;
    int32_t prompt = ids_from(json_object_get(row, "prompt_ids"), ids);
    int32_t count = ids_from(json_object_get(row, "greedy_ids"), golden);
    const json_t *margins = json_object_get(row, "margins");
    struct fixture_sequence s;
    fixture.taken_blocks = 0; /* sequences follow each other: all blocks are free again */
    fixture_start(&fixture, &s, ids, prompt + count);
    struct fixture_sequence *one = &s;
    fixture_step(&fixture, &one, &prompt, 1);
    assert_logits_after_prompt(row, logits_after(&s, prompt - 1), tolerance);
    assert_prompt_nll(row, &s, tolerance);
    for (step = 0; step < count; step++) {
        const float *logits = logits_after(&s, s.done - 1);
        if (json_number_value(json_array_get(margins, (size_t)step)) < tolerance->margin)
            break;
        ck_assert_msg(best_of(logits) == golden[step],
                      "after a prompt of %d tokens step %d gives %d, expected %d", prompt, step,
                      best_of(logits), golden[step]);
        assert_top_logprobs(row, step, logits, tolerance);
        ids[s.done] = golden[step];
        fixture_step(&fixture, &one, (const int32_t[]){1}, 1);
    }
    fixture_end(&s);
    return step;
}

START_TEST(greedy_generations_are_the_golden_ones)
{
    int32_t compared = 0;
    size_t i;
    const json_t *row;
    open_stories(_i);
    json_array_foreach(json_object_get(goldens, "greedy"), i, row) compared +=
        play(row, &form->tolerance);
    printf("%s on %s: %zu prompts, %d ids compared\n", form->path, fixture.stream->description, i,
           compared);
    ck_assert_int_ge(compared, form->compared_min);
    close_stories();
}
END_TEST

START_TEST(likelihood_of_text_is_the_golden_one)
{
    size_t i;
    const json_t *row;
    open_stories(_i);
    json_array_foreach(json_object_get(goldens, "nll"), i, row)
    {
        int32_t ids[CONTEXT_TOKENS];
        int32_t count = ids_from(json_object_get(row, "ids"), ids);
        struct fixture_sequence s;
        fixture_start(&fixture, &s, ids, count);
        fixture_run_alone(&fixture, &s, count);
        double sum = 0;
        for (int32_t t = 1; t < count; t++)
            sum -= log_probability(logits_after(&s, t - 1), ids[t]);
        double got = sum / (count - 1), want = json_number_value(json_object_get(row, "mean_nll"));
        ck_assert_msg(fabs(got - want) <= form->nll * want, "text %zu: %.6f, expected %.6f", i, got,
                      want);
        fixture_end(&s);
    }
    close_stories();
}
END_TEST

/* All twelve at once, each prompt cut into chunks of its own size, against alone: the same bits. */
START_TEST(twelve_stories_at_once_are_the_bits_of_each_alone)
{
    static int32_t ids[12][CONTEXT_TOKENS];
    struct fixture_sequence alone[12], together[12], *members[12];
    const json_t *rows;
    open_stories(_i);
    rows = json_object_get(goldens, "greedy");
    ck_assert_uint_eq(json_array_size(rows), 12);
    for (size_t i = 0; i < 12; i++) {
        const json_t *row = json_array_get(rows, i);
        int32_t count = ids_from(json_object_get(row, "prompt_ids"), ids[i]);
        count += ids_from(json_object_get(row, "greedy_ids"), ids[i] + count);
        count = count < 90 ? count : 90;
        fixture_start(&fixture, &alone[i], ids[i], count);
        fixture_run_alone(&fixture, &alone[i], count);
        fixture_start(&fixture, &together[i], ids[i], count);
        members[i] = &together[i];
    }
    for (int round = 0; round < 90; round++) {
        int32_t step[12], sum = 0;
        for (int i = 0; i < 12; i++) {
            int32_t left = together[i].count - together[i].done;
            step[i] = left < i + 1 ? left : i + 1;
            sum += step[i];
        }
        if (sum > 0)
            fixture_step(&fixture, members, step, 12);
    }
    for (int i = 0; i < 12; i++) {
        size_t bytes = (size_t)alone[i].count * fixture.facts->config.vocab_size * sizeof(float);
        ck_assert_int_eq(together[i].done, together[i].count);
        ck_assert_msg(memcmp(together[i].logits, alone[i].logits, bytes) == 0,
                      "story %d differs in company", i);
        fixture_end(&alone[i]);
        fixture_end(&together[i]);
    }
    close_stories();
}
END_TEST

/* ---- one model in two formats ---- */

/* The first `count` ids after each other; the same logits from both, to the bit. */
static void assert_same_logits(struct model_fixture *a, struct model_fixture *b, const int32_t *ids,
                               int32_t count)
{
    struct fixture_sequence one, other;
    fixture_start(a, &one, ids, count);
    fixture_run_alone(a, &one, count);
    fixture_start(b, &other, ids, count);
    fixture_run_alone(b, &other, count);
    size_t bytes = (size_t)count * a->facts->config.vocab_size * sizeof(float);
    ck_assert(memcmp(one.logits, other.logits, bytes) == 0);
    fixture_end(&one);
    fixture_end(&other);
}

/* The directory and the GGUF file hold the same numbers, rows of Q and K in another order. */
START_TEST(directory_and_gguf_of_the_same_weights_are_the_same_model)
{
    int32_t ids[CONTEXT_TOKENS];
    struct model_fixture from_gguf;
    open_stories(_i);
    fixture_open(&from_gguf, path_of("stories260K", "stories260K-f32.gguf"), &backends[_i],
                 MODEL_KV_AUTO);
    const struct model_facts *one = fixture.facts, *other = from_gguf.facts;
    ck_assert_mem_eq(one->fingerprint, other->fingerprint, sizeof one->fingerprint);
    ck_assert_int_eq(one->config.bos_token_id, other->config.bos_token_id);
    ck_assert_uint_eq(one->config.context_max_tokens, other->config.context_max_tokens);
    ck_assert_int_eq(other->kv.dtype, one->kv.dtype);
    const json_t *text = json_array_get(json_object_get(goldens, "nll"), 0);
    int32_t count = ids_from(json_object_get(text, "ids"), ids);
    assert_same_logits(&fixture, &from_gguf, ids, count);
    fixture_close(&from_gguf);
    close_stories();
}
END_TEST

/* ---- other architectures ---- */

/* Directories have weights in bf16, so keys and values are too unless configured: then only the 16 bits of these differ
 * from the goldens, and of those 8 are significant. GGUF files have the same values as f32. */
static const struct {
    const char *folder, *file;
    enum model_kv_type kv_type;
    struct tolerance tolerance;
} checkpoints[] = {
    {"arch/qwen2", "hf", MODEL_KV_F32, {1e-3, 0, 2e-4, 0}},
    {"arch/qwen2", "hf", MODEL_KV_AUTO, {0.05, 0, 2e-2, 0}},
    {"arch/qwen2", "qwen2-f32.gguf", MODEL_KV_AUTO, {1e-3, 0, 2e-4, 0}},
    {"arch/qwen3", "hf", MODEL_KV_F32, {1e-3, 0, 2e-4, 0}},
    {"arch/qwen3", "hf", MODEL_KV_AUTO, {0.05, 0, 2e-2, 0}},
    {"arch/qwen3", "qwen3-f32.gguf", MODEL_KV_AUTO, {1e-3, 0, 2e-4, 0}},
};
#define CHECKPOINTS ((int)(sizeof checkpoints / sizeof checkpoints[0]))

START_TEST(random_checkpoints_of_other_architectures_give_the_golden_ids)
{
    int which = _i / BACKENDS;
    int32_t compared = 0;
    size_t i;
    const json_t *row;
    const char *folder = checkpoints[which].folder, *file = checkpoints[which].file;
    fixture_open(&fixture, path_of(folder, file), &backends[_i % BACKENDS],
                 checkpoints[which].kv_type);
    goldens = json_load_file(path_of(folder, "golden.json"), 0, NULL);
    ck_assert_ptr_nonnull(goldens);
    json_array_foreach(json_object_get(goldens, "greedy"), i, row) compared +=
        play(row, &checkpoints[which].tolerance);
    printf("%s/%s on %s: %zu prompts, %d ids compared\n", folder, file, fixture.stream->description,
           i, compared);
    ck_assert_int_ge(compared, 4 * 24 / 2);
    close_stories();
}
END_TEST

int main(void)
{
    data = getenv("LLM_TESTDATA");
    if (data == NULL) {
        printf("skipped: LLM_TESTDATA does not name the test data\n");
        return 77;
    }
    Suite *suite = suite_create("daemon/model_goldens");
    TCase *tc = tcase_create("stories260K");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, greedy_generations_are_the_golden_ones, 0, FORMS * BACKENDS);
    tcase_add_loop_test(tc, likelihood_of_text_is_the_golden_one, 0, FORMS * BACKENDS);
    tcase_add_loop_test(tc, twelve_stories_at_once_are_the_bits_of_each_alone, 0, BACKENDS);
    tcase_add_loop_test(tc, directory_and_gguf_of_the_same_weights_are_the_same_model, 0, BACKENDS);
    suite_add_tcase(suite, tc);
    tc = tcase_create("architectures");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, random_checkpoints_of_other_architectures_give_the_golden_ids, 0,
                        CHECKPOINTS * BACKENDS);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
