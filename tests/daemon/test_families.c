/*
 * test_families.c - daemon/model: every family and kind of rotation against transformers.
 * How: each golden file of tests/vectors/families names a configuration; its weights come from a generator that C
 * and Python share. Greedy ids must be transformers' over 64 steps up to the first step whose margin is below 1e-3,
 * logits within 2e-4 of the largest, on every backend; and alone, cut into chunks and in company the same bits.
 * That the goldens can tell is shown by edits: a key changed by a little must miss them.
 */
#include "tests/daemon/counter_weights.h"
#include "tests/daemon/family_checkpoint.h"
#include "tests/daemon/model_fixture.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN_TOLERANCE 1e-3
#define LOGIT_TOLERANCE  2e-4 /* of the largest logit */
#define TOKENS_MAX       160

static const char *const names[] = {
    "llama-default",   "llama-linear",   "llama-llama3",   "llama-yarn",   "llama-bias",
    "mistral-default", "mistral-linear", "mistral-llama3", "mistral-yarn", "qwen2-default",
    "qwen2-linear",    "qwen2-llama3",   "qwen2-yarn",     "qwen2-window", "qwen3-default",
    "qwen3-linear",    "qwen3-llama3",   "qwen3-yarn",     "qwen3-window",
};
#define CASES ((int)(sizeof names / sizeof names[0]))

static const struct fixture_backend backends[] = {
    {"reference", NULL, 1},
    {"cpu", "plain", 1},
    {"cpu", NULL, 2},
};
#define BACKENDS ((int)(sizeof backends / sizeof backends[0]))

static struct family_checkpoint checkpoint;
static struct model_fixture fixture;
static int32_t ids[TOKENS_MAX], prompt_count, id_count; /* the prompt and what follows it */

static int32_t append_ids(const char *key, int32_t count)
{
    const json_t *list = json_object_get(checkpoint.golden, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        ck_assert_int_lt(count, TOKENS_MAX);
        ids[count++] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return count;
}

static void open_case(const char *name, const char *edit, const struct fixture_backend *backend)
{
    family_checkpoint_open(&checkpoint, name, edit);
    fixture_open(&fixture, checkpoint.directory, backend, MODEL_KV_AUTO);
    prompt_count = append_ids("prompt_ids", 0);
    id_count = append_ids("greedy_ids", prompt_count);
    ck_assert_int_eq(id_count - prompt_count, 64);
}

static void close_case(void)
{
    fixture_close(&fixture);
    family_checkpoint_close(&checkpoint);
}

static const float *logits_after(const struct fixture_sequence *s, int32_t token)
{
    return s->logits + (size_t)token * fixture.facts->config.vocab_size;
}

/* ---- against transformers ---- */

static int32_t best_of(const float *logits)
{
    int32_t best = 0;
    for (int32_t v = 1; v < (int32_t)fixture.facts->config.vocab_size; v++)
        if (logits[v] > logits[best])
            best = v;
    return best;
}

/* The largest difference of a logit in a golden row, as a part of the largest logit. */
static double row_difference(const json_t *row, const float *got)
{
    const json_t *want = json_object_get(row, "values");
    double largest = 0, difference = 0;
    ck_assert_uint_eq(json_array_size(want), fixture.facts->config.vocab_size);
    for (size_t v = 0; v < json_array_size(want); v++) {
        double value = json_number_value(json_array_get(want, v));
        ck_assert(isfinite((double)got[v]));
        largest = fmax(largest, fabs(value));
        difference = fmax(difference, fabs((double)got[v] - value));
    }
    return difference / largest;
}

static double worst_difference(const struct fixture_sequence *s)
{
    size_t i;
    json_t *row;
    double worst = 0;
    json_array_foreach(json_object_get(checkpoint.golden, "logits"), i, row)
    {
        json_int_t token = json_integer_value(json_object_get(row, "after_token"));
        worst = fmax(worst, row_difference(row, logits_after(s, (int32_t)token)));
    }
    ck_assert_uint_eq(i, 3);
    return worst;
}

/* Prompt at once, then token by token, each the one that transformers took. Returns ids compared. */
static int32_t play(struct fixture_sequence *s, const char *name)
{
    const json_t *margins = json_object_get(checkpoint.golden, "margins");
    int32_t compared = 0;
    bool comparing = true;
    fixture_step(&fixture, &s, &prompt_count, 1);
    for (int32_t step = 0; step < id_count - prompt_count; step++) {
        double margin = json_number_value(json_array_get(margins, (size_t)step));
        int32_t want = ids[s->done], got = best_of(logits_after(s, s->done - 1));
        comparing = comparing && margin >= MARGIN_TOLERANCE;
        ck_assert_msg(!comparing || got == want, "%s: step %d gives %d, expected %d", name, step,
                      got, want);
        compared += comparing;
        fixture_step(&fixture, &s, (const int32_t[]){1}, 1);
    }
    return compared;
}

START_TEST(greedy_ids_and_logits_are_those_of_transformers)
{
    const char *name = names[_i / BACKENDS];
    struct fixture_sequence s;
    open_case(name, NULL, &backends[_i % BACKENDS]);
    fixture_start(&fixture, &s, ids, id_count);
    int32_t compared = play(&s, name);
    double worst = worst_difference(&s);
    printf("%-16s %-24s %d ids, logits within %.1e\n", name, fixture.stream->description, compared,
           worst);
    ck_assert_int_ge(compared, 48);
    ck_assert_msg(worst <= LOGIT_TOLERANCE, "%s: a logit differs by %g of the largest", name,
                  worst);
    fixture_end(&s);
    close_case();
}
END_TEST

/* ---- the same bits, however it is cut ---- */

static void assert_same_bits(const struct fixture_sequence *got,
                             const struct fixture_sequence *want, const char *how)
{
    size_t bytes = (size_t)want->count * fixture.facts->config.vocab_size * sizeof(float);
    ck_assert_int_eq(got->done, want->done);
    ck_assert_msg(memcmp(got->logits, want->logits, bytes) == 0, "%s: other bits", how);
}

/* Three at once, which begin at different tokens and advance by steps of their own. */
static void play_in_company(struct fixture_sequence *members)
{
    struct fixture_sequence *all[3] = {&members[0], &members[1], &members[2]};
    for (int i = 0; i < 3; i++)
        fixture_start(&fixture, all[i], ids + 11 * i, id_count - 11 * i);
    for (bool more = true; more;) {
        int32_t rows[3];
        more = false;
        for (int i = 0; i < 3; i++) {
            int32_t left = all[i]->count - all[i]->done, step = 5 + 7 * i;
            rows[i] = left < step ? left : step;
            more = more || rows[i] > 0;
        }
        if (more)
            fixture_step(&fixture, all, rows, 3);
    }
}

START_TEST(alone_chunked_and_in_company_are_the_same_bits)
{
    struct fixture_sequence whole, chunked, members[3], alone;
    open_case(names[_i / BACKENDS], NULL, &backends[_i % BACKENDS]);
    fixture_start(&fixture, &whole, ids, id_count);
    fixture_run_alone(&fixture, &whole, id_count);
    for (int32_t chunk = 1; chunk < 30; chunk += 22) {
        fixture_start(&fixture, &chunked, ids, id_count);
        fixture_run_alone(&fixture, &chunked, chunk);
        assert_same_bits(&chunked, &whole, "chunked");
        fixture_end(&chunked);
    }
    play_in_company(members);
    assert_same_bits(&members[0], &whole, "in company");
    for (int i = 1; i < 3; i++) {
        fixture_start(&fixture, &alone, members[i].ids, members[i].count);
        fixture_run_alone(&fixture, &alone, 17);
        assert_same_bits(&members[i], &alone, "in company");
        fixture_end(&alone);
    }
    for (int i = 0; i < 3; i++)
        fixture_end(&members[i]);
    fixture_end(&whole);
    close_case();
}
END_TEST

/* ---- the goldens can tell ---- */

static const struct {
    const char *name, *edit;
} edits[] = {
    {"llama-default", "{\"rope_theta\": 10500.0}"},
    {"llama-default", "{\"rms_norm_eps\": 1e-3}"},
    {"llama-linear", "{\"rope_scaling\": {\"factor\": 4.1}}"},
    {"llama-llama3", "{\"rope_scaling\": {\"factor\": 8.5}}"},
    {"llama-llama3", "{\"rope_scaling\": {\"high_freq_factor\": 3.5}}"},
    {"llama-llama3", "{\"rope_scaling\": {\"low_freq_factor\": 1.2}}"},
    {"llama-llama3", "{\"rope_scaling\": {\"original_max_position_embeddings\": 66}}"},
    {"llama-yarn", "{\"rope_parameters\": {\"mscale\": 0.72}}"},
    {"llama-yarn", "{\"rope_parameters\": {\"truncate\": false}}"},
    {"mistral-default", "{\"sliding_window\": 25}"},
    {"mistral-llama3", "{\"sliding_window\": 69}"},
    {"mistral-yarn", "{\"rope_scaling\": {\"truncate\": true}}"},
    {"mistral-yarn", "{\"rope_scaling\": {\"beta_fast\": 3.8}}"},
    {"mistral-yarn", "{\"rope_scaling\": {\"beta_slow\": 0.45}}"},
    {"mistral-yarn", "{\"rope_scaling\": {\"attention_factor\": 1.1}}"},
    {"qwen2-default", "{\"use_sliding_window\": true, \"max_window_layers\": 2}"},
    {"qwen2-yarn", "{\"rope_scaling\": {\"attention_factor\": 1.0}}"},
    {"qwen2-window", "{\"max_window_layers\": 2}"},
    {"qwen2-window", "{\"use_sliding_window\": false}"},
    {"qwen3-yarn", "{\"rope_parameters\": {\"attention_factor\": 1.28}}"},
    {"qwen3-window", "{\"sliding_window\": 34}"},
    {"qwen3-window", "{\"layer_types\": [\"full_attention\", \"sliding_attention\","
                     " \"sliding_attention\"]}"},
    {"qwen3-window", "{\"attention_bias\": false}"},
    {"qwen3-default", "{\"architectures\": [\"MistralForCausalLM\"]}"},
};

START_TEST(a_key_changed_by_a_little_misses_the_goldens)
{
    struct fixture_sequence s;
    open_case(edits[_i].name, edits[_i].edit, &backends[BACKENDS - 1]);
    fixture_start(&fixture, &s, ids, id_count);
    fixture_run_alone(&fixture, &s, id_count);
    double worst = worst_difference(&s);
    ck_assert_msg(worst > 5 * LOGIT_TOLERANCE, "%s with %s is within %g", edits[_i].name,
                  edits[_i].edit, worst);
    fixture_end(&s);
    close_case();
}
END_TEST

/* ---- the generator ---- */

/* The prompts of the goldens were drawn from the same generator, in Python. */
START_TEST(the_generator_is_the_one_of_the_goldens)
{
    char name[64];
    open_case(names[_i], NULL, &backends[0]);
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(checkpoint.golden, "seed"));
    snprintf(name, sizeof name, "prompt of %s", names[_i]);
    for (int32_t i = 0; i < prompt_count; i++)
        ck_assert_int_eq(ids[i],
                         3 + (int32_t)((counter_uniform(name, seed, (uint64_t)i) + 1) / 2 * 93));
    close_case();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/families");
    TCase *tc = tcase_create("families");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, greedy_ids_and_logits_are_those_of_transformers, 0, CASES * BACKENDS);
    tcase_add_loop_test(tc, alone_chunked_and_in_company_are_the_same_bits, 0, CASES * BACKENDS);
    tcase_add_loop_test(tc, a_key_changed_by_a_little_misses_the_goldens, 0,
                        (int)(sizeof edits / sizeof edits[0]));
    tcase_add_loop_test(tc, the_generator_is_the_one_of_the_goldens, 0, CASES);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
