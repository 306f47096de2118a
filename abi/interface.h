/*
 * interface.h - how the program that interface.awk writes prints what it found.
 */
#ifndef ABI_INTERFACE_H
#define ABI_INTERFACE_H

#include <stdalign.h>
#include <stddef.h>
#include <stdio.h>

static inline void print_function(const char *declaration)
{
    printf("%s\n", declaration);
}

static inline void print_struct(const char *name, size_t bytes, size_t alignment)
{
    printf("struct %s: %zu bytes, aligned to %zu\n", name, bytes, alignment);
}

static inline void print_field(const char *declaration, size_t at, size_t bytes)
{
    printf("    %4zu + %-4zu %s\n", at, bytes, declaration);
}

static inline void print_enum(const char *name, size_t bytes)
{
    printf("enum %s: %zu bytes\n", name, bytes);
}

static inline void print_value(const char *name, unsigned long long value)
{
    printf("    %s = %llu\n", name, value);
}

#endif
