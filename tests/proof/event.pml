/*
 * event.pml - shm/event.c: a hint may be lost, and then its reader is told; a token never is.
 *
 * Model     Two streams get five tokens together, a hint after each, through a ring of three entries that waits for
 *           nobody. Hints are announced (event_tail, event_word) when two are waiting, at the end, and earlier as
 *           chance will have it: a step ends. The reader looks only at the stream that a hint names, and at both
 *           when it is told that it was lapped; it sleeps while event_word stands.
 * Proves    a hint that is taken is the one of its position; the reader comes to its end with all tokens.
 *
 * Runs
 *   holds  -                      every speed of the two
 *   holds  TSO                    on x86
 *   fails  NO_SECOND_LOOK         assertion  the tail is not read again after the entry
 *   fails  LAP_OFF_BY_ONE         assertion  an entry that is being overwritten counts
 *   fails  BATCH_FORGOTTEN        assertion  the lap is counted as if every hint were announced
 *   fails  ENTRY_RELAXED          assertion  the overwritten entry does not carry the tail
 *   fails  TAIL_FIRST             assertion  the tail covers an entry that is not written
 *   fails  LIMIT_IGNORED          deadlock   a lapped reader does not look at the records
 *   fails  COMMIT_LAST            deadlock   the hint comes before the commit word
 *   fails  NEVER_ANNOUNCED        deadlock   the last hints of a step are kept back
 */
#define PROCS     2
#define WRITER    0
#define READER    1
#define ENTRIES   3
#define BATCH     2 /* shm/event.c:batch_max() */
#define COMMIT(s) (s)
#define ENTRY(p)  (2 + (p) % ENTRIES)
#define TAIL      5
#define WORD      6
#define LOCATIONS 7
#define MOMENTS   7
#define WANTED(s) (3 - (s)) /* tokens of a stream */
#define HINTS     5
#include "memory.pml"

#ifdef ENTRY_RELAXED
#define ENTRY_ORDER RELAXED
#else
#define ENTRY_ORDER RELEASE
#endif
#if defined(LAP_OFF_BY_ONE)
#define LAPPED(ahead) ((ahead) > ENTRIES - BATCH + 1)
#elif defined(BATCH_FORGOTTEN)
#define LAPPED(ahead) ((ahead) >= ENTRIES)
#else
#define LAPPED(ahead) ((ahead) > ENTRIES - BATCH)
#endif

byte stream_of[HINTS]; /* which stream the hint at each position is for */

/* shm/event.c:llm_event_announce() */
inline announce()
{
    announced = tail;
    STORE(WRITER, TAIL, tail, RELEASE);
    STORE(WRITER, WORD, tail, RELEASE)
}

proctype writer()
{
    byte tail, announced, stream;
    byte count[2];
    do
    :: tail == HINTS -> break
    :: else ->
       if
       :: count[0] < WANTED(0) -> stream = 0
       :: count[1] < WANTED(1) -> stream = 1
       fi;
       skip;
       d_step {
           count[stream]++;
           stream_of[tail] = stream
       };
#ifndef COMMIT_LAST
       STORE(WRITER, COMMIT(stream), count[stream], RELEASE);
#endif
       /* shm/event.c:llm_event_push(); an entry says its position here, for the assertion */
#ifdef TAIL_FIRST
       tail++;
       announce();
       STORE(WRITER, ENTRY(tail - 1), tail, ENTRY_ORDER);
#else
       STORE(WRITER, ENTRY(tail), tail + 1, ENTRY_ORDER);
       tail++;
       if
       :: announce()
       :: tail - announced < BATCH
       fi;
#endif
#ifdef COMMIT_LAST
       STORE(WRITER, COMMIT(stream), count[stream], RELEASE);
#endif
       skip
    od;
#ifndef NEVER_ANNOUNCED
    if
    :: announced != tail -> announce() /* daemon/engine/publish.c:publish_announce() */
    :: else
    fi
#endif
}

proctype reader()
{
    byte next, tail, hint, word, now;
    byte seen[2];
    do
    :: seen[0] == WANTED(0) && seen[1] == WANTED(1) -> break
    :: else ->
       LOAD(READER, WORD, word, ACQUIRE);
       do
       :: /* shm/event.c:llm_event_take() */
          LOAD(READER, TAIL, tail, ACQUIRE);
          if
          :: tail == next -> break /* LLM_ERR_TIMEOUT */
          :: else
          fi;
          LOAD(READER, ENTRY(next), hint, ACQUIRE);
#ifndef NO_SECOND_LOOK
          LOAD(READER, TAIL, tail, ACQUIRE);
#endif
          if
          :: LAPPED(tail - next) -> /* LLM_ERR_LIMIT */
             next = tail;
#ifndef LIMIT_IGNORED
             LOAD(READER, COMMIT(0), seen[0], ACQUIRE);
             LOAD(READER, COMMIT(1), seen[1], ACQUIRE)
#endif
          :: else ->
             assert(hint == next + 1);
             next++;
             if
             :: stream_of[hint - 1] == 0 -> LOAD(READER, COMMIT(0), seen[0], ACQUIRE)
             :: else -> LOAD(READER, COMMIT(1), seen[1], ACQUIRE)
             fi
          fi
       od;
       if
       :: seen[0] == WANTED(0) && seen[1] == WANTED(1) -> break
       :: else -> NEWEST(WORD) != word /* asleep until it moves */
       fi
    od
}

init
{
    atomic {
        run writer();
        run reader()
    }
}
