/*
 * test_core_kv.c - daemon/core: whose blocks are found, tails and copies, scores, computed prompts, pins, probes.
 * How: core_fixture.h with blocks of 4 tokens; each test reads plans, effects and counts. What random programs do is
 * the simulator's (tests/sim/sim_core.c).
 */
#include <check.h>
#include <signal.h>
#include <stdalign.h>
#include <string.h>

#include "shm/layout.h"
#include "tests/daemon/core_fixture.h"

static_assert((int)CORE_PROBE_HIT == (int)LLM_PROBE_HIT, "one numbering");
static_assert((int)CORE_PROBE_COPY == (int)LLM_PROBE_COPY, "one numbering");
static_assert((int)CORE_PROBE_BEING_MADE == (int)LLM_PROBE_BEING_MADE, "one numbering");
static_assert((int)CORE_PROBE_MISS == (int)LLM_PROBE_MISS, "one numbering");
static_assert((int)CORE_PROBE_FOREIGN == (int)LLM_PROBE_FOREIGN, "one numbering");

static struct core_fixture f;

static void setup(void)
{
    core_fixture_init(&f);
    f.config.hold_slots = 2;
    f.config.score_rows = 3;
}

static void teardown(void)
{
    core_fixture_close(&f);
}

#define ALICE 1000u
#define BOB   1001u
#define GROUP (UINT64_C(1) << 32 | 7)
#define OTHER (UINT64_C(1) << 32 | 8)
#define ALL   (UINT64_C(2) << 32)

/* Tokens of document 1, of which those from `differs` on are another's. */
static void write_ids(uint32_t slot, uint32_t differs, uint32_t other)
{
    for (uint32_t i = 0; i < FIXTURE_CONTEXT; i++)
        f.ids[slot][i] = (i < differs ? 1000 : other * 1000) + i;
}

static void ask(uint32_t slot, struct core_request request)
{
    struct llm_error error = {.message = ""};
    const uint64_t own = request.uid;
    if (request.domain_count == 0) {
        request.domains = &own; /* copied before this returns */
        request.domain_count = 1;
    }
    ck_assert_msg(core_fixture_ask(&f, slot, &request, &error) == LLM_OK, "%s", error.message);
}

/* One token behind `prompt_tokens` ids, alone; returns the rows it found. */
static uint32_t run_alone(uint32_t slot, uint32_t uid, const uint64_t *domains,
                          uint32_t domain_count, uint32_t prompt_tokens)
{
    ask(slot, (struct core_request){.uid = uid,
                                    .domains = domains,
                                    .domain_count = domain_count,
                                    .prompt_tokens = prompt_tokens,
                                    .max_tokens = 1});
    ck_assert(core_fixture_plan(&f));
    uint32_t found = f.plan.sequences[0].first_position;
    core_fixture_complete(&f);
    core_fixture_drain(&f, 20);
    return found;
}

static const struct core_effect *effect_of(enum core_effect_kind kind, uint32_t n)
{
    for (uint32_t i = 0; i < f.log_count; i++)
        if (f.log[i].kind == kind && n-- == 0)
            return &f.log[i];
    ck_abort_msg("no such effect of kind %d", kind);
    return NULL;
}

/* ---- Tails ------------------------------------------------------------------------------------------ */

START_TEST(leading_rows_of_a_block_that_goes_on_differently_are_copied)
{
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    (void)run_alone(0, ALICE, NULL, 0, 8);
    write_ids(1, 6, 2);
    f.log_count = 0;
    ck_assert_uint_eq(run_alone(1, ALICE, NULL, 0, 10), 6);
    const struct core_effect *copied = effect_of(CORE_BLOCK_COPIED, 0);
    ck_assert_ptr_eq(copied - 1, effect_of(CORE_BLOCK_TAKEN, 0)); /* into the one just taken */
    ck_assert_uint_eq(copied->block, (copied - 1)->block);
    ck_assert_uint_eq(core_block_info(f.core, copied->value).ids[2], 1006);
    ck_assert_uint_eq(core_block_info(f.core, copied->block).ids[2], 2006);
    ck_assert_uint_eq(core_block_info(f.core, copied->block).ids[1], 1005);
}
END_TEST

START_TEST(conversation_keeps_one_tail)
{
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    for (uint32_t tokens = 5; tokens < 20; tokens++) {
        uint32_t found = run_alone(0, ALICE, NULL, 0, tokens);
        ck_assert_uint_eq(found, tokens == 5 ? 0 : tokens - 1);
        ck_assert_uint_eq(core_counts(f.core).kv.cached, (tokens + 3) / 4);
    }
}
END_TEST

START_TEST(equal_tail_is_kept_once)
{
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    for (int i = 0; i < 3; i++) {
        (void)run_alone(0, ALICE, NULL, 0, 7);
        ck_assert_uint_eq(core_counts(f.core).kv.cached, 2);
    }
    (void)run_alone(0, ALICE, NULL, 0, 6); /* a shorter one is a part of it */
    ck_assert_uint_eq(core_counts(f.core).kv.cached, 2);
}
END_TEST

START_TEST(forks_cost_a_tail_each)
{
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    (void)run_alone(0, ALICE, NULL, 0, 10);
    for (uint32_t fork = 1; fork <= 4; fork++) {
        write_ids(0, 10, fork + 1);
        ck_assert_uint_eq(run_alone(0, ALICE, NULL, 0, 11), 10);
        ck_assert_uint_eq(core_counts(f.core).kv.cached, 2 + fork);
    }
}
END_TEST

START_TEST(tail_of_a_failed_step_is_not_kept)
{
    core_fixture_open(&f);
    core_fixture_must_admit(&f, 0, ALICE, 1, 6, 4);
    core_fixture_step(&f);
    f.finish[0] = CORE_FINISH_FAILED;
    core_fixture_step(&f);
    ck_assert_uint_eq(core_counts(f.core).kv.cached, 1);
}
END_TEST

/* ---- Domains ---------------------------------------------------------------------------------------- */

START_TEST(owner_who_uses_private_blocks_in_a_group_widens_them)
{
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    (void)run_alone(0, ALICE, NULL, 0, 9);
    f.log_count = 0;
    ck_assert_uint_eq(run_alone(0, ALICE, (const uint64_t[]){GROUP, ALICE, ALL}, 3, 9), 8);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_BLOCK_WIDENED), 3); /* at last the equal tail */
    struct core_block_info first = core_block_info(f.core, effect_of(CORE_BLOCK_WIDENED, 0)->block);
    ck_assert_uint_eq(first.depth, 0); /* parents first */
    ck_assert_uint_eq(first.domain, GROUP);
    ck_assert_uint_eq(effect_of(CORE_BLOCK_WIDENED, 1)->domain, GROUP);
    ck_assert_uint_eq(run_alone(0, BOB, (const uint64_t[]){BOB, GROUP, ALL}, 3, 9), 8);
    ck_assert_uint_eq(run_alone(0, BOB, (const uint64_t[]){BOB, OTHER, ALL}, 3, 9), 0);
}
END_TEST

START_TEST(request_that_is_narrowed_seals_the_rest_for_fewer)
{
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    ask(0, (struct core_request){.uid = ALICE,
                                 .domains = (const uint64_t[]){ALL, ALICE},
                                 .domain_count = 2,
                                 .prompt_tokens = 9,
                                 .max_tokens = 12});
    ck_assert_uint_gt(core_fixture_step(&f), 0);
    const uint64_t narrow[] = {ALICE, ALL};
    core_narrow(f.core, 0, narrow, 2);
    core_fixture_drain(&f, 20);
    memcpy(f.ids[1], f.ids[0], sizeof f.ids[0]);
    ck_assert_uint_eq(run_alone(1, BOB, (const uint64_t[]){BOB, ALL}, 2, 21), 8);
    memcpy(f.ids[1], f.ids[0], sizeof f.ids[0]);
    ck_assert_uint_ge(run_alone(1, ALICE, (const uint64_t[]){ALICE, ALL}, 2, 21), 16);
}
END_TEST

START_TEST(tail_that_was_begun_before_its_request_was_narrowed_is_for_fewer)
{
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    ask(0, (struct core_request){.uid = ALICE,
                                 .domains = (const uint64_t[]){ALL, ALICE},
                                 .domain_count = 2,
                                 .prompt_tokens = 9,
                                 .max_tokens = 2});
    ck_assert_uint_eq(core_fixture_step(&f), 9); /* the third block is begun */
    const uint64_t narrow[] = {ALICE, ALL};
    core_narrow(f.core, 0, narrow, 2);
    core_fixture_drain(&f, 20);
    ck_assert_int_eq(core_sane(f.core, NULL), LLM_OK);
    memcpy(f.ids[1], f.ids[0], sizeof f.ids[0]);
    ck_assert_uint_eq(run_alone(1, BOB, (const uint64_t[]){BOB, ALL}, 2, 11), 8);
    memcpy(f.ids[1], f.ids[0], sizeof f.ids[0]);
    ck_assert_uint_eq(run_alone(1, ALICE, (const uint64_t[]){ALICE, ALL}, 2, 11), 10);
}
END_TEST

START_TEST(block_that_goes_on_privately_is_copied_and_stays_private)
{
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    (void)run_alone(0, ALICE, NULL, 0, 4);
    f.log_count = 0;
    write_ids(1, 2, 2);
    ck_assert_uint_eq(run_alone(1, ALICE, (const uint64_t[]){GROUP, ALICE}, 2, 6), 2);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_BLOCK_WIDENED), 0);
    ck_assert_uint_eq(run_alone(0, BOB, (const uint64_t[]){BOB, GROUP}, 2, 5),
                      2); /* of Alice's copy */
}
END_TEST

static const struct privacy {
    uint64_t written[2], read[3];
    uint32_t found; /* of 9 tokens */
} privacies[] = {
    {{ALICE, ALICE}, {BOB, GROUP, ALL}, 0},
    {{ALICE, ALICE}, {ALL, BOB, GROUP}, 0},
    {{GROUP, ALICE}, {BOB, GROUP, ALL}, 8},
    {{GROUP, ALICE}, {BOB, OTHER, ALL}, 0},
    {{GROUP, ALICE}, {OTHER, BOB, ALL}, 0},
    {{GROUP, ALICE}, {OTHER, GROUP, ALL}, 3}, /* a member of both copies, and goes on alone */
    {{GROUP, ALICE}, {ALL, BOB, GROUP}, 3},
    {{ALL, ALICE}, {BOB, GROUP, ALL}, 8},
    {{ALL, ALICE}, {GROUP, BOB, ALL}, 8},
};

START_TEST(found_is_what_all_readers_of_the_chain_may_read)
{
    const struct privacy *row = &privacies[_i];
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    (void)run_alone(0, ALICE, row->written, 2, 8);
    ck_assert_uint_eq(run_alone(0, BOB, row->read, 3, 9), row->found);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_BLOCK_WIDENED), 0);
}
END_TEST

START_TEST(block_is_to_be_zeroed_when_it_changes_hands)
{
    f.config.slab_count = 1; /* two blocks */
    core_fixture_open(&f);
    static const struct {
        uint32_t uid;
        bool zero;
    } users[] = {{ALICE, true}, {ALICE, false}, {BOB, true}, {ALICE, true}, {ALICE, false}};
    for (uint32_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        f.log_count = 0;
        core_fixture_must_admit(&f, 0, users[i].uid, i + 1, 8, 1); /* both blocks, anew */
        core_fixture_drain(&f, 5);
        ck_assert_uint_eq(core_fixture_count(&f, CORE_BLOCK_TAKEN), 2);
        for (uint32_t n = 0; n < 2; n++)
            ck_assert_uint_eq(effect_of(CORE_BLOCK_TAKEN, n)->value, users[i].zero);
    }
}
END_TEST

/* ---- Kinds ------------------------------------------------------------------------------------------ */

START_TEST(scored_rows_are_computed_and_those_before_are_found)
{
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    (void)run_alone(0, ALICE, NULL, 0, 16);
    f.log_count = 0;
    ask(0, (struct core_request){
               .uid = ALICE, .kind = CORE_SCORE, .prompt_tokens = 16, .score_from = 11});
    const uint32_t scored[] = {3, 2}; /* positions 11..15, three rows a step */
    uint32_t position = 10;           /* its row says how likely id 11 is */
    for (uint32_t i = 0; i < 2; i++) {
        ck_assert(core_fixture_plan(&f));
        ck_assert_uint_eq(f.plan.sequences[0].first_position, position);
        ck_assert_uint_eq(f.plan.sequences[0].token_count, scored[i]);
        ck_assert_uint_eq(f.plan.sequences[0].scored_rows, scored[i]);
        ck_assert(!f.plan.sequences[0].wants_token);
        core_fixture_complete(&f);
        position += scored[i];
        ck_assert_uint_eq(effect_of(CORE_REQUEST_SCORED, i)->value, position + 1);
    }
    ck_assert_uint_eq(f.log[core_fixture_find(&f, CORE_REQUEST_FINISHED, 0, 0)].value,
                      CORE_FINISH_LENGTH);
    core_fixture_drain(&f, 1);
}
END_TEST

START_TEST(rows_scored_in_a_step_are_bounded_over_all_requests)
{
    core_fixture_open(&f);
    for (uint32_t slot = 0; slot < 3; slot++) {
        write_ids(slot, 0, slot + 1);
        ask(slot,
            (struct core_request){
                .uid = ALICE + slot, .kind = CORE_SCORE, .prompt_tokens = 5, .score_from = 1});
    }
    for (uint32_t rows = 0; rows < 3 * 4;) {
        uint32_t scored = 0;
        ck_assert(core_fixture_plan(&f));
        for (uint32_t i = 0; i < f.plan.sequence_count; i++)
            scored += f.plan.sequences[i].scored_rows;
        ck_assert_uint_ge(scored, 1);
        ck_assert_uint_le(scored, 3);
        core_fixture_complete(&f);
        rows += scored;
    }
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_FINISHED), 3);
}
END_TEST

START_TEST(computed_prompt_is_there_and_computing_it_again_costs_no_step)
{
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    const struct core_request compute = {.uid = ALICE, .kind = CORE_COMPUTE, .prompt_tokens = 10};
    ask(0, compute);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(f.plan.token_count, 10);
    ck_assert(!f.plan.sequences[0].wants_token);
    core_fixture_complete(&f);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_FINISHED), 1);
    ask(0, compute); /* FINISHED by the admission */
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_FINISHED), 2);
    ck_assert(!core_fixture_plan(&f));
    struct core_request longer = compute;
    longer.prompt_tokens = 11;
    ask(0, longer);
    ck_assert(core_fixture_plan(&f));
    ck_assert_uint_eq(f.plan.sequences[0].first_position, 10); /* only what is missing */
    core_fixture_complete(&f);
    ck_assert_uint_eq(core_counts(f.core).kv.cached, 3);
}
END_TEST

START_TEST(prompt_computed_in_a_group_is_widened_by_its_admission)
{
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    struct core_request compute = {.uid = ALICE, .kind = CORE_COMPUTE, .prompt_tokens = 8};
    ask(0, compute);
    core_fixture_drain(&f, 5);
    compute.domains = (const uint64_t[]){GROUP, ALICE};
    compute.domain_count = 2;
    ask(0, compute);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_BLOCK_WIDENED), 2);
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_FINISHED), 2);
}
END_TEST

static const struct refusal {
    struct core_request request;
    enum llm_status status;
    const char *says;
} refusals[] = {
    {{.kind = CORE_SCORE, .prompt_tokens = 5, .score_from = 0}, LLM_ERR_INVALID, "stand at 1..4"},
    {{.kind = CORE_SCORE, .prompt_tokens = 5, .score_from = 5}, LLM_ERR_INVALID, "position 5"},
    {{.kind = CORE_SCORE, .prompt_tokens = 1, .score_from = 1}, LLM_ERR_INVALID, "position 1"},
    {{.kind = CORE_COMPUTE, .prompt_tokens = 0}, LLM_ERR_INVALID, "the prompt is empty"},
    {{.kind = CORE_COMPUTE, .prompt_tokens = 65}, LLM_ERR_LIMIT, "has room for 64"},
    {{.kind = CORE_COMPUTE, .prompt_tokens = 64}, LLM_OK, ""},
    {{.kind = CORE_COMPUTE, .prompt_tokens = 5, .max_tokens = 1},
     LLM_ERR_INVALID,
     "only generation"},
    {{.kind = CORE_SCORE, .prompt_tokens = 64, .score_from = 63}, LLM_OK, ""},
};

START_TEST(impossible_score_or_computation_is_refused_with_a_sentence)
{
    core_fixture_open(&f);
    struct core_request request = refusals[_i].request;
    struct llm_error error = {.message = ""};
    request.domains = &(uint64_t){ALICE};
    ck_assert_int_eq(core_fixture_ask(&f, 0, &request, &error), LLM_ERR_INVALID); /* no domain */
    request.domain_count = 1;
    error.message[0] = '\0';
    ck_assert_int_eq(core_fixture_ask(&f, 0, &request, &error), refusals[_i].status);
    ck_assert_msg(strstr(error.message, refusals[_i].says) != NULL, "%s", error.message);
    core_fixture_drain(&f, 20);
}
END_TEST

/* ---- Pins ------------------------------------------------------------------------------------------- */

static uint32_t hold(uint32_t slot, uint32_t tokens)
{
    uint32_t held = core_hold(f.core, slot, 0, &(uint64_t){ALICE}, 1, f.ids[15], tokens);
    core_fixture_log(&f); /* walks, and says nothing */
    return held;
}

START_TEST(pinned_blocks_stay_until_they_are_let_go)
{
    f.config.slab_count = 4; /* eight blocks */
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    write_ids(15, FIXTURE_CONTEXT, 1);
    (void)run_alone(0, ALICE, NULL, 0, 10);
    ck_assert_uint_eq(hold(0, 12), 10); /* what is there */
    ck_assert_uint_eq(core_held_blocks(f.core, 0), 3);
    ck_assert_uint_eq(core_held_blocks(f.core, 1), 0);
    for (uint32_t document = 5; document < 10; document++) {
        core_fixture_must_admit(&f, 1, BOB, document, 19, 1);
        while (core_fixture_step(&f) > 0)
            ;
    }
    ck_assert_uint_gt(core_counts(f.core).evictions, 0);
    ck_assert_uint_eq(core_counts(f.core).kv.held, 3);
    core_unhold(f.core, 0);
    core_unhold(f.core, 0); /* accepts one that is not held */
    core_fixture_log(&f);
    ck_assert_uint_eq(core_counts(f.core).kv.held, 0);
    core_fixture_must_admit(&f, 1, BOB, 11, 31, 1);
    core_fixture_drain(&f, 20);
}
END_TEST

START_TEST(request_that_does_not_fit_beside_the_pins_is_refused)
{
    f.config.slab_count = 4;
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    write_ids(15, FIXTURE_CONTEXT, 1);
    (void)run_alone(0, ALICE, NULL, 0, 12);
    ck_assert_uint_eq(hold(0, 12), 12);
    struct llm_error error = {.message = ""};
    ck_assert_int_eq(core_fixture_admit(&f, 1, BOB, 5, 21, 1, &error), LLM_ERR_LIMIT);
    ck_assert_msg(strstr(error.message, "contexts that are pinned leave 5") != NULL, "%s",
                  error.message);
    core_fixture_must_admit(&f, 1, BOB, 5, 20, 1);
    core_fixture_must_admit(&f, 2, ALICE, 1, 32, 1); /* on the pinned ones */
    while (core_fixture_step(&f) > 0)
        ;
    ck_assert_uint_eq(core_fixture_count(&f, CORE_REQUEST_FINISHED), 3);
    core_unhold(f.core, 0);
}
END_TEST

START_TEST(pin_that_would_leave_no_room_for_a_request_is_refused)
{
    f.config.slab_count = 4;
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    write_ids(15, FIXTURE_CONTEXT, 1);
    (void)run_alone(0, ALICE, NULL, 0, 12);
    core_fixture_must_admit(&f, 1, BOB, 5, 25, 1); /* seven of eight blocks */
    ck_assert_uint_eq(hold(0, 12), 0);
    ck_assert_uint_eq(core_held_blocks(f.core, 0), 0);
    ck_assert_uint_eq(hold(1, 4), 4);
    while (core_fixture_step(&f) > 0)
        ;
    core_unhold(f.core, 1);
    core_fixture_drain(&f, 1);
}
END_TEST

START_TEST(holding_twice_in_one_place_is_our_bug)
{
    core_fixture_open(&f);
    write_ids(0, FIXTURE_CONTEXT, 1);
    write_ids(15, FIXTURE_CONTEXT, 1);
    (void)run_alone(0, ALICE, NULL, 0, 12);
    (void)hold(0, 4);
    (void)hold(0, 4);
}
END_TEST

/* ---- Looking ---------------------------------------------------------------------------------------- */

static void expect_spans(uint32_t uid, bool foreign, uint32_t tokens,
                         const struct core_probe_span *wanted, uint32_t count)
{
    struct core_probe_span got[CORE_PROBE_SPANS_MAX];
    const uint64_t domains[] = {uid, ALL};
    uint32_t spans =
        core_probe(f.core, 0, domains, 2, foreign, f.ids[15], tokens, got, CORE_PROBE_SPANS_MAX);
    core_fixture_log(&f);
    ck_assert_uint_eq(spans, count);
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_int_eq(got[i].kind, wanted[i].kind);
        ck_assert_uint_eq(got[i].from, wanted[i].from);
        ck_assert_uint_eq(got[i].to, wanted[i].to);
        ck_assert_uint_eq(got[i].cached_token, wanted[i].cached_token);
        ck_assert_uint_eq(got[i].domain, wanted[i].domain);
    }
    if (count > 1) /* fewer places: the first ones */
        ck_assert_uint_eq(core_probe(f.core, 0, domains, 2, foreign, f.ids[15], tokens, got, 1), 1);
}

START_TEST(probe_says_what_is_there_and_what_stands_in_its_place)
{
    core_fixture_open(&f);
    write_ids(15, FIXTURE_CONTEXT, 1);
    expect_spans(ALICE, true, 9, &(struct core_probe_span){CORE_PROBE_MISS, 0, 9, UINT32_MAX, 0},
                 1);
    expect_spans(ALICE, true, 0, NULL, 0);
    write_ids(0, FIXTURE_CONTEXT, 1);
    (void)run_alone(0, ALICE, (const uint64_t[]){ALL, ALICE}, 2, 4); /* a public block */
    write_ids(0, 10, 2);
    (void)run_alone(0, ALICE, (const uint64_t[]){ALICE, ALL}, 2, 12); /* two private ones behind */
    const struct core_probe_span own[] = {
        {CORE_PROBE_HIT, 0, 4, UINT32_MAX, ALL},
        {CORE_PROBE_HIT, 4, 8, UINT32_MAX, ALICE},
        {CORE_PROBE_COPY, 8, 10, UINT32_MAX, ALICE},
        {CORE_PROBE_MISS, 10, 13, 2010, 0},
    };
    expect_spans(ALICE, false, 13, own, 4);
    const struct core_probe_span hers[] = {{CORE_PROBE_HIT, 0, 4, UINT32_MAX, ALL},
                                           {CORE_PROBE_MISS, 4, 13, UINT32_MAX, 0}};
    expect_spans(BOB, false, 13, hers, 2);
    const struct core_probe_span administrator[] = {
        {CORE_PROBE_HIT, 0, 4, UINT32_MAX, ALL},
        {CORE_PROBE_FOREIGN, 4, 10, UINT32_MAX, ALICE},
        {CORE_PROBE_MISS, 10, 13, UINT32_MAX, 0},
    };
    expect_spans(BOB, true, 13, administrator, 3);
}
END_TEST

START_TEST(probe_says_what_is_being_made)
{
    core_fixture_open(&f);
    write_ids(15, 30, 2);
    core_fixture_must_admit(&f, 0, ALICE, 1, 40, 1);
    ck_assert(core_fixture_plan(&f));
    const struct core_probe_span spans[] = {{CORE_PROBE_BEING_MADE, 0, 28, UINT32_MAX, 0},
                                            {CORE_PROBE_MISS, 28, 33, UINT32_MAX, 0}};
    expect_spans(ALICE, false, 33, spans, 2);
    expect_spans(BOB, false, 33, &(struct core_probe_span){CORE_PROBE_MISS, 0, 33, UINT32_MAX, 0},
                 1);
    core_fixture_complete(&f);
    core_fixture_drain(&f, 10);
}
END_TEST

START_TEST(view_of_a_block_says_its_state_and_whose_it_is)
{
    core_fixture_open(&f);
    ck_assert_int_eq(core_block_view(f.core, 0).state, CORE_STATE_UNOWNED);
    core_fixture_must_admit(&f, 0, ALICE, 1, 7, 1);
    ck_assert(core_fixture_plan(&f));
    block_id first = f.plan.sequences[0].blocks[0], second = f.plan.sequences[0].blocks[1];
    struct core_block_view view = core_block_view(f.core, second);
    ck_assert_int_eq(view.state, CORE_STATE_HELD);
    ck_assert_uint_eq(view.tokens, 0); /* being written */
    ck_assert_uint_eq(view.parent, first);
    ck_assert_uint_eq(view.depth, 1);
    ck_assert_uint_eq(view.domain, ALICE);
    ck_assert_uint_eq(view.references, 1);
    core_fixture_complete(&f);
    view = core_block_view(f.core, second);
    ck_assert_int_eq(view.state, CORE_STATE_CACHED);
    ck_assert_uint_eq(view.tokens, 3);
    ck_assert_uint_eq(view.model, 0);
    write_ids(15, FIXTURE_CONTEXT, 1);
    ck_assert_uint_eq(hold(0, 7), 7);
    ck_assert_uint_eq(core_block_view(f.core, second).pins, 1);
    ck_assert_uint_eq(core_block_view(f.core, first).pins, 1);
    core_unhold(f.core, 0);
}
END_TEST

/* ---- Effects ---------------------------------------------------------------------------------------- */

START_TEST(what_a_call_does_to_a_block_that_it_frees_again_is_not_said)
{
    static alignas(ARENA_ALIGN_BYTES) unsigned char memory[4096];
    struct arena arena = arena_over(memory, sizeof memory);
    struct effect_list list;
    effect_list_init(&list, &arena, 32);
    effect_list_begin(&list);
    effect_domain(&list, CORE_BLOCK_SEALED, 5, ALICE);
    effect_domain(&list, CORE_BLOCK_SEALED, 6, ALICE);
    ck_assert(effect_freed(&list, 5, true));
    effect_block(&list, CORE_BLOCK_TAKEN, 5, 1);
    effect_block(&list, CORE_BLOCK_COPIED, 5, 6);
    ck_assert(effect_freed(&list, 5, false)); /* neither zeroed nor copied into */
    effect_block(&list, CORE_BLOCK_TAKEN, 5, 0);
    ck_assert(!effect_freed(&list, 7, true)); /* another, sealed long ago */
    effect_list_close(&list);
    const struct core_effect wanted[] = {
        {CORE_BLOCK_SEALED, REQUEST_NONE, 6, 0, ALICE}, {CORE_BLOCK_FREED, REQUEST_NONE, 5, 0, 0},
        {CORE_BLOCK_TAKEN, REQUEST_NONE, 5, 0, 0},      {CORE_BLOCK_FREED, REQUEST_NONE, 5, 0, 0},
        {CORE_BLOCK_TAKEN, REQUEST_NONE, 5, 0, 0},      {CORE_BLOCK_FREED, REQUEST_NONE, 7, 0, 0},
    };
    ck_assert_uint_eq(list.count, sizeof wanted / sizeof wanted[0]);
    for (uint32_t i = 0; i < list.count; i++) {
        ck_assert_int_eq(list.items[i].kind, wanted[i].kind);
        ck_assert_uint_eq(list.items[i].block, wanted[i].block);
        ck_assert_uint_eq(list.items[i].value, wanted[i].value);
        ck_assert_uint_eq(list.items[i].domain, wanted[i].domain);
    }
}
END_TEST

static TCase *cases(void)
{
    TCase *tc = tcase_create("core_kv");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, leading_rows_of_a_block_that_goes_on_differently_are_copied);
    tcase_add_test(tc, conversation_keeps_one_tail);
    tcase_add_test(tc, equal_tail_is_kept_once);
    tcase_add_test(tc, forks_cost_a_tail_each);
    tcase_add_test(tc, tail_of_a_failed_step_is_not_kept);
    tcase_add_test(tc, owner_who_uses_private_blocks_in_a_group_widens_them);
    tcase_add_test(tc, request_that_is_narrowed_seals_the_rest_for_fewer);
    tcase_add_test(tc, tail_that_was_begun_before_its_request_was_narrowed_is_for_fewer);
    tcase_add_test(tc, block_that_goes_on_privately_is_copied_and_stays_private);
    tcase_add_loop_test(tc, found_is_what_all_readers_of_the_chain_may_read, 0,
                        (int)(sizeof privacies / sizeof privacies[0]));
    tcase_add_test(tc, block_is_to_be_zeroed_when_it_changes_hands);
    tcase_add_test(tc, scored_rows_are_computed_and_those_before_are_found);
    tcase_add_test(tc, rows_scored_in_a_step_are_bounded_over_all_requests);
    tcase_add_test(tc, computed_prompt_is_there_and_computing_it_again_costs_no_step);
    tcase_add_test(tc, prompt_computed_in_a_group_is_widened_by_its_admission);
    tcase_add_loop_test(tc, impossible_score_or_computation_is_refused_with_a_sentence, 0,
                        (int)(sizeof refusals / sizeof refusals[0]));
    tcase_add_test(tc, pinned_blocks_stay_until_they_are_let_go);
    tcase_add_test(tc, request_that_does_not_fit_beside_the_pins_is_refused);
    tcase_add_test(tc, pin_that_would_leave_no_room_for_a_request_is_refused);
    tcase_add_test_raise_signal(tc, holding_twice_in_one_place_is_our_bug, SIGABRT);
    tcase_add_test(tc, probe_says_what_is_there_and_what_stands_in_its_place);
    tcase_add_test(tc, probe_says_what_is_being_made);
    tcase_add_test(tc, view_of_a_block_says_its_state_and_whose_it_is);
    tcase_add_test(tc, what_a_call_does_to_a_block_that_it_frees_again_is_not_said);
    return tc;
}

int main(void)
{
    Suite *suite = suite_create("daemon/core_kv");
    suite_add_tcase(suite, cases());
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
