/* The doctor's probes of llmd itself: program, settings, socket, the running daemon, and what dead ones left. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/llmctl/doctor.h"

void probe_program(struct doctor *doctor)
{
    const struct doctor_facts *facts = &doctor->facts;
    if (facts->llmd_sentence[0])
        doctor_say(doctor, doctor->view ? DOCTOR_WARN : DOCTOR_FAIL,
                   "install llmd beside llmctl, or name it in LLMD_BINARY", "%s",
                   facts->llmd_sentence);
    else if (strcmp(facts->llmd_version, "llmd " LLMD_VERSION) != 0)
        doctor_say(doctor, DOCTOR_WARN, "install both from one version",
                   "the program llmd is \"%s\", this llmctl is %s", facts->llmd_version,
                   LLMD_VERSION);
    else
        doctor_say(doctor, DOCTOR_OK, "", "the program is %s, like this llmctl",
                   facts->llmd_version);
}

/* Lines "fail <sentence>", "warn <sentence>", "ok <sentence>" of `llmd --check-config`. */
void probe_config(struct doctor *doctor)
{
    const char *line = doctor->facts.config_findings;
    while (*line) {
        int bytes = (int)strcspn(line, "\n");
        enum doctor_grade grade = strncmp(line, "fail ", 5) == 0   ? DOCTOR_FAIL
                                  : strncmp(line, "warn ", 5) == 0 ? DOCTOR_WARN
                                                                   : DOCTOR_OK;
        int skip = (int)strcspn(line, " ") + 1;
        if (skip < bytes)
            doctor_say(doctor, grade,
                       grade == DOCTOR_OK ? "" : "`llmctl config show` says what is set", "%.*s",
                       bytes - skip, line + skip);
        line += bytes + (line[bytes] == '\n');
    }
}

void probe_socket(struct doctor *doctor)
{
    const struct doctor_facts *facts = &doctor->facts;
    char remedy[192];
    uint32_t owner = doctor->view ? doctor->view->keeper_uid : facts->uid;
    if (!facts->socket_folder[0]) {
        doctor_say(doctor, DOCTOR_OK, "",
                   "the socket's folder does not exist yet; the daemon makes it");
        return;
    }
    snprintf(remedy, sizeof remedy, "chmod o-w %s", facts->socket_folder);
    if ((facts->folder_mode & S_IWOTH) && !(facts->folder_mode & S_ISVTX))
        doctor_say(doctor, DOCTOR_FAIL, remedy, "anybody may replace the socket: %s has mode %04o",
                   facts->socket_folder, facts->folder_mode);
    else if ((facts->folder_mode & S_IWGRP) && !(facts->folder_mode & S_ISVTX))
        doctor_say(doctor, DOCTOR_WARN, "chmod g-w on it, unless its group may steer the daemon",
                   "the group of %s (mode %04o) may replace the socket", facts->socket_folder,
                   facts->folder_mode);
    else if (facts->folder_uid != owner && facts->folder_uid != 0)
        doctor_say(doctor, DOCTOR_WARN, "chown it to the daemon's user",
                   "%s belongs to user %u, the daemon's is %u", facts->socket_folder,
                   facts->folder_uid, owner);
    else
        doctor_say(doctor, DOCTOR_OK, "", "the socket's folder %s has mode %04o",
                   facts->socket_folder, facts->folder_mode);
}

void probe_daemon(struct doctor *doctor)
{
    struct llm_error ailment;
    const struct status_view *view = doctor->view;
    if (!view)
        doctor_say(doctor, DOCTOR_OK, "",
                   "no daemon runs here; a program that connects starts one");
    else if (!process_lives(view->keeper_pid))
        doctor_say(doctor, DOCTOR_WARN, "start llmd; it replaces the file",
                   "the daemon (pid %u) was killed and left its status file", view->keeper_pid);
    else if (status_view_health(view, &ailment) != LLM_OK)
        doctor_say(doctor, DOCTOR_FAIL, "`llmctl errors`, then `llmctl engine restart`", "%s",
                   ailment.message);
    else
        doctor_say(doctor, DOCTOR_OK, "",
                   "pid %u serves %s, state %s, engine generation %llu, %u clients",
                   view->keeper_pid, view->model_name, status_view_state_name(view->daemon_state),
                   (unsigned long long)view->engine_generation, view->connections_open);
}

/* A program that was replaced while it runs: the link's text then ends with " (deleted)". */
static void judge_program_of(struct doctor *doctor, uint32_t pid, const char *who,
                             const char *remedy)
{
    char path[320], target[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/%u/exe", doctor->root, pid);
    ssize_t bytes = pid ? readlink(path, target, sizeof target - 1) : -1;
    if (bytes <= 0)
        return;
    target[bytes] = '\0';
    if (bytes > 10 && strcmp(target + bytes - 10, " (deleted)") == 0)
        doctor_say(doctor, DOCTOR_WARN, remedy,
                   "the %s (pid %u) runs a program that was replaced since", who, pid);
}

void probe_versions(struct doctor *doctor)
{
    const struct status_view *view = doctor->view;
    if (!view)
        return;
    if (strcmp(view->version, LLMD_VERSION) != 0)
        doctor_say(doctor, DOCTOR_WARN, "`llmctl drain`, then start llmd",
                   "the daemon is version %s, this llmctl %s", view->version, LLMD_VERSION);
    else
        doctor_say(doctor, DOCTOR_OK, "", "daemon and llmctl are version %s, protocol %u.%u",
                   view->version, LLM_ABI_MAJOR, LLM_ABI_MINOR);
    judge_program_of(doctor, view->keeper_pid, "keeper", "`llmctl drain`, then start llmd");
    judge_program_of(doctor, view->engine_pid, "engine", "`llmctl engine restart`");
}

void probe_errors(struct doctor *doctor)
{
    const struct status_view *view = doctor->view;
    if (view && view->error_count > 0)
        doctor_say(doctor, DOCTOR_WARN, "`llmctl errors`",
                   "%u different errors so far, the last: %s", view->error_count,
                   view->errors[0].text);
    else if (view)
        doctor_say(doctor, DOCTOR_OK, "", "no errors so far");
}

void probe_status_files(struct doctor *doctor)
{
    const struct doctor_facts *facts = &doctor->facts;
    uint32_t living = 0;
    for (uint32_t i = 0; i < facts->status_file_count; i++) {
        const struct doctor_status_file *file = &facts->status_files[i];
        char remedy[192];
        living += !file->abandoned;
        if (!file->abandoned)
            continue;
        snprintf(remedy, sizeof remedy,
                 "rm /dev/shm%s (llmd of user %u does, an hour after its last sign of life)",
                 file->name, file->uid);
        doctor_say(doctor, DOCTOR_WARN, remedy,
                   "/dev/shm%s was left by a daemon of user %u that was killed", file->name,
                   file->uid);
    }
    doctor_say(doctor, DOCTOR_OK, "",
               "%u status files of daemons that live or are not ours to read", living);
}

void probe_core_dumps(struct doctor *doctor)
{
    char text[512];
    if (!doctor_read(doctor, "/proc/sys/kernel/core_pattern", text, sizeof text))
        return;
    if (doctor->settings.debugging)
        doctor_say(doctor, DOCTOR_WARN, "daemon.debugging = false",
                   "daemon.debugging is on: dumps of the engine hold prompts, and go to \"%.200s\"",
                   text);
    else
        doctor_say(
            doctor, DOCTOR_OK, "",
            "the engine leaves no core dumps; those of clients go to \"%.200s\" and may hold "
            "prompts",
            text);
}

void probe_ptrace(struct doctor *doctor)
{
    char text[16];
    if (!doctor_read(doctor, "/proc/sys/kernel/yama/ptrace_scope", text, sizeof text))
        doctor_say(
            doctor, DOCTOR_OK, "",
            "no Yama: programs of one user can read each other's memory, and so their prompts");
    else if (strcmp(text, "0") == 0)
        doctor_say(
            doctor, DOCTOR_WARN, "sysctl kernel.yama.ptrace_scope=1",
            "programs of one user can read each other's memory (kernel.yama.ptrace_scope = 0)");
    else
        doctor_say(doctor, DOCTOR_OK, "", "kernel.yama.ptrace_scope = %s", text);
}
