/*
 * corpus.c - the generator of notes and stories; see corpus.h.
 *
 * A text is written by pattern: letters stand for themselves, and "{x}" is replaced by slot x of a small
 * table of strings. The grammar below is therefore readable as the language it writes, and the fact,
 * its question and its answer stand side by side.
 */
#include "tools/tinynotes/corpus.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH(array) ((int32_t)(sizeof(array) / sizeof((array)[0])))

/* ---- Random numbers: splitmix64 (Steele, Lea, Flood 2014), good enough for words and never different ---- */

struct dice {
    uint64_t state;
};

static uint64_t dice_next(struct dice *dice)
{
    uint64_t z = (dice->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static struct dice dice_for(enum corpus_split split, uint64_t seed, uint64_t kind)
{
    struct dice dice = {seed};
    dice.state = dice_next(&dice) ^ (kind << 1 | (split == CORPUS_TEST ? 1U : 0U));
    dice.state = dice_next(&dice);
    return dice;
}

/* A number in 0 .. sides-1; the bias of the modulo is below 2^-50 for every table here. */
static int32_t roll(struct dice *dice, int32_t sides)
{
    return (int32_t)(dice_next(dice) % (uint64_t)sides);
}

static bool chance(struct dice *dice, int32_t percent)
{
    return roll(dice, 100) < percent;
}

static void shuffle(struct dice *dice, int32_t *items, int32_t count)
{
    for (int32_t i = count - 1; i > 0; i--) {
        int32_t j = roll(dice, i + 1);
        int32_t kept = items[i];
        items[i] = items[j];
        items[j] = kept;
    }
}

/* ---- Words ---- */

static const char *const NAME_BEGINNINGS[] = {
    "A",  "E",  "I",  "O",  "U",  "Ba", "Be", "Bi", "Bo", "Bu", "Da", "De", "Di", "Do", "Du",
    "Fa", "Fe", "Fi", "Fo", "Ga", "Ge", "Gi", "Go", "Gu", "Ha", "He", "Hi", "Ho", "Hu", "Ja",
    "Je", "Jo", "Ju", "Ka", "Ke", "Ki", "Ko", "Ku", "La", "Le", "Li", "Lo", "Lu", "Ma", "Me",
    "Mi", "Mo", "Mu", "Na", "Ne", "Ni", "No", "Nu", "Pa", "Pe", "Pi", "Po", "Ra", "Re", "Ri",
    "Ro", "Ru", "Sa", "Se", "Si", "So", "Su", "Ta", "Te", "Ti", "To", "Tu", "Va", "Ve", "Vi",
    "Vo", "Wa", "We", "Wi", "Ya", "Yo", "Za", "Ze", "Zi", "Zo",
};
static const char *const NAME_ENDINGS[] = {
    "ba", "be", "bi", "bo", "da", "de", "di", "do", "ka", "ke", "ki", "ko", "la", "le", "li",
    "lo", "ma", "me", "mi", "mo", "na", "ne", "ni", "no", "ra", "re", "ri", "ro", "sa", "se",
    "si", "so", "ta", "te", "ti", "to", "va", "ve", "vi", "vo", "m",  "n",  "l",  "r",  "s",
};
static const char *const QUALITIES[] = {
    "red",    "blue",  "green",  "copper", "silver", "small",  "heavy", "broken",
    "golden", "round", "wooden", "yellow", "warm",   "bright", "black", "white",
    "tiny",   "long",  "soft",   "shiny",  "brown",  "dusty",  "plain", "striped",
};
static const char *const THINGS[] = {
    "key",    "lantern", "boat",  "drum",   "letter", "map",    "coin",   "basket",
    "kettle", "ladder",  "clock", "spoon",  "rope",   "mirror", "wheel",  "hat",
    "ball",   "bell",    "book",  "box",    "bucket", "button", "candle", "cart",
    "chair",  "cup",     "flute", "hammer", "jug",    "kite",   "knife",  "lamp",
    "needle", "net",     "pot",   "ring",   "saddle", "scarf",  "stone",  "whistle",
};
static const char *const PLACES[] = {
    "mill",    "bridge",  "barn",    "well",   "tower",  "garden", "market", "chapel",
    "harbour", "forest",  "kitchen", "hill",   "school", "river",  "cellar", "stable",
    "station", "library", "bakery",  "meadow", "castle", "lake",   "square", "gate",
};
static const char *const SIDES[] = {"behind", "under", "near", "inside", "beside", "above"};
static const char *const TRADES[] = {
    "baker",  "miller", "painter", "teacher", "farmer", "doctor", "sailor", "tailor", "cook",
    "singer", "smith",  "hunter",  "weaver",  "guard",  "judge",  "potter", "driver", "dancer",
};
static const char *const BEASTS[] = {
    "goats", "hens",  "cats", "dogs",  "cows",  "pigs",
    "ducks", "sheep", "bees", "mules", "doves", "geese",
};
static const char *const NUMBERS[] = {
    "two",   "three", "four", "five",   "six",    "seven",
    "eight", "nine",  "ten",  "eleven", "twelve", "twenty",
};
static const char *const FOODS[] = {
    "plums", "bread", "honey", "soup",    "pears", "cheese", "nuts", "cake",
    "figs",  "rice",  "beans", "berries", "milk",  "corn",   "pie",  "tea",
};
static const char *const HOURS[] = {
    "dawn",  "noon",  "dusk", "midnight", "five",   "six",
    "seven", "eight", "nine", "ten",      "eleven", "twelve",
};
static const char *const KEEPING[] = {"keeps", "found",   "wants",  "painted",
                                      "sold",  "carries", "mended", "lost"};
/* past form, plain form */
static const char *const GIVING[][2] = {
    {"lent", "lend"}, {"gave", "give"}, {"sent", "send"}, {"showed", "show"}};

static const char *const ANIMALS[] = {
    "fox",  "bear", "hare", "mouse",  "crow", "frog", "goat",
    "duck", "cat",  "wolf", "badger", "hen",  "mole", "deer",
};
static const char *const MOODS[] = {"kind",  "quiet", "clever", "young",
                                    "brave", "shy",   "merry",  "gentle"};
static const char *const WEATHERS[] = {"sunny", "windy", "rainy", "cold", "foggy", "snowy"};

#define PICK(dice, table) (table)[roll((dice), LENGTH(table))]

/* ---- Names ---- */

int32_t corpus_name_count(void)
{
    return LENGTH(NAME_BEGINNINGS) * LENGTH(NAME_ENDINGS);
}

static void name_join(char out_name[CORPUS_NAME_BYTES], int32_t beginning, int32_t ending)
{
    size_t bytes = strlen(NAME_BEGINNINGS[beginning]);
    memset(out_name, 0, CORPUS_NAME_BYTES);
    memcpy(out_name, NAME_BEGINNINGS[beginning], bytes);
    memcpy(out_name + bytes, NAME_ENDINGS[ending], strlen(NAME_ENDINGS[ending]));
}

void corpus_name(char out_name[CORPUS_NAME_BYTES], int32_t index)
{
    name_join(out_name, index / LENGTH(NAME_ENDINGS), index % LENGTH(NAME_ENDINGS));
}

/* Two letters would make English words: "As", "In", "Is". */
static bool name_allowed(const char *name)
{
    return strlen(name) >= 3;
}

enum corpus_split corpus_name_split(const char *name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    return (hash >> 20) % CORPUS_TEST_ONE_IN == 0 ? CORPUS_TEST : CORPUS_TRAIN;
}

/* Names for one text. No two begin alike, so the first syllable already tells two people apart. */
static void names_draw(struct dice *dice, enum corpus_split split,
                       char (*out_names)[CORPUS_NAME_BYTES], int32_t count)
{
    int32_t beginnings[LENGTH(NAME_BEGINNINGS)];
    for (int32_t i = 0; i < LENGTH(NAME_BEGINNINGS); i++)
        beginnings[i] = i;
    shuffle(dice, beginnings, LENGTH(NAME_BEGINNINGS));
    for (int32_t i = 0, drawn = 0; drawn < count && i < LENGTH(NAME_BEGINNINGS); i++) {
        for (int32_t attempt = 0; attempt < 64; attempt++) { /* a beginning may lack test names */
            name_join(out_names[drawn], beginnings[i], roll(dice, LENGTH(NAME_ENDINGS)));
            if (name_allowed(out_names[drawn]) && corpus_name_split(out_names[drawn]) == split) {
                drawn++;
                break;
            }
        }
    }
}

/* ---- Patterns ---- */

struct writer {
    char *text;
    size_t capacity_bytes; /* with the final NUL */
    size_t bytes;
};

static struct writer writer_into(char *text, size_t capacity_bytes)
{
    memset(text, 0, capacity_bytes);
    return (struct writer){text, capacity_bytes, 0};
}

static void write_byte(struct writer *w, char byte)
{
    if (w->bytes + 1 >= w->capacity_bytes)
        abort(); /* a table outgrew a capacity in corpus.h; test_corpus would have said so */
    w->text[w->bytes++] = byte;
}

/* Words for the slots of a pattern, by their letter: slots['x' - 'a'] is what "{x}" becomes. */
struct slots {
    const char *word[26];
};

static void slot_set(struct slots *slots, char letter, const char *word)
{
    slots->word[letter - 'a'] = word;
}

/* "{x}" writes slot x. Everything else stands for itself. */
static void write_pattern(struct writer *w, const char *pattern, const struct slots *slots)
{
    for (const char *c = pattern; *c; c++) {
        if (c[0] != '{') {
            write_byte(w, *c);
            continue;
        }
        for (const char *s = slots->word[c[1] - 'a']; *s; s++)
            write_byte(w, *s);
        c += 2;
    }
}

/* ---- Notes ---- */

enum fact_kind {
    KEEPS,
    GIVES,
    STANDS,
    LIVES,
    HAS,
    TRADE,
    LIKES,
    OPENS,
    FACT_KINDS
};

/* slots: n name, m other name, v verb, w its plain form, q quality, t thing, s side, p place,
 *        j trade, b beasts, c number, f food, h hour */
static const struct {
    const char *fact, *question;
    int32_t weight;
} FACTS[FACT_KINDS] = {
    [KEEPS] = {"{n} {v} the {q} {t}.", "Who {v} the {q} {t}?", 5},
    [GIVES] = {"{n} {v} {m} a {q} {t}.", "What did {n} {w} to {m}?", 3},
    [STANDS] = {"The {q} {t} is {s} the {p}.", "Where is the {q} {t}?", 5},
    [LIVES] = {"{n} lives {s} the {p}.", "Where does {n} live?", 2},
    [HAS] = {"{n} has {c} {b}.", "How many {b} does {n} have?", 2},
    [TRADE] = {"{n} is the {j}.", "Who is the {j}?", 2},
    [LIKES] = {"{n} likes {f}.", "What does {n} like?", 2},
    [OPENS] = {"The {p} opens at {h}.", "When does the {p} open?", 1},
};

/* What a note has already used up: a thing, a trade or an opening place once, and each person once per kind. */
struct used {
    bool thing[LENGTH(THINGS)];
    bool trade[LENGTH(TRADES)];
    bool opens[LENGTH(PLACES)];
    bool person[CORPUS_FACTS_MAX][FACT_KINDS];
};

static bool take(bool *slot)
{
    bool was_free = !*slot;
    *slot = true;
    return was_free;
}

static enum fact_kind kind_draw(struct dice *dice)
{
    int32_t total = 0;
    for (int32_t k = 0; k < FACT_KINDS; k++)
        total += FACTS[k].weight;
    int32_t left = roll(dice, total);
    int32_t kind = 0;
    while (left >= FACTS[kind].weight)
        left -= FACTS[kind++].weight;
    return (enum fact_kind)kind;
}

/* Draw the words of one fact; false when it would make an earlier question ambiguous. */
static bool fact_draw(struct dice *dice, enum fact_kind kind, char (*names)[CORPUS_NAME_BYTES],
                      int32_t person_count, struct used *used, struct slots *out_slots)
{
    int32_t person = roll(dice, person_count);
    int32_t other = (person + 1 + roll(dice, person_count - 1)) % person_count;
    int32_t thing = roll(dice, LENGTH(THINGS));
    int32_t place = roll(dice, LENGTH(PLACES));
    int32_t trade = roll(dice, LENGTH(TRADES));
    int32_t giving = roll(dice, LENGTH(GIVING));
    *out_slots = (struct slots){{0}};
    slot_set(out_slots, 'n', names[person]);
    slot_set(out_slots, 'm', names[other]);
    slot_set(out_slots, 'v', kind == GIVES ? GIVING[giving][0] : PICK(dice, KEEPING));
    slot_set(out_slots, 'w', GIVING[giving][1]);
    slot_set(out_slots, 'q', PICK(dice, QUALITIES));
    slot_set(out_slots, 't', THINGS[thing]);
    slot_set(out_slots, 's', PICK(dice, SIDES));
    slot_set(out_slots, 'p', PLACES[place]);
    slot_set(out_slots, 'j', TRADES[trade]);
    slot_set(out_slots, 'b', PICK(dice, BEASTS));
    slot_set(out_slots, 'c', PICK(dice, NUMBERS));
    slot_set(out_slots, 'f', PICK(dice, FOODS));
    slot_set(out_slots, 'h', PICK(dice, HOURS));
    switch (kind) {
    case KEEPS:
    case STANDS:
        return take(&used->thing[thing]);
    case GIVES:
        return !used->thing[thing] && take(&used->person[person][kind]) &&
               take(&used->thing[thing]);
    case TRADE:
        return !used->trade[trade] && take(&used->person[person][kind]) &&
               take(&used->trade[trade]);
    case OPENS:
        return take(&used->opens[place]);
    case LIVES:
    case HAS:
    case LIKES:
    case FACT_KINDS:
    default:
        return take(&used->person[person][kind]);
    }
}

void corpus_note(struct corpus_note *out_note, enum corpus_split split, uint64_t seed,
                 int32_t facts_min, int32_t facts_max)
{
    struct dice dice = dice_for(split, seed, 1);
    memset(out_note, 0, sizeof *out_note);
    out_note->fact_count = facts_min + roll(&dice, facts_max - facts_min + 1);

    char names[CORPUS_FACTS_MAX][CORPUS_NAME_BYTES];
    int32_t person_count = 2 + out_note->fact_count / 3 + roll(&dice, out_note->fact_count / 3 + 1);
    names_draw(&dice, split, names, person_count);

    int32_t order[CORPUS_FACTS_MAX];
    for (int32_t i = 0; i < out_note->fact_count; i++)
        order[i] = i;
    shuffle(&dice, order, out_note->fact_count);

    struct used used = {0};
    struct writer text = writer_into(out_note->text, sizeof out_note->text);
    for (int32_t i = 0; i < out_note->fact_count; i++) {
        struct slots slots;
        enum fact_kind kind;
        do
            kind = kind_draw(&dice);
        while (!fact_draw(&dice, kind, names, person_count, &used, &slots));
        if (i > 0)
            write_byte(&text, ' ');
        write_pattern(&text, FACTS[kind].fact, &slots);
        struct corpus_question *q = &out_note->questions[order[i]];
        struct writer answer = writer_into(q->answer, sizeof q->answer);
        struct writer question = writer_into(q->question, sizeof q->question);
        write_pattern(&answer, FACTS[kind].fact, &slots);
        write_pattern(&question, FACTS[kind].question, &slots);
    }
}

size_t corpus_ask(char *out_text, size_t capacity_bytes, const char *question)
{
    struct slots slots = {{[0] = question}};
    struct writer w = writer_into(out_text, capacity_bytes);
    write_pattern(&w, "\nQ: {a}\nA:", &slots);
    return w.bytes;
}

/* ---- Stories ---- */

/* slots: a animal, n its name, b the friend's animal, m the friend's name, o a third animal, k mood,
 *        q quality, t thing, s side, p place, r another place, e a third place, u another side,
 *        x weather, f food, g another food */
static const char *const OPENINGS[] = {
    "Once upon a time a {a} named {n} found a {q} {t} {s} the {p}.",
    "Once upon a time a {k} {a} named {n} lived {s} the {p}, and {n} had a {q} {t}.",
    "Once upon a time there was a {k} {a} named {n}. {n} lived {s} the {p} with a {q} {t}.",
    "Once upon a time a {a} named {n} made a {q} {t} and hung it {s} the {p}.",
};
static const char *const SETTINGS[] = {
    " It was a {x} day, and the {a} was happy.",
    " Every day {n} took the {t} to the {r} and sat there until dusk.",
    " The {a} had never seen such a {t} before.",
    " It was the best {t} in the land, and everyone knew it.",
    " \"What a good {t}!\" said {n}. \"I will keep it.\"",
};
static const char *const TROUBLES[] = {
    " One {x} day the {t} was gone. {n} looked {u} the {r}, but it was not there. {n} looked {s} "
    "the {e}, "
    "but it was not there.",
    (" One night the wind took the {t} away. In the morning {n} ran to the {r} and to the {e}, but "
     "there was "
     "no {t}."),
    " But on the way to the {r} the {t} fell and broke. {n} sat down and cried.",
    " One day {n} wanted to go to the {r}, but the road was long and the {t} was heavy.",
    " One day a {o} came to the {p} and wanted the {t}. \"It is mine,\" said the {o}.",
};
static const char *const MEETINGS[] = {
    " Then a {b} named {m} came by. \"Why are you sad?\" said {m}. \"It is my {t},\" said {n}.",
    (" Near the {e} {n} met a {b} named {m}. \"Can you help me?\" said {n}. \"Yes, I can,\" said "
     "{m}."),
    " There {n} saw a {k} {b}. The {b} was named {m}, and {m} knew what to do.",
};
static const char *const HELPS[] = {
    " So {n} and {m} went to the {r} together. They walked all day and ate {f} on the way.",
    " {m} asked the {o}, and the {o} said, \"Look {u} the {r}.\" So they looked {u} the {r}.",
    (" First they ate some {f}. Then {m} took a rope, and {n} took a lamp, and they went out to "
     "the "
     "{e}."),
    " \"Let us ask the {o},\" said {m}. The {o} was old and knew many things.",
};
static const char *const CURES[] = {
    " And there was the {q} {t}, {u} the {r}! \"Thank you!\" said {n}.",
    " By dusk the {t} was as good as new. \"Thank you, {m},\" said {n}.",
    " At last {m} found the {t} and gave it to {n}. The {a} danced and sang.",
    " They worked until the moon was high, and then all was well again.",
};
static const char *const ENDINGS[] = {
    " They went home and ate {g} by the fire. From that day on the {a} and the {b} were friends.",
    " {n} gave {m} a cup of tea and some {g}, and they were friends for a long time.",
    " From that day on {n} and {m} kept the {t} together {s} the {p}. The end.",
    " That night {n} slept well, and the {q} {t} was safe {s} the {p}. The end.",
    " And if you go to the {p} on a {x} day, you can still see {n} and {m} there.",
};

/*
 * A friend has one of a dozen names. Were it any name, a model that always takes the likeliest word
 * would take the hero's, for each other name is less likely than that.
 */
static void friend_draw(struct dice *dice, enum corpus_split split, const char *hero,
                        char out_name[CORPUS_NAME_BYTES])
{
    int32_t index = 17 + 311 * roll(dice, 12);
    do
        corpus_name(out_name, index++ % corpus_name_count());
    while (!name_allowed(out_name) || corpus_name_split(out_name) != split ||
           strncmp(out_name, hero, 2) == 0);
}

size_t corpus_story(char *out_text, size_t capacity_bytes, enum corpus_split split, uint64_t seed)
{
    struct dice dice = dice_for(split, seed, 2);
    char names[2][CORPUS_NAME_BYTES];
    names_draw(&dice, split, names, 1);
    friend_draw(&dice, split, names[0], names[1]);
    int32_t animals[LENGTH(ANIMALS)], places[LENGTH(PLACES)];
    for (int32_t i = 0; i < LENGTH(ANIMALS); i++)
        animals[i] = i;
    for (int32_t i = 0; i < LENGTH(PLACES); i++)
        places[i] = i;
    shuffle(&dice, animals, LENGTH(ANIMALS));
    shuffle(&dice, places, LENGTH(PLACES));

    struct slots slots = {{0}};
    slot_set(&slots, 'a', ANIMALS[animals[0]]);
    slot_set(&slots, 'b', ANIMALS[animals[1]]);
    slot_set(&slots, 'o', ANIMALS[animals[2]]);
    slot_set(&slots, 'n', names[0]);
    slot_set(&slots, 'm', names[1]);
    slot_set(&slots, 'k', PICK(&dice, MOODS));
    slot_set(&slots, 'q', PICK(&dice, QUALITIES));
    slot_set(&slots, 't', PICK(&dice, THINGS));
    slot_set(&slots, 's', PICK(&dice, SIDES));
    slot_set(&slots, 'u', PICK(&dice, SIDES));
    slot_set(&slots, 'p', PLACES[places[0]]);
    slot_set(&slots, 'r', PLACES[places[1]]);
    slot_set(&slots, 'e', PLACES[places[2]]);
    slot_set(&slots, 'x', PICK(&dice, WEATHERS));
    slot_set(&slots, 'f', PICK(&dice, FOODS));
    slot_set(&slots, 'g', PICK(&dice, FOODS));

    struct writer w = writer_into(out_text, capacity_bytes);
    write_pattern(&w, PICK(&dice, OPENINGS), &slots);
    write_pattern(&w, PICK(&dice, SETTINGS), &slots);
    if (chance(&dice, 50))
        write_pattern(&w, SETTINGS[1], &slots);
    write_pattern(&w, PICK(&dice, TROUBLES), &slots);
    write_pattern(&w, PICK(&dice, MEETINGS), &slots);
    write_pattern(&w, PICK(&dice, HELPS), &slots);
    write_pattern(&w, PICK(&dice, CURES), &slots);
    write_pattern(&w, PICK(&dice, ENDINGS), &slots);
    return w.bytes;
}

/* ---- The word list ---- */

const char *corpus_word(int32_t index, char *out_kind)
{
    static const struct {
        const char *const *words;
        int32_t count;
        char kind;
    } LISTS[] = {
        {NAME_BEGINNINGS, LENGTH(NAME_BEGINNINGS), 'b'},
        {NAME_ENDINGS, LENGTH(NAME_ENDINGS), 'e'},
        {QUALITIES, LENGTH(QUALITIES), 'w'},
        {THINGS, LENGTH(THINGS), 'w'},
        {PLACES, LENGTH(PLACES), 'w'},
        {SIDES, LENGTH(SIDES), 'w'},
        {TRADES, LENGTH(TRADES), 'w'},
        {BEASTS, LENGTH(BEASTS), 'w'},
        {NUMBERS, LENGTH(NUMBERS), 'w'},
        {FOODS, LENGTH(FOODS), 'w'},
        {HOURS, LENGTH(HOURS), 'w'},
        {KEEPING, LENGTH(KEEPING), 'w'},
        {&GIVING[0][0], 2 * LENGTH(GIVING), 'w'},
        {ANIMALS, LENGTH(ANIMALS), 'w'},
        {MOODS, LENGTH(MOODS), 'w'},
        {WEATHERS, LENGTH(WEATHERS), 'w'},
    };
    for (int32_t list = 0; list < LENGTH(LISTS); list++) {
        if (index < LISTS[list].count) {
            *out_kind = LISTS[list].kind;
            return LISTS[list].words[index];
        }
        index -= LISTS[list].count;
    }
    return NULL;
}
