#include "daemon/sample/sampler.h"

#include "daemon/sample/wide.h"
#include "shm/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VOCAB_SIZE_MAX (UINT32_C(1) << 24) /* so many masses of 2^36 fit in 61 bits */
#define DIGIT_COUNT    3
#define DIGIT_VALUES   2048 /* of the widest digit, 11 bits */
#define DRAW_BLOCK     256

static enum llm_status take_scratch(struct sampler *sampler, uint32_t vocab_size)
{
    sampler->ids = malloc(vocab_size * sizeof *sampler->ids);
    sampler->z = malloc(vocab_size * sizeof *sampler->z);
    sampler->distance = malloc(vocab_size * sizeof *sampler->distance);
    sampler->mass = malloc(vocab_size * sizeof *sampler->mass);
    sampler->picked = malloc(vocab_size * sizeof *sampler->picked);
    sampler->histogram = malloc(DIGIT_VALUES * sizeof *sampler->histogram);
    bool all = sampler->ids && sampler->z && sampler->distance && sampler->mass &&
               sampler->picked && sampler->histogram;
    return all ? LLM_OK : LLM_ERR_MEMORY;
}

enum llm_status sampler_open(struct sampler *sampler, uint32_t vocab_size, struct llm_error *error)
{
    CHECK(vocab_size >= 1 && vocab_size <= VOCAB_SIZE_MAX);
    *sampler = (struct sampler){.vocab_size = vocab_size};
    enum llm_status status = take_scratch(sampler, vocab_size);
    if (status != LLM_OK)
        status =
            llm_fail(error, LLM_ERR_MEMORY,
                     "no memory to sample from a vocabulary of %" PRIu32 " tokens", vocab_size);
    if (status == LLM_OK)
        status = steer_open(&sampler->steer, vocab_size, error);
    if (status != LLM_OK) {
        sampler_close(sampler);
        return status;
    }
    for (int i = 0; i <= SAMPLER_GUMBEL_MAX; i++)
        sampler->reach[i] = exp(-(double)i) * (1 + 1e-9); /* more than any rounding */
    return LLM_OK;
}

void sampler_close(struct sampler *sampler)
{
    steer_close(&sampler->steer);
    free(sampler->ids);
    free(sampler->z);
    free(sampler->distance);
    free(sampler->mass);
    free(sampler->picked);
    free(sampler->histogram);
    *sampler = (struct sampler){0};
}

/* ---- the row as it came ---- */

/* Whether `a` goes before what is less likely: by logit, then by id. */
static bool goes_before(const float *logits, uint32_t a, uint32_t b)
{
    return logits[a] > logits[b] || (logits[a] >= logits[b] && a < b);
}

/* The `count` largest finite logits, largest first; returns how many there are. */
static uint32_t largest_few(const float *logits, uint32_t vocab_size, uint32_t count,
                            uint32_t out_ids[LLM_TOP_LOGPROBS_MAX])
{
    uint32_t have = 0;
    for (uint32_t v = 0; v < vocab_size; v++) {
        if (have == count && !(logits[v] > logits[out_ids[count - 1]]))
            continue; /* ids ascend, so an equal one comes too late */
        if (!isfinite(logits[v]))
            continue;
        uint32_t at = have < count ? have++ : count - 1;
        for (; at > 0 && goes_before(logits, v, out_ids[at - 1]); at--)
            out_ids[at] = out_ids[at - 1];
        out_ids[at] = v;
    }
    return have;
}

/* What all log-probabilities of a row need: log_softmax(logits)[v] = logits[v] - largest - log_sum. */
struct row_norm {
    double largest, log_sum;
};

static struct row_norm norm_of(const float *logits, uint32_t vocab_size, float largest)
{
    return (struct row_norm){(double)largest, log(wide_exp_sum(logits, vocab_size, largest))};
}

static float log_probability(const struct row_norm *norm, float logit)
{
    return isfinite(logit) ? (float)((double)logit - norm->largest - norm->log_sum) : -INFINITY;
}

static void fill_tops(const float *logits, uint32_t vocab_size, const struct row_norm *norm,
                      struct llm_top *out_tops, uint32_t top_count)
{
    uint32_t ids[LLM_TOP_LOGPROBS_MAX];
    CHECK(top_count <= LLM_TOP_LOGPROBS_MAX);
    uint32_t have = top_count > 0 ? largest_few(logits, vocab_size, top_count, ids) : 0;
    for (uint32_t i = 0; i < top_count; i++)
        out_tops[i] = i < have ? (struct llm_top){ids[i], log_probability(norm, logits[ids[i]])}
                               : (struct llm_top){UINT32_MAX, -INFINITY};
}

/* ---- filters: each keeps the first `count` tokens down to those with rank <= a threshold ---- */

/* What a filter looks at are floats without a sign, or all with it: their other bits are a rank, smaller is nearer to 0. z <= 0,
 * so the most likely token has rank 0. */
static uint32_t rank_of(float key)
{
    uint32_t bits;
    memcpy(&bits, &key, sizeof bits);
    return bits & 0x7fffffff;
}

/* Tokens at z = -infinity (a huge gap over a tiny temperature) have probability 0 and are left out. */
static uint32_t candidates_fill(struct sampler *sampler, const float *row, float largest,
                                float temperature)
{
    uint32_t count = 0;
    if (wide_scale(row, sampler->vocab_size, largest, temperature, sampler->z, sampler->ids) == 0)
        return sampler->vocab_size;
    for (uint32_t v = 0; v < sampler->vocab_size; v++) {
        bool keep = isfinite(sampler->z[v]);
        sampler->z[count] = sampler->z[v];
        sampler->ids[count] = sampler->ids[v];
        count += keep ? 1 : 0;
    }
    return count;
}

static uint32_t keep_ranks_to(struct sampler *sampler, const float *keys, uint32_t count,
                              uint32_t threshold)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool keep = rank_of(keys[i]) <= threshold;
        sampler->z[kept] = sampler->z[i];
        sampler->ids[kept] = sampler->ids[i];
        kept += keep ? 1 : 0;
    }
    return kept;
}

/* Weights per value of the digit of those tokens that `picked` [count] lists; NULL: all. */
static void weigh(struct sampler *sampler, const float *keys, const uint64_t *weights,
                  const uint32_t *picked, uint32_t count, uint32_t shift, uint32_t values)
{
    memset(sampler->histogram, 0, values * sizeof *sampler->histogram);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t token = picked ? picked[i] : i;
        sampler->histogram[rank_of(keys[token]) >> shift & (values - 1)] +=
            weights ? weights[token] : 1;
    }
}

/* Those of the list whose rank has `value` from bit `shift` on become the list. */
static uint32_t pick(struct sampler *sampler, const float *keys, bool all, uint32_t count,
                     uint32_t shift, uint32_t value)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t token = all ? i : sampler->picked[i];
        sampler->picked[kept] = token;
        kept += rank_of(keys[token]) >> shift == value ? 1 : 0;
    }
    return kept;
}

/*
 * The smallest rank r such that tokens of rank <= r weigh `target` (>= 1) or more together; they must do so in all. A radix
 * search: the histogram of the ranks' leading digits says in which digit the target is reached, and the next pass looks
 * only at the tokens there. `weights` NULL: each weighs 1.
 */
static uint32_t rank_reaching(struct sampler *sampler, const float *keys, const uint64_t *weights,
                              uint32_t count, uint64_t target)
{
    static const uint32_t shifts[DIGIT_COUNT] = {20, 10, 0},
                          values[DIGIT_COUNT] = {2048, 1024, 1024};
    uint32_t rank = 0;
    for (int digit = 0; digit < DIGIT_COUNT; digit++) {
        uint32_t value = 0;
        bool all = digit == 0;
        weigh(sampler, keys, weights, all ? NULL : sampler->picked, count, shifts[digit],
              values[digit]);
        for (; sampler->histogram[value] < target; value++) {
            target -= sampler->histogram[value];
            CHECK(value + 1 < values[digit]);
        }
        rank |= value << shifts[digit];
        count = pick(sampler, keys, all, count, shifts[digit], rank >> shifts[digit]);
    }
    return rank;
}

/* Keep a token when fewer than k are more likely. */
static uint32_t keep_top_k(struct sampler *sampler, uint32_t count, int32_t k)
{
    if (k == 0 || (uint32_t)k >= count)
        return count;
    uint32_t rank = rank_reaching(sampler, sampler->z, NULL, count, (uint64_t)k);
    return keep_ranks_to(sampler, sampler->z, count, rank);
}

/* The share p of all mass; at least 1. */
static uint64_t share_of(uint64_t total, float p)
{
    return (uint64_t)ceil((double)p * (double)total);
}

/* Keep a token when the more likely ones have less than p of the mass together. */
static uint32_t keep_top_p(struct sampler *sampler, uint32_t count, float p)
{
    if (p >= 1)
        return count;
    uint64_t total = wide_masses(sampler->z, count, sampler->mass);
    uint32_t rank = rank_reaching(sampler, sampler->z, sampler->mass, count, share_of(total, p));
    return keep_ranks_to(sampler, sampler->z, count, rank);
}

/* Keep a token whose probability is at least p times that of the most likely one: exp(z) >= p. */
static uint32_t keep_min_p(struct sampler *sampler, uint32_t count, float p)
{
    if (p <= 0)
        return count;
    double least = log((double)p);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool keep = (double)sampler->z[i] >= least;
        sampler->z[kept] = sampler->z[i];
        sampler->ids[kept] = sampler->ids[i];
        kept += keep ? 1 : 0;
    }
    return kept;
}

/*
 * Keep a token when those nearer to the typical one have less than p of the mass together (Meister et al. 2023, "Locally
 * typical sampling", arXiv:2202.00666). How near is | -log(probability) - entropy |, which is | z - mean of z |: the
 * normalisation is in both and goes away.
 */
static uint32_t keep_typical(struct sampler *sampler, uint32_t count, float p)
{
    if (p >= 1)
        return count;
    uint64_t total = wide_masses(sampler->z, count, sampler->mass);
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += (double)sampler->mass[i] * (double)sampler->z[i];
    double mean = sum / (double)total;
    for (uint32_t i = 0; i < count; i++)
        sampler->distance[i] = (float)fabs((double)sampler->z[i] - mean);
    uint32_t rank =
        rank_reaching(sampler, sampler->distance, sampler->mass, count, share_of(total, p));
    return keep_ranks_to(sampler, sampler->distance, count, rank);
}

static uint32_t filter(struct sampler *sampler, const struct sampling *sampling, uint32_t count)
{
    count = keep_top_k(sampler, count, sampling->top_k);
    count = keep_top_p(sampler, count, sampling->top_p);
    count = keep_min_p(sampler, count, sampling->min_p);
    if (sampling->steering)
        count = keep_typical(sampler, count, sampling->steering->steering.typical_p);
    return count;
}

/* ---- the draw ---- */

/* Uniform in (0, 1), never an end. */
static double uniform(uint32_t word)
{
    return (word + 0.5) * 0x1p-32;
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

static uint32_t likeliest_survivor(const struct sampler *sampler, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        if (sampler->z[i] > sampler->z[best])
            best = i;
    return best;
}

/* The survivor that leads so far. */
struct leader {
    int32_t id;
    double score;
};

static void challenge(const struct sampler *sampler, struct leader *leader, float z, int32_t id,
                      uint32_t word)
{
    double needed = leader->score - (double)z;
    double u = uniform(word);
    if (needed >= SAMPLER_GUMBEL_MAX || !may_reach(sampler, u, needed))
        return;
    double score = (double)z + gumbel(u);
    if (score > leader->score || (score >= leader->score && id < leader->id))
        *leader = (struct leader){id, score};
}

/* Those whom no draw could bring to `score`. */
static uint32_t drop_hopeless(struct sampler *sampler, uint32_t count, double score)
{
    float least = (float)(score - SAMPLER_GUMBEL_MAX) - 1e-3f; /* more than any rounding */
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool keep = sampler->z[i] >= least;
        sampler->z[kept] = sampler->z[i];
        sampler->ids[kept] = sampler->ids[i];
        kept += keep ? 1 : 0;
    }
    return kept;
}

/* The token with the largest z + gumbel; lowest id on ties. The likeliest is drawn first: most of a large vocabulary
 * is then seen to lose before its draw is made or a logarithm is taken, which changes no result. */
static int32_t draw(struct sampler *sampler, uint32_t count, const struct sampling *sampling,
                    uint32_t position)
{
    uint32_t words[DRAW_BLOCK], first = likeliest_survivor(sampler, count);
    wide_philox(&sampler->ids[first], 1, sampling->seed, position, sampling->branch, words);
    struct leader leader = {sampler->ids[first],
                            (double)sampler->z[first] + gumbel(uniform(words[0]))};
    count = drop_hopeless(sampler, count, leader.score);
    for (uint32_t from = 0; from < count; from += DRAW_BLOCK) {
        uint32_t here = count - from < DRAW_BLOCK ? count - from : DRAW_BLOCK;
        wide_philox(&sampler->ids[from], here, sampling->seed, position, sampling->branch, words);
        for (uint32_t i = 0; i < here; i++)
            challenge(sampler, &leader, sampler->z[from + i], sampler->ids[from + i], words[i]);
    }
    return leader.id;
}

/* ---- choosing ---- */

static enum llm_status nothing_finite(uint32_t position, struct llm_error *error)
{
    return llm_fail(error, LLM_ERR_CORRUPT,
                    "the model's logits for position %" PRIu32 " hold no finite number", position);
}

enum llm_status sampler_score(const struct sampler *sampler, const float *logits, int32_t token_id,
                              uint32_t position, float *out_logprob, struct llm_top *out_tops,
                              uint32_t top_count, struct llm_error *error)
{
    CHECK(token_id >= 0 && (uint32_t)token_id < sampler->vocab_size);
    float largest = wide_largest(logits, sampler->vocab_size);
    if (!isfinite(largest))
        return nothing_finite(position, error);
    struct row_norm norm = norm_of(logits, sampler->vocab_size, largest);
    *out_logprob = log_probability(&norm, logits[token_id]);
    fill_tops(logits, sampler->vocab_size, &norm, out_tops, top_count);
    return LLM_OK;
}

static int32_t choose(struct sampler *sampler, const float *row, float largest,
                      const struct sampling *sampling, uint32_t position)
{
    if (sampling->temperature <= 0)
        return (int32_t)wide_first(row, sampler->vocab_size, largest); /* the lowest id on ties */
    uint32_t count = candidates_fill(sampler, row, largest, sampling->temperature);
    count = filter(sampler, sampling, count);
    return draw(sampler, count, sampling, position);
}

enum llm_status sampler_choose(struct sampler *sampler, const float *logits,
                               const struct sampling *sampling, const struct sampler_past *past,
                               struct sampler_choice *out_choice, struct llm_top *out_tops,
                               struct llm_error *error)
{
    uint32_t top_count = out_tops ? sampling_top_count(sampling) : 0;
    float largest = wide_largest(logits, sampler->vocab_size);
    if (!isfinite(largest))
        return nothing_finite(past->position, error);
    const float *row = steer_row(&sampler->steer, logits, sampling, past);
    float steered = row == logits ? largest : wide_largest(row, sampler->vocab_size);
    if (!isfinite(steered))
        return llm_fail(error, LLM_ERR_INVALID,
                        "what the request forbids leaves no token to choose at position %" PRIu32,
                        past->position);
    int32_t token = choose(sampler, row, steered, sampling, past->position);
    *out_choice = (struct sampler_choice){.token_id = token};
    if (sampling->want_logprob || top_count > 0) {
        struct row_norm norm = norm_of(logits, sampler->vocab_size, largest);
        out_choice->logprob = sampling->want_logprob ? log_probability(&norm, logits[token]) : 0.0f;
        fill_tops(logits, sampler->vocab_size, &norm, out_tops, top_count);
    }
    return LLM_OK;
}
