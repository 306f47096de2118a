/*
 * slot_table.h - a connection's stream slots, and who holds which part of its memories.
 *
 * Idea     The client decides which slot, which words of the log and which bytes of the prompt arena a request
 *          uses; the engine only checks bounds. A slot is FREE, OPEN (the caller holds its stream) or CLOSING
 *          (closed before it was done: cancelled, and free again once its record says done). A body is free again
 *          once the engine has taken in its submission, a log once the answer is done and closed. Both
 *          are looked for when somebody needs room, so nothing has to be told when an answer ends.
 * Owner    A connection. A stream handle is an entry of this table: submitting allocates nothing.
 * Threads  Any; one lock around short list work. Prompts are copied outside of it.
 * Trust    Records are the engine's word; a slot whose record makes no sense stays closed for good.
 */
#ifndef LLM_CLIENT_SLOT_TABLE_H
#define LLM_CLIENT_SLOT_TABLE_H

#include <pthread.h>

#include "client/attachment.h"
#include "client/llm.h"
#include "client/range_set.h"
#include "shm/queue.h"
#include "shm/stream.h"

enum llm_slot_state {
    LLM_SLOT_FREE,
    LLM_SLOT_OPEN,
    LLM_SLOT_CLOSING
};

struct llm_stream {
    /* constant while the table lives */
    struct llm_connection *connection;
    uint32_t slot;
    /* the table's lock */
    enum llm_slot_state state;
    bool body_held;
    /* written by the submitting thread, read by whoever looks for room */
    _Atomic uint64_t position; /* in the submission queue; UINT64_MAX until it is submitted */
    /* the thread that holds the stream */
    uint32_t log_offset, log_words;
    uint32_t body_offset, body_bytes;
    uint64_t submitted_ns;
    struct llm_stream_reader reader;
    struct llm_attachment *attachment; /* attachment.h; NULL: none */
    uint64_t context_id; /* it runs on; 0: none, or a branch's whose id nobody asked for yet */
    bool branched;       /* it runs on a fork of its own ... */
    bool branch_owned;   /* ... that ends with the stream, as nobody took it over */
    struct llm_stream_asked asked;
    struct llm_in_force
        in_force; /* what the request said; the engine's word is in the log, if that tells it */
};

/* A context whose end has still to be asked for: the slot or the queue was short, or the engine had not begun the branch
 * when its stream was closed. */
struct llm_context_end {
    uint64_t context_id; /* 0: by the request */
    uint64_t request_id;
};

#define LLM_ENDS_PER_SLOT 4u

struct llm_slot_table {
    pthread_mutex_t lock;
    struct llm_stream *streams;   /* [stream_slots] */
    uint32_t *free_slots;         /* [stream_slots], a stack */
    struct llm_range *ranges;     /* memory of the two sets */
    struct llm_context_end *ends; /* [LLM_ENDS_PER_SLOT * stream_slots] */
    uint32_t free_count;
    /* written under the lock, looked at without it */
    _Atomic uint32_t end_count;
    _Atomic uint32_t closing_branches; /* slots that are CLOSING and own a branch */
    struct llm_range_set log, arena;
    struct llm_geometry geometry;
    const void *down;
    const struct llm_queue_producer *queue;
};

/* What a request needs. */
struct llm_slot_needs {
    uint32_t log_words;
    uint32_t body_bytes;
    struct llm_log_shape shape;
};

/* Each slot's epoch goes on from the one its record stands at. LLM_OK, LLM_ERR_MEMORY. */
enum llm_status llm_slot_table_open(struct llm_slot_table *table, struct llm_connection *connection,
                                    const struct llm_geometry *geometry, const void *down,
                                    const struct llm_queue_producer *queue, struct llm_error *error)
    LLM_MUST_CHECK;
/* `inherited`: in a fork's child, where another thread of the parent may have held the lock. */
void llm_slot_table_close(struct llm_slot_table *table, bool inherited);

/* Take a slot with room for all it needs, at its next epoch.
 *   returns          LLM_OK
 *                    LLM_ERR_LIMIT  more than the connection's memories hold in all
 *                    LLM_ERR_BUSY   slots, log or arena are in use; the sentence says which */
enum llm_status llm_slot_table_take(struct llm_slot_table *table,
                                    const struct llm_slot_needs *needs,
                                    struct llm_stream **out_stream, struct llm_error *error)
    LLM_MUST_CHECK;
/* Keep an end for later; when there are too many, the context ends with its connection. */
void llm_slot_table_push_end(struct llm_slot_table *table, const struct llm_context_end *end);
/* Looks for branches whose slot is done, too. False: there is none. */
bool llm_slot_table_pop_end(struct llm_slot_table *table, struct llm_context_end *out_end);

/* Undo a take whose submission was not published: the epoch stays unused. */
void llm_slot_table_untake(struct llm_slot_table *table, struct llm_stream *stream);
/* Give the stream up: FREE when it is done, else CLOSING. The caller has seen to its cancelling. If it still owns a
 * branch, the branch's end is pushed once the slot is free. */
void llm_slot_table_drop(struct llm_slot_table *table, struct llm_stream *stream);

/* "Every slot is free, open or closing; the ranges in use are those that slots hold." */
bool llm_slot_table_sane(struct llm_slot_table *table);

#endif
