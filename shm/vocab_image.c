#include "shm/vocab_image.h"

#include <string.h>

uint64_t llm_vocab_image_sum(const void *image, size_t bytes)
{
    const size_t start = offsetof(struct llm_vocab_header, check) + sizeof(uint64_t);
    const unsigned char *at = (const unsigned char *)image + start;
    size_t left = bytes > start ? bytes - start : 0;
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    while (left > 0) {
        uint64_t word = 0;
        size_t take = left < sizeof word ? left : sizeof word;
        memcpy(&word, at, take);
        sum = (sum ^ word) * UINT64_C(0x100000001b3);
        at += take;
        left -= take;
    }
    return sum;
}

/* ---- The check ------------------------------------------------------------------------------------ */

static enum llm_status corrupt(struct llm_error *error, const char *what, uint64_t value)
{
    return llm_fail(error, LLM_ERR_CORRUPT, "vocab image: %s is %llu", what,
                    (unsigned long long)value);
}

static enum llm_status check_envelope(const void *image, size_t bytes, struct llm_error *error)
{
    const struct llm_vocab_header *h = image;
    if (!image || (uintptr_t)image % 8 != 0)
        return llm_fail(error, LLM_ERR_INVALID, "vocab image: address %p is not 8-byte aligned",
                        image);
    if (bytes < sizeof *h || bytes > LLM_VOCAB_IMAGE_BYTES_MAX)
        return corrupt(error, "size", bytes);
    if (h->magic != LLM_VOCAB_MAGIC)
        return corrupt(error, "magic", h->magic);
    if (h->version != LLM_VOCAB_VERSION)
        return llm_fail(error, LLM_ERR_VERSION, "vocab image: version is %u, this side reads %u",
                        h->version, LLM_VOCAB_VERSION);
    if (h->header_bytes != sizeof *h)
        return corrupt(error, "header size", h->header_bytes);
    /* A mapping may be longer than the image (whole pages), never shorter. */
    if (h->image_bytes < sizeof *h || h->image_bytes > bytes)
        return corrupt(error, "image size", h->image_bytes);
    if (h->check != llm_vocab_image_sum(image, (size_t)h->image_bytes))
        return corrupt(error, "check value", h->check);
    return LLM_OK;
}

static bool id_or_none(const struct llm_vocab_header *h, uint32_t id)
{
    return id < h->token_count || id == LLM_TOKEN_NONE;
}

static enum llm_status check_ids(const struct llm_vocab_header *h, const char *what,
                                 const uint32_t *ids, uint32_t count, uint32_t count_max,
                                 struct llm_error *error)
{
    if (count > count_max)
        return llm_fail(error, LLM_ERR_CORRUPT, "vocab image: %u %s ids, at most %u", count, what,
                        count_max);
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] >= h->token_count)
            return llm_fail(error, LLM_ERR_CORRUPT, "vocab image: %s id %u of %u tokens", what,
                            ids[i], h->token_count);
    return LLM_OK;
}

static enum llm_status check_facts(const struct llm_vocab_header *h, struct llm_error *error)
{
    if (h->kind > LLM_VOCAB_SENTENCEPIECE)
        return corrupt(error, "kind", h->kind);
    if (h->flags & ~LLM_VOCAB_FLAGS_KNOWN)
        return corrupt(error, "flags", h->flags);
    if (h->normal_form > LLM_VOCAB_FORM_NFKD)
        return corrupt(error, "normal form", h->normal_form);
    if (h->token_count == 0 || h->token_count > LLM_VOCAB_TOKENS_MAX)
        return corrupt(error, "token count", h->token_count);
    if (!id_or_none(h, h->bos_id))
        return corrupt(error, "bos id", h->bos_id);
    if (!id_or_none(h, h->unk_id))
        return corrupt(error, "unk id", h->unk_id);
    if (!id_or_none(h, h->template_bos_id))
        return corrupt(error, "the template's bos id", h->template_bos_id);
    if (!id_or_none(h, h->template_eos_id))
        return corrupt(error, "the template's eos id", h->template_eos_id);
    if (memchr(h->name, 0, sizeof h->name) == NULL)
        return llm_fail(error, LLM_ERR_CORRUPT, "vocab image: the name has no end");
    enum llm_status status =
        check_ids(h, "eos", h->eos_ids, h->eos_count, LLM_VOCAB_EOS_MAX, error);
    if (status == LLM_OK)
        status =
            check_ids(h, "prefix", h->prefix_ids, h->prefix_count, LLM_VOCAB_AFFIXES_MAX, error);
    if (status == LLM_OK)
        status =
            check_ids(h, "suffix", h->suffix_ids, h->suffix_count, LLM_VOCAB_AFFIXES_MAX, error);
    return status;
}

static const char *const section_names[LLM_VOCAB_SECTION_COUNT] = {
    [LLM_VOCAB_TOKEN_OFFSETS] = "token offsets",
    [LLM_VOCAB_TOKEN_BYTES] = "token bytes",
    [LLM_VOCAB_TOKEN_FLAGS] = "token flags",
    [LLM_VOCAB_BYTE_TOKENS] = "byte tokens",
    [LLM_VOCAB_MERGES] = "merges",
    [LLM_VOCAB_LOOKUP] = "lookup",
    [LLM_VOCAB_JUNCTIONS] = "junctions",
    [LLM_VOCAB_ADDED] = "added tokens",
    [LLM_VOCAB_SPLITS] = "splits",
    [LLM_VOCAB_PATTERNS] = "patterns",
    [LLM_VOCAB_TEMPLATE] = "chat template",
    [LLM_VOCAB_CHARSMAP] = "charsmap",
};

static bool table_size_valid(uint64_t bytes, uint64_t slot_bytes)
{
    uint64_t slots = bytes / slot_bytes;
    return bytes % slot_bytes == 0 && (slots & (slots - 1)) == 0 && slots <= UINT32_MAX / 2;
}

static bool section_size_valid(const struct llm_vocab_header *h, enum llm_vocab_section_id id,
                               uint64_t bytes)
{
    switch (id) {
    case LLM_VOCAB_TOKEN_OFFSETS:
        return bytes == ((uint64_t)h->token_count + 1) * sizeof(uint32_t);
    case LLM_VOCAB_TOKEN_FLAGS:
        return bytes == h->token_count;
    case LLM_VOCAB_BYTE_TOKENS:
        return bytes == (h->kind == LLM_VOCAB_TOKENS_ONLY ? 0 : 256 * sizeof(uint32_t));
    case LLM_VOCAB_MERGES:
        return table_size_valid(bytes, sizeof(struct llm_vocab_merge));
    case LLM_VOCAB_LOOKUP:
        return table_size_valid(bytes, sizeof(uint32_t));
    case LLM_VOCAB_JUNCTIONS:
        return bytes == (h->kind == LLM_VOCAB_TOKENS_ONLY ? 0 : LLM_VOCAB_JUNCTION_BYTES);
    case LLM_VOCAB_ADDED:
        return h->added_count <= h->token_count &&
               bytes == (uint64_t)h->added_count * sizeof(struct llm_vocab_added);
    case LLM_VOCAB_SPLITS:
        return h->split_count <= LLM_VOCAB_SPLITS_MAX &&
               bytes == h->split_count * sizeof(struct llm_vocab_split);
    case LLM_VOCAB_TOKEN_BYTES:
    case LLM_VOCAB_PATTERNS:
    case LLM_VOCAB_TEMPLATE:
        return true;
    case LLM_VOCAB_CHARSMAP:
        return bytes == 0 || bytes >= sizeof(struct llm_vocab_charsmap);
    case LLM_VOCAB_SECTION_COUNT:
        break;
    }
    return false;
}

static enum llm_status check_sections(const struct llm_vocab_header *h, struct llm_error *error)
{
    for (int i = 0; i < LLM_VOCAB_SECTION_COUNT; i++) {
        const struct llm_vocab_section *s = &h->sections[i];
        if (s->offset % 8 != 0 || s->offset < sizeof *h || s->offset > h->image_bytes ||
            s->bytes > h->image_bytes - s->offset ||
            !section_size_valid(h, (enum llm_vocab_section_id)i, s->bytes))
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "vocab image: section \"%s\" has %llu bytes at offset %llu of %llu",
                            section_names[i], (unsigned long long)s->bytes,
                            (unsigned long long)s->offset, (unsigned long long)h->image_bytes);
    }
    return LLM_OK;
}

static const void *section(const struct llm_vocab_header *h, enum llm_vocab_section_id id)
{
    return (const unsigned char *)h + h->sections[id].offset;
}

static struct llm_vocab_view view_of(const struct llm_vocab_header *h)
{
    const struct llm_vocab_charsmap *charsmap =
        h->sections[LLM_VOCAB_CHARSMAP].bytes > 0 ? section(h, LLM_VOCAB_CHARSMAP) : NULL;
    return (struct llm_vocab_view){
        .header = h,
        .token_offsets = section(h, LLM_VOCAB_TOKEN_OFFSETS),
        .token_bytes = section(h, LLM_VOCAB_TOKEN_BYTES),
        .token_flags = section(h, LLM_VOCAB_TOKEN_FLAGS),
        .byte_tokens = h->kind == LLM_VOCAB_TOKENS_ONLY ? NULL : section(h, LLM_VOCAB_BYTE_TOKENS),
        .merges = section(h, LLM_VOCAB_MERGES),
        .merge_slots =
            (uint32_t)(h->sections[LLM_VOCAB_MERGES].bytes / sizeof(struct llm_vocab_merge)),
        .lookup = section(h, LLM_VOCAB_LOOKUP),
        .lookup_slots = (uint32_t)(h->sections[LLM_VOCAB_LOOKUP].bytes / sizeof(uint32_t)),
        .junctions = h->kind == LLM_VOCAB_TOKENS_ONLY ? NULL : section(h, LLM_VOCAB_JUNCTIONS),
        .added = section(h, LLM_VOCAB_ADDED),
        .splits = section(h, LLM_VOCAB_SPLITS),
        .patterns = section(h, LLM_VOCAB_PATTERNS),
        .chat_template = section(h, LLM_VOCAB_TEMPLATE),
        .template_bytes = (size_t)h->sections[LLM_VOCAB_TEMPLATE].bytes,
        .charsmap = charsmap ? (const uint32_t *)(charsmap + 1) : NULL,
        .charsmap_units = charsmap ? charsmap->unit_count : 0,
        .charsmap_text =
            charsmap ? (const char *)(charsmap + 1) + (uint64_t)charsmap->unit_count * 4 : NULL,
    };
}

static enum llm_status check_tokens(const struct llm_vocab_view *view, struct llm_error *error)
{
    const struct llm_vocab_header *h = view->header;
    uint32_t longest = 0;
    if (view->token_offsets[0] != 0)
        return corrupt(error, "the first token's offset", view->token_offsets[0]);
    for (uint32_t i = 0; i < h->token_count; i++) {
        if (view->token_offsets[i + 1] < view->token_offsets[i])
            return llm_fail(error, LLM_ERR_CORRUPT, "vocab image: token %u ends before it starts",
                            i);
        if (view->token_flags[i] & ~LLM_TOKEN_FLAGS_KNOWN)
            return llm_fail(error, LLM_ERR_CORRUPT, "vocab image: token %u has flags 0x%x", i,
                            view->token_flags[i]);
        uint32_t bytes = view->token_offsets[i + 1] - view->token_offsets[i];
        longest = bytes > longest ? bytes : longest;
    }
    if (view->token_offsets[h->token_count] != h->sections[LLM_VOCAB_TOKEN_BYTES].bytes)
        return corrupt(error, "the last token's end", view->token_offsets[h->token_count]);
    if (longest != h->token_bytes_max || longest > LLM_VOCAB_TOKEN_BYTES_MAX)
        return corrupt(error, "the longest token's size", h->token_bytes_max);
    return LLM_OK;
}

/* A token that is given as its parts must be longer than each of them: then giving it ends. */
static bool split_shrinks(const struct llm_vocab_view *view, const struct llm_vocab_merge *m)
{
    if (!(view->token_flags[m->merged] & LLM_TOKEN_SPLIT))
        return true;
    size_t left, right, merged;
    (void)llm_vocab_token(view, m->left, &left);
    (void)llm_vocab_token(view, m->right, &right);
    (void)llm_vocab_token(view, m->merged, &merged);
    return left > 0 && right > 0 && left + right == merged;
}

static enum llm_status check_tables(const struct llm_vocab_view *view, struct llm_error *error)
{
    const struct llm_vocab_header *h = view->header;
    for (uint32_t i = 0; view->byte_tokens && i < 256; i++)
        if (!id_or_none(h, view->byte_tokens[i]))
            return llm_fail(error, LLM_ERR_CORRUPT, "vocab image: byte 0x%02x is token %u", i,
                            view->byte_tokens[i]);
    for (uint32_t i = 0; i < view->lookup_slots; i++)
        if (!id_or_none(h, view->lookup[i]))
            return llm_fail(error, LLM_ERR_CORRUPT, "vocab image: lookup slot %u is token %u", i,
                            view->lookup[i]);
    for (uint32_t i = 0; i < view->merge_slots; i++) {
        const struct llm_vocab_merge *m = &view->merges[i];
        if (m->left != LLM_TOKEN_NONE && (m->left >= h->token_count || m->right >= h->token_count ||
                                          m->merged >= h->token_count ||
                                          m->rank >= view->merge_slots || !split_shrinks(view, m)))
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "vocab image: merge slot %u is %u + %u -> %u, rank %u", i, m->left,
                            m->right, m->merged, m->rank);
    }
    return LLM_OK;
}

static int compare_bytes(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static enum llm_status check_added(const struct llm_vocab_view *view, struct llm_error *error)
{
    const uint8_t *last = NULL;
    size_t last_bytes = 0;
    for (uint32_t i = 0; i < view->header->added_count; i++) {
        const struct llm_vocab_added *a = &view->added[i];
        if (a->id >= view->header->token_count || a->flags & ~LLM_ADDED_FLAGS_KNOWN)
            return llm_fail(error, LLM_ERR_CORRUPT, "vocab image: added token %u is %u, flags 0x%x",
                            i, a->id, a->flags);
        size_t bytes;
        const uint8_t *token = llm_vocab_token(view, a->id, &bytes);
        if (bytes == 0 || (last && compare_bytes(last, last_bytes, token, bytes) >= 0))
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "vocab image: added token %u is empty or out of order", a->id);
        last = token;
        last_bytes = bytes;
    }
    return LLM_OK;
}

static enum llm_status check_splits(const struct llm_vocab_view *view, struct llm_error *error)
{
    uint64_t pattern_bytes = view->header->sections[LLM_VOCAB_PATTERNS].bytes;
    for (uint32_t i = 0; i < view->header->split_count; i++) {
        const struct llm_vocab_split *s = &view->splits[i];
        if (s->keep == 0 || s->keep > (LLM_SPLIT_KEEP_MATCHES | LLM_SPLIT_KEEP_GAPS) ||
            s->pattern_bytes == 0 || s->pattern_bytes > LLM_VOCAB_PATTERN_BYTES_MAX ||
            s->pattern_offset > pattern_bytes ||
            s->pattern_bytes > pattern_bytes - s->pattern_offset)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "vocab image: split %u keeps %u, pattern of %u bytes at %u", i, s->keep,
                            s->pattern_bytes, s->pattern_offset);
    }
    return LLM_OK;
}

/* Every transition stays inside the array whatever the byte, and every value is a short terminated string. So a
 * walk needs no further look at bounds; that it ends is the text's doing. */
bool llm_charsmap_sane(const uint32_t *units, uint64_t unit_count, const char *text,
                       uint64_t text_bytes, const char **out_what, uint64_t *out_value)
{
    *out_what = "the charsmap's number of units";
    *out_value = unit_count;
    if (unit_count == 0 || unit_count > LLM_VOCAB_IMAGE_BYTES_MAX / 4)
        return false;
    *out_what = "the end of the charsmap's text";
    *out_value = text_bytes > 0 ? (uint8_t)text[text_bytes - 1] : 0;
    if (text_bytes == 0 || *out_value != 0)
        return false;
    for (uint64_t i = 0; i < unit_count; i++) {
        *out_what = "a charsmap unit";
        *out_value = units[i];
        if (i == 0 && LLM_CHARSMAP_IS_VALUE(units[0])) /* the root */
            return false;
        uint64_t value = LLM_CHARSMAP_VALUE(units[i]), next = i ^ LLM_CHARSMAP_OFFSET(units[i]);
        if (LLM_CHARSMAP_IS_VALUE(units[i])) {
            if (value >= text_bytes ||
                strnlen(text + value, LLM_CHARSMAP_TEXT_MAX + 1) > LLM_CHARSMAP_TEXT_MAX)
                return false;
        } else if ((next | 0xff) >= unit_count ||
                   (LLM_CHARSMAP_HAS_VALUE(units[i]) && !LLM_CHARSMAP_IS_VALUE(units[next]))) {
            return false;
        }
    }
    return true;
}

static enum llm_status check_charsmap(const struct llm_vocab_view *view, struct llm_error *error)
{
    if (!view->charsmap)
        return LLM_OK;
    const struct llm_vocab_charsmap *map = section(view->header, LLM_VOCAB_CHARSMAP);
    uint64_t bytes = view->header->sections[LLM_VOCAB_CHARSMAP].bytes;
    if (bytes != sizeof *map + (uint64_t)map->unit_count * 4 + map->text_bytes)
        return corrupt(error, "the charsmap's size", bytes);
    const char *what;
    uint64_t value;
    if (!llm_charsmap_sane(view->charsmap, map->unit_count, view->charsmap_text, map->text_bytes,
                           &what, &value))
        return corrupt(error, what, value);
    return LLM_OK;
}

enum llm_status llm_vocab_image_check(const void *image, size_t bytes,
                                      struct llm_vocab_view *out_view, struct llm_error *error)
{
    enum llm_status status = check_envelope(image, bytes, error);
    if (status == LLM_OK)
        status = check_facts(image, error);
    if (status == LLM_OK)
        status = check_sections(image, error);
    if (status != LLM_OK)
        return status;

    struct llm_vocab_view view = view_of(image);
    status = check_tokens(&view, error);
    if (status == LLM_OK)
        status = check_tables(&view, error);
    if (status == LLM_OK)
        status = check_added(&view, error);
    if (status == LLM_OK)
        status = check_splits(&view, error);
    if (status == LLM_OK)
        status = check_charsmap(&view, error);
    if (status == LLM_OK)
        *out_view = view;
    return status;
}

/* ---- Look-ups ------------------------------------------------------------------------------------- */

const struct llm_vocab_merge *llm_vocab_find_merge(const struct llm_vocab_view *view, uint32_t left,
                                                   uint32_t right)
{
    if (view->merge_slots == 0)
        return NULL;
    uint32_t mask = view->merge_slots - 1;
    uint32_t slot = llm_vocab_hash_pair(left, right) & mask;
    for (uint32_t probe = 0; probe < LLM_VOCAB_PROBES_MAX; probe++) {
        const struct llm_vocab_merge *m = &view->merges[slot];
        if (m->left == left && m->right == right)
            return m;
        if (m->left == LLM_TOKEN_NONE)
            return NULL;
        slot = (slot + 1) & mask;
    }
    return NULL;
}

uint32_t llm_vocab_find_token(const struct llm_vocab_view *view, const uint8_t *bytes, size_t count)
{
    if (view->lookup_slots == 0)
        return LLM_TOKEN_NONE;
    uint32_t mask = view->lookup_slots - 1;
    uint32_t slot = llm_vocab_hash_bytes(bytes, count) & mask;
    for (uint32_t probe = 0; probe < LLM_VOCAB_PROBES_MAX; probe++) {
        uint32_t id = view->lookup[slot];
        if (id == LLM_TOKEN_NONE)
            return id;
        size_t token_bytes;
        const uint8_t *token = llm_vocab_token(view, id, &token_bytes);
        if (token_bytes == count && memcmp(token, bytes, count) == 0)
            return id;
        slot = (slot + 1) & mask;
    }
    return LLM_TOKEN_NONE;
}
