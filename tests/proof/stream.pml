/*
 * stream.pml - shm/stream.c: a reader gets every token of its answer once, whole, and nothing of another's.
 *
 * Model     One slot, two answers of two tokens one after the other, in the same log words: the client asks for the
 *           second when it has read the first to its end (`asked` stands for the submission queue). A token of
 *           answer e at i has the value 10 e + i. The reader sleeps while event_word stands. With KILL the engine
 *           dies once between any two stores, and the next one writes again what the tables say was published.
 * Proves    each token is seen once and is the right one; the count never goes back; done comes with the last
 *           token and its status; LLM_ERR_PEER is never said of an honest engine; the reader comes to its end.
 *
 * Runs
 *   holds  -                      nobody dies
 *   holds  TSO                    on x86
 *   holds  KILL                   an engine dies, the next one opens the answer again
 *   fails  COMMIT_RELAXED         assertion  the commit word does not carry the log
 *   fails  LOOK_RELAXED           assertion  the commit word is seen, the log is not
 *   fails  COMMIT_FIRST           assertion  the count covers a word that is not written
 *   fails  TWO_STORE_RECYCLE      assertion  the new epoch stands beside the old count for a moment
 *   fails  STATUS_LAST            assertion  done is set before the status
 *   fails  HINT_FIRST             deadlock   event_word moves before the commit word
 *   fails  RECYCLED_EARLY         assertion  the next answer begins before the last was read
 *   fails  KILL,COUNT_FROM_ZERO   assertion  the next engine begins the count anew
 *   fails  KILL,LOG_BEFORE_TABLES assertion  a token is shown that the next engine does not know
 */
#define PROCS     2
#define WRITER    0
#define READER    1
#define ASKED     0
#define COMMIT    1
#define LOG(i)    (2 + (i))
#define STATUS    4
#define WORD      5
#define LOCATIONS 6
#define MOMENTS   14
#define ANSWERS   2
#define TOKENS    2
#include "memory.pml"

/* shm/layout.h:llm_commit_pack(): epoch, done, count */
#define PACK(epoch, done, count) ((epoch) * 8 + (done) * 4 + (count))
#define EPOCH(word)              ((word) / 8)
#define DONE(word)               (((word) / 4) % 2)
#define COUNT(word)              ((word) % 4)

#ifdef COMMIT_RELAXED
#define COMMIT_ORDER RELAXED
#else
#define COMMIT_ORDER RELEASE
#endif
#ifdef LOOK_RELAXED
#define LOOK_ORDER RELAXED
#else
#define LOOK_ORDER ACQUIRE
#endif
#ifdef KILL
#define MAY_DIE if :: !died -> died = true; goto death :: skip fi
#else
#define MAY_DIE
#endif

byte journal_epoch;   /* reqtab: LIVE with this epoch; 0: none */
byte journal_count;   /* reqtab: published */
byte journal_id[TOKENS]; /* reqtok */
bool journal_answered;
bool died;

inline hint()
{
    word++;
    STORE(WRITER, WORD, word, RELEASE)
}

proctype writer()
{
    byte epoch, count, i, word, asked;
    byte second; /* engine: what it computes must not matter for what was published */
    do
    :: epoch == ANSWERS -> break
    :: else ->
       epoch++;
#ifndef RECYCLED_EARLY
       NEWEST(ASKED) >= epoch;
       do
       :: LOAD(WRITER, ASKED, asked, ACQUIRE);
          if
          :: asked >= epoch -> break
          :: else
          fi
       od;
#endif
       skip;
       d_step {
           journal_epoch = epoch;
           journal_count = 0;
           journal_answered = false;
           count = 0
       };
       MAY_DIE;
       goto open;
again:
       skip;
       /* daemon/engine/recovery.c:go_on(), tell_again(): from the tables alone */
       d_step {
           second = 1;
           epoch = journal_epoch;
           count = journal_count;
           word = NEWEST(WORD)
       };
open:
       /* shm/stream.c:llm_stream_writer_open() */
       i = 0;
       do
       :: i == count -> break
       :: else -> STORE(WRITER, LOG(i), journal_id[i], RELAXED); i++
       od;
       STORE(WRITER, STATUS, 0, RELAXED);
#ifdef TWO_STORE_RECYCLE
       STORE(WRITER, COMMIT, PACK(epoch, DONE(NEWEST(COMMIT)), COUNT(NEWEST(COMMIT))), RELEASE);
#endif
#ifdef COUNT_FROM_ZERO
       count = 0;
#endif
       STORE(WRITER, COMMIT, PACK(epoch, 0, count), COMMIT_ORDER);
       MAY_DIE;
       hint();
       do
       :: count == TOKENS -> break
       :: else ->
#ifdef LOG_BEFORE_TABLES
          STORE(WRITER, LOG(count), 10 * epoch + 4 * second + count, RELAXED);
          STORE(WRITER, COMMIT, PACK(epoch, 0, count + 1), RELEASE);
          MAY_DIE;
          hint();
          skip;
          d_step {
              journal_id[count] = 10 * epoch + 4 * second + count;
              journal_count = count + 1
          };
#else
          /* daemon/engine/publish.c:publish_token(), daemon/engine/journal.c:journal_published() */
          d_step {
              journal_id[count] = 10 * epoch + 4 * second + count;
              journal_count = count + 1
          };
          MAY_DIE;
          /* shm/stream.c:llm_stream_writer_append() */
#ifdef COMMIT_FIRST
          STORE(WRITER, COMMIT, PACK(epoch, 0, count + 1), COMMIT_ORDER);
          STORE(WRITER, LOG(count), 10 * epoch + 4 * second + count, RELAXED);
          hint();
#else
          STORE(WRITER, LOG(count), 10 * epoch + 4 * second + count, RELAXED);
          MAY_DIE;
#ifdef HINT_FIRST
          hint();
          STORE(WRITER, COMMIT, PACK(epoch, 0, count + 1), COMMIT_ORDER);
#else
          STORE(WRITER, COMMIT, PACK(epoch, 0, count + 1), COMMIT_ORDER);
          MAY_DIE;
          if
          :: hint()
          :: skip /* announced later, with others: event.pml */
          fi;
#endif
#endif
#endif
          count++
       od;
       /* daemon/engine/journal.c:journal_answered(), shm/stream.c:llm_stream_writer_finish() */
       journal_answered = true;
       MAY_DIE;
#ifdef HINT_FIRST
       STORE(WRITER, STATUS, epoch, RELAXED);
       hint();
       STORE(WRITER, COMMIT, PACK(epoch, 1, count), COMMIT_ORDER);
#else
#ifdef STATUS_LAST
       STORE(WRITER, COMMIT, PACK(epoch, 1, count), COMMIT_ORDER);
       STORE(WRITER, STATUS, epoch, RELAXED);
#else
       STORE(WRITER, STATUS, epoch, RELAXED);
       MAY_DIE;
       STORE(WRITER, COMMIT, PACK(epoch, 1, count), COMMIT_ORDER);
#endif
       hint()
#endif
    od;
    goto out;
death:
    QUEUED(WRITER) == 0 -> goto again;
out:
    skip
}

proctype reader()
{
    byte epoch, seen, word, moved, look, id, status;
    do
    :: epoch == ANSWERS -> break
    :: else ->
       epoch++;
       seen = 0;
       STORE(READER, ASKED, epoch, RELEASE);
       do
       :: /* client/waiting.c:llm_connection_wait() */
          LOAD(READER, WORD, moved, ACQUIRE);
          /* shm/stream.c:llm_stream_reader_look() */
          LOAD(READER, COMMIT, look, LOOK_ORDER);
          if
          :: EPOCH(look) == epoch - 1 && seen == 0 -> skip /* not open */
          :: else ->
             assert(EPOCH(look) == epoch); /* else LLM_ERR_PEER */
             assert(COUNT(look) >= seen);
             /* shm/stream.c:llm_stream_reader_take() */
             do
             :: seen == COUNT(look) -> break
             :: else ->
                LOAD(READER, LOG(seen), id, RELAXED);
                assert(id == 10 * epoch + seen || (died && id == 10 * epoch + 4 + seen));
                assert(seen >= journal_count || id == journal_id[seen] || journal_epoch != epoch);
                seen++
             od;
             if
             :: DONE(look) ->
                assert(seen == TOKENS);
                /* shm/stream.c:llm_stream_reader_status() */
                LOAD(READER, STATUS, status, RELAXED);
                assert(status == epoch);
                break
             :: else
             fi
          fi;
          NEWEST(WORD) != moved /* asleep until it moves: wait_client.pml */
       od
    od
}

init
{
    atomic {
        run writer();
        run reader()
    }
}
