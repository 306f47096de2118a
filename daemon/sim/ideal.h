/*
 * ideal.h - what a prefix cache could have found in a trace.
 *
 * Idea     The trace's prompts one after the other, nobody waiting and nothing else in the cache: each finds the
 *          longest run of its leading blocks that is cached, at most all tokens but the last, and leaves all its
 *          blocks behind. A block is block_tokens of a prompt and all before them; a prompt's last may be shorter.
 *          The cache holds so many blocks, leaves and those longest unused going first, or all.
 * See      traces' SOURCE.md, which counts the same way; tests/sim/test_ideal.c.
 */
#ifndef LLMD_SIM_IDEAL_H
#define LLMD_SIM_IDEAL_H

#include "daemon/sim/trace.h"

struct ideal {
    uint64_t hit_tokens;
    uint64_t prompt_tokens;
    uint64_t blocks;      /* of all prompts */
    uint64_t made_blocks; /* that were not found; of an unbounded cache: the different ones */
};

/* blocks_max: what the cache holds; 0: all. LLM_ERR_MEMORY. */
enum llm_status ideal_compute(const struct trace *trace, uint32_t block_tokens, uint64_t blocks_max,
                              struct ideal *out_ideal, struct llm_error *error) LLM_MUST_CHECK;

#endif
