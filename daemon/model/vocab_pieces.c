#include "daemon/model/vocab_pieces.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/model/model_json.h"
#include "shm/check.h"

#define SPACE_MARK       "\xe2\x96\x81" /* U+2581, SentencePiece's visible space */
#define SPACE_MARK_BYTES 3u

struct reading { /* pieces on their way into the draft */
    struct vocab_draft *draft;
    const struct vocab_pieces *pieces;
    struct vocab_names names;
    struct vocab_name_parts *parts; /* of the piece that is being cut */
    uint32_t *by_score;             /* [count] ids, best score first */
    uint32_t *ranks;                /* [count] of the pieces as results of merges */
    uint32_t merge_capacity;
    struct llm_error *error;
};

/* ---- Names ----------------------------------------------------------------------------------------- */

struct json_shown vocab_name_show(struct vocab_name name)
{
    char text[128];
    uint32_t count = name.count < sizeof text - 1 ? name.count : (uint32_t)sizeof text - 1;
    memcpy(text, name.bytes, count);
    text[count] = 0;
    return json_show(text);
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int vocab_name_byte(struct vocab_name name)
{
    if (name.count != 6 || memcmp(name.bytes, "<0x", 3) != 0 || name.bytes[5] != '>')
        return -1;
    int high = hex_digit(name.bytes[3]), low = hex_digit(name.bytes[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* Bytes of the UTF-8 character at `at`, or 0 when none begins there (Unicode 15, table 3-7). */
static uint32_t character_bytes(const uint8_t *at, uint32_t left)
{
    uint8_t lead = at[0];
    if (lead < 0x80)
        return 1;
    uint32_t length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (length == 0 || length > left)
        return 0;
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < low || at[1] > high)
        return 0;
    for (uint32_t i = 2; i < length; i++)
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    return length;
}

/* Whether the text behind the normal form can contain the name: UTF-8 without plain spaces. */
static bool reachable(struct vocab_name name)
{
    for (uint32_t i = 0; i < name.count;) {
        uint32_t length = character_bytes(name.bytes + i, name.count - i);
        if (length == 0 || name.bytes[i] == ' ')
            return false;
        i += length;
    }
    return name.count > 0;
}

static uint32_t copy_spaces(struct vocab_name name, uint8_t *out)
{
    uint32_t written = 0;
    for (uint32_t i = 0; i < name.count;) {
        bool mark = name.count - i >= SPACE_MARK_BYTES &&
                    memcmp(name.bytes + i, SPACE_MARK, SPACE_MARK_BYTES) == 0;
        out[written++] = mark ? ' ' : name.bytes[i];
        i += mark ? SPACE_MARK_BYTES : 1;
    }
    return written;
}

/* ---- Tokens ---------------------------------------------------------------------------------------- */

static enum llm_status allocate(struct reading *r, size_t extra_bytes, uint32_t extra_added)
{
    struct vocab_draft *draft = r->draft;
    uint64_t bytes = extra_bytes;
    for (uint32_t id = 0; id < r->pieces->count; id++) {
        uint32_t count = r->pieces->names[id].count;
        if (count > LLM_VOCAB_TOKEN_BYTES_MAX)
            return llm_fail(r->error, LLM_ERR_LIMIT, "%s: token %u has %u bytes, at most %u",
                            draft->file, id, count, LLM_VOCAB_TOKEN_BYTES_MAX);
        bytes += count;
    }
    if (bytes > LLM_VOCAB_IMAGE_BYTES_MAX)
        return llm_fail(r->error, LLM_ERR_LIMIT, "%s: the pieces have %llu bytes, at most %llu",
                        draft->file, (unsigned long long)bytes,
                        (unsigned long long)LLM_VOCAB_IMAGE_BYTES_MAX);
    draft->text_capacity = (size_t)bytes;
    draft->text = malloc(draft->text_capacity + 1);
    draft->tokens = calloc(draft->token_count, sizeof *draft->tokens);
    draft->added = calloc((size_t)r->pieces->count + extra_added + 1, sizeof *draft->added);
    r->parts = malloc(sizeof *r->parts);
    r->by_score = malloc(((size_t)r->pieces->count + 1) * sizeof *r->by_score);
    r->ranks = calloc((size_t)r->pieces->count + 1, sizeof *r->ranks);
    if (!draft->text || !draft->tokens || !draft->added || !r->parts || !r->by_score || !r->ranks)
        return llm_fail(r->error, LLM_ERR_MEMORY, "%s: no memory for %u pieces", draft->file,
                        r->pieces->count);
    for (uint32_t id = 0; id < draft->token_count; id++)
        draft->tokens[id].flags = LLM_TOKEN_UNUSED;
    return LLM_OK;
}

/* Give a piece its text, as the file has it or with its marks as spaces. */
static void set_text(struct reading *r, uint32_t id, bool spaces)
{
    struct vocab_draft *draft = r->draft;
    struct vocab_name name = r->pieces->names[id];
    struct draft_token *token = &draft->tokens[id];
    uint8_t *out = draft->text + draft->text_bytes;
    CHECK(name.count <= draft->text_capacity - draft->text_bytes);
    token->offset = (uint32_t)draft->text_bytes;
    token->bytes = name.count;
    if (spaces)
        token->bytes = copy_spaces(name, out);
    else
        memcpy(out, name.bytes, name.count);
    token->flags = 0;
    draft->text_bytes += token->bytes;
}

static void add_added(struct reading *r, uint32_t id, uint32_t flags)
{
    struct vocab_draft *draft = r->draft;
    draft->tokens[id].flags |=
        (uint8_t)(LLM_TOKEN_ADDED | (flags & LLM_ADDED_SPECIAL ? LLM_TOKEN_SPECIAL : 0));
    draft->tokens[id].listed = true;
    draft->added[draft->added_count++] = (struct llm_vocab_added){.id = id, .flags = flags};
}

static enum llm_status read_byte_piece(struct reading *r, uint32_t id)
{
    struct vocab_draft *draft = r->draft;
    int byte = vocab_name_byte(r->pieces->names[id]);
    if (byte < 0)
        return llm_fail(r->error, LLM_ERR_INVALID,
                        "%s: byte piece %u is \"%s\", not <0x00>..<0xFF>", draft->file, id,
                        vocab_name_show(r->pieces->names[id]).text);
    draft->text[draft->text_bytes] = (uint8_t)byte;
    draft->tokens[id] = (struct draft_token){
        .offset = (uint32_t)draft->text_bytes, .bytes = 1, .flags = LLM_TOKEN_BYTE};
    draft->text_bytes++;
    if (r->pieces->byte_fallback)
        draft->byte_tokens[byte] = id;
    return LLM_OK;
}

static enum llm_status read_piece(struct reading *r, uint32_t id)
{
    struct vocab_name name = r->pieces->names[id];
    bool inside = r->pieces->user_inside;
    if (name.count == 0)
        return LLM_OK;
    switch (r->pieces->types[id]) {
    case SPM_PIECE_BYTE:
        return read_byte_piece(r, id);
    case SPM_PIECE_CONTROL:
    case SPM_PIECE_UNKNOWN:
        set_text(r, id, false);
        add_added(r, id, LLM_ADDED_SPECIAL);
        return LLM_OK;
    case SPM_PIECE_USER_DEFINED:
        set_text(r, id, inside);
        if (!inside || reachable(name))
            add_added(r, id, inside ? LLM_ADDED_INSIDE : 0);
        else
            r->draft->tokens[id].flags |= LLM_TOKEN_ADDED;
        return LLM_OK;
    default:
        set_text(r, id, true);
        if (!reachable(name))
            r->draft->tokens[id].flags |=
                LLM_TOKEN_ADDED; /* no merge makes it, no text reaches it */
        return LLM_OK;
    }
}

/* ---- Merges ---------------------------------------------------------------------------------------- */

static bool merges(const struct reading *r, uint32_t id)
{
    return id != LLM_TOKEN_NONE &&
           !(r->draft->tokens[id].flags & (LLM_TOKEN_ADDED | LLM_TOKEN_BYTE));
}

/* qsort_r()'s argument is the scores: the best first, equal ones in any order. */
static int compare_scores(const void *a, const void *b, void *context)
{
    const float *scores = context;
    float x = scores[*(const uint32_t *)a], y = scores[*(const uint32_t *)b];
    return (x < y) - (x > y);
}

static void rank_pieces(struct reading *r)
{
    uint32_t count = 0, rank = 0;
    for (uint32_t id = 0; id < r->pieces->count; id++)
        if (r->pieces->names[id].count > 0 && merges(r, id))
            r->by_score[count++] = id;
    qsort_r(r->by_score, count, sizeof *r->by_score, compare_scores,
            (void *)(uintptr_t)r->pieces->scores);
    for (uint32_t i = 0; i < count; i++) {
        rank += i > 0 && compare_scores(&r->by_score[i - 1], &r->by_score[i],
                                        (void *)(uintptr_t)r->pieces->scores) != 0;
        r->ranks[r->by_score[i]] = rank;
    }
}

static enum llm_status add_merge(struct reading *r, uint32_t left, uint32_t right, uint32_t merged)
{
    struct vocab_draft *draft = r->draft;
    if (draft->merge_count == LLM_VOCAB_TOKENS_MAX)
        return llm_fail(r->error, LLM_ERR_LIMIT,
                        "%s: the pieces can be cut in two in more than %u ways", draft->file,
                        LLM_VOCAB_TOKENS_MAX);
    if (draft->merge_count == r->merge_capacity) {
        uint32_t capacity = r->merge_capacity * 2 + 1024;
        struct draft_merge *moved = realloc(draft->merges, capacity * sizeof *moved);
        if (!moved)
            return llm_fail(r->error, LLM_ERR_MEMORY, "%s: no memory for %u merges", draft->file,
                            capacity);
        draft->merges = moved;
        r->merge_capacity = capacity;
    }
    draft->merges[draft->merge_count++] = (struct draft_merge){
        .left = left, .right = right, .merged = merged, .rank = r->ranks[merged]};
    return LLM_OK;
}

/* Whether SentencePiece would have a symbol for the part though it is no piece: a single character that is not
 * kept apart as a user-defined one. */
static bool is_bare(const struct reading *r, uint32_t from, uint32_t to, uint32_t id)
{
    const struct vocab_name *name = &r->parts->name;
    if (id != LLM_TOKEN_NONE && (merges(r, id) || r->pieces->types[id] == SPM_PIECE_USER_DEFINED))
        return false;
    return character_bytes(name->bytes + from, name->count - from) == to - from;
}

static enum llm_status cut_piece(struct reading *r, uint32_t id, uint32_t at)
{
    uint32_t end = r->parts->name.count;
    uint32_t left = vocab_names_find_part(&r->names, r->parts, 0, at);
    uint32_t right = vocab_names_find_part(&r->names, r->parts, at, end);
    bool left_bare = is_bare(r, 0, at, left), right_bare = is_bare(r, at, end, right);
    if ((left_bare && (right_bare || merges(r, right))) || (right_bare && merges(r, left)))
        return llm_fail(r->error, LLM_ERR_UNSUPPORTED,
                        "%s: piece %u \"%s\" has a character that is no piece of its own",
                        r->draft->file, id, vocab_name_show(r->parts->name).text);
    if (!merges(r, left) || !merges(r, right))
        return LLM_OK;
    return add_merge(r, left, right, id);
}

static enum llm_status read_merges(struct reading *r)
{
    enum llm_status status = LLM_OK;
    rank_pieces(r);
    for (uint32_t id = 0; id < r->pieces->count && status == LLM_OK; id++) {
        struct vocab_name name = r->pieces->names[id];
        if (name.count == 0 || !merges(r, id))
            continue;
        if (r->pieces->types[id] == SPM_PIECE_UNUSED) {
            r->draft->tokens[id].flags |= LLM_TOKEN_SPLIT;
            r->draft->flags |= LLM_VOCAB_SPLIT_TOKENS;
        }
        vocab_name_parts_init(r->parts, name);
        uint32_t at = character_bytes(name.bytes, name.count);
        while (at < name.count && status == LLM_OK) {
            status = cut_piece(r, id, at);
            at += character_bytes(name.bytes + at, name.count - at);
        }
    }
    return status;
}

/* Ranks must lie below the number of merges: number those that occur, without gaps. */
static void close_gaps(struct reading *r)
{
    struct vocab_draft *draft = r->draft;
    uint32_t *seen = r->by_score; /* by old rank: whether it occurs, then its new number */
    memset(seen, 0, ((size_t)r->pieces->count + 1) * sizeof *seen);
    for (uint32_t i = 0; i < draft->merge_count; i++)
        seen[draft->merges[i].rank] = 1;
    uint32_t next = 0;
    for (uint32_t rank = 0; rank < r->pieces->count; rank++)
        if (seen[rank])
            seen[rank] = next++;
    for (uint32_t i = 0; i < draft->merge_count; i++)
        draft->merges[i].rank = seen[draft->merges[i].rank];
}

/* ---- All of it ------------------------------------------------------------------------------------- */

enum llm_status vocab_pieces_read(struct vocab_draft *draft, const struct vocab_pieces *pieces,
                                  size_t extra_bytes, uint32_t extra_added, struct llm_error *error)
{
    struct reading r = {
        .draft = draft, .pieces = pieces, .names = VOCAB_NAMES_CLOSED, .error = error};
    enum llm_status status =
        vocab_names_open(&r.names, pieces->names, pieces->count, draft->file, error);
    if (status == LLM_OK)
        status = allocate(&r, extra_bytes, extra_added);
    for (uint32_t id = 0; id < pieces->count && status == LLM_OK; id++)
        status = read_piece(&r, id);
    if (status == LLM_OK)
        status = read_merges(&r);
    if (status == LLM_OK)
        close_gaps(&r);
    vocab_names_close(&r.names);
    free(r.parts);
    free(r.by_score);
    free(r.ranks);
    return status;
}
