/*
 * descriptors.h - how many descriptors this process has open, cheaply enough for every input.
 *
 * Idea     poll() says POLLNVAL of each number that is not one: one system call for the first 256.
 */
#ifndef TESTS_FUZZ_DESCRIPTORS_H
#define TESTS_FUZZ_DESCRIPTORS_H

#include <poll.h>
#include <stdint.h>

#include "shm/check.h"

#define DESCRIPTORS_LOOKED_AT 256

static inline uint32_t descriptors_open(void)
{
    struct pollfd all[DESCRIPTORS_LOOKED_AT];
    uint32_t count = 0;
    for (int fd = 0; fd < DESCRIPTORS_LOOKED_AT; fd++)
        all[fd] = (struct pollfd){.fd = fd};
    CHECK(poll(all, DESCRIPTORS_LOOKED_AT, 0) >= 0);
    for (int fd = 0; fd < DESCRIPTORS_LOOKED_AT; fd++)
        count += (all[fd].revents & POLLNVAL) == 0;
    CHECK(count < DESCRIPTORS_LOOKED_AT);
    return count;
}

#endif
