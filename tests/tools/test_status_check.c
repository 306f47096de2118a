/*
 * test_status_check.c - tools/llmctl/status_view and status_check: a status file is copied safely, and each
 * thing that does not add up is found.
 * How: the fixture fills a status file in plain memory, whole and consistent; each row of `faults` breaks one
 * thing and names the sentence that must appear. The consistent file must have no finding.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/llmctl/status_check.h"

static struct llm_status_file *file;
static struct status_view *view;

static void fill_file(void)
{
    file = aligned_alloc(LLM_PAGE_BYTES, sizeof *file);
    view = malloc(sizeof *view);
    memset(file, 0, sizeof *file);
    file->keeper.keeper_pid = (uint32_t)getpid();
    file->keeper.engine_pid = (uint32_t)getpid();
    file->keeper.daemon_state = LLM_DAEMON_RUNNING;
    file->keeper.engine_generation = 3;
    file->keeper.descriptors_held = 34;
    file->keeper.descriptors_baseline = 20;
    file->keeper.connections_open = 2;
    file->engine.ready_generation = 3;
    file->engine.blocks_total = 512;
    file->engine.blocks_held = 37;
    file->engine.blocks_cached = 19;
    file->engine.blocks_free = 456;
    file->engine.requests_running = 1;
    file->engine.requests_queued = 1;
    strcpy(file->engine.model_name, "tinynotes");
    for (uint32_t i = 0; i < 2; i++) {
        file->connections[5 * i].connection_id = 7 + i; /* slots 0 and 5 */
        file->connections[5 * i].pid = 100 + i;
        strcpy(file->connections[5 * i].name, i ? "b" : "a");
        file->usage[5 * i].streams_live = 1;
        file->requests[3 * i].request_id = 40 + i; /* slots 0 and 3 */
        file->requests[3 * i].connection_slot = 5 * i;
        file->requests[3 * i].phase = i ? LLM_PHASE_QUEUED : LLM_PHASE_DECODE;
        file->requests[3 * i].prompt_tokens = 312;
        file->requests[3 * i].cached_tokens = 304;
        file->requests[3 * i].max_tokens = 64;
        file->requests[3 * i].produced_tokens = 64;
    }
}

static void free_file(void)
{
    free(file);
    free(view);
}

static void look(struct findings *findings)
{
    status_view_take(view, file);
    findings->count = 0;
    status_check(view, findings);
}

START_TEST(a_consistent_file_has_no_finding)
{
    struct findings findings;
    look(&findings);
    ck_assert_msg(findings.count == 0, "found: %s", findings.sentence[0]);
    ck_assert_uint_eq(view->connection_count, 2);
    ck_assert_uint_eq(view->request_count, 2);
    ck_assert_str_eq(view->connections[1].name, "b");
    ck_assert_uint_eq(view->connections[1].slot, 5);
    ck_assert_uint_eq(view->requests[1].request_id, 41);
    ck_assert_ptr_eq(status_view_connection(view, 5), &view->connections[1]);
    ck_assert_ptr_eq(status_view_connection(view, 6), NULL);
}
END_TEST

static void lose_a_block(void)
{
    file->engine.blocks_free--;
}
static void hold_blocks_for_nobody(void)
{
    file->requests[0].request_id = file->requests[3].request_id = 0;
    file->engine.requests_running = file->engine.requests_queued = 0;
}
static void miscount_connections(void)
{
    file->keeper.connections_open = 1;
}
static void repeat_a_connection(void)
{
    file->connections[5].connection_id = 7;
}
static void leave_a_stream_behind(void)
{
    file->usage[9].streams_live = 2;
}
static void orphan_a_request(void)
{
    file->requests[3].connection_slot = 4000000000u;
}
static void invent_a_phase(void)
{
    file->requests[0].phase = 77;
}
static void cache_more_than_the_prompt(void)
{
    file->requests[0].cached_tokens = 313;
}
static void produce_too_much(void)
{
    file->requests[0].produced_tokens = 65;
}
static void hold_more_than_there_is(void)
{
    file->requests[0].blocks = 513;
}
static void repeat_a_request(void)
{
    file->requests[3].request_id = 40;
}
static void miscount_requests(void)
{
    file->engine.requests_running = 2;
}
static void leak_a_descriptor(void)
{
    file->keeper.descriptors_held++;
}
static void lose_descriptors(void)
{
    file->keeper.descriptors_held = 19;
}
static void be_ready_too_early(void)
{
    file->engine.ready_generation = 4;
}

static const struct {
    void (*make)(void);
    const char *sentence;
} faults[] = {
    {lose_a_block, "pool: 37 held + 19 cached + 455 free make 511 blocks, but there are 512"},
    {hold_blocks_for_nobody, "pool: no request lives, but 37 blocks are held"},
    {miscount_connections, "connections: 2 rows are in use, but the keeper counts 1"},
    {repeat_a_connection, "connections: slots 0 and 5 both have id 7"},
    {leave_a_stream_behind, "connections: 2 streams live on slots that nobody has"},
    {orphan_a_request, "request 41 (slot 3) belongs to no connection"},
    {invent_a_phase, "request 40 (slot 0) is in no known phase"},
    {cache_more_than_the_prompt, "request 40 (slot 0) has more cached tokens than prompt"},
    {produce_too_much, "request 40 (slot 0) produced more tokens than were asked for"},
    {hold_more_than_there_is, "request 40 (slot 0) holds more blocks than there are"},
    {repeat_a_request, "request 40 stands in slots 0 and 3"},
    {miscount_requests, "requests: 2 running and 1 queued, but 2 rows"},
    {leak_a_descriptor, "descriptors: 15 beyond the keeper's own 20 do not share out to 2 clients"},
    {lose_descriptors, "descriptors: the keeper holds 19, fewer than its own 20"},
    {be_ready_too_early, "engine: generation 4 is ready, but only 3 were started"},
};

START_TEST(each_fault_is_found_and_named)
{
    struct findings findings;
    faults[_i].make();
    look(&findings);
    ck_assert_msg(findings.count >= 1, "row %d: nothing found", _i);
    ck_assert_str_eq(findings.sentence[0], faults[_i].sentence);
}
END_TEST

START_TEST(only_what_stands_still_is_kept)
{
    struct findings first, second;
    lose_a_block();
    produce_too_much();
    look(&first);
    ck_assert_uint_eq(first.count, 2);
    file->engine.blocks_free--; /* the pool moved on, the request did not */
    look(&second);
    findings_intersect(&first, &second);
    ck_assert_uint_eq(first.count, 1);
    ck_assert_str_eq(first.sentence[0],
                     "request 40 (slot 0) produced more tokens than were asked for");
}
END_TEST

START_TEST(a_file_full_of_rubbish_is_read_without_harm)
{
    struct findings findings;
    memset(file, 0xff, sizeof *file); /* every count huge, every text unterminated */
    look(&findings);
    ck_assert_uint_eq(findings.count, FINDINGS_MAX);
    ck_assert_uint_lt(strlen(view->model_name), sizeof view->model_name);
    ck_assert_str_eq(status_view_state_name(view->daemon_state), "unknown");
    ck_assert_str_eq(status_view_phase_name(view->requests[0].phase), "unknown");
}
END_TEST

START_TEST(health_names_what_ails_the_daemon)
{
    struct llm_error ailment;
    look(&(struct findings){0});
    view->heartbeat_ns = view->taken_ns;
    ck_assert_int_eq(status_view_health(view, &ailment), LLM_OK);

    view->heartbeat_ns = view->taken_ns - UINT64_C(12000000000);
    ck_assert_int_eq(status_view_health(view, &ailment), LLM_ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(ailment.message, "no sign of life for 12 s"));
    view->requests_running = view->requests_queued = 0; /* silent because idle */
    ck_assert_int_eq(status_view_health(view, &ailment), LLM_OK);

    view->ready_generation = 2;
    ck_assert_int_eq(status_view_health(view, &ailment), LLM_ERR_BUSY);
    ck_assert_ptr_nonnull(strstr(ailment.message, "not ready yet"));
    view->engine_died_ns = view->taken_ns - 84000000;
    ck_assert_int_eq(status_view_health(view, &ailment), LLM_ERR_BUSY);
    ck_assert_str_eq(ailment.message, "the engine died 84 ms ago; number 3 is being started");
    view->daemon_state = LLM_DAEMON_FAILED;
    ck_assert_int_eq(status_view_health(view, &ailment), LLM_ERR_PEER);
    view->keeper_pid = 0x7fffffff; /* above pid_max: nobody */
    ck_assert_int_eq(status_view_health(view, &ailment), LLM_ERR_PEER);
    ck_assert_ptr_nonnull(strstr(ailment.message, "is gone"));
}
END_TEST

START_TEST(descriptors_are_compared_with_the_kernels_count)
{
    struct findings findings = {0};
    look(&(struct findings){0});
    status_check_descriptors(view, &findings);
    ck_assert_uint_eq(findings.count, 1); /* this process has not 34 */
    uint32_t open = 0;
    ck_assert_int_eq(sscanf(strstr(findings.sentence[0], "kernel"), "kernel %u", &open), 1);

    findings.count = 0;
    view->descriptors_held = open;
    status_check_descriptors(view, &findings);
    ck_assert_uint_eq(findings.count, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools/status_check");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, fill_file, free_file);
    tcase_add_test(tc, a_consistent_file_has_no_finding);
    tcase_add_loop_test(tc, each_fault_is_found_and_named, 0, sizeof faults / sizeof faults[0]);
    tcase_add_test(tc, only_what_stands_still_is_kept);
    tcase_add_test(tc, a_file_full_of_rubbish_is_read_without_harm);
    tcase_add_test(tc, health_names_what_ails_the_daemon);
    tcase_add_test(tc, descriptors_are_compared_with_the_kernels_count);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
