/*
 * json_edit.h - wrong values in the right places of a JSON document.
 *
 * Idea     Random bytes hardly ever are JSON, and random JSON hardly ever is a model's. So a document that is accepted
 *          is walked down by child numbers from the input, and what is found there is replaced: by another type, an
 *          edge of a number, a word that means something elsewhere, a short text.
 */
#ifndef TESTS_FUZZ_JSON_EDIT_H
#define TESTS_FUZZ_JSON_EDIT_H

#include <jansson.h>

#include "tests/fuzz/input.h"

/* `values` [count] are JSON texts that this kind of document might hold. */
void json_edit(json_t *root, struct input *in, const char *const *values, size_t count);

#endif
