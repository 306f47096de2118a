/*
 * arguments.h - a verb's options and arguments, out of argv.
 *
 * Idea     A verb lists its options in a table: name, kind, and the field of struct arguments that the value
 *          goes to. One parser reads every verb; what it does not know it refuses with a sentence.
 * Forms    "--name value" or "--name=value", in any order, before or after the other arguments; "--" ends the
 *          options, so that a prompt may begin with a dash.
 * Owner    Texts are borrowed from argv; arguments_close() frees the lists.
 * See      verbs.c (the table), tests/tools/test_arguments.c.
 */
#ifndef LLMCTL_ARGUMENTS_H
#define LLMCTL_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/llm.h"
#include "shm/status.h"

#define ARGUMENTS_POSITIONAL_MAX 16
#define ARGUMENTS_TEXTS_MAX      8

struct arguments {
    /* every verb */
    const char *socket;   /* NULL: the usual one */
    const char *instance; /* NULL: the one that serves the socket */
    uint64_t timeout_ns;
    bool json;
    bool help;
    const char *positional[ARGUMENTS_POSITIONAL_MAX];
    int positional_count;

    /* generate */
    const char *model;
    uint32_t max_tokens;
    float temperature;
    uint32_t top_k;
    float top_p;
    float min_p;
    float typical_p;
    float repetition_penalty;
    float presence_penalty;
    float frequency_penalty;
    uint32_t min_tokens;
    uint32_t top_logprobs;
    llm_logit_bias *biases; /* [bias_count] */
    uint32_t bias_count;
    uint32_t *banned_ids; /* [banned_id_count] */
    uint32_t banned_id_count;
    uint32_t *allowed_ids; /* [allowed_id_count] */
    uint32_t allowed_id_count;
    uint32_t
        decided; /* enum llm_model_default: values that were given, so the model's do not count */
    uint64_t seed;
    bool has_seed;
    const char *stop_strings[ARGUMENTS_TEXTS_MAX];
    uint32_t stop_string_count;
    uint32_t *stop_ids; /* [stop_id_count] */
    uint32_t stop_id_count;
    uint32_t *prompt_ids; /* [prompt_id_count] */
    uint32_t prompt_id_count;
    bool logprobs;
    bool tokens;
    bool ignore_eos;
    bool stats;

    /* chat */
    const char *system;        /* what the system says first */
    const char *template_file; /* instead of the model's chat template */

    /* counters */
    uint64_t watch_ns; /* 0: once */
    uint32_t times;    /* 0: until interrupted */
    bool prometheus;

    /* trace */
    uint64_t last_ns; /* 0: all there is */
    const char *output_file;

    /* load */
    const char *name;
    const char *alias;

    /* drain */
    bool stay;

    /* config show */
    const char *config_file;

    /* ctx, kv: what is written, and for whom */
    const char *text;
    const char *text_file; /* "-": stdin */
    const char *group;     /* a name or a number */
    uint32_t mode;         /* 0: not given */
    bool pin;
    bool keep;
};

enum option_kind {
    OPTION_FLAG,    /* bool */
    OPTION_TEXT,    /* const char * */
    OPTION_COUNT,   /* uint32_t */
    OPTION_REAL,    /* float */
    OPTION_SECONDS, /* uint64_t, nanoseconds; "2.5" */
    OPTION_SEED,    /* arguments.seed and .has_seed */
    OPTION_STOP,    /* one more of arguments.stop_strings */
    OPTION_MODE,    /* uint32_t; octal, as chmod(1) takes it */
    OPTION_BIASES,  /* arguments.biases and .bias_count; "13:-5,29:2.5" */
    OPTION_IDS      /* uint32_t * and, right behind it, the uint32_t count; "1,2,3" */
};

struct option {
    const char *name;  /* without the dashes; NULL ends a table */
    const char *value; /* what help calls the value; NULL for flags */
    enum option_kind kind;
    size_t offset; /* of the field in struct arguments */
    const char *sentence;
};

/* The options that every verb takes. */
extern const struct option arguments_common[];

/*
 * Read argv into `out_arguments`, which must be zero or hold defaults.
 *
 *   argv      [argc], without the program's name
 *   options   the verb's table, or NULL; arguments_common is always understood
 *   returns   LLM_OK, or LLM_ERR_INVALID with a sentence that names the option and the value
 */
enum llm_status arguments_parse(struct arguments *out_arguments, int argc, const char *const *argv,
                                const struct option *options, struct llm_error *error)
    LLM_MUST_CHECK;
/* "0640" or "640": rw bits only. LLM_OK, or LLM_ERR_INVALID with `what` and the text. */
enum llm_status arguments_mode(const char *what, const char *text, uint32_t *out_mode,
                               struct llm_error *error) LLM_MUST_CHECK;
/* "90", "90s", "10m", "2h", "1d"; "0". LLM_OK, or LLM_ERR_INVALID with the text. */
enum llm_status arguments_duration(const char *text, uint64_t *out_ns, struct llm_error *error)
    LLM_MUST_CHECK;
void arguments_close(struct arguments *arguments);

/* How many words at the start of argv [argc] are common options and their values: `llmctl --socket S status`. */
int arguments_leading(int argc, const char *const *argv);

#endif
