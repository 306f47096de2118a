/*
 * fiber.c - making and switching stacks.
 */
#include "tests/cuda/emu/fiber.h"

#include "tests/cuda/emu/sanitize.h"
#include "tests/cuda/emu/state.h"

#include <string.h>
#include <sys/mman.h>

enum {
    GUARD_BYTES = 4096,
    STACK_BYTES = 128 << 10,
    STACK_BYTES_SANITIZED = 512 << 10
};

/* void emu_swap(void **save, void *to): push what a callee must keep, change stacks, pop. */
#if defined(__x86_64__)
__asm__(".text\n.globl emu_swap\n.type emu_swap,@function\nemu_swap:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size emu_swap,.-emu_swap\n");
#elif defined(__aarch64__)
__asm__(".text\n.globl emu_swap\n.type emu_swap,%function\nemu_swap:\n"
        "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\n"
        "stp x25,x26,[sp,#48]\nstp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\n"
        "stp d10,d11,[sp,#112]\nstp d12,d13,[sp,#128]\nstp d14,d15,[sp,#144]\n"
        "mov x2,sp\nstr x2,[x0]\nmov sp,x1\n"
        "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\n"
        "ldp x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\n"
        "ldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\nadd sp,sp,#160\nret\n"
        ".size emu_swap,.-emu_swap\n");
#endif
void emu_swap(void **save, void *to);

static struct emu_fiber *came_from;

static void *first_frame(unsigned char *stack_end, void (*entry)(void))
{
    uintptr_t *frame = (uintptr_t *)(void *)stack_end;
#if defined(__x86_64__)
    *--frame =
        0; /* where a return address would be: calls leave the stack 8 off a multiple of 16 */
    *--frame = (uintptr_t)entry;
    frame -= 6;
    memset(frame, 0, 6 * sizeof *frame);
#else
    frame -= 20;
    memset(frame, 0, 20 * sizeof *frame);
    frame[11] = (uintptr_t)entry; /* x30 */
#endif
    return frame;
}

void emu_fiber_open(struct emu_fiber *fiber, void (*entry)(void))
{
    size_t bytes = emu_has_asan() || emu_has_tsan() ? STACK_BYTES_SANITIZED : STACK_BYTES;
    unsigned char *memory = mmap(NULL, bytes + GUARD_BYTES, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, GUARD_BYTES, PROT_NONE) != 0)
        emu_die("no memory for the stacks of CUDA threads");
    fiber->stack = memory + GUARD_BYTES;
    fiber->stack_bytes = bytes;
    fiber->stack_pointer = first_frame(memory + GUARD_BYTES + bytes, entry);
    fiber->tsan = emu_tsan_fiber();
    fiber->fake_stack = NULL;
}

void emu_fiber_adopt(struct emu_fiber *fiber)
{
    memset(fiber, 0, sizeof *fiber);
    fiber->tsan = emu_tsan_self();
}

static void arrived(void *fake_stack)
{
    const void *stack = NULL;
    size_t bytes = 0;
    emu_asan_arrive(fake_stack, &stack, &bytes);
    if (came_from && !came_from->stack) {
        came_from->stack = stack;
        came_from->stack_bytes = bytes;
    }
}

void emu_fiber_entered(void)
{
    arrived(NULL);
}

void emu_fiber_switch(struct emu_fiber *from, struct emu_fiber *to)
{
    came_from = from;
    emu_tsan_switch(to->tsan);
    emu_asan_leave(&from->fake_stack, to->stack, to->stack_bytes);
    emu_swap(&from->stack_pointer, to->stack_pointer);
    arrived(from->fake_stack);
}
