/*
 * bugs.h - kernels that are wrong on purpose, so that the emulator's eyes are tested too.
 */
#ifndef LLM_TESTS_CUDA_BUGS_H
#define LLM_TESTS_CUDA_BUGS_H

#ifdef __cplusplus
extern "C" {
#endif

enum bug {
    BUG_NONE,             /* correct: a row reversed through shared memory */
    BUG_NO_BARRIER,       /* read what others write without __syncthreads */
    BUG_WRITE_AFTER_READ, /* overwrite what others may still read */
    BUG_NO_SYNCWARP,      /* read what another lane writes without __syncwarp */
    BUG_NONE_SYNCWARP,    /* the same, correct */
    BUG_COPY_NOT_WAITED,  /* read before cp.async was waited for */
    BUG_COPY_LEFT,        /* return with a cp.async on its way */
    BUG_NONE_COPY,        /* the same, correct */
    BUG_SHARED_UNSET,     /* use shared memory that nobody wrote */
    BUG_LOAD_BEYOND,      /* load one element beyond a buffer */
    BUG_STORE_BEYOND,
    BUG_SHARED_BEYOND,     /* beyond the dynamic shared memory of the launch */
    BUG_MISALIGNED,        /* 16 bytes at an address that is a multiple of 4 */
    BUG_HALF_SHUFFLE,      /* a full mask in half a warp */
    BUG_SHUFFLE_RETURNED,  /* a mask with lanes that have returned */
    BUG_BARRIER_IN_BRANCH, /* two __syncthreads in the two branches of an if */
    BUG_TWO_STORES,        /* two threads of a block store to one word */
    BUG_TWO_BLOCKS,        /* two blocks store to one word */
    BUG_LAST_BLOCK,        /* the last block adds up what all stored, without fences */
    BUG_NONE_LAST_BLOCK,   /* the same, correct */
    BUG_COUNT
};

enum {
    BUG_BLOCKS = 4,
    BUG_THREADS = 64,
    BUG_FLOATS = BUG_BLOCKS * BUG_THREADS
};

struct cuda_stream;

enum {
    PROBE_LANES = 32
};

/* One warp: lane i copies in[i * stride] to row[i * stride] in shared memory, and from there to out[i]. What it
 * moves is known, so that the counters can be checked. `in` [32 * stride], stride 1..64. */
void probe_launch(struct cuda_stream *stream, float *out, const float *in, int stride);

/* Run it: `out` [BUG_FLOATS] and `in` [BUG_FLOATS] on the device; `counter` one word, zero. */
void bug_launch(struct cuda_stream *stream, enum bug bug, float *out, const float *in,
                unsigned *counter);

#ifdef __cplusplus
}
#endif
#endif
