/*
 * queue.pml - shm/queue.c: what is taken in is whole, in order, once; full and empty are never confused.
 *
 * Model     Two producers push three submissions (two and one) through two entries, so that positions lap. A
 *           submission's body is two words of its entry, which a torn or early copy would show unequal. A producer that finds the
 *           queue full tries again. With KILL the first producer dies between any two stores of its pushes, and
 *           the keeper ends the connection: whoever waits for it stops.
 * Proves    each position is taken once, whole, as its producer wrote it, and each producer's in its order; LLM_ERR_PEER
 *           is never said of honest peers; nothing behind a claimed entry without stamp is taken; nobody waits for ever.
 *
 * Runs
 *   holds  -                      nobody dies
 *   holds  ONE_ENTRY              each position laps, so that a producer can fall behind by more than the queue
 *   holds  TSO                    on x86
 *   holds  KILL                   a producer dies between claim and stamp
 *   fails  STAMP_RELAXED          assertion  the stamp does not carry the entry
 *   fails  PEEK_RELAXED           assertion  the stamp is seen, the entry is not
 *   fails  ONE_ENTRY,CLAIM_RELAXED       assertion  a newer tail without the head that allowed it looks like a lie
 *   fails  STAMP_FIRST            assertion  the stamp stands before the entry is written
 *   fails  STAMP_WITHOUT_LAP      assertion  an entry of the lap before counts again
 *   fails  CLAIM_BY_STORE         assertion  two producers own one position
 *   fails  TAIL_BEFORE_HEAD       assertion  the fill is computed from a tail older than the head
 *   fails  ONE_ENTRY,NO_SECOND_LOOK assertion  a head that has moved on meanwhile is called a lie
 *   fails  NO_FULL                assertion  a full queue is written over
 *   fails  HEAD_BEFORE_COPY       assertion  the entry is given back before it was copied
 *   fails  KILL,STAMP_FIRST       assertion  a producer dies with its entry half written
 */
#ifdef ONE_ENTRY
#define ENTRIES   1
#else
#define ENTRIES   2
#endif
#define PRODUCERS 2
#define WANTED(producer) (2 - (producer)) /* submissions */
#define ALL       3

#define PROCS     3
#define CONSUMER  2
#define TAIL      0
#define HEAD      1
#define STAMP(p)  (2 + (p) % ENTRIES)
#define WORD_A(p) (4 + (p) % ENTRIES)
#define WORD_B(p) (6 + (p) % ENTRIES)
#define LOCATIONS 8
#define MOMENTS   6
#include "memory.pml"

#ifdef STAMP_RELAXED
#define STAMP_ORDER RELAXED
#else
#define STAMP_ORDER RELEASE
#endif
#ifdef PEEK_RELAXED
#define PEEK_ORDER RELAXED
#else
#define PEEK_ORDER ACQUIRE
#endif
#ifdef CLAIM_RELAXED
#define CLAIM_ORDER RELAXED
#else
#define CLAIM_ORDER RELEASE
#endif
#ifdef STAMP_WITHOUT_LAP
#define STAMP_OF(p) 1
#else
#define STAMP_OF(p) ((p) + 1)
#endif
#ifdef KILL
#define MAY_DIE if :: me == 0 -> dead = true; goto out :: skip fi
#else
#define MAY_DIE
#endif

bool dead;           /* the keeper saw a producer die */

proctype producer(byte me)
{
    byte i = 0, head, tail, again, fill;
    bool claimed;
    do
    :: i == WANTED(me) || dead -> break
    :: else ->
       /* shm/queue.c:claim() */
       claimed = false;
       do
       :: claimed || dead -> break
       :: else ->
#ifdef TAIL_BEFORE_HEAD
          LOAD(me, TAIL, tail, ACQUIRE);
          LOAD(me, HEAD, head, ACQUIRE);
#else
          LOAD(me, HEAD, head, ACQUIRE);
          LOAD(me, TAIL, tail, ACQUIRE);
#endif
          fill = tail - head; /* modulo 256, as the code's is modulo 2^64 */
          if
#ifndef NO_FULL
          :: fill >= ENTRIES ->
#ifndef NO_SECOND_LOOK
             LOAD(me, HEAD, again, ACQUIRE);
#else
             again = head;
#endif
             if
             :: again != head            /* look again */
             :: else ->
                assert(fill == ENTRIES); /* more would be LLM_ERR_PEER */
                /* LLM_ERR_BUSY: nothing to do until the head moves */
                NEWEST(HEAD) != head || dead
             fi
#endif
          :: else ->
#ifdef CLAIM_BY_STORE
             STORE(me, TAIL, tail + 1, RELAXED);
             claimed = true
#else
             SWAP(me, TAIL, tail, tail + 1, claimed, CLAIM_ORDER)
#endif
          fi
       od;
       if
       :: !claimed -> break
       :: else
       fi;
       MAY_DIE;
       /* shm/queue.c:llm_queue_push() */
#ifdef STAMP_FIRST
       STORE(me, STAMP(tail), STAMP_OF(tail), RELEASE);
       MAY_DIE;
#endif
       STORE(me, WORD_A(tail), 10 * (me + 1) + i, RELAXED);
       MAY_DIE;
       STORE(me, WORD_B(tail), 10 * (me + 1) + i, RELAXED);
       MAY_DIE;
#ifndef STAMP_FIRST
       STORE(me, STAMP(tail), STAMP_OF(tail), STAMP_ORDER);
#endif
       i++
    od;
out:
    skip
}

proctype consumer()
{
    byte head = 0, tail, stamp, a, b, fill;
    byte next[PRODUCERS];
    do
    :: atomic { head == ALL || dead -> break }
    :: else ->
       /* shm/queue.c:llm_queue_look(), then shm/queue.c:llm_queue_peek() */
       LOAD(CONSUMER, TAIL, tail, RELAXED);
       fill = tail - head;
       if
       :: fill == 0             /* LLM_ERR_TIMEOUT */
       :: else ->
          assert(fill <= ENTRIES); /* more would be LLM_ERR_PEER */
          LOAD(CONSUMER, STAMP(head), stamp, PEEK_ORDER);
          if
          :: stamp != STAMP_OF(head) -> /* claimed, not written yet: the stamp of the lap before, or 0 */
             assert(stamp == (head < ENTRIES -> 0 : STAMP_OF(head - ENTRIES)))
          :: else ->
#ifdef HEAD_BEFORE_COPY
             STORE(CONSUMER, HEAD, head + 1, RELEASE);
#endif
             LOAD(CONSUMER, WORD_A(head), a, RELAXED);
             LOAD(CONSUMER, WORD_B(head), b, RELAXED);
             d_step {
                 assert(a == b && a >= 10); /* whole */
                 assert(a % 10 == next[a / 10 - 1]); /* in its producer's order, once */
                 next[a / 10 - 1]++
             }
             /* shm/queue.c:llm_queue_advance() */
             head++;
#ifndef HEAD_BEFORE_COPY
             STORE(CONSUMER, HEAD, head, RELEASE)
#endif
          fi
       fi
    od;
    assert(dead || (next[0] == WANTED(0) && next[1] == WANTED(1)))
}

init
{
    atomic {
        run producer(0);
        run producer(1);
        run consumer()
    }
}
