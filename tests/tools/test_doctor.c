/*
 * test_doctor.c - tools/llmctl/doctor: each probe's grade and sentence on machines that are not this one.
 * How: a row is a machine: files below a folder that stands for /, what system calls would say, a daemon's view. The
 * row names the probe, the grade and a part of the sentence that must come out of it.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/llmctl/doctor.h"

static struct doctor doctor;
static struct status_view view;
static char root[] = "/tmp/llmctl-doctor-XXXXXX";

static void setup(void)
{
    strcpy(root, "/tmp/llmctl-doctor-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    memset(&view, 0, sizeof view);
    doctor = (struct doctor){
        .root = root,
        .settings = {.connections = 1024},
        .facts = {.kernel_release = "6.8.0",
                  .disabled = "",
                  .descriptors_max = 1 << 20,
                  .memlock_bytes = UINT64_MAX,
                  .memory_bytes = UINT64_C(64) << 30,
                  .shm_free_bytes = UINT64_C(1) << 30,
                  .cpus_allowed = 8,
                  .cpus_online = 8,
                  .uid = 1000,
                  .llmd_version = "llmd " LLMD_VERSION},
    };
}

static void teardown(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", root);
    ck_assert_int_eq(system(command), 0);
}

/* "path=text"; the folders on the way are made. */
static void put_file(const char *pair)
{
    char path[512];
    size_t bytes = strcspn(pair, "=");
    snprintf(path, sizeof path, "%s%.*s", root, (int)bytes, pair);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    ck_assert_msg(file != NULL, "%s", path);
    fputs(pair + bytes + 1, file);
    fclose(file);
}

/* A daemon that serves; its keeper is this process, so that it lives. */
static void serve(void)
{
    view.keeper_pid = (uint32_t)getpid();
    view.keeper_uid = 1000;
    view.engine_pid = 4242;
    view.daemon_state = LLM_DAEMON_RUNNING;
    view.engine_generation = view.ready_generation = 3;
    snprintf(view.version, sizeof view.version, LLMD_VERSION);
    snprintf(view.model_name, sizeof view.model_name, "tinynotes");
    doctor.view = &view;
}

static void old_kernel(void)
{
    strcpy(doctor.facts.kernel_release, "5.10.0-28-amd64");
}
static void odd_kernel(void)
{
    strcpy(doctor.facts.kernel_release, "plan9");
}
static void add_feature(const char *name, int error_number)
{
    doctor.facts.features[doctor.facts.feature_count++] =
        (struct doctor_feature){name, "a good thing", "a slower one", error_number};
}
static void all_features(void)
{
    add_feature("io_uring", 0);
}
static void uring_refused(void)
{
    add_feature("io_uring", EPERM);
}
static void no_huge_pages(void)
{
    add_feature("huge_pages", EPERM);
}
static void unheard_of(void)
{
    add_feature("flux_capacitor", ENOSYS);
}
static void no_pidfd(void)
{
    doctor.facts.pidfd_errno = EPERM;
}
static void no_seal(void)
{
    doctor.facts.memfd_seal_errno = EPERM;
}
static void no_futex(void)
{
    doctor.facts.futex_errno = EPERM;
}
static void no_openat2(void)
{
    doctor.facts.openat2_errno = ENOSYS;
}
static void disabled(void)
{
    doctor.facts.disabled = "io_uring";
}
static void few_descriptors(void)
{
    doctor.facts.descriptors_max = 1024;
}
static void little_memlock(void)
{
    doctor.facts.memlock_bytes = 65536;
}
static void no_shm(void)
{
    doctor.facts.shm_free_bytes = UINT64_MAX;
}
static void full_shm(void)
{
    doctor.facts.shm_free_bytes = 4096;
}
static void many_connections(void)
{
    doctor.settings.connections = 1000000;
}
static void many_threads(void)
{
    doctor.settings.threads = 9;
}
static void one_cpu(void)
{
    doctor.facts.cpus_allowed = doctor.facts.cpus_online = 1;
}
static void half_the_cpus(void)
{
    doctor.facts.cpus_allowed = 4;
}
static void debugging(void)
{
    doctor.settings.debugging = true;
}
static void no_llmd(void)
{
    strcpy(doctor.facts.llmd_sentence, "no program llmd was found");
}
static void other_llmd(void)
{
    strcpy(doctor.facts.llmd_version, "llmd 9.9");
}
static void bad_config(void)
{
    strcpy(doctor.facts.config_findings, "warn a file may be written by others\nfail a.b is bad\n");
}
static void open_folder(void)
{
    strcpy(doctor.facts.socket_folder, "/run/llmd");
    doctor.facts.folder_mode = 0777;
    doctor.facts.folder_uid = 1000;
}
static void group_folder(void)
{
    open_folder();
    doctor.facts.folder_mode = 0770;
}
static void foreign_folder(void)
{
    open_folder();
    doctor.facts.folder_mode = 0755;
    doctor.facts.folder_uid = 77;
}
static void good_folder(void)
{
    open_folder();
    doctor.facts.folder_mode = 0700;
}
static void dead_keeper(void)
{
    serve();
    view.keeper_pid = 0;
}
static void failed_engine(void)
{
    serve();
    view.daemon_state = LLM_DAEMON_FAILED;
}
static void other_daemon(void)
{
    serve();
    strcpy(view.version, "0.0.9");
}
static void with_error(void)
{
    serve();
    view.error_count = 1;
    view.errors[0].count = 3;
    strcpy(view.errors[0].text, "client pid 5: nonsense");
}
static void slow_backend(void)
{
    serve();
    strcpy(view.backend_text, "cpu plain, 2 threads");
}
static void narrow_daemon(void)
{
    serve();
    char file[256];
    snprintf(file, sizeof file,
             "/proc/%u/limits=Max processes  1 2 processes\n"
             "Max open files            1024                 4096                 files\n",
             view.keeper_pid);
    put_file(file);
}
static void replaced_engine(void)
{
    serve();
    char path[128];
    put_file("/proc/4242/status=");
    snprintf(path, sizeof path, "%s/proc/4242/exe", root);
    ck_assert_int_eq(symlink("/usr/bin/llmd-engine (deleted)", path), 0);
}
static void one_left_behind(void)
{
    doctor.facts.status_file_count = 2;
    doctor.facts.status_files[0] =
        (struct doctor_status_file){.name = "/llmd.7.alive", .uid = 7, .readable = true};
    doctor.facts.status_files[1] =
        (struct doctor_status_file){.name = "/llmd.7.dead", .uid = 7, .abandoned = true};
}

#define CPUINFO(flags) "/proc/cpuinfo=processor\t: 0\nflags\t\t: fpu " flags " x\nbugs\t: none\n"
#define AVX512         "avx2 fma avx512f avx512bw avx512vl avx512dq"
#define GOVERNOR(n)    "/sys/devices/system/cpu/cpu" n "/cpufreq/scaling_governor="
#define CLOCK          "/sys/devices/system/clocksource/clocksource0/current_clocksource="

static const struct {
    const char *probe;
    void (*change)(void);
    const char *files[4];
    enum doctor_grade grade;
    const char *fact;
} rows[] = {
    {"kernel", NULL, {0}, DOCTOR_OK, "Linux 6.8.0"},
    {"kernel", old_kernel, {0}, DOCTOR_FAIL, "5.10.0-28-amd64 is older than 6.1"},
    {"kernel", odd_kernel, {0}, DOCTOR_WARN, "cannot be read"},
    {"features", all_features, {0}, DOCTOR_OK, "io_uring: a good thing"},
    {"features",
     uring_refused,
     {0},
     DOCTOR_WARN,
     "no io_uring (Operation not permitted): a slower"},
    {"features", no_huge_pages, {0}, DOCTOR_WARN, "no huge_pages"},
    {"features", unheard_of, {0}, DOCTOR_WARN, "no flux_capacitor (Function not implemented)"},
    {"pidfd", NULL, {0}, DOCTOR_OK, "pidfd_open works"},
    {"pidfd", no_pidfd, {0}, DOCTOR_FAIL, "pidfd_open is refused"},
    {"memfd", NULL, {0}, DOCTOR_OK, "with seals works"},
    {"memfd", no_seal, {0}, DOCTOR_FAIL, "memfd_create with seals is refused"},
    {"futex", no_futex, {0}, DOCTOR_FAIL, "futex is refused"},
    {"openat2", no_openat2, {0}, DOCTOR_FAIL, "openat2 is refused (Function not implemented)"},
    {"disabled", disabled, {0}, DOCTOR_WARN, "LLMD_DISABLE=io_uring"},
    {"seccomp",
     NULL,
     {"/proc/self/status=Name:\tx\nSeccomp:\t0\n"},
     DOCTOR_OK,
     "no seccomp filter"},
    {"seccomp", NULL, {"/proc/self/status=Seccomp:\t2\n"}, DOCTOR_OK, "a seccomp filter is active"},
    {"seccomp", NULL, {"/proc/self/status=Seccomp:\t1\n"}, DOCTOR_FAIL, "strict mode"},
    {"container", NULL, {0}, DOCTOR_OK, "no container"},
    {"container", NULL, {"/.dockerenv="}, DOCTOR_OK, "a docker container"},
    {"container", NULL, {"/run/.containerenv="}, DOCTOR_OK, "a podman container"},
    {"container", NULL, {"/run/systemd/container=lxc\n"}, DOCTOR_OK, "a lxc container"},
    {"clocksource", NULL, {CLOCK "tsc\n"}, DOCTOR_OK, "reads tsc"},
    {"clocksource", NULL, {CLOCK "hpet\n"}, DOCTOR_WARN, "clock source hpet"},
    {"descriptors", NULL, {0}, DOCTOR_OK, "1024 connections need 6656"},
    {"descriptors", few_descriptors, {0}, DOCTOR_WARN, "may hold 1024 descriptors"},
    {"descriptors", narrow_daemon, {0}, DOCTOR_WARN, "the daemon may hold 4096 descriptors"},
    {"memlock", little_memlock, {0}, DOCTOR_OK, "65.5 kB may be locked"},
    {"shm", NULL, {0}, DOCTOR_OK, "/dev/shm has 1.1 GB free"},
    {"shm", no_shm, {0}, DOCTOR_FAIL, "there is no /dev/shm"},
    {"shm", full_shm, {0}, DOCTOR_FAIL, "/dev/shm has 4.1 kB free"},
    {"memory",
     NULL,
     {"/proc/meminfo=MemTotal: 9 kB\nMemAvailable:   8388608 kB\n"},
     DOCTOR_OK,
     "8.6 GB of memory are available, the KV pool would be 4.3 GB"},
    {"memory",
     NULL,
     {"/proc/meminfo=MemAvailable:   1024 kB\n"},
     DOCTOR_WARN,
     "1.0 MB of memory are available"},
    {"cgroup", NULL, {0}, DOCTOR_OK, "no cgroup limits"},
    {"cgroup",
     NULL,
     {"/proc/self/cgroup=1:cpu:/\n0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max=max\n",
      "/sys/fs/cgroup/a/memory.max=4294967296\n"},
     DOCTOR_FAIL,
     "the cgroup allows 4.3 GB, the KV pool alone is 4.3 GB"},
    {"cgroup",
     NULL,
     {"/proc/self/cgroup=0::/\n", "/sys/fs/cgroup/memory.max=34359738368\n"},
     DOCTOR_OK,
     "the cgroup allows 34.4 GB"},
    {"cgroup",
     NULL,
     {"/proc/self/cgroup=0::/a\n", "/sys/fs/cgroup/a/cpu.max=150000 100000\n"},
     DOCTOR_WARN,
     "allows 1.5 processors, 8 threads compute"},
    {"overcommit", NULL, {"/proc/sys/vm/overcommit_memory=0\n"}, DOCTOR_OK, "as usual"},
    {"overcommit",
     NULL,
     {"/proc/sys/vm/overcommit_memory=2\n",
      "/proc/meminfo=CommitLimit: 1000000 kB\nCommitted_AS: 999999 kB\n"},
     DOCTOR_FAIL,
     "1.0 kB may still be promised"},
    {"overcommit",
     NULL,
     {"/proc/sys/vm/overcommit_memory=2\n",
      "/proc/meminfo=CommitLimit: 100000000 kB\nCommitted_AS: 1 kB\n"},
     DOCTOR_WARN,
     "counted strictly"},
    {"mappings", NULL, {"/proc/sys/vm/max_map_count=65530\n"}, DOCTOR_OK, "65530"},
    {"mappings",
     many_connections,
     {"/proc/sys/vm/max_map_count=65530\n"},
     DOCTOR_WARN,
     "1000000 connections need 2001000"},
    {"instructions", NULL, {CPUINFO("avx2 fma")}, DOCTOR_OK, "the processor has avx2"},
    {"instructions", NULL, {CPUINFO(AVX512)}, DOCTOR_OK, "the processor has avx512"},
    {"instructions", NULL, {CPUINFO("avx2")}, DOCTOR_WARN, "no AVX2 with FMA"},
    {"instructions",
     slow_backend,
     {CPUINFO(AVX512)},
     DOCTOR_WARN,
     "has avx512, the daemon computes with \"cpu plain, 2 threads\""},
    {"governor", NULL, {0}, DOCTOR_OK, "not ours to choose"},
    {"governor",
     NULL,
     {GOVERNOR("0") "performance\n", GOVERNOR("1") "performance\n"},
     DOCTOR_OK,
     "on all 2 processors"},
    {"governor",
     NULL,
     {GOVERNOR("0") "performance\n", GOVERNOR("1") "powersave\n"},
     DOCTOR_WARN,
     "governor powersave on 1 of 2"},
    {"threads", NULL, {0}, DOCTOR_OK, "8 processors"},
    {"threads", many_threads, {0}, DOCTOR_WARN, "cpu.threads = 9, but only 8"},
    {"threads", half_the_cpus, {0}, DOCTOR_OK, "4 of 8 processors may be used"},
    {"threads", one_cpu, {0}, DOCTOR_WARN, "one processor"},
    {"smt", NULL, {"/sys/devices/system/cpu/smt/active=1\n"}, DOCTOR_OK, "share a core"},
    {"smt", NULL, {"/sys/devices/system/cpu/smt/active=0\n"}, DOCTOR_OK, "a core of its own"},
    {"gpu",
     NULL,
     {"/proc/driver/nvidia/version=NVRM version: 999\nGCC\n"},
     DOCTOR_WARN,
     "NVRM version: 999"},
    {"core dumps", NULL, {"/proc/sys/kernel/core_pattern=|/bin/x\n"}, DOCTOR_OK, "\"|/bin/x\""},
    {"core dumps",
     debugging,
     {"/proc/sys/kernel/core_pattern=core\n"},
     DOCTOR_WARN,
     "hold prompts"},
    {"ptrace", NULL, {"/proc/sys/kernel/yama/ptrace_scope=1\n"}, DOCTOR_OK, "ptrace_scope = 1"},
    {"ptrace",
     NULL,
     {"/proc/sys/kernel/yama/ptrace_scope=0\n"},
     DOCTOR_WARN,
     "each other's memory"},
    {"program", NULL, {0}, DOCTOR_OK, "like this llmctl"},
    {"program", no_llmd, {0}, DOCTOR_FAIL, "no program llmd was found"},
    {"program", other_llmd, {0}, DOCTOR_WARN, "\"llmd 9.9\""},
    {"config", bad_config, {0}, DOCTOR_FAIL, "a.b is bad"},
    {"config", bad_config, {0}, DOCTOR_WARN, "written by others"},
    {"socket", NULL, {0}, DOCTOR_OK, "does not exist yet"},
    {"socket", good_folder, {0}, DOCTOR_OK, "/run/llmd has mode 0700"},
    {"socket", open_folder, {0}, DOCTOR_FAIL, "anybody may replace the socket"},
    {"socket", group_folder, {0}, DOCTOR_WARN, "the group of /run/llmd (mode 0770)"},
    {"socket", foreign_folder, {0}, DOCTOR_WARN, "belongs to user 77"},
    {"daemon", NULL, {0}, DOCTOR_OK, "no daemon runs here"},
    {"daemon", serve, {0}, DOCTOR_OK, "serves tinynotes, state running, engine generation 3"},
    {"daemon", dead_keeper, {0}, DOCTOR_WARN, "was killed"},
    {"daemon", failed_engine, {0}, DOCTOR_FAIL, "died too often"},
    {"versions", serve, {0}, DOCTOR_OK, "daemon and llmctl are version"},
    {"versions", other_daemon, {0}, DOCTOR_WARN, "the daemon is version 0.0.9"},
    {"versions", replaced_engine, {0}, DOCTOR_WARN, "engine (pid 4242) runs a program that was"},
    {"errors", serve, {0}, DOCTOR_OK, "no errors so far"},
    {"errors", with_error, {0}, DOCTOR_WARN, "client pid 5: nonsense"},
    {"status files", one_left_behind, {0}, DOCTOR_WARN, "/dev/shm/llmd.7.dead was left by"},
    {"status files", one_left_behind, {0}, DOCTOR_OK, "1 status files"},
};

START_TEST(each_probe_says_what_it_should_of_each_machine)
{
    for (int i = 0; i < 4 && rows[_i].files[i]; i++)
        put_file(rows[_i].files[i]);
    if (rows[_i].change)
        rows[_i].change();
    doctor_run(&doctor);
    char said[4096] = "";
    for (uint32_t i = 0; i < doctor.line_count; i++) {
        const struct doctor_line *line = &doctor.lines[i];
        if (strcmp(line->probe, rows[_i].probe) != 0)
            continue;
        if (line->grade == rows[_i].grade && strstr(line->fact, rows[_i].fact))
            return;
        size_t used = strlen(said);
        snprintf(said + used, sizeof said - used, "[%d] %s\n", (int)line->grade, line->fact);
    }
    ck_abort_msg("%s: no [%d] \"%s\" but %s", rows[_i].probe, (int)rows[_i].grade, rows[_i].fact,
                 said);
}
END_TEST

/* A row for each probe, and for each a machine on which it finds something wrong, if it can. */
START_TEST(every_probe_has_a_row)
{
    for (const struct doctor_probe *probe = doctor_probes; probe->name; probe++) {
        bool found = false;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            found = found || strcmp(rows[i].probe, probe->name) == 0;
        ck_assert_msg(found, "no row for the probe %s", probe->name);
    }
}
END_TEST

START_TEST(what_is_wrong_comes_with_what_to_do)
{
    no_pidfd();
    few_descriptors();
    open_folder();
    uring_refused();
    doctor_run(&doctor);
    for (uint32_t i = 0; i < doctor.line_count; i++)
        ck_assert_msg((doctor.lines[i].grade == DOCTOR_OK) == (doctor.lines[i].remedy[0] == '\0'),
                      "%s: %s", doctor.lines[i].probe, doctor.lines[i].fact);
    ck_assert_uint_eq(doctor_count(&doctor, DOCTOR_FAIL), 2);
    ck_assert_uint_eq(doctor_count(&doctor, DOCTOR_WARN), 2);
}
END_TEST

static const char *remedy_of(const char *probe)
{
    for (uint32_t i = 0; i < doctor.line_count; i++)
        if (strcmp(doctor.lines[i].probe, probe) == 0)
            return doctor.lines[i].remedy;
    return "";
}

START_TEST(a_forbidden_ring_is_mended_where_it_was_forbidden)
{
    uring_refused();
    doctor_run(&doctor);
    ck_assert_ptr_nonnull(strstr(remedy_of("features"), "seccomp profile"));
    doctor.line_count = 0;
    put_file("/proc/sys/kernel/io_uring_disabled=2\n");
    doctor_run(&doctor);
    ck_assert_str_eq(remedy_of("features"), "sysctl kernel.io_uring_disabled=0");
}
END_TEST

START_TEST(texts_from_elsewhere_steer_no_terminal)
{
    with_error();
    strcpy(view.errors[0].text, "\x1b[2J");
    put_file("/proc/sys/kernel/core_pattern=\x1b]0;x\x07\n");
    doctor_run(&doctor);
    for (uint32_t i = 0; i < doctor.line_count; i++)
        ck_assert_ptr_null(strchr(doctor.lines[i].fact, '\x1b'));
}
END_TEST

START_TEST(this_machine_can_be_asked)
{
    doctor_take_facts(&doctor, "/nowhere/at/all/s");
    ck_assert_int_eq(doctor.facts.futex_errno, 0);
    ck_assert_uint_gt(doctor.facts.feature_count, 3);
    ck_assert_uint_gt(doctor.facts.memory_bytes, 0);
    ck_assert_uint_ge(doctor.facts.cpus_allowed, 1);
    ck_assert_str_eq(doctor.facts.socket_folder, "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools/doctor");
    TCase *tcase = tcase_create("doctor");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, each_probe_says_what_it_should_of_each_machine, 0,
                        sizeof rows / sizeof rows[0]);
    tcase_add_test(tcase, every_probe_has_a_row);
    tcase_add_test(tcase, what_is_wrong_comes_with_what_to_do);
    tcase_add_test(tcase, a_forbidden_ring_is_mended_where_it_was_forbidden);
    tcase_add_test(tcase, texts_from_elsewhere_steer_no_terminal);
    tcase_add_test(tcase, this_machine_can_be_asked);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
