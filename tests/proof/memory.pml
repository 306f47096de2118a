/*
 * memory.pml - the memory that the models run on: atomics of C11, or the store buffers of x86.
 *
 * Views     (default) What C11 promises of relaxed, release, acquire and seq_cst fences, and no more. A location is the
 *           list of all values it ever had; a process has seen each location up to some moment and may read that
 *           one or any later. A release store carries along what its process has seen; the acquire that reads it has
 *           seen that too. Fences have one order: each hands what its process has seen to all fences after it.
 *           A read-modify-write reads the newest value. Nothing is read before it was written: RC11, without the
 *           load-buffering that RC11 forbids.
 * TSO       (-DTSO) Each process has a queue of stores that memory has not got yet; a load looks into its own queue
 *           first; a fence and a read-modify-write wait until it is empty. Everything TSO allows, views allow: these
 *           runs say which mutants x86 itself would show.
 * Caller    defines PROCS, LOCATIONS and MOMENTS (values a location may get, the initial 0 included) before the
 *           #include; processes are 0.. PROCS - 1, handed over as `me`.
 */
#define RELAXED 0
#define ACQUIRE 1
#define RELEASE 1

#ifdef TSO

#define DEPTH 6
byte memory_[LOCATIONS];
byte queued_[PROCS];               /* stores in a process's queue */
byte queue_where_[PROCS * DEPTH];  /* oldest first */
byte queue_what_[PROCS * DEPTH];
hidden byte k_;

inline STORE(me, where, what, order)
{
    atomic {
        queued_[me] < DEPTH; /* a full queue stalls */
        d_step {
            queue_where_[(me) * DEPTH + queued_[me]] = where;
            queue_what_[(me) * DEPTH + queued_[me]] = what;
            queued_[me]++
        }
    }
}

inline LOAD(me, where, into, order)
{
    d_step {
        into = memory_[where];
        k_ = 0;
        do
        :: k_ < queued_[me] ->
           if
           :: queue_where_[(me) * DEPTH + k_] == (where) -> into = queue_what_[(me) * DEPTH + k_]
           :: else
           fi;
           k_++
        :: else -> break
        od;
        k_ = 0
    }
}

inline FENCE(me)
{
    queued_[me] == 0
}

/* compare-and-swap; `done` says whether it took place */
inline SWAP(me, where, expected, what, done, order)
{
    atomic {
        queued_[me] == 0;
        done = memory_[where] == (expected);
        if
        :: done -> memory_[where] = what
        :: else
        fi
    }
}

inline ADD(me, where, amount, order)
{
    atomic {
        queued_[me] == 0;
        memory_[where] = memory_[where] + (amount)
    }
}

#define NEWEST(where) memory_[where]
/* what a process has stored and memory has not got yet */
#define QUEUED(me)    queued_[me]

inline drain_(who)
{
    d_step {
        memory_[queue_where_[(who) * DEPTH]] = queue_what_[(who) * DEPTH];
        queued_[who]--;
        k_ = 0;
        do
        :: k_ < queued_[who] ->
           queue_where_[(who) * DEPTH + k_] = queue_where_[(who) * DEPTH + k_ + 1];
           queue_what_[(who) * DEPTH + k_] = queue_what_[(who) * DEPTH + k_ + 1];
           k_++
        :: else -> break
        od;
        queue_where_[(who) * DEPTH + queued_[who]] = 0;
        queue_what_[(who) * DEPTH + queued_[who]] = 0
    }
}

active proctype the_memory()
{
end: do
    :: atomic { queued_[0] > 0 -> drain_(0) }
#if PROCS > 1
    :: atomic { queued_[1] > 0 -> drain_(1) }
#endif
#if PROCS > 2
    :: atomic { queued_[2] > 0 -> drain_(2) }
#endif
#if PROCS > 3
    :: atomic { queued_[3] > 0 -> drain_(3) }
#endif
    od
}

#else /* views */

byte value_[LOCATIONS * MOMENTS];
byte newest_[LOCATIONS];
byte carried_[LOCATIONS * MOMENTS * LOCATIONS]; /* what the store's process had seen, if it was a release */
byte seen_[PROCS * LOCATIONS];
byte fenced_[LOCATIONS]; /* what the fences so far have seen */
hidden byte k_, moment_, sum_;

inline append_(me, where, what, order)
{
    sum_ = what; /* which may name the newest value so far */
    newest_[where] = newest_[where] + 1;
    assert(newest_[where] < MOMENTS); /* else the model needs more of them */
    value_[(where) * MOMENTS + newest_[where]] = sum_;
    seen_[(me) * LOCATIONS + (where)] = newest_[where];
    if
    :: order == RELEASE ->
       k_ = 0;
       do
       :: k_ < LOCATIONS ->
          carried_[((where) * MOMENTS + newest_[where]) * LOCATIONS + k_] = seen_[(me) * LOCATIONS + k_];
          k_++
       :: else -> break
       od;
       k_ = 0
    :: else
    fi
}

inline receive_(me, where)
{
    k_ = 0;
    do
    :: k_ < LOCATIONS ->
       if
       :: carried_[((where) * MOMENTS + moment_) * LOCATIONS + k_] > seen_[(me) * LOCATIONS + k_] ->
          seen_[(me) * LOCATIONS + k_] = carried_[((where) * MOMENTS + moment_) * LOCATIONS + k_]
       :: else
       fi;
       k_++
    :: else -> break
    od;
    k_ = 0
}

inline STORE(me, where, what, order)
{
    d_step { append_(me, where, what, order) }
}

inline LOAD(me, where, into, order)
{
    atomic {
        moment_ = seen_[(me) * LOCATIONS + (where)];
        do
        :: moment_ < newest_[where] -> moment_++
        :: break
        od;
        skip;
        d_step {
            into = value_[(where) * MOMENTS + moment_];
            seen_[(me) * LOCATIONS + (where)] = moment_;
            if
            :: order == ACQUIRE -> receive_(me, where)
            :: else
            fi
        }
    }
}

inline FENCE(me)
{
    d_step {
        k_ = 0;
        do
        :: k_ < LOCATIONS ->
           if
           :: fenced_[k_] < seen_[(me) * LOCATIONS + k_] -> fenced_[k_] = seen_[(me) * LOCATIONS + k_]
           :: else -> seen_[(me) * LOCATIONS + k_] = fenced_[k_]
           fi;
           k_++
        :: else -> break
        od;
        k_ = 0
    }
}

/* compare-and-swap; one that fails has seen nothing */
inline SWAP(me, where, expected, what, done, order)
{
    d_step {
        done = value_[(where) * MOMENTS + newest_[where]] == (expected);
        if
        :: done -> append_(me, where, what, order)
        :: else
        fi
    }
}

inline ADD(me, where, amount, order)
{
    d_step {
        append_(me, where, value_[(where) * MOMENTS + newest_[where]] + (amount), order)
    }
}

#define NEWEST(where) value_[(where) * MOMENTS + newest_[where]]
#define QUEUED(me)    0

#endif
