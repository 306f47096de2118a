/*
 * check.h - promises between our own functions, kept in every build.
 *
 * Idea     CHECK(x) states something that can only be false because *we* are wrong; it stops the process
 *          with the expression and the place. Bytes that a client or a file can write are validated into a
 *          status instead, never checked. CHECK_SLOW is for whole-structure invariants and exists only
 *          with LLM_SLOW_CHECKS (presets dev and asan).
 * Evidence A hook set by llm_check_set_hook() runs before abort(): the daemon's prints the last entries
 *          of its step recorder.
 */
#ifndef LLM_SHM_CHECK_H
#define LLM_SHM_CHECK_H

#include <stdnoreturn.h>

#define CHECK(expression) \
    ((expression) ? (void)0 : llm_check_failed(#expression, __FILE__, __LINE__, __func__))

#ifdef LLM_SLOW_CHECKS
#define CHECK_SLOW(expression) CHECK(expression)
#else
#define CHECK_SLOW(expression) ((void)sizeof(expression))
#endif

noreturn void llm_check_failed(const char *expression, const char *file, int line,
                               const char *function);
void llm_check_set_hook(void (*hook)(void));

#endif
