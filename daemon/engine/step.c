#include "daemon/engine/step.h"

#include <stdio.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/intake.h"
#include "daemon/engine/publish.h"
#include "daemon/engine/recovery.h"
#include "daemon/engine/report.h"
#include "shm/clock.h"
#include "shm/fence.h"

#define SPIN_NS (30 * LLM_NS_PER_US) /* how long to look again before sleeping */

/* ---- Running a plan -------------------------------------------------------------------------------- */

static bool is_end_of_text(const struct executor_facts *facts, uint32_t token)
{
    for (uint32_t i = 0; i < facts->eos_count; i++)
        if (facts->eos_ids[i] == token)
            return true;
    return false;
}

static bool ends_a_stop_string(struct request *request, const struct executor_facts *facts,
                               uint32_t token)
{
    if (request->stops.count == 0 || !facts->vocab || token >= facts->vocab->header->token_count ||
        (facts->vocab->token_flags[token] & LLM_TOKEN_SPECIAL))
        return false; /* special tokens have no text */
    size_t bytes;
    const uint8_t *text = llm_vocab_token(facts->vocab, token, &bytes);
    return stop_strings_feed(&request->stops, text, bytes);
}

enum core_finish step_finish_after(struct engine *engine, uint32_t slot, uint32_t token)
{
    struct request *request = &engine->requests[slot];
    if (request->answered_tokens++ < sampling_min_tokens(&request->sampling))
        return CORE_FINISH_NONE; /* nor does its text count for a stop string */
    const struct executor_facts *facts = &engine->executors[request->model]->facts;
    uint32_t flags = engine->tables.requests[slot].body.flags;
    if (!(flags & LLM_REQUEST_IGNORE_EOS) && is_end_of_text(facts, token))
        return CORE_FINISH_STOP_ID;
    if (sampling_stops_at(&request->sampling, (int32_t)token))
        return CORE_FINISH_STOP_ID;
    return ends_a_stop_string(request, facts, token) ? CORE_FINISH_STOP_STRING : CORE_FINISH_NONE;
}

static void fail_all(struct executor_choice *choices, uint32_t count, enum llm_status status,
                     const char *note)
{
    for (uint32_t i = 0; i < count; i++) {
        choices[i].status = status;
        snprintf(choices[i].note, sizeof choices[i].note, "%.*s", LLM_NOTE_BYTES - 1, note);
    }
}

static bool plan_has_model(const struct core_plan *plan, uint32_t model)
{
    for (uint32_t i = 0; i < plan->sequence_count; i++)
        if (plan->sequences[i].model == model)
            return true;
    return false;
}

static void compute(struct engine *engine, const struct core_plan *plan)
{
    for (uint32_t i = 0; i < plan->sequence_count; i++)
        engine->choices[i].status = LLM_OK;
    for (uint32_t model = 0; model < engine->executor_count; model++) {
        struct llm_error error;
        struct executor *executor = engine->executors[model];
        if (!plan_has_model(plan, model))
            continue;
        enum llm_status status = executor->ops->run(executor, plan, model, engine, engine->choices,
                                                    engine->scores, engine->tops, &error);
        if (status != LLM_OK) {
            report_error(engine, error.message);
            fail_all(engine->choices, plan->sequence_count, status, error.message);
            return;
        }
    }
}

/* Beside the ids that were scored; they count when the core says so. */
static void keep_scores(struct engine *engine, const struct core_sequence *sequence)
{
    float *logprobs = tables_logprobs(&engine->tables, sequence->slot);
    for (uint32_t row = sequence->token_count - sequence->scored_rows; row < sequence->token_count;
         row++)
        logprobs[sequence->first_position + row + 1] = engine->scores[sequence->first_row + row];
}

/* The likeliest tokens go straight to where the client will read them: they count for nothing before the token beside them
 * is published, and when this engine dies after that they are already there. */
static void keep_tops(struct engine *engine, const struct core_sequence *sequence)
{
    struct request *request = &engine->requests[sequence->slot];
    if (request->writer.top_count == 0 || !request->connection)
        return;
    uint32_t start = request_answer_start(&engine->tables.requests[sequence->slot]);
    uint32_t rows = sequence->scored_rows + (sequence->wants_token && sequence->scored_rows == 0);
    for (uint32_t row = sequence->token_count - rows; row < sequence->token_count; row++)
        llm_stream_writer_tops(&request->writer, sequence->first_position + row + 1 - start,
                               engine->tops +
                                   (size_t)(sequence->first_row + row) * LLM_TOP_LOGPROBS_MAX);
}

/* What the core is told about sequence i. */
static struct core_result decide(struct engine *engine, const struct core_sequence *sequence,
                                 const struct executor_choice *choice)
{
    struct request *request = &engine->requests[sequence->slot];
    if (choice->status != LLM_OK) {
        request->end_status = choice->status;
        snprintf(request->end_note, sizeof request->end_note, "%s", choice->note);
        return (struct core_result){.finish = CORE_FINISH_FAILED};
    }
    keep_scores(engine, sequence);
    keep_tops(engine, sequence);
    if (!sequence->wants_token)
        return (struct core_result){.finish = CORE_FINISH_NONE};
    request->logprob = choice->logprob;
    return (struct core_result){
        .token = choice->token,
        .finish = step_finish_after(engine, sequence->slot, choice->token),
    };
}

static void run(struct engine *engine, const struct core_plan *plan)
{
    compute(engine, plan);
    for (uint32_t i = 0; i < plan->sequence_count; i++)
        engine->results[i] = decide(engine, &plan->sequences[i], &engine->choices[i]);
}

/* ---- The loop -------------------------------------------------------------------------------------- */

static void expire_leases(struct engine *engine)
{
    if (engine->next_lease_ns != UINT64_MAX)
        contexts_expire(engine, llm_boot_ns());
}

bool engine_step(struct engine *engine)
{
    uint64_t started_ns = llm_now_ns();
    parking_poll(engine);
    bool any = intake_pass(engine);
    requests_expire(engine, started_ns);
    expire_leases(engine);
    recovery_next_trial(engine);

    struct core_plan plan;
    bool planned = core_plan(engine->core, &plan);
    publish_effects(engine);
    if (planned) {
        run(engine, &plan);
        core_complete(engine->core, &plan, engine->results);
        publish_effects(engine);
        report_step(engine, &plan, started_ns);
    } else if (any) {
        report_counts(engine);
    }
    publish_announce(engine);
    egress_flush(&engine->egress, engine->requests_live == 0);
    drain_settle(engine);
    models_settle(engine);
    parking_cool(engine, started_ns);
    return any || planned;
}

/* A client that waits for an answer often has the next question at hand: look again for a moment. */
static bool spin(struct engine *engine)
{
    uint64_t end_ns = llm_now_ns() + SPIN_NS;
    while (llm_now_ns() < end_ns) {
        if (intake_waits(engine))
            return true;
        llm_spin_pause();
    }
    return false;
}

/* When something is due. Leases run on a clock that a suspended machine does not stop, sleeping on one that it does: the
 * keeper's heartbeat wakes who slept too long. */
static uint64_t next_due_ns(const struct engine *engine)
{
    uint64_t due_ns = engine->next_deadline_ns;
    if (engine->next_lease_ns == UINT64_MAX)
        return due_ns;
    uint64_t boot_ns = llm_boot_ns();
    uint64_t left_ns = engine->next_lease_ns > boot_ns ? engine->next_lease_ns - boot_ns : 0;
    uint64_t lease_ns = llm_deadline_ns(left_ns);
    return lease_ns < due_ns ? lease_ns : due_ns;
}

void engine_run(struct engine *engine)
{
    while (!engine->stopping) {
        /* A step may have taken in the STOP itself: nothing would wake us after it. */
        if (engine_step(engine) || engine->stopping || spin(engine))
            continue;
        parking_sleep(engine, next_due_ns(engine));
    }
}
