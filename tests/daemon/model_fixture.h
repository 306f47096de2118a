/*
 * model_fixture.h - an open model with a pool of blocks, for tests that run sequences through it.
 *
 * Idea     Blocks are handed out in a shuffled order from a pool whose bytes are all 0xff (NaN wherever one
 *          looks), in slabs with unused ends: a read of a row that nobody wrote, or of another's block, shows.
 *          A sequence keeps the logits after each of its tokens, so runs can be compared bit for bit.
 */
#ifndef LLM_TESTS_DAEMON_MODEL_FIXTURE_H
#define LLM_TESTS_DAEMON_MODEL_FIXTURE_H

#include "daemon/model/model.h"
#include "daemon/model/model_place.h"

#include <stdint.h>

#define FIXTURE_BLOCKS          256
#define FIXTURE_SEQUENCE_BLOCKS 64
#define FIXTURE_BATCH_ROWS      512
#define FIXTURE_BATCH_SEQUENCES 16

struct fixture_backend {
    const char *name;
    const char *isa; /* NULL: the widest */
    uint32_t threads;
};

struct model_fixture {
    struct kernel_stream *stream;
    struct model_place place;
    struct model_directory directory;
    struct model_files files;
    struct model_pages pages;
    struct model *model;
    const struct model_facts *facts;
    struct kernel_kv kv;
    uint32_t shuffled[FIXTURE_BLOCKS]; /* block ids in the order in which they are handed out */
    uint32_t taken_blocks;
    float *logits; /* [FIXTURE_BATCH_ROWS, vocab] */
};

/* `path` is a directory or a GGUF file. Fails the running test when something cannot be opened. */
void fixture_open(struct model_fixture *f, const char *path, const struct fixture_backend *backend,
                  enum model_kv_type kv_type);
void fixture_close(struct model_fixture *f);

struct fixture_sequence {
    const int32_t *ids; /* [count] */
    int32_t count;
    int32_t done; /* tokens computed so far */
    uint32_t blocks[FIXTURE_SEQUENCE_BLOCKS];
    uint32_t block_count;
    float *logits; /* [count, vocab] after each token */
};

void fixture_start(struct model_fixture *f, struct fixture_sequence *s, const int32_t *ids,
                   int32_t count);
void fixture_end(struct fixture_sequence *s);

/* One forward: the next rows[i] tokens of sequences[i], all logits wanted. rows[i] may be 0: left out. */
void fixture_step(struct model_fixture *f, struct fixture_sequence *const *sequences,
                  const int32_t *rows, int32_t sequence_count);

/* The whole sequence by itself, `chunk` tokens per forward. */
void fixture_run_alone(struct model_fixture *f, struct fixture_sequence *s, int32_t chunk);

#endif
