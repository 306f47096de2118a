/*
 * keeper_fixture.h - the whole keeper in this process, without its loop and without an engine behind the channel.
 *
 * Idea     Every part of struct keeper is real: a listening socket, connections, memories, model roots. Who uses this
 *          plays the clients and the engine, and calls what the loop would call. The engine cannot be killed or
 *          started: there is no process.
 */
#ifndef TESTS_FUZZ_KEEPER_FIXTURE_H
#define TESTS_FUZZ_KEEPER_FIXTURE_H

#include "daemon/keeper/keeper.h"
#include "tests/fuzz/input.h"

struct keeper_fixture {
    struct keeper keeper;
    struct config config;
    int engine;    /* the engine's end of the channel; -1: between two inputs */
    char root[64]; /* a model directory with one file in it, "file", and a symbolic link, "out" */
    bool made;
};

/* Begin with nobody connected, the memories "ctl" and "vocab" (public) kept, and an engine that was told nothing. */
void keeper_fixture_begin(struct keeper_fixture *fixture);
/* Everybody goes. Every descriptor must have been given back. */
void keeper_fixture_end(struct keeper_fixture *fixture);

/* A client's socket, not yet accepted. */
int keeper_fixture_connect(const struct keeper_fixture *fixture);
/* What the keeper's loop would do with what waits now: accept, clients, engine. */
void keeper_fixture_turn(struct keeper_fixture *fixture);
/* Send any bytes with up to two descriptors. */
void keeper_fixture_send(int socket, const void *bytes, size_t count, uint8_t descriptors);

#endif
