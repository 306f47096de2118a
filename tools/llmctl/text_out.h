/*
 * text_out.h - how llmctl writes numbers, times and tables for people.
 *
 * Idea     Thousands are grouped by a space ("1 302"), times read like a clock ("00:01:40"), tables are as
 *          wide as their widest cell, numbers right and words left.
 * Trust    Names come from clients and may hold anything; whatever is not a printable character becomes
 *          '?', so that no client can write escape sequences to an operator's terminal.
 * See      tests/tools/test_text_out.c.
 */
#ifndef LLMCTL_TEXT_OUT_H
#define LLMCTL_TEXT_OUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "shm/status.h"

#define TEXT_NUMBER_BYTES 32

/* A formatted number or time, returned by value so that several fit into one printf(). */
struct text_number {
    char text[TEXT_NUMBER_BYTES];
};

struct text_number text_grouped(uint64_t value);     /* 1302 -> "1 302" */
struct text_number text_plain(uint64_t value);       /* 1302 -> "1302" */
struct text_number text_clock(uint64_t duration_ns); /* "00:00:07", "2 d 03:00:00" */
struct text_number text_span(uint64_t duration_ns);  /* "1.9 ms", "84 ms", "12 s" */
struct text_number text_bytes(uint64_t bytes);       /* "8.2 MB" */

/* Bytes of the UTF-8 character at `text` [bytes]; 0: not one (RFC 3629: no surrogates, no overlong). */
size_t text_character(const char *text, size_t bytes);
/* Copy `text`, at most capacity - 1 bytes, with '?' for control characters and broken UTF-8. */
void text_printable(char *out, size_t capacity, const char *text);

/* ---- Tables ---------------------------------------------------------------------------------------- */

#define TEXT_COLUMNS_MAX    20
#define TEXT_CELL_BYTES_MAX 200

struct text_table {
    int column_count;
    char *cells; /* [row_count * column_count][TEXT_CELL_BYTES_MAX]; row 0 is the head */
    size_t cell_count;
    size_t cell_capacity;
    char align[TEXT_COLUMNS_MAX]; /* 'l' or 'r' */
};

/* `align` has one letter per column, "rrl"; the first column_count cells are the head. */
void text_table_init(struct text_table *table, const char *align);
void text_table_cell(struct text_table *table, const char *format, ...) LLM_PRINTF(2, 3);
/* Print and free. */
void text_table_close(struct text_table *table, FILE *file);

#endif
