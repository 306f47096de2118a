/*
 * sim_replay.h - worlds for the tests of daemon/sim: one request at a time, and traces made by hand.
 */
#ifndef TESTS_SIM_REPLAY_H
#define TESTS_SIM_REPLAY_H

#include "daemon/sim/figures.h"

/* One client, answers of one token, an H200 with an 8-billion-parameter model: what only the cache decides. */
struct world_options replay_options(uint32_t block_tokens, uint64_t blocks);
/* Hits of the trace's prompts, summed. */
uint64_t replay_hits(const struct trace *trace, uint32_t block_tokens, uint64_t blocks);
uint64_t lru_hits(const struct trace *trace, uint32_t block_tokens, uint64_t blocks);
/* A trace of the test data, answers of one token; asserts that it opens. */
void replay_open(struct trace *trace, const char *name);
/* `sessions` sessions of `turns` turns, a session's turn every `sessions` requests, each a part longer than the one
 * before; all begin with the same part. One request a `gap_ns`, with `answer_tokens`. */
void make_sessions(struct trace *trace, uint32_t sessions, uint32_t turns, uint64_t gap_ns,
                   uint32_t answer_tokens);
void must(enum llm_status status, const struct llm_error *error);

#endif
