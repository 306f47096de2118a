/*
 * test_bad_client.c - clients that lie, scribble and stall; a bystander never notices.
 * How: the bad client speaks to socket and memories by hand. Each case has a bystander with a stream of known tokens
 * that must come out whole, on the same engine, with nothing left afterwards.
 */
#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/queue.h"
#include "shm/tables.h"
#include "tests/support/daemon.h"
#include "tests/support/raw_client.h"
#include "tests/support/test_seed.h"

#define BYSTANDER_TOKENS 150

static struct test_daemon server;
static llm_connection *bystander;
static llm_stream *bystander_stream;
static const uint32_t bystander_prompt[] = {17, 4, 99, 12};
static llm_error error;

static void setup(void)
{
    test_daemon_start(&server, (const char *const[]){"--set", "models.echo_step_us=1000", NULL});
    bystander = test_daemon_connect(&server);
    ck_assert_int_eq(llm_submit(bystander, bystander_prompt, 4,
                                &(llm_sampling){.max_tokens = BYSTANDER_TOKENS}, &bystander_stream,
                                &error),
                     LLM_OK);
}

static void teardown(void)
{
    ck_assert_uint_eq(test_read_echo(bystander_stream, bystander_prompt, 4, LLM_OK),
                      BYSTANDER_TOKENS);
    llm_stream_close(bystander_stream);
    llm_disconnect(bystander);
    ck_assert_uint_eq(test_daemon_generation(&server), 1);
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}

/* ---- The socket ------------------------------------------------------------------------------------ */

START_TEST(nonsense_on_the_socket_ends_that_connection)
{
    struct llm_keeper_request request = raw_hello(LLM_VERB_ATTACH);
    char large[1000] = {0};
    static const size_t sizes[] = {1, 255, 257, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int fd = raw_connect(server.socket);
        memcpy(large, &request, sizeof request);
        ck_assert_int_eq(send(fd, large, sizes[i], 0), (ssize_t)sizes[i]);
        raw_assert_closed(fd);
    }
    request.magic ^= 1;
    int fd = raw_connect(server.socket);
    ck_assert_int_eq(send(fd, &request, sizeof request, 0), (ssize_t)sizeof request);
    raw_assert_closed(fd);
}
END_TEST

START_TEST(a_wrong_request_is_answered_with_its_status)
{
    int fd = raw_connect(server.socket);
    struct llm_keeper_request request = raw_hello(77);
    ck_assert_int_eq(raw_ask(fd, &request, sizeof request), LLM_ERR_UNSUPPORTED);
    request = raw_hello(LLM_VERB_ATTACH);
    request.argument[100] = 1;
    ck_assert_int_eq(raw_ask(fd, &request, sizeof request), LLM_ERR_INVALID);
    request = raw_hello(LLM_VERB_MEMORY);
    ck_assert_int_eq(raw_ask(fd, &request, sizeof request), LLM_ERR_NOT_FOUND);
    memset(request.name, 'x', sizeof request.name); /* not terminated */
    ck_assert_int_eq(raw_ask(fd, &request, sizeof request), LLM_ERR_NOT_FOUND);
    strcpy(request.name, LLM_TABLE_REQUESTS); /* exists, and is nobody's business */
    ck_assert_int_eq(raw_ask(fd, &request, sizeof request), LLM_ERR_NOT_FOUND);
    request = raw_hello(LLM_VERB_ATTACH);
    ck_assert_int_eq(raw_ask(fd, &request, sizeof request), LLM_OK);
    ck_assert_int_eq(raw_ask(fd, &request, sizeof request), LLM_ERR_INVALID); /* attached already */
    close(fd);
    fd = raw_connect(server.socket);
    request.abi_major = LLM_ABI_MAJOR + 1;
    ck_assert_int_eq(raw_ask(fd, &request, sizeof request), LLM_ERR_VERSION);
    raw_assert_closed(fd);
}
END_TEST

START_TEST(descriptors_from_a_client_are_refused)
{
    int fd = raw_connect(server.socket);
    struct llm_keeper_request request = raw_hello(LLM_VERB_ATTACH);
    ck_assert_int_eq(raw_send_with_fds(fd, &request, &fd, 1), (ssize_t)sizeof request);
    raw_assert_closed(fd);
}
END_TEST

START_TEST(silent_clients_are_closed_and_a_crowd_is_told_to_wait)
{
    int fds[80];
    for (int i = 0; i < 80; i++)
        fds[i] = raw_connect(server.socket);
    int told = 0;
    for (int i = 0; i < 80;
         i++) { /* in a second all of them are closed, the late ones with a word */
        struct llm_keeper_reply reply;
        ssize_t taken = recv(fds[i], &reply, sizeof reply, 0);
        told += taken == (ssize_t)sizeof reply && reply.status == LLM_ERR_BUSY;
        close(fds[i]);
    }
    ck_assert_int_eq(told, 80 - 64);
    llm_disconnect(test_daemon_connect(&server)); /* and there is room again */
}
END_TEST

/* ---- The memories ---------------------------------------------------------------------------------- */

static struct llm_submission good_nop(void)
{
    return (struct llm_submission){.operation = LLM_OP_NOP, .stream_epoch = 1};
}

/* One entry that no honest library could have written. */
static void spoil(struct raw_client *client, int how)
{
    struct llm_submission entry = good_nop();
    struct llm_up_header *up = raw_up(client);
    struct llm_submission *entries = (void *)(client->up + client->up_map.queue_offset);
    switch (how) {
    case 0:
        atomic_store(&up->queue_tail, client->geometry.queue_entries + 1u);
        raw_ring(client);
        return;
    case 1:
        atomic_store(&entries[0].stamp, 77);
        atomic_store(&up->queue_tail, 1);
        raw_ring(client);
        return;
    case 2:
        entry.operation = LLM_OP_COUNT;
        break;
    case 3:
        entry.stream_slot = client->geometry.stream_slots;
        break;
    case 4:
        entry.stream_epoch = 2;
        break;
    case 5:
        entry.log_offset = client->geometry.log_words - 1;
        entry.log_words = 2;
        break;
    case 6:
        entry.log_offset = 4;
        entry.log_words = UINT32_MAX - 1;
        break;
    case 7:
        entry.body_offset = client->geometry.arena_bytes - 8;
        entry.body_bytes = 16;
        break;
    case 8:
        entry.body_offset = 4; /* not a multiple of 8 */
        break;
    case 9:
        entry.reserved3 = 1;
        break;
    default:
        ck_abort();
    }
    raw_push(client, &entry);
}
#define SPOILS 10

START_TEST(a_client_that_breaks_the_protocol_is_detached_with_a_farewell)
{
    struct raw_client client;
    raw_attach(&client, server.socket);
    spoil(&client, _i);
    struct llm_keeper_reply farewell;
    ck_assert_int_eq(recv(client.socket, &farewell, sizeof farewell, 0), (ssize_t)sizeof farewell);
    ck_assert_int_eq(farewell.status, LLM_ERR_PEER);
    ck_assert_msg(strncmp(farewell.message, "client pid ", 11) == 0, "%s", farewell.message);
    ck_assert_int_eq(recv(client.socket, &farewell, sizeof farewell, 0), 0);
    raw_detach(&client);
    ck_assert_uint_eq(atomic_load(&server.status->engine.counters[LLM_COUNTER_CLIENTS_DETACHED]),
                      1);
}
END_TEST

struct bad_body {
    const char *what;
    struct llm_request_body body;
    uint32_t extra_bytes;
    enum llm_status status;
};

START_TEST(a_wrong_body_is_refused_and_the_connection_lives)
{
    const struct llm_request_body fine = {.prompt_tokens = 4, .max_tokens = 8, .top_p = 1};
    struct bad_body rows[16] = {
        {"short", fine, 0, LLM_ERR_INVALID},       {"long", fine, 20, LLM_ERR_INVALID},
        {"no prompt", fine, 0, LLM_ERR_INVALID},   {"NaN", fine, 16, LLM_ERR_INVALID},
        {"negative", fine, 16, LLM_ERR_INVALID},   {"top_p", fine, 16, LLM_ERR_INVALID},
        {"flags", fine, 16, LLM_ERR_INVALID},      {"name", fine, 16, LLM_ERR_INVALID},
        {"log", fine, 16, LLM_ERR_INVALID},        {"defaults", fine, 16, LLM_ERR_INVALID},
        {"stop ids", fine, 16, LLM_ERR_INVALID},   {"huge", fine, 16, LLM_ERR_INVALID},
        {"max_tokens", fine, 16, LLM_ERR_INVALID}, {"fine", fine, 16, LLM_OK},
        {"steered", fine, 16, LLM_ERR_INVALID},
    };
    rows[2].body.prompt_tokens = 0;
    rows[3].body.temperature = NAN;
    rows[4].body.min_p = -0.5F;
    rows[5].body.top_p = 2;
    rows[6].body.flags = 0x80000000;
    memset(rows[7].body.model, 'm', LLM_NAME_BYTES);
    rows[8].body.max_tokens = 65;
    rows[9].body.defaults = 64;
    rows[10].body.stop_id_count = 17;
    rows[11].body.prompt_tokens = UINT32_MAX;
    rows[12].body.max_tokens = 0;
    rows[14].body.flags = LLM_REQUEST_STEERED; /* without its part */
    struct raw_client client;
    raw_attach(&client, server.socket);
    char *arena = client.up + client.up_map.arena_offset;
    for (int i = 0; rows[i].what; i++) {
        memset(arena, 0, 256);
        memcpy(arena, &rows[i].body, sizeof rows[i].body);
        struct llm_submission entry =
            raw_generate_entry(&client, (uint32_t)sizeof fine + rows[i].extra_bytes);
        raw_push(&client, &entry);
        const struct llm_stream_record *record = raw_wait_done(&client, entry.stream_slot);
        ck_assert_msg(atomic_load(&record->status) == (uint32_t)rows[i].status, "%s: status %u",
                      rows[i].what, atomic_load(&record->status));
    }
    raw_detach(&client);
}
END_TEST

/* ---- Scribbling ------------------------------------------------------------------------------------ */

struct scribbler {
    struct raw_client *client;
    _Atomic bool stop;
};

static void *scribble(void *self)
{
    struct scribbler *scribbler = self;
    uint64_t random = test_seed();
    volatile unsigned char *arena =
        (unsigned char *)scribbler->client->up + scribbler->client->up_map.arena_offset;
    while (!atomic_load(&scribbler->stop))
        arena[test_random(&random) % 160] = (unsigned char)test_random(&random);
    return NULL;
}

START_TEST(a_body_that_changes_while_it_is_read_harms_nobody)
{
    struct raw_client client;
    raw_attach(&client, server.socket);
    struct scribbler scribbler = {.client = &client};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, scribble, &scribbler), 0);
    const struct llm_request_body fine = {.prompt_tokens = 8, .max_tokens = 8, .top_p = 1};
    while (client.next_slot < client.geometry.stream_slots) {
        memcpy(client.up + client.up_map.arena_offset, &fine, sizeof fine);
        struct llm_submission entry = raw_generate_entry(&client, (uint32_t)sizeof fine + 32);
        raw_push(&client, &entry);
        raw_wait_done(&client, entry.stream_slot); /* served or refused, never stuck */
    }
    atomic_store(&scribbler.stop, true);
    pthread_join(thread, NULL);
    raw_detach(&client);
}
END_TEST

START_TEST(punched_pages_read_as_zero_and_harm_nobody)
{
    struct raw_client client;
    raw_attach(&client, server.socket);
    struct llm_submission entry = raw_generate_entry(&client, 128 + 4 * 5000);
    struct llm_request_body fine = {.prompt_tokens = 5000, .max_tokens = 8, .top_p = 1};
    memcpy(client.up + client.up_map.arena_offset, &fine, sizeof fine);
    ck_assert_int_eq(fallocate(client.fds[LLM_FD_UP], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                               (off_t)client.up_map.arena_offset + 4096, 8192),
                     0);
    raw_push(&client, &entry);
    ck_assert_uint_eq(atomic_load(&raw_wait_done(&client, entry.stream_slot)->status), LLM_OK);
    ck_assert_int_ne(ftruncate(client.fds[LLM_FD_UP], 0), 0); /* sealed */
    /* Everything at once, the header too: tail and stamps are zero again, behind what was taken. */
    ck_assert_int_eq(fallocate(client.fds[LLM_FD_UP], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                               (off_t)client.up_map.total_bytes),
                     0);
    raw_ring(&client);
    struct llm_keeper_reply farewell;
    ck_assert_int_eq(recv(client.socket, &farewell, sizeof farewell, 0), (ssize_t)sizeof farewell);
    raw_detach(&client);
}
END_TEST

static uint64_t mutes(void)
{
    return atomic_load(&server.status->engine.counters[LLM_COUNTER_DOORBELLS_MUTED]);
}

/* Rings until the counter says that it is muted again. */
static void storm(const struct raw_client *client, uint64_t until_mutes)
{
    uint64_t deadline_ns = llm_deadline_ns(60 * LLM_NS_PER_S), one = 1;
    while (mutes() < until_mutes) {
        ck_assert_uint_gt(llm_remaining_ns(deadline_ns), 0);
        ck_assert_int_eq(write(client->fds[LLM_FD_TO_ENGINE], &one, sizeof one), sizeof one);
    }
}

START_TEST(a_doorbell_that_rings_for_nothing_is_muted_and_its_client_still_served)
{
    struct raw_client client;
    raw_attach(&client, server.socket);
    for (uint64_t round = 1; round <= 2; round++) { /* the second one after it was heard again */
        storm(&client, round);
        for (uint32_t i = 0; i < 4; i++) {
            struct llm_submission entry = good_nop();
            entry.stream_slot = client.next_slot++;
            raw_push(&client, &entry);
            ck_assert_uint_eq(atomic_load(&raw_wait_done(&client, entry.stream_slot)->status),
                              LLM_OK);
            test_sleep_ms(10); /* longer than a queue is looked at without ringing */
        }
    }
    raw_detach(&client);
}
END_TEST

START_TEST(what_is_read_only_stays_read_only)
{
    struct raw_client client;
    raw_attach(&client, server.socket);
    static const int readonly[] = {LLM_FD_CTL, LLM_FD_DOWN};
    for (int i = 0; i < 2; i++) {
        int fd = client.fds[readonly[i]];
        ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
        ck_assert_int_ne(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
    }
    raw_detach(&client);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attack/bad_client");
    TCase *tcase = tcase_create("bad");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, nonsense_on_the_socket_ends_that_connection);
    tcase_add_test(tcase, a_wrong_request_is_answered_with_its_status);
    tcase_add_test(tcase, descriptors_from_a_client_are_refused);
    tcase_add_test(tcase, silent_clients_are_closed_and_a_crowd_is_told_to_wait);
    tcase_add_loop_test(tcase, a_client_that_breaks_the_protocol_is_detached_with_a_farewell, 0,
                        SPOILS);
    tcase_add_test(tcase, a_wrong_body_is_refused_and_the_connection_lives);
    tcase_add_test(tcase, a_body_that_changes_while_it_is_read_harms_nobody);
    tcase_add_test(tcase, punched_pages_read_as_zero_and_harm_nobody);
    tcase_add_test(tcase, a_doorbell_that_rings_for_nothing_is_muted_and_its_client_still_served);
    tcase_add_test(tcase, what_is_read_only_stays_read_only);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
