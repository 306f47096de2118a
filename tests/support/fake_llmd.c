/*
 * fake_llmd.c - a program in llmd's place, for tests of libllm's starting one.
 *
 * It appends a line to $FAKE_LLMD_STARTS, then serves echoes at --socket until its last client left (at most 20 s),
 * or, with FAKE_LLMD_FAILS set, says a sentence and ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/fake_daemon.h"

static const char *value_of(int argc, char **argv, const char *option)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], option) == 0)
            return argv[i + 1];
    return NULL;
}

static void note_start(int argc, char **argv)
{
    FILE *starts = fopen(getenv("FAKE_LLMD_STARTS"), "a");
    for (int i = 0; i < argc; i++)
        fprintf(starts, "%s ", argv[i]);
    fprintf(starts, "fds:");
    for (int fd = 3; fd < 256; fd++)
        if (fd != fileno(starts) && lseek(fd, 0, SEEK_CUR) != -1)
            fprintf(starts, " %d", fd);
    fprintf(starts, "\n");
    fclose(starts);
}

int main(int argc, char **argv)
{
    const char *path = value_of(argc, argv, "--socket");
    note_start(argc, argv);
    if (getenv("FAKE_LLMD_FAILS")) {
        fprintf(stderr, "llmd: reading the stars\nllmd: the moon is too far\n");
        return 1;
    }
    struct fake_daemon *daemon = fake_daemon_open(path, NULL);
    struct fake_daemon_counts counts = {0};
    for (int tenths = 0; tenths < 200; tenths++) {
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        counts = fake_daemon_counts(daemon);
        if (counts.connections > 0 && counts.open == 0)
            break;
    }
    fake_daemon_close(daemon);
    return 0;
}
