#include "tests/daemon/core_fixture.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a (Fowler, Noll, Vo), widened by a second pass. */
static void hash_ids(void *self, const uint8_t parent[CHAIN_BYTES], const uint32_t *ids,
                     uint32_t count, uint8_t out[CHAIN_BYTES])
{
    (void)self;
    uint64_t state[2] = {UINT64_C(0xcbf29ce484222325), UINT64_C(0x84222325cbf29ce4)};
    for (int half = 0; half < 2; half++) {
        for (uint32_t i = 0; i < CHAIN_BYTES; i++)
            state[half] = (state[half] ^ parent[i]) * UINT64_C(0x100000001b3);
        for (uint32_t i = 0; i < count; i++)
            state[half] = (state[half] ^ ids[i]) * UINT64_C(0x100000001b3);
    }
    memcpy(out, state, sizeof state);
}

void core_fixture_init(struct core_fixture *f)
{
    memset(f, 0, sizeof *f);
    f->model = (struct core_model){
        .identity = {1, 2, 3}, .block_tokens = 4, .slab_blocks = 2, .context_tokens_max = 64};
    f->config = (struct core_config){.models = &f->model,
                                     .model_count = 1,
                                     .slab_count = 8,
                                     .request_slots = FIXTURE_SLOTS,
                                     .running_max = 4,
                                     .user_running_max = 4,
                                     .step_tokens = 16,
                                     .queued_max = 8,
                                     .user_queued_max = 6,
                                     .ids = &f->ids[0][0],
                                     .ids_stride_words = FIXTURE_CONTEXT,
                                     .hash = {hash_ids, NULL}};
}

void core_fixture_open(struct core_fixture *f)
{
    struct llm_error error = {.message = ""};
    size_t bytes = 0;
    if (f->config.user_running_max > f->config.running_max)
        f->config.user_running_max = f->config.running_max;
    ck_assert_msg(core_bytes(&f->config, &bytes, &error) == LLM_OK, "%s", error.message);
    f->memory = aligned_alloc(ARENA_ALIGN_BYTES, bytes);
    ck_assert_ptr_nonnull(f->memory);
    memset(f->memory, 0, bytes);
    ck_assert_msg(core_open(&f->config, f->memory, bytes, &f->core, &error) == LLM_OK, "%s",
                  error.message);
}

void core_fixture_close(struct core_fixture *f)
{
    free(f->memory);
    f->memory = NULL;
}

void core_fixture_log(struct core_fixture *f)
{
    uint32_t count;
    const struct core_effect *effects = core_effects(f->core, &count);
    ck_assert_uint_le(f->log_count + count, FIXTURE_LOG);
    memcpy(f->log + f->log_count, effects, count * sizeof *effects);
    f->log_count += count;
    struct llm_error error = {.message = ""};
    ck_assert_msg(core_sane(f->core, &error) == LLM_OK, "%s", error.message);
}

enum llm_status core_fixture_admit(struct core_fixture *f, uint32_t slot, uint32_t uid,
                                   uint32_t document, uint32_t prompt_tokens, uint32_t max_tokens,
                                   struct llm_error *error)
{
    for (uint32_t i = 0; i < prompt_tokens && i < FIXTURE_CONTEXT; i++)
        f->ids[slot][i] = document * 1000 + i;
    struct core_request request = f->terms;
    request.uid = uid;
    request.domains = &(uint64_t){uid};
    request.domain_count = 1;
    request.prompt_tokens = prompt_tokens;
    request.max_tokens = max_tokens;
    return core_fixture_ask(f, slot, &request, error);
}

enum llm_status core_fixture_ask(struct core_fixture *f, uint32_t slot,
                                 const struct core_request *request, struct llm_error *error)
{
    struct core_request own = *request;
    ck_assert_uint_le(request->domain_count, FIXTURE_DOMAINS);
    memcpy(f->domains[slot], request->domains, request->domain_count * sizeof *request->domains);
    own.domains = f->domains[slot];
    own.request_id = ++f->next_id;
    enum llm_status status = core_admit(f->core, &own, slot, error);
    core_fixture_log(f);
    return status;
}

void core_fixture_must_admit(struct core_fixture *f, uint32_t slot, uint32_t uid, uint32_t document,
                             uint32_t prompt_tokens, uint32_t max_tokens)
{
    struct llm_error error = {.message = ""};
    ck_assert_msg(core_fixture_admit(f, slot, uid, document, prompt_tokens, max_tokens, &error) ==
                      LLM_OK,
                  "%s", error.message);
}

bool core_fixture_cancel(struct core_fixture *f, uint32_t slot)
{
    bool found = core_cancel(f->core, slot, CORE_FINISH_CANCELLED);
    core_fixture_log(f);
    return found;
}

bool core_fixture_plan(struct core_fixture *f)
{
    f->plan = (struct core_plan){.step = 0};
    bool planned = core_plan(f->core, &f->plan);
    core_fixture_log(f);
    return planned;
}

void core_fixture_complete(struct core_fixture *f)
{
    struct core_result results[FIXTURE_SLOTS];
    for (uint32_t i = 0; i < f->plan.sequence_count; i++) {
        const struct core_sequence *s = &f->plan.sequences[i];
        uint32_t slot = s->slot;
        results[i] = (struct core_result){.token = 900000 + s->first_position + s->token_count,
                                          .finish = f->finish[slot]};
        f->finish[slot] = CORE_FINISH_NONE;
    }
    core_complete(f->core, &f->plan, results);
    core_fixture_log(f);
}

uint32_t core_fixture_step(struct core_fixture *f)
{
    if (!core_fixture_plan(f))
        return 0;
    uint32_t tokens = f->plan.token_count;
    core_fixture_complete(f);
    return tokens;
}

void core_fixture_drain(struct core_fixture *f, uint32_t steps_max)
{
    for (uint32_t step = 0; core_fixture_step(f) > 0; step++)
        ck_assert_uint_lt(step, steps_max);
    struct core_counts counts = core_counts(f->core);
    ck_assert_uint_eq(counts.running + counts.queued, 0);
    ck_assert_uint_eq(counts.kv.held, 0);
}

const struct core_sequence *core_fixture_sequence(const struct core_fixture *f, uint32_t slot)
{
    for (uint32_t i = 0; i < f->plan.sequence_count; i++)
        if (f->plan.sequences[i].slot == slot)
            return &f->plan.sequences[i];
    return NULL;
}

uint32_t core_fixture_count(const struct core_fixture *f, enum core_effect_kind kind)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < f->log_count; i++)
        count += f->log[i].kind == kind;
    return count;
}

uint32_t core_fixture_find(const struct core_fixture *f, enum core_effect_kind kind, uint32_t slot,
                           uint32_t n)
{
    for (uint32_t i = 0; i < f->log_count; i++)
        if (f->log[i].kind == kind && f->log[i].slot == slot && n-- == 0)
            return i;
    ck_abort_msg("no effect of kind %d for slot %u", kind, slot);
    return 0;
}
