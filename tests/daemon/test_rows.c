/*
 * test_rows.c - daemon/engine/rows: contexts that share rows keep exactly their own tokens, whoever appends, forks, rewinds
 * or ends, and an engine that dies at any store leaves each as it was or as it was to become.
 * How: a few contexts in records of ctxtab, with rows in shared memory, against plain arrays of ids. Random acts (LLM_TEST_SEED
 * replays) are played on both; after each, lengths, ids, references and what owners are charged are compared. For deaths the
 * acts are played by a child that kills itself at a crash point; the parent goes on from the tables.
 */
#include "daemon/engine/rows.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/engine/journal.h"
#include "shm/crash_point.h"
#include "tests/support/test_seed.h"

#define CONTEXTS   12u
#define TOKENS_MAX 1500u /* more than a page of ids, and no whole number of pages */
#define ROWS       (CONTEXTS * ROWS_CHAIN_MAX + 1)
#define USERS      3u

struct plain {
    bool live;
    uint32_t uid;
    uint32_t length;
    uint32_t ids[TOKENS_MAX];
};

/* Everything that outlives the one who acts. */
struct shared {
    struct llm_ctxtab_record contexts[CONTEXTS];
    struct llm_ctxrow_record records[ROWS];
    struct plain now[CONTEXTS];  /* after the last whole act */
    struct plain next[CONTEXTS]; /* after the one that is going on */
    uint64_t random;
};

static struct shared *shared;
static uint32_t *ids;
static struct row own[ROWS];
static struct users users;
static struct rows rows;
static struct plain scratch;
static uint64_t seed;

static uint32_t row_of_user(void *self, uint32_t uid)
{
    return users_row(self, uid, &(const struct quota){.weight = 1});
}

static void forget_users(void)
{
    memset(users.rows, 0, users.row_count * sizeof *users.rows);
    users.end = 0;
}

static void setup(void)
{
    struct llm_error error;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ids = mmap(NULL, ROWS * TOKENS_MAX * sizeof *ids, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(shared != MAP_FAILED && ids != MAP_FAILED);
    ck_assert_int_eq(users_open(&users, CONTEXTS + ROWS, &error), LLM_OK);
    rows_init(&rows, shared->records, ids, ROWS, TOKENS_MAX, own, &users);
    rows_reset(&rows);
    rows_settle(&rows, row_of_user, &users);
    shared->random = seed = test_seed();
}

static void teardown(void)
{
    users_close(&users);
    munmap(shared, sizeof *shared);
    munmap(ids, ROWS * TOKENS_MAX * sizeof *ids);
}

static uint32_t below(uint32_t end)
{
    return (uint32_t)(test_random(&shared->random) >> 32) % end;
}

/* ---- The contexts, as contexts.c has them ----------------------------------------------------------------- */

static const struct llm_ctx_version *version(uint32_t context)
{
    const struct llm_ctxtab_record *record = &shared->contexts[context];
    return &record->versions[llm_word_generation(atomic_load(&record->word)) & 1];
}

static bool is_live(uint32_t context)
{
    return llm_word_state(atomic_load(&shared->contexts[context].word)) == LLM_CTX_LIVE;
}

static struct row_place place_of(uint32_t context)
{
    return (struct row_place){version(context)->row, version(context)->length};
}

static void write_down(uint32_t context, struct row_place place, uint32_t uid,
                       enum llm_ctx_state state)
{
    struct llm_ctx_version next = {.row = place.row, .length = place.length, .uid = uid};
    journal_context(&shared->contexts[context], &next, state);
}

static void move_to(uint32_t context, struct row_place place)
{
    uint32_t before = version(context)->row;
    write_down(context, place, version(context)->uid, LLM_CTX_LIVE);
    if (before != place.row)
        rows_drop(&rows, before);
}

/* ---- Acts: on the plain arrays first, then on rows --------------------------------------------------------- */

static void begin_act(uint32_t context)
{
    shared->next[context] = shared->now[context];
}

static void end_act(uint32_t context)
{
    shared->now[context] = shared->next[context];
}

static void make(uint32_t context, uint32_t uid)
{
    begin_act(context);
    shared->next[context].live = true;
    shared->next[context].uid = uid;
    shared->next[context].length = 0;
    write_down(context, (struct row_place){LLM_ROW_NONE, 0}, uid, LLM_CTX_LIVE);
    end_act(context);
}

static void append(uint32_t context, uint32_t count)
{
    struct plain *plain = &shared->next[context];
    begin_act(context);
    for (uint32_t i = 0; i < count; i++)
        plain->ids[plain->length + i] = below(1u << 30);
    uint32_t owner = row_of_user(&users, plain->uid);
    uint32_t from = plain->length;
    plain->length += count;
    move_to(context, rows_append(&rows, place_of(context), owner, plain->ids + from, count));
    end_act(context);
}

static void fork_to(uint32_t parent, uint32_t child, uint32_t length, uint32_t uid)
{
    begin_act(child);
    shared->next[child] = shared->now[parent];
    shared->next[child].length = length;
    shared->next[child].uid = uid;
    struct row_place place = rows_cut(&rows, place_of(parent), length);
    rows_hold(&rows, place);
    write_down(child, place, uid, LLM_CTX_LIVE);
    end_act(child);
}

static void rewind_to(uint32_t context, uint32_t length)
{
    begin_act(context);
    shared->next[context].length = length;
    struct row_place place = rows_cut(&rows, place_of(context), length);
    if (place.row != version(context)->row)
        rows_hold(&rows, place);
    move_to(context, place);
    rows_trim(&rows, place);
    end_act(context);
}

static void end(uint32_t context)
{
    begin_act(context);
    shared->next[context].live = false;
    uint32_t row = version(context)->row;
    write_down(context, place_of(context), version(context)->uid, LLM_CTX_FREE);
    rows_drop(&rows, row);
    end_act(context);
}

static void act(void)
{
    uint32_t context = below(CONTEXTS), other = below(CONTEXTS);
    struct plain *plain = &shared->now[context];
    if (!plain->live) {
        if (shared->now[other].live && below(4) > 0)
            fork_to(other, context,
                    below(2) ? shared->now[other].length : below(shared->now[other].length + 1),
                    below(8) ? shared->now[other].uid : below(USERS));
        else
            make(context, below(USERS));
        return;
    }
    uint32_t left = TOKENS_MAX - plain->length, choice = below(16);
    uint32_t most = below(4) ? 30 : 700;
    if (choice < 10 && left > 0)
        append(context, 1 + below(left < most ? left : most));
    else if (choice < 14)
        rewind_to(context, below(plain->length + 1));
    else
        end(context);
}

/* ---- What must hold ---------------------------------------------------------------------------------------- */

static bool same(uint32_t context, const struct plain *plain)
{
    if (is_live(context) != plain->live)
        return false;
    if (!plain->live)
        return true;
    struct row_place place = place_of(context);
    if (place.length != plain->length)
        return false;
    rows_copy(&rows, place, 0, place.length, scratch.ids);
    if (memcmp(scratch.ids, plain->ids, place.length * sizeof *scratch.ids) != 0)
        return false;
    uint32_t from = place.length > 0 ? below(place.length) : 0;
    rows_copy(&rows, place, from, place.length - from, scratch.ids);
    return memcmp(scratch.ids, plain->ids + from, (place.length - from) * sizeof *scratch.ids) == 0;
}

static void look_at_rows(int step)
{
    uint32_t references[ROWS] = {0};
    struct llm_error error = {.message = ""};
    uint64_t charged = 0, in_rows = 0;
    for (uint32_t context = 0; context < CONTEXTS; context++)
        if (is_live(context) && version(context)->row != LLM_ROW_NONE)
            references[version(context)->row]++;
    ck_assert_msg(rows_sane(&rows, references, &error) == LLM_OK, "seed %llu step %d: %s",
                  (unsigned long long)seed, step, error.message);
    for (uint32_t i = 0; i < users.end; i++)
        charged += users.rows[i].context_tokens;
    for (uint32_t row = 0; row < ROWS; row++)
        if (own[row].references > 0)
            in_rows += atomic_load(&shared->records[row].end) - shared->records[row].start;
    ck_assert_msg(charged == in_rows, "seed %llu step %d: charged %llu, in rows %llu",
                  (unsigned long long)seed, step, (unsigned long long)charged,
                  (unsigned long long)in_rows);
}

static void look_at_contexts(int step)
{
    look_at_rows(step);
    for (uint32_t context = 0; context < CONTEXTS; context++)
        ck_assert_msg(same(context, &shared->now[context]), "seed %llu step %d: context %u",
                      (unsigned long long)seed, step, context);
}

START_TEST(random_acts_change_nobody_elses_tokens)
{
    for (int step = 0; step < 6000; step++) {
        act();
        look_at_contexts(step);
    }
}
END_TEST

START_TEST(what_is_shared_is_at_least_what_is_common)
{
    for (int step = 0; step < 3000; step++) {
        act();
        uint32_t one = below(CONTEXTS), other = below(CONTEXTS);
        if (one == other || !is_live(one) || !is_live(other))
            continue;
        /* In one and the same row both read the same memory below the shorter one's end. */
        if (version(one)->row == LLM_ROW_NONE || version(one)->row != version(other)->row)
            continue;
        uint32_t shorter = version(one)->length < version(other)->length ? version(one)->length
                                                                         : version(other)->length;
        ck_assert_uint_ge(rows_shared(&rows, place_of(one)), shorter);
        ck_assert_uint_le(rows_shared(&rows, place_of(one)), version(one)->length);
    }
}
END_TEST

/* ---- By hand ----------------------------------------------------------------------------------------------- */

START_TEST(a_fork_shares_the_row_and_the_second_writer_begins_a_new_one)
{
    make(0, 0);
    append(0, 100);
    fork_to(0, 1, 100, 0);
    ck_assert_uint_eq(version(1)->row, version(0)->row);
    ck_assert_uint_eq(rows.live, 1);
    ck_assert_uint_eq(rows_shared(&rows, place_of(1)), 100);
    append(1, 10); /* the first goes on in place */
    ck_assert_uint_eq(version(1)->row, version(0)->row);
    append(0, 5);
    ck_assert_uint_ne(version(1)->row, version(0)->row);
    ck_assert_uint_eq(shared->records[version(0)->row].parent, version(1)->row);
    ck_assert_uint_eq(shared->records[version(0)->row].start, 100);
    ck_assert_uint_eq(rows_shared(&rows, place_of(0)), 100);
    ck_assert_uint_eq(users.rows[row_of_user(&users, 0)].context_tokens, 115);
    look_at_contexts(0);
}
END_TEST

START_TEST(nobody_writes_into_a_row_that_another_user_pays_for)
{
    make(0, 0);
    append(0, 100);
    fork_to(0, 1, 100, 1);
    append(1, 10);
    ck_assert_uint_ne(version(1)->row, version(0)->row);
    ck_assert_uint_eq(users.rows[row_of_user(&users, 0)].context_tokens, 100);
    ck_assert_uint_eq(users.rows[row_of_user(&users, 1)].context_tokens, 10);
    end(0);
    ck_assert_uint_eq(users.rows[row_of_user(&users, 0)].context_tokens,
                      100); /* still read by the fork */
    end(1);
    ck_assert_uint_eq(users.rows[row_of_user(&users, 0)].context_tokens, 0);
    ck_assert_uint_eq(rows.live, 0);
}
END_TEST

START_TEST(a_context_alone_rewinds_and_appends_in_one_row)
{
    make(0, 0);
    append(0, 100);
    for (int i = 0; i < 20; i++) {
        rewind_to(0, 50);
        append(0, 40);
        look_at_contexts(i);
    }
    ck_assert_uint_eq(rows.live, 1);
}
END_TEST

/* Each level diverges from the one before: the worst that a context can have. */
START_TEST(chains_stay_short_and_rows_never_run_out)
{
    make(0, 0);
    append(0, 10);
    for (uint32_t level = 1; level < CONTEXTS; level++) {
        fork_to(level - 1, level, shared->now[level - 1].length, 0);
        append(level - 1, 1);
        append(level, 1);
        uint32_t chain = 0;
        for (uint32_t row = version(level)->row; row != LLM_ROW_NONE;
             row = rows.records[row].parent)
            chain++;
        ck_assert_uint_ge(chain, 1);
        ck_assert_uint_le(chain, ROWS_CHAIN_MAX);
        look_at_contexts((int)level);
    }
    ck_assert_uint_gt(rows.live, 1);
    for (uint32_t level = 0; level < CONTEXTS; level++)
        end(level);
    ck_assert_uint_eq(rows.live, 0);
}
END_TEST

/* Pages of ids that take memory. */
static size_t resident_pages(void)
{
    static unsigned char in_core[ROWS * TOKENS_MAX * sizeof(uint32_t) / LLM_PAGE_BYTES + 1];
    size_t bytes = ROWS * TOKENS_MAX * sizeof(uint32_t), count = 0;
    ck_assert_int_eq(mincore(ids, bytes, in_core), 0);
    for (size_t page = 0; page < (bytes + LLM_PAGE_BYTES - 1) / LLM_PAGE_BYTES; page++)
        count += in_core[page] & 1;
    return count;
}

START_TEST(memory_of_free_rows_is_given_back)
{
    ck_assert_uint_eq(resident_pages(), 0);
    for (uint32_t context = 0; context < CONTEXTS; context++) {
        make(context, 0);
        append(context, TOKENS_MAX);
    }
    size_t most = resident_pages();
    ck_assert_uint_ge(most, CONTEXTS * TOKENS_MAX * sizeof(uint32_t) / LLM_PAGE_BYTES);
    for (uint32_t context = 0; context < CONTEXTS; context++)
        end(context);
    /* A row gives back its whole pages; those it shares with its neighbours wait for the next start. */
    ck_assert_uint_le(resident_pages(), CONTEXTS + 1);
    rows_reset(&rows);
    forget_users();
    rows_settle(&rows, row_of_user, &users);
    ck_assert_uint_eq(resident_pages(), 0);
}
END_TEST

/* ---- Deaths ------------------------------------------------------------------------------------------------ */

static void recover(void)
{
    rows_reset(&rows);
    forget_users();
    for (uint32_t context = 0; context < CONTEXTS; context++)
        if (is_live(context))
            ck_assert_msg(rows_adopt(&rows, place_of(context)), "context %u lost its tokens",
                          context);
    rows_settle(&rows, row_of_user, &users);
    look_at_rows(-1);
}

static const enum llm_crash_point points[] = {
    LLM_CRASH_row_ids,  LLM_CRASH_row_end,     LLM_CRASH_row_fields, LLM_CRASH_row_live,
    LLM_CRASH_row_free, LLM_CRASH_ctx_version, LLM_CRASH_ctx_word,
};
static const int passes[] = {1, 2, 9, 40, 130};
#define POINTS (sizeof points / sizeof points[0])
#define PASSES (sizeof passes / sizeof passes[0])

static void die_while_acting(enum llm_crash_point point, int pass)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        char text[64];
        snprintf(text, sizeof text, "%s:%d", llm_crash_point_name(point), pass);
        llm_crash_point_choose(text);
        for (int step = 0; step < 5000; step++)
            act();
        _exit(1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s was not passed %d times",
                  llm_crash_point_name(point), pass);
}

START_TEST(a_death_at_any_store_leaves_the_old_or_the_new)
{
    for (int round = 0; round < 4; round++) {
        memcpy(shared->next, shared->now, sizeof shared->now);
        die_while_acting(points[(size_t)_i / PASSES], passes[(size_t)_i % PASSES]);
        recover();
        for (uint32_t context = 0; context < CONTEXTS; context++) {
            bool old = same(context, &shared->now[context]);
            ck_assert_msg(old || same(context, &shared->next[context]),
                          "seed %llu round %d: context %u is neither", (unsigned long long)seed,
                          round, context);
            if (!old)
                shared->now[context] = shared->next[context];
        }
        for (int step = 0; step < 200; step++) {
            act();
            look_at_contexts(step);
        }
    }
}
END_TEST

START_TEST(a_record_that_names_nonsense_is_not_adopted)
{
    make(0, 0);
    append(0, 100);
    uint32_t row = version(0)->row;
    const struct row_place wrong[] = {{row, 101},        {row, 0},     {ROWS, 5},
                                      {LLM_ROW_NONE, 5}, {row + 1, 5}, {UINT32_MAX - 1, 5}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        rows_reset(&rows);
        ck_assert_msg(!rows_adopt(&rows, wrong[i]), "case %zu", i);
    }
    shared->records[row].parent = row; /* a circle */
    shared->records[row].start = 1;
    ck_assert(!rows_adopt(&rows, (struct row_place){row, 100}));
    shared->records[row].parent = LLM_ROW_NONE; /* tokens before `start` are nowhere */
    ck_assert(!rows_adopt(&rows, (struct row_place){row, 100}));
    shared->records[row].start = 0;
    atomic_store(&shared->records[row].end, TOKENS_MAX + 1);
    ck_assert(!rows_adopt(&rows, (struct row_place){row, 100}));
    atomic_store(&shared->records[row].end, 100);
    ck_assert(rows_adopt(&rows, (struct row_place){row, 100}));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/rows");
    TCase *tc = tcase_create("rows");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, random_acts_change_nobody_elses_tokens);
    tcase_add_test(tc, what_is_shared_is_at_least_what_is_common);
    tcase_add_test(tc, a_fork_shares_the_row_and_the_second_writer_begins_a_new_one);
    tcase_add_test(tc, nobody_writes_into_a_row_that_another_user_pays_for);
    tcase_add_test(tc, a_context_alone_rewinds_and_appends_in_one_row);
    tcase_add_test(tc, chains_stay_short_and_rows_never_run_out);
    tcase_add_test(tc, memory_of_free_rows_is_given_back);
    tcase_add_loop_test(tc, a_death_at_any_store_leaves_the_old_or_the_new, 0, POINTS * PASSES);
    tcase_add_test(tc, a_record_that_names_nonsense_is_not_adopted);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
