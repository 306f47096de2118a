/*
 * confine - run a program under what a systemd unit asks of the kernel, and be its service manager.
 *
 *   confine NUMBERS NOTIFY-SOCKET PROGRAM ARGUMENTS...
 *
 * NUMBERS is a file with the numbers of the system calls that SystemCallFilter= allows; others give EPERM. Besides: NoNewPrivileges=,
 * MemoryDenyWriteExecute= (prctl(2) PR_SET_MDWE, Linux 6.3), RestrictAddressFamilies=AF_UNIX, RestrictNamespaces=. What the program tells its manager
 * (sd_notify(3)) is printed, one line each; confine ends as the program does. For tests/packaging/sandbox.sh.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE              65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif
#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif
#define FILTER_MAX 4096

static struct sock_filter filter[FILTER_MAX];
static unsigned short filter_count;

static void add(uint16_t code, uint8_t jump_true, uint8_t jump_false, uint32_t k)
{
    if (filter_count == FILTER_MAX)
        abort();
    filter[filter_count++] =
        (struct sock_filter){.code = code, .jt = jump_true, .jf = jump_false, .k = k};
}

static void load(size_t offset)
{
    add(BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

/* A call of this number ends here with `action`; others go on. */
static void decide(uint32_t number, uint32_t action)
{
    add(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, number);
    add(BPF_RET | BPF_K, 0, 0, action);
}

/* socket() and socketpair() of another family than AF_UNIX are refused as systemd does. */
static void families(uint32_t number)
{
    add(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, number);
    load(offsetof(struct seccomp_data, args[0]));
    decide(AF_UNIX, SECCOMP_RET_ALLOW);
    add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
}

/* RestrictNamespaces=yes, as systemd does it: clone3() hides its flags and is as if it did not exist. */
static void namespaces(void)
{
    decide(SYS_unshare, SECCOMP_RET_ERRNO | EPERM);
    decide(SYS_setns, SECCOMP_RET_ERRNO | EPERM);
    decide(SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
    add(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, SYS_clone);
    load(offsetof(struct seccomp_data, args[0]));
    add(BPF_JMP | BPF_JSET | BPF_K, 0, 1, 0x7e020000); /* CLONE_NEW* */
    add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM);
    add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
}

static int make_filter(const char *path)
{
    FILE *file = fopen(path, "re");
    unsigned number, count = 0;
    if (!file)
        return -1;
    load(offsetof(struct seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCHITECTURE);
    add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
    load(offsetof(struct seccomp_data, nr));
    families(SYS_socket);
    families(SYS_socketpair);
    namespaces();
    for (; fscanf(file, "%u", &number) == 1; count++)
        decide(number, SECCOMP_RET_ALLOW);
    fclose(file);
    add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM);
    return count > 0 ? 0 : -1;
}

static void become(char **program)
{
    const struct sock_fprog set = {.len = filter_count, .filter = filter};
    if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0)
        fprintf(stderr, "confine: no MemoryDenyWriteExecute here: %s\n", strerror(errno));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &set) != 0)
        perror("confine: seccomp");
    else
        execv(program[0], program);
    _exit(127);
}

static int open_notify(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    unlink(path);
    return bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
}

int main(int argc, char **argv)
{
    if (argc < 4 || make_filter(argv[1]) != 0)
        return fprintf(stderr, "usage: confine NUMBERS NOTIFY-SOCKET PROGRAM ARGUMENTS...\n"), 2;
    int notify = open_notify(argv[2]);
    setenv("NOTIFY_SOCKET", argv[2], 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    pid_t pid = notify < 0 ? -1 : fork();
    if (pid < 0)
        return perror("confine: notify socket"), 2;
    if (pid == 0)
        become(argv + 3);
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, WNOHANG) == 0) {
        char text[1024];
        struct pollfd waits = {.fd = notify, .events = POLLIN};
        ssize_t bytes = poll(&waits, 1, 50) > 0 ? recv(notify, text, sizeof text - 1, 0) : 0;
        text[bytes > 0 ? bytes : 0] = 0;
        if (bytes > 0)
            printf("notify: %s\n", text);
    }
    return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
