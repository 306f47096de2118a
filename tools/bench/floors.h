/*
 * floors.h - what this machine's own means cost, without llmd.
 *
 * Idea     A floor is measured between this process and a child on the other processor of the pair, by the same
 *          clock and in the same rounds as llmd. "rested" means that the other side had been asleep for a while
 *          before each exchange, as an idle engine is; without it the two play ping-pong.
 *
 *            line         a cache line handed over: both spin; half of a round trip
 *            stamp        one way: the child stores the time at which it saw the line; includes reading the clock
 *            futex        a round trip between two processes, both asleep in FUTEX_WAIT
 *            eventfd      the same with two eventfds
 *            stream       64 bytes and 64 bytes back over a Unix stream socket
 *            seqpacket    the same, SOCK_SEQPACKET
 *            http         HTTP/1.1 keep-alive over TCP on loopback: a POST of 60 bytes, an answer of 27, and a reader
 *                         on both sides that looks for the empty line and Content-Length only
 *            syscall      getppid()          wake_nobody  FUTEX_WAKE without a sleeper          clock  reading the clock
 *
 * See      ipc.c, docs/PERFORMANCE.md.
 */
#ifndef BENCH_FLOORS_H
#define BENCH_FLOORS_H

#include "tools/bench/machine.h"
#include "tools/bench/samples.h"

enum floor_kind {
    FLOOR_LINE,
    FLOOR_STAMP,
    FLOOR_FUTEX,
    FLOOR_EVENTFD,
    FLOOR_STREAM,
    FLOOR_SEQPACKET,
    FLOOR_HTTP,
    FLOOR_SYSCALL,
    FLOOR_WAKE_NOBODY,
    FLOOR_CLOCK
};

/*
 * Add samples in nanoseconds until `run_ns` have passed or there is no more room.
 *   rest_ns   0, or how long the other side rests before each exchange
 */
enum llm_status floor_measure(enum floor_kind kind, const struct machine *machine, uint64_t rest_ns,
                              uint64_t run_ns, struct samples *samples, struct llm_error *error)
    LLM_MUST_CHECK;

/* Spin for so long: this side stays awake while the other one falls asleep. */
void floor_rest(uint64_t rest_ns);

#endif
