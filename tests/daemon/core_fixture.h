/*
 * core_fixture.h - a core in a test: open it, admit prompts by name of document, run steps, look at effects.
 *
 * Idea     Token i of document d is d * 1000 + i, so requests share a prefix exactly when they name the same
 *          document. The token generated at position p by any request is 900000 + p. Every call's effects are
 *          appended to a log, and core_sane() holds after each call.
 * Threads  One.
 */
#ifndef LLMD_TESTS_CORE_FIXTURE_H
#define LLMD_TESTS_CORE_FIXTURE_H

#include "daemon/core/core.h"

#define FIXTURE_SLOTS   16u
#define FIXTURE_CONTEXT 64u
#define FIXTURE_LOG     4096u
#define FIXTURE_DOMAINS 4u

struct core_fixture {
    struct core_model model;
    struct core_config config;
    struct core *core;
    void *memory;
    uint32_t ids[FIXTURE_SLOTS][FIXTURE_CONTEXT];
    uint64_t domains[FIXTURE_SLOTS][FIXTURE_DOMAINS]; /* of the request in the slot */
    struct core_effect log[FIXTURE_LOG];
    uint32_t log_count;
    struct core_plan plan;
    enum core_finish finish[FIXTURE_SLOTS]; /* what the engine says next; NONE after it was said */
    uint64_t next_id;
    struct core_request
        terms; /* priority, weight and bounds of the next requests; all 0 at first */
};

/* 4-token blocks, 8 slabs of 2, a context of 64, 4 running, 16 tokens a step, 8 waiting, 6 of one user. The
 * configuration may be changed before core_fixture_open(). */
void core_fixture_init(struct core_fixture *f);
void core_fixture_open(struct core_fixture *f);
void core_fixture_close(struct core_fixture *f);

/* Admit `prompt_tokens` tokens of `document` for user and domain `uid`. */
enum llm_status core_fixture_admit(struct core_fixture *f, uint32_t slot, uint32_t uid,
                                   uint32_t document, uint32_t prompt_tokens, uint32_t max_tokens,
                                   struct llm_error *error);
/* Admit `request` of any kind and domains, whose ids are in f->ids[slot]; its domains are copied. */
enum llm_status core_fixture_ask(struct core_fixture *f, uint32_t slot,
                                 const struct core_request *request, struct llm_error *error);
/* core_fixture_admit(), which must succeed. */
void core_fixture_must_admit(struct core_fixture *f, uint32_t slot, uint32_t uid, uint32_t document,
                             uint32_t prompt_tokens, uint32_t max_tokens);
bool core_fixture_cancel(struct core_fixture *f, uint32_t slot);
/* core_plan() into f->plan. */
bool core_fixture_plan(struct core_fixture *f);
void core_fixture_complete(struct core_fixture *f);
/* Both; returns the tokens of the step, 0 when there was nothing to do. */
uint32_t core_fixture_step(struct core_fixture *f);
/* Steps until nothing is left to do; at most `steps_max`. */
void core_fixture_drain(struct core_fixture *f, uint32_t steps_max);

/* The sequence of `slot` in f->plan, or NULL. */
const struct core_sequence *core_fixture_sequence(const struct core_fixture *f, uint32_t slot);
uint32_t core_fixture_count(const struct core_fixture *f, enum core_effect_kind kind);
/* The place in the log of the n-th (from 0) effect of this kind for this request; fails the test if none. */
uint32_t core_fixture_find(const struct core_fixture *f, enum core_effect_kind kind, uint32_t slot,
                           uint32_t n);
/* Append the effects of a call made without the fixture. */
void core_fixture_log(struct core_fixture *f);

#endif
