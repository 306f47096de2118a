/*
 * Doorbells as io_uring polls (io_uring_enter(2), io_uring_prep_poll_multishot(3)).
 *
 * Bells    A multishot poll without IORING_POLL_ADD_LEVEL is edge-triggered: armed on a readable descriptor it
 *          completes at once, then once for each wake-up by a writer.
 * Ends     A completion without IORING_CQE_F_MORE is its poll's last (the kernel ends a poll whose completion does
 *          not fit into the ring). The poll is armed again at the start of the next wait; arming looks at the
 *          descriptor, so no ring is lost in between.
 * Channel  A poll that ends with its first completion. Armed again after its news was taken, it is level-triggered.
 * Names    A completion carries slot and generation, and each arming and removal moves the generation: a late
 *          completion for a slot's earlier owner is thrown away.
 * Flags    With DEFER_TASKRUN (Linux 6.1) completions are made only when we enter the kernel, and a flag in shared
 *          memory says when that is worth it; without, they are made whenever the thread returns from any call.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/engine/doorbells.h"
#include "shm/check.h"
#include "shm/clock.h"
#include "shm/feature.h"

#define ENTRIES_MAX 64                   /* not yet taken by the kernel */
#define NOBODY      UINT32_MAX           /* instead of a slot: a completion that nobody waits for */
#define RETRY_NS    (10 * LLM_NS_PER_MS) /* how long to sleep with a poll that could not be armed */
#define FEATURES    (IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG)
#define DEFERRED \
    (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG)

struct bell {
    int fd; /* -1: the slot has none */
    uint32_t generation;
    bool armed;
};

struct doorbells_uring {
    struct doorbells doorbells;
    struct io_uring ring;
    uint32_t unarmed_count;               /* of those with a descriptor */
    struct bell bells[DOORBELLS_MAX + 1]; /* by slot; the last is the channel */
};

static struct doorbells_uring *self_of(struct doorbells *doorbells)
{
    return (struct doorbells_uring *)doorbells;
}

static uint64_t name_of(uint32_t slot, uint32_t generation)
{
    return (uint64_t)generation << 32 | slot;
}

/* ---- Arming ---------------------------------------------------------------------------------------- */

/* False: the kernel did not take all entries, for want of memory; what it left it takes with a later one. */
static bool submit(struct doorbells_uring *self)
{
    io_uring_submit(&self->ring);
    return io_uring_sq_ready(&self->ring) == 0;
}

static bool arm(struct doorbells_uring *self, uint32_t slot)
{
    struct bell *bell = &self->bells[slot];
    struct io_uring_sqe *entry = io_uring_get_sqe(&self->ring);
    if (!entry)
        return false;
    if (slot == DOORBELL_CHANNEL)
        io_uring_prep_poll_add(entry, bell->fd, POLLIN);
    else
        io_uring_prep_poll_multishot(entry, bell->fd, POLLIN);
    entry->user_data = name_of(slot, ++bell->generation);
    if (!submit(self)) {
        /* Taken later, it would poll whatever this number names by then. */
        io_uring_prep_nop(entry);
        entry->user_data = name_of(NOBODY, 0);
        return false;
    }
    bell->armed = true;
    self->unarmed_count--;
    return true;
}

static void arm_ended(struct doorbells_uring *self)
{
    for (uint32_t slot = 0; self->unarmed_count > 0 && slot <= DOORBELL_CHANNEL; slot++)
        if (self->bells[slot].fd >= 0 && !self->bells[slot].armed && !arm(self, slot))
            return;
}

static void drop(struct doorbells *doorbells, uint32_t slot, int fd)
{
    struct doorbells_uring *self = self_of(doorbells);
    struct bell *bell = &self->bells[slot];
    CHECK(bell->fd == fd);
    struct io_uring_sqe *entry = bell->armed ? io_uring_get_sqe(&self->ring) : NULL;
    if (entry) { /* an armed poll would keep the eventfd, and its writer could go on waking us */
        io_uring_prep_poll_remove(entry, name_of(slot, bell->generation));
        entry->user_data = name_of(NOBODY, 0);
        submit(self);
    }
    self->unarmed_count -= !bell->armed;
    *bell = (struct bell){.fd = -1, .generation = bell->generation + 1};
}

static enum llm_status add(struct doorbells *doorbells, uint32_t slot, int fd,
                           struct llm_error *error)
{
    struct doorbells_uring *self = self_of(doorbells);
    struct bell *bell = &self->bells[slot];
    CHECK(slot <= DOORBELL_CHANNEL && bell->fd < 0);
    bell->fd = fd;
    self->unarmed_count++;
    if (arm(self, slot))
        return LLM_OK;
    drop(doorbells, slot, fd);
    return llm_fail(error, LLM_ERR_MEMORY, "the kernel has no memory to watch a descriptor");
}

/* ---- Waiting --------------------------------------------------------------------------------------- */

static bool belongs(const struct doorbells_uring *self, const struct io_uring_cqe *completion)
{
    uint32_t slot = (uint32_t)completion->user_data;
    return slot <= DOORBELL_CHANNEL && self->bells[slot].armed &&
           completion->user_data == name_of(slot, self->bells[slot].generation);
}

/* The next completions, at most DOORBELLS_AT_ONCE; those that belong to nobody ring for nobody. */
static unsigned take_some(struct doorbells_uring *self, uint32_t *out_slots, uint32_t *out_count)
{
    struct io_uring_cqe *completions[DOORBELLS_AT_ONCE];
    unsigned count = io_uring_peek_batch_cqe(&self->ring, completions, DOORBELLS_AT_ONCE);
    *out_count = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!belongs(self, completions[i]))
            continue;
        uint32_t slot = (uint32_t)completions[i]->user_data;
        if (!(completions[i]->flags & IORING_CQE_F_MORE)) {
            self->bells[slot].armed = false;
            self->unarmed_count++;
        }
        out_slots[(*out_count)++] = slot;
    }
    io_uring_cq_advance(&self->ring, count);
    return count;
}

static uint32_t take(struct doorbells_uring *self, uint32_t *out_slots)
{
    uint32_t rung_count;
    while (take_some(self, out_slots, &rung_count) > 0 && rung_count == 0)
        ; /* what removed bells left behind; only removing makes more of it */
    /* Completions lost for want of kernel memory: nobody knows who rang. The next engine asks everybody. */
    CHECK(*self->ring.cq.koverflow == 0);
    return rung_count;
}

static uint32_t wait_for(struct doorbells *doorbells, uint64_t deadline_ns, uint32_t *out_slots)
{
    struct doorbells_uring *self = self_of(doorbells);
    arm_ended(self);
    uint32_t count = take(self, out_slots);
    if (count > 0 || deadline_ns == 0)
        return count;
    uint64_t wait_ns = llm_remaining_ns(deadline_ns);
    if (self->unarmed_count > 0 && wait_ns > RETRY_NS)
        wait_ns = RETRY_NS;
    struct __kernel_timespec timeout = {.tv_sec = (long long)(wait_ns / LLM_NS_PER_S),
                                        .tv_nsec = (long long)(wait_ns % LLM_NS_PER_S)};
    struct io_uring_cqe *first;
    io_uring_submit_and_wait_timeout(&self->ring, &first, 1,
                                     wait_ns == UINT64_MAX ? NULL : &timeout, NULL);
    return take(self, out_slots);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

static void close_ring(struct doorbells *doorbells)
{
    struct doorbells_uring *self = self_of(doorbells);
    io_uring_queue_exit(&self->ring);
    free(self);
}

static const struct doorbells_ops uring_ops = {
    .name = "io_uring", .add = add, .remove = drop, .wait = wait_for, .close = close_ring};

static int open_with(struct io_uring *ring, uint32_t completion_max, uint32_t flags)
{
    struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE | flags,
                                     .cq_entries = completion_max};
    return io_uring_queue_init_params(ENTRIES_MAX, ring, &params);
}

static enum llm_status open_ring(struct io_uring *ring, uint32_t completion_max,
                                 struct llm_error *error)
{
    bool deferred = !llm_feature_disabled("io_uring_defer");
    int result = open_with(ring, completion_max, deferred ? DEFERRED : 0);
    if (result == -EINVAL && deferred) /* an older kernel */
        result = open_with(ring, completion_max, 0);
    if (result < 0)
        return llm_fail_errno(error, LLM_ERR_UNSUPPORTED, -result, "no io_uring here");
    return LLM_OK;
}

/* Whether a bell that is never read rings once for each write, and not without one. */
static bool rings_for_each_write(struct doorbells_uring *self, int fd)
{
    const uint64_t one = 1;
    uint32_t slots[DOORBELLS_AT_ONCE];
    struct doorbells *doorbells = &self->doorbells;
    bool rings = add(doorbells, 0, fd, NULL) == LLM_OK;
    if (!rings)
        return false;
    for (int i = 0; i < 2 && rings; i++)
        rings = write(fd, &one, sizeof one) == sizeof one && wait_for(doorbells, 0, slots) == 1 &&
                self->bells[0].armed && wait_for(doorbells, 0, slots) == 0;
    drop(doorbells, 0, fd);
    take(self, slots);
    return rings;
}

static enum llm_status probe(struct doorbells_uring *self, struct llm_error *error)
{
    if ((self->ring.features & FEATURES) != FEATURES)
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "this kernel's io_uring is too old");
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool rings = fd >= 0 && rings_for_each_write(self, fd);
    if (fd >= 0)
        close(fd);
    if (!rings)
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "this kernel has no multishot poll that works");
    return LLM_OK;
}

enum llm_status doorbells_uring_open(struct doorbells **out_doorbells, int channel,
                                     uint32_t completion_max, struct llm_error *error)
{
    struct doorbells_uring *self = calloc(1, sizeof *self);
    if (!self)
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "no memory for the engine's io_uring");
    self->doorbells.ops = &uring_ops;
    for (uint32_t slot = 0; slot <= DOORBELL_CHANNEL; slot++)
        self->bells[slot].fd = -1;
    enum llm_status status = open_ring(&self->ring, completion_max, error);
    if (status != LLM_OK) {
        free(self);
        return status;
    }
    status = probe(self, error);
    if (status == LLM_OK)
        status = add(&self->doorbells, DOORBELL_CHANNEL, channel, error);
    if (status == LLM_OK)
        *out_doorbells = &self->doorbells;
    else
        close_ring(&self->doorbells);
    return status;
}
