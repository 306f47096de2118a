/*
 * wait_client.pml - clients sleep, the engine wakes: shm/wait.c, daemon/engine/egress.c, client/waiting.c.
 *
 * Model     One connection, two tokens (one where somebody dies). Its reader is a thread that sleeps on event_word (futex, without time-out, but
 *           for DAEMON_DIES) or, with LOOP, an event loop that waits for a byte on the socket. After each token the engine flushes: one fence,
 *           then whoever sleeps is woken here or by the egress thread, as chance will have it. The kernel's
 *           FUTEX_WAIT compares and queues in one step, behind a barrier, as FUTEX_WAKE begins with one.
 *           KILL: the engine dies between any two stores, and the next one goes on from the tables. DAEMON_DIES:
 *           nobody goes on; descriptors close, and sleeps end with their slice.
 * Proves    no sleeper sleeps for ever: the reader ends having seen all tokens, or that the daemon is gone.
 *
 * Runs
 *   holds  -                      nobody dies
 *   holds  TSO                    on x86
 *   holds  KILL                   an engine dies, the next one goes on
 *   holds  DAEMON_DIES            nobody wakes any more
 *   holds  LOOP                   an event loop
 *   holds  LOOP,TSO               on x86
 *   holds  LOOP,KILL              an engine dies, the next one goes on
 *   holds  LOOP,DAEMON_DIES       nobody wakes any more
 *   holds  NO_FENCE_SLEEPER       FUTEX_WAIT's own barrier would do; ours keeps the rule one rule
 *   fails  NO_FENCE_ENGINE        deadlock   the flags are read before the commit word is visible
 *   fails  NO_FUTEX_BARRIER       deadlock   the kernel compares the word without one
 *   fails  LOOP,NO_FENCE_BELL     deadlock   the streams are looked at before the arming is visible
 *   fails  TSO,NO_FENCE_ENGINE    deadlock   the same on x86
 *   fails  LOOP,NO_FENCE_ENGINE   deadlock   the flags are read before the commit word is visible
 *   fails  WORD_FIRST             deadlock   event_word moves before the commit word
 *   fails  WORD_RELAXED           deadlock   event_word does not carry the commit word
 *   fails  WORD_READ_LATE         deadlock   event_word is read after looking at the streams
 *   fails  NO_FLAG                deadlock   nobody says that he sleeps
 *   fails  LOOP,ARM_AFTER_LOOK    deadlock   the bell is asked for after the look
 *   fails  CLEARED_AFTER_WAKING   deadlock   a hand-over during a wake-up is forgotten
 *   fails  POSTED_AFTER_LOOK      deadlock   a post during the egress thread's look is forgotten
 *   fails  KILL,NO_MARK           deadlock   the next engine takes for granted that the last one woke
 *   fails  KILL,NO_HINT           deadlock   the next engine takes for granted that the last one moved event_word
 *   fails  LOOP,KILL,NO_MARK      deadlock   the same
 *   fails  DAEMON_DIES,NO_SLICES  deadlock   sleeps without limit
 */
#define PROCS     3
#define ENGINE    0
#define EGRESS    1
#define SLEEPER   2
#define LOOPER    2
#define COMMIT    0 /* tokens published */
#define WORD      1
#define SLEEPERS  2
#define ARMS      3
#define LOCATIONS 4
#define MOMENTS   14
#ifdef DAEMON_DIES
#define KILL
#endif
#ifdef KILL
#define TOKENS    1
#else
#define TOKENS    2
#endif
#include "memory.pml"

#ifdef WORD_RELAXED
#define WORD_ORDER RELAXED
#else
#define WORD_ORDER RELEASE
#endif
#ifdef KILL
#define MAY_DIE if :: !died -> died = true; goto death :: skip fi
#else
#define MAY_DIE
#endif

bool died;           /* the first engine */
bool gone;           /* the daemon */
bool asleep;         /* the sleeper is in the kernel's queue */
bool byte_waits;     /* on the socket */
bool pending;        /* struct egress */
bool posted;
byte posts;
bool lock;
byte arms_answered;  /* struct llm_client_waker, under the lock */
byte ended;          /* readers that are done */

/* shm/wait.c:llm_client_wake() */
inline wake(me)
{
    FENCE(me);
    LOAD(me, SLEEPERS, sleepers, RELAXED);
    if
    :: sleepers > 0 ->
       atomic {
           FENCE(me);
           asleep = false
       }
    :: else
    fi;
    LOAD(me, ARMS, arms, RELAXED);
    if
    :: arms != arms_answered ->
       arms_answered = arms;
       byte_waits = true
    :: else
    fi
}

/* daemon/engine/egress.c:egress_flush(), drop_the_awake(), wants_waking(), wake_here(), hand_over() */
inline flush()
{
#ifndef NO_FENCE_ENGINE
    FENCE(ENGINE);
#endif
    LOAD(ENGINE, ARMS, arms, RELAXED);
    LOAD(ENGINE, SLEEPERS, sleepers, RELAXED);
    if
    :: sleepers > 0 || arms != arms_seen ->
       arms_seen = arms;
       MAY_DIE;
       if
       :: atomic { !lock -> lock = true };
          wake(ENGINE);
          lock = false
       :: pending = true;
          atomic {
              if
              :: !posted -> posted = true; posts++
              :: else
              fi
          }
       fi
    :: else
    fi
}

proctype engine()
{
    byte count, word, sleepers, arms, arms_seen;
    bool marked;
    do
    :: count == TOKENS -> break
    :: else ->
       count++;
       MAY_DIE;
       /* shm/stream.c:llm_stream_writer_append(), shm/event.c:llm_event_push() */
#ifdef WORD_FIRST
       word++;
       STORE(ENGINE, WORD, word, WORD_ORDER);
       STORE(ENGINE, COMMIT, count, RELEASE);
#else
       STORE(ENGINE, COMMIT, count, RELEASE);
       MAY_DIE;
       word++;
       STORE(ENGINE, WORD, word, WORD_ORDER);
#endif
       MAY_DIE;
       flush();
       MAY_DIE
    od;
    goto out;
death:
    atomic { /* with its egress thread, whatever that was doing; what memory holds is in `count`, by the tables */
        QUEUED(ENGINE) == 0 && QUEUED(EGRESS) == 0;
        pending = false;
        posted = false;
        posts = 0;
        lock = false
    }
#ifdef DAEMON_DIES
    gone = true;
    goto out;
#endif
    /* shm/wait.c:llm_client_waker_init(), daemon/engine/connection.c:start() */
    LOAD(ENGINE, ARMS, arms_answered, RELAXED);
    arms_answered--;
    arms_seen = 0;
#ifdef NO_MARK
    marked = false;
#else
    marked = true;
#endif
    /* daemon/engine/recovery.c: a request that is not done is opened again; one that is was told, or not */
    if
    :: NEWEST(COMMIT) == TOKENS /* tell_again(): the record says that it was told */
    :: else ->
       STORE(ENGINE, COMMIT, count, RELEASE);
       marked = true
    fi;
    word = NEWEST(WORD);
#ifdef NO_HINT
    if
    :: NEWEST(COMMIT) == TOKENS
    :: else ->
       word++;
       STORE(ENGINE, WORD, word, RELEASE)
    fi;
#else
    word++; /* shm/event.c:llm_event_lapse() */
    STORE(ENGINE, WORD, word, RELEASE);
#endif
    if
    :: marked -> flush()
    :: else
    fi;
    do
    :: count == TOKENS -> break
    :: else ->
       count++;
       STORE(ENGINE, COMMIT, count, RELEASE);
       word++;
       STORE(ENGINE, WORD, word, RELEASE);
       flush()
    od;
out:
    skip
}

/* daemon/engine/egress.c:serve(), wake_pending(); its death is the engine's */
proctype egress()
{
    byte sleepers, arms;
end: do
    :: atomic { posts > 0 -> posts-- };
#ifndef POSTED_AFTER_LOOK
       posted = false;
#endif
       if
       :: pending ->
          atomic { !lock -> lock = true };
#ifdef CLEARED_AFTER_WAKING
          wake(EGRESS);
          pending = false;
#else
          if
          :: atomic { pending -> pending = false };
             wake(EGRESS)
          :: else
          fi;
#endif
          lock = false
       :: else
       fi;
#ifdef POSTED_AFTER_LOOK
       posted = false;
#endif
       skip
    od
}

/* client/waiting.c:llm_connection_wait(), shm/wait.c:llm_client_sleep() */
proctype sleeper()
{
    byte word, count, now;
    do
    :: gone -> break /* client/waiting.c:llm_connection_alive() */
    :: else ->
#ifdef WORD_READ_LATE
       LOAD(SLEEPER, COMMIT, count, ACQUIRE);
       LOAD(SLEEPER, WORD, word, ACQUIRE);
#else
       LOAD(SLEEPER, WORD, word, ACQUIRE);
       LOAD(SLEEPER, COMMIT, count, ACQUIRE);
#endif
       if
       :: count == TOKENS -> break
       :: else
       fi;
#ifndef NO_FLAG
       ADD(SLEEPER, SLEEPERS, 1, RELAXED);
#endif
#ifndef NO_FENCE_SLEEPER
       FENCE(SLEEPER);
#endif
       LOAD(SLEEPER, WORD, now, RELAXED);
       if
       :: now == word ->
          atomic {
#ifndef NO_FUTEX_BARRIER
              FENCE(SLEEPER);
#endif
              LOAD(SLEEPER, WORD, now, RELAXED);
              if
              :: now == word -> asleep = true
              :: else
              fi
          };
#ifdef NO_SLICES
          !asleep
#else
          if
          :: !asleep
          :: gone -> asleep = false /* the slice is over */
          fi
#endif
       :: else
       fi;
#ifndef NO_FLAG
       ADD(SLEEPER, SLEEPERS, 255, RELAXED)
#endif
    od;
    ended++
}

/* shm/wait.c:llm_client_arm_bell(), llm_client_clear_bell() */
proctype event_loop()
{
    byte count;
    do
    :: gone -> break
    :: else ->
#ifdef ARM_AFTER_LOOK
       LOAD(LOOPER, COMMIT, count, ACQUIRE);
       ADD(LOOPER, ARMS, 1, RELAXED);
       FENCE(LOOPER);
#else
       ADD(LOOPER, ARMS, 1, RELAXED);
#ifndef NO_FENCE_BELL
       FENCE(LOOPER);
#endif
       LOAD(LOOPER, COMMIT, count, ACQUIRE);
#endif
       if
       :: count == TOKENS -> break
       :: else
       fi;
       byte_waits || gone;
       byte_waits = false
    od;
    ended++
}

init
{
    atomic {
        arms_answered = 255; /* as llm_client_waker_init() leaves it */
        run engine();
        run egress();
#ifdef LOOP
        run event_loop()
#else
        run sleeper()
#endif
    }
}
