/*
 * family_checkpoint.h - a checkpoint written from a golden file of tests/vectors/families.
 *
 * Idea     The golden file has a configuration as Hugging Face spells it and the names and shapes of its tensors
 *          as transformers has them; counter_weights.h gives their numbers. Together they make a model directory
 *          with config.json and model.safetensors (f32), and what that model must compute.
 */
#ifndef LLM_TESTS_DAEMON_FAMILY_CHECKPOINT_H
#define LLM_TESTS_DAEMON_FAMILY_CHECKPOINT_H

#include <jansson.h>

struct family_checkpoint {
    json_t *golden;
    char directory[64];
};

/* Write the case's directory: "llama-yarn". `edit`: NULL, or an object whose keys replace those of the
 * configuration. Aborts when the golden file cannot be read or the directory not be written. */
void family_checkpoint_open(struct family_checkpoint *checkpoint, const char *name,
                            const char *edit);
void family_checkpoint_close(struct family_checkpoint *checkpoint); /* removes the directory */

#endif
