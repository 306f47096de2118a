#include "daemon/keeper/process.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

int process_open(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

void process_kill(int pidfd, int signal_number)
{
    if (pidfd >= 0)
        syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, 0);
}

bool process_collect(int pidfd, int *out_exit_code, char *out_text, size_t bytes)
{
    siginfo_t info = {0};
    if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)
        return false;
    bool exited = info.si_code == CLD_EXITED;
    *out_exit_code = exited ? info.si_status : -1;
    if (exited)
        snprintf(out_text, bytes, "exit code %d", info.si_status);
    else
        snprintf(out_text, bytes, "signal %d (%s)", info.si_status, strsignal(info.si_status));
    return true;
}
