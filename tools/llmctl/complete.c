#include "tools/llmctl/complete.h"

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/llmctl/ctx.h"
#include "tools/llmctl/daemon_find.h"
#include "tools/llmctl/llmctl.h"

/* One question: the words before the last one, and what the candidates must begin with. */
struct completion {
    FILE *out;
    int count; /* of the words before the last */
    const char *const *words;
    const char
        *prefix; /* "--model=" when the value hangs on its option: printed before each candidate */
    size_t prefix_bytes;
    const char *typed;    /* what the user began to type */
    struct arguments ask; /* --socket and --instance of the command line: which daemon is meant */
};

static bool begins_with(const char *text, const char *begin)
{
    return strncmp(text, begin, strlen(begin)) == 0;
}

bool complete_is_plain(const char *text)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+-=@%,";
    return text[0] && text[0] != '-' && text[strspn(text, plain)] == 0;
}

static void offer(const struct completion *at, const char *candidate, const char *sentence)
{
    if (begins_with(candidate, at->typed))
        fprintf(at->out, "%.*s%s\t%s\n", (int)at->prefix_bytes, at->prefix, candidate, sentence);
}

static void offer_live(const struct completion *at, const char *name, const char *sentence)
{
    if (complete_is_plain(name))
        offer(at, name, sentence);
}

/* ---- Live names ------------------------------------------------------------------------------------ */

static void offer_requests(const struct completion *at)
{
    struct status_view *view;
    if (daemon_look(&at->ask, &view, NULL) != LLM_OK)
        return;
    for (uint32_t i = 0; i < view->request_count; i++) {
        const struct view_request *request = &view->requests[i];
        char id[24], sentence[96];
        snprintf(id, sizeof id, "%" PRIu64, request->request_id);
        snprintf(sentence, sizeof sentence, "%s, %u of %u tokens",
                 status_view_phase_name(request->phase), request->produced_tokens,
                 request->max_tokens);
        offer(at, id, sentence);
    }
    free(view);
}

static void leave(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

/* As the status file lists them, also while the daemon hangs. False: this user may not read it. */
static bool offer_listed_models(const struct completion *at)
{
    struct status_view *view;
    if (daemon_look(&at->ask, &view, NULL) != LLM_OK)
        return false;
    for (uint32_t i = 0; i < view->model_count; i++)
        offer_live(at, view->model_names[i], "a model");
    if (view->model_count == 0)
        offer_live(at, view->model_name, view->model_text);
    free(view);
    return true;
}

/* Models by name, and what else stands for them. */
static void offer_models(const struct completion *at, bool aliases)
{
    llm_connection *connection;
    llm_models models;
    bool listed = offer_listed_models(at);
    fflush(at->out);
    signal(SIGALRM, leave);
    if ((listed && !aliases) || llmctl_connect(&at->ask, false, &connection, NULL) != LLM_OK)
        return;
    if (llm_models_list(connection, &models, NULL) == LLM_OK) {
        for (uint32_t i = 0; !listed && i < models.model_count; i++)
            offer_live(at, models.models[i].name, models.models[i].text);
        for (uint32_t i = 0; aliases && i < models.alias_count; i++)
            offer_live(at, models.aliases[i].name, "an alias");
    }
    llm_disconnect(connection);
}

/* Those of the daemon that this user may read; nobody's is started. */
static void offer_contexts(const struct completion *at)
{
    llm_connection *connection;
    llm_context_info *infos;
    uint32_t count;
    signal(SIGALRM, leave); /* the engine may hang: then nothing is offered */
    if (llmctl_connect(&at->ask, false, &connection, NULL) != LLM_OK)
        return;
    if (ctx_list(connection, &infos, &count, NULL) == LLM_OK) {
        for (uint32_t i = 0; i < count; i++) {
            char sentence[96];
            snprintf(sentence, sizeof sentence, "%u tokens", infos[i].length);
            if (infos[i].named)
                offer_live(at, infos[i].name, sentence);
        }
        free(infos);
    }
    llm_disconnect(connection);
}

/* Every daemon whose status file we may read, by its socket or by its instance's name. */
static void offer_daemons(const struct completion *at, bool by_socket)
{
    char own[32];
    snprintf(own, sizeof own, "llmd.%u.", (unsigned)getuid());
    DIR *folder = opendir("/dev/shm");
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        char name[sizeof entry->d_name + 1], socket[LLM_STATUS_TEXT_BYTES + 1] = {0};
        snprintf(name, sizeof name, "/%s", entry->d_name);
        const struct llm_status_file *file;
        if (!begins_with(entry->d_name, by_socket ? "llmd." : own) ||
            llm_status_open(name, &file, NULL) != LLM_OK)
            continue;
        memcpy(socket, file->keeper.socket_path, LLM_STATUS_TEXT_BYTES);
        bool lives = process_lives(file->keeper.keeper_pid);
        llm_status_close(file);
        if (by_socket && lives)
            offer_live(at, socket, "a running daemon's");
        else if (!by_socket && complete_is_plain(socket))
            offer_live(at, entry->d_name + strlen(own), socket);
    }
    if (folder)
        closedir(folder);
}

/* ---- Other programs' help -------------------------------------------------------------------------- */

/* A program beside this one, or the one on PATH; its standard output with these fixed arguments. */
static FILE *ask_program(const char *program, const char *arguments)
{
    char self[PATH_MAX], command[PATH_MAX * 2];
    ssize_t bytes = readlink("/proc/self/exe", self, sizeof self - 1);
    self[bytes > 0 ? bytes : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        snprintf(slash, sizeof self - (size_t)(slash - self), "/%s", program);
    bool beside = slash && access(self, X_OK) == 0 && !strchr(self, '\'');
    snprintf(command, sizeof command, "ARGP_HELP_FMT=rmargin=9999 '%s' %s 2>/dev/null",
             beside ? self : program, arguments);
    return popen(command, "r");
}

/* "  -c, --config=FILE    read this": its long name into `name`, without what follows; NULL: no option. */
static const char *option_in_help(char *line, char *name, size_t bytes)
{
    char *at = line + strspn(line, " ");
    char *dashes = *at == '-' ? strstr(at, "--") : NULL;
    if (!dashes || at == line)
        return NULL;
    size_t length = strcspn(dashes, " =[\n");
    const char *sentence = strstr(dashes, "  ");
    snprintf(name, bytes, "%.*s", (int)length, dashes);
    return sentence ? sentence + strspn(sentence, " ") : "";
}

/* "  llm-bench ipc [OPTIONS]   what it measures": the word after the program's name. */
static const char *verb_in_help(const char *program, char *line, char *name, size_t bytes)
{
    char *at = line + strspn(line, " ");
    size_t length = strlen(program);
    if (at == line || strncmp(at, program, length) != 0 || at[length] != ' ')
        return NULL;
    at += length + 1;
    const char *sentence = strstr(at, "  ");
    size_t word = strcspn(at, " \n");
    if (word == 0 || at[0] < 'a' || at[0] > 'z')
        return NULL;
    snprintf(name, bytes, "%.*s", (int)word, at);
    return sentence ? sentence + strspn(sentence, " ") : "";
}

static void offer_help(const struct completion *at, const char *program, const char *arguments)
{
    FILE *help = ask_program(program, arguments);
    char line[1024], name[128];
    while (help && fgets(line, sizeof line, help)) {
        line[strcspn(line, "\n")] = 0;
        bool option = at->typed[0] == '-';
        const char *sentence = option ? option_in_help(line, name, sizeof name)
                                      : verb_in_help(program, line, name, sizeof name);
        if (sentence)
            offer(at, name, sentence);
    }
    if (help)
        pclose(help);
}

/* Of `llmd --print-config`: "[table]", "# sentence", "key = value". */
static void offer_keys(const struct completion *at, const char *behind)
{
    FILE *config = ask_program("llmd", "--print-config");
    char line[1024], sentence[1024] = "", table[64] = "", key[160];
    while (config && fgets(line, sizeof line, config)) {
        line[strcspn(line, "\n")] = 0;
        size_t word = strcspn(line, " =");
        if (line[0] == '[')
            snprintf(table, sizeof table, "%.*s", (int)strcspn(line + 1, "]"), line + 1);
        else if (line[0] == '#')
            snprintf(sentence, sizeof sentence, "%s", line + 1 + strspn(line + 1, " "));
        else if (word > 0 && line[word]) {
            snprintf(key, sizeof key, "%.60s.%.*s%s", table, (int)(word < 64 ? word : 64), line,
                     behind);
            offer(at, key, sentence);
        }
    }
    if (config)
        pclose(config);
    if (behind[0])
        fputs(":nospace\n", at->out);
}

/* ---- llmctl ---------------------------------------------------------------------------------------- */

/* What the help calls a value says what it is: "ID", "NAME|DIR", "[FILE]". */
static void offer_value(const struct completion *at, const char *name, const char *shape)
{
    if (strcmp(name, "socket") == 0)
        offer_daemons(at, true);
    else if (strcmp(name, "instance") == 0)
        offer_daemons(at, false);
    else if (strcmp(name, "model") == 0)
        offer_models(at, true);
    else if (strcmp(name, "set") == 0)
        offer_keys(at, "=");
    else if (strstr(shape, "KEY"))
        offer_keys(at, "");
    else if (strcmp(name, "cancel") == 0)
        offer_requests(at);
    if (strstr(shape, "FILE") || strstr(shape, "PATH"))
        fputs(":files\n", at->out);
    else if (strstr(shape, "DIR"))
        fputs(":directories\n", at->out);
}

static void offer_options(const struct completion *at, const struct option *options)
{
    for (; options && options->name; options++) {
        char name[64];
        snprintf(name, sizeof name, "--%s", options->name);
        offer(at, name, options->sentence);
    }
}

static const struct option *find_option(const struct option *options, const char *word,
                                        size_t bytes)
{
    for (; options && options->name; options++)
        if (strlen(options->name) == bytes && strncmp(options->name, word, bytes) == 0)
            return options;
    return NULL;
}

/* The option that a word such as "--model" or "--model=x" names. */
static const struct option *option_of(const struct llmctl_verb *verb, const char *word)
{
    if (!begins_with(word, "--"))
        return NULL;
    size_t bytes = strcspn(word + 2, "=");
    const struct option *option = find_option(verb ? verb->options : NULL, word + 2, bytes);
    return option ? option : find_option(arguments_common, word + 2, bytes);
}

static void offer_nouns(const struct completion *at)
{
    const char *last = "";
    for (const struct llmctl_verb *verb = llmctl_verbs; verb->noun; verb++) {
        if (strcmp(verb->noun, last) == 0)
            continue;
        last = verb->noun;
        offer(at, verb->noun, verb->sentence);
    }
    offer(at, "help", "list the verbs");
}

static void offer_verbs_of(const struct completion *at, const char *noun)
{
    for (const struct llmctl_verb *verb = llmctl_verbs; verb->noun; verb++)
        if (verb->verb && strcmp(verb->noun, noun) == 0)
            offer(at, verb->verb, verb->sentence);
}

static const struct llmctl_verb *find_row(const char *noun, const char *second)
{
    for (const struct llmctl_verb *verb = llmctl_verbs; noun && verb->noun; verb++)
        if (strcmp(verb->noun, noun) == 0 &&
            (!verb->verb || (second && strcmp(verb->verb, second) == 0)))
            return verb;
    return NULL;
}

/* What the words before the cursor say: noun and second word, the verb's row, and whether an option waits for its
 * value. */
struct line {
    const char *noun, *second;
    const struct llmctl_verb *verb;
    const struct option *waits;
    int positionals; /* behind them */
    bool options_over;
};

static void read_word(struct completion *at, struct line *line, const char *word)
{
    const struct option *option = option_of(line->verb, word);
    const char *equals = strchr(word, '=');
    if (line->waits) {
        if (line->waits->offset == offsetof(struct arguments, socket))
            at->ask.socket = word;
        else if (line->waits->offset == offsetof(struct arguments, instance))
            at->ask.instance = word;
        line->waits = NULL;
    } else if (!line->options_over && strcmp(word, "--") == 0) {
        line->options_over = true;
    } else if (!line->options_over && option) {
        line->waits = option->kind == OPTION_FLAG ? NULL : option;
        if (line->waits && equals)
            read_word(at, line, equals + 1);
    } else if (line->options_over || word[0] != '-') {
        if (!line->noun)
            line->noun = word;
        else if (!line->second)
            line->second = word;
        else
            line->positionals++;
    }
    line->verb = find_row(line->noun, line->second);
}

static void complete_llmctl(struct completion *at)
{
    struct line line = {0};
    for (int i = 1; i < at->count; i++)
        read_word(at, &line, at->words[i]);
    const char *equals = begins_with(at->typed, "--") ? strchr(at->typed, '=') : NULL;
    if (!line.waits && !line.options_over && equals) {
        line.waits = option_of(line.verb, at->typed);
        at->prefix = at->typed;
        at->prefix_bytes = (size_t)(equals + 1 - at->typed);
        at->typed = equals + 1;
        if (!line.waits || line.waits->kind == OPTION_FLAG)
            return;
    }
    if (line.waits)
        offer_value(at, line.waits->name, line.waits->value);
    else if (at->typed[0] == '-' && !line.options_over) {
        offer_options(at, line.verb ? line.verb->options : NULL);
        offer_options(at, arguments_common);
    } else if (!line.noun)
        offer_nouns(at);
    else if (!line.verb)
        offer_verbs_of(at, line.noun);
    else if (begins_with(line.verb->shape, "CONTEXT") &&
             (line.positionals == 0 || strstr(line.verb->shape, "...")))
        offer_contexts(at);
    else if (strcmp(line.verb->shape, "MODEL") == 0 || strncmp(line.verb->shape, "ALIAS", 5) == 0)
        offer_models(at, line.verb->shape[0] == 'A' && line.positionals == 0);
    else if (line.verb->shape[0])
        offer_value(at, line.verb->noun, line.verb->shape);
}

/* ---- llmd, llm-bench: options out of their help ---------------------------------------------------- */

/* Which of llmd's options wait for which kind of value. */
static const struct {
    const char *name, *letter, *shape;
} llmd_values[] = {
    {"--config", "-c", "FILE"}, {"--socket", "-s", "PATH"}, {"--model", "-m", "FILE"},
    {"--set", "-S", "KEY"},     {"--idle-exit", "-i", ""},  {"--threads", "-t", ""},
    {"--instance", "-I", ""},
};

static void complete_llmd(struct completion *at)
{
    const char *before = at->count > 1 ? at->words[at->count - 1] : "";
    const char *equals = begins_with(at->typed, "--") ? strchr(at->typed, '=') : NULL;
    for (size_t i = 0; i < sizeof llmd_values / sizeof llmd_values[0]; i++) {
        size_t bytes = strlen(llmd_values[i].name);
        bool hangs = equals && (size_t)(equals - at->typed) == bytes &&
                     strncmp(at->typed, llmd_values[i].name, bytes) == 0;
        if (!hangs && strcmp(before, llmd_values[i].name) != 0 &&
            strcmp(before, llmd_values[i].letter) != 0)
            continue;
        if (hangs) {
            at->prefix = at->typed;
            at->prefix_bytes = bytes + 1;
            at->typed = equals + 1;
        }
        offer_value(at, llmd_values[i].name + 2, llmd_values[i].shape);
        return;
    }
    if (at->typed[0] == '-')
        offer_help(at, "llmd", "--help");
}

static void complete_bench(struct completion *at)
{
    char arguments[64] = "--help";
    const char *verb = at->count > 1 ? at->words[1] : "";
    bool named = verb[0] >= 'a' && verb[0] <= 'z' &&
                 verb[strspn(verb, "abcdefghijklmnopqrstuvwxyz-")] == 0 && strlen(verb) < 32;
    if (named)
        snprintf(arguments, sizeof arguments, "%s --help", verb);
    if (at->typed[0] == '-' || at->count == 1)
        offer_help(at, "llm-bench", arguments);
}

void complete_print(int count, const char *const *words, FILE *out)
{
    if (count < 2)
        return;
    struct completion at = {
        .out = out, .count = count - 1, .words = words, .prefix = "", .typed = words[count - 1]};
    const char *slash = strrchr(words[0], '/');
    const char *program = slash ? slash + 1 : words[0];
    if (strcmp(program, "llmctl") == 0)
        complete_llmctl(&at);
    else if (strcmp(program, "llmd") == 0)
        complete_llmd(&at);
    else if (strcmp(program, "llm-bench") == 0)
        complete_bench(&at);
}
