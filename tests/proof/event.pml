/*
 * event.pml - shm/event.c: a hint may be lost, and then its reader is told; a token never is.
 *
 * Model     Two streams get two tokens each, a hint after each, through a ring of two entries that waits for nobody. The
 *           reader looks only at the stream that a hint names, and at both when it is told that it was lapped;
 *           it sleeps while event_word stands.
 * Proves    a hint that is taken is the one of its position; the reader comes to its end with all tokens.
 *
 * Runs
 *   holds  -                      every speed of the two
 *   holds  TSO                    on x86
 *   fails  NO_SECOND_LOOK         assertion  the tail is not read again after the entry
 *   fails  LAP_OFF_BY_ONE         assertion  an entry that is being overwritten counts
 *   fails  ENTRY_RELAXED          assertion  the overwritten entry does not carry the tail
 *   fails  TAIL_FIRST             assertion  the tail covers an entry that is not written
 *   fails  LIMIT_IGNORED          deadlock   a lapped reader does not look at the records
 *   fails  COMMIT_LAST            deadlock   the hint comes before the commit word
 */
#define PROCS     2
#define WRITER    0
#define READER    1
#define ENTRIES   2
#define COMMIT(s) (s)
#define ENTRY(p)  (2 + (p) % ENTRIES)
#define TAIL      4
#define WORD      5
#define LOCATIONS 6
#define MOMENTS   6
#define TOKENS    2
#define HINTS     4
#include "memory.pml"

#ifdef ENTRY_RELAXED
#define ENTRY_ORDER RELAXED
#else
#define ENTRY_ORDER RELEASE
#endif
#ifdef LAP_OFF_BY_ONE
#define LAPPED(ahead) ((ahead) > ENTRIES)
#else
#define LAPPED(ahead) ((ahead) >= ENTRIES)
#endif

byte stream_of[HINTS]; /* which stream the hint at each position is for */

proctype writer()
{
    byte tail, stream;
    byte count[2];
    do
    :: tail == HINTS -> break
    :: else ->
       if
       :: count[0] < TOKENS -> stream = 0
       :: count[1] < TOKENS -> stream = 1
       fi;
       d_step {
           count[stream]++;
           stream_of[tail] = stream
       };
#ifndef COMMIT_LAST
       STORE(WRITER, COMMIT(stream), count[stream], RELEASE);
#endif
       /* shm/event.c:llm_event_push(); an entry also says its position here, for the assertion */
#ifdef TAIL_FIRST
       STORE(WRITER, TAIL, tail + 1, RELEASE);
       STORE(WRITER, ENTRY(tail), tail + 1, ENTRY_ORDER);
#else
       STORE(WRITER, ENTRY(tail), tail + 1, ENTRY_ORDER);
       STORE(WRITER, TAIL, tail + 1, RELEASE);
#endif
       tail++;
       STORE(WRITER, WORD, tail, RELEASE);
#ifdef COMMIT_LAST
       STORE(WRITER, COMMIT(stream), count[stream], RELEASE);
#endif
       skip
    od
}

proctype reader()
{
    byte next, tail, hint, word, now;
    byte seen[2];
    do
    :: seen[0] == TOKENS && seen[1] == TOKENS -> break
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
       :: seen[0] == TOKENS && seen[1] == TOKENS -> break
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
