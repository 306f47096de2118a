/* llmctl config check, config show - what llmd says about its settings (llmd_run.h), as a table or as JSON. */
#include <stdlib.h>
#include <string.h>

#include "tools/llmctl/json_out.h"
#include "tools/llmctl/llmctl.h"
#include "tools/llmctl/llmd_run.h"
#include "tools/llmctl/text_out.h"

/* ---- check ----------------------------------------------------------------------------------------- */

/* Lines "fail <sentence>", "warn <sentence>", "ok <sentence>". */
static void print_findings(char *text)
{
    for (char *line; (line = strsep(&text, "\n")) != NULL;)
        if (*line) {
            size_t grade_bytes = strcspn(line, " ");
            printf("%-4.*s  %s\n", (int)grade_bytes, line,
                   line + grade_bytes + (line[grade_bytes] == ' '));
        }
}

static void print_findings_json(char *text, bool ok)
{
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_object(&json, NULL);
    json_out_bool(&json, "ok", ok);
    json_out_array(&json, "findings");
    for (char *line; (line = strsep(&text, "\n")) != NULL;) {
        char *grade = strsep(&line, " ");
        if (!line)
            continue;
        json_out_object(&json, NULL);
        json_out_text(&json, "grade", grade);
        json_out_text(&json, "text", line);
        json_out_end(&json);
    }
    json_out_end(&json);
    json_out_end(&json);
}

enum llmctl_exit llmctl_config_check(const struct arguments *arguments)
{
    struct llm_error error;
    char option[4096] = "--check-config", *text;
    int exit_code = 0;
    if (arguments->positional_count > 0)
        snprintf(option, sizeof option, "--check-config=%s", arguments->positional[0]);
    if (llmd_run((const char *const[]){option, NULL}, &text, &exit_code, &error) != LLM_OK)
        return llmctl_fail(&error);
    if (arguments->json)
        print_findings_json(text, exit_code == 0);
    else
        print_findings(text);
    free(text);
    return exit_code == 0 ? LLMCTL_DONE : LLMCTL_FAILED;
}

/* ---- show ------------------------------------------------------------------------------------------ */

/* `wanted`: a key, the name of a table, or NULL for all. */
static bool is_wanted(const struct llmd_setting *setting, const char *wanted)
{
    size_t bytes = wanted ? strlen(wanted) : 0;
    return !wanted || strcmp(setting->key, wanted) == 0 ||
           (strncmp(setting->key, wanted, bytes) == 0 && setting->key[bytes] == '.');
}

static unsigned show_table(char *text, const char *wanted)
{
    struct text_table table;
    struct llmd_setting setting;
    unsigned count = 0;
    text_table_init(&table, "lll");
    text_table_cell(&table, "KEY");
    text_table_cell(&table, "VALUE");
    text_table_cell(&table, "FROM");
    while (llmd_setting_next(&text, &setting)) {
        if (!is_wanted(&setting, wanted))
            continue;
        text_table_cell(&table, "%s", setting.key);
        text_table_cell(&table, "%s", setting.value[0] ? setting.value : "\"\"");
        text_table_cell(&table, "%s", setting.origin);
        count++;
    }
    text_table_close(&table, stdout);
    return count;
}

static unsigned show_json(char *text, const char *wanted)
{
    struct json_out json;
    struct llmd_setting setting;
    unsigned count = 0;
    json_out_init(&json, stdout);
    json_out_array(&json, NULL);
    while (llmd_setting_next(&text, &setting)) {
        if (!is_wanted(&setting, wanted))
            continue;
        json_out_object(&json, NULL);
        json_out_text(&json, "key", setting.key);
        json_out_text(&json, "value", setting.value);
        json_out_text(&json, "from", setting.origin);
        json_out_text(&json, "default", setting.initial);
        json_out_text(&json, "type", setting.type);
        json_out_text(&json, "allowed", setting.range);
        json_out_text(&json, "sentence", setting.sentence);
        json_out_end(&json);
        count++;
    }
    json_out_end(&json);
    return count;
}

enum llmctl_exit llmctl_config_show(const struct arguments *arguments)
{
    struct llm_error error;
    char *text;
    int exit_code = 0;
    const char *wanted = arguments->positional_count > 0 ? arguments->positional[0] : NULL;
    const char *const with_file[] = {"--print-config=list", "--config", arguments->config_file,
                                     NULL};
    const char *const without[] = {"--print-config=list", NULL};
    if (llmd_run(arguments->config_file ? with_file : without, &text, &exit_code, &error) != LLM_OK)
        return llmctl_fail(&error);
    unsigned count = 0;
    if (exit_code == 0) /* else llmd has said why */
        count = arguments->json ? show_json(text, wanted) : show_table(text, wanted);
    free(text);
    if (exit_code == 0 && count == 0)
        fprintf(stderr,
                "llmctl: there is no setting or table \"%s\"; `llmctl config show` lists them\n",
                wanted ? wanted : "");
    return exit_code == 0 && count > 0 ? LLMCTL_DONE : LLMCTL_FAILED;
}
