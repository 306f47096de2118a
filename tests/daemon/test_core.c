/*
 * test_core.c - daemon/core/core: configuration, admission, a request's life in effects, cancel, recovery.
 * How: core_fixture.h; core_sane() holds after every call. What random programs do is the simulator's
 * (tests/sim/sim_core.c).
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/layout.h"
#include "tests/daemon/core_fixture.h"

static_assert((int)CORE_FINISH_NONE == (int)LLM_FINISH_NONE, "one numbering");
static_assert((int)CORE_FINISH_STOP_ID == (int)LLM_FINISH_STOP_ID, "one numbering");
static_assert((int)CORE_FINISH_STOP_STRING == (int)LLM_FINISH_STOP_STRING, "one numbering");
static_assert((int)CORE_FINISH_LENGTH == (int)LLM_FINISH_LENGTH, "one numbering");
static_assert((int)CORE_FINISH_CONTEXT == (int)LLM_FINISH_CONTEXT, "one numbering");
static_assert((int)CORE_FINISH_CANCELLED == (int)LLM_FINISH_CANCELLED, "one numbering");
static_assert((int)CORE_FINISH_FAILED == (int)LLM_FINISH_FAILED, "one numbering");

static struct core_fixture f;

static void setup(void)
{
    core_fixture_init(&f);
}

static void teardown(void)
{
    core_fixture_close(&f);
}

/* ---- Open ------------------------------------------------------------------------------------------- */

static const struct bad_value {
    const char *name;
    size_t offset; /* of a uint32_t in struct core_config, or in the model */
    bool of_model;
    uint32_t value;
} bad_values[] = {
    {"model_count", offsetof(struct core_config, model_count), false, 0},
    {"model_count", offsetof(struct core_config, model_count), false, CORE_MODELS_MAX + 1},
    {"slab_count", offsetof(struct core_config, slab_count), false, 0},
    {"slab_count", offsetof(struct core_config, slab_count), false, UINT32_MAX},
    {"request_slots", offsetof(struct core_config, request_slots), false, 0},
    {"request_slots", offsetof(struct core_config, request_slots), false, UINT32_MAX},
    {"running_max", offsetof(struct core_config, running_max), false, 0},
    {"running_max", offsetof(struct core_config, running_max), false,
     17}, /* more than step_tokens */
    {"user_running_max", offsetof(struct core_config, user_running_max), false, 0},
    {"user_running_max", offsetof(struct core_config, user_running_max), false, 5},
    {"step_tokens", offsetof(struct core_config, step_tokens), false, 0},
    {"queued_max", offsetof(struct core_config, queued_max), false, 0},
    {"queued_max", offsetof(struct core_config, queued_max), false, FIXTURE_SLOTS + 1},
    {"user_queued_max", offsetof(struct core_config, user_queued_max), false, 0},
    {"user_queued_max", offsetof(struct core_config, user_queued_max), false, 9},
    {"lag", offsetof(struct core_config, lag), false, CORE_LAG_MAX + 1},
    {"block_tokens", offsetof(struct core_model, block_tokens), true, 0},
    {"block_tokens", offsetof(struct core_model, block_tokens), true, CORE_BLOCK_TOKENS_MAX + 1},
    {"slab_blocks", offsetof(struct core_model, slab_blocks), true, 0},
    {"slab_blocks", offsetof(struct core_model, slab_blocks), true, UINT32_MAX},
    {"context_tokens_max", offsetof(struct core_model, context_tokens_max), true, 1},
    {"context_tokens_max", offsetof(struct core_model, context_tokens_max), true,
     FIXTURE_CONTEXT + 1},
};

START_TEST(value_out_of_range_is_named_with_its_range)
{
    const struct bad_value *bad = &bad_values[_i];
    unsigned char *base = bad->of_model ? (unsigned char *)&f.model : (unsigned char *)&f.config;
    memcpy(base + bad->offset, &bad->value, sizeof bad->value);
    struct llm_error error = {.message = ""};
    size_t bytes = 7;
    ck_assert_int_eq(core_bytes(&f.config, &bytes, &error), LLM_ERR_INVALID);
    ck_assert_uint_eq(bytes, 7); /* out-parameters survive a failure */
    ck_assert_msg(strstr(error.message, bad->name) != NULL, "%s", error.message);
    char value[16];
    snprintf(value, sizeof value, "is %u;", bad->value);
    ck_assert_msg(strstr(error.message, value) != NULL, "%s", error.message);
}
END_TEST

START_TEST(core_needs_exactly_the_bytes_it_asks_for)
{
    struct llm_error error;
    size_t bytes;
    ck_assert_int_eq(core_bytes(&f.config, &bytes, &error), LLM_OK);
    f.memory = aligned_alloc(ARENA_ALIGN_BYTES, bytes);
    memset(f.memory, 0, bytes);
    ck_assert_int_eq(core_open(&f.config, f.memory, bytes - 1, &f.core, &error), LLM_ERR_MEMORY);
    ck_assert_ptr_null(f.core);
    ck_assert_int_eq(core_open(&f.config, f.memory, bytes, &f.core, &error), LLM_OK);
    ck_assert_uint_eq(core_blocks(f.core), 16);
    ck_assert_uint_eq(core_counts(f.core).kv.free, 16);
    ck_assert(!core_fixture_plan(&f));
}
END_TEST

/* ---- Admission --------------------------------------------------------------------------------------- */

static const struct refusal {
    uint32_t slab_count, prompt_tokens, max_tokens;
    enum llm_status status;
    const char *says;
} refusals[] = {
    {8, 0, 1, LLM_ERR_INVALID, "the prompt is empty"},
    {8, 5, 0, LLM_ERR_INVALID, "max_tokens is 0"},
    {8, 64, 1, LLM_ERR_LIMIT, "the prompt has 64 tokens; the model's context of 64"},
    {8, UINT32_MAX, 1, LLM_ERR_LIMIT, "the prompt has 4294967295 tokens"},
    {8, 63, 1, LLM_OK, ""},         /* one token fits behind it */
    {8, 1, UINT32_MAX, LLM_OK, ""}, /* ends with the context: 63 rows, 16 blocks */
    {4, 30, 3, LLM_OK, ""},         /* 32 rows: the pool exactly; the last token has no row */
    {4, 30, 4, LLM_ERR_LIMIT, "34 tokens need 9 KV blocks of 4 tokens; the pool has 8"},
    {1, 8, 1, LLM_OK, ""},
    {1, 8, 2, LLM_ERR_LIMIT, "10 tokens need 3 KV blocks"},
};

START_TEST(request_that_can_never_run_is_refused_with_a_sentence)
{
    const struct refusal *row = &refusals[_i];
    f.config.slab_count = row->slab_count;
    core_fixture_open(&f);
    struct llm_error error = {.message = ""};
    ck_assert_int_eq(core_fixture_admit(&f, 0, 1, 1, row->prompt_tokens, row->max_tokens, &error),
                     row->status);
    ck_assert_msg(strstr(error.message, row->says) != NULL, "%s", error.message);
    ck_assert_int_eq(core_request_info(f.core, 0).phase,
                     row->status == LLM_OK ? CORE_PHASE_QUEUED : CORE_PHASE_FREE);
    core_fixture_drain(&f, 100); /* and what was admitted does run */
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_FINISHED), row->status == LLM_OK);
}
END_TEST

START_TEST(unknown_model_is_refused)
{
    core_fixture_open(&f);
    struct core_request request = {.model = 1, .prompt_tokens = 1, .max_tokens = 1};
    struct llm_error error;
    ck_assert_int_eq(core_admit(f.core, &request, 0, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "there is no model 1");
}
END_TEST

/* ---- The life of a request ----------------------------------------------------------------------------- */

START_TEST(effects_tell_a_request_s_whole_life_in_order)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 3, 1000, 1, 5, 4);
    core_fixture_drain(&f, 10);
    const enum core_effect_kind kinds[] = {
        CORE_REQUEST_STARTED, CORE_BLOCK_TAKEN,   CORE_BLOCK_TAKEN,   /* rows 0..4 */
        CORE_BLOCK_SEALED,    CORE_REQUEST_TOKEN, CORE_REQUEST_TOKEN, /* rows 5, 6 */
        CORE_REQUEST_TOKEN,   CORE_BLOCK_SEALED,  CORE_REQUEST_TOKEN, /* row 7 */
        CORE_REQUEST_FINISHED};
    ck_assert_uint_eq(f.log_count, sizeof kinds / sizeof kinds[0]);
    for (uint32_t i = 0; i < f.log_count; i++)
        ck_assert_msg(f.log[i].kind == kinds[i], "effect %u is of kind %d", i, f.log[i].kind);
    ck_assert_uint_eq(f.log[9].value, CORE_FINISH_LENGTH);
    for (uint32_t i = 0; i < 4; i++)
        ck_assert_uint_eq(f.ids[3][5 + i], 900005 + i);
    ck_assert_uint_eq(core_counts(f.core).kv.cached, 2);
    ck_assert_int_eq(core_request_info(f.core, 3).phase, CORE_PHASE_FREE);
}
END_TEST

START_TEST(partly_filled_block_is_kept_at_the_end)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 6, 1);
    core_fixture_drain(&f, 10);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_BLOCK_FREED), 0);
    ck_assert_uint_eq(core_counts(f.core).kv.cached, 2);
    ck_assert_uint_eq(core_counts(f.core).kv.free, 14);
    const struct core_effect *sealed = &f.log[f.log_count - 2]; /* before FINISHED */
    ck_assert_int_eq(sealed->kind, CORE_BLOCK_SEALED);
    struct core_block_info tail = core_block_info(f.core, sealed->block);
    ck_assert_uint_eq(tail.tokens, 2);
    ck_assert_uint_eq(tail.depth, 1);
    ck_assert_uint_eq(tail.domain, 1000);
    ck_assert_uint_eq(tail.ids[1], 1005);
}
END_TEST

static const struct ending {
    uint32_t prompt_tokens, max_tokens;
    enum core_finish engine_says;
    enum core_finish finish;
} endings[] = {
    {5, 1, CORE_FINISH_NONE, CORE_FINISH_LENGTH},
    {5, 1, CORE_FINISH_STOP_ID, CORE_FINISH_STOP_ID}, /* a stop outranks the length */
    {5, 9, CORE_FINISH_STOP_STRING, CORE_FINISH_STOP_STRING},
    {63, 1, CORE_FINISH_NONE, CORE_FINISH_LENGTH}, /* the length outranks the context */
    {63, 2, CORE_FINISH_NONE, CORE_FINISH_CONTEXT},
    {63, 2, CORE_FINISH_STOP_ID, CORE_FINISH_STOP_ID},
};

START_TEST(request_ends_for_the_first_reason_there_is)
{
    const struct ending *row = &endings[_i];
    f.config.step_tokens = 64; /* any prompt in one step */
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, row->prompt_tokens, row->max_tokens);
    f.finish[0] = row->engine_says;
    core_fixture_step(&f);
    uint32_t token = core_fixture_find(&f, CORE_REQUEST_TOKEN, 0, 0);
    uint32_t end = core_fixture_find(&f, CORE_REQUEST_FINISHED, 0, 0);
    ck_assert_uint_lt(token, end);
    ck_assert_uint_eq(f.log[end].value, row->finish);
    core_fixture_drain(&f, 1);
}
END_TEST

START_TEST(failed_step_gives_no_token_and_its_rows_are_not_kept)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 4);
    f.finish[0] = CORE_FINISH_FAILED;
    core_fixture_step(&f);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_TOKEN), 0);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_BLOCK_SEALED), 0);
    uint32_t end = core_fixture_find(&f, CORE_REQUEST_FINISHED, 0, 0);
    ck_assert_uint_eq(f.log[end].value, CORE_FINISH_FAILED);
    ck_assert_uint_eq(core_counts(f.core).kv.free, 16);
}
END_TEST

START_TEST(phases_follow_the_tokens)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 20, 4);
    ck_assert_int_eq(core_request_info(f.core, 0).phase, CORE_PHASE_QUEUED);
    core_fixture_step(&f);
    ck_assert_int_eq(core_request_info(f.core, 0).phase, CORE_PHASE_PREFILL);
    ck_assert_uint_eq(core_request_info(f.core, 0).computed_tokens, 16);
    core_fixture_step(&f);
    ck_assert_int_eq(core_request_info(f.core, 0).phase, CORE_PHASE_DECODE);
    ck_assert_uint_eq(core_request_info(f.core, 0).generated_tokens, 1);
    ck_assert_uint_eq(core_request_info(f.core, 0).blocks, 5);
}
END_TEST

/* ---- Reuse ------------------------------------------------------------------------------------------ */

static const struct reuse {
    uint32_t first_tokens, then_tokens, cached_tokens;
} reuses[] = {
    {9, 9, 8},  /* two full blocks; the last token is computed */
    {8, 8, 7},  /* somebody must give the logits: the second block's other rows are copied */
    {9, 8, 7},  /* shorter than what is there */
    {9, 20, 9}, /* longer: the tail's row is copied */
    {3, 3, 2},  /* no full block */
    {1, 1, 0},  /* nothing to leave out */
    {4, 5, 4},  /* exactly one */
};

START_TEST(second_prompt_reuses_what_is_there_and_computes_at_least_one_token)
{
    const struct reuse *row = &reuses[_i];
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, row->first_tokens, 1);
    core_fixture_drain(&f, 10);
    core_fixture_must_admit(&f, 1, 1000, 1, row->then_tokens, 2);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(f.plan.sequences[0].first_position, row->cached_tokens);
    ck_assert_uint_eq(core_request_info(f.core, 1).cached_tokens, row->cached_tokens);
    core_fixture_complete(&f);
    core_fixture_drain(&f, 10);
}
END_TEST

START_TEST(another_domain_reuses_nothing)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 1);
    core_fixture_drain(&f, 10);
    core_fixture_must_admit(&f, 1, 1001, 1, 9, 2);
    core_fixture_step(&f);
    ck_assert_uint_eq(core_request_info(f.core, 1).cached_tokens, 0);
}
END_TEST

START_TEST(answer_is_reused_by_the_next_turn_of_a_conversation)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 6, 7); /* 13 tokens, 12 of them computed */
    core_fixture_drain(&f, 10);
    memcpy(f.ids[1], f.ids[0], sizeof f.ids[0]);
    struct core_request next = {.uid = 1000,
                                .domains = &(uint64_t){1000},
                                .domain_count = 1,
                                .prompt_tokens = 15,
                                .max_tokens = 2};
    struct llm_error error;
    ck_assert_int_eq(core_admit(f.core, &next, 1, &error), LLM_OK);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(f.plan.sequences[0].first_position, 12);
    ck_assert_uint_eq(core_request_info(f.core, 1).cached_tokens, 12);
}
END_TEST

START_TEST(block_is_not_findable_before_its_step_is_done)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 4);
    ck_assert(core_fixture_plan(&f));
    core_fixture_must_admit(&f, 1, 1000, 1, 9, 4); /* while the plan is out */
    ck_assert_uint_eq(core_fixture_count(&f, CORE_BLOCK_SEALED), 0);
    core_fixture_complete(&f);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(core_fixture_sequence(&f, 1)->first_position, 8);
    ck_assert_uint_eq(core_fixture_sequence(&f, 1)->blocks[0],
                      core_fixture_sequence(&f, 0)->blocks[0]);
}
END_TEST

/* ---- Cancel ----------------------------------------------------------------------------------------- */

START_TEST(waiting_and_running_requests_are_cancelled_at_once)
{
    f.config.running_max = 1;
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 9);
    core_fixture_must_admit(&f, 1, 1000, 2, 9, 9);
    core_fixture_step(&f);
    for (uint32_t slot = 0; slot < 2; slot++) {
        ck_assert(core_fixture_cancel(&f, slot));
        uint32_t end = core_fixture_find(&f, CORE_REQUEST_FINISHED, slot, 0);
        ck_assert_uint_eq(f.log[end].value, CORE_FINISH_CANCELLED);
    }
    ck_assert_uint_eq(core_counts(f.core).kv.held, 0);
    ck_assert(!core_fixture_cancel(&f, 0));
    ck_assert(!core_fixture_cancel(&f, 2));
}
END_TEST

START_TEST(request_in_the_plan_is_cancelled_when_the_step_is_done_and_gets_no_token)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 9);
    ck_assert(core_fixture_plan(&f));
    ck_assert(core_fixture_cancel(&f, 0));
    ck_assert(core_fixture_cancel(&f, 0)); /* twice is as good as once */
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_FINISHED), 0);
    core_fixture_complete(&f);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_TOKEN), 0);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_FINISHED), 1);
    ck_assert_uint_eq(core_counts(f.core).kv.cached, 3); /* its rows were computed all the same */
}
END_TEST

START_TEST(cancel_of_one_sharer_leaves_the_other_its_blocks)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 9);
    core_fixture_step(&f);
    core_fixture_must_admit(&f, 1, 1000, 1, 9, 9);
    core_fixture_step(&f);
    ck_assert(core_fixture_cancel(&f, 0));
    ck_assert_uint_eq(core_counts(f.core).kv.held, 3);
    core_fixture_drain(&f, 20);
    core_fixture_find(&f, CORE_REQUEST_TOKEN, 1, 8);
}
END_TEST

/* ---- After an engine's death ----------------------------------------------------------------------------- */

#define SAVED_MAX 16u
struct saved {
    block_id block;
    struct core_block_info info;
    uint32_t ids[4];
};

/* Compute 13 tokens, keep what is sealed as the tables would, and open a new core. */
static uint32_t save_and_restart(struct saved *saved)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 13, 1);
    core_fixture_drain(&f, 10);
    uint32_t count = 0;
    for (uint32_t i = 0; i < f.log_count; i++)
        if (f.log[i].kind == CORE_BLOCK_SEALED) {
            struct saved *s = &saved[count++];
            s->block = f.log[i].block;
            s->info = core_block_info(f.core, s->block);
            memcpy(s->ids, s->info.ids, sizeof s->ids);
            s->info.ids = s->ids;
        }
    core_fixture_close(&f);
    f.log_count = 0;
    core_fixture_open(&f);
    return count;
}

static enum llm_status adopt(const struct saved *saved, struct llm_error *error)
{
    enum llm_status status = core_adopt_block(f.core, saved->block, &saved->info, error);
    core_fixture_log(&f);
    return status;
}

START_TEST(adopted_blocks_are_found_again)
{
    struct saved saved[SAVED_MAX];
    struct llm_error error = {.message = ""};
    ck_assert_uint_eq(save_and_restart(saved), 4); /* the last has one row */
    for (uint32_t i = 0; i < 4; i++)
        ck_assert_msg(adopt(&saved[i], &error) == LLM_OK, "%s", error.message);
    ck_assert_uint_eq(core_counts(f.core).kv.cached, 4);
    core_fixture_must_admit(&f, 0, 1000, 1, 13, 1);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(f.plan.sequences[0].first_position, 12);
    for (uint32_t i = 0; i < 3; i++)
        ck_assert_uint_eq(f.plan.sequences[0].blocks[i], saved[i].block);
}
END_TEST

START_TEST(block_that_does_not_hold_together_is_not_adopted)
{
    struct saved saved[SAVED_MAX];
    struct llm_error error;
    save_and_restart(saved);
    ck_assert_int_eq(adopt(&saved[1], &error), LLM_ERR_NOT_FOUND); /* its parent is not there yet */

    struct saved bad = saved[0];
    bad.info.ids = bad.ids;
    bad.ids[2] ^= 1;
    ck_assert_int_eq(adopt(&bad, &error), LLM_ERR_CORRUPT);
    for (uint32_t tokens = 0; tokens <= 5; tokens++) {
        bad = saved[0];
        bad.info.tokens = tokens;
        if (tokens != 4)
            ck_assert_int_eq(adopt(&bad, &error),
                             tokens % 5 == 0 ? LLM_ERR_INVALID : LLM_ERR_CORRUPT);
    }
    bad = saved[0];
    bad.info.model = 1;
    ck_assert_int_eq(adopt(&bad, &error), LLM_ERR_INVALID);
    bad = saved[0];
    bad.block = 16;
    ck_assert_int_eq(adopt(&bad, &error), LLM_ERR_INVALID);
    ck_assert_uint_eq(core_counts(f.core).kv.free, 16);

    ck_assert_int_eq(adopt(&saved[0], &error), LLM_OK);
    ck_assert_int_eq(adopt(&saved[0], &error), LLM_ERR_BUSY);
    bad = saved[1];
    bad.block = saved[0].block;
    ck_assert_int_eq(adopt(&bad, &error), LLM_ERR_BUSY);
    bad = saved[1];
    bad.info.depth = 2;
    ck_assert_int_eq(adopt(&bad, &error), LLM_ERR_NOT_FOUND);
    bad = saved[1];
    bad.info.domain = 1001; /* who may not read what comes before it */
    ck_assert_int_eq(adopt(&bad, &error), LLM_ERR_NOT_FOUND);
    ck_assert_int_eq(adopt(&saved[1], &error), LLM_OK);
}
END_TEST

START_TEST(blocks_of_other_weights_are_orphans)
{
    struct saved saved[SAVED_MAX];
    struct llm_error error;
    f.model.identity[1] = 7;
    save_and_restart(saved);
    core_fixture_close(&f);
    f.model.identity[1] = 8;
    core_fixture_open(&f);
    ck_assert_int_eq(adopt(&saved[0], &error), LLM_ERR_NOT_FOUND);
    ck_assert_int_eq(adopt(&saved[1], &error), LLM_ERR_NOT_FOUND);
}
END_TEST

START_TEST(recovered_request_goes_on_behind_its_published_tokens)
{
    core_fixture_open(&f);
    for (uint32_t i = 0; i < 9; i++)
        f.ids[0][i] = i;
    struct core_request request = {.uid = 1000,
                                   .domains = &(uint64_t){1000},
                                   .domain_count = 1,
                                   .prompt_tokens = 5,
                                   .generated_tokens = 4,
                                   .max_tokens = 6,
                                   .recovered = true};
    struct llm_error error;
    ck_assert_int_eq(core_admit(f.core, &request, 0, &error), LLM_OK);
    core_fixture_log(&f);
    core_fixture_drain(&f, 10);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_TOKEN), 2);
    ck_assert_uint_eq(f.ids[0][9], 900009);
}
END_TEST

START_TEST(recovered_request_that_has_all_its_tokens_finishes_at_once)
{
    core_fixture_open(&f);
    struct core_request request = {.domains = &(uint64_t){1000},
                                   .domain_count = 1,
                                   .prompt_tokens = 5,
                                   .generated_tokens = 6,
                                   .max_tokens = 6,
                                   .recovered = true};
    struct llm_error error;
    ck_assert_int_eq(core_admit(f.core, &request, 0, &error), LLM_OK);
    core_fixture_log(&f);
    ck_assert_uint_eq(f.log[core_fixture_find(&f, CORE_REQUEST_FINISHED, 0, 0)].value,
                      CORE_FINISH_LENGTH);
    ck_assert_int_eq(core_request_info(f.core, 0).phase, CORE_PHASE_FREE);
    request.generated_tokens = 7;
    ck_assert_int_eq(core_admit(f.core, &request, 0, &error), LLM_ERR_INVALID);
}
END_TEST

/* ---- Calls out of order are our own bugs ---------------------------------------------------------------- */

START_TEST(call_before_the_effects_were_taken_stops_the_process)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 9);
    struct core_plan plan;
    (void)core_plan(f.core, &plan);
    (void)core_cancel(f.core, 0, CORE_FINISH_CANCELLED);
}
END_TEST

START_TEST(second_plan_before_the_first_is_complete_stops_the_process)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 9);
    core_fixture_plan(&f);
    core_fixture_plan(&f);
}
END_TEST

START_TEST(plan_of_another_step_stops_the_process)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 9);
    core_fixture_step(&f);
    core_fixture_complete(&f);
}
END_TEST

START_TEST(admission_into_a_taken_slot_stops_the_process)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 9);
    core_fixture_must_admit(&f, 0, 1000, 1, 9, 9);
}
END_TEST

START_TEST(slot_out_of_range_stops_the_process)
{
    core_fixture_open(&f);
    (void)core_request_info(f.core, FIXTURE_SLOTS);
}
END_TEST

static TCase *cases(void)
{
    TCase *tc = tcase_create("core");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, value_out_of_range_is_named_with_its_range, 0,
                        (int)(sizeof bad_values / sizeof bad_values[0]));
    tcase_add_test(tc, core_needs_exactly_the_bytes_it_asks_for);
    tcase_add_loop_test(tc, request_that_can_never_run_is_refused_with_a_sentence, 0,
                        (int)(sizeof refusals / sizeof refusals[0]));
    tcase_add_test(tc, unknown_model_is_refused);
    tcase_add_test(tc, effects_tell_a_request_s_whole_life_in_order);
    tcase_add_test(tc, partly_filled_block_is_kept_at_the_end);
    tcase_add_loop_test(tc, request_ends_for_the_first_reason_there_is, 0,
                        (int)(sizeof endings / sizeof endings[0]));
    tcase_add_test(tc, failed_step_gives_no_token_and_its_rows_are_not_kept);
    tcase_add_test(tc, phases_follow_the_tokens);
    tcase_add_loop_test(tc, second_prompt_reuses_what_is_there_and_computes_at_least_one_token, 0,
                        (int)(sizeof reuses / sizeof reuses[0]));
    tcase_add_test(tc, another_domain_reuses_nothing);
    tcase_add_test(tc, answer_is_reused_by_the_next_turn_of_a_conversation);
    tcase_add_test(tc, block_is_not_findable_before_its_step_is_done);
    tcase_add_test(tc, waiting_and_running_requests_are_cancelled_at_once);
    tcase_add_test(tc, request_in_the_plan_is_cancelled_when_the_step_is_done_and_gets_no_token);
    tcase_add_test(tc, cancel_of_one_sharer_leaves_the_other_its_blocks);
    tcase_add_test(tc, adopted_blocks_are_found_again);
    tcase_add_test(tc, block_that_does_not_hold_together_is_not_adopted);
    tcase_add_test(tc, blocks_of_other_weights_are_orphans);
    tcase_add_test(tc, recovered_request_goes_on_behind_its_published_tokens);
    tcase_add_test(tc, recovered_request_that_has_all_its_tokens_finishes_at_once);
    tcase_add_test_raise_signal(tc, call_before_the_effects_were_taken_stops_the_process, SIGABRT);
    tcase_add_test_raise_signal(tc, second_plan_before_the_first_is_complete_stops_the_process,
                                SIGABRT);
    tcase_add_test_raise_signal(tc, plan_of_another_step_stops_the_process, SIGABRT);
    tcase_add_test_raise_signal(tc, admission_into_a_taken_slot_stops_the_process, SIGABRT);
    tcase_add_test_raise_signal(tc, slot_out_of_range_stops_the_process, SIGABRT);
    return tc;
}

int main(void)
{
    Suite *suite = suite_create("daemon/core");
    suite_add_tcase(suite, cases());
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
