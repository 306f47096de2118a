/*
 * heartbeat.h - does the engine still live, as opposed to: does its process exist?
 *
 * Idea     The engine writes the time of its last pass into the status file. A parked engine is silent for good
 *          reasons, so after half of daemon.engine_hang_s it is asked for a sign of life (CHANNEL_BEAT), which
 *          wakes it for one store. An engine that is silent for as long again after the question is hung: said once in log and
 *          errors, and killed where daemon.engine_hang_kill says so; the next one goes on where it stood.
 *          The second half counts from the question, so that a keeper that was kept waiting itself (a busy machine,
 *          a debugger) never takes its own absence for the engine's.
 * Limit    The engine's thread gives a sign at the end of a step: the time must be longer than a step may take on
 *          this machine (limits.step_tokens of a large model on few processors is a minute or more).
 * Trust    The word is the engine's; a time in the future counts as now.
 * See      tests/e2e/test_hang.c, service.h (a hung engine stops the watchdog's food, too).
 */
#ifndef LLMD_KEEPER_HEARTBEAT_H
#define LLMD_KEEPER_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>

struct keeper;

struct heartbeat {
    uint64_t ready_ns; /* the engine said READY; silence counts from here */
    uint64_t seen_ns;  /* the last sign of life at the last look */
    uint64_t asked_ns; /* when another one was asked for since then; 0: not */
    bool beat_wanted;  /* it is to be asked; engine_tell() does, and clears this */
    bool hung;
};

/* The engine is ready, or gone: nothing is known about it yet. */
void heartbeat_reset(struct keeper *keeper);
/* Look; returns when to look again. */
uint64_t heartbeat_expire(struct keeper *keeper, uint64_t now_ns);

#endif
