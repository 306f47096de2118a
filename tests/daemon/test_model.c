/*
 * test_model.c - daemon/model: a model that the test wrote itself, from files to logits.
 * How: random weights are compared with a forward pass in f64 that shares no code with the runtime
 * (tiny_model.c); then the same tokens are computed in many ways, and every way must give the same bits.
 */
#include "tests/daemon/model_fixture.h"
#include "tests/daemon/tiny_model.h"

#include "daemon/model/weights.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LONG_TOKENS 150 /* more than two attention spans, and no multiple of a block */

static const struct fixture_backend backends[] = {
    {"reference", NULL, 1},
    {"cpu", "plain", 1},
    {"cpu", NULL, 2},
};
#define BACKENDS ((int)(sizeof backends / sizeof backends[0]))

/* Widths that are no multiples of any vector; one head or several per key head; heads wider than D / H.
 * In order: hidden, feed-forward, layers, heads, key heads, head, vocabulary. */
static const struct tiny_shape shapes[] = {
    {32, 48, 2, 4, 2, 8, 61, .tied = true, .dtype = "F32"},
    {36, 50, 1, 3, 1, 14, 40, .dtype = "F32", .sharded = true},
    {48, 64, 2, 3, 3, 16, 90, .dtype = "BF16", .shuffled = true, .mixed = true},
    {24, 40, 2, 2, 1, 32, 33, .tied = true, .dtype = "F16", .sharded = true, .shuffled = true},
};
#define SHAPES ((int)(sizeof shapes / sizeof shapes[0]))

static struct tiny_model tiny;
static struct model_fixture fixture;
static int32_t ids[LONG_TOKENS];
static uint64_t seed; /* of weights, tokens and mixtures */

static void open_shape(int shape, int backend, enum model_kv_type kv_type)
{
    tiny_model_open(&tiny, &shapes[shape], seed);
    fixture_open(&fixture, tiny.directory, &backends[backend], kv_type);
    uint64_t state = seed + 1;
    for (int i = 0; i < LONG_TOKENS; i++)
        ids[i] = (int32_t)(tiny_random(&state) % (uint64_t)shapes[shape].vocab);
}

static void close_shape(void)
{
    fixture_close(&fixture);
    tiny_model_close(&tiny);
}

static void assert_same_bits(const float *got, const float *want, int32_t count, const char *how)
{
    size_t V = fixture.facts->config.vocab_size;
    for (size_t i = 0; i < (size_t)count * V; i++)
        ck_assert_msg(memcmp(got + i, want + i, sizeof *got) == 0,
                      "seed %llu, %s: logit %zu after token %zu is %a, alone and at once it is %a",
                      (unsigned long long)seed, how, i % V, i / V, (double)got[i], (double)want[i]);
}

/* ---- right ---- */

/* Distance of the logits from the f64 pass: the largest, and the root of the mean square. */
static void measure_error(int shape, const float *got, double *out_worst, double *out_rms)
{
    size_t V = (size_t)shapes[shape].vocab;
    double *want = malloc(LONG_TOKENS * V * sizeof *want), worst = 0, squares = 0;
    ck_assert_ptr_nonnull(want);
    tiny_model_logits(&tiny, ids, LONG_TOKENS, want);
    for (size_t i = 0; i < LONG_TOKENS * V; i++) {
        double distance = fabs((double)got[i] - want[i]);
        worst = fmax(worst, distance);
        squares += distance * distance;
    }
    free(want);
    *out_worst = worst;
    *out_rms = sqrt(squares / (double)(LONG_TOKENS * V));
}

static void measure_run(int row, enum model_kv_type kv_type, double *out_worst, double *out_rms)
{
    struct fixture_sequence s;
    open_shape(row % SHAPES, row / SHAPES, kv_type);
    fixture_start(&fixture, &s, ids, LONG_TOKENS);
    fixture_run_alone(&fixture, &s, LONG_TOKENS);
    measure_error(row % SHAPES, s.logits, out_worst, out_rms);
    fixture_end(&s);
    close_shape();
}

START_TEST(logits_agree_with_a_forward_pass_in_f64)
{
    double worst, rms;
    measure_run(_i, MODEL_KV_F32, &worst, &rms);
    ck_assert_msg(worst < 5e-5, "seed %llu: a logit is %g from the f64 pass",
                  (unsigned long long)seed, worst);
}
END_TEST

/* Logits are of the order of 1 to 10; a bf16 number is within 0.4 % of what it stands for. */
START_TEST(keys_and_values_in_bf16_cost_little)
{
    double worst, rms;
    measure_run(_i, MODEL_KV_BF16, &worst, &rms);
    ck_assert_msg(rms < 0.06, "seed %llu: logits are %g from the f64 pass, root mean square",
                  (unsigned long long)seed, rms);
    ck_assert_msg(rms > 1e-6, "bf16 changed nothing, so it was not used");
}
END_TEST

/* ---- the same bits, however it is computed ---- */

START_TEST(a_token_does_not_depend_on_how_the_prompt_is_cut)
{
    static const int32_t chunks[] = {1, 7, 64, 149};
    struct fixture_sequence whole, cut;
    open_shape(_i % SHAPES, _i / SHAPES, MODEL_KV_AUTO);
    fixture_start(&fixture, &whole, ids, LONG_TOKENS);
    fixture_run_alone(&fixture, &whole, LONG_TOKENS);
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        char how[32];
        snprintf(how, sizeof how, "in chunks of %d", chunks[i]);
        fixture_start(&fixture, &cut, ids, LONG_TOKENS);
        fixture_run_alone(&fixture, &cut, chunks[i]);
        assert_same_bits(cut.logits, whole.logits, LONG_TOKENS, how);
        fixture_end(&cut);
    }
    fixture_end(&whole);
    close_shape();
}
END_TEST

/* Eight sequences of different lengths advance by random numbers of rows per step, some resting. */
START_TEST(a_token_does_not_depend_on_its_company)
{
    struct fixture_sequence alone[8], together[8], *members[8];
    open_shape(_i % SHAPES, _i / SHAPES, MODEL_KV_AUTO);
    for (int i = 0; i < 8; i++) {
        fixture_start(&fixture, &alone[i], ids + i, 30 + 13 * i);
        fixture_run_alone(&fixture, &alone[i], LONG_TOKENS);
        fixture_start(&fixture, &together[i], ids + i, 30 + 13 * i);
        members[i] = &together[i];
    }
    uint64_t state = seed + 2;
    for (bool more = true; more;) {
        int32_t rows[8], sum = 0;
        more = false;
        for (int i = 0; i < 8; i++) {
            int32_t left = together[i].count - together[i].done;
            rows[i] = (int32_t)(tiny_random(&state) % 20);
            rows[i] = rows[i] < left ? rows[i] : left;
            sum += rows[i];
            more = more || left > 0;
        }
        if (sum > 0)
            fixture_step(&fixture, members, rows, 8);
    }
    for (int i = 0; i < 8; i++) {
        assert_same_bits(together[i].logits, alone[i].logits, alone[i].count, "in a batch of 8");
        fixture_end(&alone[i]);
        fixture_end(&together[i]);
    }
    close_shape();
}
END_TEST

START_TEST(a_shared_block_serves_two_sequences)
{
    struct fixture_sequence parent, child;
    open_shape(_i % SHAPES, _i / SHAPES, MODEL_KV_AUTO);
    int32_t shared = 2 * fixture.kv.B;
    ck_assert_int_lt(shared, LONG_TOKENS);
    fixture_start(&fixture, &parent, ids, LONG_TOKENS);
    fixture_run_alone(&fixture, &parent, LONG_TOKENS);
    fixture_start(&fixture, &child, ids, LONG_TOKENS);
    child.blocks[0] = parent.blocks[0];
    child.blocks[1] = parent.blocks[1];
    child.done = shared;
    fixture_run_alone(&fixture, &child, 5);
    size_t skipped = (size_t)shared * fixture.facts->config.vocab_size;
    assert_same_bits(child.logits + skipped, parent.logits + skipped, LONG_TOKENS - shared,
                     "behind shared blocks");
    fixture_end(&parent);
    fixture_end(&child);
    close_shape();
}
END_TEST

START_TEST(rows_whose_logits_nobody_wants_change_nothing)
{
    struct fixture_sequence whole, quiet;
    open_shape(0, 0, MODEL_KV_AUTO);
    fixture_start(&fixture, &whole, ids, 40);
    fixture_run_alone(&fixture, &whole, 40);
    fixture_start(&fixture, &quiet, ids, 40);
    struct kernel_sequence step = {.blocks = quiet.blocks, .row_count = 25};
    struct model_batch batch = {
        .token_ids = ids, .row_count = 25, .sequences = &step, .sequence_count = 1};
    struct llm_error error;
    ck_assert_int_eq(model_forward(fixture.model, &fixture.kv, &batch, NULL, &error), LLM_OK);
    quiet.done = 25;
    fixture_run_alone(&fixture, &quiet, 40);
    size_t skipped = 25 * (size_t)fixture.facts->config.vocab_size;
    assert_same_bits(quiet.logits + skipped, whole.logits + skipped, 15, "after a silent chunk");
    fixture_end(&whole);
    fixture_end(&quiet);
    close_shape();
}
END_TEST

/* ---- facts ---- */

START_TEST(kv_is_f32_for_f32_weights_and_bf16_for_others)
{
    for (int shape = 0; shape < SHAPES; shape++) {
        open_shape(shape, 0, MODEL_KV_AUTO);
        bool f32 = strcmp(shapes[shape].dtype, "F32") == 0;
        ck_assert_int_eq(fixture.facts->kv.dtype, f32 ? KERNEL_F32 : KERNEL_BF16);
        ck_assert_int_eq(fixture.facts->kv.B, 16); /* tiny models have blocks of 16 tokens */
        close_shape();
    }
}
END_TEST

static const struct {
    int layers, block_tokens;
} block_rows[] = {
    /* 2 KiB per layer and token: 64 tokens of one layer are still small, so that model is tiny */
    {1, 16},
    {2, 64},
    {4, 32},
    {8, 16},
};

START_TEST(a_block_has_the_fewest_tokens_that_reach_256_kib)
{
    struct tiny_shape shape = {.hidden = 16,
                               .feed_forward = 16,
                               .layers = block_rows[_i].layers,
                               .heads = 8,
                               .kv_heads = 8,
                               .head_dim = 32,
                               .vocab = 20,
                               .tied = true,
                               .dtype = "F32"};
    tiny_model_open(&tiny, &shape, seed);
    fixture_open(&fixture, tiny.directory, &backends[0], MODEL_KV_AUTO);
    ck_assert_int_eq(fixture.facts->kv.B, block_rows[_i].block_tokens);
    ck_assert_uint_eq(fixture.facts->block_bytes,
                      2048 * (size_t)block_rows[_i].layers * (size_t)block_rows[_i].block_tokens);
    close_shape();
}
END_TEST

START_TEST(facts_count_every_parameter_once)
{
    open_shape(0, 0, MODEL_KV_AUTO);
    /* embedding, and per layer two norms, q and o, k and v, gate, up and down; the last norm */
    uint64_t layer = 2 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32;
    ck_assert_uint_eq(fixture.facts->parameter_count, 61 * 32 + 2 * layer + 32);
    ck_assert_uint_gt(fixture.facts->weight_bytes, 4 * fixture.facts->parameter_count);
    ck_assert_uint_gt(fixture.facts->activation_bytes, 0);
    close_shape();
}
END_TEST

static void read_fingerprint(const struct tiny_shape *shape, uint64_t weight_seed,
                             unsigned char out[MODEL_FINGERPRINT_BYTES])
{
    tiny_model_open(&tiny, shape, weight_seed);
    fixture_open(&fixture, tiny.directory, &backends[0], MODEL_KV_AUTO);
    memcpy(out, fixture.facts->fingerprint, MODEL_FINGERPRINT_BYTES);
    close_shape();
}

START_TEST(fingerprint_names_the_weights_and_not_their_files)
{
    unsigned char single[MODEL_FINGERPRINT_BYTES], other[MODEL_FINGERPRINT_BYTES];
    struct tiny_shape shape = shapes[0];
    read_fingerprint(&shape, seed, single);
    shape.sharded = true;
    shape.shuffled = true;
    read_fingerprint(&shape, seed, other);
    ck_assert_mem_eq(single, other, sizeof single);
    read_fingerprint(&shape, seed + 1, other);
    ck_assert_mem_ne(single, other, sizeof single);
    shape.dtype = "BF16";
    read_fingerprint(&shape, seed, other);
    ck_assert_mem_ne(single, other, sizeof single);
}
END_TEST

/* ---- weights that outlive the engine ---- */

/* Memory that a keeper would hold: the second take finds what the first left. */
struct keeper {
    void *address;
    size_t bytes;
    unsigned take_count;
    const char *cut_file; /* cut this file to nothing at the moment of the take; or NULL */
};

static enum llm_status keeper_take(void *self, const char *name, size_t bytes, void **out_address,
                                   bool *out_kept, struct llm_error *error)
{
    struct keeper *keeper = self;
    (void)error;
    ck_assert_str_eq(name, "weights");
    if (keeper->cut_file != NULL)
        ck_assert_int_eq(truncate(keeper->cut_file, 0), 0);
    *out_kept = keeper->address != NULL && keeper->bytes == bytes;
    if (keeper->address != NULL && keeper->bytes != bytes)
        munmap(keeper->address, keeper->bytes);
    if (!*out_kept)
        keeper->address =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(keeper->address != MAP_FAILED);
    ck_assert_int_eq(mprotect(keeper->address, bytes, PROT_READ | PROT_WRITE), 0);
    keeper->bytes = bytes;
    keeper->take_count++;
    *out_address = keeper->address;
    return LLM_OK;
}

static enum llm_status open_kept(struct keeper *keeper, struct model **out_model,
                                 struct llm_error *error)
{
    struct model_memory memory = {.take = keeper_take, .self = keeper};
    struct model_options options = {
        .stream = fixture.stream, .batch_rows_max = 8, .logits_rows_max = 8};
    return model_open(out_model, &fixture.files, &memory, &options, error);
}

/* Open once more with what the keeper holds; say whether it was used. */
static bool reopen_is_kept(struct keeper *keeper)
{
    struct model *model;
    struct llm_error error;
    ck_assert_int_eq(open_kept(keeper, &model, &error), LLM_OK);
    bool kept = model_facts(model)->weights_kept;
    ck_assert_mem_eq(model_facts(model)->fingerprint, fixture.facts->fingerprint,
                     MODEL_FINGERPRINT_BYTES);
    model_close(model);
    return kept;
}

START_TEST(packed_weights_are_found_again_after_an_engine_restart)
{
    struct keeper keeper = {0};
    open_shape(0, 0, MODEL_KV_AUTO);
    ck_assert(!reopen_is_kept(&keeper));
    ck_assert(reopen_is_kept(&keeper));
    munmap(keeper.address, keeper.bytes);
    close_shape();
}
END_TEST

START_TEST(half_packed_weights_are_packed_anew)
{
    struct keeper keeper = {0};
    open_shape(0, 0, MODEL_KV_AUTO);
    ck_assert(!reopen_is_kept(&keeper));
    ck_assert_int_eq(mprotect(keeper.address, keeper.bytes, PROT_READ | PROT_WRITE), 0);
    memset(keeper.address, 0, 8); /* the commit word: the engine died before it stored it */
    ck_assert(!reopen_is_kept(&keeper));
    ck_assert(reopen_is_kept(&keeper));
    munmap(keeper.address, keeper.bytes);
    close_shape();
}
END_TEST

START_TEST(changed_files_are_packed_anew)
{
    struct keeper keeper = {0};
    open_shape(0, 0, MODEL_KV_AUTO);
    ck_assert(!reopen_is_kept(&keeper));
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    const char *file = tiny_model_path(&tiny, "model.safetensors");
    ck_assert_int_eq(utimensat(AT_FDCWD, file, times, 0), 0);
    ck_assert(!reopen_is_kept(&keeper));
    munmap(keeper.address, keeper.bytes);
    close_shape();
}
END_TEST

/* The kernel is asked to store a byte there: it says EFAULT where a store of ours would stop the process. */
START_TEST(packed_weights_cannot_be_written)
{
    struct keeper keeper = {0};
    int ends[2];
    open_shape(0, 0, MODEL_KV_AUTO);
    reopen_is_kept(&keeper);
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    ck_assert_int_eq(read(ends[0], keeper.address, 1), -1);
    ck_assert_int_eq(errno, EFAULT);
    close(ends[0]);
    close(ends[1]);
    munmap(keeper.address, keeper.bytes);
    close_shape();
}
END_TEST

START_TEST(a_file_that_shrinks_while_it_is_read_is_a_sentence)
{
    struct keeper keeper = {0};
    struct model *model = NULL;
    struct llm_error error;
    open_shape(0, 0, MODEL_KV_AUTO);
    keeper.cut_file = tiny_model_path(&tiny, "model.safetensors");
    ck_assert_int_eq(open_kept(&keeper, &model, &error), LLM_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "model.safetensors"));
    ck_assert_ptr_null(model);
    munmap(keeper.address, keeper.bytes);
    close_shape();
}
END_TEST

/* ---- the plan ---- */

START_TEST(plan_has_merged_matrices_and_ends_in_logits)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    open_shape(1, 0, MODEL_KV_AUTO);
    model_print_plan(fixture.model, out);
    fclose(out);
    ck_assert_ptr_nonnull(strstr(text, "[70, 36] model.layers.0.self_attn.q_proj.weight | "
                                       "model.layers.0.self_attn.k_proj.weight | "
                                       "model.layers.0.self_attn.v_proj.weight\n"));
    ck_assert_ptr_nonnull(strstr(text, "[100, 36] model.layers.0.mlp.gate_proj.weight | "
                                       "model.layers.0.mlp.up_proj.weight\n"));
    ck_assert_ptr_nonnull(strstr(text, "rope          T  qkv[0..55]"));
    const char *last = text + bytes - 1;
    while (last > text && last[-1] != '\n')
        last--;
    ck_assert_ptr_nonnull(strstr(last, "logits"));
    free(text);
    close_shape();
}
END_TEST

/* ---- a batch that breaks its promises is our own bug ---- */

static void forward_with(int32_t token_id, int32_t position_first)
{
    struct fixture_sequence s;
    open_shape(0, 0, MODEL_KV_AUTO);
    fixture_start(&fixture, &s, ids, 40);
    struct kernel_sequence step = {
        .blocks = s.blocks, .row_count = 1, .position_first = position_first};
    struct model_batch batch = {
        .token_ids = &token_id, .row_count = 1, .sequences = &step, .sequence_count = 1};
    struct llm_error error;
    tiny_model_close(&tiny); /* nothing is left behind by the crash */
    (void)!model_forward(fixture.model, &fixture.kv, &batch, NULL, &error);
}

START_TEST(a_token_outside_the_vocabulary_stops_the_engine)
{
    forward_with(61, 0);
}
END_TEST

START_TEST(a_position_beyond_the_context_stops_the_engine)
{
    forward_with(0, 256);
}
END_TEST

START_TEST(a_shorter_context_can_be_configured_and_a_longer_one_cannot)
{
    static const uint32_t asked[] = {0, 100, 256, 1000}, given[] = {256, 100, 256, 256};
    open_shape(0, 0, MODEL_KV_AUTO);
    for (int i = 0; i < 4; i++) {
        struct model *model;
        struct llm_error error;
        struct model_memory memory = model_memory_from_pages(&fixture.pages);
        struct model_options options = {.stream = fixture.stream,
                                        .batch_rows_max = 4,
                                        .logits_rows_max = 4,
                                        .context_max_tokens = asked[i]};
        ck_assert_int_eq(model_open(&model, &fixture.files, &memory, &options, &error), LLM_OK);
        ck_assert_uint_eq(model_facts(model)->config.context_max_tokens, given[i]);
        model_close(model);
    }
    close_shape();
}
END_TEST

START_TEST(impossible_options_are_named)
{
    struct model *model = NULL;
    struct llm_error error;
    open_shape(0, 0, MODEL_KV_AUTO);
    struct model_memory memory = model_memory_from_pages(&fixture.pages);
    struct model_options options = {
        .stream = fixture.stream, .batch_rows_max = 0, .logits_rows_max = 1};
    ck_assert_int_eq(model_open(&model, &fixture.files, &memory, &options, &error),
                     LLM_ERR_INVALID);
    options.batch_rows_max = 4;
    options.logits_rows_max = 5;
    ck_assert_int_eq(model_open(&model, &fixture.files, &memory, &options, &error),
                     LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "logits for 5 rows are not possible; it must be 1..4");
    close_shape();
}
END_TEST

int main(void)
{
    const char *given = getenv("LLM_TEST_SEED");
    seed = given != NULL ? strtoull(given, NULL, 0) : 20240;
    Suite *suite = suite_create("daemon/model");
    TCase *tc = tcase_create("model");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, logits_agree_with_a_forward_pass_in_f64, 0, SHAPES * BACKENDS);
    tcase_add_loop_test(tc, keys_and_values_in_bf16_cost_little, 0, SHAPES * BACKENDS);
    tcase_add_loop_test(tc, a_token_does_not_depend_on_how_the_prompt_is_cut, 0, SHAPES * BACKENDS);
    tcase_add_loop_test(tc, a_token_does_not_depend_on_its_company, 0, SHAPES * BACKENDS);
    tcase_add_loop_test(tc, a_shared_block_serves_two_sequences, 0, SHAPES * BACKENDS);
    tcase_add_test(tc, rows_whose_logits_nobody_wants_change_nothing);
    tcase_add_test(tc, kv_is_f32_for_f32_weights_and_bf16_for_others);
    tcase_add_loop_test(tc, a_block_has_the_fewest_tokens_that_reach_256_kib, 0,
                        (int)(sizeof block_rows / sizeof block_rows[0]));
    tcase_add_test(tc, facts_count_every_parameter_once);
    tcase_add_test(tc, a_shorter_context_can_be_configured_and_a_longer_one_cannot);
    tcase_add_test(tc, fingerprint_names_the_weights_and_not_their_files);
    tcase_add_test(tc, packed_weights_are_found_again_after_an_engine_restart);
    tcase_add_test(tc, half_packed_weights_are_packed_anew);
    tcase_add_test(tc, changed_files_are_packed_anew);
    tcase_add_test(tc, packed_weights_cannot_be_written);
    tcase_add_test(tc, a_file_that_shrinks_while_it_is_read_is_a_sentence);
    tcase_add_test(tc, plan_has_merged_matrices_and_ends_in_logits);
    tcase_add_test_raise_signal(tc, a_token_outside_the_vocabulary_stops_the_engine, SIGABRT);
    tcase_add_test_raise_signal(tc, a_position_beyond_the_context_stops_the_engine, SIGABRT);
    tcase_add_test(tc, impossible_options_are_named);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
