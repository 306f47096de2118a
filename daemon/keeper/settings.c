#include "daemon/keeper/settings.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/config_check.h"

#define SYSTEM_FILE "/etc/llmd/llmd.toml"
#define FILES_MAX   3

/* The files that are read, in their order. */
struct file_list {
    unsigned count;
    char path[FILES_MAX][PATH_MAX];
};

static void add_file(struct file_list *files, const char *path, bool if_there)
{
    if (!if_there || access(path, F_OK) == 0)
        snprintf(files->path[files->count++], PATH_MAX, "%s", path);
}

static void find_files(struct file_list *files, const struct settings *settings)
{
    const char *home = getenv("XDG_CONFIG_HOME");
    add_file(files, SYSTEM_FILE, true);
    if (home && home[0]) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/llmd/llmd.toml", home);
        add_file(files, path, true);
    }
    if (settings->config_path)
        add_file(files, settings->config_path, false);
}

enum llm_status settings_load(struct config *config, const struct settings *settings,
                              struct llm_error *error)
{
    static struct file_list files; /* large; one thread */
    files.count = 0;
    find_files(&files, settings);
    config_init(config);
    enum llm_status status = LLM_OK;
    for (unsigned i = 0; i < files.count && status == LLM_OK; i++)
        status = config_read(config, files.path[i], error);
    for (unsigned i = 0; i < settings->pair_count && status == LLM_OK; i++)
        status = config_set_pair(config, settings->pairs[i], "command line", error);
    return status;
}

static void read_all(struct config *config, const struct file_list *files,
                     const struct settings *settings, const struct config_machine *machine,
                     struct config_findings *findings)
{
    config_init(config);
    for (unsigned i = 0; i < files->count; i++) {
        config_read_all(config, files->path[i], findings);
        config_check_file(files->path[i], machine, findings);
    }
    for (unsigned i = 0; i < settings->pair_count; i++) {
        struct llm_error error;
        if (config_set_pair(config, settings->pairs[i], "command line", &error) != LLM_OK)
            config_findings_add(findings, true, "%s", error.message);
    }
}

int settings_check(const struct settings *settings, const char *only_path, FILE *out)
{
    static struct config config;
    static struct file_list files;
    static struct config_findings findings;
    struct config_machine machine;
    files.count = findings.count = findings.fail_count = 0;
    if (only_path)
        add_file(&files, only_path, false);
    else
        find_files(&files, settings);
    config_machine_take(&machine);
    read_all(&config, &files, settings, &machine, &findings);
    config_check(&config, &machine, &findings);
    for (unsigned i = 0; i < findings.count; i++)
        fprintf(out, "%s %s\n", findings.items[i].fails ? "fail" : "warn",
                findings.items[i].sentence);
    if (findings.fail_count == 0)
        fprintf(out, "ok the daemon starts with %s", files.count ? "" : "its defaults: no file");
    else
        fprintf(out, "fail the daemon does not start with %s", files.count ? "" : "these settings");
    for (unsigned i = 0; i < files.count; i++)
        fprintf(out, "%s%s", i ? ", " : "", files.path[i]);
    fputc('\n', out);
    return findings.fail_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
