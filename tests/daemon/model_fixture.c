#include "tests/daemon/model_fixture.h"

#include "tests/daemon/tiny_model.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCKS_PER_SLAB 3
#define SLAB_REST_BYTES 192 /* unused at the end of each slab */

static void open_pool(struct model_fixture *f)
{
    f->kv = f->facts->kv;
    f->kv.blocks_per_slab = BLOCKS_PER_SLAB;
    f->kv.block_count = FIXTURE_BLOCKS;
    f->kv.slab_bytes = (BLOCKS_PER_SLAB * f->facts->block_bytes + SLAB_REST_BYTES + 63) / 64 * 64;
    size_t bytes = (FIXTURE_BLOCKS / BLOCKS_PER_SLAB + 1) * f->kv.slab_bytes;
    f->kv.base = aligned_alloc(64, bytes);
    ck_assert_ptr_nonnull(f->kv.base);
    memset(f->kv.base, 0xff, bytes);

    uint64_t state = 7;
    for (uint32_t i = 0; i < FIXTURE_BLOCKS; i++) {
        uint32_t j = (uint32_t)(tiny_random(&state) % (i + 1));
        f->shuffled[i] = f->shuffled[j];
        f->shuffled[j] = i;
    }
}

void fixture_open(struct model_fixture *f, const char *path, const struct fixture_backend *backend,
                  enum model_kv_type kv_type)
{
    struct llm_error error = {0};
    *f = (struct model_fixture){0};
    struct kernel_stream_options stream_options = {.threads = backend->threads,
                                                   .isa = backend->isa};
    enum llm_status status = kernel_stream_open(backend->name, &stream_options, &f->stream, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    status = model_place_find(path, &f->place, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    f->directory.directory_fd = open(f->place.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_msg(f->directory.directory_fd >= 0, "cannot open %s", f->place.directory);
    f->files = model_files_below(&f->directory);
    f->files.gguf = f->place.gguf[0] != '\0' ? f->place.gguf : NULL;
    struct model_memory memory = model_memory_from_pages(&f->pages);
    struct model_options options = {.stream = f->stream,
                                    .kv_type = kv_type,
                                    .batch_rows_max = FIXTURE_BATCH_ROWS,
                                    .logits_rows_max = FIXTURE_BATCH_ROWS};
    status = model_open(&f->model, &f->files, &memory, &options, &error);
    ck_assert_msg(status == LLM_OK, "%s: %s", path, error.message);
    f->facts = model_facts(f->model);
    f->logits = malloc(FIXTURE_BATCH_ROWS * (size_t)f->facts->config.vocab_size * sizeof(float));
    ck_assert_ptr_nonnull(f->logits);
    open_pool(f);
}

void fixture_close(struct model_fixture *f)
{
    model_close(f->model);
    model_pages_close(&f->pages);
    kernel_stream_close(f->stream);
    close(f->directory.directory_fd);
    free(f->kv.base);
    free(f->logits);
}

void fixture_start(struct model_fixture *f, struct fixture_sequence *s, const int32_t *ids,
                   int32_t count)
{
    *s = (struct fixture_sequence){.ids = ids, .count = count};
    s->block_count = (uint32_t)((count + f->kv.B - 1) / f->kv.B);
    ck_assert_uint_le(s->block_count, FIXTURE_SEQUENCE_BLOCKS);
    ck_assert_uint_le(f->taken_blocks + s->block_count, FIXTURE_BLOCKS);
    for (uint32_t i = 0; i < s->block_count; i++)
        s->blocks[i] = f->shuffled[f->taken_blocks++];
    s->logits = malloc((size_t)count * f->facts->config.vocab_size * sizeof(float));
    ck_assert_ptr_nonnull(s->logits);
}

void fixture_end(struct fixture_sequence *s)
{
    free(s->logits);
}

/* Rows are laid out in the order of the sequences, and all their logits are asked for, last row first: the
 * order in which logits are wanted must not matter. */
void fixture_step(struct model_fixture *f, struct fixture_sequence *const *sequences,
                  const int32_t *rows, int32_t sequence_count)
{
    struct kernel_sequence step[FIXTURE_BATCH_SEQUENCES];
    int32_t ids[FIXTURE_BATCH_ROWS], wanted[FIXTURE_BATCH_ROWS], T = 0, S = 0;
    for (int32_t i = 0; i < sequence_count; i++) {
        struct fixture_sequence *s = sequences[i];
        if (rows[i] == 0)
            continue;
        step[S++] = (struct kernel_sequence){
            .blocks = s->blocks, .row_first = T, .row_count = rows[i], .position_first = s->done};
        memcpy(ids + T, s->ids + s->done, (size_t)rows[i] * sizeof *ids);
        T += rows[i];
    }
    for (int32_t i = 0; i < T; i++)
        wanted[i] = T - 1 - i;
    struct model_batch batch = {.token_ids = ids,
                                .row_count = T,
                                .sequences = step,
                                .sequence_count = S,
                                .logits_rows = wanted,
                                .logits_row_count = T};
    struct llm_error error = {0};
    enum llm_status status = model_forward(f->model, &f->kv, &batch, f->logits, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);

    size_t V = f->facts->config.vocab_size;
    int32_t row = 0;
    for (int32_t i = 0; i < sequence_count; i++) {
        struct fixture_sequence *s = sequences[i];
        for (int32_t j = 0; j < rows[i]; j++, row++, s->done++)
            memcpy(s->logits + (size_t)s->done * V, f->logits + (size_t)(T - 1 - row) * V,
                   V * sizeof(float));
    }
}

void fixture_run_alone(struct model_fixture *f, struct fixture_sequence *s, int32_t chunk)
{
    while (s->done < s->count) {
        int32_t left = s->count - s->done, rows = left < chunk ? left : chunk;
        fixture_step(f, &s, &rows, 1);
    }
}
