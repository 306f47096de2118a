/* llmd-engine - the engine's program. Started by llmd with a channel on descriptor 3 and its settings as
 * "key=value" arguments, after "--load" as the loader of a model; not for people. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "daemon/config.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/loading.h"
#include "daemon/engine/step.h"
#include "daemon/log.h"

#define CHANNEL_FD 3

static enum llm_status read_arguments(struct config *config, int argc, char **argv,
                                      struct llm_error *error)
{
    config_init(config);
    enum llm_status status = LLM_OK;
    for (int i = 1; i < argc && status == LLM_OK; i++)
        status = config_set_pair(config, argv[i], "llmd-engine", error);
    return status;
}

static void protect(const struct config *config, const char *name)
{
    enum log_level level = LOG_LEVEL_INFO;
    enum log_format format = LOG_FORMAT_LOGFMT;
    (void)log_level_parse(config->log.level, &level);
    (void)log_format_parse(config->log.format, &format);
    log_open(level, format, config->log.lines_per_minute, name);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NAME, name);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!config->daemon.debugging)
        prctl(PR_SET_DUMPABLE, 0); /* a core dump would hold everybody's prompts */
}

/* The sentence goes to the keeper, who decides what becomes of it. */
static int give_up(struct engine *engine, const struct llm_error *reason)
{
    struct llm_error error;
    if (!engine->link.events ||
        link_say(&engine->link, CHANNEL_FAILED, 0, 0, reason->message, &error) != LLM_OK)
        fprintf(stderr, "llmd-engine: %s\n", reason->message);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static struct engine engine;
    static struct config config;
    struct llm_error error;
    bool load = argc > 1 && strcmp(argv[1], LOADING_ARGUMENT) == 0;
    if (read_arguments(&config, argc - load, argv + load, &error) != LLM_OK)
        return give_up(&engine, &error);
    protect(&config, load ? "llmd-loader" : "llmd-engine");
    if (load)
        return loading_run(&engine, CHANNEL_FD, &config, &error) == LLM_OK
                   ? EXIT_SUCCESS
                   : give_up(&engine, &error);
    if (engine_open(&engine, CHANNEL_FD, &config, &error) != LLM_OK ||
        engine_ready(&engine, &error) != LLM_OK)
        return give_up(&engine, &error);
    engine_run(&engine);
    engine_close(&engine);
    return EXIT_SUCCESS;
}
