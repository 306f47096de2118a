/*
 * test_prefix_index.c - daemon/core/prefix_index: found exactly when equal, whatever the hash does.
 * How: the same tests run with a good hash and with one that maps everything to the same chain value; what is
 * found must not depend on it.
 */
#include <check.h>
#include <signal.h>
#include <stdalign.h>
#include <string.h>

#include "daemon/core/prefix_index.h"

#define BLOCKS 16u
#define TOKENS 4u

static struct prefix_index pool_index;
static alignas(ARENA_ALIGN_BYTES) unsigned char memory[1 << 16];
static const uint32_t identity[2] = {11, 22};

/* FNV-1a (Fowler, Noll, Vo), enough for a test; `self` NULL: every chain value is the same. */
static void hash_ids(void *self, const uint8_t parent[CHAIN_BYTES], const uint32_t *ids,
                     uint32_t count, uint8_t out[CHAIN_BYTES])
{
    memset(out, 0x5a, CHAIN_BYTES);
    if (!self)
        return;
    uint64_t state = UINT64_C(0xcbf29ce484222325);
    for (uint32_t i = 0; i < CHAIN_BYTES; i++)
        state = (state ^ parent[i]) * UINT64_C(0x100000001b3);
    for (uint32_t i = 0; i < count; i++)
        state = (state ^ ids[i]) * UINT64_C(0x100000001b3);
    memcpy(out, &state, sizeof state);
}

static void setup_with(void *self)
{
    memset(memory, 0, sizeof memory);
    struct arena arena = arena_over(memory, sizeof memory);
    prefix_index_init(&pool_index, &arena, BLOCKS, TOKENS, (struct chain_hash){hash_ids, self});
}

static void setup_good(void)
{
    static int good;
    setup_with(&good);
}

static void setup_colliding(void)
{
    setup_with(NULL);
}

static void teardown(void)
{
    struct llm_error error = {.message = ""};
    ck_assert_msg(prefix_index_sane(&pool_index, &error) == LLM_OK, "%s", error.message);
}

/* Readers of one private domain each, and of three: theirs, group 7's, the public one. */
static const uint64_t uids[] = {1000, 1001};
#define GROUP  (UINT64_C(1) << 32 | 7)
#define PUBLIC (UINT64_C(2) << 32)

static struct prefix_root root_of(uint32_t model, uint32_t domain)
{
    return prefix_root(&pool_index, model, identity, 2, &uids[domain - 1000], 1);
}

static block_id find(const struct prefix_root *root, block_id parent, const uint32_t *ids,
                     uint32_t count)
{
    return prefix_index_find(&pool_index, root, parent, ids, count, PREFIX_AS_IS);
}

static const uint32_t abcd[TOKENS] = {1, 2, 3, 4};
static const uint32_t abce[TOKENS] = {1, 2, 3, 5};

START_TEST(nothing_is_found_in_an_empty_index)
{
    struct prefix_root root = root_of(0, 1000);
    ck_assert_uint_eq(find(&root, BLOCK_NONE, abcd, TOKENS), BLOCK_NONE);
    ck_assert(!prefix_index_has(&pool_index, 0));
    ck_assert(!prefix_index_has(&pool_index, BLOCK_NONE));
}
END_TEST

START_TEST(block_is_found_by_exactly_its_ids_parent_model_and_domain)
{
    struct prefix_root root = root_of(0, 1000);
    struct prefix_root other_model = root_of(1, 1000);
    struct prefix_root other_domain = root_of(0, 1001);
    prefix_index_insert(&pool_index, &root, 3, BLOCK_NONE, abcd, TOKENS);
    prefix_index_insert(&pool_index, &root, 5, 3, abcd, TOKENS); /* the same ids, one level down */
    prefix_index_insert(&pool_index, &root, 6, 3, abce, TOKENS);

    ck_assert_uint_eq(find(&root, BLOCK_NONE, abcd, TOKENS), 3);
    ck_assert_uint_eq(find(&root, 3, abcd, TOKENS), 5);
    ck_assert_uint_eq(find(&root, 3, abce, TOKENS), 6);
    ck_assert_uint_eq(find(&root, BLOCK_NONE, abce, TOKENS), BLOCK_NONE);
    ck_assert_uint_eq(find(&root, 5, abcd, TOKENS), BLOCK_NONE);
    ck_assert_uint_eq(find(&root, BLOCK_NONE, abcd, TOKENS - 1), BLOCK_NONE);
    ck_assert_uint_eq(find(&other_model, BLOCK_NONE, abcd, TOKENS), BLOCK_NONE);
    ck_assert_uint_eq(find(&other_domain, BLOCK_NONE, abcd, TOKENS), BLOCK_NONE);
}
END_TEST

START_TEST(two_domains_hold_the_same_ids_in_blocks_of_their_own)
{
    struct prefix_root mine = root_of(0, 1000);
    struct prefix_root yours = root_of(0, 1001);
    prefix_index_insert(&pool_index, &mine, 1, BLOCK_NONE, abcd, TOKENS);
    prefix_index_insert(&pool_index, &yours, 2, BLOCK_NONE, abcd, TOKENS);
    ck_assert_uint_eq(find(&mine, BLOCK_NONE, abcd, TOKENS), 1);
    ck_assert_uint_eq(find(&yours, BLOCK_NONE, abcd, TOKENS), 2);
}
END_TEST

START_TEST(removed_block_is_not_found_and_its_neighbours_are)
{
    struct prefix_root root = root_of(0, 1000);
    uint32_t ids[BLOCKS][TOKENS];
    for (uint32_t b = 0; b < BLOCKS; b++) {
        for (uint32_t i = 0; i < TOKENS; i++)
            ids[b][i] = b * 10 + i;
        prefix_index_insert(&pool_index, &root, b, BLOCK_NONE, ids[b], TOKENS);
    }
    for (uint32_t b = 0; b < BLOCKS; b += 2)
        prefix_index_remove(&pool_index, b);
    for (uint32_t b = 0; b < BLOCKS; b++)
        ck_assert_uint_eq(find(&root, BLOCK_NONE, ids[b], TOKENS), b % 2 == 0 ? BLOCK_NONE : b);
    ck_assert_uint_eq(pool_index.entry_count, BLOCKS / 2);
}
END_TEST

START_TEST(entry_says_where_it_stands)
{
    struct prefix_root root = root_of(0, 1000);
    prefix_index_insert(&pool_index, &root, 3, BLOCK_NONE, abcd, TOKENS);
    prefix_index_insert(&pool_index, &root, 5, 3, abce, TOKENS);
    const struct prefix_entry *entry = prefix_index_entry(&pool_index, 5);
    ck_assert_uint_eq(entry->depth, 1);
    ck_assert_uint_eq(entry->parent, 3);
    ck_assert_uint_eq(entry->domain, 1000);
    ck_assert_mem_eq(&entry->parent_chain, &prefix_index_entry(&pool_index, 3)->chain, CHAIN_BYTES);
    ck_assert_mem_eq(prefix_index_ids(&pool_index, 5), abce, sizeof abce);
    ck_assert_uint_eq(prefix_index_find_chain(&pool_index, &root, 1, TOKENS, &entry->chain), 5);
    ck_assert_uint_eq(prefix_index_find_chain(&pool_index, &root, 2, TOKENS, &entry->chain),
                      BLOCK_NONE);
}
END_TEST

START_TEST(roots_differ_by_identity_and_not_by_domain)
{
    static const uint32_t other[2] = {11, 23};
    struct prefix_root root = root_of(0, 1000);
    struct prefix_root domain = root_of(0, 1001);
    struct prefix_root weights = prefix_root(&pool_index, 0, other, 2, uids, 1);
    ck_assert_mem_eq(&root.chain, &domain.chain, CHAIN_BYTES);
    ck_assert_mem_ne(&root.chain, &weights.chain, CHAIN_BYTES);
}
END_TEST

/* What a reader of `domains` who seals in the first may do with a block of `domain`. */
static const struct use {
    uint64_t domains[3];
    uint64_t domain;
    enum prefix_use use;
} uses[] = {
    {{1000, GROUP, PUBLIC}, 1000, PREFIX_AS_IS},
    {{1000, GROUP, PUBLIC}, GROUP, PREFIX_AS_IS},
    {{1000, GROUP, PUBLIC}, PUBLIC, PREFIX_AS_IS},
    {{1000, GROUP, PUBLIC}, 1001, PREFIX_NONE},
    {{1000, GROUP, PUBLIC}, GROUP + 1, PREFIX_NONE},
    {{GROUP, 1000, PUBLIC}, 1000, PREFIX_WIDEN},
    {{GROUP, 1000, PUBLIC}, PUBLIC, PREFIX_AS_IS},
    {{GROUP, 1000, PUBLIC}, GROUP + 1, PREFIX_NONE},
    {{GROUP, 1000, GROUP + 1}, GROUP + 1, PREFIX_READ}, /* another group's is not ours to give */
    {{PUBLIC, 1000, GROUP}, 1000, PREFIX_WIDEN},
    {{PUBLIC, 1000, GROUP}, GROUP, PREFIX_READ},
    {{PUBLIC, 1000, GROUP}, 1001, PREFIX_NONE},
    {{1000, 1001, PUBLIC}, 1001, PREFIX_READ}, /* an administrator's, say */
};

START_TEST(chain_uses_what_everybody_who_reads_it_may_read)
{
    const struct use *row = &uses[_i];
    struct prefix_root root = prefix_root(&pool_index, 0, identity, 2, row->domains, 3);
    ck_assert_int_eq(prefix_use_of(&root, row->domain), row->use);
}
END_TEST

START_TEST(widest_of_several_equal_blocks_is_found)
{
    static const uint64_t domains[] = {1000, GROUP, PUBLIC};
    for (uint32_t i = 0; i < 3; i++) {
        struct prefix_root writer = prefix_root(&pool_index, 0, identity, 2, &domains[i], 1);
        prefix_index_insert(&pool_index, &writer, (i + 1) % 3, BLOCK_NONE, abcd, TOKENS);
        struct prefix_root reader = prefix_root(&pool_index, 0, identity, 2, domains, 3);
        ck_assert_uint_eq(find(&reader, BLOCK_NONE, abcd, TOKENS), (i + 1) % 3);
    }
}
END_TEST

START_TEST(widened_block_is_found_by_more_readers)
{
    static const uint64_t domains[] = {GROUP, 1000};
    struct prefix_root writer = root_of(0, 1000);
    struct prefix_root reader = prefix_root(&pool_index, 0, identity, 2, domains, 1);
    prefix_index_insert(&pool_index, &writer, 3, BLOCK_NONE, abcd, TOKENS);
    ck_assert_uint_eq(find(&reader, BLOCK_NONE, abcd, TOKENS), BLOCK_NONE);
    prefix_index_widen(&pool_index, 3, GROUP);
    ck_assert_uint_eq(find(&reader, BLOCK_NONE, abcd, TOKENS), 3);
}
END_TEST

START_TEST(widening_a_child_before_its_parent_is_our_bug)
{
    struct prefix_root root = root_of(0, 1000);
    prefix_index_insert(&pool_index, &root, 3, BLOCK_NONE, abcd, TOKENS);
    prefix_index_insert(&pool_index, &root, 5, 3, abce, TOKENS);
    prefix_index_widen(&pool_index, 5, GROUP);
}
END_TEST

START_TEST(closest_child_has_the_longest_prefix_in_common)
{
    static const uint32_t wanted[TOKENS] = {1, 2, 3, 9};
    static const uint32_t begins[2] = {1, 2};
    static const uint32_t other[TOKENS] = {8, 2, 3, 9};
    struct prefix_root root = root_of(0, 1000);
    struct prefix_root stranger = root_of(0, 1001);
    uint32_t common = 77;
    ck_assert_uint_eq(
        prefix_index_closest(&pool_index, &root, BLOCK_NONE, wanted, TOKENS, PREFIX_READ, &common),
        BLOCK_NONE);
    ck_assert_uint_eq(common, 77); /* out-parameters survive a failure */
    prefix_index_insert(&pool_index, &root, 1, BLOCK_NONE, other, TOKENS);
    prefix_index_insert(&pool_index, &root, 2, BLOCK_NONE, begins, 2);
    prefix_index_insert(&pool_index, &stranger, 3, BLOCK_NONE, wanted, TOKENS);
    ck_assert_uint_eq(
        prefix_index_closest(&pool_index, &root, BLOCK_NONE, wanted, TOKENS, PREFIX_READ, &common),
        2);
    ck_assert_uint_eq(common, 2);
    prefix_index_insert(&pool_index, &root, 4, BLOCK_NONE, abcd, TOKENS);
    ck_assert_uint_eq(
        prefix_index_closest(&pool_index, &root, BLOCK_NONE, wanted, TOKENS, PREFIX_READ, &common),
        4);
    ck_assert_uint_eq(common, 3);
    ck_assert_uint_eq(
        prefix_index_closest(&pool_index, &root, BLOCK_NONE, wanted, TOKENS, PREFIX_NONE, &common),
        3); /* whoever's it is */
    ck_assert_uint_eq(
        prefix_index_closest(&pool_index, &root, 4, wanted, TOKENS, PREFIX_READ, &common),
        BLOCK_NONE);
    prefix_index_remove(&pool_index, 4);
    prefix_index_remove(&pool_index, 1);
    ck_assert_uint_eq(
        prefix_index_closest(&pool_index, &root, BLOCK_NONE, wanted, TOKENS, PREFIX_READ, &common),
        2);
}
END_TEST

START_TEST(inserting_a_block_twice_is_our_bug)
{
    struct prefix_root root = root_of(0, 1000);
    prefix_index_insert(&pool_index, &root, 3, BLOCK_NONE, abcd, TOKENS);
    prefix_index_insert(&pool_index, &root, 3, BLOCK_NONE, abce, TOKENS);
}
END_TEST

START_TEST(walk_finds_an_orphan)
{
    struct prefix_root root = root_of(0, 1000);
    struct llm_error error;
    prefix_index_insert(&pool_index, &root, 3, BLOCK_NONE, abcd, TOKENS);
    prefix_index_insert(&pool_index, &root, 5, 3, abce, TOKENS);
    prefix_index_remove(&pool_index, 3);
    ck_assert_int_eq(prefix_index_sane(&pool_index, &error), LLM_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "its parent 3 is not"));
    prefix_index_remove(&pool_index, 5);
}
END_TEST

static TCase *cases(const char *name, SFun setup)
{
    TCase *tc = tcase_create(name);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, nothing_is_found_in_an_empty_index);
    tcase_add_test(tc, block_is_found_by_exactly_its_ids_parent_model_and_domain);
    tcase_add_test(tc, two_domains_hold_the_same_ids_in_blocks_of_their_own);
    tcase_add_test(tc, removed_block_is_not_found_and_its_neighbours_are);
    tcase_add_test(tc, entry_says_where_it_stands);
    tcase_add_loop_test(tc, chain_uses_what_everybody_who_reads_it_may_read, 0,
                        (int)(sizeof uses / sizeof uses[0]));
    tcase_add_test(tc, widest_of_several_equal_blocks_is_found);
    tcase_add_test(tc, widened_block_is_found_by_more_readers);
    tcase_add_test_raise_signal(tc, widening_a_child_before_its_parent_is_our_bug, SIGABRT);
    tcase_add_test(tc, closest_child_has_the_longest_prefix_in_common);
    tcase_add_test_raise_signal(tc, inserting_a_block_twice_is_our_bug, SIGABRT);
    tcase_add_test(tc, walk_finds_an_orphan);
    return tc;
}

int main(void)
{
    Suite *suite = suite_create("daemon/prefix_index");
    TCase *good = cases("good hash", setup_good);
    tcase_add_test(good, roots_differ_by_identity_and_not_by_domain);
    suite_add_tcase(suite, good);
    suite_add_tcase(suite, cases("everything collides", setup_colliding));
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
