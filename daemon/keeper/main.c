/* llmd - the keeper's program: options, configuration, going into the background. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/config_text.h"
#include "daemon/keeper/keeper.h"
#include "daemon/keeper/settings.h"
#include "daemon/log.h"
#include "daemon/model/model_place.h"

#define SETTINGS_MAX 64

struct options {
    bool foreground;
    bool print_config, check_config;
    const char *print_format; /* NULL: a file */
    const char *check_path;   /* NULL: the usual files */
    const char *config_path;
    const char *pairs[SETTINGS_MAX]; /* "key=value", in the order of the command line */
    unsigned pair_count;
    char text[SETTINGS_MAX][CONFIG_PATH_BYTES + 64]; /* of those that came as options */
};

const char *argp_program_version = "llmd " LLMD_VERSION;

enum {
    OPTION_CHECK_CONFIG = 256
}; /* no letter of its own */

static const struct argp_option option_table[] = {
    {NULL, 0, NULL, 0, "Running:", 1},
    {"foreground", 'f', NULL, 0, "stay in the foreground and log to standard error", 1},
    {"socket", 's', "PATH", 0, "listen here (daemon.socket)", 1},
    {"instance", 'I', "NAME", 0, "the status file is /llmd.<uid>.NAME (daemon.instance)", 1},
    {"idle-exit", 'i', "SECONDS", 0, "end after so long without a client (daemon.idle_exit_s)", 1},
    {"model", 'm', "NAME|DIR|FILE", 0,
     "the default model (models.default); \"echo\" needs no files", 1},
    {"threads", 't', "N", 0, "threads that compute (cpu.threads)", 1},
    {NULL, 0, NULL, 0, "Configuration:", 2},
    {"config", 'c', "FILE", 0, "read this configuration after the usual ones", 2},
    {"set", 'S', "KEY=VALUE", 0, "set one key, for example limits.requests=64", 2},
    {"print-config", 'p', "FORMAT", OPTION_ARG_OPTIONAL,
     "print all settings and exit: as a file (toml, the default), as lines for programs (list), or "
     "as the man page's text (man)",
     2},
    {"check-config", OPTION_CHECK_CONFIG, "FILE", OPTION_ARG_OPTIONAL,
     "say everything that is wrong with FILE, or with the usual files, and exit", 2},
    {NULL, 0, NULL, 0, "Help:", -1},
    {0},
};

static void add_pair(struct options *options, struct argp_state *state, const char *key,
                     const char *value)
{
    if (options->pair_count == SETTINGS_MAX)
        argp_error(state, "more than %d settings; use a file", SETTINGS_MAX);
    char *text = options->text[options->pair_count];
    int used =
        snprintf(text, sizeof options->text[0], "%s%s%s", key ? key : "", key ? "=" : "", value);
    if (used < 0 || (size_t)used >= sizeof options->text[0])
        argp_error(state, "\"%.40s...\" is too long", value);
    options->pairs[options->pair_count++] = text;
}

/* A path is meant from here; the daemon may run elsewhere. */
static void add_socket(struct options *options, struct argp_state *state, const char *path)
{
    char here[PATH_MAX], absolute[PATH_MAX * 2];
    if (path[0] != '/' && getcwd(here, sizeof here)) {
        snprintf(absolute, sizeof absolute, "%s/%s", here, path);
        path = absolute;
    }
    add_pair(options, state, "daemon.socket", path);
}

/* A word without a slash is a name in the model directories, unless it is a GGUF file here. */
static void add_model(struct options *options, struct argp_state *state, const char *model)
{
    char path[PATH_MAX];
    struct model_place place;
    bool here = strchr(model, '/') || (model_place_from_path(model, &place, NULL) == LLM_OK &&
                                       place.gguf[0] && access(model, F_OK) == 0);
    if (here && model_place_find(model, &place, NULL) == LLM_OK &&
        model_place_path(&place, path, sizeof path, NULL) == LLM_OK)
        model = path;
    else if (here && realpath(model, path))
        model = path;
    add_pair(options, state, "models.default", model);
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct options *options = state->input;
    switch (key) {
    case 'f':
        options->foreground = true;
        break;
    case 'p':
        options->print_config = true;
        options->print_format = value;
        break;
    case OPTION_CHECK_CONFIG:
        options->check_config = true;
        options->check_path = value;
        break;
    case 'c':
        options->config_path = value;
        break;
    case 's':
        add_socket(options, state, value);
        break;
    case 'S':
        add_pair(options, state, NULL, value);
        break;
    case 'm':
        add_model(options, state, value);
        break;
    case 'i':
        add_pair(options, state, "daemon.idle_exit_s", value);
        break;
    case 't':
        add_pair(options, state, "cpu.threads", value);
        break;
    case 'I':
        add_pair(options, state, "daemon.instance", value);
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", value);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* Every setting, below the options. */
static char *add_settings(int key, const char *text, void *input)
{
    (void)input;
    char *help = NULL;
    size_t bytes;
    FILE *out = key == ARGP_KEY_HELP_POST_DOC ? open_memstream(&help, &bytes) : NULL;
    if (!out)
        return (char *)(uintptr_t)text; /* argp's own word for "as it is" */
    fprintf(out,
            "%s\n\nSettings and their defaults, for files (/etc/llmd/llmd.toml, "
            "$XDG_CONFIG_HOME/llmd/llmd.toml, --config) and --set:\n\n",
            text);
    config_print_help(out);
    fclose(out);
    return help;
}

static const struct argp parser = {
    .options = option_table,
    .parser = parse_option,
    .help_filter = add_settings,
    .doc =
        "The daemon that owns the models of this machine and serves them over shared memory.\v"
        "Without --foreground it goes into the background, logs to <socket>.log and returns when "
        "it is ready.",
};

static void set_log(const struct config *config)
{
    enum log_level level = LOG_LEVEL_INFO;
    enum log_format format = LOG_FORMAT_LOGFMT;
    (void)log_level_parse(config->log.level, &level); /* the table allows only names it knows */
    (void)log_format_parse(config->log.format, &format);
    log_open(level, format, config->log.lines_per_minute, "llmd");
}

/* ---- The background -------------------------------------------------------------------------------- */

/* Wait for the daemon's first words: "ready", or why not. */
static int wait_for_start(int ready_fd)
{
    char text[LLM_ERROR_MESSAGE_BYTES] = "";
    size_t used = 0;
    ssize_t taken;
    while (used < sizeof text - 1 &&
           (taken = read(ready_fd, text + used, sizeof text - 1 - used)) != 0) {
        if (taken > 0)
            used += (size_t)taken;
        else if (errno != EINTR)
            break;
    }
    if (strcmp(text, "ready") == 0)
        return EXIT_SUCCESS;
    fprintf(stderr, "llmd: %s\n", used ? text : "the daemon died while it started; see its log");
    return EXIT_FAILURE;
}

static void redirect(int from_fd, int to_fd)
{
    if (from_fd >= 0)
        dup2(from_fd, to_fd);
    if (from_fd > STDERR_FILENO)
        close(from_fd);
}

/* Leave terminal, session and directory; standard error becomes "<socket>.log". */
static enum llm_status detach(const struct config *config, struct llm_error *error)
{
    struct place place;
    enum llm_status status = place_name(&place, config, error);
    if (status == LLM_OK)
        status = place_make_directory(&place, config, error);
    if (status != LLM_OK)
        return status;
    char path[PLACE_PATH_BYTES + 8];
    snprintf(path, sizeof path, "%s.log", place.socket_path);
    int log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (log_fd < 0)
        return llm_fail_errno(error, LLM_ERR_PERMISSION, errno, "cannot open the log %s", path);
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    redirect(log_fd, STDERR_FILENO);
    dup2(null_fd, STDOUT_FILENO);
    redirect(null_fd, STDIN_FILENO);
    if (chdir("/") != 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot change to /");
    return LLM_OK;
}

static int serve(struct config *config, int ready_fd)
{
    static struct keeper keeper; /* large */
    struct llm_error error;
    if (keeper_open(&keeper, config, ready_fd, &error) != LLM_OK) {
        if (ready_fd >= 0)
            dprintf(ready_fd, "%s", error.message);
        else
            fprintf(stderr, "llmd: %s\n", error.message);
        return EXIT_FAILURE;
    }
    int exit_code = keeper_run(&keeper);
    keeper_close(&keeper);
    return exit_code;
}

static int serve_detached(struct config *config, int ready_fd)
{
    struct llm_error error;
    if (detach(config, &error) != LLM_OK) {
        dprintf(ready_fd, "%s", error.message);
        return EXIT_FAILURE;
    }
    return serve(config, ready_fd);
}

/* Twice forked: the daemon is nobody's child and can never get a terminal back. */
static int serve_in_background(struct config *config)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        fprintf(stderr, "llmd: cannot make a pipe: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        setsid();
        _exit(fork() == 0 ? serve_detached(config, ends[1]) : 0);
    }
    close(ends[1]);
    if (child > 0)
        waitpid(child, NULL, 0);
    return wait_for_start(ends[0]);
}

static int print_config(const struct config *config, const char *format)
{
    if (!format || strcmp(format, "toml") == 0)
        config_print(config, stdout);
    else if (strcmp(format, "list") == 0)
        config_print_list(config, stdout);
    else if (strcmp(format, "man") == 0)
        config_print_man(stdout);
    else {
        fprintf(stderr, "llmd: --print-config=%s: the formats are toml, list and man\n", format);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static struct options options;
    static struct config config;
    struct llm_error error;
    argp_parse(&parser, argc, argv, 0, NULL, &options);
    const struct settings settings = {.config_path = options.config_path,
                                      .pairs = options.pairs,
                                      .pair_count = options.pair_count};
    if (options.check_config)
        return settings_check(&settings, options.check_path, stdout);
    if (settings_load(&config, &settings, &error) != LLM_OK) {
        fprintf(stderr, "llmd: %s\n", error.message);
        return EXIT_FAILURE;
    }
    if (options.print_config)
        return print_config(&config, options.print_format);
    set_log(&config);
    return options.foreground ? serve(&config, -1) : serve_in_background(&config);
}
