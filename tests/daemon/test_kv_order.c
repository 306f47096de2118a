/*
 * test_kv_order.c - daemon/core/kv_order: what was found again outlives what was not, and leaves go first.
 * How: chains in a pool of 64 blocks in zeroed memory; "a scan" fills the pool with blocks that nobody asks for
 * twice. Every test ends with kv_pool_sane(), which also walks the order. LLM_TEST_SEED replays the last one.
 */
#include <check.h>
#include <signal.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/kv_pool.h"
#include "tests/support/test_seed.h"

#define SLABS       16u
#define SLAB_BLOCKS 4u
#define BLOCKS      (SLABS * SLAB_BLOCKS)

static struct kv_pool pool;
static struct effect_list effects;
static alignas(ARENA_ALIGN_BYTES) unsigned char memory[1 << 20];

static void setup(void)
{
    memset(memory, 0, sizeof memory);
    struct arena arena = arena_over(memory, sizeof memory);
    effect_list_init(&effects, &arena, 16384);
    kv_pool_init(&pool, &arena, &effects, SLABS, (const uint32_t[]){SLAB_BLOCKS}, 1, 0);
    arena_freeze(&arena);
}

static void teardown(void)
{
    struct llm_error error = {.message = ""};
    ck_assert_msg(kv_pool_sane(&pool, &error) == LLM_OK, "%s", error.message);
}

static block_id take(block_id parent)
{
    block_id block = kv_pool_take(&pool, 0, parent, 1000);
    while (block == BLOCK_NONE) {
        kv_pool_evict(&pool, kv_pool_oldest(&pool));
        block = kv_pool_take(&pool, 0, parent, 1000);
    }
    return block;
}

/* A chain of `length` sealed blocks behind `parent`, held by one reference to the last, which is returned. */
static block_id chain(uint32_t length, block_id parent)
{
    for (uint32_t i = 0; i < length; i++) {
        parent = take(parent);
        kv_pool_seal(&pool, parent);
    }
    return parent;
}

static void use(block_id last)
{
    kv_pool_hold(&pool, last);
    kv_pool_drop(&pool, last);
}

static void scan(uint32_t blocks)
{
    for (uint32_t i = 0; i < blocks; i++)
        kv_pool_drop(&pool, chain(1, BLOCK_NONE));
}

static bool is_cached(block_id block)
{
    return pool.blocks[block].state == KV_CACHED;
}

START_TEST(chain_that_was_found_again_outlives_a_scan)
{
    block_id once = chain(3, BLOCK_NONE);
    kv_pool_drop(&pool, once);
    block_id again = chain(3, BLOCK_NONE);
    kv_pool_drop(&pool, again);
    scan(16); /* so that three blocks are no more than a quarter */
    use(again);
    scan(3 * BLOCKS);
    ck_assert(is_cached(again));
    ck_assert(is_cached(pool.blocks[again].parent));
    ck_assert_uint_eq(pool.cached.again_count, 3);
    ck_assert(!pool.blocks[once].reused); /* its blocks are the scan's by now */
}
END_TEST

START_TEST(block_shared_while_it_is_held_was_found_again)
{
    scan(16);
    block_id last = chain(2, BLOCK_NONE);
    kv_pool_hold(&pool, last);
    kv_pool_drop(&pool, last);
    kv_pool_drop(&pool, last);
    ck_assert_uint_eq(pool.cached.again_count, 2);
}
END_TEST

START_TEST(finding_the_middle_of_a_chain_is_no_use_of_its_end)
{
    scan(24);
    block_id last = chain(4, BLOCK_NONE);
    block_id middle = pool.blocks[pool.blocks[last].parent].parent;
    kv_pool_drop(&pool, last);
    use(middle);
    ck_assert_uint_eq(pool.cached.again_count, 2);
    ck_assert(!pool.blocks[last].reused);
    ck_assert(pool.blocks[middle].reused);
    ck_assert(pool.blocks[pool.blocks[middle].parent].reused);
}
END_TEST

START_TEST(those_found_again_have_a_quarter_and_their_oldest_goes_back)
{
    block_id lasts[BLOCKS / 2];
    for (uint32_t i = 0; i < BLOCKS / 2; i++) {
        lasts[i] = chain(2, BLOCK_NONE);
        kv_pool_drop(&pool, lasts[i]);
    }
    for (uint32_t i = 0; i < BLOCKS / 2; i++)
        use(lasts[i]);
    ck_assert_uint_eq(pool.cached.again_count, BLOCKS / KV_ORDER_AGAIN_PART);
    for (uint32_t i = 0; i < BLOCKS / 2; i++)
        ck_assert_int_eq(pool.blocks[lasts[i]].reused, i >= BLOCKS / 2 - BLOCKS / 4 / 2);
    /* and those that went back are evicted in the order of their last use, leaves first */
    for (uint32_t i = 0; i < BLOCKS / 2; i++) {
        ck_assert_uint_eq(kv_pool_oldest(&pool), lasts[i]);
        block_id parent = pool.blocks[lasts[i]].parent;
        kv_pool_evict(&pool, lasts[i]);
        ck_assert_uint_eq(kv_pool_oldest(&pool), parent);
        kv_pool_evict(&pool, parent);
    }
}
END_TEST

START_TEST(those_that_went_back_can_prove_themselves_anew)
{
    block_id first = chain(1, BLOCK_NONE);
    kv_pool_drop(&pool, first);
    use(first); /* a quarter of one block is none */
    ck_assert(!pool.blocks[first].reused);
    scan(8);
    use(first);
    ck_assert(pool.blocks[first].reused);
    scan(3 * BLOCKS);
    ck_assert(is_cached(first));
}
END_TEST

START_TEST(evicted_block_begins_anew)
{
    block_id block = chain(1, BLOCK_NONE);
    kv_pool_drop(&pool, block);
    scan(8);
    use(block);
    while (pool.cached.once_count > 0)
        kv_pool_evict(&pool, kv_pool_oldest(&pool));
    ck_assert_uint_eq(kv_pool_oldest(&pool), block);
    kv_pool_evict(&pool, block);
    for (uint32_t i = 0; i < BLOCKS; i++)
        ck_assert(!pool.blocks[i].reused);
}
END_TEST

START_TEST(adopted_blocks_were_used_once)
{
    ck_assert_int_eq(kv_pool_adopt(&pool, 0, 7, BLOCK_NONE), LLM_OK);
    ck_assert_int_eq(kv_pool_adopt(&pool, 0, 2, 7), LLM_OK);
    ck_assert_uint_eq(pool.cached.once_count, 2);
    scan(8);
    use(2);
    ck_assert_uint_eq(pool.cached.again_count, 2);
}
END_TEST

START_TEST(walk_finds_a_block_in_the_wrong_list)
{
    struct llm_error error;
    scan(8);
    block_id block = chain(1, BLOCK_NONE);
    kv_pool_drop(&pool, block);
    pool.blocks[block].reused = true;
    ck_assert_int_eq(kv_pool_sane(&pool, &error), LLM_ERR_CORRUPT);
    pool.blocks[block].reused = false;
}
END_TEST

START_TEST(walk_finds_a_reused_block_whose_parent_is_not)
{
    struct llm_error error;
    block_id last = chain(2, BLOCK_NONE);
    pool.blocks[last].reused = true;
    ck_assert_int_eq(kv_pool_sane(&pool, &error), LLM_ERR_CORRUPT);
    pool.blocks[last].reused = false;
    kv_pool_drop(&pool, last);
}
END_TEST

static block_id child_of(block_id parent)
{
    for (block_id b = 0; parent != BLOCK_NONE && b < BLOCKS; b++)
        if (pool.blocks[b].state != KV_FREE && pool.blocks[b].parent == parent)
            return b;
    return BLOCK_NONE;
}

/* Trees of chains, used at random depths while others push in: whatever is evicted next never has a child. */
START_TEST(first_to_go_never_has_a_child)
{
    uint64_t seed = test_seed();
    uint64_t random = seed;
    block_id held[4] = {BLOCK_NONE, BLOCK_NONE, BLOCK_NONE, BLOCK_NONE};
    for (int step = 0; step < 20000; step++) {
        uint32_t draw = (uint32_t)(test_random(&random) >> 32);
        block_id *own = &held[draw % 4];
        block_id some = (draw >> 2) % BLOCKS;
        if (*own == BLOCK_NONE && pool.blocks[some].state != KV_FREE && pool.blocks[some].sealed) {
            kv_pool_hold(&pool, *own = some);
        } else if ((draw >> 12) % 3 == 0) {
            kv_pool_drop(&pool, *own);
            *own = BLOCK_NONE;
        } else if (kv_pool_available(&pool, 0) > 0) {
            *own = chain(1, *own);
        } else {
            kv_pool_drop(&pool, *own);
            *own = BLOCK_NONE;
        }
        block_id first = kv_pool_oldest(&pool);
        ck_assert_msg(child_of(first) == BLOCK_NONE,
                      "seed %llu, step %d: block %u goes before its child %u",
                      (unsigned long long)seed, step, first, child_of(first));
        struct llm_error error = {.message = ""};
        ck_assert_msg(kv_pool_sane(&pool, &error) == LLM_OK, "seed %llu, step %d: %s",
                      (unsigned long long)seed, step, error.message);
        effects.count = 0;
    }
    ck_assert_uint_gt(pool.evictions, 1000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/kv_order");
    TCase *tc = tcase_create("kv_order");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, chain_that_was_found_again_outlives_a_scan);
    tcase_add_test(tc, block_shared_while_it_is_held_was_found_again);
    tcase_add_test(tc, finding_the_middle_of_a_chain_is_no_use_of_its_end);
    tcase_add_test(tc, those_found_again_have_a_quarter_and_their_oldest_goes_back);
    tcase_add_test(tc, those_that_went_back_can_prove_themselves_anew);
    tcase_add_test(tc, evicted_block_begins_anew);
    tcase_add_test(tc, adopted_blocks_were_used_once);
    tcase_add_test(tc, walk_finds_a_block_in_the_wrong_list);
    tcase_add_test(tc, walk_finds_a_reused_block_whose_parent_is_not);
    tcase_add_test(tc, first_to_go_never_has_a_child);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
