#include "client/text/split.h"

#include "client/text/utf8.h"

#define MATCH_STEPS_MAX    10000000u /* PCRE2's own default, made certain */
#define MATCH_HEAP_KIB_MAX (64u * 1024u)

enum llm_status llm_splitter_init(struct llm_splitter *splitter, const llm_vocab *vocab,
                                  enum llm_status (*take)(void *taker, struct llm_slice piece,
                                                          llm_error *error),
                                  void *taker, llm_error *error)
{
    *splitter = (struct llm_splitter){.vocab = vocab, .take = take, .taker = taker};
    splitter->match = pcre2_match_data_create(1, NULL);
    splitter->limits = pcre2_match_context_create(NULL);
    if (!splitter->match || !splitter->limits) {
        llm_splitter_close(splitter);
        return llm_fail(error, LLM_ERR_MEMORY, "no memory to match patterns");
    }
    pcre2_set_match_limit(splitter->limits, MATCH_STEPS_MAX);
    pcre2_set_heap_limit(splitter->limits, MATCH_HEAP_KIB_MAX);
    return LLM_OK;
}

void llm_splitter_close(struct llm_splitter *splitter)
{
    pcre2_match_data_free(splitter->match);
    pcre2_match_context_free(splitter->limits);
    *splitter = (struct llm_splitter){0};
}

static enum llm_status split_from(struct llm_splitter *s, uint32_t level, struct llm_slice text,
                                  llm_error *error);

static enum llm_status pass_on(struct llm_splitter *s, uint32_t level, const uint8_t *bytes,
                               size_t count, llm_error *error)
{
    if (count == 0)
        return LLM_OK;
    return split_from(s, level + 1, (struct llm_slice){bytes, count}, error);
}

struct match {
    bool found; /* false at the end of the text */
    size_t start;
    size_t end;
};

/* The first match at or after `from`. */
static enum llm_status find(struct llm_splitter *s, uint32_t level, struct llm_slice text,
                            size_t from, struct match *out_match, llm_error *error)
{
    const pcre2_code *code = s->vocab->splits[level];
    int rc =
        pcre2_match(code, text.bytes, text.count, from, PCRE2_NO_UTF_CHECK, s->match, s->limits);
    if (rc ==
        PCRE2_ERROR_JIT_STACKLIMIT) /* machine code has a small stack, the interpreter a heap */
        rc = pcre2_match(code, text.bytes, text.count, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         s->match, s->limits);
    *out_match = (struct match){.found = rc >= 0};
    if (rc == PCRE2_ERROR_NOMATCH)
        return LLM_OK;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory to match split pattern %u", level);
    if (rc < 0)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "the model's split pattern %u gives up on this text at byte %zu of %zu "
                        "(PCRE2 error %d)",
                        level, from, text.count, rc);
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(s->match);
    out_match->start = bounds[0];
    out_match->end = bounds[1];
    if (bounds[0] < from || bounds[1] < bounds[0] || bounds[1] > text.count)
        return llm_fail(error, LLM_ERR_CORRUPT, "the model's split pattern %u matches backwards",
                        level);
    return LLM_OK;
}

/* An empty match cuts, and the search goes on behind the next character. */
static size_t search_from(struct llm_slice text, struct match match)
{
    if (match.start < match.end)
        return match.end;
    return match.end + (match.end < text.count ? llm_utf8_length(text.bytes[match.end]) : 1);
}

static enum llm_status split_from(struct llm_splitter *s, uint32_t level, struct llm_slice text,
                                  llm_error *error)
{
    if (level == s->vocab->view.header->split_count)
        return s->take(s->taker, text, error);

    uint32_t keep = s->vocab->view.splits[level].keep;
    struct match match = {.found = true};
    size_t done = 0, from = 0;
    enum llm_status status = LLM_OK;
    while (from <= text.count && status == LLM_OK) {
        status = find(s, level, text, from, &match, error);
        if (status != LLM_OK || !match.found)
            break;
        if (keep & LLM_SPLIT_KEEP_GAPS)
            status = pass_on(s, level, text.bytes + done, match.start - done, error);
        if (status == LLM_OK && keep & LLM_SPLIT_KEEP_MATCHES)
            status = pass_on(s, level, text.bytes + match.start, match.end - match.start, error);
        done = match.end;
        from = search_from(text, match);
    }
    if (status == LLM_OK && keep & LLM_SPLIT_KEEP_GAPS)
        status = pass_on(s, level, text.bytes + done, text.count - done, error);
    return status;
}

enum llm_status llm_split(struct llm_splitter *splitter, struct llm_slice text, llm_error *error)
{
    return split_from(splitter, 0, text, error);
}
