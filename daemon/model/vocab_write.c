/* The draft as an image: sizes first, then one block, then each section into its place. */
#include <stdlib.h>
#include <string.h>

#include "daemon/model/vocab_draft.h"
#include "shm/check.h"

/* The smallest power of two that leaves a table at most half full, so that probe runs stay short. */
static uint32_t table_slots(uint32_t entries)
{
    uint32_t slots = 1;
    while (slots < 2 * entries)
        slots *= 2;
    return entries ? slots : 0;
}

static bool is_ordinary(const struct draft_token *token)
{
    return !(token->flags & (LLM_TOKEN_ADDED | LLM_TOKEN_BYTE | LLM_TOKEN_UNUSED)) &&
           token->bytes > 0;
}

static uint32_t ordinary_count(const struct vocab_draft *draft)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < draft->token_count; i++)
        count += is_ordinary(&draft->tokens[i]);
    return count;
}

/* ---- Sizes ---------------------------------------------------------------------------------------- */

static void place(struct llm_vocab_header *h, enum llm_vocab_section_id id, uint64_t bytes)
{
    h->sections[id] = (struct llm_vocab_section){.offset = h->image_bytes, .bytes = bytes};
    h->image_bytes = (h->image_bytes + bytes + 7) & ~UINT64_C(7);
}

static void place_sections(struct llm_vocab_header *h, const struct vocab_draft *draft)
{
    uint64_t token_bytes = 0, pattern_bytes = 0;
    for (uint32_t i = 0; i < draft->token_count; i++) {
        token_bytes += draft->tokens[i].bytes;
        if (draft->tokens[i].bytes > h->token_bytes_max)
            h->token_bytes_max = draft->tokens[i].bytes;
    }
    for (uint32_t i = 0; i < draft->split_count; i++)
        pattern_bytes += strlen(draft->splits[i].pattern);

    h->image_bytes = sizeof *h;
    place(h, LLM_VOCAB_TOKEN_OFFSETS, ((uint64_t)draft->token_count + 1) * sizeof(uint32_t));
    place(h, LLM_VOCAB_TOKEN_BYTES, token_bytes);
    place(h, LLM_VOCAB_TOKEN_FLAGS, draft->token_count);
    place(h, LLM_VOCAB_BYTE_TOKENS,
          draft->kind == LLM_VOCAB_TOKENS_ONLY ? 0 : sizeof draft->byte_tokens);
    place(h, LLM_VOCAB_MERGES,
          (uint64_t)table_slots(draft->merge_count) * sizeof(struct llm_vocab_merge));
    place(h, LLM_VOCAB_LOOKUP, (uint64_t)table_slots(ordinary_count(draft)) * sizeof(uint32_t));
    place(h, LLM_VOCAB_JUNCTIONS,
          draft->kind == LLM_VOCAB_TOKENS_ONLY ? 0 : LLM_VOCAB_JUNCTION_BYTES);
    place(h, LLM_VOCAB_ADDED, (uint64_t)draft->added_count * sizeof(struct llm_vocab_added));
    place(h, LLM_VOCAB_SPLITS, (uint64_t)draft->split_count * sizeof(struct llm_vocab_split));
    place(h, LLM_VOCAB_PATTERNS, pattern_bytes);
    place(h, LLM_VOCAB_TEMPLATE, draft->chat_template_bytes);
    place(h, LLM_VOCAB_CHARSMAP,
          draft->charsmap ? sizeof(struct llm_vocab_charsmap) +
                                (uint64_t)draft->charsmap_units * 4 + draft->charsmap_text_bytes
                          : 0);
}

static struct llm_vocab_header header_of(const struct vocab_draft *draft,
                                         const struct vocab_facts *facts)
{
    struct llm_vocab_header h = {
        .magic = LLM_VOCAB_MAGIC,
        .version = LLM_VOCAB_VERSION,
        .header_bytes = sizeof h,
        .kind = draft->kind,
        .flags = draft->flags,
        .normal_form = draft->normal_form,
        .token_count = draft->token_count,
        .context_max_tokens = facts->context_max_tokens,
        .bos_id = draft->bos_id,
        .unk_id = draft->unk_id,
        .eos_count = draft->eos_count,
        .prefix_count = draft->prefix_count,
        .suffix_count = draft->suffix_count,
        .added_count = draft->added_count,
        .split_count = draft->split_count,
        .template_bos_id = draft->template_bos_id,
        .template_eos_id = draft->template_eos_id,
    };
    memcpy(h.eos_ids, draft->eos_ids, sizeof h.eos_ids);
    memcpy(h.prefix_ids, draft->prefix_ids, sizeof h.prefix_ids);
    memcpy(h.suffix_ids, draft->suffix_ids, sizeof h.suffix_ids);
    memcpy(h.fingerprint, facts->fingerprint, sizeof h.fingerprint);
    memcpy(h.name, facts->name, strlen(facts->name)); /* shorter than the field: vocab_build() */
    place_sections(&h, draft);
    return h;
}

/* ---- Sections ------------------------------------------------------------------------------------- */

static void *section(void *image, enum llm_vocab_section_id id)
{
    struct llm_vocab_header *h = image;
    return (unsigned char *)image + h->sections[id].offset;
}

static void write_tokens(void *image, const struct vocab_draft *draft)
{
    uint32_t *offsets = section(image, LLM_VOCAB_TOKEN_OFFSETS);
    uint8_t *bytes = section(image, LLM_VOCAB_TOKEN_BYTES);
    uint8_t *flags = section(image, LLM_VOCAB_TOKEN_FLAGS);
    offsets[0] = 0;
    for (uint32_t i = 0; i < draft->token_count; i++) {
        const struct draft_token *token = &draft->tokens[i];
        if (token->bytes)
            memcpy(bytes + offsets[i], draft->text + token->offset, token->bytes);
        offsets[i + 1] = offsets[i] + token->bytes;
        flags[i] = token->flags;
    }
    if (draft->kind != LLM_VOCAB_TOKENS_ONLY)
        memcpy(section(image, LLM_VOCAB_BYTE_TOKENS), draft->byte_tokens,
               sizeof draft->byte_tokens);
}

/* The slot of a pair: its own if it is there, else the first empty one; NULL when the run is too long. */
static struct llm_vocab_merge *merge_slot(struct llm_vocab_merge *table, uint32_t slots,
                                          uint32_t left, uint32_t right)
{
    uint32_t slot = llm_vocab_hash_pair(left, right) & (slots - 1);
    for (uint32_t probe = 0; probe < LLM_VOCAB_PROBES_MAX; probe++) {
        struct llm_vocab_merge *m = &table[slot];
        if (m->left == LLM_TOKEN_NONE || (m->left == left && m->right == right))
            return m;
        slot = (slot + 1) & (slots - 1);
    }
    return NULL;
}

/* Of two merges of the same pair the later one counts, as in the reference implementation of tokenizer.json. */
static enum llm_status write_merges(void *image, const struct vocab_draft *draft,
                                    struct llm_error *error)
{
    struct llm_vocab_merge *table = section(image, LLM_VOCAB_MERGES);
    uint32_t slots = table_slots(draft->merge_count);
    memset(table, 0xff, slots * sizeof *table); /* every left is LLM_TOKEN_NONE: empty */
    for (uint32_t i = 0; i < draft->merge_count; i++) {
        const struct draft_merge *m = &draft->merges[i];
        struct llm_vocab_merge *slot = merge_slot(table, slots, m->left, m->right);
        if (!slot)
            return llm_fail(error, LLM_ERR_LIMIT,
                            "%s: more than %u merges fall into one run of the merge table; a "
                            "vocabulary made by training does not",
                            draft->file, LLM_VOCAB_PROBES_MAX);
        *slot = (struct llm_vocab_merge){m->left, m->right, m->rank, m->merged};
    }
    return LLM_OK;
}

/* A merge of the unknown token joins characters that are not in its text: then nothing may be cut. */
static void write_junctions(void *image, const struct vocab_draft *draft)
{
    uint8_t *bits = section(image, LLM_VOCAB_JUNCTIONS);
    if (draft->flags &
        LLM_VOCAB_SPLIT_TOKENS) { /* their parts depend on the order of all pairs of a text */
        memset(bits, 0xff, LLM_VOCAB_JUNCTION_BYTES);
        return;
    }
    for (uint32_t i = 0; i < draft->merge_count; i++) {
        const struct draft_merge *m = &draft->merges[i];
        const struct draft_token *left = &draft->tokens[m->left];
        const struct draft_token *right = &draft->tokens[m->right];
        if (left->bytes == 0 || right->bytes == 0 || m->left == draft->unk_id ||
            m->right == draft->unk_id) {
            memset(bits, 0xff, LLM_VOCAB_JUNCTION_BYTES);
            return;
        }
        uint8_t x = draft->text[left->offset + left->bytes - 1];
        uint8_t y = draft->text[right->offset];
        bits[x * 32 + y / 8] |= (uint8_t)(1u << y % 8);
    }
}

static enum llm_status write_lookup(void *image, const struct vocab_draft *draft,
                                    struct llm_error *error)
{
    uint32_t *table = section(image, LLM_VOCAB_LOOKUP);
    uint32_t slots = table_slots(ordinary_count(draft));
    memset(table, 0xff, slots * sizeof *table);
    for (uint32_t id = 0; id < draft->token_count; id++) {
        const struct draft_token *token = &draft->tokens[id];
        if (!is_ordinary(token))
            continue;
        uint32_t slot = llm_vocab_hash_bytes(draft->text + token->offset, token->bytes);
        uint32_t probe = 0;
        while (probe < LLM_VOCAB_PROBES_MAX && table[slot & (slots - 1)] != LLM_TOKEN_NONE) {
            slot++;
            probe++;
        }
        if (probe == LLM_VOCAB_PROBES_MAX)
            return llm_fail(error, LLM_ERR_LIMIT,
                            "%s: more than %u tokens fall into one run of the look-up table; a "
                            "vocabulary made by training does not",
                            draft->file, LLM_VOCAB_PROBES_MAX);
        table[slot & (slots - 1)] = id;
    }
    return LLM_OK;
}

/* qsort_r()'s argument is the draft: added tokens ascend by their bytes. */
static int compare_added(const void *a, const void *b, void *context)
{
    const struct vocab_draft *draft = context;
    const struct draft_token *x = &draft->tokens[((const struct llm_vocab_added *)a)->id];
    const struct draft_token *y = &draft->tokens[((const struct llm_vocab_added *)b)->id];
    int order = memcmp(draft->text + x->offset, draft->text + y->offset,
                       x->bytes < y->bytes ? x->bytes : y->bytes);
    return order ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static enum llm_status write_added(void *image, struct vocab_draft *draft, struct llm_error *error)
{
    if (draft->added_count == 0)
        return LLM_OK;
    qsort_r(draft->added, draft->added_count, sizeof *draft->added, compare_added, draft);
    for (uint32_t i = 1; i < draft->added_count; i++)
        if (compare_added(&draft->added[i - 1], &draft->added[i], draft) == 0)
            return llm_fail(error, LLM_ERR_INVALID,
                            "%s: added tokens: ids %u and %u have the same text", draft->file,
                            draft->added[i - 1].id, draft->added[i].id);
    memcpy(section(image, LLM_VOCAB_ADDED), draft->added,
           draft->added_count * sizeof *draft->added);
    return LLM_OK;
}

static void write_splits(void *image, const struct vocab_draft *draft)
{
    struct llm_vocab_split *splits = section(image, LLM_VOCAB_SPLITS);
    char *patterns = section(image, LLM_VOCAB_PATTERNS);
    uint32_t offset = 0;
    for (uint32_t i = 0; i < draft->split_count; i++) {
        uint32_t bytes = (uint32_t)strlen(draft->splits[i].pattern);
        memcpy(patterns + offset, draft->splits[i].pattern, bytes);
        splits[i] = (struct llm_vocab_split){
            .pattern_offset = offset, .pattern_bytes = bytes, .keep = draft->splits[i].keep};
        offset += bytes;
    }
}

static void write_charsmap(void *image, const struct vocab_draft *draft)
{
    if (!draft->charsmap)
        return;
    struct llm_vocab_charsmap *map = section(image, LLM_VOCAB_CHARSMAP);
    *map = (struct llm_vocab_charsmap){.unit_count = draft->charsmap_units,
                                       .text_bytes = draft->charsmap_text_bytes};
    memcpy(map + 1, draft->charsmap, (size_t)draft->charsmap_units * 4);
    memcpy((uint8_t *)(map + 1) + (size_t)draft->charsmap_units * 4, draft->charsmap_text,
           draft->charsmap_text_bytes);
}

enum llm_status vocab_write(struct vocab_draft *draft, const struct vocab_facts *facts,
                            void **out_image, size_t *out_bytes, struct llm_error *error)
{
    struct llm_vocab_header header = header_of(draft, facts);
    if (header.image_bytes > LLM_VOCAB_IMAGE_BYTES_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "the vocabulary needs %llu bytes, at most %llu",
                        (unsigned long long)header.image_bytes,
                        (unsigned long long)LLM_VOCAB_IMAGE_BYTES_MAX);
    void *image = calloc(1, (size_t)header.image_bytes);
    if (!image)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a vocab image of %llu bytes",
                        (unsigned long long)header.image_bytes);
    memcpy(image, &header, sizeof header);
    write_tokens(image, draft);
    write_splits(image, draft);
    if (draft->chat_template_bytes > 0)
        memcpy(section(image, LLM_VOCAB_TEMPLATE), draft->chat_template,
               draft->chat_template_bytes);
    write_charsmap(image, draft);
    enum llm_status status = write_added(image, draft, error);
    if (status == LLM_OK)
        status = write_merges(image, draft, error);
    if (status == LLM_OK)
        status = write_lookup(image, draft, error);
    if (status == LLM_OK && draft->kind != LLM_VOCAB_TOKENS_ONLY)
        write_junctions(image, draft);
    if (status != LLM_OK) {
        free(image);
        return status;
    }
    ((struct llm_vocab_header *)image)->check =
        llm_vocab_image_sum(image, (size_t)header.image_bytes);
    *out_image = image;
    *out_bytes = (size_t)header.image_bytes;
    return LLM_OK;
}
