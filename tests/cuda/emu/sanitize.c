/*
 * sanitize.c - the weak functions of the sanitizers, and what calls them.
 */
#include "tests/cuda/emu/sanitize.h"

#define WEAK __attribute__((weak))

WEAK void *__tsan_get_current_fiber(void);
WEAK void *__tsan_create_fiber(unsigned flags);
WEAK void __tsan_switch_to_fiber(void *fiber, unsigned flags);
WEAK void __tsan_acquire(void *address);
WEAK void __tsan_release(void *address);
WEAK void __tsan_read_range(void *address, unsigned long bytes);
WEAK void __tsan_write_range(void *address, unsigned long bytes);
WEAK void __tsan_java_init(unsigned long heap, unsigned long bytes);
WEAK void __tsan_java_alloc(unsigned long address, unsigned long bytes);
WEAK void AnnotateIgnoreReadsBegin(const char *file, int line);
WEAK void AnnotateIgnoreReadsEnd(const char *file, int line);
WEAK void AnnotateIgnoreWritesBegin(const char *file, int line);
WEAK void AnnotateIgnoreWritesEnd(const char *file, int line);
WEAK void *__asan_region_is_poisoned(void *address, size_t bytes);
WEAK void __sanitizer_start_switch_fiber(void **fake_stack, const void *stack, size_t bytes);
WEAK void __sanitizer_finish_switch_fiber(void *fake_stack, const void **old_stack,
                                          size_t *old_bytes);

enum {
    TSAN_SWITCH_ORDERS_NOTHING = 1
};

bool emu_has_tsan(void)
{
    return __tsan_create_fiber != NULL;
}

bool emu_has_asan(void)
{
    return __asan_region_is_poisoned != NULL;
}

void *emu_tsan_self(void)
{
    return emu_has_tsan() ? __tsan_get_current_fiber() : NULL;
}

void *emu_tsan_fiber(void)
{
    return emu_has_tsan() ? __tsan_create_fiber(0) : NULL;
}

void emu_tsan_switch(void *fiber)
{
    if (emu_has_tsan())
        __tsan_switch_to_fiber(fiber, TSAN_SWITCH_ORDERS_NOTHING);
}

void emu_acquire(void *token)
{
    if (emu_has_tsan())
        __tsan_acquire(token);
}

void emu_release(void *token)
{
    if (emu_has_tsan())
        __tsan_release(token);
}

void emu_touch(const void *at, size_t bytes, bool write)
{
    if (!emu_has_tsan() || bytes == 0)
        return;
    void *address = (void *)(uintptr_t)at;
    if (write)
        __tsan_write_range(address, bytes);
    else
        __tsan_read_range(address, bytes);
}

void emu_forget(void *at, size_t bytes)
{
    static bool initialised;
    if (!emu_has_tsan() || bytes == 0)
        return;
    uintptr_t first = (uintptr_t)at & ~(uintptr_t)7;
    uintptr_t end = ((uintptr_t)at + bytes + 7) & ~(uintptr_t)7;
    if (!initialised)
        __tsan_java_init(first, end - first);
    initialised = true;
    __tsan_java_alloc(first, end - first);
}

void emu_quiet_begin(void)
{
    if (emu_has_tsan()) {
        AnnotateIgnoreReadsBegin("", 0);
        AnnotateIgnoreWritesBegin("", 0);
    }
}

void emu_quiet_end(void)
{
    if (emu_has_tsan()) {
        AnnotateIgnoreReadsEnd("", 0);
        AnnotateIgnoreWritesEnd("", 0);
    }
}

bool emu_asan_poisoned(const void *at, size_t bytes)
{
    return emu_has_asan() && __asan_region_is_poisoned((void *)(uintptr_t)at, bytes);
}

void emu_asan_leave(void **fake_stack, const void *stack, size_t bytes)
{
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(fake_stack, stack, bytes);
}

void emu_asan_arrive(void *fake_stack, const void **out_old_stack, size_t *out_old_bytes)
{
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(fake_stack, out_old_stack, out_old_bytes);
}

void emu_raw_copy(void *to, const void *from, size_t bytes)
{
    volatile unsigned char *target = to;
    const volatile unsigned char *source = from;
    for (size_t i = 0; i < bytes; i++)
        target[i] = source[i];
}

void emu_raw_fill(void *to, unsigned char byte, size_t bytes)
{
    volatile uint64_t *words = to;
    volatile unsigned char *target = to;
    size_t i = 0;
    if ((uintptr_t)to % 8 == 0)
        for (; i + 8 <= bytes; i += 8)
            words[i / 8] = byte * 0x0101010101010101u;
    for (; i < bytes; i++)
        target[i] = byte;
}
