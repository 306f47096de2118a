#include "daemon/keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "daemon/config_check.h"
#include "daemon/keeper/facilities.h"
#include "daemon/keeper/stale.h"
#include "daemon/keeper/status_page.h"
#include "daemon/log.h"
#include "shm/check.h"
#include "shm/clock.h"
#include "shm/segment.h"

#define ACCEPT_PAUSE_NS (100 * LLM_NS_PER_MS)
#define COUNT_PAUSE_NS  (100 * LLM_NS_PER_MS)
#define EVENTS_AT_ONCE  64

/* ---- The epoll set --------------------------------------------------------------------------------- */

/* event:8 | serial:24 | index:32 */
static uint64_t event_pack(enum keeper_event event, uint64_t serial, uint32_t index)
{
    return (uint64_t)event << 56 | (serial & KEEPER_SERIAL_MASK) << 32 | index;
}

static void change_set(struct keeper *keeper, int operation, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    if (epoll_ctl(keeper->epoll_fd, operation, fd, &event) != 0)
        log_event(LOG_LEVEL_ERROR, "epoll_ctl failed", log_count("fd", (uint64_t)fd),
                  log_text("reason", strerror(errno)));
}

void keeper_watch(struct keeper *keeper, int fd, enum keeper_event event, uint32_t index,
                  uint64_t serial)
{
    change_set(keeper, EPOLL_CTL_ADD, fd, EPOLLIN, event_pack(event, serial, index));
}

void keeper_watch_writable(struct keeper *keeper, int fd, enum keeper_event event, uint64_t serial,
                           bool wanted)
{
    if (fd >= 0)
        change_set(keeper, EPOLL_CTL_MOD, fd, EPOLLIN | (wanted ? (uint32_t)EPOLLOUT : 0),
                   event_pack(event, serial, 0));
}

void keeper_unwatch(struct keeper *keeper, int fd)
{
    change_set(keeper, EPOLL_CTL_DEL, fd, 0, 0);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

static enum llm_status make_geometry(struct keeper *keeper, struct llm_error *error)
{
    keeper->geometry = config_geometry(keeper->config);
    return llm_geometry_valid(&keeper->geometry)
               ? LLM_OK
               : llm_fail(error, LLM_ERR_INVALID, "the limits of a connection do not fit together");
}

static enum llm_status open_ctl(struct keeper *keeper, struct llm_error *error)
{
    enum llm_status status = llm_segment_create("llmd-ctl", LLM_PAGE_BYTES, &keeper->ctl_fd, error);
    if (status == LLM_OK)
        status = llm_segment_reopen_readonly(keeper->ctl_fd, &keeper->ctl_readonly_fd, error);
    if (status != LLM_OK)
        return status;
    void *page = mmap(NULL, LLM_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, keeper->ctl_fd, 0);
    if (page == MAP_FAILED)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot map the control page");
    keeper->ctl = page;
    keeper->ctl->magic = LLM_CTL_MAGIC;
    keeper->ctl->abi_major = LLM_ABI_MAJOR;
    keeper->ctl->abi_minor = LLM_ABI_MINOR;
    keeper->ctl->keeper_pid = (uint32_t)getpid();
    if (getrandom(keeper->ctl->boot_id, sizeof keeper->ctl->boot_id, 0) !=
        (ssize_t)sizeof keeper->ctl->boot_id)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "no random numbers");
    return LLM_OK;
}

/* The two memories that the keeper itself writes are kept like all others. */
static enum llm_status keep_own(struct keeper *keeper, const char *name, int fd, size_t bytes,
                                struct llm_error *error)
{
    struct memory *memory;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "no descriptor for \"%s\"", name);
    enum llm_status status = memories_keep(&keeper->memories, name, copy, bytes, &memory, error);
    if (status != LLM_OK)
        close(copy);
    return status;
}

static enum llm_status open_status(struct keeper *keeper, struct llm_error *error)
{
    int fd;
    enum llm_status status = status_page_open(keeper, &fd, error);
    if (status != LLM_OK)
        return status;
    stale_sweep();
    status = keep_own(keeper, CHANNEL_NAME_STATUS, fd, sizeof *keeper->status, error);
    close(fd);
    return status;
}

static enum llm_status open_loop(struct keeper *keeper, struct llm_error *error)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    keeper->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    keeper->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (keeper->signal_fd < 0 || keeper->epoll_fd < 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot make the event loop");
    keeper_watch(keeper, keeper->signal_fd, KEEPER_SIGNAL, 0, 0);
    keeper_watch(keeper, keeper->place.listen_fd, KEEPER_LISTEN, 0, 0);
    return LLM_OK;
}

/* The soft limit is ours to raise. */
static void raise_descriptor_limit(const struct config *config)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    rlim_t wanted =
        (rlim_t)config->limits.connections * CONFIG_DESCRIPTORS_EACH + CONFIG_DESCRIPTORS_MORE;
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur < wanted)
        log_event(LOG_LEVEL_WARN, "fewer clients than limits.connections fit: too few descriptors",
                  log_count("limit", limit.rlim_cur), log_count("wanted", wanted));
}

static enum llm_status open_parts(struct keeper *keeper, struct config *config,
                                  struct llm_error *error)
{
    enum llm_status status = make_geometry(keeper, error);
    if (status == LLM_OK)
        status = place_name(&keeper->place, config, error);
    if (status == LLM_OK)
        status = model_roots_open(&keeper->roots, config, error);
    if (status == LLM_OK)
        status = place_take(&keeper->place, config, error);
    if (status == LLM_OK)
        status = open_ctl(keeper, error);
    if (status == LLM_OK)
        status = keep_own(keeper, CHANNEL_NAME_CTL, keeper->ctl_fd, LLM_PAGE_BYTES, error);
    if (status == LLM_OK)
        status = open_status(keeper, error);
    if (status == LLM_OK)
        status = open_loop(keeper, error);
    if (status == LLM_OK)
        status = registry_open(keeper, config, error);
    if (status == LLM_OK)
        status = engine_start(keeper, error);
    return status;
}

enum llm_status keeper_open(struct keeper *keeper, struct config *config, int ready_fd,
                            struct llm_error *error)
{
    memset(keeper, 0, sizeof *keeper);
    keeper->config = config;
    keeper->epoll_fd = keeper->signal_fd = keeper->ctl_fd = keeper->ctl_readonly_fd = -1;
    keeper->place = (struct place){.lock_fd = -1, .listen_fd = -1};
    keeper->accepting = true;
    keeper->idle_since_ns = llm_now_ns();
    keeper->ready_fd = ready_fd;
    memories_init(&keeper->memories);
    clients_init(&keeper->clients);
    engine_init(&keeper->engine);
    loader_init(&keeper->loader);
    service_open(&keeper->service);
    facilities_log();
    raise_descriptor_limit(config);
    enum llm_status status = open_parts(keeper, config, error);
    if (status == LLM_OK)
        status_page_count_own(keeper);
    else
        keeper_close(keeper);
    return status;
}

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void keeper_close(struct keeper *keeper)
{
    CHECK(keeper->engine.pid == 0 && keeper->loader.pid == 0);
    clients_close(keeper);
    registry_close(&keeper->registry);
    status_page_close(keeper);
    memories_close(&keeper->memories);
    model_roots_close(&keeper->roots);
    if (keeper->ctl)
        munmap(keeper->ctl, LLM_PAGE_BYTES);
    keeper->ctl = NULL;
    close_one(&keeper->ctl_fd);
    close_one(&keeper->ctl_readonly_fd);
    close_one(&keeper->epoll_fd);
    close_one(&keeper->signal_fd);
    place_drop(&keeper->place);
}

/* ---- What the parts report ------------------------------------------------------------------------- */

/* Once. Whoever started us reads to the end of file: after "ready" at once, after a sentence when we are gone
 * and have cleaned up. */
static void tell_starter(struct keeper *keeper, const char *text)
{
    if (keeper->ready_fd < 0 || keeper->starter_told)
        return;
    ssize_t written = write(keeper->ready_fd, text, strlen(text));
    (void)written; /* nobody waits any more: nothing to do about it */
    keeper->starter_told = true;
}

void keeper_stop(struct keeper *keeper)
{
    if (keeper->stopping)
        return;
    keeper->stopping = true;
    service_stopping(keeper);
    status_page_engine(keeper);
    loader_stop(keeper);
    engine_stop(keeper);
}

void keeper_note_idle(struct keeper *keeper)
{
    bool idle = keeper->clients.attached_count == 0;
    keeper->idle_since_ns = idle ? llm_now_ns() : UINT64_MAX;
}

void keeper_pause_accepting(struct keeper *keeper)
{
    log_event(LOG_LEVEL_WARN, "cannot accept clients for a moment",
              log_text("reason", strerror(errno)));
    change_set(keeper, EPOLL_CTL_MOD, keeper->place.listen_fd, 0, event_pack(KEEPER_LISTEN, 0, 0));
    keeper->accepting = false;
    keeper->accept_again_ns = llm_deadline_ns(ACCEPT_PAUSE_NS);
}

void keeper_engine_ready(struct keeper *keeper)
{
    const struct engine *engine = &keeper->engine;
    log_event(LOG_LEVEL_INFO, "ready", log_text("socket", keeper->place.socket_path),
              log_text("status", keeper->place.status_name),
              log_count("ms", (llm_now_ns() - engine->started_ns) / LLM_NS_PER_MS));
    if (engine->generation == 1)
        keeper_note_idle(keeper);
    tell_starter(keeper, "ready");
    close_one(&keeper->ready_fd);
    service_ready();
}

/* Before the first "ready" there is nothing to keep: end with the sentence. Later, keep what clients have. */
void keeper_engine_failed(struct keeper *keeper)
{
    log_line(LOG_LEVEL_ERROR, "%s", keeper->engine.reason);
    status_page_error(keeper, keeper->engine.reason);
    status_page_engine(keeper);
    if (keeper->engine.ready_once) {
        if (keeper->drain.active && keeper->drain.then_stop)
            keeper_stop(keeper); /* nobody is left to end what runs */
        return;
    }
    tell_starter(keeper, keeper->engine.reason);
    keeper->exit_code = 1;
    keeper_stop(keeper);
}

/* ---- The loop -------------------------------------------------------------------------------------- */

static void take_signal(struct keeper *keeper)
{
    struct signalfd_siginfo info;
    if (read(keeper->signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    log_event(LOG_LEVEL_INFO, "told to stop", log_count("signal", info.ssi_signo));
    service_stopping(keeper);
    drain_by_signal(keeper);
}

static void dispatch(struct keeper *keeper, uint64_t data)
{
    uint32_t index = (uint32_t)data;
    uint32_t serial = (uint32_t)(data >> 32) & KEEPER_SERIAL_MASK;
    bool engine_current = serial == (keeper->engine.generation & KEEPER_SERIAL_MASK);
    switch ((enum keeper_event)(data >> 56)) {
    case KEEPER_LISTEN:
        clients_accept(keeper);
        break;
    case KEEPER_SIGNAL:
        take_signal(keeper);
        break;
    case KEEPER_ENGINE_PROCESS:
        if (engine_current)
            engine_process_ready(keeper);
        break;
    case KEEPER_ENGINE_CHANNEL:
        if (engine_current)
            engine_channel_ready(keeper);
        break;
    case KEEPER_CLIENT_SOCKET:
        clients_socket_ready(keeper, index, serial);
        break;
    case KEEPER_CLIENT_PROCESS:
        clients_process_gone(keeper, index, serial);
        break;
    case KEEPER_LOADER_PROCESS:
        if (serial == (keeper->loader.serial & KEEPER_SERIAL_MASK))
            loader_process_ready(keeper);
        break;
    case KEEPER_LOADER_CHANNEL:
        if (serial == (keeper->loader.serial & KEEPER_SERIAL_MASK))
            loader_channel_ready(keeper);
        break;
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t expire_idle(struct keeper *keeper, uint64_t now_ns)
{
    uint64_t allowed_s = keeper->config->daemon.idle_exit_s;
    if (allowed_s == 0 || keeper->clients.attached_count > 0 || keeper->stopping)
        return UINT64_MAX;
    uint64_t end_ns = keeper->idle_since_ns + allowed_s * LLM_NS_PER_S;
    if (now_ns < end_ns)
        return end_ns;
    log_line(LOG_LEVEL_INFO, "stopping: no client for %llu s", (unsigned long long)allowed_s);
    keeper_stop(keeper);
    return UINT64_MAX;
}

static uint64_t resume_accepting(struct keeper *keeper, uint64_t now_ns)
{
    if (keeper->accepting)
        return UINT64_MAX;
    if (now_ns < keeper->accept_again_ns)
        return keeper->accept_again_ns;
    change_set(keeper, EPOLL_CTL_MOD, keeper->place.listen_fd, EPOLLIN,
               event_pack(KEEPER_LISTEN, 0, 0));
    keeper->accepting = true;
    return UINT64_MAX;
}

/* Counting reads a directory, so not more often than people look. */
static uint64_t count_descriptors(struct keeper *keeper, uint64_t now_ns)
{
    if (!keeper->descriptors_changed)
        return UINT64_MAX;
    uint64_t next_ns = keeper->descriptors_counted_ns + COUNT_PAUSE_NS;
    if (now_ns < next_ns)
        return next_ns;
    status_page_count_descriptors(keeper);
    keeper->descriptors_changed = false;
    keeper->descriptors_counted_ns = now_ns;
    return UINT64_MAX;
}

/* Everything that time alone makes due. Returns how long epoll may sleep. */
static int expire(struct keeper *keeper)
{
    uint64_t now_ns = llm_now_ns();
    uint64_t next_ns = clients_expire(keeper, now_ns);
    next_ns = earlier(next_ns, engine_expire(keeper, now_ns));
    next_ns = earlier(next_ns, heartbeat_expire(keeper, now_ns));
    next_ns = earlier(next_ns, drain_expire(keeper, now_ns));
    next_ns = earlier(next_ns, registry_expire(keeper, now_ns));
    next_ns = earlier(next_ns, expire_idle(keeper, now_ns));
    next_ns = earlier(next_ns, resume_accepting(keeper, now_ns));
    next_ns = earlier(next_ns, count_descriptors(keeper, now_ns));
    next_ns = earlier(next_ns, service_expire(keeper, now_ns));
    if (next_ns == UINT64_MAX)
        return -1;
    uint64_t wait_ms = next_ns > now_ns ? (next_ns - now_ns) / LLM_NS_PER_MS + 1 : 0;
    return wait_ms > 60000 ? 60000 : (int)wait_ms;
}

int keeper_run(struct keeper *keeper)
{
    while (!keeper->stopping || keeper->engine.pid != 0 || keeper->loader.pid != 0) {
        int wait_ms = expire(keeper);
        engine_tell(keeper);
        struct epoll_event events[EVENTS_AT_ONCE];
        int count = epoll_wait(keeper->epoll_fd, events, EVENTS_AT_ONCE, wait_ms);
        for (int i = 0; i < count; i++)
            dispatch(keeper, events[i].data.u64);
        engine_tell(keeper);
    }
    log_line(LOG_LEVEL_INFO, "stopped");
    tell_starter(keeper, "the daemon was told to stop before it was ready");
    return keeper->exit_code;
}
