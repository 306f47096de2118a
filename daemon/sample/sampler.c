#include "daemon/sample/sampler.h"

#include "shm/check.h"

#include <Random123/philox.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VOCAB_SIZE_MAX (UINT32_C(1) << 24)
#define MASS_ONE       0x1p36 /* mass of the most likely token; 2^24 tokens of it fit in 61 bits */
#define DIGIT_COUNT    3
#define DIGIT_VALUES   2048 /* of the widest digit, 11 bits */

/* A token that is still in play. z = (logit - largest logit) / temperature, so z <= 0 and the most likely
 * token has z = 0. A float's bits without the sign order the z <= 0 by distance from 0, which makes them
 * the token's rank: smaller is more likely, equal is equally likely. */
struct sampler_candidate {
    uint64_t mass; /* exp(z) in units of 1 / MASS_ONE; only during top-p */
    float z;
    int32_t token_id;
};

static uint32_t candidate_rank(const struct sampler_candidate *candidate)
{
    uint32_t bits;
    memcpy(&bits, &candidate->z, sizeof bits);
    return bits & 0x7fffffff;
}

enum llm_status sampler_open(struct sampler *sampler, uint32_t vocab_size, struct llm_error *error)
{
    CHECK(vocab_size >= 1 && vocab_size <= VOCAB_SIZE_MAX);
    *sampler = (struct sampler){.vocab_size = vocab_size};
    sampler->candidates = malloc(vocab_size * sizeof *sampler->candidates);
    sampler->histogram = malloc(DIGIT_VALUES * sizeof *sampler->histogram);
    if (sampler->candidates == NULL || sampler->histogram == NULL) {
        sampler_close(sampler);
        return llm_fail(error, LLM_ERR_MEMORY,
                        "no memory to sample from a vocabulary of %" PRIu32 " tokens", vocab_size);
    }
    for (int i = 0; i <= SAMPLER_GUMBEL_MAX; i++)
        sampler->reach[i] = exp(-(double)i) * (1 + 1e-9); /* more than any rounding */
    return LLM_OK;
}

void sampler_close(struct sampler *sampler)
{
    free(sampler->candidates);
    free(sampler->histogram);
    *sampler = (struct sampler){0};
}

/* ---- the row as it came ---- */

/* The token with the largest finite logit, the lowest id on ties; -1 when no logit is finite. */
static int32_t most_likely(const float *logits, uint32_t vocab_size)
{
    int32_t best = -1;
    for (uint32_t v = 0; v < vocab_size; v++)
        if (isfinite(logits[v]) && (best < 0 || logits[v] > logits[best]))
            best = (int32_t)v;
    return best;
}

/* log_softmax(logits)[chosen]; the sum runs over ascending ids, in f64. */
static float log_probability(const float *logits, uint32_t vocab_size, float largest,
                             int32_t chosen)
{
    double sum = 0;
    for (uint32_t v = 0; v < vocab_size; v++)
        if (isfinite(logits[v]))
            sum += exp((double)logits[v] - (double)largest);
    return (float)((double)logits[chosen] - (double)largest - log(sum));
}

/* ---- filters: each keeps candidates[0..count) down to those with rank <= a threshold ---- */

/* Tokens at z = -infinity (a huge gap over a tiny temperature) have probability 0 and are left out. */
static uint32_t candidates_fill(struct sampler *sampler, const float *logits, float largest,
                                float temperature)
{
    uint32_t count = 0;
    for (uint32_t v = 0; v < sampler->vocab_size; v++) {
        float z = (logits[v] - largest) / temperature;
        if (isfinite(z))
            sampler->candidates[count++] =
                (struct sampler_candidate){.z = z, .token_id = (int32_t)v};
    }
    return count;
}

static uint32_t keep_ranks_to(struct sampler *sampler, uint32_t count, uint32_t threshold)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if (candidate_rank(&sampler->candidates[i]) <= threshold)
            sampler->candidates[kept++] = sampler->candidates[i];
    return kept;
}

/*
 * The smallest rank r such that candidates of rank <= r weigh `target` (>= 1) or more together; they must do
 * so in all. A radix search: the histogram of the ranks' leading digits says in which digit the target is
 * reached, the next pass looks only there. Three passes, whatever the values are.
 */
static uint32_t rank_reaching(struct sampler *sampler, uint32_t count, uint64_t target,
                              bool by_mass)
{
    static const uint32_t shifts[DIGIT_COUNT] = {20, 10, 0},
                          values[DIGIT_COUNT] = {2048, 1024, 1024};
    uint32_t rank = 0, known_bits = 0;
    for (int digit = 0; digit < DIGIT_COUNT; digit++) {
        uint32_t shift = shifts[digit], digit_bits = values[digit] - 1;
        memset(sampler->histogram, 0, values[digit] * sizeof *sampler->histogram);
        for (uint32_t i = 0; i < count; i++) {
            const struct sampler_candidate *c = &sampler->candidates[i];
            if ((candidate_rank(c) & known_bits) == rank)
                sampler->histogram[candidate_rank(c) >> shift & digit_bits] +=
                    by_mass ? c->mass : 1;
        }
        uint32_t value = 0;
        for (; sampler->histogram[value] < target; value++) {
            target -= sampler->histogram[value];
            CHECK(value + 1 < values[digit]);
        }
        rank |= value << shift;
        known_bits |= digit_bits << shift;
    }
    return rank;
}

/* Keep a token when fewer than k are more likely. */
static uint32_t keep_top_k(struct sampler *sampler, uint32_t count, int32_t k)
{
    if (k == 0 || (uint32_t)k >= count)
        return count;
    return keep_ranks_to(sampler, count, rank_reaching(sampler, count, (uint64_t)k, false));
}

/* Keep a token when the more likely ones have less than p of the mass together. */
static uint32_t keep_top_p(struct sampler *sampler, uint32_t count, float p)
{
    if (p >= 1)
        return count;
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct sampler_candidate *c = &sampler->candidates[i];
        c->mass = (uint64_t)(exp((double)c->z) * MASS_ONE);
        total += c->mass;
    }
    uint64_t target = (uint64_t)ceil((double)p * (double)total);
    return keep_ranks_to(sampler, count, rank_reaching(sampler, count, target, true));
}

/* Keep a token whose probability is at least p times that of the most likely one: exp(z) >= p. */
static uint32_t keep_min_p(struct sampler *sampler, uint32_t count, float p)
{
    if (p <= 0)
        return count;
    double least = log((double)p);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if ((double)sampler->candidates[i].z >= least)
            sampler->candidates[kept++] = sampler->candidates[i];
    return kept;
}

/* ---- the draw ---- */

/* Uniform in (0, 1), never an end; a function of its arguments alone. */
static double uniform(const struct sampling *sampling, uint32_t position, int32_t token_id)
{
    philox4x32_key_t key = {{(uint32_t)sampling->seed, (uint32_t)(sampling->seed >> 32)}};
    philox4x32_ctr_t counter = {{(uint32_t)token_id, position, sampling->branch, 0}};
    return (philox4x32(counter, key).v[0] + 0.5) * 0x1p-32;
}

static double gumbel(double u)
{
    return -log(-log(u));
}

/* Whether gumbel(u) may be `needed` or more, without a logarithm: that is u >= exp(-exp(-needed)), which
 * is at least 1 - exp(-needed), so 1 - u must not be above exp(-floor(needed)). Never wrong when it says no. */
static bool may_reach(const struct sampler *sampler, double u, double needed)
{
    return needed < 1 || 1 - u <= sampler->reach[(int)needed];
}

/* The token with the largest z + gumbel; lowest id on ties. Most of a large vocabulary is seen to lose
 * before its draw is worked out, some before it is made; that changes no result. */
static int32_t draw(const struct sampler *sampler, uint32_t count, const struct sampling *sampling,
                    uint32_t position, int32_t first_token)
{
    int32_t best = first_token;
    double best_score = gumbel(uniform(sampling, position, first_token));
    for (uint32_t i = 0; i < count; i++) {
        const struct sampler_candidate *c = &sampler->candidates[i];
        double needed = best_score - (double)c->z;
        if (needed >= SAMPLER_GUMBEL_MAX)
            continue;
        double u = uniform(sampling, position, c->token_id);
        if (!may_reach(sampler, u, needed))
            continue;
        double score = (double)c->z + gumbel(u);
        if (score > best_score || (score >= best_score && c->token_id < best)) {
            best = c->token_id;
            best_score = score;
        }
    }
    return best;
}

static enum llm_status nothing_finite(uint32_t position, struct llm_error *error)
{
    return llm_fail(error, LLM_ERR_CORRUPT,
                    "the model's logits for position %" PRIu32 " hold no finite number", position);
}

enum llm_status sampler_score(const struct sampler *sampler, const float *logits, int32_t token_id,
                              uint32_t position, float *out_logprob, struct llm_error *error)
{
    CHECK(token_id >= 0 && (uint32_t)token_id < sampler->vocab_size);
    int32_t best = most_likely(logits, sampler->vocab_size);
    if (best < 0)
        return nothing_finite(position, error);
    *out_logprob = isfinite(logits[token_id])
                       ? log_probability(logits, sampler->vocab_size, logits[best], token_id)
                       : -INFINITY;
    return LLM_OK;
}

enum llm_status sampler_choose(struct sampler *sampler, const float *logits,
                               const struct sampling *sampling, uint32_t position,
                               struct sampler_choice *out_choice, struct llm_error *error)
{
    int32_t chosen = most_likely(logits, sampler->vocab_size);
    if (chosen < 0)
        return nothing_finite(position, error);
    float largest = logits[chosen];
    if (sampling->temperature > 0) {
        uint32_t count = candidates_fill(sampler, logits, largest, sampling->temperature);
        count = keep_top_k(sampler, count, sampling->top_k);
        count = keep_top_p(sampler, count, sampling->top_p);
        count = keep_min_p(sampler, count, sampling->min_p);
        chosen = draw(sampler, count, sampling, position, chosen);
    }
    *out_choice = (struct sampler_choice){
        .token_id = chosen,
        .logprob = sampling->want_logprob
                       ? log_probability(logits, sampler->vocab_size, largest, chosen)
                       : 0.0f,
    };
    return LLM_OK;
}
