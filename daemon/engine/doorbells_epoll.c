/* Doorbells in an epoll set: the eventfds edge-triggered, the channel level-triggered. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "daemon/engine/doorbells.h"
#include "shm/clock.h"

#define WAIT_MS_MAX 60000

struct doorbells_epoll {
    struct doorbells doorbells;
    int epoll_fd;
};

static struct doorbells_epoll *self_of(struct doorbells *doorbells)
{
    return (struct doorbells_epoll *)doorbells;
}

static enum llm_status watch(struct doorbells_epoll *self, uint32_t slot, int fd, uint32_t events,
                             struct llm_error *error)
{
    struct epoll_event event = {.events = events, .data.u32 = slot};
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot watch a descriptor");
    return LLM_OK;
}

static enum llm_status add(struct doorbells *doorbells, uint32_t slot, int fd,
                           struct llm_error *error)
{
    return watch(self_of(doorbells), slot, fd, EPOLLIN | (uint32_t)EPOLLET, error);
}

/* Closing `fd` would not be enough: the keeper holds another descriptor of the same eventfd. */
static void drop(struct doorbells *doorbells, uint32_t slot, int fd)
{
    (void)slot;
    epoll_ctl(self_of(doorbells)->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static int wait_ms(uint64_t deadline_ns)
{
    uint64_t remaining_ns = llm_remaining_ns(deadline_ns);
    if (remaining_ns == 0)
        return 0;
    if (remaining_ns == UINT64_MAX)
        return -1;
    uint64_t ms = remaining_ns / LLM_NS_PER_MS + 1;
    return ms > WAIT_MS_MAX ? WAIT_MS_MAX : (int)ms;
}

static uint32_t wait_for(struct doorbells *doorbells, uint64_t deadline_ns, uint32_t *out_slots)
{
    struct epoll_event events[DOORBELLS_AT_ONCE];
    int count = epoll_wait(self_of(doorbells)->epoll_fd, events, DOORBELLS_AT_ONCE,
                           deadline_ns == 0 ? 0 : wait_ms(deadline_ns));
    if (count < 0)
        return 0; /* a signal */
    for (int i = 0; i < count; i++)
        out_slots[i] = events[i].data.u32;
    return (uint32_t)count;
}

static void close_set(struct doorbells *doorbells)
{
    struct doorbells_epoll *self = self_of(doorbells);
    if (self->epoll_fd >= 0)
        close(self->epoll_fd);
    free(self);
}

static const struct doorbells_ops epoll_ops = {
    .name = "epoll", .add = add, .remove = drop, .wait = wait_for, .close = close_set};

enum llm_status doorbells_epoll_open(struct doorbells **out_doorbells, int channel,
                                     struct llm_error *error)
{
    struct doorbells_epoll *self = calloc(1, sizeof *self);
    if (!self)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the engine's epoll set");
    self->doorbells.ops = &epoll_ops;
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    enum llm_status status =
        self->epoll_fd >= 0
            ? watch(self, DOORBELL_CHANNEL, channel, EPOLLIN, error)
            : llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot make the engine's epoll set");
    if (status == LLM_OK)
        *out_doorbells = &self->doorbells;
    else
        close_set(&self->doorbells);
    return status;
}
