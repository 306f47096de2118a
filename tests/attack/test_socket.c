/*
 * test_socket.c - attackers at the door: what they send, or do not send, over the socket, and how often they come.
 * How: attack.h. The bystander attaches anew all the time where the attacker is another user.
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/attack/attack.h"
#include "tests/attack/raw_load.h"
#include "tests/support/test_seed.h"

#define CROWD 200

static int connect_again(const struct attack *attack)
{
    return raw_try_connect(attack->daemon->socket);
}

/* ---- Connecting ------------------------------------------------------------------------------------ */

static void connects_and_says_nothing(const struct attack *attack)
{
    int crowd[CROWD];
    for (int i = 0; i < CROWD; i++)
        crowd[i] = -1;
    for (uint32_t i = 0;; i++) { /* always as many as may wait, and more who try */
        int *fd = &crowd[i % CROWD];
        if (*fd >= 0)
            close(*fd);
        *fd = connect_again(attack);
        attack_count(attack);
        if (i % 16 == 0)
            test_sleep_ms(1);
    }
}

static void connects_and_goes(const struct attack *attack)
{
    for (;;) {
        int fd = connect_again(attack);
        if (fd >= 0)
            close(fd);
        attack_count(attack);
    }
}

static void attaches_and_goes(const struct attack *attack)
{
    for (;;) {
        struct raw_client client;
        if (raw_try_attach(&client, attack->daemon->socket, NULL))
            raw_detach(&client);
        attack_count(attack);
    }
}

static void attaches_until_refused_and_keeps_trying(const struct attack *attack)
{
    struct raw_client client;
    for (;;) { /* what it got stays open */
        (void)raw_try_attach(&client, attack->daemon->socket, NULL);
        attack_count(attack);
    }
}

static void breaks_the_protocol_and_comes_back(const struct attack *attack)
{
    for (;;) {
        struct raw_client client;
        if (!raw_try_attach(&client, attack->daemon->socket, NULL))
            continue;
        raw_try_push(&client, &(struct llm_submission){.operation = LLM_OP_COUNT});
        (void)poll(&(struct pollfd){.fd = client.socket, .events = POLLIN}, 1, 1000);
        raw_detach(&client);
        attack_count(attack);
    }
}

/* ---- Talking --------------------------------------------------------------------------------------- */

static void sends_nonsense(const struct attack *attack)
{
    static unsigned char bytes[100000];
    static const size_t sizes[] = {0, 1, 7, 255, 257, 512, 4096, sizeof bytes};
    uint64_t random = test_seed();
    for (uint32_t i = 0;; i++) {
        int fd = connect_again(attack);
        if (fd < 0)
            continue;
        for (size_t b = 0; b < 600; b++)
            bytes[b] = (unsigned char)test_random(&random);
        (void)!send(fd, bytes, sizes[i % (sizeof sizes / sizeof sizes[0])],
                    MSG_NOSIGNAL | MSG_DONTWAIT);
        close(fd);
        attack_count(attack);
    }
}

static void sends_descriptors(const struct attack *attack)
{
    int fds[253];
    struct llm_keeper_request request = raw_hello(LLM_VERB_ATTACH);
    int memory = memfd_create("gift", MFD_CLOEXEC);
    for (int i = 0; i < 253; i++)
        fds[i] = memory;
    for (;;) {
        int fd = connect_again(attack);
        if (fd < 0)
            continue;
        (void)!raw_send_with_fds(fd, &request, fds, 253);
        close(fd);
        attack_count(attack);
    }
}

static void asks_and_never_reads_the_answers(const struct attack *attack)
{
    struct llm_keeper_request request = raw_hello(LLM_VERB_MEMORY);
    strcpy(request.name, "vocab");
    for (;;) {
        int fd = connect_again(attack);
        if (fd < 0)
            continue;
        for (int i = 0; i < 1000; i++) {
            if (send(fd, &request, sizeof request, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                break;
            attack_count(attack);
        }
        close(fd);
    }
}

static void asks_what_is_refused(const struct attack *attack)
{
    static const uint32_t verbs[] = {LLM_VERB_STOP, LLM_VERB_RESTART_ENGINE, LLM_VERB_COUNT,
                                     UINT32_MAX, 0};
    for (;;) {
        int fd = connect_again(attack);
        for (uint32_t i = 0; fd >= 0 && i < 1000; i++) {
            struct llm_keeper_request request = raw_hello(verbs[i % 5]);
            struct llm_keeper_reply reply;
            if (send(fd, &request, sizeof request, MSG_NOSIGNAL) < 0 ||
                recv(fd, &reply, sizeof reply, 0) != (ssize_t)sizeof reply)
                break;
            if (i % 5 < 2 && reply.status == LLM_OK)
                _exit(7); /* it may not steer the daemon */
            attack_count(attack);
        }
        if (fd >= 0)
            close(fd);
    }
}

static const struct attacker rows[] = {
    {"connects and says nothing", connects_and_says_nothing, 100, false, {NULL}},
    {"connects and goes", connects_and_goes, 100, false, {NULL}},
    {"attaches and goes", attaches_and_goes, 10, false, {NULL}},
    {"attaches until refused, keeps trying",
     attaches_until_refused_and_keeps_trying,
     300,
     true,
     {NULL}},
    {"breaks the protocol, comes back", breaks_the_protocol_and_comes_back, 10, false, {NULL}},
    {"sends nonsense of all sizes", sends_nonsense, 100, false, {NULL}},
    {"sends descriptors", sends_descriptors, 100, false, {NULL}},
    {"asks and never reads the answers", asks_and_never_reads_the_answers, 100, false, {NULL}},
    {"asks what is refused", asks_what_is_refused, 100, true, {NULL}},
};

int main(void)
{
    return attack_main("attack/socket", rows, sizeof rows / sizeof rows[0]);
}
