/* Methods of strings that give a string, a number or a truth value. */
#include "client/text/jinja/characters.h"
#include "client/text/jinja/filters.h"

typedef const struct jinja_call *call_t;

/* The result of a method keeps its subject's mark of safety. */
static struct jinja_value as_marked(struct jinja_value v, struct jinja_value self)
{
    if (jinja_is_string(v))
        v.flavor = self.flavor;
    return v;
}

static bool in_set(const struct jinja_string *set, uint32_t c)
{
    unsigned length;
    for (size_t at = 0; set && at < set->count; at += length)
        if (llm_jinja_character(set->bytes, set->count, at, &length) == c)
            return true;
    return set ? false : llm_jinja_is_space(c);
}

struct jinja_value llm_jinja_strip(struct jinja_run *run, struct jinja_value text,
                                   const struct jinja_string *set, enum jinja_ends ends)
{
    const struct jinja_string *s = text.string;
    size_t start = 0, end = s->count, set_bytes = set ? set->count : 0;
    unsigned length;
    while (ends & JINJA_LEFT && start < end &&
           in_set(set, llm_jinja_character(s->bytes, end, start, &length)) &&
           llm_jinja_charge_bytes(run, set_bytes))
        start += length;
    while (ends & JINJA_RIGHT && end > start) {
        size_t at = end - 1;
        while (at > start && ((unsigned char)s->bytes[at] & 0xc0) == 0x80)
            at--;
        if (!in_set(set, llm_jinja_character(s->bytes, end, at, &length)) ||
            !llm_jinja_charge_bytes(run, set_bytes))
            break;
        end = at;
    }
    return as_marked(llm_jinja_string(run, s->bytes + start, end - start), text);
}

static struct jinja_value strip_with(struct jinja_run *run, struct jinja_value self, call_t call,
                                     enum jinja_ends ends)
{
    const struct jinja_string *set = llm_jinja_string_argument(run, call->at[0], "chars");
    return llm_jinja_strip(run, self, set, ends);
}

static struct jinja_value text_strip(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return strip_with(run, self, call, JINJA_BOTH);
}

static struct jinja_value text_lstrip(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return strip_with(run, self, call, JINJA_LEFT);
}

static struct jinja_value text_rstrip(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return strip_with(run, self, call, JINJA_RIGHT);
}

/* ---- Cases -------------------------------------------------------------------------------------------------------- */

#define CASE_METHOD(name, wanted)                                                               \
    static struct jinja_value name(struct jinja_run *run, struct jinja_value self, call_t call) \
    {                                                                                           \
        (void)call;                                                                             \
        return llm_jinja_change_case(run, self, wanted);                                        \
    }

CASE_METHOD(text_upper, JINJA_UPPER)
CASE_METHOD(text_lower, JINJA_LOWER)
CASE_METHOD(text_title, JINJA_TITLE)
CASE_METHOD(text_capitalize, JINJA_CAPITALIZE)
CASE_METHOD(text_swapcase, JINJA_SWAP)

static bool is_alnum(uint32_t c)
{
    return llm_jinja_is_letter(c) || llm_jinja_is_digit(c);
}

/* Not empty, and every character is of a kind. */
static struct jinja_value every(struct jinja_value self, bool (*is)(uint32_t c))
{
    unsigned length;
    for (size_t at = 0; at < self.string->count; at += length)
        if (!is(llm_jinja_character(self.string->bytes, self.string->count, at, &length)))
            return jinja_bool(false);
    return jinja_bool(self.string->count > 0);
}

#define KIND_METHOD(name, is)                                                                   \
    static struct jinja_value name(struct jinja_run *run, struct jinja_value self, call_t call) \
    {                                                                                           \
        (void)call;                                                                             \
        return llm_jinja_charge_bytes(run, self.string->count) ? every(self, is)                \
                                                               : jinja_undefined();             \
    }

KIND_METHOD(text_isalnum, is_alnum)
KIND_METHOD(text_isalpha, llm_jinja_is_letter)
KIND_METHOD(text_isdigit, llm_jinja_is_digit)
KIND_METHOD(text_isspace, llm_jinja_is_space)

static struct jinja_value case_test(struct jinja_run *run, struct jinja_value self,
                                    const char *test)
{
    const struct jinja_arguments none = {0};
    const struct jinja_string name = {test, 5, 5};
    return jinja_bool(llm_jinja_apply_test(run, &name, self, &none));
}

static struct jinja_value text_isupper(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    return case_test(run, self, "upper");
}

static struct jinja_value text_islower(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    return case_test(run, self, "lower");
}

/* ---- Looking for pieces --------------------------------------------------------------------------------------------- */

static bool has_end(const struct jinja_string *s, const struct jinja_string *piece, bool front)
{
    return s->count >= piece->count && memcmp(s->bytes + (front ? 0 : s->count - piece->count),
                                              piece->bytes, piece->count) == 0;
}

/* startswith("a") and startswith(("a", "b")). */
static struct jinja_value test_ends(struct jinja_run *run, struct jinja_value self, call_t call,
                                    bool front)
{
    struct jinja_value piece = call->at[0];
    if (jinja_is_string(piece))
        return jinja_bool(has_end(self.string, piece.string, front));
    if (piece.kind != JINJA_LIST || piece.flavor != JINJA_TUPLE)
        return llm_jinja_fail(run, LLM_ERR_INVALID,
                              "%s first arg must be str or a tuple of str, not %s",
                              front ? "startswith" : "endswith", llm_jinja_type_name(piece));
    for (size_t i = 0; i < piece.list->count && llm_jinja_charge(run, 1); i++)
        if (jinja_is_string(piece.list->items[i]) &&
            has_end(self.string, piece.list->items[i].string, front))
            return jinja_bool(true);
    return jinja_bool(false);
}

static struct jinja_value text_startswith(struct jinja_run *run, struct jinja_value self,
                                          call_t call)
{
    return test_ends(run, self, call, true);
}

static struct jinja_value text_endswith(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return test_ends(run, self, call, false);
}

/* The characters before a place in bytes. */
static int64_t characters_before(const struct jinja_string *s, size_t place)
{
    if (s->count == s->characters)
        return (int64_t)place;
    int64_t count = 0;
    for (size_t i = 0; i < place; i++)
        count += ((unsigned char)s->bytes[i] & 0xc0) != 0x80;
    return count;
}

static const char *find_last(const struct jinja_string *s, const struct jinja_string *piece)
{
    for (size_t at = s->count + 1 - piece->count; piece->count <= s->count && at > 0; at--)
        if (memcmp(s->bytes + at - 1, piece->bytes, piece->count) == 0)
            return s->bytes + at - 1;
    return NULL;
}

/* The place of a piece in characters, or -1. */
static int64_t find(struct jinja_run *run, struct jinja_value self, call_t call, bool last)
{
    const struct jinja_string *s = self.string;
    const struct jinja_string *piece = llm_jinja_string_argument(run, call->at[0], "sub");
    /* The last one is looked for naively: charge for it. */
    if (!piece || !llm_jinja_charge_bytes(run, s->count) ||
        (last && !llm_jinja_charge(run, (uint64_t)s->count * (1 + piece->count / 64))))
        return -1;
    const char *at =
        last ? find_last(s, piece) : memmem(s->bytes, s->count, piece->bytes, piece->count);
    return at ? characters_before(s, (size_t)(at - s->bytes)) : -1;
}

static struct jinja_value text_find(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return jinja_int(find(run, self, call, false));
}

static struct jinja_value text_rfind(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return jinja_int(find(run, self, call, true));
}

static struct jinja_value text_index(struct jinja_run *run, struct jinja_value self, call_t call)
{
    int64_t index = find(run, self, call, false);
    return index < 0 ? llm_jinja_fail(run, LLM_ERR_INVALID, "substring not found")
                     : jinja_int(index);
}

static struct jinja_value text_count(struct jinja_run *run, struct jinja_value self, call_t call)
{
    const struct jinja_string *s = self.string;
    const struct jinja_string *piece = llm_jinja_string_argument(run, call->at[0], "sub");
    int64_t count = 0;
    if (!piece || !llm_jinja_charge_bytes(run, s->count))
        return jinja_undefined();
    if (piece->count == 0)
        return jinja_int((int64_t)s->characters + 1);
    for (const char *at = s->bytes, *end = at + s->count;
         (at = memmem(at, (size_t)(end - at), piece->bytes, piece->count)); at += piece->count)
        count++;
    return jinja_int(count);
}

struct jinja_value llm_jinja_replace(struct jinja_run *run, const struct jinja_string *text,
                                     const struct jinja_string *old, const struct jinja_string *new,
                                     int64_t count)
{
    struct llm_buffer out = {0};
    const char *at = text->bytes, *end = at + text->count;
    for (; count != 0 && !llm_jinja_failed(run); count--) {
        const char *found = memmem(at, (size_t)(end - at), old->bytes, old->count);
        if (!found)
            break;
        unsigned length = 0;
        if (old->count == 0 && at < end) /* nothing stands before each character */
            (void)llm_jinja_character(at, (size_t)(end - at), 0, &length);
        llm_jinja_append(run, &out, at, (size_t)(found - at));
        llm_jinja_append_string(run, &out, new);
        at = found + old->count;
        if (old->count == 0 && at == end)
            return llm_jinja_finish(run, &out);
        llm_jinja_append(run, &out, at, length);
        at += length;
    }
    llm_jinja_append(run, &out, at, (size_t)(end - at));
    return llm_jinja_finish(run, &out);
}

static struct jinja_value text_replace(struct jinja_run *run, struct jinja_value self, call_t call)
{
    const struct jinja_string *old = llm_jinja_string_argument(run, call->at[0], "old");
    const struct jinja_string *new = llm_jinja_string_argument(run, call->at[1], "new");
    int64_t count = llm_jinja_int_argument(run, call->at[2], "count", -1);
    if (!old || !new)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "replace() needs two strings");
    return as_marked(llm_jinja_replace(run, self.string, old, new, count), self);
}

/* "abc" without "ab" at its front, or as it is. */
static struct jinja_value remove_end(struct jinja_run *run, struct jinja_value self, call_t call,
                                     bool front)
{
    const struct jinja_string *s = self.string;
    const struct jinja_string *piece = llm_jinja_string_argument(run, call->at[0], "piece");
    if (!piece || !has_end(s, piece, front))
        return self;
    return as_marked(
        llm_jinja_string(run, s->bytes + (front ? piece->count : 0), s->count - piece->count),
        self);
}

static struct jinja_value text_removeprefix(struct jinja_run *run, struct jinja_value self,
                                            call_t call)
{
    return remove_end(run, self, call, true);
}

static struct jinja_value text_removesuffix(struct jinja_run *run, struct jinja_value self,
                                            call_t call)
{
    return remove_end(run, self, call, false);
}

/* ---- Widths ----------------------------------------------------------------------------------------------------------- */

struct jinja_value llm_jinja_pad(struct jinja_run *run, struct jinja_value text, int64_t width,
                                 const struct jinja_string *fill, enum jinja_ends ends)
{
    int64_t characters = (int64_t)text.string->characters;
    int64_t pad = width > characters ? width - characters : 0;
    int64_t left = ends == JINJA_LEFT    ? pad
                   : ends == JINJA_RIGHT ? 0
                                         : pad / 2 + (pad & width & 1); /* as CPython rounds */
    struct llm_buffer out = {0};
    for (int64_t i = 0; i < left && !llm_jinja_failed(run); i++)
        llm_jinja_append_string(run, &out, fill);
    llm_jinja_append_string(run, &out, text.string);
    for (int64_t i = left; i < pad && !llm_jinja_failed(run); i++)
        llm_jinja_append_string(run, &out, fill);
    return as_marked(llm_jinja_finish(run, &out), text);
}

static struct jinja_value pad_with(struct jinja_run *run, struct jinja_value self, call_t call,
                                   enum jinja_ends ends)
{
    static const struct jinja_string space = {" ", 1, 1};
    int64_t width = llm_jinja_int_argument(run, call->at[0], "width", 0);
    const struct jinja_string *fill = llm_jinja_string_argument(run, call->at[1], "fillchar");
    return llm_jinja_pad(run, self, width, fill && fill->characters == 1 ? fill : &space, ends);
}

static struct jinja_value text_ljust(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return pad_with(run, self, call, JINJA_RIGHT);
}

static struct jinja_value text_rjust(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return pad_with(run, self, call, JINJA_LEFT);
}

static struct jinja_value text_center(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return pad_with(run, self, call, JINJA_BOTH);
}

static struct jinja_value text_zfill(struct jinja_run *run, struct jinja_value self, call_t call)
{
    static const struct jinja_string zero = {"0", 1, 1};
    int64_t width = llm_jinja_int_argument(run, call->at[0], "width", 0);
    const struct jinja_string *s = self.string;
    if (s->count == 0 || !strchr("+-", s->bytes[0]))
        return llm_jinja_pad(run, self, width, &zero, JINJA_LEFT);
    struct jinja_value sign = llm_jinja_string(run, s->bytes, 1);
    struct jinja_value rest = llm_jinja_string(run, s->bytes + 1, s->count - 1);
    if (!jinja_is_string(rest))
        return rest;
    return llm_jinja_binary(run, JINJA_ADD, sign,
                            llm_jinja_pad(run, rest, width - 1, &zero, JINJA_LEFT));
}

const struct jinja_builtin llm_jinja_string_methods[] = {
    {"capitalize", "", text_capitalize},
    {"casefold", "", text_lower},
    {"center", "width! fillchar", text_center},
    {"count", "sub!", text_count},
    {"endswith", "suffix!", text_endswith},
    {"find", "sub!", text_find},
    {"index", "sub!", text_index},
    {"isalnum", "", text_isalnum},
    {"isalpha", "", text_isalpha},
    {"isdecimal", "", text_isdigit},
    {"isdigit", "", text_isdigit},
    {"islower", "", text_islower},
    {"isnumeric", "", text_isdigit},
    {"isspace", "", text_isspace},
    {"isupper", "", text_isupper},
    {"ljust", "width! fillchar", text_ljust},
    {"lower", "", text_lower},
    {"lstrip", "chars", text_lstrip},
    {"removeprefix", "prefix!", text_removeprefix},
    {"removesuffix", "suffix!", text_removesuffix},
    {"replace", "old! new! count", text_replace},
    {"rfind", "sub!", text_rfind},
    {"rjust", "width! fillchar", text_rjust},
    {"rstrip", "chars", text_rstrip},
    {"startswith", "prefix!", text_startswith},
    {"strip", "chars", text_strip},
    {"swapcase", "", text_swapcase},
    {"title", "", text_title},
    {"upper", "", text_upper},
    {"zfill", "width!", text_zfill},
    {0},
};
