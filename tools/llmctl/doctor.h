/*
 * doctor.h - what on this machine holds llmd back, and how to mend it.
 *
 * Idea     A probe is a row of doctor_probes[] and one function: it looks at facts and texts and says, as often as
 *          it has something to say, ok, warn or fail, the fact with its number, and what to do. What needs a
 *          system call is asked once, before the probes run (struct doctor_facts); what is a file is read through
 *          doctor_read() below a root, so that tests feed whole machines as folders.
 * Grades   fail: llmd does not work, or a part of it does not; warn: it works, but slower, smaller or less safe than
 *          it could; ok: looked at and good.
 * Trust    Files of /proc and /sys are the kernel's; status files may be anybody's and are read as views.
 * See      docs/CHANGING.md ("A probe of the doctor"), tests/tools/test_doctor.c, `llmctl doctor`.
 */
#ifndef LLMCTL_DOCTOR_H
#define LLMCTL_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/llmctl/status_view.h"

#define DOCTOR_LINES_MAX        128
#define DOCTOR_TEXT_BYTES       320
#define DOCTOR_STATUS_FILES_MAX 32
#define DOCTOR_FEATURES_MAX     32

enum doctor_grade {
    DOCTOR_OK,
    DOCTOR_WARN,
    DOCTOR_FAIL
};

struct doctor_line {
    enum doctor_grade grade;
    const char *probe;
    char fact[DOCTOR_TEXT_BYTES];
    char remedy[DOCTOR_TEXT_BYTES]; /* "": nothing to do */
};

/* Another daemon's status file, as found in /dev/shm. */
struct doctor_status_file {
    char name[64]; /* "/llmd.0.name" */
    uint32_t uid;
    bool abandoned; /* its keeper is gone */
    bool readable;
};

/* What system calls say. An errno of 0 is "works". */
struct doctor_facts {
    char kernel_release[64]; /* "6.1.0-18-amd64" */
    const char *disabled;    /* LLMD_DISABLE; "" */
    uint32_t feature_count;
    struct doctor_feature { /* a row of shm/feature.h's list, tried */
        const char *name, *gives, *without;
        int error_number; /* 0: it works */
    } features[DOCTOR_FEATURES_MAX];
    int pidfd_errno, openat2_errno, memfd_seal_errno, futex_errno; /* without these nothing works */
    uint64_t descriptors_max;                                      /* hard RLIMIT_NOFILE */
    uint64_t memlock_bytes;  /* soft RLIMIT_MEMLOCK; UINT64_MAX: none */
    uint64_t memory_bytes;   /* physical */
    uint64_t shm_free_bytes; /* of /dev/shm; UINT64_MAX: cannot be asked */
    uint32_t cpus_allowed, cpus_online;
    uint32_t uid;
    /* the socket's folder; "" when there is none */
    char socket_folder[128];
    uint32_t folder_mode, folder_uid;
    uint32_t status_file_count;
    struct doctor_status_file status_files[DOCTOR_STATUS_FILES_MAX];
    /* the program llmd */
    char llmd_sentence[DOCTOR_TEXT_BYTES]; /* why it cannot be asked; "": it can */
    char llmd_version[64];                 /* "llmd 0.1.0" */
    char config_findings[2048];            /* `llmd --check-config` */
    bool config_fails;
};

/* Effective settings that probes compare with. */
struct doctor_settings {
    uint64_t connections;
    uint64_t pool_bytes; /* 0: a quarter of the memory, at most 4 GiB */
    uint64_t threads;    /* 0: all */
    bool debugging;
};

struct doctor {
    const char *root;               /* before every path; "" on a real machine */
    const struct status_view *view; /* of the running daemon; NULL: none runs */
    struct doctor_facts facts;
    struct doctor_settings settings;
    const char *probe; /* the row that runs */
    uint32_t line_count;
    struct doctor_line lines[DOCTOR_LINES_MAX];
};

struct doctor_probe {
    const char *name;
    void (*run)(struct doctor *doctor);
};
extern const struct doctor_probe doctor_probes[]; /* ends with name NULL */

/* Run every probe. */
void doctor_run(struct doctor *doctor);
/* How many lines have this grade. */
uint32_t doctor_count(const struct doctor *doctor, enum doctor_grade grade);
/* Ask the system; `socket` as after --socket. */
void doctor_take_facts(struct doctor *doctor, const char *socket);

/* ---- For probes ------------------------------------------------------------------------------------- */

/* Add a line; `remedy` may be "". */
void doctor_say(struct doctor *doctor, enum doctor_grade grade, const char *remedy,
                const char *format, ...) LLM_PRINTF(4, 5);
/* Read a small file without its last newline; false: it is not there. */
bool doctor_read(const struct doctor *doctor, const char *path, char *out_text, size_t bytes);
/* The number behind `key` in a text of "key value" lines, or -1. */
long long doctor_number_after(const char *text, const char *key);

/* The rows' functions, by file. */
void probe_kernel(struct doctor *doctor); /* doctor_kernel.c */
void probe_features(struct doctor *doctor);
void probe_pidfd(struct doctor *doctor);
void probe_memfd(struct doctor *doctor);
void probe_futex(struct doctor *doctor);
void probe_openat2(struct doctor *doctor);
void probe_disabled(struct doctor *doctor);
void probe_seccomp(struct doctor *doctor);
void probe_container(struct doctor *doctor);
void probe_clocksource(struct doctor *doctor);
void probe_descriptors(struct doctor *doctor); /* doctor_machine.c */
void probe_memlock(struct doctor *doctor);
void probe_shm(struct doctor *doctor);
void probe_memory(struct doctor *doctor);
void probe_cgroup(struct doctor *doctor);
void probe_overcommit(struct doctor *doctor);
void probe_mappings(struct doctor *doctor);
void probe_instructions(struct doctor *doctor);
void probe_governor(struct doctor *doctor);
void probe_threads(struct doctor *doctor);
void probe_smt(struct doctor *doctor);
void probe_gpu(struct doctor *doctor);
void probe_program(struct doctor *doctor); /* doctor_daemon.c */
void probe_config(struct doctor *doctor);
void probe_socket(struct doctor *doctor);
void probe_daemon(struct doctor *doctor);
void probe_versions(struct doctor *doctor);
void probe_errors(struct doctor *doctor);
void probe_status_files(struct doctor *doctor);
void probe_core_dumps(struct doctor *doctor);
void probe_ptrace(struct doctor *doctor);

#endif
