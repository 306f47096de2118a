/*
 * report.h - the outcome of a run: rows under columns, as a table, as JSON or as CSV.
 *
 * Idea     A verb names its columns once and fills rows cell by cell; the same cells are written in all three forms,
 *          so that what a person reads and what a program reads cannot differ.
 * JSON     {"schema": "llm-bench/1", "verb", "machine": {...}, "settings": {...}, "units": {column: unit},
 *          "rows": [{column: value}], "notes": [text]}. A figure without samples is null. Columns are only ever
 *          added under one schema number.
 * CSV      One line of column names, then a line per row (RFC 4180); machine and notes go to standard error.
 * Owner    report_close() frees it. Column texts and setting names are the caller's constants.
 * See      tests/tools/test_bench_report.c.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdint.h>
#include <stdio.h>

#include "shm/status.h"
#include "tools/bench/machine.h"
#include "tools/bench/options.h"

#define REPORT_SCHEMA       "llm-bench/1"
#define REPORT_COLUMNS_MAX  32
#define REPORT_CELL_BYTES   64
#define REPORT_SETTINGS_MAX 32
#define REPORT_NOTES_MAX    16
#define REPORT_NOTE_BYTES   256

enum report_kind {
    REPORT_TEXT,
    REPORT_REAL,
    REPORT_COUNT
};

struct report_column {
    const char *key;  /* in JSON and CSV */
    const char *head; /* of the table; NULL: not in the table */
    const char *unit; /* "ns", "1/s"; "" for none */
    enum report_kind kind;
};

struct report_cell {
    char text[REPORT_CELL_BYTES];
    double number;
};

struct report_setting {
    const char *name;
    char text[REPORT_CELL_BYTES];
    double number;
    enum report_kind kind;
};

struct report {
    const char *verb;
    const struct report_column *columns; /* [column_count] */
    uint32_t column_count;
    struct report_cell *cells; /* [cell_capacity] row after row */
    uint32_t cell_count, cell_capacity;
    struct report_setting settings[REPORT_SETTINGS_MAX];
    uint32_t setting_count;
    char notes[REPORT_NOTES_MAX][REPORT_NOTE_BYTES];
    uint32_t note_count;
};

void report_init(struct report *report, const char *verb, const struct report_column *columns,
                 uint32_t column_count);
void report_close(struct report *report);

/* The next cell, from left to right and row by row; its column's kind must be this one. */
void report_text(struct report *report, const char *text);
void report_real(struct report *report, double value); /* NaN: "-", null, nothing */
void report_count(struct report *report, uint64_t value);

void report_set_text(struct report *report, const char *name, const char *text);
void report_set_number(struct report *report, const char *name, double value);
/* A sentence below the table. */
void report_note(struct report *report, const char *format, ...) LLM_PRINTF(2, 3);

/* As --json, --csv or neither say. */
void report_write(const struct report *report, const struct machine *machine,
                  const struct bench_options *options, FILE *file);

/* 0.0312, 1.23, 45.6, 789, "12 345": three digits that count, and no fewer than the whole ones. */
void report_format_real(double value, char out[REPORT_CELL_BYTES]);

#endif
