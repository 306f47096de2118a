/*
 * test_sampler.c - daemon/sample: parameters, filters, draws, log-probabilities.
 * How: beside the sampler stands an obvious one, which sorts, sums in f64 and has its own Philox; over random
 * rows and parameters both must choose the same token, with and without steering. Then the draws of many positions are
 * held against the exact distribution (chi-square; seeds are fixed, so the outcome is too).
 */
#include "daemon/sample/sampler.h"
#include "daemon/sample/wide.h"
#include "shm/request.h"

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

static struct sampler_choice choose_after(const struct sampling *sampling,
                                          const struct sampler_past *past)
{
    struct sampler_choice choice;
    struct llm_error error = {0};
    enum llm_status status =
        sampler_choose(&sampler, logits, sampling, past, &choice, NULL, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    return choice;
}

static struct sampler_choice choose(const struct sampling *sampling, uint32_t position)
{
    return choose_after(sampling, &(struct sampler_past){.position = position});
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

static double distance_mean;

static int by_distance(const void *a, const void *b)
{
    const struct token *x = a, *y = b;
    float dx = (float)fabs(x->z - distance_mean), dy = (float)fabs(y->z - distance_mean);
    if (dx < dy || dx > dy)
        return dx < dy ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* The set of those nearest to the mean of z that have p of the mass. */
static int obvious_typical(struct token *tokens, int count, double p)
{
    double total = 0, sum = 0, before = 0;
    if (p >= 1)
        return count;
    for (int i = 0; i < count; i++) {
        double mass = floor(exp(tokens[i].z) * 0x1p36);
        total += mass;
        sum += mass * tokens[i].z;
    }
    distance_mean = sum / total;
    qsort(tokens, (size_t)count, sizeof *tokens, by_distance);
    for (int i = 0; i < count; i++) {
        float here = (float)fabs(tokens[i].z - distance_mean);
        if (i > 0 && here > (float)fabs(tokens[i - 1].z - distance_mean) && before >= p * total)
            return i;
        before += floor(exp(tokens[i].z) * 0x1p36);
    }
    return count;
}

/* The definitions, one id at a time. */
static void obvious_row(uint32_t vocab_size, const struct sampling *s,
                        const struct sampler_past *past, float *row)
{
    const struct llm_steering_record *r = s->steering;
    memcpy(row, logits, vocab_size * sizeof *row);
    for (uint32_t v = 0; v < vocab_size && r; v++) {
        uint32_t times = 0, answered = 0;
        bool allowed = r->steering.allowed_id_count == 0, banned = false;
        for (uint32_t i = 0; i < past->position; i++) {
            times += past->ids[i] == v;
            answered += past->ids[i] == v && i >= past->prompt_tokens;
        }
        for (uint32_t i = 0; i < r->steering.bias_count; i++)
            row[v] += r->biases[i].token == v ? r->biases[i].bias : 0;
        if (times > 0 && row[v] > 0)
            row[v] /= r->steering.repetition_penalty;
        else if (times > 0)
            row[v] *= r->steering.repetition_penalty;
        row[v] -= r->steering.frequency_penalty * (float)answered;
        row[v] -= answered > 0 ? r->steering.presence_penalty : 0;
        if (past->position - past->prompt_tokens < r->steering.min_tokens) {
            for (uint32_t i = 0; i < s->eos_id_count; i++)
                banned = banned || s->eos_ids[i] == v;
            for (uint32_t i = 0; i < s->stop_id_count; i++)
                banned = banned || (uint32_t)s->stop_ids[i] == v;
        }
        for (uint32_t i = 0; i < r->steering.banned_id_count; i++)
            banned = banned || r->banned_ids[i] == v;
        for (uint32_t i = 0; i < r->steering.allowed_id_count; i++)
            allowed = allowed || r->allowed_ids[i] == v;
        if (banned || !allowed)
            row[v] = -INFINITY;
    }
}

/* Survivors; returns how many. Equal logits stay or go together. */
static int obvious_survivors(uint32_t vocab_size, const float *row, const struct sampling *s,
                             struct token *out)
{
    int count = 0;
    float largest = -INFINITY;
    for (uint32_t v = 0; v < vocab_size; v++)
        largest = isfinite(row[v]) && row[v] > largest ? row[v] : largest;
    for (uint32_t v = 0; v < vocab_size; v++)
        if (isfinite(row[v]))
            out[count++] =
                (struct token){(double)((row[v] - largest) / s->temperature), (int32_t)v};
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
    return s->steering ? obvious_typical(out, count, (double)s->steering->steering.typical_p)
                       : count;
}

static int32_t obvious_choice(uint32_t vocab_size, const struct sampling *s,
                              const struct sampler_past *past)
{
    static struct token tokens[VOCAB_MAX];
    static float row[VOCAB_MAX];
    int32_t best = -1;
    double best_score = 0;
    uint32_t position = past->position;
    obvious_row(vocab_size, s, past, row);
    if (s->temperature <= 0) {
        for (uint32_t v = 0; v < vocab_size; v++)
            if (isfinite(row[v]) && (best < 0 || row[v] > row[best]))
                best = (int32_t)v;
        return best;
    }
    int count = obvious_survivors(vocab_size, row, s, tokens);
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
        int32_t want = obvious_choice(sizes[_i], &s, &(struct sampler_past){.position = position});
        ck_assert_msg(got == want,
                      "seed %llu, vocabulary %u, round %d: token %d, the obvious sampler takes %d "
                      "(temperature %g, top_k %d, top_p %g, min_p %g)",
                      (unsigned long long)seed, sizes[_i], round, got, want, (double)s.temperature,
                      s.top_k, (double)s.top_p, (double)s.min_p);
    }
}
END_TEST

/* ---- steering ---- */

#define PAST_MAX 60

static uint32_t few(uint64_t *state, uint32_t most)
{
    return tiny_random(state) % 2 == 0 ? 0 : (uint32_t)(tiny_random(state) % (most + 1));
}

static void random_steering(uint32_t vocab_size, uint64_t *state, struct llm_steering_record *out)
{
    *out = (struct llm_steering_record){.steering = llm_steering_none()};
    struct llm_steering *s = &out->steering;
    if (tiny_random(state) % 2 == 0)
        s->repetition_penalty = (float)(0.5 + 2 * uniform(state));
    if (tiny_random(state) % 2 == 0)
        s->presence_penalty = (float)(4 * uniform(state) - 2);
    if (tiny_random(state) % 2 == 0)
        s->frequency_penalty = (float)(4 * uniform(state) - 2);
    if (tiny_random(state) % 2 == 0)
        s->typical_p = (float)(0.05 + 0.9 * uniform(state));
    s->min_tokens = few(state, 40);
    s->bias_count = few(state, 8);
    s->banned_id_count = few(state, 8);
    s->allowed_id_count = few(state, 30);
    for (uint32_t i = 0; i < s->bias_count; i++)
        out->biases[i] = (struct llm_bias){(uint32_t)(tiny_random(state) % vocab_size),
                                           (float)(20 * uniform(state) - 10)};
    for (uint32_t i = 0; i < s->banned_id_count; i++)
        out->banned_ids[i] = (uint32_t)(tiny_random(state) % vocab_size);
    for (uint32_t i = 0; i < s->allowed_id_count; i++)
        out->allowed_ids[i] = (uint32_t)(tiny_random(state) % vocab_size);
}

START_TEST(every_steered_choice_is_the_obvious_one)
{
    static const uint32_t sizes[] = {17, 300, 1000};
    static struct llm_steering_record steering;
    uint64_t state = seed + 100 + (uint64_t)_i;
    uint32_t ids[PAST_MAX], chosen = 0;
    open_sampler(sizes[_i]);
    for (int round = 0; round < 2000; round++) {
        const uint32_t eos[] = {2, 3};
        const int32_t stops[] = {(int32_t)(tiny_random(&state) % sizes[_i])};
        random_logits(sizes[_i], &state);
        random_steering(sizes[_i], &state, &steering);
        struct sampling s = random_sampling(&state);
        s.steering = &steering;
        s.eos_ids = eos;
        s.eos_id_count = 2;
        s.stop_ids = stops;
        s.stop_id_count = 1;
        struct sampler_past past = {.ids = ids,
                                    .position = (uint32_t)(tiny_random(&state) % PAST_MAX)};
        past.prompt_tokens = (uint32_t)(tiny_random(&state) % (past.position + 1));
        for (uint32_t i = 0; i < past.position; i++)
            ids[i] = (uint32_t)(tiny_random(&state) % sizes[_i]);
        struct sampler_choice choice = {.token_id = -1};
        struct llm_error error;
        enum llm_status status = sampler_choose(&sampler, logits, &s, &past, &choice, NULL, &error);
        int32_t want = obvious_choice(sizes[_i], &s, &past);
        enum llm_status wanted = want < 0 ? LLM_ERR_INVALID : LLM_OK;
        ck_assert_msg(status == wanted && choice.token_id == want,
                      "seed %llu, vocabulary %u, round %d: token %d, the obvious sampler takes %d",
                      (unsigned long long)seed, sizes[_i], round, choice.token_id, want);
        chosen += want >= 0;
    }
    ck_assert_uint_gt(chosen, 1500); /* most rows leave a token to choose */
}
END_TEST

START_TEST(penalties_count_what_their_definitions_say)
{
    static struct llm_steering_record steering;
    const uint32_t ids[] = {1, 2, 2, 3}; /* a prompt of two, an answer of two */
    const struct sampler_past past = {.ids = ids, .position = 4, .prompt_tokens = 2};
    struct sampling s = sampling_default();
    s.steering = &steering;
    struct steer steer;
    open_sampler(5);
    ck_assert_int_eq(steer_open(&steer, 5, NULL), LLM_OK);
    for (int v = 0; v < 5; v++)
        logits[v] = v == 3 ? -4.0f : 4.0f;
    steering.steering = llm_steering_none();
    ck_assert_ptr_eq(steer_row(&steer, logits, &s, &past), logits); /* nothing is asked for */
    steering.steering.repetition_penalty = 2;
    const float *row = steer_row(&steer, logits, &s, &past);
    const float repetition[] = {4, 2, 2, -8, 4};
    ck_assert_mem_eq(row, repetition, sizeof repetition);
    steering.steering = llm_steering_none();
    steering.steering.frequency_penalty = 0.5f;
    steering.steering.presence_penalty = 1;
    row = steer_row(&steer, logits, &s, &past);
    const float use[] = {4, 4, 2.5f, -5.5f, 4};
    ck_assert_mem_eq(row, use, sizeof use);
    steer_close(&steer);
}
END_TEST

START_TEST(what_leaves_no_token_is_a_sentence)
{
    static struct llm_steering_record steering;
    struct sampling s = sampling_default();
    struct sampler_choice choice = {.token_id = 42};
    struct llm_error error;
    const struct sampler_past past = {.position = 9, .prompt_tokens = 9};
    const uint32_t eos[] = {1};
    open_sampler(3);
    logits[0] = logits[1] = logits[2] = 1;
    steering.steering = llm_steering_none();
    steering.steering.min_tokens = 1;
    steering.steering.allowed_id_count = 1;
    steering.allowed_ids[0] = 1; /* which may not come first */
    s.steering = &steering;
    s.eos_ids = eos;
    s.eos_id_count = 1;
    ck_assert_int_eq(sampler_choose(&sampler, logits, &s, &past, &choice, NULL, &error),
                     LLM_ERR_INVALID);
    ck_assert_str_eq(error.message,
                     "what the request forbids leaves no token to choose at position 9");
    ck_assert_int_eq(choice.token_id, 42);
}
END_TEST

/* ---- the likeliest ---- */

START_TEST(the_likeliest_are_the_first_of_the_sorted_row)
{
    static struct llm_steering_record steering;
    static struct token sorted[VOCAB_MAX];
    static const uint32_t sizes[] = {1, 7, 20, 1000};
    uint64_t state = seed + (uint64_t)_i;
    open_sampler(sizes[_i]);
    steering.steering = llm_steering_none();
    for (int round = 0; round < 300; round++) {
        struct llm_top tops[LLM_TOP_LOGPROBS_MAX];
        struct sampler_choice choice;
        float score;
        int count = 0;
        random_logits(sizes[_i], &state);
        struct sampling s = random_sampling(&state);
        s.steering = &steering;
        s.want_logprob = true;
        steering.steering.top_logprobs = 1 + (uint32_t)(tiny_random(&state) % 20);
        ck_assert_int_eq(sampler_choose(&sampler, logits, &s, &(struct sampler_past){.position = 1},
                                        &choice, tops, NULL),
                         LLM_OK);
        for (uint32_t v = 0; v < sizes[_i]; v++)
            if (isfinite(logits[v]))
                sorted[count++] = (struct token){(double)logits[v], (int32_t)v};
        qsort(sorted, (size_t)count, sizeof *sorted, by_likelihood);
        for (uint32_t i = 0; i < steering.steering.top_logprobs; i++) {
            if ((int)i >= count) {
                ck_assert_uint_eq(tops[i].token, UINT32_MAX);
                ck_assert(isinf(tops[i].logprob) && tops[i].logprob < 0);
                continue;
            }
            ck_assert_uint_eq(tops[i].token, (uint32_t)sorted[i].id);
            ck_assert_int_eq(
                sampler_score(&sampler, logits, sorted[i].id, 1, &score, NULL, 0, NULL), LLM_OK);
            ck_assert_mem_eq(&score, &tops[i].logprob, sizeof score);
        }
    }
}
END_TEST

/* ---- loops over a vocabulary ---- */

START_TEST(exponentials_are_those_of_the_c_library)
{
    uint64_t mass;
    for (double z = 0; z > -30; z -= 0.000371) {
        float here = (float)z;
        double want = exp((double)here) * WIDE_MASS_ONE;
        uint64_t total = wide_masses(&here, 1, &mass);
        ck_assert_uint_eq(total, mass);
        ck_assert_msg(fabs((double)mass - want) <= 1.0 + want * 4e-16, "%.17g: %llu, not %.17g",
                      (double)here, (unsigned long long)mass, want);
        double sum = wide_exp_sum(&here, 1, 0);
        ck_assert_msg(fabs(sum - exp((double)here)) <= 4.5e-16 * sum, "%.17g: %.17g, not %.17g",
                      (double)here, sum, exp((double)here));
    }
    const float edges[] = {0, -0.0f, -707.9f, -708.5f, -1e30f, -FLT_MAX};
    const double least[] = {1, 1, 0, 0, 0, 0}, most[] = {1, 1, 1e-300, 1e-300, 0, 0};
    for (int i = 0; i < 6; i++) {
        double sum = wide_exp_sum(&edges[i], 1, 0);
        ck_assert_msg(sum >= least[i] && sum <= most[i], "edge %d: %g", i, sum);
    }
}
END_TEST

START_TEST(the_largest_is_found_wherever_it_stands)
{
    static const uint32_t sizes[] = {1, 15, 16, 17, 100};
    for (uint32_t size = 0; size < 5; size++)
        for (uint32_t at = 0; at < sizes[size]; at++) {
            for (uint32_t v = 0; v < sizes[size]; v++)
                logits[v] = v % 3 == 0 ? NAN : v % 3 == 1 ? INFINITY : -INFINITY;
            ck_assert(wide_largest(logits, sizes[size]) < -FLT_MAX);
            logits[at] = -FLT_MAX;
            ck_assert(wide_largest(logits, sizes[size]) >= -FLT_MAX);
            logits[at] = -0.5f;
            ck_assert(fabsf(wide_largest(logits, sizes[size]) + 0.5f) <= 0);
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
    int32_t ids[600]; /* the served one */
    uint32_t words[600];
    for (int i = 0; i < 600; i++)
        ids[i] = i * 3571;
    wide_philox(ids, 600, UINT64_C(0x0123456789abcdef), 77, 5, words);
    for (int i = 0; i < 600; i++)
        ck_assert_uint_eq(words[i],
                          philox_first_word((const uint32_t[]){(uint32_t)ids[i], 77, 5, 0},
                                            (const uint32_t[]){0x89abcdef, 0x01234567}));
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
    float typical_p;
} filters[] = {
    {1.0f, 1.0f, 0.0f, 0, 1.0f}, {0.6f, 1.0f, 0.0f, 0, 1.0f},  {2.5f, 1.0f, 0.0f, 0, 1.0f},
    {1.0f, 1.0f, 0.0f, 5, 1.0f}, {1.0f, 0.75f, 0.0f, 0, 1.0f}, {1.0f, 1.0f, 0.15f, 0, 1.0f},
    {1.3f, 0.9f, 0.1f, 9, 1.0f}, {1.0f, 1.0f, 0.0f, 0, 0.6f},  {1.5f, 0.95f, 0.02f, 12, 0.5f},
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
    static struct llm_steering_record steering;
    steering.steering = llm_steering_none();
    steering.steering.typical_p = filters[_i].typical_p;
    s.steering = &steering;

    int count = obvious_survivors(DIE_SIDES, logits, &s, tokens);
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
    ck_assert_int_eq(sampler_choose(&sampler, logits, &s, &(struct sampler_past){.position = 17},
                                    &choice, NULL, &error),
                     LLM_ERR_CORRUPT);
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
        ck_assert_int_eq(
            sampler_score(&sampler, logits, choice.token_id, position, &score, NULL, 0, &error),
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
        ck_assert_int_eq(sampler_score(&sampler, logits, token, 9, &score, NULL, 0, &error),
                         LLM_OK);
        ck_assert(isinf(score) && score < 0);
    }
    logits[0] = INFINITY;
    score = 1;
    ck_assert_int_eq(sampler_score(&sampler, logits, 0, 9, &score, NULL, 0, &error),
                     LLM_ERR_CORRUPT);
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

/* Each row spoils a steering that is in order. */
enum spoiled {
    TYPICAL_P,
    REPETITION,
    PRESENCE,
    FREQUENCY,
    MIN_TOKENS,
    TOP,
    BIASES,
    BANNED,
    ALLOWED,
    BIAS_ID,
    BIAS_VALUE,
    BANNED_ID,
    ALLOWED_ID,
    RESERVED
};
static const struct {
    enum spoiled what;
    double value;
    const char *sentence; /* NULL: accepted */
} steerings[] = {
    {TYPICAL_P, 0.2, NULL},
    {TYPICAL_P, 0, "typical_p is 0: it must be above 0 and at most 1"},
    {TYPICAL_P, 1.5, "typical_p is 1.5: it must be above 0 and at most 1"},
    {TYPICAL_P, NAN, "typical_p is nan: it must be above 0 and at most 1"},
    {REPETITION, 100, NULL},
    {REPETITION, 0, "repetition_penalty is 0: it must be from 0.01 to 100"},
    {REPETITION, 101, "repetition_penalty is 101: it must be from 0.01 to 100"},
    {REPETITION, NAN, "repetition_penalty is nan: it must be from 0.01 to 100"},
    {PRESENCE, -100, NULL},
    {PRESENCE, 100.5, "presence_penalty is 100.5: it must be from -100 to 100"},
    {PRESENCE, NAN, "presence_penalty is nan: it must be from -100 to 100"},
    {FREQUENCY, 100, NULL},
    {FREQUENCY, -INFINITY, "frequency_penalty is -inf: it must be from -100 to 100"},
    {MIN_TOKENS, 10, NULL},
    {MIN_TOKENS, 11, "min_tokens is 11: it must be from 0 to max_tokens, 10"},
    {TOP, 20, NULL},
    {TOP, 21, "top_logprobs is 21: it must be from 0 to 20"},
    {BIASES, 1025, "1025 biased ids: at most 1024"},
    {BANNED, 1025, "1025 banned ids: at most 1024"},
    {ALLOWED, 4294967295.0, "4294967295 allowed ids: at most 1024"},
    {BIAS_ID, 99, NULL},
    {BIAS_ID, 100, "biased id 1 is 100; ids are 0..99"},
    {BIAS_VALUE, -101, "bias 1, of token 7, is -101: it must be from -100 to 100"},
    {BIAS_VALUE, NAN, "bias 1, of token 7, is nan: it must be from -100 to 100"},
    {BANNED_ID, 4294967295.0, "banned id 1 is 4294967295; ids are 0..99"},
    {ALLOWED_ID, 100, "allowed id 1 is 100; ids are 0..99"},
    {ALLOWED_ID, 8, "all 2 allowed ids are banned ids: no token could be chosen"},
    {RESERVED, 1, "reserved byte 27 of the request's steering is not 0"},
};
#define STEERINGS ((int)(sizeof steerings / sizeof steerings[0]))

static void spoil(struct llm_steering_record *r, enum spoiled what, double value)
{
    struct llm_steering *s = &r->steering;
    uint32_t whole = value > 0 ? (uint32_t)value : 0;
    float *reals[] = {[TYPICAL_P] = &s->typical_p,       [REPETITION] = &s->repetition_penalty,
                      [PRESENCE] = &s->presence_penalty, [FREQUENCY] = &s->frequency_penalty,
                      [BIAS_VALUE] = &r->biases[1].bias, [RESERVED] = NULL};
    uint32_t *counts[] = {[MIN_TOKENS] = &s->min_tokens,
                          [TOP] = &s->top_logprobs,
                          [BIASES] = &s->bias_count,
                          [BANNED] = &s->banned_id_count,
                          [ALLOWED] = &s->allowed_id_count,
                          [BIAS_ID] = &r->biases[1].token,
                          [BANNED_ID] = &r->banned_ids[1],
                          [ALLOWED_ID] = &r->allowed_ids[1],
                          [RESERVED] = NULL};
    if (reals[what])
        *reals[what] = (float)value;
    else if (counts[what])
        *counts[what] = whole;
    else
        s->reserved[27] = 1;
}

START_TEST(each_bad_steering_has_its_own_sentence)
{
    static struct llm_steering_record r;
    const struct sampling_limits limits = {
        .vocab_size = 100, .max_tokens = 1000, .stop_ids_max = 2};
    struct sampling s = {.top_p = 1, .max_tokens = 10, .steering = &r};
    struct llm_error error = {.message = ""};
    r = (struct llm_steering_record){.steering = llm_steering_none(),
                                     .biases = {{3, 1}, {7, -1}},
                                     .banned_ids = {8, 9},
                                     .allowed_ids = {8, 50}};
    r.steering.bias_count = r.steering.banned_id_count = r.steering.allowed_id_count = 2;
    ck_assert_int_eq(sampling_check(&s, &limits, &error), LLM_OK);
    spoil(&r, steerings[_i].what, steerings[_i].value);
    enum llm_status status = sampling_check(&s, &limits, &error);
    ck_assert_str_eq(error.message, steerings[_i].sentence ? steerings[_i].sentence : "");
    ck_assert_int_eq(status, steerings[_i].sentence ? LLM_ERR_INVALID : LLM_OK);
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
    tcase_add_loop_test(tc, every_steered_choice_is_the_obvious_one, 0, 3);
    tcase_add_test(tc, penalties_count_what_their_definitions_say);
    tcase_add_test(tc, what_leaves_no_token_is_a_sentence);
    tcase_add_loop_test(tc, the_likeliest_are_the_first_of_the_sorted_row, 0, 4);
    tcase_add_test(tc, exponentials_are_those_of_the_c_library);
    tcase_add_test(tc, the_largest_is_found_wherever_it_stands);
    tcase_add_loop_test(tc, each_bad_steering_has_its_own_sentence, 0, STEERINGS);
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
