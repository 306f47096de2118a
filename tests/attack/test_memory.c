/*
 * test_memory.c - attackers with a connection of their own: what they write into their memories, and the bells.
 * How: attack.h. The first row is no attacker at all but a process that only computes: what it costs the bystander is
 * the machine's doing, and the measure for the rows below it.
 */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/wait.h"
#include "tests/attack/attack.h"
#include "tests/attack/raw_load.h"
#include "tests/support/test_seed.h"

static void only_computes(const struct attack *attack)
{
    for (;;)
        attack_count(attack);
}

/* ---- Scribbling ------------------------------------------------------------------------------------ */

struct scribbler {
    struct raw_client *client;
    size_t from, bytes; /* of up */
    pthread_t thread;
    _Atomic bool stop;
};

static void *scribble(void *self)
{
    struct scribbler *scribbler = self;
    uint64_t random = test_seed();
    volatile unsigned char *part = (unsigned char *)scribbler->client->up + scribbler->from;
    while (!atomic_load(&scribbler->stop))
        for (int i = 0; i < 100; i++)
            part[test_random(&random) % scribbler->bytes] = (unsigned char)test_random(&random);
    return NULL;
}

static void *punch(void *self)
{
    struct scribbler *scribbler = self;
    int fd = scribbler->client->fds[LLM_FD_UP];
    while (!atomic_load(&scribbler->stop))
        if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)scribbler->from,
                      (off_t)scribbler->bytes) != 0)
            _exit(5);
    return NULL;
}

/* Submit while another thread spoils the memory; when detached, come back. */
static void submit_while(const struct attack *attack, void *(*spoil)(void *), bool everything,
                         uint32_t prompt_tokens)
{
    for (;;) {
        struct raw_client client;
        struct scribbler scribbler = {.client = &client};
        raw_load_attach(&client, attack);
        scribbler.from = everything ? 0 : client.up_map.arena_offset;
        scribbler.bytes = everything ? client.up_map.total_bytes : 4 * prompt_tokens + 128;
        if (pthread_create(&scribbler.thread, NULL, spoil, &scribbler) != 0)
            _exit(6);
        while (!raw_load_is_detached(&client)) {
            raw_load_body(&client, 0, prompt_tokens, 8);
            if (raw_load_generate(&client, prompt_tokens, 8))
                attack_count(attack);
        }
        atomic_store(&scribbler.stop, true);
        pthread_join(scribbler.thread, NULL);
        raw_detach(&client);
        attack_count(attack);
    }
}

static void scribbles_over_its_bodies(const struct attack *attack)
{
    submit_while(attack, scribble, false, 8);
}

static void scribbles_over_everything(const struct attack *attack)
{
    submit_while(attack, scribble, true, 8);
}

static void punches_holes_into_its_prompts(const struct attack *attack)
{
    submit_while(attack, punch, false, 5000);
}

static void punches_holes_everywhere(const struct attack *attack)
{
    submit_while(attack, punch, true, 8);
}

/* ---- Flags and bells ------------------------------------------------------------------------------- */

/* As many long answers under way as it may have, none of which it reads. */
static void fill_with_answers(struct raw_client *client, const struct attack *attack)
{
    raw_load_attach(client, attack);
    raw_load_body(client, 0, 8, 8000);
    for (uint32_t i = 0; i < client->geometry.stream_slots; i++)
        if (raw_load_generate(client, 8, 8000))
            attack_count(attack);
}

static void always_sleeps_and_arms_its_bell(const struct attack *attack)
{
    struct raw_client client;
    fill_with_answers(&client, attack);
    atomic_store(&raw_up(&client)->sleepers, UINT32_MAX);
    for (;;) { /* and never takes a byte from the socket */
        atomic_fetch_add(&raw_up(&client)->bell_arms, 1);
        attack_count(attack);
    }
}

static void storms_its_cancel_bell(const struct attack *attack)
{
    struct raw_client client;
    raw_load_attach(&client, attack);
    for (;;) {
        atomic_fetch_add(&raw_up(&client)->cancel_bell, 1);
        raw_ring(&client);
        attack_count(attack);
    }
}

static void storms_its_cancel_bell_over_live_answers(const struct attack *attack)
{
    struct raw_client client;
    fill_with_answers(&client, attack);
    for (;;) {
        atomic_fetch_add(&raw_up(&client)->cancel_bell, 1);
        raw_ring(&client);
        attack_count(attack);
    }
}

static void write_bell(const struct raw_client *client)
{
    uint64_t one = 1;
    (void)!write(client->fds[LLM_FD_TO_ENGINE], &one, sizeof one);
}

static void storms_its_doorbell(const struct attack *attack)
{
    struct raw_client client;
    raw_load_attach(&client, attack);
    for (;;) {
        write_bell(&client);
        attack_count(attack);
    }
}

static void storms_the_doorbells_of_many_connections(const struct attack *attack)
{
    static struct raw_client clients[100];
    for (int i = 0; i < 100; i++)
        raw_load_attach(&clients[i], attack);
    for (uint32_t i = 0;; i++) {
        write_bell(&clients[i % 100]);
        attack_count(attack);
    }
}

/* The counter of an eventfd, and whether it blocks, belong to everybody who holds it. */
static void fills_and_drains_its_doorbell(const struct attack *attack)
{
    struct raw_client client;
    uint64_t most = UINT64_MAX - 1, got;
    raw_load_attach(&client, attack);
    int fd = client.fds[LLM_FD_TO_ENGINE];
    fcntl(fd, F_SETFL, 0); /* blocking, for the engine's descriptor too */
    for (;;) {
        (void)!write(fd, &most, sizeof most);
        raw_load_nop(&client);
        (void)!read(fd, &got, sizeof got);
        raw_load_nop(&client);
        attack_count(attack);
    }
}

static void floods_the_bell_socket(const struct attack *attack)
{
    struct raw_client client;
    static const char bytes[4096];
    fill_with_answers(&client, attack);
    for (;;) { /* the other way round: nobody there reads */
        (void)!send(client.fds[LLM_FD_TO_CLIENT], bytes, sizeof bytes, MSG_DONTWAIT);
        atomic_fetch_add(&raw_up(&client)->bell_arms, 1);
        attack_count(attack);
    }
}

static const struct attacker rows[] = {
    {"(no attacker: a process that only computes)", only_computes, 1, false, {NULL}},
    {"scribbles over its bodies", scribbles_over_its_bodies, 100, false, {NULL}},
    {"scribbles over everything, comes back", scribbles_over_everything, 10, false, {NULL}},
    {"punches holes into its prompts", punches_holes_into_its_prompts, 20, false, {NULL}},
    {"punches holes everywhere, comes back", punches_holes_everywhere, 10, false, {NULL}},
    {"always sleeps and arms its bell", always_sleeps_and_arms_its_bell, 10000, false, {NULL}},
    {"storms its cancel bell", storms_its_cancel_bell, 10000, false, {NULL}},
    {"storms its cancel bell over live answers",
     storms_its_cancel_bell_over_live_answers,
     10000,
     false,
     {NULL}},
    {"storms its doorbell", storms_its_doorbell, 10000, false, {NULL}},
    {"storms 100 doorbells", storms_the_doorbells_of_many_connections, 10000, false, {NULL}},
    {"fills and drains its doorbell", fills_and_drains_its_doorbell, 100, false, {NULL}},
    {"floods the bell socket", floods_the_bell_socket, 100, false, {NULL}},
};

int main(void)
{
    return attack_main("attack/memory", rows, sizeof rows / sizeof rows[0]);
}
