#include "daemon/keeper/status_page.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "shm/clock.h"
#include "shm/crash_point.h"

#define store(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)

/* ---- Making ---------------------------------------------------------------------------------------- */

/* The keeper that made an existing file holds a lock on it for as long as it lives. */
static enum llm_status refuse_second(const char *name, struct llm_error *error)
{
    int fd = shm_open(name, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return LLM_OK;
    int taken = flock(fd, LOCK_SH | LOCK_NB); /* who looks for dead ones has a shared lock, too */
    close(fd);
    return taken == 0
               ? LLM_OK
               : llm_fail(error, LLM_ERR_BUSY,
                          "another daemon uses the status file %s; use --instance for a second one",
                          name);
}

static void fill(struct keeper *keeper)
{
    struct llm_status_keeper *page = &keeper->status->keeper;
    page->abi_major = LLM_ABI_MAJOR;
    page->file_bytes = sizeof *keeper->status;
    memcpy(page->boot_id, keeper->ctl->boot_id, sizeof page->boot_id);
    page->keeper_pid = (uint32_t)getpid();
    page->keeper_uid = geteuid();
    page->started_ns = llm_now_ns();
    page->started_wall_ns = llm_wall_ns();
    snprintf(page->version, sizeof page->version, "%s", LLMD_VERSION);
    snprintf(page->socket_path, sizeof page->socket_path, "%s", keeper->place.socket_path);
    page->geometry = keeper->geometry;
    atomic_thread_fence(memory_order_release); /* magic last: a reader that sees it sees the rest */
    page->magic = LLM_STATUS_MAGIC;
    CRASH_POINT(keeper_magic);
}

enum llm_status status_page_open(struct keeper *keeper, int *out_fd, struct llm_error *error)
{
    int fd;
    enum llm_status status = refuse_second(keeper->place.status_name, error);
    if (status == LLM_OK)
        status = llm_status_create(keeper->place.status_name, &fd, &keeper->status, error);
    if (status != LLM_OK)
        return status;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) { /* nobody locks a file without its magic */
        close(fd);
        return llm_fail_errno(error, LLM_ERR_BUSY, errno, "cannot lock the status file %s",
                              keeper->place.status_name);
    }
    fill(keeper);
    *out_fd = fd;
    return LLM_OK;
}

void status_page_close(struct keeper *keeper)
{
    if (!keeper->status)
        return;
    shm_unlink(keeper->place.status_name);
    munmap(keeper->status, sizeof *keeper->status);
    keeper->status = NULL;
}

/* ---- Changing -------------------------------------------------------------------------------------- */

static enum llm_daemon_state daemon_state(const struct keeper *keeper)
{
    const struct engine *engine = &keeper->engine;
    if (keeper->stopping)
        return LLM_DAEMON_STOPPING;
    if (engine->failed)
        return LLM_DAEMON_FAILED;
    if (!engine->ready_once)
        return LLM_DAEMON_STARTING;
    if (keeper->drain.active)
        return keeper->drain.empty ? LLM_DAEMON_DRAINED : LLM_DAEMON_DRAINING;
    return engine->ready ? LLM_DAEMON_RUNNING : LLM_DAEMON_RECOVERING;
}

void status_page_engine(struct keeper *keeper)
{
    struct llm_status_keeper *page = &keeper->status->keeper;
    uint32_t state = daemon_state(keeper);
    store(page->engine_pid, (uint32_t)keeper->engine.pid);
    store(page->engine_generation, keeper->engine.generation);
    store(page->daemon_state, state);
    CRASH_POINT(keeper_engine);
    store(keeper->ctl->engine_generation, keeper->engine.generation);
    CRASH_POINT(keeper_ctl);
    store(keeper->ctl->daemon_state, state);
    CRASH_POINT(keeper_state);
    service_note_change(keeper);
}

void status_page_died(struct keeper *keeper, uint64_t now_ns)
{
    store(keeper->status->keeper.engine_died_ns, now_ns);
    CRASH_POINT(keeper_died);
}

void status_page_attached(struct keeper *keeper, uint32_t slot, const char *name)
{
    const struct client *client = &keeper->clients.slots[slot];
    struct llm_status_connection *row = &keeper->status->connections[slot];
    row->pid = client->pid;
    row->uid = client->uid;
    row->gid = client->gid;
    row->attached_ns = llm_now_ns();
    snprintf(row->name, sizeof row->name, "%s", name);
    atomic_store_explicit(&row->connection_id, client->id, memory_order_release);
    CRASH_POINT(keeper_row);
    store(keeper->status->keeper.connections_open, keeper->clients.attached_count);
    keeper_note_idle(keeper);
    service_note_change(keeper);
}

void status_page_left(struct keeper *keeper, uint32_t slot)
{
    service_note_change(keeper);
    store(keeper->status->connections[slot].connection_id, 0);
    CRASH_POINT(keeper_left);
    store(keeper->status->keeper.connections_open, keeper->clients.attached_count);
}

/* ---- Descriptors ----------------------------------------------------------------------------------- */

/* Those that come and go without belonging to a connection. */
static uint32_t count_passing(const struct keeper *keeper)
{
    const struct engine *engine = &keeper->engine;
    int count = (engine->pidfd >= 0) + (engine->channel >= 0) + (keeper->ready_fd >= 0) +
                (engine->asker.answer_fd_owned && engine->asker.answer_fd >= 0) +
                (keeper->loader.pidfd >= 0) + (keeper->loader.channel >= 0);
    for (int i = 0; i < MEMORIES_MAX; i++)
        count += keeper->memories.items[i].fd >= 0;
    return (uint32_t)count + registry_descriptors(&keeper->registry);
}

static uint32_t count_held(void)
{
    DIR *directory = opendir("/proc/self/fd");
    if (!directory)
        return 0;
    uint32_t count = 0;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 3; /* ".", ".." and the directory's own */
}

void status_page_count_own(struct keeper *keeper)
{
    keeper->descriptors_own = count_held() - count_passing(keeper);
}

void status_page_count_descriptors(struct keeper *keeper)
{
    store(keeper->status->keeper.descriptors_held, count_held());
    store(keeper->status->keeper.descriptors_baseline,
          keeper->descriptors_own + count_passing(keeper));
}

void status_page_error(struct keeper *keeper, const char *text)
{
    llm_status_note_error(keeper->status->keeper_errors, llm_wall_ns(), text);
}
