/*
 * raw_load.h - a raw client that goes on for ever: slots used again, full queues waited for, refusals survived.
 *
 * Idea     raw_client.h asserts; an attacker must not end because the daemon defends itself. These functions try, and
 *          say whether it worked.
 */
#ifndef TESTS_ATTACK_RAW_LOAD_H
#define TESTS_ATTACK_RAW_LOAD_H

#include "tests/attack/attack.h"
#include "tests/support/raw_client.h"

/* Until it is attached. */
void raw_load_attach(struct raw_client *client, const struct attack *attack);
/* The keeper has closed the socket, or said farewell. */
bool raw_load_is_detached(const struct raw_client *client);

/* A sound body at `offset` of the arena: a prompt of small ids. */
void raw_load_body(struct raw_client *client, uint32_t offset, uint32_t prompt_tokens,
                   uint32_t max_tokens);
/* Submit the body at the arena's start in the next slot whose answer is done; its epoch is taken from `down`.
 * False: no such slot, or the queue is full. */
bool raw_load_generate(struct raw_client *client, uint32_t prompt_tokens, uint32_t log_words);
/* The same with any entry whose slot, epoch and log are filled in here. `out_slot` may be NULL. */
bool raw_load_entry(struct raw_client *client, struct llm_submission entry, uint32_t *out_slot);
bool raw_load_nop(struct raw_client *client);

#endif
