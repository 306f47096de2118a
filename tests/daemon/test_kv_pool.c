/*
 * test_kv_pool.c - daemon/core/kv_pool: three states, chains that hold each other, leaf-first eviction, slabs.
 * How: a small pool in zeroed memory; every test ends with kv_pool_sane(). The model test plays random takes,
 * holds, drops, seals and evictions against plain sets of references; LLM_TEST_SEED replays it.
 */
#include <check.h>
#include <signal.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/kv_pool.h"

#define SLABS       4u
#define SLAB_BLOCKS 3u
#define BLOCKS      (SLABS * SLAB_BLOCKS)
#define DOMAIN      UINT64_C(1000)

static struct kv_pool pool;
static struct effect_list effects;
static alignas(ARENA_ALIGN_BYTES) unsigned char memory[1 << 20];

static void open_pool(const uint32_t *slab_blocks, uint32_t model_count)
{
    memset(memory, 0, sizeof memory);
    struct arena arena = arena_over(memory, sizeof memory);
    effect_list_init(&effects, &arena, 4096);
    kv_pool_init(&pool, &arena, &effects, SLABS, slab_blocks, model_count, 0);
    arena_freeze(&arena);
}

static void setup(void)
{
    open_pool((const uint32_t[]){SLAB_BLOCKS}, 1);
}

static void teardown(void)
{
    struct llm_error error = {.message = ""};
    ck_assert_msg(kv_pool_sane(&pool, &error) == LLM_OK, "%s", error.message);
}

static void expect(uint32_t free_blocks, uint32_t held, uint32_t cached)
{
    struct kv_counts counts = kv_pool_counts(&pool, 0);
    ck_assert_uint_eq(counts.free, free_blocks);
    ck_assert_uint_eq(counts.held, held);
    ck_assert_uint_eq(counts.cached, cached);
    ck_assert_uint_eq(counts.total, BLOCKS);
}

/* A chain of `length` sealed blocks, held by one reference to the last, which is returned. */
static block_id chain(uint32_t length, block_id parent)
{
    for (uint32_t i = 0; i < length; i++) {
        parent = kv_pool_take(&pool, 0, parent, DOMAIN);
        ck_assert_uint_ne(parent, BLOCK_NONE);
        kv_pool_seal(&pool, parent);
    }
    return parent;
}

START_TEST(fresh_pool_is_all_free)
{
    expect(BLOCKS, 0, 0);
    ck_assert_uint_eq(kv_pool_available(&pool, 0), BLOCKS);
    ck_assert_uint_eq(kv_pool_oldest(&pool), BLOCK_NONE);
}
END_TEST

START_TEST(every_block_can_be_taken_once_and_then_none)
{
    bool seen[BLOCKS] = {false};
    for (uint32_t i = 0; i < BLOCKS; i++) {
        block_id block = kv_pool_take(&pool, 0, BLOCK_NONE, DOMAIN);
        ck_assert_uint_lt(block, BLOCKS);
        ck_assert(!seen[block]);
        seen[block] = true;
    }
    ck_assert_uint_eq(kv_pool_take(&pool, 0, BLOCK_NONE, DOMAIN), BLOCK_NONE);
    ck_assert_uint_eq(kv_pool_available(&pool, 0), 0);
    expect(0, BLOCKS, 0);
}
END_TEST

START_TEST(unsealed_block_is_free_after_its_last_drop)
{
    block_id block = kv_pool_take(&pool, 0, BLOCK_NONE, DOMAIN);
    kv_pool_hold(&pool, block);
    kv_pool_drop(&pool, block);
    expect(BLOCKS - 1, 1, 0);
    kv_pool_drop(&pool, block);
    expect(BLOCKS, 0, 0);
    ck_assert_int_eq(effects.items[effects.count - 1].kind, CORE_BLOCK_FREED);
    ck_assert_uint_eq(effects.items[effects.count - 1].block, block);
}
END_TEST

START_TEST(cached_block_survives_last_drop_and_can_be_held_again)
{
    block_id last = chain(3, BLOCK_NONE);
    kv_pool_drop(&pool, last);
    expect(BLOCKS - 3, 0, 3);
    kv_pool_hold(&pool, last);
    expect(BLOCKS - 3, 3, 0);
    kv_pool_drop(&pool, last);
    expect(BLOCKS - 3, 0, 3);
}
END_TEST

START_TEST(holder_of_the_last_block_holds_the_whole_chain)
{
    block_id last = chain(4, BLOCK_NONE);
    block_id middle = pool.blocks[pool.blocks[last].parent].parent;
    kv_pool_hold(&pool, middle); /* a fork after two blocks */
    kv_pool_drop(&pool, last);
    expect(BLOCKS - 4, 2, 2);
    kv_pool_drop(&pool, middle);
    expect(BLOCKS - 4, 0, 4);
}
END_TEST

START_TEST(fork_is_one_reference_whatever_the_length)
{
    block_id last = chain(5, BLOCK_NONE);
    block_id parent = pool.blocks[last].parent;
    kv_pool_hold(&pool, last);
    ck_assert_uint_eq(pool.blocks[last].references, 2);
    ck_assert_uint_eq(pool.blocks[parent].references, 1);
    kv_pool_drop(&pool, last);
    kv_pool_drop(&pool, last);
    expect(BLOCKS - 5, 0, 5);
}
END_TEST

START_TEST(children_are_evicted_before_their_parents_and_older_chains_first)
{
    block_id first = chain(2, BLOCK_NONE);
    block_id second = chain(2, BLOCK_NONE);
    block_id first_parent = pool.blocks[first].parent;
    kv_pool_drop(&pool, first);
    kv_pool_drop(&pool, second);
    const block_id order[] = {first, first_parent, second, pool.blocks[second].parent};
    for (int i = 0; i < 4; i++) {
        ck_assert_uint_eq(kv_pool_oldest(&pool), order[i]);
        kv_pool_evict(&pool, order[i]);
    }
    expect(BLOCKS, 0, 0);
    ck_assert_uint_eq(pool.evictions, 4);
}
END_TEST

START_TEST(use_makes_a_chain_young_again)
{
    block_id first = chain(2, BLOCK_NONE);
    block_id second = chain(1, BLOCK_NONE);
    kv_pool_drop(&pool, first);
    kv_pool_drop(&pool, second);
    kv_pool_hold(&pool, first);
    kv_pool_drop(&pool, first);
    ck_assert_uint_eq(kv_pool_oldest(&pool), second);
}
END_TEST

START_TEST(cached_child_of_a_prefix_that_is_used_is_evicted_before_it)
{
    block_id leaf = chain(3, BLOCK_NONE);
    block_id prefix = pool.blocks[leaf].parent;
    kv_pool_drop(&pool, leaf);
    kv_pool_hold(&pool, prefix);
    kv_pool_drop(&pool, prefix); /* younger than its child now */
    ck_assert_uint_eq(kv_pool_oldest(&pool), leaf);
    kv_pool_evict(&pool, leaf);
    ck_assert_uint_eq(kv_pool_oldest(&pool), prefix);
}
END_TEST

/* where in a chain of three the duplicate stands: first, middle, last */
START_TEST(swap_replaces_a_block_wherever_it_stands_in_its_chain)
{
    block_id blocks[3];
    block_id parent = BLOCK_NONE;
    for (int i = 0; i < 3; i++) {
        blocks[i] = parent = kv_pool_take(&pool, 0, parent, DOMAIN);
        if (i < _i)
            kv_pool_seal(&pool, parent);
    }
    block_id twin = kv_pool_take(&pool, 0, _i > 0 ? blocks[_i - 1] : BLOCK_NONE, DOMAIN);
    if (_i > 0)
        kv_pool_hold(&pool, blocks[_i - 1]); /* the twin's reference */
    kv_pool_seal(&pool, twin);
    kv_pool_drop(&pool, twin); /* cached, as left behind by somebody else */

    kv_pool_swap(&pool, blocks[_i], twin, _i < 2 ? blocks[_i + 1] : BLOCK_NONE);
    ck_assert_int_eq(pool.blocks[blocks[_i]].state, KV_FREE);
    ck_assert_uint_eq(pool.blocks[twin].references, 1);
    expect(BLOCKS - 3, 3, 0);
    kv_pool_drop(&pool, _i < 2 ? blocks[2] : twin);
    expect(BLOCKS - (uint32_t)_i - 1, 0, (uint32_t)_i + 1); /* the sealed ones stay */
}
END_TEST

START_TEST(adopted_blocks_are_cached_and_leaves_go_first)
{
    ck_assert_int_eq(kv_pool_adopt(&pool, 0, 7, BLOCK_NONE), LLM_OK);
    ck_assert_int_eq(kv_pool_adopt(&pool, 0, 2, 7), LLM_OK);
    ck_assert_int_eq(kv_pool_adopt(&pool, 0, 11, 2), LLM_OK);
    expect(BLOCKS - 3, 0, 3);
    ck_assert_uint_eq(kv_pool_oldest(&pool), 11);
    kv_pool_hold(&pool, 11);
    expect(BLOCKS - 3, 3, 0);
}
END_TEST

START_TEST(block_that_cannot_be_adopted_is_refused)
{
    ck_assert_int_eq(kv_pool_adopt(&pool, 0, BLOCKS, BLOCK_NONE), LLM_ERR_INVALID);
    ck_assert_int_eq(kv_pool_adopt(&pool, 0, BLOCK_NONE, BLOCK_NONE), LLM_ERR_INVALID);
    ck_assert_int_eq(kv_pool_adopt(&pool, 1, 0, BLOCK_NONE), LLM_ERR_INVALID);
    ck_assert_int_eq(kv_pool_adopt(&pool, 0, 0, BLOCK_NONE), LLM_OK);
    ck_assert_int_eq(kv_pool_adopt(&pool, 0, 0, BLOCK_NONE), LLM_ERR_BUSY);
    expect(BLOCKS - 1, 0, 1);
}
END_TEST

/* ---- Slabs ------------------------------------------------------------------------------------------ */

START_TEST(slab_goes_back_with_its_last_block_and_serves_another_model)
{
    open_pool((const uint32_t[]){3, 2}, 2);
    block_id mine[BLOCKS];
    for (uint32_t i = 0; i < BLOCKS; i++)
        mine[i] = kv_pool_take(&pool, 0, BLOCK_NONE, DOMAIN);
    ck_assert_uint_eq(kv_pool_take(&pool, 1, BLOCK_NONE, DOMAIN), BLOCK_NONE);
    ck_assert_uint_eq(kv_pool_available(&pool, 1), 0);
    kv_pool_drop(&pool, mine[0]);
    kv_pool_drop(&pool, mine[1]);
    ck_assert_uint_eq(kv_pool_available(&pool, 1), 0); /* one block of the slab is still held */
    kv_pool_drop(&pool, mine[2]);
    ck_assert_uint_eq(kv_pool_available(&pool, 1), 2);
    block_id theirs = kv_pool_take(&pool, 1, BLOCK_NONE, DOMAIN);
    ck_assert_uint_eq(kv_pool_model_of(&pool, theirs), 1);
    ck_assert_uint_eq(theirs / pool.slab_blocks_max, mine[0] / pool.slab_blocks_max);
}
END_TEST

START_TEST(rest_of_a_slab_behind_the_last_whole_block_is_never_given)
{
    open_pool((const uint32_t[]){3, 2}, 2);
    for (uint32_t i = 0; i < SLABS * 2; i++)
        ck_assert_uint_lt(kv_pool_take(&pool, 1, BLOCK_NONE, DOMAIN) % 3, 2);
    ck_assert_uint_eq(kv_pool_take(&pool, 1, BLOCK_NONE, DOMAIN), BLOCK_NONE);
    ck_assert_int_eq(kv_pool_adopt(&pool, 1, 2, BLOCK_NONE), LLM_ERR_INVALID);
}
END_TEST

START_TEST(cached_blocks_of_another_model_count_as_available_by_whole_slabs)
{
    open_pool((const uint32_t[]){3, 2}, 2);
    block_id last = chain(SLABS * 3, BLOCK_NONE);
    kv_pool_drop(&pool, last);
    ck_assert_uint_eq(kv_pool_available(&pool, 1), SLABS * 2);
    kv_pool_hold(&pool, kv_pool_oldest(&pool));
    ck_assert_uint_eq(kv_pool_available(&pool, 1), 0); /* it holds its ancestors in every slab */
}
END_TEST

/* ---- Against a model --------------------------------------------------------------------------------- */

static uint64_t random_state;

static uint32_t random_below(uint32_t end)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((random_state >> 33) % end);
}

#define HOLDERS 6u
struct holder {
    block_id blocks[BLOCKS]; /* the whole chain, first to last */
    uint32_t length;
    uint32_t sealed;
};

/* A block is held exactly when it is in some holder's chain. */
static void check_holders(const struct holder *holders, uint64_t seed, int step)
{
    bool held[BLOCKS] = {false};
    for (uint32_t h = 0; h < HOLDERS; h++)
        for (uint32_t i = 0; i < holders[h].length; i++)
            held[holders[h].blocks[i]] = true;
    for (block_id block = 0; block < BLOCKS; block++)
        ck_assert_msg((pool.blocks[block].state == KV_HELD) == held[block],
                      "seed %llu, step %d: block %u", (unsigned long long)seed, step, block);
    struct llm_error error = {.message = ""};
    ck_assert_msg(kv_pool_sane(&pool, &error) == LLM_OK, "seed %llu, step %d: %s",
                  (unsigned long long)seed, step, error.message);
}

static void grow(struct holder *h)
{
    block_id block =
        kv_pool_take(&pool, 0, h->length > 0 ? h->blocks[h->length - 1] : BLOCK_NONE, DOMAIN);
    if (block == BLOCK_NONE && kv_pool_oldest(&pool) != BLOCK_NONE)
        kv_pool_evict(&pool, kv_pool_oldest(&pool));
    if (block != BLOCK_NONE)
        h->blocks[h->length++] = block;
}

static void fork_at_sealed(struct holder *to, const struct holder *from)
{
    if (to->length > 0 || from->sealed == 0)
        return;
    *to = *from;
    to->length = to->sealed = 1 + random_below(from->sealed);
    kv_pool_hold(&pool, to->blocks[to->length - 1]);
}

static void let_go(struct holder *h)
{
    if (h->length > 0)
        kv_pool_drop(&pool, h->blocks[h->length - 1]);
    h->length = h->sealed = 0;
}

START_TEST(random_programs_agree_with_sets_of_holders)
{
    const char *replay = getenv("LLM_TEST_SEED");
    uint64_t seed = replay ? strtoull(replay, NULL, 10) : (uint64_t)_i + 1;
    struct holder holders[HOLDERS] = {{.length = 0}};
    random_state = seed;
    for (int step = 0; step < 2000; step++) {
        struct holder *h = &holders[random_below(HOLDERS)];
        uint32_t what = random_below(10);
        if (what < 4)
            grow(h);
        else if (what < 7 && h->sealed < h->length && h->sealed + 1 >= h->length)
            kv_pool_seal(&pool, h->blocks[h->sealed++]);
        else if (what == 7)
            fork_at_sealed(h, &holders[random_below(HOLDERS)]);
        else if (what == 8)
            let_go(h);
        effects.count = 0;
        check_holders(holders, seed, step);
    }
    for (uint32_t h = 0; h < HOLDERS; h++)
        let_go(&holders[h]);
}
END_TEST

/* ---- What must stop the process ------------------------------------------------------------------------ */

START_TEST(dropping_a_free_block_is_our_bug)
{
    kv_pool_drop(&pool, 0);
}
END_TEST

START_TEST(evicting_out_of_turn_is_our_bug)
{
    block_id last = chain(2, BLOCK_NONE);
    block_id parent = pool.blocks[last].parent;
    kv_pool_drop(&pool, last);
    kv_pool_evict(&pool, parent);
}
END_TEST

START_TEST(walk_finds_a_lost_reference)
{
    block_id block = kv_pool_take(&pool, 0, BLOCK_NONE, DOMAIN);
    struct llm_error error;
    pool.blocks[block].references = 0;
    ck_assert_int_eq(kv_pool_sane(&pool, &error), LLM_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "not in exactly one state"));
    pool.blocks[block].references = 1;
    pool.models[0].held_blocks++;
    ck_assert_int_eq(kv_pool_sane(&pool, &error), LLM_ERR_CORRUPT);
    pool.models[0].held_blocks--;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/kv_pool");
    TCase *tc = tcase_create("kv_pool");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, fresh_pool_is_all_free);
    tcase_add_test(tc, every_block_can_be_taken_once_and_then_none);
    tcase_add_test(tc, unsealed_block_is_free_after_its_last_drop);
    tcase_add_test(tc, cached_block_survives_last_drop_and_can_be_held_again);
    tcase_add_test(tc, holder_of_the_last_block_holds_the_whole_chain);
    tcase_add_test(tc, fork_is_one_reference_whatever_the_length);
    tcase_add_test(tc, children_are_evicted_before_their_parents_and_older_chains_first);
    tcase_add_test(tc, use_makes_a_chain_young_again);
    tcase_add_test(tc, cached_child_of_a_prefix_that_is_used_is_evicted_before_it);
    tcase_add_loop_test(tc, swap_replaces_a_block_wherever_it_stands_in_its_chain, 0, 3);
    tcase_add_test(tc, adopted_blocks_are_cached_and_leaves_go_first);
    tcase_add_test(tc, block_that_cannot_be_adopted_is_refused);
    tcase_add_test(tc, slab_goes_back_with_its_last_block_and_serves_another_model);
    tcase_add_test(tc, rest_of_a_slab_behind_the_last_whole_block_is_never_given);
    tcase_add_test(tc, cached_blocks_of_another_model_count_as_available_by_whole_slabs);
    tcase_add_loop_test(tc, random_programs_agree_with_sets_of_holders, 0, 8);
    tcase_add_test_raise_signal(tc, dropping_a_free_block_is_our_bug, SIGABRT);
    tcase_add_test_raise_signal(tc, evicting_out_of_turn_is_our_bug, SIGABRT);
    tcase_add_test(tc, walk_finds_a_lost_reference);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
