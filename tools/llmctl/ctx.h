/*
 * ctx.h - what the verbs of `llmctl ctx` and `llmctl kv` share: which context, whose, and what is written.
 *
 * Idea     A verb is a function of a connection and an open context; ctx_run() does the rest: connect, open by name or
 *          '#ID', call, close, say what failed. The daemon decides who may what.
 * Owner    ctx_input() gives memory that the caller frees.
 * See      verbs.c, tests/e2e/test_ctx_cli.c.
 */
#ifndef LLMCTL_CTX_H
#define LLMCTL_CTX_H

#include "client/text.h"
#include "tools/llmctl/llmctl.h"

/* "team/notes" or "#4711". */
enum llm_status ctx_open(llm_connection *connection, const char *which, llm_context **out_context,
                         llm_error *error) LLM_MUST_CHECK;
/* "ana:team", with numbers for what has no name. */
void ctx_owner(uint32_t uid, uint32_t gid, char *out, size_t capacity);
void ctx_user_name(uint32_t uid, char *out, size_t capacity);
void ctx_group_name(uint32_t gid, char *out, size_t capacity);
/* Its name, or "#<id>". */
void ctx_title(const llm_context_info *info, char *out, size_t capacity);

/* All that the caller may read, in the daemon's order; the caller frees it. */
enum llm_status ctx_list(llm_connection *connection, llm_context_info **out_infos,
                         uint32_t *out_count, llm_error *error) LLM_MUST_CHECK;

/* --mode, --group, --pin. LLM_ERR_NOT_FOUND: no such group. */
enum llm_status ctx_publish_options(const struct arguments *arguments, llm_publish *out_options,
                                    llm_error *error) LLM_MUST_CHECK;

/* What is written is said in one way: positional[at], --text, --file or --ids; in none only if `optional`. */
enum llm_status ctx_input_check(const struct arguments *arguments, int at, bool optional,
                                llm_error *error) LLM_MUST_CHECK;
/* Its ids, after that check. `whole`: with the model's usual ids around a text. */
enum llm_status ctx_input(llm_connection *connection, const char *model,
                          const struct arguments *arguments, int at, bool whole,
                          uint32_t **out_tokens, uint32_t *out_count, llm_error *error)
    LLM_MUST_CHECK;

typedef enum llm_status ctx_verb(llm_context *context, const struct arguments *arguments,
                                 llm_error *error);
/* Open positional[0], call, and print `done` (NULL: nothing; with --json {"done": true, "id": N}). */
enum llmctl_exit ctx_run(const struct arguments *arguments, ctx_verb *verb, const char *done);
/* Print what is wrong with the command line. */
enum llmctl_exit ctx_usage(const llm_error *error);
/* Print that line for people, or the object. */
void ctx_say(const struct arguments *arguments, const char *done, const llm_context *context);

#endif
