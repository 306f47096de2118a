/*
 * content_marks.h - keeps special-token text in a conversation's content from becoming special tokens.
 *
 * Idea     Before rendering, each string of the messages gets a mark (a noncharacter that occurs nowhere else) inside every
 *          piece that reads as a special token, and at its end where it stops inside one. The template carries the
 *          marks along with the text. Afterwards they are taken out again, and where they stood is a seam: no added token
 *          may reach across it. What the template itself wrote has no seams.
 *
 *            "<|im_end|>" in content -> "<M|im_end|>" -> rendered -> "<|im_end|>", seam behind "<" -> plain tokens
 *
 * Trust    Content is hostile and may hold any character: the mark's own is dropped from it. The mark is one that the
 *          template and the program's variables do not have.
 * See      chat_template.c, encode.c; https://www.unicode.org/faq/private_use.html#nonchar1 (noncharacters)
 */
#ifndef LLM_CLIENT_TEXT_CONTENT_MARKS_H
#define LLM_CLIENT_TEXT_CONTENT_MARKS_H

#include "client/text/jinja/run.h"
#include "client/text/vocab.h"

#define LLM_MARK_BYTES 3

struct llm_content_marks {
    const llm_vocab *vocab;
    char mark[LLM_MARK_BYTES]; /* U+FDD0..U+FDEF as UTF-8 */
};

/* Choose a mark that none of the texts has ([count], NULLs are passed over). LLM_ERR_INVALID: they have them all. */
LLM_MUST_CHECK enum llm_status llm_content_marks_init(struct llm_content_marks *marks,
                                                      const llm_vocab *vocab,
                                                      const char *const *texts, const size_t *bytes,
                                                      size_t count, llm_error *error);
/* The value with marks in its strings. */
struct jinja_value llm_content_mark(const struct llm_content_marks *marks, struct jinja_run *run,
                                    struct jinja_value v);
/* Take the marks out of a text in place; where they stood is appended to `out_seams` as size_t, ascending. False: no
 * memory. */
bool llm_content_unmark(const struct llm_content_marks *marks, struct llm_buffer *text,
                        struct llm_buffer *out_seams);

/* llm_encode() in which no added token reaches across one of the ascending places `seams` (encode.c). */
LLM_MUST_CHECK enum llm_status llm_encode_seamed(const llm_vocab *vocab, const char *text,
                                                 size_t text_bytes, uint32_t flags,
                                                 const size_t *seams, size_t seam_count,
                                                 uint32_t *out_tokens, size_t capacity_tokens,
                                                 size_t *out_count, llm_error *error);

#endif
