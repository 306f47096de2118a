#include "daemon/sample/steer.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum llm_status steer_open(struct steer *steer, uint32_t vocab_size, struct llm_error *error)
{
    *steer = (struct steer){.vocab_size = vocab_size};
    steer->row = malloc(vocab_size * sizeof *steer->row);
    steer->counts = calloc(vocab_size, sizeof *steer->counts);
    if (steer->row != NULL && steer->counts != NULL)
        return LLM_OK;
    steer_close(steer);
    return llm_fail(error, LLM_ERR_MEMORY, "no memory to steer a vocabulary of %" PRIu32 " tokens",
                    vocab_size);
}

void steer_close(struct steer *steer)
{
    free(steer->row);
    free(steer->counts);
    *steer = (struct steer){0};
}

/* ---- Sums and factors ------------------------------------------------------------------------------ */

static void add_biases(struct steer *steer, const struct llm_steering_record *s)
{
    for (uint32_t i = 0; i < s->steering.bias_count; i++)
        steer->row[s->biases[i].token] += s->biases[i].bias;
}

/* Occurrences of ids[from..to), until uncount(). */
static void count(struct steer *steer, const uint32_t *ids, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        if (ids[i] < steer->vocab_size)
            steer->counts[ids[i]]++;
}

/* The number of times, once; 0 for the next who asks, and for what is no id. */
static uint32_t uncount(struct steer *steer, uint32_t id)
{
    if (id >= steer->vocab_size)
        return 0;
    uint32_t times = steer->counts[id];
    steer->counts[id] = 0;
    return times;
}

static void penalise_repetition(struct steer *steer, float penalty, const struct sampler_past *past)
{
    count(steer, past->ids, 0, past->position);
    for (uint32_t i = 0; i < past->position; i++) {
        if (uncount(steer, past->ids[i]) == 0)
            continue;
        float *logit = &steer->row[past->ids[i]];
        *logit = *logit > 0 ? *logit / penalty : *logit * penalty;
    }
}

static void penalise_use(struct steer *steer, const struct llm_steering *s,
                         const struct sampler_past *past)
{
    count(steer, past->ids, past->prompt_tokens, past->position);
    for (uint32_t i = past->prompt_tokens; i < past->position; i++) {
        uint32_t times = uncount(steer, past->ids[i]);
        if (times == 0)
            continue;
        steer->row[past->ids[i]] -= s->frequency_penalty * (float)times;
        steer->row[past->ids[i]] -= s->presence_penalty;
    }
}

/* ---- What cannot be chosen ------------------------------------------------------------------------- */

static void forbid_ends(struct steer *steer, const struct sampling *sampling)
{
    for (uint32_t i = 0; i < sampling->eos_id_count; i++)
        if (sampling->eos_ids[i] < steer->vocab_size)
            steer->row[sampling->eos_ids[i]] = -INFINITY;
    for (uint32_t i = 0; i < sampling->stop_id_count; i++)
        steer->row[sampling->stop_ids[i]] = -INFINITY;
}

static void forbid_banned(struct steer *steer, const struct llm_steering_record *s)
{
    for (uint32_t i = 0; i < s->steering.banned_id_count; i++)
        steer->row[s->banned_ids[i]] = -INFINITY;
}

static void forbid_all_but_allowed(struct steer *steer, const struct llm_steering_record *s)
{
    float kept[LLM_ALLOWED_IDS_MAX];
    if (s->steering.allowed_id_count == 0)
        return;
    for (uint32_t i = 0; i < s->steering.allowed_id_count; i++)
        kept[i] = steer->row[s->allowed_ids[i]];
    for (uint32_t v = 0; v < steer->vocab_size; v++)
        steer->row[v] = -INFINITY;
    for (uint32_t i = 0; i < s->steering.allowed_id_count; i++)
        steer->row[s->allowed_ids[i]] = kept[i];
}

/* ---- The row --------------------------------------------------------------------------------------- */

static bool ends_are_forbidden(const struct llm_steering *s, const struct sampler_past *past)
{
    return past->position - past->prompt_tokens < s->min_tokens;
}

/* Exactly 1 and 0 are off. */
static bool penalises_repetition(const struct llm_steering *s)
{
    return s->repetition_penalty < 1 || s->repetition_penalty > 1;
}

static bool penalises_use(const struct llm_steering *s)
{
    return fabsf(s->frequency_penalty) > 0 || fabsf(s->presence_penalty) > 0;
}

const float *steer_row(struct steer *steer, const float *logits, const struct sampling *sampling,
                       const struct sampler_past *past)
{
    const struct llm_steering_record *record = sampling->steering;
    if (!record)
        return logits;
    const struct llm_steering *s = &record->steering;
    bool ends = ends_are_forbidden(s, past);
    if (s->bias_count == 0 && s->banned_id_count == 0 && s->allowed_id_count == 0 && !ends &&
        !penalises_repetition(s) && !penalises_use(s))
        return logits;
    memcpy(steer->row, logits, steer->vocab_size * sizeof *logits);
    add_biases(steer, record);
    if (penalises_repetition(s))
        penalise_repetition(steer, s->repetition_penalty, past);
    if (penalises_use(s))
        penalise_use(steer, s, past);
    if (ends)
        forbid_ends(steer, sampling);
    forbid_banned(steer, record);
    forbid_all_but_allowed(steer, record);
    return steer->row;
}
