/*
 * readers.h - many clients that keep a daemon busy and count what they are given.
 *
 * Idea     A client is a connection with some streams, each of which asks again as soon as its answer is complete. A
 *          worker, a process or a thread, serves some of the clients. All of them share one board with whoever
 *          measures: it lets them go at once, reads their counters while they run, and tells them to stop.
 * Readers  late     looks at all its streams every 20 ms: nearly all that the engine spends is without readers
 *          spin     looks at all its streams again and again
 *          look     looks at all its streams once per engine step, by the clock (board.look_ns, kept up to date
 *                   by readers_update()); between looks it touches no shared memory
 *          futex    sleeps in llm_streams_wait_any(): one client per worker
 *          eventfd  sleeps in poll() on llm_connection_fd() of its clients
 * Checks   The first token of everything read must be the echo of the prompt at its position.
 * Owner    readers_open() .. readers_close(); the board is shared, anonymous memory.
 */
#ifndef BENCH_READERS_H
#define BENCH_READERS_H

#include <stdalign.h>
#include <stdatomic.h>

#include "tools/bench/machine.h"
#include "tools/bench/samples.h"
#include "tools/bench/target.h"

enum reader_kind {
    READER_LATE, /* first: the others' delivery is the difference */
    READER_LOOK,
    READER_SPIN,
    READER_FUTEX,
    READER_EVENTFD,
    READER_COUNT
};
extern const char *const reader_names[READER_COUNT];

#define READER_FIRSTS_MAX 2048 /* times to first token kept per client */

/* One client's counters. Written by its worker alone. */
struct reader_cell {
    alignas(64) _Atomic uint64_t tokens;
    _Atomic uint64_t requests; /* complete */
    _Atomic uint32_t first_count;
    float first_us[READER_FIRSTS_MAX]; /* submit to first token seen */
};

struct reader_board {
    alignas(64) _Atomic uint32_t ready; /* workers that have connected */
    _Atomic uint32_t ended;             /* workers that have stopped */
    _Atomic uint32_t failed;            /* 1: `message` says why */
    char message[LLM_ERROR_MESSAGE_BYTES];
    alignas(64) _Atomic uint32_t go;
    _Atomic uint32_t stop;
    _Atomic uint64_t look_ns;
    struct reader_cell cells[]; /* [clients] */
};

struct reader_setup {
    enum reader_kind kind;
    uint32_t clients, workers, streams;
    uint32_t requests; /* per stream; 0: until told to stop */
    uint32_t tokens, prompt;
    uint32_t look_us; /* 0: as long as a step takes */
    bool threads;
};

struct readers {
    struct reader_setup setup;
    const struct target *target;
    const struct machine *machine;
    struct reader_board *board;
    size_t board_bytes;
    struct reader_worker *workers; /* [setup.workers] */
    uint32_t started;
    uint64_t seen_steps, seen_ns; /* readers_update() */
};

/* Start the workers and wait until all are connected. LLM_ERR_SYSTEM, LLM_ERR_MEMORY, or what a worker met. */
enum llm_status readers_open(struct readers *readers, const struct reader_setup *setup,
                             const struct target *target, const struct machine *machine,
                             struct llm_error *error) LLM_MUST_CHECK;
void readers_go(struct readers *readers);
/* Every few milliseconds while they run: how long a step takes. */
void readers_update(struct readers *readers);
bool readers_ended(const struct readers *readers); /* all of them, or one has failed */
uint64_t readers_cpu_ns(const struct readers *readers);
/* Stop and wait. What a worker met is returned. */
enum llm_status readers_close(struct readers *readers, struct llm_error *error) LLM_MUST_CHECK;

#endif
