/*
 * crash_client.c - a program that lives as a client until its crash point (LLMD_CRASH) kills it.
 * Usage: crash_client SOCKET SEED. Exit code 3 with a sentence when an answer is wrong; SIGALRM after a while, when
 * nothing that it does passes the crash point.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/support/client_life.h"

int main(int argc, char **argv)
{
    static struct client_counts counts;
    if (argc != 3) {
        fprintf(stderr, "usage: crash_client SOCKET SEED\n");
        return 2;
    }
    alarm(90);
    client_life(argv[1], strtoull(argv[2], NULL, 0), 0, &counts);
    fprintf(stderr, "%s\n", counts.first_failure);
    return 3;
}
