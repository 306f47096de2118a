/*
 * vocab_image.h - a model's vocabulary as one flat, read-only block of bytes.
 *
 * Idea     Text lives in the client, tokens in the daemon. What a client needs in order to turn one into the
 *          other is compiled once, at load, into a position-independent image: a header, then sections that
 *          it names by offset. The engine deposits it as a sealed memfd; every client maps it and looks
 *          tokens up in place, so a vocabulary of 150,000 tokens costs a client one mmap and no parsing.
 *          Both hash tables are open-addressed with linear probing; the probe run is bounded by
 *          LLM_VOCAB_PROBES_MAX in the builder and in every look-up.
 * Owner    Whoever mapped the bytes. A view borrows them and owns nothing.
 * Threads  The bytes never change once sealed, so any number of threads may read them.
 * Trust    llm_vocab_image_check() believes nothing: magic, version, size and check value, then each offset,
 *          length and token id. After LLM_OK no look-up can leave the image, whatever it says about text.
 *          The bytes must not change after the check (F_SEAL_WRITE).
 * Wire     Little-endian. A change of any offset here is a new LLM_VOCAB_VERSION.
 * See      daemon/model/vocab_builder.h (who writes it), client/text/vocab.h (who reads it),
 *          tests/shm/test_vocab_image.c.
 */
#ifndef LLM_SHM_VOCAB_IMAGE_H
#define LLM_SHM_VOCAB_IMAGE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/status.h"

#define LLM_VOCAB_MAGIC             UINT64_C(0x424143564d4c4c01) /* "\1LLMVCAB" in memory */
#define LLM_VOCAB_VERSION           2u
#define LLM_VOCAB_NAME_BYTES        64u
#define LLM_VOCAB_FINGERPRINT_BYTES 32u
#define LLM_VOCAB_TOKENS_MAX        (1u << 22)
#define LLM_VOCAB_IMAGE_BYTES_MAX   (UINT64_C(1) << 30)
#define LLM_VOCAB_TOKEN_BYTES_MAX   4096u /* longest token */
#define LLM_VOCAB_PATTERN_BYTES_MAX 16384u
#define LLM_VOCAB_SPLITS_MAX        8u
#define LLM_VOCAB_EOS_MAX           16u
#define LLM_VOCAB_AFFIXES_MAX       8u
#define LLM_VOCAB_PROBES_MAX        512u
#define LLM_CHARSMAP_TEXT_MAX       255u /* longest replacement of one entry */
#define LLM_VOCAB_JUNCTION_BYTES    8192u
#define LLM_TOKEN_NONE              UINT32_MAX /* "no such token"; never a valid id */

enum llm_vocab_kind {
    LLM_VOCAB_TOKENS_ONLY = 0,   /* no tokeniser: ids go in, ids come out */
    LLM_VOCAB_BYTE_LEVEL = 1,    /* BPE over bytes (GPT-2, Llama 3, Qwen) */
    LLM_VOCAB_SENTENCEPIECE = 2, /* BPE over characters, unknown ones as byte tokens (Llama 2) */
};

enum llm_vocab_normal_form { /* Unicode Standard Annex 15 */
    LLM_VOCAB_FORM_NONE = 0,
    LLM_VOCAB_FORM_NFC = 1,
    LLM_VOCAB_FORM_NFD = 2,
    LLM_VOCAB_FORM_NFKC = 3,
    LLM_VOCAB_FORM_NFKD = 4,
};

enum llm_vocab_flags {
    LLM_VOCAB_IGNORE_MERGES = 1u << 0, /* a pre-token that is a token is taken whole */
    LLM_VOCAB_FUSE_UNKNOWN = 1u << 1,  /* neighbouring unknown characters become one unk_id */
    LLM_VOCAB_PREFIX_SPACE = 1u << 2,  /* a space goes before the text and after each added token */
    LLM_VOCAB_PREFIX_FIRST = 1u << 3,  /* with PREFIX_SPACE: only before the text */
    LLM_VOCAB_PREFIX_UNLESS = 1u << 4, /* with PREFIX_SPACE: not where a space stands already */
    LLM_VOCAB_SPACE_MARKS = 1u << 5,   /* patterns see U+2581 for every space */
    LLM_VOCAB_DROP_FIRST_SPACE = 1u << 6, /* decoding drops one space at the very start */
    LLM_VOCAB_TRIM_SPACES =
        1u << 7, /* spaces at the ends go, and of several in a row one is left */
    LLM_VOCAB_SPLIT_TOKENS = 1u << 8, /* some tokens are LLM_TOKEN_SPLIT */
};
#define LLM_VOCAB_FLAGS_KNOWN 0x1ffu

enum llm_vocab_token_flags { /* one byte per token */
    LLM_TOKEN_BYTE =
        1u << 0, /* stands for one raw byte that no other token covers (byte fallback) */
    LLM_TOKEN_SPECIAL =
        1u << 1, /* control: never produced from plain text, not shown in decoded text */
    LLM_TOKEN_ADDED = 1u << 2,  /* matched as a whole before everything else; not made by merges */
    LLM_TOKEN_UNUSED = 1u << 3, /* the model has a row for it, the tokeniser has no text */
    LLM_TOKEN_SPLIT =
        1u
        << 4, /* merges lead through it; what is left of it goes as its parts, a character as unknown */
};
#define LLM_TOKEN_FLAGS_KNOWN 0x1fu

enum llm_vocab_section_id {
    LLM_VOCAB_TOKEN_OFFSETS, /* uint32_t[token_count + 1]: token i is bytes [offsets[i], offsets[i + 1]) */
    LLM_VOCAB_TOKEN_BYTES, /* the tokens' bytes as they come out in text */
    LLM_VOCAB_TOKEN_FLAGS, /* uint8_t[token_count] */
    LLM_VOCAB_BYTE_TOKENS, /* uint32_t[256]: byte -> id, or LLM_TOKEN_NONE */
    LLM_VOCAB_MERGES,      /* struct llm_vocab_merge[power of two], empty slots have left == NONE */
    LLM_VOCAB_LOOKUP, /* uint32_t[power of two]: whole bytes -> id of an ordinary token, or NONE */
    LLM_VOCAB_JUNCTIONS, /* uint8_t[8192]: bit (x << 8 | y) of 65,536: some merge joins ...x and y... */
    LLM_VOCAB_ADDED,     /* struct llm_vocab_added[added_count], ascending by token bytes */
    LLM_VOCAB_SPLITS,   /* struct llm_vocab_split[split_count], applied in order */
    LLM_VOCAB_PATTERNS, /* the splits' patterns */
    LLM_VOCAB_TEMPLATE, /* the chat template's text; empty when the model has none */
    LLM_VOCAB_CHARSMAP, /* struct llm_vocab_charsmap and what follows it; empty when the model has none */
    LLM_VOCAB_SECTION_COUNT
};

struct llm_vocab_section {
    uint64_t offset; /* from the start of the image, multiple of 8 */
    uint64_t bytes;
};

/* left, right -> merged; lower ranks first, of equal ones the leftmost; rank < the table's slots */
struct llm_vocab_merge {
    uint32_t left;
    uint32_t right;
    uint32_t rank;
    uint32_t merged;
};
static_assert(sizeof(struct llm_vocab_merge) == 16, "wire size");

enum llm_vocab_added_flags {
    LLM_ADDED_SPECIAL = 1u << 0,     /* only where the caller allows special tokens in the text */
    LLM_ADDED_SINGLE_WORD = 1u << 1, /* not inside a word */
    LLM_ADDED_STRIP_LEFT = 1u << 2,  /* swallows white space before it */
    LLM_ADDED_STRIP_RIGHT = 1u << 3, /* swallows white space after it */
    LLM_ADDED_INSIDE =
        1u << 4, /* SentencePiece's user-defined piece: found behind the normal form */
};
#define LLM_ADDED_FLAGS_KNOWN 0x1fu

struct llm_vocab_added {
    uint32_t id;
    uint32_t flags; /* enum llm_vocab_added_flags */
};
static_assert(sizeof(struct llm_vocab_added) == 8, "wire size");

enum llm_vocab_split_keep {
    LLM_SPLIT_KEEP_MATCHES = 1u << 0, /* what the pattern matches becomes pieces */
    LLM_SPLIT_KEEP_GAPS = 1u << 1,    /* what lies between matches becomes pieces */
};

struct llm_vocab_split {     /* PCRE2 pattern, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C */
    uint32_t pattern_offset; /* into LLM_VOCAB_PATTERNS */
    uint32_t pattern_bytes;  /* 1..LLM_VOCAB_PATTERN_BYTES_MAX */
    uint32_t keep;           /* enum llm_vocab_split_keep, 1..3 */
    uint32_t reserved;
};
static_assert(sizeof(struct llm_vocab_split) == 16, "wire size");

/*
 * SentencePiece's table of characters and what they become (precompiled_charsmap): a double array that maps the
 * longest known beginning of a text to a terminated string. From node n, byte c leads to n ^ LLM_CHARSMAP_OFFSET(
 * unit[n]) ^ c if the unit there has c as its label; a unit with a value has it at n ^ offset. Yata, Morita,
 * Fuketa, Aoe 2008; https://github.com/s-yata/darts-clone.
 */
struct llm_vocab_charsmap {
    uint32_t unit_count; /* uint32_t units follow, then text_bytes bytes, the last of them zero */
    uint32_t text_bytes;
};
static_assert(sizeof(struct llm_vocab_charsmap) == 8, "wire size");
#define LLM_CHARSMAP_IS_VALUE(unit)  ((unit) >> 31)       /* else a transition */
#define LLM_CHARSMAP_VALUE(unit)     ((unit)&0x7fffffffu) /* where in the text */
#define LLM_CHARSMAP_LABEL(unit)     ((unit)&0x800000ffu)
#define LLM_CHARSMAP_HAS_VALUE(unit) ((unit) >> 8 & 1u)
#define LLM_CHARSMAP_OFFSET(unit)    ((unit) >> 10 << (((unit) >> 9 & 1u) * 8u))

struct llm_vocab_header {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes;
    uint64_t image_bytes;
    uint64_t check;       /* llm_vocab_image_sum() of everything after this field */
    uint32_t kind;        /* enum llm_vocab_kind */
    uint32_t flags;       /* enum llm_vocab_flags */
    uint32_t normal_form; /* enum llm_vocab_normal_form */
    uint32_t token_count; /* 1..LLM_VOCAB_TOKENS_MAX: the model's vocabulary, gaps included */
    uint32_t context_max_tokens; /* prompt and answer together */
    uint32_t bos_id;             /* or LLM_TOKEN_NONE */
    uint32_t unk_id;             /* or LLM_TOKEN_NONE */
    uint32_t eos_count;
    uint32_t prefix_count; /* ids put before a text with LLM_ENCODE_AFFIXES (often bos) */
    uint32_t suffix_count; /* ids put after it */
    uint32_t added_count;
    uint32_t split_count;
    uint32_t token_bytes_max; /* the longest token */
    uint32_t reserved0;
    uint32_t eos_ids[LLM_VOCAB_EOS_MAX];
    uint32_t prefix_ids[LLM_VOCAB_AFFIXES_MAX];
    uint32_t suffix_ids[LLM_VOCAB_AFFIXES_MAX];
    uint8_t fingerprint[LLM_VOCAB_FINGERPRINT_BYTES]; /* of the model's weights and configuration */
    char name[LLM_VOCAB_NAME_BYTES];                  /* zero-terminated */
    struct llm_vocab_section sections[LLM_VOCAB_SECTION_COUNT];
    uint32_t
        template_bos_id; /* what the chat template means by bos_token, or LLM_TOKEN_NONE: nothing */
    uint32_t template_eos_id; /* ... by eos_token */
};
static_assert(sizeof(struct llm_vocab_header) == 512, "wire size");
static_assert(offsetof(struct llm_vocab_header, version) == 8, "wire");
static_assert(offsetof(struct llm_vocab_header, header_bytes) == 12, "wire");
static_assert(offsetof(struct llm_vocab_header, image_bytes) == 16, "wire");
static_assert(offsetof(struct llm_vocab_header, check) == 24, "wire");
static_assert(offsetof(struct llm_vocab_header, kind) == 32, "wire");
static_assert(offsetof(struct llm_vocab_header, flags) == 36, "wire");
static_assert(offsetof(struct llm_vocab_header, normal_form) == 40, "wire");
static_assert(offsetof(struct llm_vocab_header, token_count) == 44, "wire");
static_assert(offsetof(struct llm_vocab_header, context_max_tokens) == 48, "wire");
static_assert(offsetof(struct llm_vocab_header, bos_id) == 52, "wire");
static_assert(offsetof(struct llm_vocab_header, unk_id) == 56, "wire");
static_assert(offsetof(struct llm_vocab_header, eos_count) == 60, "wire");
static_assert(offsetof(struct llm_vocab_header, prefix_count) == 64, "wire");
static_assert(offsetof(struct llm_vocab_header, suffix_count) == 68, "wire");
static_assert(offsetof(struct llm_vocab_header, added_count) == 72, "wire");
static_assert(offsetof(struct llm_vocab_header, split_count) == 76, "wire");
static_assert(offsetof(struct llm_vocab_header, token_bytes_max) == 80, "wire");
static_assert(offsetof(struct llm_vocab_header, eos_ids) == 88, "wire");
static_assert(offsetof(struct llm_vocab_header, prefix_ids) == 152, "wire");
static_assert(offsetof(struct llm_vocab_header, suffix_ids) == 184, "wire");
static_assert(offsetof(struct llm_vocab_header, fingerprint) == 216, "wire");
static_assert(offsetof(struct llm_vocab_header, name) == 248, "wire");
static_assert(offsetof(struct llm_vocab_header, sections) == 312, "wire");
static_assert(offsetof(struct llm_vocab_header, template_bos_id) == 504, "wire");
static_assert(offsetof(struct llm_vocab_header, template_eos_id) == 508, "wire");

/* Typed pointers into a checked image. */
struct llm_vocab_view {
    const struct llm_vocab_header *header;
    const uint32_t *token_offsets; /* [token_count + 1] */
    const uint8_t *token_bytes;
    const uint8_t *token_flags;           /* [token_count] */
    const uint32_t *byte_tokens;          /* [256]; NULL for tokens-only */
    const struct llm_vocab_merge *merges; /* [merge_slots] */
    uint32_t merge_slots;                 /* 0 or a power of two */
    const uint32_t *lookup;               /* [lookup_slots] */
    uint32_t lookup_slots;                /* 0 or a power of two */
    const uint8_t *junctions;             /* [LLM_VOCAB_JUNCTION_BYTES]; NULL for tokens-only */
    const struct llm_vocab_added *added;  /* [added_count] */
    const struct llm_vocab_split *splits; /* [split_count] */
    const char *patterns;
    const char *chat_template; /* [template_bytes], not terminated */
    size_t template_bytes;
    const uint32_t *charsmap; /* [charsmap_units]; NULL when there is none */
    uint32_t charsmap_units;
    const char *charsmap_text; /* terminated strings */
};

/*
 * Validate an image and find its sections.
 *
 *   image     [bytes], 8-byte aligned; must stay as it is for as long as the view is used
 *   out_view  borrows `image`
 *   returns   LLM_OK
 *             LLM_ERR_INVALID  `image` is NULL or not aligned
 *             LLM_ERR_VERSION  written by another version of llmd; restart or update one of the two
 *             LLM_ERR_CORRUPT  not a vocab image, or a damaged one; the sentence names the field
 */
LLM_MUST_CHECK enum llm_status llm_vocab_image_check(const void *image, size_t bytes,
                                                     struct llm_vocab_view *out_view,
                                                     struct llm_error *error);

/* The check value: FNV-1a over 64-bit words. Every step is a bijection of the running value, so damage
 * within one word is always seen. It detects accidents; against intent stands the full validation. */
uint64_t llm_vocab_image_sum(const void *image, size_t bytes);

/*
 * Whether a double array and its strings can be followed without leaving them (the section's check, and the
 * builder's on the file it comes from).
 *
 *   units      [unit_count]
 *   text       [text_bytes]
 *   out_what   static: what is wrong, as in "what is value"
 */
bool llm_charsmap_sane(const uint32_t *units, uint64_t unit_count, const char *text,
                       uint64_t text_bytes, const char **out_what, uint64_t *out_value);

/* The bytes of token `id` (below token_count). */
static inline const uint8_t *llm_vocab_token(const struct llm_vocab_view *view, uint32_t id,
                                             size_t *out_bytes)
{
    *out_bytes = view->token_offsets[id + 1] - view->token_offsets[id];
    return view->token_bytes + view->token_offsets[id];
}

/* Whether any merge could ever join a token that ends with byte `left` to one that starts with byte `right`.
 * Where none could, a text may be cut without changing its tokens. */
static inline bool llm_vocab_joins(const struct llm_vocab_view *view, uint8_t left, uint8_t right)
{
    return view->junctions[left * 32 + right / 8] >> right % 8 & 1;
}

/* First slots of the two tables; the mask is the table's size - 1. */
static inline uint32_t llm_vocab_hash_pair(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * UINT64_C(0x9e3779b97f4a7c15);
    h ^=
        h >> 32; /* Fibonacci hashing, then a second round so that both halves reach the low bits */
    h *= UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(h >> 32);
}

static inline uint32_t llm_vocab_hash_bytes(const uint8_t *bytes, size_t count)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a, draft-eastlake-fnv */
    for (size_t i = 0; i < count; i++)
        h = (h ^ bytes[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(h ^ h >> 32);
}

/* The merge of two neighbours, or NULL when they do not merge. */
const struct llm_vocab_merge *llm_vocab_find_merge(const struct llm_vocab_view *view, uint32_t left,
                                                   uint32_t right);
/* The ordinary token with exactly these bytes, or LLM_TOKEN_NONE. */
uint32_t llm_vocab_find_token(const struct llm_vocab_view *view, const uint8_t *bytes,
                              size_t count);

#endif
