/*
 * corpus.h - little notes and stories, written by a program, for a model that learns from nothing else.
 *
 * Idea     A note is one paragraph of facts ("Mara keeps the copper key.") with one question per
 *          fact, and the answer repeats the fact. Within a note every question has one answer:
 *          a thing is named in one fact only, and a person has at most one fact of each kind.
 *          A story is a few plain sentences about two animals and a thing.
 * Owner    The caller owns all memory; nothing is allocated and nothing is global.
 * Same     (split, seed) decides every byte, on every machine. The trainer, the score and the tests
 *          read the same texts because they all call these functions.
 * Splits   A name belongs to the training or to the test split by a hash of its letters, so the
 *          people of a test note were never met in training; their syllables were.
 * See      tools/tinynotes/README.md, tests/tools/test_corpus.c, `llm-corpus --help`
 */
#ifndef LLM_TINYNOTES_CORPUS_H
#define LLM_TINYNOTES_CORPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CORPUS_FACTS_MAX = 20,
    CORPUS_LINE_BYTES = 96,    /* one fact, question or answer with its final NUL */
    CORPUS_NOTE_BYTES = 2048,  /* CORPUS_FACTS_MAX facts with a space between them, and a NUL */
    CORPUS_STORY_BYTES = 2048, /* the longest story and a NUL */
    CORPUS_NAME_BYTES = 8,
};

enum corpus_split {
    CORPUS_TRAIN,
    CORPUS_TEST,
};

struct corpus_question {
    char question[CORPUS_LINE_BYTES]; /* "Who keeps the copper key?" */
    char answer[CORPUS_LINE_BYTES];   /* "Mara keeps the copper key." as it stands in the note, but
                                         always with a capital letter first */
};

struct corpus_note {
    char text[CORPUS_NOTE_BYTES]; /* the facts, one space between two of them, no final newline */
    int32_t fact_count;
    struct corpus_question questions[CORPUS_FACTS_MAX]; /* one per fact, in shuffled order */
};

/*
 * Write note number `seed` of a split.
 *
 *   out_note            every byte of it is written
 *   facts_min, _max     1 <= facts_min <= facts_max <= CORPUS_FACTS_MAX; the count is drawn between
 */
void corpus_note(struct corpus_note *out_note, enum corpus_split split, uint64_t seed,
                 int32_t facts_min, int32_t facts_max);

/*
 * Write story number `seed` of a split: "Once upon a time ...", 60 to 250 words, one paragraph.
 *
 *   out_text        [capacity_bytes] with a final NUL
 *   capacity_bytes  CORPUS_STORY_BYTES always suffices
 *   returns         bytes written without the NUL
 */
size_t corpus_story(char *out_text, size_t capacity_bytes, enum corpus_split split, uint64_t seed);

/*
 * The prompt that asks `question` of a text: text + this, and the answer follows after one space and
 * ends before the next newline. "\nQ: Who keeps the copper key?\nA:"
 *
 *   out_text        [capacity_bytes] with a final NUL; CORPUS_LINE_BYTES + 8 always suffices
 */
size_t corpus_ask(char *out_text, size_t capacity_bytes, const char *question);

/* All names there are, numbered from 0; for tests and for the tokeniser's training text. */
int32_t corpus_name_count(void);
void corpus_name(char out_name[CORPUS_NAME_BYTES], int32_t index);
enum corpus_split corpus_name_split(const char *name);

/* One in how many names belongs to the test split. */
#define CORPUS_TEST_ONE_IN 8

/*
 * The words of the language, for the tokeniser: name beginnings ("Ma"), name endings ("ra") and whole words.
 * Returns NULL past the last. `out_kind` says which: 'b'eginning, 'e'nding or 'w'ord.
 */
const char *corpus_word(int32_t index, char *out_kind);

#endif
