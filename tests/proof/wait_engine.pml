/*
 * wait_engine.pml - the engine sleeps, clients ring: shm/wait.c, daemon/engine/parking.c, daemon/engine/step.c.
 *
 * Model     Two connections with a thread each: one submits a request, one cancels another; with
 *           SHARED a single connection with two threads that submit. The engine looks at the connections that are hot, parks them when there is nothing
 *           (all flags, one fence, a second look at each), and sleeps at the doorbells without limit.
 *           A doorbell is an eventfd polled edge-triggered: a bit that a write sets and a wait takes away.
 *           With KILL the first thread dies between any two stores; the keeper tells on the channel, which wakes too.
 *           Not in it: doorbells that were muted for storming, which the engine looks at by the clock.
 * Proves    the engine does not sleep while something waits that it could take in: at the end everything is taken in.
 *
 * Runs
 *   holds  -                      nobody dies
 *   holds  TSO                    on x86
 *   holds  KILL                   a client dies between any two stores
 *   holds  SHARED                 one thread has claimed, another stamps and rings
 *   holds  SHARED,KILL            and the one that claimed dies
 *   fails  NO_FENCE_CLIENT        deadlock   the flag is read before the stamp is visible
 *   fails  NO_FENCE_ENGINE        deadlock   the second look is done before the flags are visible
 *   fails  TSO,NO_FENCE_CLIENT    deadlock   the same on x86
 *   fails  TSO,NO_FENCE_ENGINE    deadlock   the same on x86
 *   fails  NO_SECOND_LOOK         deadlock   what came while parking is slept over
 *   fails  FLAG_AFTER_LOOK        deadlock   the second look comes before the flag
 *   fails  RING_BEFORE_STAMP      deadlock   the engine is woken for nothing, then not at all
 *   fails  FENCE_PER_PARK_FIRST   deadlock   one fence, but between the first flag and the second
 *   fails  CANCEL_NOT_LOOKED_AT   deadlock   the second look forgets the cancel bell
 *   fails  CANCEL_BELL_RELAXED    assertion  the bell does not carry the cancel word
 */
#define PROCS       4
#define ENGINE      3
#define CONNECTIONS 2
#define TAIL        0 /* of connection 0 */
#define STAMP(p)    (1 + (p))
#define ASLEEP(c)   (3 + (c))
#define CANCEL_WORD 5 /* of connection 1 */
#define CANCEL_BELL 6
#define LOCATIONS   7
#define MOMENTS     12
#include "memory.pml"

#ifdef CANCEL_BELL_RELAXED
#define BELL_ORDER RELAXED
#else
#define BELL_ORDER RELEASE
#endif
#ifdef KILL
#define MAY_DIE(thread) if :: thread == 0 -> goto out :: skip fi
#else
#define MAY_DIE(thread)
#endif

bool bell[CONNECTIONS]; /* the eventfd has an edge that no wait has given yet */
bool channel;           /* the keeper has said that a client is gone */

/* shm/wait.c:llm_engine_ring() */
inline ring(me, connection)
{
#ifndef NO_FENCE_CLIENT
    FENCE(me);
#endif
    LOAD(me, ASLEEP(connection), flag, RELAXED);
    if
    :: flag -> bell[connection] = true
    :: else
    fi
}

proctype client_thread(byte me)
{
    byte flag, tail;
    byte connection = (me == 2 -> 1 : 0);
    bool claimed;
    if
    :: me == 2 ->
       /* shm/wait.c:llm_cancel_post() */
       STORE(me, CANCEL_WORD, 1, RELAXED);
       ADD(me, CANCEL_BELL, 1, BELL_ORDER);
       ring(me, connection);
       goto out
    :: else
    fi;
    /* client/submit.c:push(), shm/queue.c:llm_queue_push() */
    do
    :: claimed -> break
    :: else ->
       tail = NEWEST(TAIL);
       SWAP(me, TAIL, tail, tail + 1, claimed, RELEASE)
    od;
    MAY_DIE(me);
#ifdef RING_BEFORE_STAMP
    ring(me, connection);
#endif
    STORE(me, STAMP(tail), tail + 1, RELEASE);
    MAY_DIE(me);
#ifndef RING_BEFORE_STAMP
    ring(me, connection);
#endif
out:
#ifdef KILL
    if
    :: me == 0 -> channel = true
    :: else
    fi
#else
    skip
#endif
}

/* shm/queue.c:llm_queue_look(): `there` says whether it would give LLM_OK */
inline peek(c)
{
    there = false;
    if
    :: c == 0 ->
       LOAD(ENGINE, TAIL, tail, RELAXED);
       if
       :: tail != head ->
          LOAD(ENGINE, STAMP(head), stamp, ACQUIRE);
          there = stamp == head + 1
       :: else
       fi
    :: else
    fi
}

/* shm/wait.c:llm_cancel_bell_moved() */
inline look_at_bell(c)
{
    moved = false;
    if
    :: c == 1 ->
       LOAD(ENGINE, CANCEL_BELL, now_bell, ACQUIRE);
       moved = now_bell != seen_bell
    :: else
    fi
}

/* daemon/engine/intake.c:take_connection() */
inline take_connection(c)
{
    peek(c);
    if
    :: there ->
       head++;
       any = true
    :: else
    fi;
    look_at_bell(c);
    if
    :: moved ->
       any = true;
       seen_bell = now_bell;
       LOAD(ENGINE, CANCEL_WORD, word, RELAXED);
       assert(word == 1); /* the word is visible with its bell */
       cancelled = true
    :: else
    fi
}

/* daemon/engine/parking.c:park(), the second look: daemon/engine/intake.c:intake_waits_at() */
inline look_again(c)
{
    if
    :: hot[c] ->
#ifndef NO_SECOND_LOOK
       peek(c);
#ifdef CANCEL_NOT_LOOKED_AT
       moved = false;
#else
       look_at_bell(c);
#endif
       if
       :: there || moved -> STORE(ENGINE, ASLEEP(c), 0, RELAXED)
       :: else -> hot[c] = false
       fi
#else
       hot[c] = false
#endif
    :: else
    fi
}

inline set_asleep(c)
{
    if
    :: hot[c] -> STORE(ENGINE, ASLEEP(c), 1, RELAXED)
    :: else
    fi
}

/* daemon/engine/parking.c:heat(), wait_rings() */
inline heat(c)
{
    if
    :: bell[c] ->
       bell[c] = false;
       if
       :: !hot[c] ->
          STORE(ENGINE, ASLEEP(c), 0, RELAXED);
          hot[c] = true
       :: else
       fi
    :: else
    fi
}

#ifdef KILL
#define TAKEN_0 channel_taken
#else
#define TAKEN_0 true
#endif
#ifdef SHARED
#define MAY_END (TAKEN_0 && (channel_taken || head == 2))
#else
#define MAY_END (TAKEN_0 && (channel_taken || head == 1) && cancelled)
#endif

proctype engine()
{
    byte head;
    bool hot[CONNECTIONS];
    byte tail, stamp, now_bell, seen_bell, word;
    bool there, moved, any, cancelled, channel_taken;
    hot[0] = true;
#ifndef SHARED
    hot[1] = true;
#endif
    do
    :: MAY_END -> break
    :: else ->
       /* daemon/engine/step.c:engine_run(), daemon/engine/intake.c:intake_pass() */
       any = false;
       if
       :: hot[0] -> take_connection(0)
       :: else
       fi;
       if
       :: hot[1] -> take_connection(1)
       :: else
       fi;
       /* daemon/engine/parking.c:parking_sleep() */
       if
       :: any
       :: else ->
#ifdef FLAG_AFTER_LOOK
          look_again(0);
          look_again(1);
          if
          :: !hot[0] -> STORE(ENGINE, ASLEEP(0), 1, RELAXED)
          :: else
          fi;
          if
          :: !hot[1] -> STORE(ENGINE, ASLEEP(1), 1, RELAXED)
          :: else
          fi;
          FENCE(ENGINE);
#else
          set_asleep(0);
#ifdef FENCE_PER_PARK_FIRST
          FENCE(ENGINE);
#endif
          set_asleep(1);
#ifndef FENCE_PER_PARK_FIRST
#ifndef NO_FENCE_ENGINE
          FENCE(ENGINE);
#endif
#endif
          look_again(0);
          look_again(1);
#endif
          if
          :: hot[0] || hot[1] /* somebody submitted meanwhile */
          :: else ->
             /* doorbells: edge-triggered eventfds, the channel level-triggered */
             bell[0] || bell[1] || (channel && !channel_taken);
             if
             :: channel && !channel_taken ->
                channel_taken = true
             :: else
             fi;
             heat(0);
             heat(1)
          fi
       fi
    od
}

init
{
    atomic {
        run client_thread(0);
#ifdef SHARED
        run client_thread(1);
#else
        run client_thread(2);
#endif
        run engine()
    }
}
