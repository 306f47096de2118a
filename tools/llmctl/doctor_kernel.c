/* The doctor's probes of kernel facilities: those without a fallback fail, the others warn and name it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/llmctl/doctor.h"

#define KERNEL_MAJOR 6
#define KERNEL_MINOR 1

void probe_kernel(struct doctor *doctor)
{
    int major = 0, minor = 0;
    const char *release = doctor->facts.kernel_release;
    if (sscanf(release, "%d.%d", &major, &minor) != 2)
        doctor_say(doctor, DOCTOR_WARN, "", "the kernel's version \"%s\" cannot be read", release);
    else if (major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR))
        doctor_say(doctor, DOCTOR_FAIL, "install a newer kernel", "Linux %s is older than %d.%d",
                   release, KERNEL_MAJOR, KERNEL_MINOR);
    else
        doctor_say(doctor, DOCTOR_OK, "", "Linux %s", release);
}

void probe_io_uring(struct doctor *doctor)
{
    const struct doctor_facts *facts = &doctor->facts;
    char text[32];
    long long forbidden =
        doctor_read(doctor, "/proc/sys/kernel/io_uring_disabled", text, sizeof text)
            ? strtoll(text, NULL, 10)
            : 0;
    if (facts->io_uring_errno == ENOSYS)
        doctor_say(doctor, DOCTOR_WARN, "enable CONFIG_IO_URING, or allow it in the container",
                   "this kernel has no io_uring: an idle engine sleeps in epoll");
    else if (facts->io_uring_errno != 0 && forbidden > 0)
        doctor_say(doctor, DOCTOR_WARN, "sysctl kernel.io_uring_disabled=0",
                   "io_uring is forbidden (kernel.io_uring_disabled = %lld): an idle engine sleeps "
                   "in epoll",
                   forbidden);
    else if (facts->io_uring_errno != 0)
        doctor_say(doctor, DOCTOR_WARN,
                   "allow io_uring_setup, io_uring_enter, io_uring_register in the seccomp profile",
                   "io_uring is refused (%s): an idle engine sleeps in epoll",
                   strerror(facts->io_uring_errno));
    else if (facts->io_uring_defer_errno != 0)
        doctor_say(doctor, DOCTOR_WARN, "install Linux 6.1 or newer",
                   "io_uring works, but not IORING_SETUP_DEFER_TASKRUN (%s)",
                   strerror(facts->io_uring_defer_errno));
    else
        doctor_say(doctor, DOCTOR_OK, "", "io_uring works, with deferred task work");
}

void probe_pidfd(struct doctor *doctor)
{
    const struct doctor_facts *facts = &doctor->facts;
    if (facts->pidfd_errno != 0)
        doctor_say(doctor, DOCTOR_FAIL, "allow pidfd_open in the seccomp profile",
                   "pidfd_open is refused (%s): llmd cannot watch its clients",
                   strerror(facts->pidfd_errno));
    else if (facts->peer_pidfd_errno != 0)
        doctor_say(doctor, DOCTOR_WARN, "install Linux 6.5 or newer",
                   "no SO_PEERPIDFD (%s): a client that dies while it connects may be mistaken for "
                   "one that got its pid",
                   strerror(facts->peer_pidfd_errno));
    else
        doctor_say(doctor, DOCTOR_OK, "", "pidfd_open and SO_PEERPIDFD work");
}

void probe_memfd(struct doctor *doctor)
{
    const struct doctor_facts *facts = &doctor->facts;
    if (facts->memfd_seal_errno != 0)
        doctor_say(doctor, DOCTOR_FAIL, "allow memfd_create and fcntl in the seccomp profile",
                   "sealed memfds do not work (%s)", strerror(facts->memfd_seal_errno));
    else if (facts->noexec_seal_errno != 0)
        doctor_say(doctor, DOCTOR_WARN, "install Linux 6.3 or newer",
                   "no MFD_NOEXEC_SEAL (%s): shared memory could be made executable by its clients",
                   strerror(facts->noexec_seal_errno));
    else
        doctor_say(doctor, DOCTOR_OK, "", "memfds can be sealed, against execution too");
}

/* A facility without which nothing works. */
static void judge_needed(struct doctor *doctor, int error_number, const char *name)
{
    char remedy[64];
    snprintf(remedy, sizeof remedy, "allow %s in the seccomp profile", name);
    if (error_number != 0)
        doctor_say(doctor, DOCTOR_FAIL, remedy, "%s is refused (%s)", name, strerror(error_number));
    else
        doctor_say(doctor, DOCTOR_OK, "", "%s works", name);
}

void probe_futex(struct doctor *doctor)
{
    judge_needed(doctor, doctor->facts.futex_errno, "futex");
}

void probe_openat2(struct doctor *doctor)
{
    judge_needed(doctor, doctor->facts.openat2_errno, "openat2");
}

void probe_wipeonfork(struct doctor *doctor)
{
    if (doctor->facts.wipeonfork_errno != 0)
        doctor_say(doctor, DOCTOR_WARN, "",
                   "no MADV_WIPEONFORK (%s): each call of libllm asks for its process id",
                   strerror(doctor->facts.wipeonfork_errno));
    else
        doctor_say(doctor, DOCTOR_OK, "", "MADV_WIPEONFORK works");
}

void probe_disabled(struct doctor *doctor)
{
    if (doctor->facts.disabled[0])
        doctor_say(doctor, DOCTOR_WARN, "unset LLMD_DISABLE",
                   "LLMD_DISABLE=%s takes facilities away", doctor->facts.disabled);
}

/* Of the keeper when one runs, else our own. */
static bool read_process_file(const struct doctor *doctor, const char *name, char *out,
                              size_t bytes)
{
    char path[64];
    if (doctor->view && doctor->view->keeper_pid != 0)
        snprintf(path, sizeof path, "/proc/%u/%s", doctor->view->keeper_pid, name);
    else
        snprintf(path, sizeof path, "/proc/self/%s", name);
    return doctor_read(doctor, path, out, bytes);
}

void probe_seccomp(struct doctor *doctor)
{
    char text[4096];
    long long mode = read_process_file(doctor, "status", text, sizeof text)
                         ? doctor_number_after(text, "Seccomp:")
                         : -1;
    if (mode == 1)
        doctor_say(doctor, DOCTOR_FAIL, "start it without strict seccomp",
                   "seccomp is in strict mode: nothing but read, write and exit is allowed");
    else if (mode == 2)
        doctor_say(doctor, DOCTOR_OK, "",
                   "a seccomp filter is active; what it forbids is said above");
    else if (mode == 0)
        doctor_say(doctor, DOCTOR_OK, "", "no seccomp filter");
}

void probe_container(struct doctor *doctor)
{
    char text[256];
    const char *kind = NULL;
    if (doctor_read(doctor, "/run/.containerenv", text, sizeof text))
        kind = "podman";
    else if (doctor_read(doctor, "/.dockerenv", text, sizeof text))
        kind = "docker";
    else if (doctor_read(doctor, "/run/systemd/container", text, sizeof text))
        kind = text;
    if (kind)
        doctor_say(
            doctor, DOCTOR_OK, "",
            "this is a %s container: programs outside reach llmd only through a shared socket "
            "folder, and see its status file only with a shared /dev/shm",
            kind);
    else
        doctor_say(doctor, DOCTOR_OK, "", "no container is recognised");
}

void probe_clocksource(struct doctor *doctor)
{
    static const char *const fast[] = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page",
                                       "arch_sys_counter"};
    char text[64];
    if (!doctor_read(doctor, "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                     text, sizeof text))
        return;
    for (size_t i = 0; i < sizeof fast / sizeof fast[0]; i++)
        if (strcmp(text, fast[i]) == 0) {
            doctor_say(doctor, DOCTOR_OK, "", "clock_gettime reads %s without a system call", text);
            return;
        }
    doctor_say(doctor, DOCTOR_WARN, "boot with clocksource=tsc, if the processor's is stable",
               "clock source %s: each look at the clock is a system call", text);
}
