/*
 * test_load.c - attackers who only ask, but as much, as often and as badly as they can.
 * How: attack.h. Nothing here breaks the protocol: each of these could be a program with a bug.
 */
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/attack/attack.h"
#include "tests/attack/raw_load.h"

#define LONGEST 8191 /* of the echo's context of 8192 */

static void is_refused_in_a_loop(const struct attack *attack)
{
    struct raw_client client;
    raw_load_attach(&client, attack);
    const struct llm_request_body wrong = {
        .prompt_tokens = 4, .max_tokens = 8, .top_p = 1, .temperature = NAN};
    memcpy(client.up + client.up_map.arena_offset, &wrong, sizeof wrong);
    for (;;)
        if (raw_load_generate(&client, 4, 8))
            attack_count(attack);
}

static void asks_nothing_in_a_loop(const struct attack *attack)
{
    struct raw_client client;
    raw_load_attach(&client, attack);
    for (;;)
        if (raw_load_nop(&client))
            attack_count(attack);
}

/* The last id is none: all of it is read, and then refused. */
static void longest_prompts_that_are_refused(const struct attack *attack)
{
    struct raw_client client;
    raw_load_attach(&client, attack);
    raw_load_body(&client, 0, LONGEST, 1);
    memset(client.up + client.up_map.arena_offset + 128 + 4 * (LONGEST - 1), 0xff, 4);
    for (;;)
        if (raw_load_generate(&client, LONGEST, 8))
            attack_count(attack);
}

static void longest_prompts_in_a_loop(const struct attack *attack)
{
    struct raw_client client;
    raw_load_attach(&client, attack);
    raw_load_body(&client, 0, LONGEST, 1);
    for (uint32_t i = 0;; i++) {
        memcpy(client.up + client.up_map.arena_offset + 128, &(uint32_t){i % 65536},
               4); /* uncached */
        if (raw_load_generate(&client, LONGEST, 8))
            attack_count(attack);
    }
}

static void submits_and_cancels(const struct attack *attack)
{
    struct raw_client client;
    uint32_t slot;
    raw_load_attach(&client, attack);
    raw_load_body(&client, 0, 8, 4000);
    _Atomic uint32_t *words = (void *)(client.up + client.up_map.cancel_offset);
    for (;;) {
        const struct llm_submission entry = {
            .operation = LLM_OP_GENERATE, .log_words = 4000, .body_bytes = 128 + 4 * 8};
        if (!raw_load_entry(&client, entry, &slot))
            continue;
        atomic_store(&words[slot],
                     llm_commit_epoch(atomic_load(&raw_stream(&client, slot)->commit)) + 1);
        atomic_fetch_add(&raw_up(&client)->cancel_bell, 1);
        raw_ring(&client);
        attack_count(attack);
    }
}

/* Every slot, the whole log and the whole arena; then it goes on asking, and reads nothing. */
static void takes_all_it_may_and_reads_nothing(const struct attack *attack)
{
    struct raw_client client;
    raw_load_attach(&client, attack);
    raw_load_body(&client, 0, 8, 8000);
    memset(client.up + client.up_map.arena_offset + 1024, 1,
           client.up_map.total_bytes - client.up_map.arena_offset - 1024);
    for (;;) {
        (void)raw_load_generate(&client, 8, 8000);
        attack_count(attack);
        if (client.next_slot >= client.geometry.stream_slots)
            test_sleep_ms(1);
    }
}

static void is_stopped_with_answers_under_way(const struct attack *attack)
{
    struct raw_client client;
    raw_load_attach(&client, attack);
    raw_load_body(&client, 0, 8, 8000);
    atomic_store(&raw_up(&client)->sleepers, 1);
    for (int i = 0; i < 16; i++)
        (void)raw_load_generate(&client, 8, 8000);
    attack_count(attack);
    for (;;)
        raise(SIGSTOP);
}

/* Everything that a user may have, over as many connections as it gets. */
static void takes_all_that_its_user_may(const struct attack *attack)
{
    static struct raw_client clients[300];
    uint32_t count = 0;
    while (count < 300 && raw_try_attach(&clients[count], attack->daemon->socket, NULL))
        raw_load_body(&clients[count++], 0, 100, 8000);
    for (uint32_t i = 0;; i++) {
        struct raw_client *client = &clients[i % count];
        if (raw_load_generate(client, 100, 8000))
            attack_count(attack);
    }
}

/* ---- Children -------------------------------------------------------------------------------------- */

/* The child inherits memories, doorbell and socket, and uses them after its parent is gone. */
static void forks_children_that_go_on(const struct attack *attack)
{
    for (;;) {
        pid_t parent = fork();
        if (parent == 0) {
            struct raw_client client;
            raw_load_attach(&client, attack);
            raw_load_body(&client, 0, 8, 1000);
            (void)raw_load_generate(&client, 8, 1000);
            if (fork() != 0)
                _exit(0); /* this one was the client */
            for (int i = 0; i < 500; i++) {
                (void)raw_load_generate(&client, 8, 1000);
                atomic_fetch_add(&raw_up(&client)->cancel_bell, 1);
                raw_ring(&client);
                usleep(100);
            }
            _exit(0);
        }
        while (waitpid(-1, NULL, 0) > 0)
            ;
        attack_count(attack);
    }
}

static const struct attacker rows[] = {
    {"is refused in a loop", is_refused_in_a_loop, 1000, false, {NULL}},
    {"asks nothing in a loop", asks_nothing_in_a_loop, 1000, false, {NULL}},
    {"longest prompts that are refused", longest_prompts_that_are_refused, 10, false, {NULL}},
    {"longest prompts in a loop", longest_prompts_in_a_loop, 3, false, {NULL}},
    {"submits and cancels in a loop", submits_and_cancels, 100, false, {NULL}},
    {"takes all it may, reads nothing", takes_all_it_may_and_reads_nothing, 64, false, {NULL}},
    {"is stopped with answers under way", is_stopped_with_answers_under_way, 1, false, {NULL}},
    {"takes all that its user may", takes_all_that_its_user_may, 100, true, {NULL}},
    {"forks children that go on", forks_children_that_go_on, 2, false, {NULL}},
};

int main(void)
{
    return attack_main("attack/load", rows, sizeof rows / sizeof rows[0]);
}
