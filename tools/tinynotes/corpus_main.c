/*
 * corpus_main.c - llm-corpus: print notes, stories or the word list, for the trainer and for curious people.
 *
 * Each line is one document as JSON. The texts hold no character that JSON must escape except the double
 * quote, so writing it is short:
 *   {"text":"Mara keeps the copper key. ...","qa":[["Who keeps the copper key?","Mara keeps ..."],...]}
 * A story has no "qa". With --plain a document is printed as people read it, and an empty line follows.
 */
#include "tools/tinynotes/corpus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char USAGE[] =
    "usage: llm-corpus [--split train|test] [--kind notes|stories|words|names] [--seed N] [--count "
    "N]\n"
    "                  [--facts MIN..MAX] [--plain]\n"
    "Documents SEED .. SEED+COUNT-1 of a split, one JSON object per line (--plain: as text).\n"
    "Defaults: --split train --kind notes --seed 0 --count 1 --facts 8..20\n";

struct options {
    const char *kind;
    enum corpus_split split;
    uint64_t seed, count;
    int32_t facts_min, facts_max;
    bool plain;
};

static void print_json_string(const char *text)
{
    putchar('"');
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            putchar('\\');
        putchar(*c);
    }
    putchar('"');
}

static void print_note(const struct options *o, uint64_t seed)
{
    struct corpus_note note;
    corpus_note(&note, o->split, seed, o->facts_min, o->facts_max);
    if (o->plain) {
        printf("%s", note.text);
        for (int32_t i = 0; i < note.fact_count; i++)
            printf("\nQ: %s\nA: %s", note.questions[i].question, note.questions[i].answer);
        printf("\n\n");
        return;
    }
    printf("{\"text\":");
    print_json_string(note.text);
    for (int32_t i = 0; i < note.fact_count; i++) {
        printf(i == 0 ? ",\"qa\":[[" : ",[");
        print_json_string(note.questions[i].question);
        putchar(',');
        print_json_string(note.questions[i].answer);
        putchar(']');
    }
    printf("]}\n");
}

static void print_story(const struct options *o, uint64_t seed)
{
    char text[CORPUS_STORY_BYTES];
    corpus_story(text, sizeof text, o->split, seed);
    if (o->plain) {
        printf("%s\n\n", text);
        return;
    }
    printf("{\"text\":");
    print_json_string(text);
    printf("}\n");
}

static void print_words(void)
{
    char kind;
    const char *word;
    for (int32_t i = 0; (word = corpus_word(i, &kind)) != NULL; i++)
        printf("%c %s\n", kind, word);
}

static void print_names(enum corpus_split split)
{
    char name[CORPUS_NAME_BYTES];
    for (int32_t i = 0; i < corpus_name_count(); i++) {
        corpus_name(name, i);
        if (corpus_name_split(name) == split)
            printf("%s\n", name);
    }
}

static bool number_read(const char *text, uint64_t *out_number)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-')
        return false;
    *out_number = number;
    return true;
}

static bool facts_read(const char *text, struct options *o)
{
    int used = 0;
    if (sscanf(text, "%d..%d%n", &o->facts_min, &o->facts_max, &used) != 2 || text[used] != '\0')
        return false;
    return o->facts_min >= 1 && o->facts_min <= o->facts_max && o->facts_max <= CORPUS_FACTS_MAX;
}

static bool option_read(const char *name, const char *value, struct options *o)
{
    if (strcmp(name, "--seed") == 0)
        return number_read(value, &o->seed);
    if (strcmp(name, "--count") == 0)
        return number_read(value, &o->count);
    if (strcmp(name, "--facts") == 0)
        return facts_read(value, o);
    if (strcmp(name, "--kind") == 0) {
        o->kind = value;
        return strcmp(value, "notes") == 0 || strcmp(value, "stories") == 0 ||
               strcmp(value, "words") == 0 || strcmp(value, "names") == 0;
    }
    if (strcmp(name, "--split") == 0) {
        o->split = strcmp(value, "test") == 0 ? CORPUS_TEST : CORPUS_TRAIN;
        return o->split == CORPUS_TEST || strcmp(value, "train") == 0;
    }
    return false;
}

int main(int argc, char **argv)
{
    struct options o = {"notes", CORPUS_TRAIN, 0, 1, 8, 20, false};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            printf("%s", USAGE);
            return 0;
        }
        if (strcmp(argv[i], "--plain") == 0) {
            o.plain = true;
        } else if (i + 1 < argc && option_read(argv[i], argv[i + 1], &o)) {
            i++;
        } else {
            fprintf(stderr, "llm-corpus: cannot use \"%s\"\n%s", argv[i], USAGE);
            return 2;
        }
    }
    if (strcmp(o.kind, "words") == 0)
        print_words();
    else if (strcmp(o.kind, "names") == 0)
        print_names(o.split);
    for (uint64_t i = 0; i < o.count && strcmp(o.kind, "notes") == 0; i++)
        print_note(&o, o.seed + i);
    for (uint64_t i = 0; i < o.count && strcmp(o.kind, "stories") == 0; i++)
        print_story(&o, o.seed + i);
    return fflush(stdout) == 0 ? 0 : 1;
}
