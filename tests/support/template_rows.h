/*
 * template_rows.h - renderings that the reference made, as rows of JSON, against ours.
 *
 * Idea     A row has a template (or the file it is in), its variables and what came of them: "expected" text, the
 *          sentence of raise_exception() in "raises", or "error". Rows are read by the reader that renderings use: some
 *          have zero bytes in their keys, which other readers refuse.
 */
#ifndef LLM_TESTS_SUPPORT_TEMPLATE_ROWS_H
#define LLM_TESTS_SUPPORT_TEMPLATE_ROWS_H

#include <stdbool.h>

struct template_row_counts {
    unsigned rows;
    unsigned texts;
    unsigned sentences;
    unsigned failures; /* rows whose reference failed */
    unsigned wrong;    /* printed, one line each */
};

/*
 * Render every row of a file of JSON lines; prints the counts.
 *
 *   folder  where "template_file" is looked for
 *   strict  where the reference failed we must fail as well; else any outcome with a sentence is right
 */
struct template_row_counts template_rows_check(const char *path, const char *folder, bool strict);

#endif
