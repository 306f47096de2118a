/*
 * machine.h - how much memory this process may count on.
 *
 * Idea     The machine's, or less where a control group above us allows less (containers, systemd's MemoryMax).
 * Source   https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.max), cgroups(7).
 */
#ifndef LLMD_DAEMON_MACHINE_H
#define LLMD_DAEMON_MACHINE_H

#include <stdint.h>

uint64_t machine_memory_bytes(void);

#endif
