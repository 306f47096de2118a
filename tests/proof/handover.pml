/*
 * handover.pml - daemon/engine: journal.c, intake.c, publish.c, recovery.c; an engine dies, the next one goes on.
 *
 * Model     One client submits a request (slot 0), a control operation (slot 1) and, when the first answer is read, a
 *           second request in slot 0. Answers have two tokens. The engine dies up to twice, between any two stores; the
 *           next one knows only the tables. A token's value names its answer and the engine that computed it, so
 *           that a token computed again could be told from the one that was shown. Memory is in order: what a dead process
 *           stored is there before anybody hears of its death; how readers see a living one is stream.pml.
 *           The client writes a prompt's bytes again as soon as queue_head allows it.
 * Proves    each submission is admitted once; each answer arrives whole; what the client was shown never changes, goes
 *           back or is lost; no honest client is broken for what a dead engine left; all ends.
 * Bounds    two deaths; deaths in a row at one request (LLM_ERR_POISON) are tests/e2e's.
 *
 * Runs
 *   holds  -                      two deaths, anywhere
 *   fails  HEAD_BEFORE_LIVE       deadlock   the position counts as taken before its request does: it is lost
 *   fails  DOWN_HEAD_BEFORE_LIVE  assertion  the prompt is given back before it was copied
 *   fails  NO_DEDUPE              assertion  a request is admitted twice
 *   fails  LIVE_BEFORE_RECORD     assertion  a record counts before it is filled in
 *   fails  LOG_BEFORE_JOURNAL     assertion  a token is shown that the next engine computes anew
 *   fails  PUBLISHED_BEFORE_ID    assertion  a token counts before it is in its row
 *   fails  DONE_BEFORE_ANSWERED   assertion  an answer that was done is opened again
 *   fails  FREE_BEFORE_DONE       deadlock   nobody remembers that an end is still to be told
 *   fails  ANSWERED_BEFORE_STATUS assertion  an end counts before it is decided
 *   fails  NO_REPLAY              assertion  a control operation that was answered looks like a lie
 *   fails  TWO_STORE_RECYCLE      assertion  a slot passes to its next answer by two stores
 *   fails  OPENED_EMPTY           assertion  the next engine opens the stream without its tokens
 */
#define REQUESTS 2
#define SLOTS    2
#define ALL      3
#define TOKENS   2
#define DEATHS   2

#define FREE     0
#define LIVE     1
#define ANSWERED 2

#define PACK(epoch, done, count) ((epoch) * 8 + (done) * 4 + (count))
#define EPOCH(word)              ((word) / 8)
#define DONE(word)               (((word) / 4) % 2)
#define COUNT(word)              ((word) % 4)

#define TOKEN(r)      (4 * EPOCH_OF(position[r]) + deaths)

/* what was submitted at each position */
#define IS_REQUEST(p) ((p) != 1)
#define SLOT_OF(p)    ((p) == 1 -> 1 : 0)
#define EPOCH_OF(p)   ((p) == 2 -> 2 : 1)

byte submitted;               /* up: entries with their stamp */
bool body[ALL];               /* up: the prompt is as submitted */
byte down_head;               /* down.queue_head */
byte commit[SLOTS];           /* down: commit words */
byte log[TOKENS];             /* down: slot 0's */
byte told[SLOTS];             /* down: status of the record; 1: right */
byte conn_head;               /* conntab */
byte state[REQUESTS];         /* reqtab, from here on */
byte position[REQUESTS];
byte published[REQUESTS];
byte decided[REQUESTS];
byte ids[REQUESTS * TOKENS];  /* reqtok */
byte deaths;
byte admitted[ALL];           /* how often */
bool ended;                   /* the client has everything */

#define MAY_DIE if :: deaths < DEATHS -> deaths++; goto start :: skip fi

/* One store of a commit word. It never goes back: not for a moment. */
inline store_commit(slot, word)
{
    d_step {
        assert(word >= commit[slot]);
        commit[slot] = word
    }
}

/* shm/stream.c:llm_stream_writer_open() with reqtok's ids */
inline open(r)
{
    i = 0;
    do
    :: i == published[r] -> break
    :: else -> log[i] = ids[r * TOKENS + i]; i++
    od;
    MAY_DIE;
#ifdef TWO_STORE_RECYCLE
    store_commit(0, PACK(EPOCH_OF(position[r]), DONE(commit[0]), COUNT(commit[0])));
    MAY_DIE;
    commit[0] = PACK(EPOCH_OF(position[r]), 0, published[r]);
#else
#ifdef OPENED_EMPTY
    store_commit(0, PACK(EPOCH_OF(position[r]), 0, 0));
#else
    store_commit(0, PACK(EPOCH_OF(position[r]), 0, published[r]));
#endif
#endif
    MAY_DIE
}

/* shm/stream.c:llm_stream_writer_finish() from the record, then daemon/engine/journal.c:journal_free() */
inline tell(r)
{
    told[0] = decided[r];
    MAY_DIE;
    store_commit(0, PACK(EPOCH_OF(position[r]), 1, published[r]));
    MAY_DIE
}

/* daemon/engine/publish.c:publish_finished() */
inline finish(r)
{
#ifdef DONE_BEFORE_ANSWERED
    decided[r] = 1;
    tell(r);
    state[r] = ANSWERED;
    MAY_DIE;
#else
#ifdef ANSWERED_BEFORE_STATUS
    state[r] = ANSWERED;
    MAY_DIE;
    decided[r] = 1;
#else
    decided[r] = 1;
    MAY_DIE;
    state[r] = ANSWERED;
#endif
    MAY_DIE;
#ifdef FREE_BEFORE_DONE
    state[r] = FREE;
    MAY_DIE;
#endif
    tell(r);
#endif
    state[r] = FREE;
    live_in_slot = false;
    MAY_DIE
}

/* daemon/engine/publish.c:publish_token() */
inline compute(r)
{
    i = published[r];
#ifdef LOG_BEFORE_JOURNAL
    log[i] = TOKEN(r);
    MAY_DIE;
    store_commit(0, PACK(EPOCH_OF(position[r]), 0, i + 1));
    MAY_DIE;
#endif
#ifdef PUBLISHED_BEFORE_ID
    published[r] = i + 1;
    MAY_DIE;
    ids[r * TOKENS + i] = TOKEN(r);
    MAY_DIE;
#else
    ids[r * TOKENS + i] = TOKEN(r);
    MAY_DIE;
    published[r] = i + 1; /* daemon/engine/journal.c:journal_published() */
    MAY_DIE;
#endif
    /* shm/stream.c:llm_stream_writer_append() */
    log[i] = ids[r * TOKENS + i];
    MAY_DIE;
    store_commit(0, PACK(EPOCH_OF(position[r]), 0, i + 1));
    MAY_DIE;
    if
    :: i + 1 == TOKENS -> finish(r)
    :: else
    fi
}

/* daemon/engine/request.c:request_fill_record(), intake.c:take_fixed(), take_parts() */
inline fill_record(r)
{
    assert(body[head]); /* still what was submitted */
    d_step {
        position[r] = head;
        published[r] = 0;
        decided[r] = 0
    }
}

inline live(r)
{
    d_step {
        state[r] = LIVE; /* daemon/engine/journal.c:journal_live() */
        admitted[head]++;
        assert(admitted[head] == 1)
    }
}

/* daemon/engine/intake.c:advance() */
inline advance()
{
    conn_head = head + 1; /* daemon/engine/journal.c:journal_taken() */
    MAY_DIE;
    head++;
    down_head = head;     /* shm/queue.c:llm_queue_advance() */
    MAY_DIE
}

proctype engine()
{
    byte head, replayed, r, i;
    bool live_in_slot, again, done;
start:
    skip;
    d_step {
        live_in_slot = false;
        again = false;
        done = false;
        i = 0;
        /* daemon/engine/journal.c:journal_attach(), head_after_admitted() */
        head = conn_head;
        r = 0;
#ifndef NO_DEDUPE
        do
        :: r == REQUESTS -> break
        :: r < REQUESTS && state[r] != FREE && position[r] >= head -> head = position[r] + 1; r++
        :: else -> r++
        od;
#endif
        r = 0
    };
    conn_head = head;
    replayed = head; /* daemon/engine/connection.c:start() */
    MAY_DIE;
    down_head = head;
    MAY_DIE;
    /* daemon/engine/recovery.c:recovery_resume_requests() */
    do
    :: r == REQUESTS -> break
    :: else ->
       if
       :: state[r] == LIVE -> /* go_on() */
          live_in_slot = true;
          open(r);
          if
          :: published[r] == TOKENS -> finish(r)
          :: else
          fi
       :: state[r] == ANSWERED -> /* tell_again() */
          if
          :: commit[0] == PACK(EPOCH_OF(position[r]), 1, published[r])
          :: else ->
             open(r);
             tell(r)
          fi;
          state[r] = FREE;
          MAY_DIE
       :: else
       fi;
       r++
    od;
    do
    :: atomic { ended && head == ALL && state[0] == FREE && state[1] == FREE -> break }
    :: submitted > head ->
       /* daemon/engine/intake.c:take_one(), replayed() */
#ifdef NO_REPLAY
       again = false;
#else
       again = head == replayed && EPOCH(commit[SLOT_OF(head)]) == EPOCH_OF(head);
#endif
       done = again && DONE(commit[SLOT_OF(head)]);
       if
       :: done
       :: else ->
          /* check_entry(): an honest client is never broken */
          assert(again || EPOCH_OF(head) == EPOCH(commit[SLOT_OF(head)]) + 1);
          assert(SLOT_OF(head) == 1 || !live_in_slot);
          if
          :: IS_REQUEST(head) ->
             r = (state[0] == FREE -> 0 : 1);
             assert(state[r] == FREE);
#ifdef HEAD_BEFORE_LIVE
             conn_head = head + 1;
             MAY_DIE;
#endif
#ifdef DOWN_HEAD_BEFORE_LIVE
             down_head = head + 1;
             MAY_DIE;
#endif
#ifdef LIVE_BEFORE_RECORD
             live(r);
             MAY_DIE;
             fill_record(r);
#else
             fill_record(r);
             MAY_DIE;
             live(r);
#endif
             live_in_slot = true;
             MAY_DIE;
             open(r)
          :: else ->
             /* daemon/engine/publish.c:publish_answer() */
             told[1] = 0;
             if
             :: EPOCH(commit[1]) != EPOCH_OF(head) -> store_commit(1, PACK(EPOCH_OF(head), 0, 0))
             :: else
             fi;
             MAY_DIE;
             told[1] = 1;
             MAY_DIE;
             store_commit(1, PACK(EPOCH_OF(head), 1, 0));
             MAY_DIE
          fi
       fi;
       advance()
    :: state[0] == LIVE -> compute(0)
    :: state[1] == LIVE -> compute(1)
    od
}

proctype client()
{
    byte epoch = 1, seen, i;
    byte last[SLOTS], shown[TOKENS];
    bool ended_1;
    body[0] = true;
    submitted = 1;
    submitted = 2;
    do
    :: epoch == 3 && ended_1 -> break
    :: d_step { commit[0] != last[0] && epoch < 3 ->
           last[0] = commit[0];
           if
           :: EPOCH(last[0]) == epoch - 1 && seen == 0 -> skip
           :: else ->
              assert(EPOCH(last[0]) == epoch && COUNT(last[0]) >= seen);
              i = 0;
              do
              :: i == COUNT(last[0]) -> break
              :: else ->
                 assert(log[i] / 4 == epoch);
                 assert(i >= seen || log[i] == shown[i]);
                 shown[i] = log[i];
                 i++
              od;
              seen = i;
              if
              :: DONE(last[0]) ->
                 assert(seen == TOKENS && told[0] == 1);
                 epoch++;
                 seen = 0;
                 shown[0] = 0;
                 shown[1] = 0
              :: else
              fi
           fi
       };
       if
       :: epoch == 2 && submitted == 2 ->
          body[2] = true;
          submitted = 3
       :: else
       fi
    :: d_step { commit[1] != last[1] ->
           last[1] = commit[1];
           if
           :: DONE(last[1]) ->
              assert(told[1] == 1);
              ended_1 = true
           :: else
           fi
       }
    :: d_step { down_head > 0 && body[0] -> body[0] = false }
    :: d_step { down_head > 2 && body[2] -> body[2] = false }
    od;
    ended = true
}

init
{
    atomic {
        run engine();
        run client()
    }
}
