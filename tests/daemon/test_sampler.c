/*
 * test_sampler.c - daemon/sample: parameters, filters, draws, log-probabilities.
 * How: beside the sampler stands an obvious one, which sorts, sums in f64 and has its own Philox; over random
 * rows and parameters both must choose the same token. Then the draws of many positions are held against
 * the exact distribution (chi-square; seeds are fixed, so the outcome is too).
 */
#include "daemon/sample/sampler.h"

#include "tests/daemon/tiny_model.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VOCAB_MAX 1000

static struct sampler sampler;
static float logits[VOCAB_MAX];
static uint64_t seed;

static void open_sampler(uint32_t vocab_size)
{
    struct llm_error error;
    ck_assert_int_eq(sampler_open(&sampler, vocab_size, &error), LLM_OK);
}

static void teardown(void)
{
    sampler_close(&sampler);
}

static struct sampler_choice choose(const struct sampling *sampling, uint32_t position)
{
    struct sampler_choice choice;
    struct llm_error error = {0};
    enum llm_status status = sampler_choose(&sampler, logits, sampling, position, &choice, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    return choice;
}

/* ---- the obvious sampler ---- */

/* Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3. */
static uint32_t philox_first_word(const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k[2] = {key[0], key[1]};
    for (int round = 0; round < 10; round++) {
        uint64_t a = UINT64_C(0xd2511f53) * c[0], b = UINT64_C(0xcd9e8d57) * c[2];
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b,
                            (uint32_t)(a >> 32) ^ c[3] ^ k[1], (uint32_t)a};
        memcpy(c, next, sizeof c);
        k[0] += 0x9e3779b9;
        k[1] += 0xbb67ae85;
    }
    return c[0];
}

struct token {
    double z;
    int32_t id;
};

static int by_likelihood(const void *a, const void *b)
{
    const struct token *x = a, *y = b;
    if (x->z != y->z)
        return x->z > y->z ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* Survivors, most likely first; returns how many. Equal logits stay or go together. */
static int obvious_survivors(uint32_t vocab_size, const struct sampling *s, struct token *out)
{
    int count = 0;
    float largest = -INFINITY;
    for (uint32_t v = 0; v < vocab_size; v++)
        largest = isfinite(logits[v]) && logits[v] > largest ? logits[v] : largest;
    for (uint32_t v = 0; v < vocab_size; v++)
        if (isfinite(logits[v]))
            out[count++] =
                (struct token){(double)((logits[v] - largest) / s->temperature), (int32_t)v};
    qsort(out, (size_t)count, sizeof *out, by_likelihood);
    while (s->top_k > 0 && count > s->top_k && out[count - 1].z < out[s->top_k - 1].z)
        count--;

    double total = 0, before = 0;
    for (int i = 0; i < count; i++)
        total += exp(out[i].z);
    for (int i = 0; i < count; i++) {
        if (i > 0 && out[i].z < out[i - 1].z && before >= (double)s->top_p * total) {
            count = i;
            break;
        }
        before += exp(out[i].z);
    }
    while (exp(out[count - 1].z) < (double)s->min_p)
        count--;
    return count;
}

static int32_t obvious_choice(uint32_t vocab_size, const struct sampling *s, uint32_t position)
{
    static struct token tokens[VOCAB_MAX];
    int32_t best = -1;
    double best_score = 0;
    if (s->temperature <= 0) {
        for (uint32_t v = 0; v < vocab_size; v++)
            if (isfinite(logits[v]) && (best < 0 || logits[v] > logits[best]))
                best = (int32_t)v;
        return best;
    }
    int count = obvious_survivors(vocab_size, s, tokens);
    for (int i = 0; i < count; i++) {
        const uint32_t counter[4] = {(uint32_t)tokens[i].id, position, s->branch, 0};
        const uint32_t key[2] = {(uint32_t)s->seed, (uint32_t)(s->seed >> 32)};
        double u = (philox_first_word(counter, key) + 0.5) / 4294967296.0;
        double score = tokens[i].z - log(-log(u));
        if (best < 0 || score > best_score || (score >= best_score && tokens[i].id < best)) {
            best = tokens[i].id;
            best_score = score;
        }
    }
    return best;
}

/* ---- random rows and parameters ---- */

static double uniform(uint64_t *state)
{
    return (double)(tiny_random(state) >> 11) * 0x1p-53;
}

/* Smooth rows, rows with many ties, rows with one clear winner, rows with holes. */
static void random_logits(uint32_t vocab_size, uint64_t *state)
{
    uint64_t kind = tiny_random(state) % 4;
    for (uint32_t v = 0; v < vocab_size; v++) {
        double x = 8 * (uniform(state) + uniform(state) - 1);
        if (kind == 1)
            x = floor(x);
        if (kind == 2 && v == vocab_size / 3)
            x = 40;
        logits[v] = (float)x;
        if (kind == 3 && tiny_random(state) % 3 == 0)
            logits[v] = v % 2 == 0 ? NAN : -INFINITY;
    }
    logits[tiny_random(state) % vocab_size] = 3.0f; /* never a row without a number */
}

static struct sampling random_sampling(uint64_t *state)
{
    static const float temperatures[] = {0.0f, 0.2f, 0.7f, 1.0f, 1.0f, 3.0f};
    struct sampling s = sampling_default();
    s.temperature = temperatures[tiny_random(state) % 6];
    s.top_k = tiny_random(state) % 2 == 0 ? 0 : (int32_t)(tiny_random(state) % 60);
    s.top_p = tiny_random(state) % 2 == 0 ? 1.0f : (float)(0.01 + 0.98 * uniform(state));
    s.min_p = tiny_random(state) % 2 == 0 ? 0.0f : (float)uniform(state);
    s.seed = tiny_random(state);
    s.branch = (uint32_t)(tiny_random(state) % 3);
    return s;
}

START_TEST(every_choice_is_the_obvious_one)
{
    static const uint32_t sizes[] = {1, 2, 17, 512, 1000};
    uint64_t state = seed + (uint64_t)_i;
    open_sampler(sizes[_i]);
    for (int round = 0; round < 2000; round++) {
        random_logits(sizes[_i], &state);
        struct sampling s = random_sampling(&state);
        uint32_t position = (uint32_t)tiny_random(&state);
        int32_t got = choose(&s, position).token_id;
        int32_t want = obvious_choice(sizes[_i], &s, position);
        ck_assert_msg(got == want,
                      "seed %llu, vocabulary %u, round %d: token %d, the obvious sampler takes %d "
                      "(temperature %g, top_k %d, top_p %g, min_p %g)",
                      (unsigned long long)seed, sizes[_i], round, got, want, (double)s.temperature,
                      s.top_k, (double)s.top_p, (double)s.min_p);
    }
}
END_TEST

START_TEST(philox_gives_the_published_words)
{
    /* Random123's known answers for philox4x32-10 */
    ck_assert_uint_eq(philox_first_word((const uint32_t[]){0, 0, 0, 0}, (const uint32_t[]){0, 0}),
                      0x6627e8d5);
    ck_assert_uint_eq(
        philox_first_word((const uint32_t[]){UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
                          (const uint32_t[]){UINT32_MAX, UINT32_MAX}),
        0x408f276d);
}
END_TEST

/* ---- the distribution ---- */

#define DIE_SIDES 20
#define DRAWS     20000

/* The chi-square distribution with 19 degrees of freedom is above 60 once in 250,000 times. */
#define CHI_SQUARE_MAX 60.0

static const struct {
    float temperature, top_p, min_p;
    int32_t top_k;
} filters[] = {
    {1.0f, 1.0f, 0.0f, 0},  {0.6f, 1.0f, 0.0f, 0},  {2.5f, 1.0f, 0.0f, 0}, {1.0f, 1.0f, 0.0f, 5},
    {1.0f, 0.75f, 0.0f, 0}, {1.0f, 1.0f, 0.15f, 0}, {1.3f, 0.9f, 0.1f, 9},
};
#define FILTERS ((int)(sizeof filters / sizeof filters[0]))

START_TEST(draws_follow_the_filtered_distribution)
{
    static struct token tokens[DIE_SIDES];
    double expected[DIE_SIDES] = {0}, total = 0, chi_square = 0;
    int drawn[DIE_SIDES] = {0};
    open_sampler(DIE_SIDES);
    for (int v = 0; v < DIE_SIDES; v++)
        logits[v] = (float)(0.25 * ((v * 7) % DIE_SIDES));
    struct sampling s = sampling_default();
    s.temperature = filters[_i].temperature;
    s.top_k = filters[_i].top_k;
    s.top_p = filters[_i].top_p;
    s.min_p = filters[_i].min_p;
    s.seed = seed;

    int count = obvious_survivors(DIE_SIDES, &s, tokens);
    for (int i = 0; i < count; i++)
        total += exp(tokens[i].z);
    for (int i = 0; i < count; i++)
        expected[tokens[i].id] = DRAWS * exp(tokens[i].z) / total;
    for (uint32_t position = 0; position < DRAWS; position++)
        drawn[choose(&s, position).token_id]++;
    for (int v = 0; v < DIE_SIDES; v++) {
        ck_assert_msg(expected[v] > 0 || drawn[v] == 0, "filtered token %d was drawn", v);
        if (expected[v] > 0)
            chi_square += (drawn[v] - expected[v]) * (drawn[v] - expected[v]) / expected[v];
    }
    ck_assert_msg(chi_square < CHI_SQUARE_MAX, "seed %llu, filter %d: chi-square is %g",
                  (unsigned long long)seed, _i, chi_square);
}
END_TEST

START_TEST(seed_branch_and_position_each_change_the_draw)
{
    open_sampler(VOCAB_MAX);
    memset(logits, 0, sizeof logits);
    struct sampling s = sampling_default();
    s.temperature = 1;
    int same_seed = 0, same_branch = 0, same_position = 0;
    for (uint32_t position = 0; position < 100; position++) {
        struct sampling other_seed = s, other_branch = s;
        other_seed.seed = UINT64_C(1) << 32; /* the high half counts too */
        other_branch.branch = 1;
        int32_t token = choose(&s, position).token_id;
        ck_assert_int_eq(choose(&s, position).token_id, token); /* whatever was drawn between */
        same_seed += choose(&other_seed, position).token_id == token;
        same_branch += choose(&other_branch, position).token_id == token;
        same_position += choose(&s, position + 1000).token_id == token;
    }
    ck_assert_int_lt(same_seed, 5); /* one in a thousand by chance */
    ck_assert_int_lt(same_branch, 5);
    ck_assert_int_lt(same_position, 5);
}
END_TEST

/* ---- edges ---- */

static const struct sampling narrow[] = {
    {.temperature = 0, .top_p = 1},
    {.temperature = FLT_TRUE_MIN, .top_p = 1},
    {.temperature = 1, .top_k = 1, .top_p = 1},
    {.temperature = 1, .top_p = FLT_TRUE_MIN},
    {.temperature = FLT_MAX, .top_k = 1, .top_p = 1},
    {.temperature = 1, .top_p = 1, .min_p = 1},
};

START_TEST(the_narrowest_filters_are_greedy)
{
    uint64_t state = seed;
    open_sampler(VOCAB_MAX);
    for (uint32_t position = 0; position < 50; position++) {
        for (int v = 0; v < VOCAB_MAX; v++)
            logits[v] = (float)(v + 1) * 0.25f * (tiny_random(&state) % 2 == 0 ? 1.0f : -1.0f);
        logits[123] = 500;
        struct sampling s = narrow[_i];
        s.seed = tiny_random(&state);
        ck_assert_int_eq(choose(&s, position).token_id, 123);
    }
}
END_TEST

START_TEST(greedy_takes_the_lowest_id_of_equals)
{
    struct sampling s = sampling_default();
    open_sampler(50);
    for (int v = 0; v < 50; v++)
        logits[v] = v % 10 == 7 ? 2.5f : -1.0f;
    ck_assert_int_eq(choose(&s, 0).token_id, 7);
}
END_TEST

START_TEST(tokens_without_a_finite_logit_are_never_chosen)
{
    struct sampling s = sampling_default();
    open_sampler(4);
    logits[0] = NAN;
    logits[1] = INFINITY;
    logits[2] = -80;
    logits[3] = -INFINITY;
    s.want_logprob = true;
    for (uint32_t position = 0; position < 20; position++) {
        s.temperature = position % 2 == 0 ? 0.0f : 1.0f;
        struct sampler_choice choice = choose(&s, position);
        ck_assert_int_eq(choice.token_id, 2);
        ck_assert_double_eq((double)choice.logprob,
                            0); /* the only one that counts: probability 1 */
    }
}
END_TEST

START_TEST(a_row_without_a_finite_logit_is_a_sentence)
{
    struct sampling s = sampling_default();
    struct sampler_choice choice = {.token_id = 42};
    struct llm_error error;
    open_sampler(3);
    logits[0] = NAN;
    logits[1] = -INFINITY;
    logits[2] = INFINITY;
    ck_assert_int_eq(sampler_choose(&sampler, logits, &s, 17, &choice, &error), LLM_ERR_CORRUPT);
    ck_assert_str_eq(error.message, "the model's logits for position 17 hold no finite number");
    ck_assert_int_eq(choice.token_id, 42);
}
END_TEST

START_TEST(extreme_logits_do_not_overflow)
{
    struct sampling s = sampling_default();
    open_sampler(3);
    logits[0] = FLT_MAX;
    logits[1] = -FLT_MAX;
    logits[2] = FLT_MAX;
    s.temperature = 0.5f;
    s.top_p = 0.9f;
    s.want_logprob = true;
    for (uint32_t position = 0; position < 50; position++) {
        struct sampler_choice choice = choose(&s, position);
        ck_assert_int_ne(choice.token_id, 1);
        ck_assert_double_eq_tol((double)choice.logprob, log(0.5), 1e-6);
    }
}
END_TEST

START_TEST(logprob_is_of_the_models_own_distribution)
{
    uint64_t state = seed;
    open_sampler(300);
    for (uint32_t position = 0; position < 100; position++) {
        random_logits(300, &state);
        struct sampling s = random_sampling(&state);
        s.want_logprob = true;
        struct sampler_choice choice = choose(&s, position);
        double sum = 0;
        for (int v = 0; v < 300; v++)
            if (isfinite(logits[v]))
                sum += exp((double)logits[v]);
        double want = (double)logits[choice.token_id] - log(sum);
        ck_assert_msg(fabs((double)choice.logprob - want) < 1e-5,
                      "seed %llu, position %u: %.7f, expected %.7f", (unsigned long long)seed,
                      position, (double)choice.logprob, want);
    }
}
END_TEST

START_TEST(a_score_is_what_a_choice_of_that_token_says_of_itself)
{
    uint64_t state = seed;
    struct llm_error error;
    open_sampler(300);
    for (uint32_t position = 0; position < 100; position++) {
        float score = 1;
        random_logits(300, &state);
        struct sampling s = random_sampling(&state);
        s.want_logprob = true;
        struct sampler_choice choice = choose(&s, position);
        ck_assert_int_eq(sampler_score(&sampler, logits, choice.token_id, position, &score, &error),
                         LLM_OK);
        ck_assert_msg(memcmp(&score, &choice.logprob, sizeof score) == 0,
                      "seed %llu, position %u: %.9g, the choice says %.9g",
                      (unsigned long long)seed, position, (double)score, (double)choice.logprob);
    }
}
END_TEST

START_TEST(a_score_of_what_cannot_be_said_is_nothing_or_a_sentence)
{
    struct llm_error error;
    float score = 1;
    open_sampler(3);
    logits[0] = 1;
    logits[1] = NAN;
    logits[2] = -INFINITY;
    for (int32_t token = 1; token < 3; token++) {
        ck_assert_int_eq(sampler_score(&sampler, logits, token, 9, &score, &error), LLM_OK);
        ck_assert(isinf(score) && score < 0);
    }
    logits[0] = INFINITY;
    score = 1;
    ck_assert_int_eq(sampler_score(&sampler, logits, 0, 9, &score, &error), LLM_ERR_CORRUPT);
    ck_assert_str_eq(error.message, "the model's logits for position 9 hold no finite number");
    ck_assert(score > 0); /* out-parameters survive a failure */
}
END_TEST

/* ---- parameters ---- */

static const int32_t good_stop[] = {2, 99}, bad_stop[] = {2, 100}, negative_stop[] = {-1};
static const struct {
    struct sampling sampling;
    const char *sentence; /* NULL: accepted */
} parameters[] = {
    {{.temperature = 0.7f, .top_k = 40, .top_p = 0.9f, .min_p = 0.05f, .max_tokens = 64}, NULL},
    {{.top_p = 1, .max_tokens = 1000, .stop_ids = good_stop, .stop_id_count = 2}, NULL},
    {{.temperature = FLT_MAX,
      .top_k = INT32_MAX,
      .top_p = FLT_TRUE_MIN,
      .min_p = 1,
      .max_tokens = 1},
     NULL},
    {{.temperature = NAN, .top_p = 1, .max_tokens = 1},
     "temperature is nan; it must be 0 or more and finite"},
    {{.temperature = -0.5f, .top_p = 1, .max_tokens = 1},
     "temperature is -0.5; it must be 0 or more and finite"},
    {{.temperature = INFINITY, .top_p = 1, .max_tokens = 1},
     "temperature is inf; it must be 0 or more and finite"},
    {{.top_k = -1, .top_p = 1, .max_tokens = 1}, "top_k is -1; it must be 0 (off) or more"},
    {{.top_p = 0, .max_tokens = 1}, "top_p is 0; it must be above 0 and at most 1"},
    {{.top_p = 1.5f, .max_tokens = 1}, "top_p is 1.5; it must be above 0 and at most 1"},
    {{.top_p = NAN, .max_tokens = 1}, "top_p is nan; it must be above 0 and at most 1"},
    {{.top_p = 1, .min_p = -0.25f, .max_tokens = 1}, "min_p is -0.25; it must be 0..1"},
    {{.top_p = 1, .min_p = 2, .max_tokens = 1}, "min_p is 2; it must be 0..1"},
    {{.top_p = 1, .min_p = NAN, .max_tokens = 1}, "min_p is nan; it must be 0..1"},
    {{.top_p = 1}, "max_tokens is 0; it must be 1..1000"},
    {{.top_p = 1, .max_tokens = 1001}, "max_tokens is 1001; it must be 1..1000"},
    {{.top_p = 1, .max_tokens = UINT32_MAX}, "max_tokens is 4294967295; it must be 1..1000"},
    {{.top_p = 1, .max_tokens = 1, .stop_ids = bad_stop, .stop_id_count = 2},
     "stop id 1 is 100; ids are 0..99"},
    {{.top_p = 1, .max_tokens = 1, .stop_ids = negative_stop, .stop_id_count = 1},
     "stop id 0 is -1; ids are 0..99"},
    {{.top_p = 1, .max_tokens = 1, .stop_ids = good_stop, .stop_id_count = 3},
     "3 stop ids; at most 2 are taken"},
};
#define PARAMETERS ((int)(sizeof parameters / sizeof parameters[0]))

START_TEST(each_bad_parameter_has_its_own_sentence)
{
    const struct sampling_limits limits = {
        .vocab_size = 100, .max_tokens = 1000, .stop_ids_max = 2};
    struct llm_error error = {0};
    enum llm_status status = sampling_check(&parameters[_i].sampling, &limits, &error);
    if (parameters[_i].sentence == NULL) {
        ck_assert_int_eq(status, LLM_OK);
    } else {
        ck_assert_int_ne(status, LLM_OK);
        ck_assert_int_eq(status, error.status);
        ck_assert_str_eq(error.message, parameters[_i].sentence);
    }
}
END_TEST

START_TEST(the_default_is_accepted_and_stop_ids_stop)
{
    const struct sampling_limits limits = {
        .vocab_size = 100, .max_tokens = 1000, .stop_ids_max = 2};
    struct sampling s = sampling_default();
    ck_assert_int_eq(sampling_check(&s, &limits, NULL), LLM_OK);
    ck_assert(!sampling_stops_at(&s, 2));
    s.stop_ids = good_stop;
    s.stop_id_count = 2;
    ck_assert(sampling_stops_at(&s, 99));
    ck_assert(!sampling_stops_at(&s, 3));
}
END_TEST

int main(void)
{
    const char *given = getenv("LLM_TEST_SEED");
    seed = given != NULL ? strtoull(given, NULL, 0) : 4711;

    Suite *suite = suite_create("daemon/sampler");
    TCase *tc = tcase_create("sampler");
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, every_choice_is_the_obvious_one, 0, 5);
    tcase_add_test(tc, philox_gives_the_published_words);
    tcase_add_loop_test(tc, draws_follow_the_filtered_distribution, 0, FILTERS);
    tcase_add_test(tc, seed_branch_and_position_each_change_the_draw);
    tcase_add_loop_test(tc, the_narrowest_filters_are_greedy, 0,
                        (int)(sizeof narrow / sizeof narrow[0]));
    tcase_add_test(tc, greedy_takes_the_lowest_id_of_equals);
    tcase_add_test(tc, tokens_without_a_finite_logit_are_never_chosen);
    tcase_add_test(tc, a_row_without_a_finite_logit_is_a_sentence);
    tcase_add_test(tc, extreme_logits_do_not_overflow);
    tcase_add_test(tc, logprob_is_of_the_models_own_distribution);
    tcase_add_test(tc, a_score_is_what_a_choice_of_that_token_says_of_itself);
    tcase_add_test(tc, a_score_of_what_cannot_be_said_is_nothing_or_a_sentence);
    tcase_add_loop_test(tc, each_bad_parameter_has_its_own_sentence, 0, PARAMETERS);
    tcase_add_test(tc, the_default_is_accepted_and_stop_ids_stop);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
