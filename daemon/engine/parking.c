#include "daemon/engine/parking.h"

#include "daemon/engine/engine.h"
#include "daemon/engine/intake.h"
#include "daemon/engine/report.h"
#include "shm/clock.h"
#include "shm/fence.h"

#define HOT_NS        (5 * LLM_NS_PER_MS) /* longer than a client takes between two questions */
#define MUTED_NS      LLM_NS_PER_S
#define MUTED_LOOK_NS LLM_NS_PER_MS
#define NEWS_AT_ONCE  16

enum llm_status parking_open(struct parking *parking, int channel, struct llm_error *error)
{
    return doorbells_open(&parking->doorbells, channel, error);
}

void parking_close(struct parking *parking)
{
    if (parking->doorbells)
        parking->doorbells->ops->close(parking->doorbells);
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

/* ---- Storms ---------------------------------------------------------------------------------------- */

static void take_from_muted(struct parking *parking, struct connection *connection)
{
    uint32_t i = 0;
    while (parking->muted[i] != connection->peer.slot)
        i++;
    parking->muted[i] = parking->muted[--parking->muted_count];
    connection->muted = false;
}

static void mute(struct engine *engine, struct connection *connection)
{
    struct parking *parking = &engine->parking;
    parking->doorbells->ops->remove(parking->doorbells, connection->peer.slot,
                                    connection->to_engine_fd);
    connection->muted = true;
    connection->muted_until_ns = llm_deadline_ns(MUTED_NS);
    connection->rings_for_nothing = 0;
    parking->muted[parking->muted_count++] = connection->peer.slot;
    report_count(engine, LLM_COUNTER_DOORBELLS_MUTED, 1);
}

/* A counter that is not 0 rings at once, so nothing that was submitted meanwhile is missed. */
static void unmute(struct engine *engine, struct connection *connection)
{
    struct doorbells *doorbells = engine->parking.doorbells;
    struct llm_error error;
    if (doorbells->ops->add(doorbells, connection->peer.slot, connection->to_engine_fd, &error) !=
        LLM_OK) {
        connection->muted_until_ns = llm_deadline_ns(MUTED_NS); /* no memory: try again */
        return;
    }
    take_from_muted(&engine->parking, connection);
}

static void look_at_muted(struct engine *engine)
{
    struct parking *parking = &engine->parking;
    if (parking->muted_count == 0)
        return;
    uint64_t now_ns = llm_now_ns();
    if (now_ns < parking->muted_look_ns)
        return;
    parking->muted_look_ns = now_ns + MUTED_LOOK_NS;
    for (uint32_t i = parking->muted_count; i-- > 0;) {
        struct connection *connection = &engine->connections[parking->muted[i]];
        if (intake_waits_at(connection))
            heat(engine, connection);
        if (now_ns >= connection->muted_until_ns)
            unmute(engine, connection);
    }
}

/* A ring brings something if the queue moved since the last one, or will. */
static void heed(struct engine *engine, struct connection *connection)
{
    if (connection->rung_head == connection->queue.head && !intake_waits_at(connection))
        connection->rings_for_nothing++;
    else
        connection->rings_for_nothing = 0;
    connection->rung_head = connection->queue.head;
    heat(engine, connection);
    if (connection->rings_for_nothing >= PARKING_RINGS_MAX)
        mute(engine, connection);
}

enum llm_status parking_add(struct engine *engine, struct connection *connection,
                            struct llm_error *error)
{
    struct doorbells *doorbells = engine->parking.doorbells;
    enum llm_status status =
        doorbells->ops->add(doorbells, connection->peer.slot, connection->to_engine_fd, error);
    if (status == LLM_OK)
        heat(engine, connection);
    return status;
}

void parking_remove(struct engine *engine, struct connection *connection)
{
    struct parking *parking = &engine->parking;
    if (connection->muted)
        take_from_muted(parking, connection);
    else
        parking->doorbells->ops->remove(parking->doorbells, connection->peer.slot,
                                        connection->to_engine_fd);
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

static void wait_rings(struct engine *engine, uint64_t deadline_ns)
{
    struct doorbells *doorbells = engine->parking.doorbells;
    uint32_t slots[DOORBELLS_AT_ONCE];
    uint32_t count = doorbells->ops->wait(doorbells, deadline_ns, slots);
    bool news = false;
    for (uint32_t i = 0; i < count; i++) {
        if (slots[i] == DOORBELL_CHANNEL)
            news = true;
        else if (engine->connections[slots[i]].attached && !engine->connections[slots[i]].muted)
            heed(engine, &engine->connections[slots[i]]);
    }
    look_at_muted(engine);
    if (news)
        connections_take_news(engine, NEWS_AT_ONCE);
}

void parking_poll(struct engine *engine)
{
    wait_rings(engine, 0);
}

void parking_sleep(struct engine *engine, uint64_t deadline_ns)
{
    park(engine, UINT64_MAX, 0);
    if (engine->parking.hot_count > 0)
        return; /* somebody submitted meanwhile */
    report_count(engine, LLM_COUNTER_PARKS, 1);
    if (engine->parking.muted_count > 0 && engine->parking.muted_look_ns < deadline_ns)
        deadline_ns = engine->parking.muted_look_ns;
    wait_rings(engine, deadline_ns);
}
