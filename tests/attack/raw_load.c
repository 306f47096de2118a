#include "tests/attack/raw_load.h"

#include <string.h>
#include <sys/socket.h>

void raw_load_attach(struct raw_client *client, const struct attack *attack)
{
    while (!raw_try_attach(client, attack->daemon->socket, NULL))
        test_sleep_ms(1);
}

bool raw_load_is_detached(const struct raw_client *client)
{
    struct llm_keeper_reply farewell;
    return recv(client->socket, &farewell, sizeof farewell, MSG_DONTWAIT | MSG_PEEK) >= 0;
}

void raw_load_body(struct raw_client *client, uint32_t offset, uint32_t prompt_tokens,
                   uint32_t max_tokens)
{
    char *body = client->up + client->up_map.arena_offset + offset;
    const struct llm_request_body fine = {
        .prompt_tokens = prompt_tokens, .max_tokens = max_tokens, .top_p = 1};
    memcpy(body, &fine, sizeof fine);
    for (uint32_t i = 0; i < prompt_tokens; i++)
        memcpy(body + sizeof fine + sizeof i * i, &i, sizeof i);
}

/* The slots' epochs are read back: whatever was submitted in one is over when its record says so. A slot that was
 * submitted and not opened yet looks free; submitting it twice is what raw_load_is_detached() is for, so the
 * queue must be empty before a slot is used again. */
bool raw_load_entry(struct raw_client *client, struct llm_submission entry, uint32_t *out_slot)
{
    uint32_t slots = client->geometry.stream_slots;
    uint32_t slot = client->next_slot % slots;
    uint64_t tail = atomic_load(&raw_up(client)->queue_tail);
    if (client->next_slot >= slots && slot == 0 &&
        atomic_load(&raw_down(client)->queue_head) != tail)
        return false;
    uint64_t commit = atomic_load(&raw_stream(client, slot)->commit); /* after the position */
    if (llm_commit_epoch(commit) != 0 && !llm_commit_done(commit))
        return false;
    entry.stream_slot = slot;
    entry.stream_epoch = llm_commit_epoch(commit) + 1;
    if (!raw_try_push(client, &entry))
        return false;
    if (out_slot)
        *out_slot = slot;
    client->next_slot++;
    return true;
}

bool raw_load_generate(struct raw_client *client, uint32_t prompt_tokens, uint32_t log_words)
{
    uint32_t share = client->geometry.log_words / client->geometry.stream_slots;
    uint32_t slot = client->next_slot % client->geometry.stream_slots;
    return raw_load_entry(
        client,
        (struct llm_submission){.operation = LLM_OP_GENERATE,
                                .log_offset = slot * share,
                                .log_words = log_words < share ? log_words : share,
                                .body_bytes = 128 + 4 * prompt_tokens},
        NULL);
}

bool raw_load_nop(struct raw_client *client)
{
    return raw_load_entry(client, (struct llm_submission){.operation = LLM_OP_NOP}, NULL);
}
