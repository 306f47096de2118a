#include "tools/bench/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "shm/check.h"
#include "tools/llmctl/json_out.h"
#include "tools/llmctl/text_out.h"

void report_init(struct report *report, const char *verb, const struct report_column *columns,
                 uint32_t column_count)
{
    CHECK(column_count <= REPORT_COLUMNS_MAX);
    *report = (struct report){.verb = verb, .columns = columns, .column_count = column_count};
}

void report_close(struct report *report)
{
    free(report->cells);
    report->cells = NULL;
    report->cell_count = report->cell_capacity = 0;
}

/* ---- Filling --------------------------------------------------------------------------------------- */

static struct report_cell *next_cell(struct report *report, enum report_kind kind)
{
    CHECK(report->columns[report->cell_count % report->column_count].kind == kind);
    if (report->cell_count == report->cell_capacity) {
        uint32_t capacity = report->cell_capacity ? 2 * report->cell_capacity : 256;
        struct report_cell *cells = realloc(report->cells, capacity * sizeof *cells);
        CHECK(cells != NULL);
        report->cells = cells;
        report->cell_capacity = capacity;
    }
    struct report_cell *cell = &report->cells[report->cell_count++];
    *cell = (struct report_cell){.number = NAN};
    return cell;
}

void report_text(struct report *report, const char *text)
{
    struct report_cell *cell = next_cell(report, REPORT_TEXT);
    snprintf(cell->text, sizeof cell->text, "%s", text);
}

void report_real(struct report *report, double value)
{
    next_cell(report, REPORT_REAL)->number = value;
}

void report_count(struct report *report, uint64_t value)
{
    next_cell(report, REPORT_COUNT)->number = (double)value;
}

static struct report_setting *next_setting(struct report *report, const char *name,
                                           enum report_kind kind)
{
    CHECK(report->setting_count < REPORT_SETTINGS_MAX);
    struct report_setting *setting = &report->settings[report->setting_count++];
    *setting = (struct report_setting){.name = name, .kind = kind};
    return setting;
}

void report_set_text(struct report *report, const char *name, const char *text)
{
    struct report_setting *setting = next_setting(report, name, REPORT_TEXT);
    snprintf(setting->text, sizeof setting->text, "%s", text);
}

void report_set_number(struct report *report, const char *name, double value)
{
    next_setting(report, name, REPORT_REAL)->number = value;
}

void report_note(struct report *report, const char *format, ...)
{
    if (report->note_count == REPORT_NOTES_MAX)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(report->notes[report->note_count++], REPORT_NOTE_BYTES, format, arguments);
    va_end(arguments);
}

/* ---- For people ------------------------------------------------------------------------------------ */

void report_format_real(double value, char out[REPORT_CELL_BYTES])
{
    double size = fabs(value);
    if (isnan(value))
        snprintf(out, REPORT_CELL_BYTES, "-");
    else if (size >= 9999.5 && size < 1e18)
        snprintf(out, REPORT_CELL_BYTES, "%s%s", value < 0 ? "-" : "",
                 text_grouped((uint64_t)llround(size)).text);
    else
        snprintf(out, REPORT_CELL_BYTES, "%.*f",
                 size == 0       ? 0
                 : size >= 99.95 ? 0
                 : size >= 9.995 ? 1
                 : size >= 0.1   ? 2
                                 : 4,
                 value);
}

static void format_cell(const struct report_cell *cell, enum report_kind kind,
                        char out[REPORT_CELL_BYTES])
{
    if (kind == REPORT_TEXT)
        snprintf(out, REPORT_CELL_BYTES, "%s", cell->text);
    else if (kind == REPORT_COUNT)
        snprintf(out, REPORT_CELL_BYTES, "%s", text_grouped((uint64_t)cell->number).text);
    else
        report_format_real(cell->number, out);
}

static void write_table(const struct report *report, FILE *file)
{
    char align[REPORT_COLUMNS_MAX + 1] = "", text[REPORT_CELL_BYTES];
    uint32_t shown = 0;
    for (uint32_t i = 0; i < report->column_count; i++)
        if (report->columns[i].head)
            align[shown++] = report->columns[i].kind == REPORT_TEXT ? 'l' : 'r';
    struct text_table table;
    text_table_init(&table, align);
    for (uint32_t i = 0; i < report->column_count; i++)
        if (report->columns[i].head)
            text_table_cell(&table, "%s%s%s", report->columns[i].head,
                            report->columns[i].unit[0] ? " " : "", report->columns[i].unit);
    for (uint32_t i = 0; i < report->cell_count; i++) {
        const struct report_column *column = &report->columns[i % report->column_count];
        if (!column->head)
            continue;
        format_cell(&report->cells[i], column->kind, text);
        text_table_cell(&table, "%s", text);
    }
    text_table_close(&table, file);
}

static void write_notes(const struct report *report, FILE *file)
{
    for (uint32_t i = 0; i < report->note_count; i++)
        fprintf(file, "%s\n", report->notes[i]);
}

static void write_people(const struct report *report, const struct machine *machine, FILE *file)
{
    machine_print(machine, file);
    fprintf(file, "llm-bench %s", report->verb);
    for (uint32_t i = 0; i < report->setting_count; i++) {
        const struct report_setting *setting = &report->settings[i];
        if (setting->kind == REPORT_TEXT)
            fprintf(file, ", %s %s", setting->name, setting->text);
        else
            fprintf(file, ", %s %.10g", setting->name, setting->number);
    }
    fputs("\n\n", file);
    write_table(report, file);
    if (report->note_count > 0)
        fputc('\n', file);
    write_notes(report, file);
}

/* ---- For programs ---------------------------------------------------------------------------------- */

static void write_json_number(struct json_out *json, const char *key, double value,
                              enum report_kind kind)
{
    if (kind == REPORT_COUNT)
        json_out_count(json, key, (uint64_t)value);
    else
        json_out_real(json, key, value);
}

static void write_json_rows(const struct report *report, struct json_out *json)
{
    json_out_array(json, "rows");
    for (uint32_t i = 0; i < report->cell_count; i++) {
        uint32_t at = i % report->column_count;
        const struct report_column *column = &report->columns[at];
        if (at == 0)
            json_out_object(json, NULL);
        if (column->kind == REPORT_TEXT)
            json_out_text(json, column->key, report->cells[i].text);
        else
            write_json_number(json, column->key, report->cells[i].number, column->kind);
        if (at + 1 == report->column_count)
            json_out_end(json);
    }
    json_out_end(json);
}

static void write_json(const struct report *report, const struct machine *machine, FILE *file)
{
    struct json_out json;
    json_out_init(&json, file);
    json_out_object(&json, NULL);
    json_out_text(&json, "schema", REPORT_SCHEMA);
    json_out_text(&json, "verb", report->verb);
    machine_json(machine, &json);
    json_out_object(&json, "settings");
    for (uint32_t i = 0; i < report->setting_count; i++) {
        const struct report_setting *setting = &report->settings[i];
        if (setting->kind == REPORT_TEXT)
            json_out_text(&json, setting->name, setting->text);
        else
            json_out_real(&json, setting->name, setting->number);
    }
    json_out_end(&json);
    json_out_object(&json, "units");
    for (uint32_t i = 0; i < report->column_count; i++)
        if (report->columns[i].unit[0])
            json_out_text(&json, report->columns[i].key, report->columns[i].unit);
    json_out_end(&json);
    write_json_rows(report, &json);
    json_out_array(&json, "notes");
    for (uint32_t i = 0; i < report->note_count; i++)
        json_out_text(&json, NULL, report->notes[i]);
    json_out_end(&json);
    json_out_end(&json);
}

static void write_csv_text(const char *text, FILE *file)
{
    if (!strpbrk(text, ",\"\n\r")) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

static void write_csv(const struct report *report, FILE *file)
{
    for (uint32_t i = 0; i < report->column_count; i++)
        fprintf(file, "%s%s", i ? "," : "", report->columns[i].key);
    for (uint32_t i = 0; i < report->cell_count; i++) {
        uint32_t at = i % report->column_count;
        fputs(at == 0 ? "\r\n" : ",", file);
        if (report->columns[at].kind == REPORT_TEXT)
            write_csv_text(report->cells[i].text, file);
        else if (report->columns[at].kind == REPORT_COUNT)
            fprintf(file, "%" PRIu64, (uint64_t)report->cells[i].number);
        else if (!isnan(report->cells[i].number))
            fprintf(file, "%.9g", report->cells[i].number);
    }
    fputs("\r\n", file);
}

void report_write(const struct report *report, const struct machine *machine,
                  const struct bench_options *options, FILE *file)
{
    CHECK(report->cell_count % report->column_count == 0);
    if (options->json) {
        write_json(report, machine, file);
    } else if (options->csv) {
        machine_print(machine, stderr);
        write_csv(report, file);
        write_notes(report, stderr);
    } else {
        write_people(report, machine, file);
    }
}
