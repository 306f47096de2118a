/*
 * fiber.h - stacks that take turns on one host thread.
 *
 * Idea     A switch saves the callee-saved registers on the old stack and takes them from the new one: about
 *          twenty instructions, no system call. The sanitizers are told of each switch.
 * Limits   x86-64 and arm64; tests/cuda/CMakeLists.txt leaves the emulator out elsewhere.
 */
#ifndef LLM_TESTS_CUDA_EMU_FIBER_H
#define LLM_TESTS_CUDA_EMU_FIBER_H

#include "tests/cuda/emu/emu.h"

struct emu_fiber {
    void *stack_pointer;
    const void
        *stack; /* lowest address; of an adopted stack: known after the first switch away from it */
    size_t stack_bytes;
    void *tsan, *fake_stack;
};

/* A stack of its own, ended by a guard page; its first turn calls entry(), which never returns. */
void emu_fiber_open(struct emu_fiber *fiber, void (*entry)(void));

/* The stack this code runs on. */
void emu_fiber_adopt(struct emu_fiber *fiber);

/* Returns when somebody switches back to `from`. */
void emu_fiber_switch(struct emu_fiber *from, struct emu_fiber *to);

/* The first call of an entry function. */
void emu_fiber_entered(void);

#endif
