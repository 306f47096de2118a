/*
 * test_channel.c - daemon/channel: messages with and without descriptors, strangers' messages, the end.
 */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/channel.h"

static int ends[2];
static struct channel_message sent, got;
static int fds[CHANNEL_FDS_MAX];
static struct llm_error error;

static void setup(void)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    memset(&sent, 0, sizeof sent);
    sent.kind = CHANNEL_ALLOC;
    sent.ticket = 77;
    strcpy(sent.name, "kvpool");
}

static void teardown(void)
{
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            close(ends[i]);
}

START_TEST(a_message_arrives_as_it_was_sent)
{
    ck_assert_int_eq(channel_receive(ends[1], false, &got, fds, &error), LLM_ERR_TIMEOUT);
    ck_assert_int_eq(channel_send(ends[0], &sent, NULL, 0, &error), LLM_OK);
    ck_assert_int_eq(channel_receive(ends[1], false, &got, fds, &error), LLM_OK);
    ck_assert_uint_eq(got.ticket, 77);
    ck_assert_str_eq(got.name, "kvpool");
    for (int i = 0; i < CHANNEL_FDS_MAX; i++)
        ck_assert_int_eq(fds[i], -1);
}
END_TEST

START_TEST(descriptors_arrive_close_on_exec)
{
    int pipe_ends[2];
    ck_assert_int_eq(pipe(pipe_ends), 0);
    ck_assert_int_eq(channel_send(ends[0], &sent, pipe_ends, 2, &error), LLM_OK);
    ck_assert_int_eq(channel_receive(ends[1], true, &got, fds, &error), LLM_OK);
    ck_assert_int_eq(fds[2], -1);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    char byte = 0;
    ck_assert_int_eq(read(pipe_ends[0], &byte, 1), 1);
    ck_assert_int_eq(byte, 'x');
    const int many[CHANNEL_FDS_MAX + 1] = {0};
    ck_assert_int_eq(channel_send(ends[0], &sent, many, CHANNEL_FDS_MAX + 1, &error),
                     LLM_ERR_INVALID);
}
END_TEST

START_TEST(texts_arrive_terminated)
{
    memset(sent.name, 'n', sizeof sent.name);
    memset(sent.path, 'p', sizeof sent.path);
    memset(sent.text, 't', sizeof sent.text);
    ck_assert_int_eq(channel_send(ends[0], &sent, NULL, 0, &error), LLM_OK);
    ck_assert_int_eq(channel_receive(ends[1], true, &got, fds, &error), LLM_OK);
    ck_assert_uint_eq(strlen(got.name), CHANNEL_NAME_BYTES - 1);
    ck_assert_uint_eq(strlen(got.path), CHANNEL_PATH_BYTES - 1);
    ck_assert_uint_eq(strlen(got.text), LLM_NOTE_BYTES - 1);
}
END_TEST

START_TEST(a_message_that_is_not_ours_is_the_end)
{
    char noise[sizeof sent + 8] = {0};
    static const size_t sizes[] = {1, sizeof sent - 1, sizeof sent, sizeof sent + 8};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ck_assert_int_eq(send(ends[0], noise, sizes[i], 0), (ssize_t)sizes[i]);
        got.ticket = 5;
        ck_assert_int_eq(channel_receive(ends[1], true, &got, fds, &error), LLM_ERR_PEER);
        ck_assert_uint_eq(got.ticket, 5); /* out-parameters survive a failure */
    }
}
END_TEST

START_TEST(the_other_ends_death_is_seen_by_both)
{
    close(ends[0]);
    ends[0] = -1;
    ck_assert_int_eq(channel_receive(ends[1], true, &got, fds, &error), LLM_ERR_PEER);
    ck_assert_int_eq(channel_send(ends[1], &sent, NULL, 0, &error), LLM_ERR_PEER);
}
END_TEST

START_TEST(a_full_channel_does_not_block_who_does_not_want_to)
{
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    enum llm_status status;
    do
        status = channel_send(ends[0], &sent, NULL, 0, &error);
    while (status == LLM_OK);
    ck_assert_int_eq(status, LLM_ERR_TIMEOUT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/channel");
    TCase *tcase = tcase_create("channel");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_message_arrives_as_it_was_sent);
    tcase_add_test(tcase, descriptors_arrive_close_on_exec);
    tcase_add_test(tcase, texts_arrive_terminated);
    tcase_add_test(tcase, a_message_that_is_not_ours_is_the_end);
    tcase_add_test(tcase, the_other_ends_death_is_seen_by_both);
    tcase_add_test(tcase, a_full_channel_does_not_block_who_does_not_want_to);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
