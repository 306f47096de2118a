/*
 * llmctl.h - the tool's one table: noun, verb, sentence, function.
 *
 * Idea     `llmctl status` is a row of llmctl_verbs[]; so are its options and the line in `llmctl help`.
 *          A verb's function gets its arguments parsed, prints its result on stdout, its complaint as
 *          one sentence on stderr, and returns one of the exit codes that scripts rely on.
 * See      tools/llmctl/README.md, tests/tools/test_arguments.c, tests/e2e/test_llmctl.c (also the exit codes).
 */
#ifndef LLMCTL_LLMCTL_H
#define LLMCTL_LLMCTL_H

#include "client/llm.h"
#include "tools/llmctl/arguments.h"

enum llmctl_exit {
    LLMCTL_DONE = 0,
    LLMCTL_FAILED = 1,
    LLMCTL_USAGE = 2,
    LLMCTL_NO_DAEMON = 3,
    LLMCTL_REFUSED = 4, /* permission, quota, a full queue */
    LLMCTL_TIMED_OUT = 5
};

struct llmctl_verb {
    const char *noun;  /* "engine" */
    const char *verb;  /* "restart"; NULL: the noun alone is the command */
    const char *shape; /* its arguments, for help: "ID", "[PROMPT]", "" */
    const char *sentence;
    enum llmctl_exit (*run)(const struct arguments *arguments);
    const struct option *options; /* its own, besides arguments_common; NULL: none */
    int positional_min;
    int positional_max;
    uint64_t timeout_ns; /* default of --timeout */
};
extern const struct llmctl_verb llmctl_verbs[]; /* ends with noun NULL */

/* Print "llmctl: <sentence>" and say which exit code goes with it. */
enum llmctl_exit llmctl_fail(const struct llm_error *error);

/* Connect to a running daemon, or (`autostart`) to a private one when none runs. */
enum llm_status llmctl_connect(const struct arguments *arguments, bool autostart,
                               llm_connection **out_connection, llm_error *error) LLM_MUST_CHECK;

/* From here on llmctl ends with LLMCTL_TIMED_OUT when --timeout is over: for verbs whose calls have no time-out. */
void llmctl_limit_time(const struct arguments *arguments);

/* The whole of a file ("-": stdin), terminated, in memory that the caller frees. LLM_OK, LLM_ERR_SYSTEM, LLM_ERR_LIMIT. */
enum llm_status llmctl_read_text(const char *path, char **out_text, llm_error *error)
    LLM_MUST_CHECK;

/* What generate's options say; and its way to print an answer as it comes, which closes the stream (generate.c). */
llm_sampling_more llmctl_sampling(const struct arguments *arguments);
enum llmctl_exit llmctl_print_answer(llm_stream *stream, const struct arguments *arguments);

/* The table as part of a manual page (man.c): "verbs", "options". False: no such part. */
bool llmctl_print_man(const char *part);

/* The rows' functions, by file. */
enum llmctl_exit llmctl_status(const struct arguments *arguments);         /* status.c */
enum llmctl_exit llmctl_clients(const struct arguments *arguments);        /* lists.c */
enum llmctl_exit llmctl_requests(const struct arguments *arguments);       /* lists.c */
enum llmctl_exit llmctl_errors(const struct arguments *arguments);         /* lists.c */
enum llmctl_exit llmctl_counters(const struct arguments *arguments);       /* counters.c */
enum llmctl_exit llmctl_trace(const struct arguments *arguments);          /* trace.c */
enum llmctl_exit llmctl_mem(const struct arguments *arguments);            /* memory.c */
enum llmctl_exit llmctl_kv_map(const struct arguments *arguments);         /* memory.c */
enum llmctl_exit llmctl_check(const struct arguments *arguments);          /* check.c */
enum llmctl_exit llmctl_ping(const struct arguments *arguments);           /* steer.c */
enum llmctl_exit llmctl_cancel(const struct arguments *arguments);         /* steer.c */
enum llmctl_exit llmctl_doctor(const struct arguments *arguments);         /* doctor.c */
enum llmctl_exit llmctl_drain(const struct arguments *arguments);          /* steer.c */
enum llmctl_exit llmctl_resume(const struct arguments *arguments);         /* steer.c */
enum llmctl_exit llmctl_stop(const struct arguments *arguments);           /* steer.c */
enum llmctl_exit llmctl_engine_restart(const struct arguments *arguments); /* steer.c */
enum llmctl_exit llmctl_config_check(const struct arguments *arguments);   /* config.c */
enum llmctl_exit llmctl_config_show(const struct arguments *arguments);    /* config.c */
enum llmctl_exit llmctl_model_plan(const struct arguments *arguments);     /* plan.c */
enum llmctl_exit llmctl_models(const struct arguments *arguments);         /* models.c */
enum llmctl_exit llmctl_load(const struct arguments *arguments);           /* models.c */
enum llmctl_exit llmctl_unload(const struct arguments *arguments);         /* models.c */
enum llmctl_exit llmctl_swap(const struct arguments *arguments);           /* models.c */
enum llmctl_exit llmctl_model_unalias(const struct arguments *arguments);  /* models.c */
enum llmctl_exit llmctl_model_default(const struct arguments *arguments);  /* models.c */
enum llmctl_exit llmctl_generate(const struct arguments *arguments);       /* generate.c */
enum llmctl_exit llmctl_chat(const struct arguments *arguments);           /* chat.c */
enum llmctl_exit llmctl_ctx_ls(const struct arguments *arguments);         /* ctx_list.c */
enum llmctl_exit llmctl_ctx_show(const struct arguments *arguments);       /* ctx_list.c */
enum llmctl_exit llmctl_ctx_tree(const struct arguments *arguments);       /* ctx_list.c */
enum llmctl_exit llmctl_ctx_create(const struct arguments *arguments);     /* ctx_change.c */
enum llmctl_exit llmctl_ctx_append(const struct arguments *arguments);     /* ctx_change.c */
enum llmctl_exit llmctl_ctx_fork(const struct arguments *arguments);       /* ctx_change.c */
enum llmctl_exit llmctl_ctx_rewind(const struct arguments *arguments);     /* ctx_change.c */
enum llmctl_exit llmctl_ctx_publish(const struct arguments *arguments);    /* ctx_change.c */
enum llmctl_exit llmctl_ctx_rename(const struct arguments *arguments);     /* ctx_change.c */
enum llmctl_exit llmctl_ctx_chmod(const struct arguments *arguments);      /* ctx_change.c */
enum llmctl_exit llmctl_ctx_pin(const struct arguments *arguments);        /* ctx_change.c */
enum llmctl_exit llmctl_ctx_unpin(const struct arguments *arguments);      /* ctx_change.c */
enum llmctl_exit llmctl_ctx_lease(const struct arguments *arguments);      /* ctx_change.c */
enum llmctl_exit llmctl_ctx_rm(const struct arguments *arguments);         /* ctx_change.c */
enum llmctl_exit llmctl_ctx_ask(const struct arguments *arguments);        /* ctx_talk.c */
enum llmctl_exit llmctl_ctx_cat(const struct arguments *arguments);        /* ctx_talk.c */
enum llmctl_exit llmctl_ctx_score(const struct arguments *arguments);      /* ctx_talk.c */
enum llmctl_exit llmctl_ctx_follow(const struct arguments *arguments);     /* ctx_talk.c */
enum llmctl_exit llmctl_kv_probe(const struct arguments *arguments);       /* kv_probe.c */
enum llmctl_exit llmctl_kv_why(const struct arguments *arguments);         /* kv_probe.c */

#endif
