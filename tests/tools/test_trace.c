/* llmctl trace: what the rings hold becomes spans that nest, whatever state the rings are in. */
#include "tools/llmctl/trace.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

static struct llm_status_file *file;
static struct trace *trace;

static void set_up(void)
{
    size_t bytes = (sizeof *file + LLM_PAGE_BYTES - 1) / LLM_PAGE_BYTES * LLM_PAGE_BYTES;
    file = aligned_alloc(LLM_PAGE_BYTES, bytes);
    trace = malloc(sizeof *trace);
    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(trace);
    memset(file, 0, bytes);
}

static void tear_down(void)
{
    free(file);
    free(trace);
}

static void put_step(uint64_t step, uint64_t started_ns, uint32_t held)
{
    struct llm_status_step *entry = &file->steps[step % LLM_STATUS_STEPS];
    atomic_store(&entry->step, step);
    atomic_store(&entry->started_ns, started_ns);
    atomic_store(&entry->duration_us, 500);
    atomic_store(&entry->sequences, 3);
    atomic_store(&entry->blocks_held, held);
    atomic_store(&entry->engine_generation, 2);
}

static void put_event(uint64_t number, uint64_t at_ns, uint64_t request_id, uint32_t kind,
                      uint32_t value)
{
    struct llm_status_event *entry = &file->events[number % LLM_STATUS_EVENTS];
    atomic_store(&entry->number, number);
    atomic_store(&entry->at_ns, at_ns);
    atomic_store(&entry->request_id, request_id);
    atomic_store(&entry->kind, kind);
    atomic_store(&entry->value, value);
}

/* What trace_write() says, parsed by somebody else's reader. */
static json_t *written(uint64_t from_ns, uint64_t to_ns)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    ck_assert_ptr_nonnull(out);
    trace_take(trace, file, from_ns, to_ns);
    trace_write(trace, "tinynotes", out);
    fclose(out);
    json_error_t error;
    json_t *root = json_loadb(text, bytes, 0, &error);
    ck_assert_msg(root != NULL, "line %d: %s", error.line, error.text);
    free(text);
    return root;
}

static const char *text_of(const json_t *event, const char *key)
{
    const char *text = json_string_value(json_object_get(event, key));
    return text ? text : "";
}

/* "b queued@1.0 e queued@2.0 ..." of one request, times in milliseconds. */
static void spans_of(const json_t *root, const char *id, char *out, size_t out_bytes)
{
    size_t i, used = 0;
    json_t *event;
    out[0] = 0;
    json_array_foreach(json_object_get(root, "traceEvents"), i, event)
    {
        if (strcmp(text_of(event, "id"), id) != 0)
            continue;
        int more = snprintf(out + used, out_bytes - used, "%s%s %s@%.0f", used ? ", " : "",
                            text_of(event, "ph"), text_of(event, "name"),
                            json_number_value(json_object_get(event, "ts")) / 1e3);
        ck_assert(more > 0 && used + (size_t)more < out_bytes);
        used += (size_t)more;
    }
}

static uint32_t count_named(const json_t *root, const char *phase, const char *name)
{
    size_t i;
    uint32_t count = 0;
    json_t *event;
    json_array_foreach(json_object_get(root, "traceEvents"), i, event)
    {
        count +=
            strcmp(text_of(event, "ph"), phase) == 0 && strcmp(text_of(event, "name"), name) == 0;
    }
    return count;
}

START_TEST(a_whole_request_is_queued_then_prefilled_then_generating)
{
    put_event(1, 1 * MS, 7, LLM_EVENT_ADMITTED, 40);
    put_event(2, 2 * MS, 7, LLM_EVENT_STARTED, 32);
    put_event(3, 3 * MS, 7, LLM_EVENT_FIRST_TOKEN, 0);
    put_event(4, 9 * MS, 7, LLM_EVENT_FINISHED, LLM_FINISH_LENGTH);
    json_t *root = written(0, 20 * MS);
    char spans[512];
    spans_of(root, "7", spans, sizeof spans);
    ck_assert_str_eq(spans, "b request 7@1, b queued@1, e queued@2, b prefill@2, e prefill@3, "
                            "b generating@3, e generating@9, e request 7@9");
    json_decref(root);
}
END_TEST

START_TEST(preempted_and_recovered_requests_go_on_generating)
{
    put_event(1, 1 * MS, 7, LLM_EVENT_ADMITTED, 40);
    put_event(2, 2 * MS, 7, LLM_EVENT_STARTED, 0);
    put_event(3, 3 * MS, 7, LLM_EVENT_FIRST_TOKEN, 0);
    put_event(4, 4 * MS, 7, LLM_EVENT_PREEMPTED, 2);
    put_event(5, 5 * MS, 7, LLM_EVENT_STARTED, 0);
    put_event(6, 6 * MS, 8, LLM_EVENT_RECOVERED, 0);
    put_event(7, 7 * MS, 7, LLM_EVENT_RECOVERED, 5);
    put_event(8, 8 * MS, 8, LLM_EVENT_STARTED, 0);
    put_event(9, 9 * MS, 7, LLM_EVENT_STARTED, 0);
    json_t *root = written(0, 20 * MS);
    char spans[512];
    spans_of(root, "7", spans, sizeof spans);
    ck_assert_str_eq(spans, "b request 7@1, b queued@1, e queued@2, b prefill@2, e prefill@3, "
                            "b generating@3, e generating@4, b preempted@4, e preempted@5, "
                            "b generating@5, e generating@7, b recovering@7, e recovering@9, "
                            "b generating@9, e generating@20, e request 7@20");
    spans_of(root, "8", spans, sizeof spans);
    ck_assert_str_eq(spans, "b request 8@6, b recovering@6, e recovering@8, b prefill@8, "
                            "e prefill@20, e request 8@20");
    json_decref(root);
}
END_TEST

START_TEST(steps_come_in_order_with_their_counters_and_only_recent_ones_when_asked)
{
    for (uint64_t step = 1; step <= LLM_STATUS_STEPS + 5; step++)
        put_step(step, step * MS, (uint32_t)step);
    put_event(1, 1 * MS, 1, LLM_EVENT_ADMITTED, 4);
    put_event(2, 2 * MS, 1, LLM_EVENT_FINISHED, LLM_FINISH_CANCELLED);
    uint64_t end_ns = (LLM_STATUS_STEPS + 6) * MS;
    json_t *root = written(0, end_ns);
    ck_assert_uint_eq(trace->step_count, LLM_STATUS_STEPS);
    ck_assert_uint_eq(trace->steps[0].step, 6);
    ck_assert_uint_eq(count_named(root, "X", "step 6"), 1);
    ck_assert_uint_eq(count_named(root, "C", "KV blocks"), LLM_STATUS_STEPS);
    ck_assert_uint_eq(count_named(root, "b", "request 1"), 1);
    json_decref(root);
    root = written(end_ns - 3 * MS, end_ns);
    ck_assert_uint_eq(trace->step_count, 3);
    ck_assert_uint_eq(count_named(root, "b", "request 1"), 0);
    json_decref(root);
}
END_TEST

START_TEST(entries_being_written_and_nonsense_are_survived)
{
    put_step(0, 1 * MS, 1); /* 0: being written */
    put_step(9, UINT64_MAX, 1);
    put_event(1, 5 * MS, 3, 77, 1); /* no such kind */
    put_event(2, 4 * MS, 3, LLM_EVENT_FINISHED, 1000);
    put_event(3, 3 * MS, 3, LLM_EVENT_STARTED, 0); /* after its end */
    json_t *root = written(0, 20 * MS);
    ck_assert_uint_eq(trace->step_count, 1);
    ck_assert_uint_eq(count_named(root, "b", "request 3"), 1);
    ck_assert_uint_eq(count_named(root, "e", "request 3"), 1);
    json_decref(root);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools/trace");
    TCase *tc = tcase_create("trace");
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, a_whole_request_is_queued_then_prefilled_then_generating);
    tcase_add_test(tc, preempted_and_recovered_requests_go_on_generating);
    tcase_add_test(tc, steps_come_in_order_with_their_counters_and_only_recent_ones_when_asked);
    tcase_add_test(tc, entries_being_written_and_nonsense_are_survived);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
