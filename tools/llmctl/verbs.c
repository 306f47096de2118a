#include "tools/llmctl/llmctl.h"

#define S           UINT64_C(1000000000)
#define FIELD(name) offsetof(struct arguments, name)

/* What is not given is as the model's authors recommend. */
#define OPTION_CHOOSING                                                                      \
    {"temperature", "T", OPTION_REAL, FIELD(temperature),                                    \
     "0: always the likeliest token (the model's own)"},                                     \
        {"top-k", "K", OPTION_COUNT, FIELD(top_k), "choose among the K likeliest"},          \
    {                                                                                        \
        "top-p", "P", OPTION_REAL, FIELD(top_p), "choose among the likeliest that make up P" \
    }

static const struct option generate_options[] = {
    {"model", "NAME", OPTION_TEXT, FIELD(model), "which model; without it the daemon's default"},
    {"max-tokens", "N", OPTION_COUNT, FIELD(max_tokens), "longest answer (256)"},
    OPTION_CHOOSING,
    {"min-p", "P", OPTION_REAL, FIELD(min_p),
     "drop what is less likely than P times the likeliest"},
    {"typical-p", "P", OPTION_REAL, FIELD(typical_p),
     "choose among the least surprising surprises that make up P"},
    {"repetition-penalty", "R", OPTION_REAL, FIELD(repetition_penalty),
     "divide the logits of what prompt and answer have by R"},
    {"presence-penalty", "X", OPTION_REAL, FIELD(presence_penalty),
     "take X from the logits of what the answer has"},
    {"frequency-penalty", "X", OPTION_REAL, FIELD(frequency_penalty),
     "the same, once for each time it is there"},
    {"bias", "IDS", OPTION_BIASES, FIELD(biases), "add to the logits of these ids: 13:-5,29:2.5"},
    {"ban", "IDS", OPTION_IDS, FIELD(banned_ids), "never choose these ids: 1,2,3"},
    {"allow", "IDS", OPTION_IDS, FIELD(allowed_ids), "choose nothing but these ids: 1,2,3"},
    {"min-tokens", "N", OPTION_COUNT, FIELD(min_tokens), "do not stop before N tokens"},
    {"seed", "N", OPTION_SEED, FIELD(seed), "same seed, same answer"},
    {"stop", "TEXT", OPTION_STOP, FIELD(stop_strings), "end before this text; up to 8 times"},
    {"stop-id", "IDS", OPTION_IDS, FIELD(stop_ids), "end after one of these ids: 1,2,3"},
    {"ids", "IDS", OPTION_IDS, FIELD(prompt_ids), "the prompt as ids, instead of text"},
    {"tokens", NULL, OPTION_FLAG, FIELD(tokens), "print ids instead of text, one per line"},
    {"logprobs", NULL, OPTION_FLAG, FIELD(logprobs), "as --tokens, each with its log-probability"},
    {"top-logprobs", "N", OPTION_COUNT, FIELD(top_logprobs),
     "as --logprobs, and beside each the N likeliest, up to 20"},
    {"ignore-eos", NULL, OPTION_FLAG, FIELD(ignore_eos), "go on past the model's end of text"},
    {"stats", NULL, OPTION_FLAG, FIELD(stats), "say on stderr how long what took"},
    {0},
};

static const struct option chat_options[] = {
    {"model", "NAME", OPTION_TEXT, FIELD(model), "which model; without it the daemon's default"},
    {"system", "TEXT", OPTION_TEXT, FIELD(system), "what the system says before the first turn"},
    {"template", "FILE", OPTION_TEXT, FIELD(template_file),
     "a chat template (Jinja) instead of the model's"},
    {"max-tokens", "N", OPTION_COUNT, FIELD(max_tokens), "longest answer (256)"},
    {"temperature", "T", OPTION_REAL, FIELD(temperature), "0: always the likeliest token (0)"},
    {"top-k", "K", OPTION_COUNT, FIELD(top_k), "choose among the K likeliest"},
    {"top-p", "P", OPTION_REAL, FIELD(top_p), "choose among the likeliest that make up P"},
    {"min-p", "P", OPTION_REAL, FIELD(min_p),
     "drop what is less likely than P times the likeliest"},
    {"seed", "N", OPTION_SEED, FIELD(seed), "same seed, same answers"},
    {"stop", "TEXT", OPTION_STOP, FIELD(stop_strings), "end before this text; up to 8 times"},
    {"stats", NULL, OPTION_FLAG, FIELD(stats), "say on stderr how long what took"},
    {0},
};

static const struct option counters_options[] = {
    {"watch", "SECONDS", OPTION_SECONDS, FIELD(watch_ns),
     "again and again, with what was counted per second since the last time"},
    {"times", "N", OPTION_COUNT, FIELD(times), "with --watch: this often, then end"},
    {"prometheus", NULL, OPTION_FLAG, FIELD(prometheus), "in Prometheus' text format"},
    {0},
};
static const struct option trace_options[] = {
    {"last", "SECONDS", OPTION_SECONDS, FIELD(last_ns), "only what is not older than this"},
    {"output", "FILE", OPTION_TEXT, FIELD(output_file), "write to FILE instead of standard output"},
    {0},
};
static const struct option load_options[] = {
    {"name", "NAME", OPTION_TEXT, FIELD(name),
     "what requests call it; without it as its directory"},
    {"alias", "ALIAS", OPTION_TEXT, FIELD(alias), "when it serves, let ALIAS stand for it"},
    {0},
};
static const struct option drain_options[] = {
    {"stay", NULL, OPTION_FLAG, FIELD(stay), "do not end the daemon when nothing is left"},
    {0},
};
static const struct option config_options[] = {
    {"config", "FILE", OPTION_TEXT, FIELD(config_file), "read this file after the usual ones"},
    {0},
};

/* Shared by several verbs: what is written, and for whom. */
#define OPTION_INPUTS                                                                    \
    {"file", "FILE", OPTION_TEXT, FIELD(text_file), "the text in this file (-: stdin)"}, \
        {"text", "TEXT", OPTION_TEXT, FIELD(text), "this text"},                         \
    {                                                                                    \
        "ids", "IDS", OPTION_IDS, FIELD(prompt_ids), "these ids: 1,2,3"                  \
    }
#define OPTION_MODE_ROW                                              \
    {                                                                \
        "mode", "MODE", OPTION_MODE, FIELD(mode),                    \
            "who may read and write it, as chmod(1) takes it (0600)" \
    }
#define OPTION_GROUP_ROW                                          \
    {                                                             \
        "group", "GROUP", OPTION_TEXT, FIELD(group),              \
            "whose group bits are meant; without it the caller's" \
    }
#define OPTION_PIN_ROW                                                                 \
    {                                                                                  \
        "pin", NULL, OPTION_FLAG, FIELD(pin), "compute it, and keep what was computed" \
    }
#define OPTION_TOKENS_ROW                                                                     \
    {                                                                                         \
        "tokens", NULL, OPTION_FLAG, FIELD(tokens), "print ids instead of text, one per line" \
    }

static const struct option ctx_create_options[] = {
    OPTION_INPUTS,
    {"model", "NAME", OPTION_TEXT, FIELD(model), "which model; without it the daemon's default"},
    OPTION_MODE_ROW,
    OPTION_GROUP_ROW,
    OPTION_PIN_ROW,
    {0},
};
static const struct option ctx_input_options[] = {OPTION_INPUTS, {0}};
static const struct option ctx_publish_options[] = {
    OPTION_MODE_ROW, OPTION_GROUP_ROW, OPTION_PIN_ROW, {0}};
static const struct option ctx_cat_options[] = {OPTION_TOKENS_ROW, {0}};
static const struct option ctx_ask_options[] = {
    {"keep", NULL, OPTION_FLAG, FIELD(keep),
     "on the context itself: question and answer become part of it"},
    {"max-tokens", "N", OPTION_COUNT, FIELD(max_tokens), "longest answer (256)"},
    OPTION_CHOOSING,
    {"seed", "N", OPTION_SEED, FIELD(seed), "same seed, same answer"},
    {"stop", "TEXT", OPTION_STOP, FIELD(stop_strings), "end before this text; up to 8 times"},
    OPTION_TOKENS_ROW,
    {"stats", NULL, OPTION_FLAG, FIELD(stats), "say on stderr how long what took"},
    {0},
};
static const struct option kv_options[] = {
    OPTION_INPUTS,
    {"model", "NAME", OPTION_TEXT, FIELD(model), "which model; without it the daemon's default"},
    {0},
};

const struct llmctl_verb llmctl_verbs[] = {
    {"status", NULL, "", "how the daemon is, also when its engine hangs or is dead", llmctl_status,
     NULL, 0, 0, 0},
    {"clients", NULL, "", "who is connected", llmctl_clients, NULL, 0, 0, 0},
    {"requests", NULL, "", "what is running and waiting", llmctl_requests, NULL, 0, 0, 0},
    {"counters", NULL, "", "what was done since the daemon started", llmctl_counters,
     counters_options, 0, 0, 0},
    {"errors", NULL, "", "what went wrong, how often, when first and when last", llmctl_errors,
     NULL, 0, 0, 0},
    {"trace", NULL, "", "the last steps and what happened to requests, as a trace for Perfetto",
     llmctl_trace, trace_options, 0, 0, 0},
    {"mem", NULL, "", "who uses which bytes, beside what the kernel says", llmctl_mem, NULL, 0, 0,
     10 * S},
    {"kv", "map", "", "what each block of the pool holds", llmctl_kv_map, NULL, 0, 0, 10 * S},
    {"doctor", NULL, "", "what on this machine holds llmd back, and how to mend it", llmctl_doctor,
     NULL, 0, 0, 10 * S},
    {"check", NULL, "", "look for anything that does not add up", llmctl_check, NULL, 0, 0, 10 * S},
    {"generate", NULL, "[PROMPT]", "answer a prompt (or stdin), streaming; Ctrl-C cancels it",
     llmctl_generate, generate_options, 0, 1, 0},
    {"chat", NULL, "[TURN]...",
     "talk with a model, line by line; or say each TURN (or all of stdin); Ctrl-C stops an answer",
     llmctl_chat, chat_options, 0, ARGUMENTS_POSITIONAL_MAX, 0},
    {"ctx", "ls", "", "the contexts that this user may read", llmctl_ctx_ls, NULL, 0, 0, 10 * S},
    {"ctx", "show", "CONTEXT", "all there is to say of a context: a name, or '#ID'",
     llmctl_ctx_show, NULL, 1, 1, 10 * S},
    {"ctx", "tree", "", "which context was forked from which", llmctl_ctx_tree, NULL, 0, 0, 10 * S},
    {"ctx", "create", "NAME", "make a context and publish it", llmctl_ctx_create,
     ctx_create_options, 1, 1, 60 * S},
    {"ctx", "append", "CONTEXT [TEXT]", "append text (or --file, --ids)", llmctl_ctx_append,
     ctx_input_options, 1, 2, 60 * S},
    {"ctx", "ask", "CONTEXT [TEXT]", "go on behind it with TEXT, on a fork; Ctrl-C cancels it",
     llmctl_ctx_ask, ctx_ask_options, 1, 2, 0},
    {"ctx", "cat", "CONTEXT", "its text", llmctl_ctx_cat, ctx_cat_options, 1, 1, 60 * S},
    {"ctx", "score", "CONTEXT [TEXT]", "how likely TEXT (or --file, --ids) is behind it",
     llmctl_ctx_score, ctx_input_options, 1, 2, 60 * S},
    {"ctx", "follow", "CONTEXT", "read along with the answer that is being generated on it",
     llmctl_ctx_follow, ctx_cat_options, 1, 1, 0},
    {"ctx", "fork", "CONTEXT NAME", "publish a fork of it", llmctl_ctx_fork, ctx_publish_options, 2,
     2, 60 * S},
    {"ctx", "rewind", "CONTEXT N", "drop all but its first N tokens", llmctl_ctx_rewind, NULL, 2, 2,
     10 * S},
    {"ctx", "publish", "CONTEXT NAME", "give it a name, an owner and mode bits", llmctl_ctx_publish,
     ctx_publish_options, 2, 2, 60 * S},
    {"ctx", "rename", "CONTEXT NAME", "give it another name; mode and group stay",
     llmctl_ctx_rename, NULL, 2, 2, 10 * S},
    {"ctx", "chmod", "CONTEXT MODE", "change its mode bits", llmctl_ctx_chmod, NULL, 2, 2, 10 * S},
    {"ctx", "pin", "CONTEXT", "compute it, and keep what was computed", llmctl_ctx_pin, NULL, 1, 1,
     60 * S},
    {"ctx", "unpin", "CONTEXT", "keep it in the cache only as long as there is room",
     llmctl_ctx_unpin, NULL, 1, 1, 10 * S},
    {"ctx", "lease", "CONTEXT TIME", "it ends so long from now (10m, 2h, 1d); 0: no longer",
     llmctl_ctx_lease, NULL, 2, 2, 10 * S},
    {"ctx", "rm", "CONTEXT...", "end contexts, named or not", llmctl_ctx_rm, NULL, 1,
     ARGUMENTS_POSITIONAL_MAX, 10 * S},
    {"kv", "probe", "[TEXT]", "what of a prompt is in the cache, as a table", llmctl_kv_probe,
     kv_options, 0, 1, 10 * S},
    {"kv", "why", "[TEXT]", "what of a prompt is in the cache, and why the rest is not",
     llmctl_kv_why, kv_options, 0, 1, 10 * S},
    {"cancel", NULL, "ID", "cancel a request, as numbered by `llmctl requests`", llmctl_cancel,
     NULL, 1, 1, 10 * S},
    {"ping", NULL, "", "one round trip through the engine", llmctl_ping, NULL, 0, 0, 10 * S},
    {"models", NULL, "", "which models are loaded, and what stands for them", llmctl_models, NULL,
     0, 0, 10 * S},
    {"load", NULL, "DIR", "load a model (a name or a directory) while everything goes on",
     llmctl_load, load_options, 1, 1, 3600 * S},
    {"unload", NULL, "MODEL", "let a model's requests end, then forget it", llmctl_unload, NULL, 1,
     1, 600 * S},
    {"swap", NULL, "ALIAS MODEL", "let ALIAS stand for MODEL from the next request on", llmctl_swap,
     NULL, 2, 2, 60 * S},
    {"model", "default", "MODEL", "the model for requests that name none", llmctl_model_default,
     NULL, 1, 1, 60 * S},
    {"model", "unalias", "ALIAS", "let ALIAS stand for nothing", llmctl_model_unalias, NULL, 1, 1,
     60 * S},
    {"model", "plan", "[NAME]", "the kernel calls of one step of a model", llmctl_model_plan, NULL,
     0, 1, 10 * S},
    {"config", "check", "[FILE]", "everything wrong with FILE, or with the usual configuration",
     llmctl_config_check, NULL, 0, 1, 0},
    {"config", "show", "[KEY]", "what a daemon started now would run with, and where it is set",
     llmctl_config_show, config_options, 0, 1, 0},
    {"engine", "restart", "", "replace the engine; answers under way go on", llmctl_engine_restart,
     NULL, 0, 0, 60 * S},
    {"drain", NULL, "", "refuse new requests, let running ones end, then end the daemon",
     llmctl_drain, drain_options, 0, 0, 600 * S},
    {"resume", NULL, "", "take requests again after `llmctl drain --stay`", llmctl_resume, NULL, 0,
     0, 10 * S},
    {"stop", NULL, "", "end the daemon", llmctl_stop, NULL, 0, 0, 10 * S},
    {0},
};
