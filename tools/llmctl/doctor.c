/* llmctl doctor - runs the probes, prints what they say; the exit code is 1 when one fails. */
#include "tools/llmctl/doctor.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/llmctl/daemon_find.h"
#include "tools/llmctl/json_out.h"
#include "tools/llmctl/llmctl.h"
#include "tools/llmctl/llmd_run.h"
#include "tools/llmctl/text_out.h"

const struct doctor_probe doctor_probes[] = {
    {"kernel", probe_kernel},
    {"features", probe_features},
    {"pidfd", probe_pidfd},
    {"memfd", probe_memfd},
    {"futex", probe_futex},
    {"openat2", probe_openat2},
    {"disabled", probe_disabled},
    {"seccomp", probe_seccomp},
    {"container", probe_container},
    {"clocksource", probe_clocksource},
    {"descriptors", probe_descriptors},
    {"memlock", probe_memlock},
    {"shm", probe_shm},
    {"memory", probe_memory},
    {"cgroup", probe_cgroup},
    {"overcommit", probe_overcommit},
    {"mappings", probe_mappings},
    {"instructions", probe_instructions},
    {"governor", probe_governor},
    {"threads", probe_threads},
    {"smt", probe_smt},
    {"gpu", probe_gpu},
    {"core dumps", probe_core_dumps},
    {"ptrace", probe_ptrace},
    {"program", probe_program},
    {"config", probe_config},
    {"socket", probe_socket},
    {"daemon", probe_daemon},
    {"versions", probe_versions},
    {"errors", probe_errors},
    {"status files", probe_status_files},
    {0},
};

/* ---- For probes ------------------------------------------------------------------------------------ */

void doctor_say(struct doctor *doctor, enum doctor_grade grade, const char *remedy,
                const char *format, ...)
{
    if (doctor->line_count == DOCTOR_LINES_MAX)
        return;
    struct doctor_line *line = &doctor->lines[doctor->line_count++];
    char fact[DOCTOR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(fact, sizeof fact, format, args);
    va_end(args);
    line->grade = grade;
    line->probe = doctor->probe;
    text_printable(line->fact, sizeof line->fact, fact);
    text_printable(line->remedy, sizeof line->remedy, remedy);
}

bool doctor_read(const struct doctor *doctor, const char *path, char *out_text, size_t bytes)
{
    char whole[512];
    snprintf(whole, sizeof whole, "%s%s", doctor->root, path);
    int fd = open(whole, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return false;
    size_t used = 0;
    ssize_t taken;
    while (used < bytes - 1 && (taken = read(fd, out_text + used, bytes - 1 - used)) > 0)
        used += (size_t)taken;
    close(fd);
    while (used > 0 && out_text[used - 1] == '\n')
        used--;
    out_text[used] = '\0';
    return true;
}

long long doctor_number_after(const char *text, const char *key)
{
    size_t bytes = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, bytes) == 0)
            return strtoll(line + bytes, NULL, 10);
    }
    return -1;
}

void doctor_run(struct doctor *doctor)
{
    for (const struct doctor_probe *probe = doctor_probes; probe->name; probe++) {
        doctor->probe = probe->name;
        probe->run(doctor);
    }
}

uint32_t doctor_count(const struct doctor *doctor, enum doctor_grade grade)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < doctor->line_count; i++)
        count += doctor->lines[i].grade == grade;
    return count;
}

/* ---- Settings -------------------------------------------------------------------------------------- */

static void take_setting(struct doctor_settings *settings, const struct llmd_setting *setting)
{
    uint64_t number = strtoull(setting->value, NULL, 10);
    if (strcmp(setting->key, "limits.connections") == 0)
        settings->connections = number;
    else if (strcmp(setting->key, "kv.pool_bytes") == 0)
        settings->pool_bytes = number;
    else if (strcmp(setting->key, "cpu.threads") == 0)
        settings->threads = number;
    else if (strcmp(setting->key, "daemon.debugging") == 0)
        settings->debugging = strcmp(setting->value, "true") == 0;
}

static void ask_llmd(struct doctor *doctor)
{
    struct doctor_facts *facts = &doctor->facts;
    struct llm_error error;
    char *text;
    int exit_code = 0;
    if (llmd_run((const char *const[]){"--version", NULL}, &text, &exit_code, &error) != LLM_OK) {
        snprintf(facts->llmd_sentence, sizeof facts->llmd_sentence, "%s", error.message);
        return;
    }
    snprintf(facts->llmd_version, sizeof facts->llmd_version, "%.*s", (int)strcspn(text, "\n"),
             text);
    free(text);
    if (llmd_run((const char *const[]){"--check-config", NULL}, &text, &exit_code, &error) ==
        LLM_OK) {
        snprintf(facts->config_findings, sizeof facts->config_findings, "%s", text);
        facts->config_fails = exit_code != 0;
        free(text);
    }
    if (facts->config_fails || llmd_run((const char *const[]){"--print-config=list", NULL}, &text,
                                        &exit_code, &error) != LLM_OK)
        return;
    struct llmd_setting setting;
    for (char *rest = text; llmd_setting_next(&rest, &setting);)
        take_setting(&doctor->settings, &setting);
    free(text);
}

/* ---- The verb -------------------------------------------------------------------------------------- */

static const char *const grade_names[] = {
    [DOCTOR_OK] = "ok", [DOCTOR_WARN] = "warn", [DOCTOR_FAIL] = "fail"};

static void print_text(const struct doctor *doctor)
{
    for (uint32_t i = 0; i < doctor->line_count; i++) {
        const struct doctor_line *line = &doctor->lines[i];
        printf("%-4s  %-12s  %s\n", grade_names[line->grade], line->probe, line->fact);
        if (line->remedy[0])
            printf("%20s-> %s\n", "", line->remedy);
    }
    printf("%u ok, %u warn, %u fail\n", doctor_count(doctor, DOCTOR_OK),
           doctor_count(doctor, DOCTOR_WARN), doctor_count(doctor, DOCTOR_FAIL));
}

static void print_json(const struct doctor *doctor)
{
    struct json_out json;
    json_out_init(&json, stdout);
    json_out_object(&json, NULL);
    json_out_bool(&json, "ok", doctor_count(doctor, DOCTOR_FAIL) == 0);
    for (int grade = DOCTOR_OK; grade <= DOCTOR_FAIL; grade++)
        json_out_count(&json,
                       grade == DOCTOR_OK     ? "ok_count"
                       : grade == DOCTOR_WARN ? "warn_count"
                                              : "fail_count",
                       doctor_count(doctor, (enum doctor_grade)grade));
    json_out_array(&json, "lines");
    for (uint32_t i = 0; i < doctor->line_count; i++) {
        const struct doctor_line *line = &doctor->lines[i];
        json_out_object(&json, NULL);
        json_out_text(&json, "grade", grade_names[line->grade]);
        json_out_text(&json, "probe", line->probe);
        json_out_text(&json, "fact", line->fact);
        json_out_text(&json, "remedy", line->remedy);
        json_out_end(&json);
    }
    json_out_end(&json);
    json_out_end(&json);
}

enum llmctl_exit llmctl_doctor(const struct arguments *arguments)
{
    static struct doctor doctor; /* large */
    struct status_view *view = NULL;
    doctor = (struct doctor){.root = "", .settings = {.connections = 1024}};
    if (daemon_look(arguments, &view, NULL) == LLM_OK)
        doctor.view = view;
    doctor_take_facts(&doctor, arguments->socket);
    ask_llmd(&doctor);
    doctor_run(&doctor);
    if (arguments->json)
        print_json(&doctor);
    else
        print_text(&doctor);
    free(view);
    return doctor_count(&doctor, DOCTOR_FAIL) == 0 ? LLMCTL_DONE : LLMCTL_FAILED;
}
