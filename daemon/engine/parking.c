#include "daemon/engine/parking.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/intake.h"
#include "daemon/engine/report.h"
#include "shm/clock.h"
#include "shm/fence.h"

#define EVENTS_AT_ONCE 64

static enum llm_status watch(struct parking *parking, int fd, uint32_t events,
                             struct llm_error *error)
{
    struct epoll_event event = {.events = events};
    if (epoll_ctl(parking->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot watch a descriptor");
    return LLM_OK;
}

enum llm_status parking_open(struct parking *parking, int channel, struct llm_error *error)
{
    parking->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (parking->epoll_fd < 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot make the engine's epoll set");
    return watch(parking, channel, EPOLLIN, error);
}

void parking_close(struct parking *parking)
{
    if (parking->epoll_fd > 0)
        close(parking->epoll_fd);
}

enum llm_status parking_watch(struct parking *parking, int doorbell_fd, struct llm_error *error)
{
    return watch(parking, doorbell_fd, EPOLLIN | (uint32_t)EPOLLET, error);
}

void parking_unwatch(struct parking *parking, int doorbell_fd)
{
    epoll_ctl(parking->epoll_fd, EPOLL_CTL_DEL, doorbell_fd, NULL);
}

static void tell_clients(struct engine *engine, bool asleep)
{
    for (uint32_t slot = 0; slot < engine->connection_end; slot++)
        if (engine->connections[slot].attached)
            llm_engine_set_asleep(connection_down(&engine->connections[slot]), asleep);
}

static int wait_ms(uint64_t deadline_ns)
{
    uint64_t remaining_ns = llm_remaining_ns(deadline_ns);
    if (remaining_ns == UINT64_MAX)
        return -1;
    uint64_t ms = remaining_ns / LLM_NS_PER_MS + 1;
    return ms > 60000 ? 60000 : (int)ms;
}

void parking_sleep(struct engine *engine, uint64_t deadline_ns)
{
    tell_clients(engine, true);
    /* Pairs with the fence in llm_engine_ring(): either we see the submission, or it sees the flag. */
    llm_fence_full();
    if (!intake_waits(engine)) {
        struct epoll_event events[EVENTS_AT_ONCE];
        report_count(engine, LLM_COUNTER_PARKS, 1);
        epoll_wait(engine->parking.epoll_fd, events, EVENTS_AT_ONCE, wait_ms(deadline_ns));
    }
    tell_clients(engine, false);
}
