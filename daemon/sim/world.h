/*
 * world.h - daemon/core as an engine would run it, on a clock that is only counted.
 *
 * Idea     The world has a clock (ns since its beginning), a device that says how long a step takes (device.h), clients
 *          that follow a trace, and the real core between them. A step's tokens are seen at its end; requests that
 *          arrive meanwhile are taken in then, as by the engine. Nothing sleeps and nothing is computed, so a
 *          machine of any size is simulated at the speed of planning.
 *
 *            arrivals --> waiting, per user --> core_admit --> core_plan --> clock += device_step_ns --> core_complete
 *                              ^  BUSY: later       ^                                                     |
 *                              +--------------------+--- clients that are slow or die, engines that die <--+
 *
 * Clients  A client whose request finds the queue full asks again after every step. A slow one reads its answer
 *          late: the slot is given back only then. A dying one's request is cancelled at a random moment.
 * Deaths   The engine dies in the middle of a step: its rows and tokens are lost. The next one, restart_ns
 *          later, adopts the sealed blocks and admits again what lived, as daemon/core/README.md says.
 * Result   The same trace and options give the same result, to the nanosecond.
 * See      README.md, figures.h, tests/sim/test_world.c.
 */
#ifndef LLMD_SIM_WORLD_H
#define LLMD_SIM_WORLD_H

#include "daemon/sim/device.h"
#include "daemon/sim/trace.h"

struct world_options {
    const struct device *device;
    const struct shape *shape;
    uint64_t blocks;           /* of the pool; 0: as many as the trace can ever use */
    uint32_t block_tokens;     /* 1..CORE_BLOCK_TOKENS_MAX */
    uint32_t step_tokens;      /* 1.. */
    uint32_t running_max;      /* 1..step_tokens */
    uint32_t user_running_max; /* 1..running_max */
    uint32_t slots;            /* 1.. requests that run or wait in the core */
    uint32_t user_slots;       /* 1..slots of those waiting, by one user */
    uint32_t
        clients; /* 0: requests arrive by the trace's clock; else so many at a time, in its order */
    uint32_t lag;      /* 0..CORE_LAG_MAX: a step is planned when so many before it are not done */
    bool private_kept; /* each user finds only own blocks; else all find all */
    double slow_share, die_share; /* 0..1 of the requests */
    uint64_t slow_ns, die_ns;     /* how late at most; how long a dying client lives at most */
    uint64_t death_ns,
        restart_ns; /* an engine dies so often (0: never); how long until the next plans */
    uint64_t seed;  /* of who is slow and who dies */
    bool walk;      /* core_sane() after every call: slow */
};

enum world_end {
    WORLD_WAITS, /* not admitted */
    WORLD_LIVES,
    WORLD_ANSWERED,
    WORLD_CANCELLED,
    WORLD_REFUSED /* larger than the pool */
};

struct world_request {
    uint64_t arrival_ns;     /* when the client first asked */
    uint64_t first_token_ns; /* 0: never */
    uint64_t end_ns;
    uint32_t tokens; /* of the answer, published */
    uint32_t
        hit_tokens; /* of the prompt, found when it was first admitted; not after an engine's death */
    enum world_end end;
};

struct world_result {
    struct world_request *requests; /* [trace->count] */
    uint64_t end_ns;
    uint64_t computing_ns; /* of that in steps */
    uint64_t longest_step_ns;
    uint64_t steps, rows; /* completed */
    uint64_t preemptions, evictions;
    uint64_t deaths, adopted_blocks;
    uint64_t blocks; /* of the pool that was made */
};

/*
 * Play the whole trace.
 *   returns   LLM_OK; world_result_close() frees the result
 *             LLM_ERR_INVALID  an option, named; LLM_ERR_MEMORY; LLM_ERR_CORRUPT  with `walk`: an invariant
 */
enum llm_status world_run(const struct trace *trace, const struct world_options *options,
                          struct world_result *out_result, struct llm_error *error) LLM_MUST_CHECK;
void world_result_close(struct world_result *result);

#endif
