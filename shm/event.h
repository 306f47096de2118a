/*
 * event.h - hints: which streams of a connection moved.
 *
 * Idea     A ring in `down` that never waits for its reader. Position p lies in entry p & (entries - 1); a
 *          reader that was lapped is told so and looks at all stream records, which are the truth. The low
 *          half of the position, `event_word`, is also what the client's threads sleep on (wait.h).
 * Owner    The mapping belongs to the caller; each side keeps its geometry in a private struct.
 * Threads  One writer (the engine thread), any number of readers, each with its own position.
 * Trust    A hint is only ever a reason to look: the reader checks the slot before it uses it.
 * See      docs/PROTOCOL.md ("Events"), tests/shm/test_event.c.
 */
#ifndef LLM_SHM_EVENT_H
#define LLM_SHM_EVENT_H

#include "shm/layout.h"

/* ---- Engine side ---------------------------------------------------------------------------------- */

struct llm_event_writer {
    struct llm_down_header *down;
    _Atomic uint64_t *entries;
    uint32_t entry_count;
    uint64_t tail;      /* hints written, since the connection began */
    uint64_t announced; /* of those, covered by event_tail */
};

/* Goes on where `down` says the last engine stopped. */
void llm_event_writer_init(struct llm_event_writer *writer, void *down,
                           const struct llm_geometry *geometry);
/* Write down that `slot` moved at `epoch`. Nobody sees it before llm_event_announce(), except that a quarter of
 * the ring is announced by itself: so a step that moves many streams of one connection touches the line that its
 * readers watch once, and not once a stream. */
void llm_event_push(struct llm_event_writer *writer, uint32_t slot, uint32_t epoch);
/* Let readers see what was pushed, and move event_word. Does not wake anybody: see llm_client_wake(). */
void llm_event_announce(struct llm_event_writer *writer);
/* Tell every reader that it missed hints: an engine that takes over cannot know which ones its predecessor pushed
 * and did not announce, or announced without waking anybody. */
void llm_event_lapse(struct llm_event_writer *writer);

/* ---- Client side ---------------------------------------------------------------------------------- */

struct llm_event_reader {
    const struct llm_down_header *down;
    const _Atomic uint64_t *entries;
    uint32_t entry_count;
    uint64_t next; /* position of the next hint to read */
};

/* Starts behind the newest hint: look at the records once before relying on it. */
void llm_event_reader_init(struct llm_event_reader *reader, const void *down,
                           const struct llm_geometry *geometry);
/* Take the next hint.
 *   returns          LLM_OK
 *                    LLM_ERR_TIMEOUT  none
 *                    LLM_ERR_LIMIT    hints were overwritten before they were read: look at every record. The
 *                                     reader now stands behind the newest hint. */
enum llm_status llm_event_take(struct llm_event_reader *reader, uint32_t *out_slot,
                               uint32_t *out_epoch) LLM_MUST_CHECK;

#endif
