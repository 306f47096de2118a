/*
 * test_corpus.c - tools/tinynotes/corpus: same seed, same text; clear questions; unknown people in the test split.
 * How: thousands of notes and stories are written and read back with string functions only, so that nothing
 * of the generator's tables is trusted. LLM_TEST_SEED moves the window of seeds that is looked at.
 */
#include "tools/tinynotes/corpus.h"

#include <check.h>
#include <ctype.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NOTES_LOOKED_AT = 4000
};
#define LANGUAGE_HASH UINT64_C(0x80fc285256188299)

static uint64_t first_seed(void)
{
    const char *text = getenv("LLM_TEST_SEED");
    return text != NULL ? strtoull(text, NULL, 10) : 1;
}

static const enum corpus_split SPLITS[] = {CORPUS_TRAIN, CORPUS_TEST};

/* Is this capitalised word a name, and if so of which split? The sentences themselves begin with "The". */
static bool is_name(const char *word)
{
    char name[CORPUS_NAME_BYTES];
    for (int32_t i = 0; i < corpus_name_count(); i++) {
        corpus_name(name, i);
        if (strcmp(name, word) == 0)
            return true;
    }
    return false;
}

/* Calls look(word) for each capitalised word of a text. */
static void each_capital(const char *text, enum corpus_split split,
                         void (*look)(const char *word, enum corpus_split split, const char *text))
{
    for (const char *c = text; *c != '\0';) {
        size_t letters = 0;
        while (isalpha((unsigned char)c[letters]))
            letters++;
        char word[32] = {0};
        ck_assert_uint_lt(letters, sizeof word);
        memcpy(word, c, letters);
        if (isupper((unsigned char)word[0]))
            look(word, split, text);
        c += letters > 0 ? letters : 1;
    }
}

static void name_is_of_its_split(const char *word, enum corpus_split split, const char *text)
{
    static const char *const NO_NAMES[] = {
        "The",  "Once",  "It",  "Every", "What",  "I",    "One",  "In",    "But",
        "Then", "Why",   "Yes", "Near",  "There", "So",   "They", "First", "Let",
        "And",  "Thank", "By",  "At",    "From",  "That", "Look", "Can"};
    for (size_t i = 0; i < sizeof NO_NAMES / sizeof NO_NAMES[0]; i++)
        if (strcmp(word, NO_NAMES[i]) == 0)
            return;
    ck_assert_msg(is_name(word), "\"%s\" is neither a name nor a known sentence start: %s", word,
                  text);
    ck_assert_msg(corpus_name_split(word) == split, "%s is of the other split: %s", word, text);
}

START_TEST(same_seed_writes_the_same_bytes)
{
    struct corpus_note once, again;
    char story_once[CORPUS_STORY_BYTES], story_again[CORPUS_STORY_BYTES];
    for (uint64_t seed = first_seed(); seed < first_seed() + 100; seed++) {
        memset(&once, 0x5a, sizeof once);
        memset(&again, 0xa5, sizeof again);
        corpus_note(&once, SPLITS[_i], seed, 8, 20);
        corpus_note(&again, SPLITS[_i], seed, 8, 20);
        ck_assert_mem_eq(&once, &again, sizeof once);
        memset(story_once, 0x5a, sizeof story_once);
        corpus_story(story_once, sizeof story_once, SPLITS[_i], seed);
        corpus_story(story_again, sizeof story_again, SPLITS[_i], seed);
        ck_assert_mem_eq(story_once, story_again, sizeof story_once);
    }
}
END_TEST

/* The model in models/tinynotes was trained on exactly this language: a change here asks for a new training. */
START_TEST(text_of_seed_1_is_the_text_the_model_was_trained_on)
{
    struct corpus_note note;
    corpus_note(&note, CORPUS_TEST, 1, 8, 20);
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (const char *c = note.text; *c != '\0'; c++)
        hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    ck_assert_msg(hash == LANGUAGE_HASH, "hash 0x%llx of: %s", (unsigned long long)hash, note.text);
}
END_TEST

START_TEST(another_seed_or_split_writes_another_note)
{
    struct corpus_note a, b;
    corpus_note(&a, CORPUS_TRAIN, 7, 8, 20);
    corpus_note(&b, CORPUS_TRAIN, 8, 8, 20);
    ck_assert_str_ne(a.text, b.text);
    corpus_note(&b, CORPUS_TEST, 7, 8, 20);
    ck_assert_str_ne(a.text, b.text);
}
END_TEST

START_TEST(both_splits_have_names_and_share_none)
{
    char name[CORPUS_NAME_BYTES];
    int32_t of_split[2] = {0, 0};
    for (int32_t i = 0; i < corpus_name_count(); i++) {
        corpus_name(name, i);
        of_split[corpus_name_split(name)]++;
    }
    ck_assert_int_eq(of_split[CORPUS_TRAIN] + of_split[CORPUS_TEST], corpus_name_count());
    ck_assert_int_gt(of_split[CORPUS_TEST], 300);
    ck_assert_int_gt(of_split[CORPUS_TRAIN], 5 * of_split[CORPUS_TEST]);
}
END_TEST

START_TEST(every_name_in_a_text_is_of_its_split)
{
    struct corpus_note note;
    char story[CORPUS_STORY_BYTES];
    for (uint64_t seed = first_seed(); seed < first_seed() + 150; seed++) {
        corpus_note(&note, SPLITS[_i], seed, 8, 20);
        each_capital(note.text, SPLITS[_i], name_is_of_its_split);
        corpus_story(story, sizeof story, SPLITS[_i], seed);
        each_capital(story, SPLITS[_i], name_is_of_its_split);
    }
}
END_TEST

START_TEST(every_question_has_one_answer_and_it_stands_in_the_note)
{
    struct corpus_note note;
    for (uint64_t seed = first_seed(); seed < first_seed() + NOTES_LOOKED_AT; seed++) {
        corpus_note(&note, SPLITS[_i], seed, 8, 20);
        for (int32_t i = 0; i < note.fact_count; i++) {
            const struct corpus_question *q = &note.questions[i];
            ck_assert_msg(strstr(note.text, q->answer) != NULL, "seed %llu: no \"%s\" in: %s",
                          (unsigned long long)seed, q->answer, note.text);
            for (int32_t j = 0; j < i; j++)
                ck_assert_msg(strcmp(q->question, note.questions[j].question) != 0,
                              "seed %llu asks twice: %s", (unsigned long long)seed, q->question);
        }
    }
}
END_TEST

/* "the {quality} {thing}" or "a {quality} {thing}" appears once, so that a thing alone settles who or where. */
START_TEST(a_thing_is_named_in_one_fact_only)
{
    static const char *const THINGS[] = {" key.",     " key ",  " lantern.",
                                         " lantern ", " boat.", " boat "};
    struct corpus_note note;
    for (uint64_t seed = first_seed(); seed < first_seed() + NOTES_LOOKED_AT; seed++) {
        corpus_note(&note, SPLITS[_i], seed, 8, 20);
        for (size_t t = 0; t < sizeof THINGS / sizeof THINGS[0]; t += 2) {
            int32_t named = 0;
            for (size_t form = t; form < t + 2; form++)
                for (const char *c = note.text; (c = strstr(c, THINGS[form])) != NULL; c++)
                    named++;
            ck_assert_int_le(named, 1);
        }
    }
}
END_TEST

START_TEST(fact_counts_stay_in_their_range_and_reach_both_ends)
{
    struct corpus_note note;
    int32_t seen[CORPUS_FACTS_MAX + 1] = {0};
    for (uint64_t seed = first_seed(); seed < first_seed() + NOTES_LOOKED_AT; seed++) {
        corpus_note(&note, CORPUS_TEST, seed, 8, 20);
        ck_assert_int_ge(note.fact_count, 8);
        ck_assert_int_le(note.fact_count, 20);
        seen[note.fact_count]++;
    }
    ck_assert_int_gt(seen[8], 0);
    ck_assert_int_gt(seen[20], 0);
}
END_TEST

START_TEST(a_note_may_have_one_fact)
{
    struct corpus_note note;
    for (uint64_t seed = first_seed(); seed < first_seed() + 200; seed++) {
        corpus_note(&note, CORPUS_TRAIN, seed, 1, 1);
        ck_assert_int_eq(note.fact_count, 1);
        ck_assert_str_eq(note.text, note.questions[0].answer);
    }
}
END_TEST

/* The generator aborts when a buffer is too small, so filling the largest notes is the test of the capacities. */
START_TEST(the_longest_texts_fit_their_capacities)
{
    struct corpus_note note;
    char story[CORPUS_STORY_BYTES];
    size_t longest_note = 0, longest_story = 0, shortest_story = SIZE_MAX;
    for (uint64_t seed = first_seed(); seed < first_seed() + NOTES_LOOKED_AT; seed++) {
        corpus_note(&note, SPLITS[_i], seed, CORPUS_FACTS_MAX, CORPUS_FACTS_MAX);
        size_t bytes = corpus_story(story, sizeof story, SPLITS[_i], seed);
        ck_assert_uint_eq(bytes, strlen(story));
        longest_note = strlen(note.text) > longest_note ? strlen(note.text) : longest_note;
        longest_story = bytes > longest_story ? bytes : longest_story;
        shortest_story = bytes < shortest_story ? bytes : shortest_story;
    }
    ck_assert_uint_lt(longest_note, CORPUS_NOTE_BYTES * 3 / 4); /* room for words to come */
    ck_assert_uint_lt(longest_story, CORPUS_STORY_BYTES * 3 / 4);
    ck_assert_uint_gt(shortest_story, 250); /* long enough to be worth interrupting */
}
END_TEST

START_TEST(asking_writes_the_prompt_that_was_trained)
{
    char prompt[CORPUS_LINE_BYTES + 8];
    size_t bytes = corpus_ask(prompt, sizeof prompt, "Who keeps the copper key?");
    ck_assert_str_eq(prompt, "\nQ: Who keeps the copper key?\nA:");
    ck_assert_uint_eq(bytes, strlen(prompt));
}
END_TEST

START_TEST(a_text_that_does_not_fit_stops_the_process)
{
    char story[64];
    corpus_story(story, sizeof story, CORPUS_TRAIN, 1);
}
END_TEST

static Suite *corpus_suite(void)
{
    Suite *suite = suite_create("corpus");
    TCase *tc = tcase_create("corpus");
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, same_seed_writes_the_same_bytes, 0, 2);
    tcase_add_test(tc, text_of_seed_1_is_the_text_the_model_was_trained_on);
    tcase_add_test(tc, another_seed_or_split_writes_another_note);
    tcase_add_test(tc, both_splits_have_names_and_share_none);
    tcase_add_loop_test(tc, every_name_in_a_text_is_of_its_split, 0, 2);
    tcase_add_loop_test(tc, every_question_has_one_answer_and_it_stands_in_the_note, 0, 2);
    tcase_add_loop_test(tc, a_thing_is_named_in_one_fact_only, 0, 2);
    tcase_add_test(tc, fact_counts_stay_in_their_range_and_reach_both_ends);
    tcase_add_test(tc, a_note_may_have_one_fact);
    tcase_add_loop_test(tc, the_longest_texts_fit_their_capacities, 0, 2);
    tcase_add_test(tc, asking_writes_the_prompt_that_was_trained);
    tcase_add_test_raise_signal(tc, a_text_that_does_not_fit_stops_the_process, SIGABRT);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(corpus_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
