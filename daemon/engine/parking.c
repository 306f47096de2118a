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
#define CHANNEL_EVENT  UINT32_MAX          /* instead of a connection's slot */
#define HOT_NS         (5 * LLM_NS_PER_MS) /* longer than a client takes between two questions */

/* ---- The epoll set --------------------------------------------------------------------------------- */

static enum llm_status watch(struct parking *parking, int fd, uint32_t events, uint32_t slot,
                             struct llm_error *error)
{
    struct epoll_event event = {.events = events, .data.u32 = slot};
    if (epoll_ctl(parking->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot watch a descriptor");
    return LLM_OK;
}

enum llm_status parking_open(struct parking *parking, int channel, struct llm_error *error)
{
    parking->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (parking->epoll_fd < 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot make the engine's epoll set");
    return watch(parking, channel, EPOLLIN, CHANNEL_EVENT, error);
}

void parking_close(struct parking *parking)
{
    if (parking->epoll_fd > 0)
        close(parking->epoll_fd);
}

/* ---- Hot and parked -------------------------------------------------------------------------------- */

static void heat(struct engine *engine, struct connection *connection)
{
    connection->heard_ns = llm_now_ns();
    if (connection->hot)
        return;
    llm_engine_set_asleep(connection_down(connection), false);
    connection->hot = true;
    engine->parking.hot[engine->parking.hot_count++] = connection->peer.slot;
}

static void forget(struct parking *parking, uint32_t index, struct connection *connection)
{
    connection->hot = false;
    parking->hot[index] = parking->hot[--parking->hot_count];
}

enum llm_status parking_add(struct engine *engine, struct connection *connection,
                            struct llm_error *error)
{
    enum llm_status status = watch(&engine->parking, connection->to_engine_fd,
                                   EPOLLIN | (uint32_t)EPOLLET, connection->peer.slot, error);
    if (status == LLM_OK)
        heat(engine, connection);
    return status;
}

void parking_remove(struct engine *engine, struct connection *connection)
{
    struct parking *parking = &engine->parking;
    epoll_ctl(parking->epoll_fd, EPOLL_CTL_DEL, connection->to_engine_fd, NULL);
    for (uint32_t i = 0; i < parking->hot_count; i++)
        if (parking->hot[i] == connection->peer.slot) {
            forget(parking, i, connection);
            return;
        }
}

static bool quiet_since(const struct connection *connection, uint64_t now_ns, uint64_t for_ns)
{
    return now_ns >= connection->heard_ns && now_ns - connection->heard_ns >= for_ns;
}

/* Park the hot connections that nothing was heard of for `for_ns`. One fence serves them all. */
static void park(struct engine *engine, uint64_t now_ns, uint64_t for_ns)
{
    struct parking *parking = &engine->parking;
    uint32_t quiet_count = 0;
    for (uint32_t i = 0; i < parking->hot_count; i++) {
        struct connection *connection = &engine->connections[parking->hot[i]];
        if (quiet_since(connection, now_ns, for_ns)) {
            llm_engine_set_asleep(connection_down(connection), true);
            quiet_count++;
        }
    }
    if (quiet_count == 0)
        return;
    /* Pairs with the fence in llm_engine_ring(): either we see the submission, or it sees the flag. */
    llm_fence_full();
    for (uint32_t i = parking->hot_count; i-- > 0;) {
        struct connection *connection = &engine->connections[parking->hot[i]];
        if (!quiet_since(connection, now_ns, for_ns))
            continue;
        if (intake_waits_at(connection))
            llm_engine_set_asleep(connection_down(connection), false);
        else
            forget(parking, i, connection);
    }
}

void parking_cool(struct engine *engine, uint64_t now_ns)
{
    park(engine, now_ns, HOT_NS);
}

/* ---- Waiting --------------------------------------------------------------------------------------- */

static void wait_events(struct engine *engine, int wait_ms)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int count = epoll_wait(engine->parking.epoll_fd, events, EVENTS_AT_ONCE, wait_ms);
    bool news = false;
    for (int i = 0; i < count; i++) {
        uint32_t slot = events[i].data.u32;
        if (slot == CHANNEL_EVENT)
            news = true;
        else if (engine->connections[slot].attached)
            heat(engine, &engine->connections[slot]);
    }
    if (news)
        connections_take_news(engine);
}

void parking_poll(struct engine *engine)
{
    wait_events(engine, 0);
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
    park(engine, UINT64_MAX, 0);
    if (engine->parking.hot_count > 0)
        return; /* somebody submitted meanwhile */
    report_count(engine, LLM_COUNTER_PARKS, 1);
    wait_events(engine, wait_ms(deadline_ns));
}
