/*
 * engine.h - the keeper's side of the engine: start it, tell it, answer it, outlive it.
 *
 * Idea     What an engine must know is kept as "told" marks on memories and clients. A fresh engine has been
 *          told nothing; engine_tell() walks what is untold and sends it, in the order KEPT, ATTACH, SERVE,
 *          DETACH. So the manifest of a restarted engine and the news of a running one are the same few
 *          lines, and a full channel only means "go on when it is writable".
 * Deaths   Any end that was not asked for is a death: generation + 1 and a new engine at once. More than
 *          limits.engine_deaths within the window: the keeper stops trying, keeps everything and says why.
 *          An engine that says CHANNEL_FAILED (it cannot start at all) is not tried again either.
 * Owner    The keeper's only thread. The child dies with the keeper (PR_SET_PDEATHSIG).
 * See      daemon/channel.h, daemon/keeper/README.md ("Life of an engine").
 */
#ifndef LLMD_KEEPER_ENGINE_H
#define LLMD_KEEPER_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/channel.h"
#include "daemon/keeper/asker.h"
#include "shm/status.h"

#define ENGINE_DEATHS_MAX   1000
#define ENGINE_STOP_TIME_NS UINT64_C(5000000000) /* then it is killed */

struct keeper;

struct engine {
    pid_t pid; /* 0: none */
    int pidfd, channel;
    uint64_t generation;
    uint64_t started_ns;
    bool ready;       /* said READY */
    bool ready_once;  /* some engine did */
    bool failed;      /* not started again; `reason` says why */
    bool stop_asked;  /* CHANNEL_STOP is wanted */
    bool replace;     /* ... and a new one after it */
    uint64_t kill_ns; /* with stop_asked: when patience ends */
    char reason[LLM_NOTE_BYTES];
    /* what is to be told */
    bool has_news;
    bool told_serve, told_stop;
    uint64_t told_drain; /* the drain it knows of; 0: none */
    uint64_t told_names; /* the change of names it knows of */
    struct asker asker;
    /* deaths, newest last; [deaths_count] */
    uint64_t deaths_ns[ENGINE_DEATHS_MAX];
    uint32_t deaths_count;
};

void engine_init(struct engine *engine);
/* Fork and exec llmd-engine. LLM_ERR_NOT_FOUND (the program), LLM_ERR_MEMORY, LLM_ERR_SYSTEM. */
enum llm_status engine_start(struct keeper *keeper, struct llm_error *error) LLM_MUST_CHECK;
/* Send whatever is untold. */
void engine_tell(struct keeper *keeper);
/* The channel is readable; the pidfd is. */
void engine_channel_ready(struct keeper *keeper);
void engine_process_ready(struct keeper *keeper);
/* Replace it: finish the step, exit, a new one. Also out of the state "failed". */
void engine_restart(struct keeper *keeper);
/* End it for good. */
void engine_stop(struct keeper *keeper);
/* Kill it when it does not stop. Returns when to come back (UINT64_MAX: need not). */
uint64_t engine_expire(struct keeper *keeper, uint64_t now_ns);

#endif
