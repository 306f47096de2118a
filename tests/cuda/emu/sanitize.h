/*
 * sanitize.h - what the emulator tells ThreadSanitizer and AddressSanitizer.
 *
 * Idea     The sanitizers' functions are weak symbols: present when the program is built with one, NULL
 *          otherwise. The emulator itself is never instrumented; it reports accesses that it makes for a CUDA
 *          thread by emu_touch(), and hides its own bookkeeping behind emu_quiet_begin().
 * See      compiler-rt's include/sanitizer/tsan_interface.h and common_interface_defs.h for the calls.
 */
#ifndef LLM_TESTS_CUDA_EMU_SANITIZE_H
#define LLM_TESTS_CUDA_EMU_SANITIZE_H

#include "tests/cuda/emu/emu.h"

void *emu_tsan_self(void);
void *emu_tsan_fiber(void);
void emu_tsan_switch(void *fiber); /* without ordering anything */

/* One happens-before edge from everything before the release to everything after the acquire. */
void emu_acquire(void *token);
void emu_release(void *token);

void emu_touch(const void *at, size_t bytes,
               bool write);              /* the running thread accesses these bytes */
void emu_forget(void *at, size_t bytes); /* a new object lives here: no earlier access counts */

void emu_quiet_begin(void);
void emu_quiet_end(void);

bool emu_asan_poisoned(const void *at, size_t bytes);
/* Around a change of stacks; see emu_fiber_switch(). */
void emu_asan_leave(void **fake_stack, const void *stack, size_t bytes);
void emu_asan_arrive(void *fake_stack, const void **out_old_stack, size_t *out_old_bytes);

/* Copy and fill that no sanitizer's memcpy sees. */
void emu_raw_copy(void *to, const void *from, size_t bytes);
void emu_raw_fill(void *to, unsigned char byte, size_t bytes);

#endif
