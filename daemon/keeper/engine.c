#include "daemon/keeper/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/keeper/process.h"
#include "daemon/keeper/status_page.h"
#include "daemon/log.h"
#include "shm/clock.h"
#include "shm/crash_point.h"

#define CHANNEL_BUFFER_BYTES (1 << 20)
#define ARGUMENT_BYTES       65536
#define ARGUMENTS_MAX        (CONFIG_KEYS_MAX + CONFIG_QUOTAS_MAX * CONFIG_QUOTA_KEYS)

void engine_init(struct engine *engine)
{
    memset(engine, 0, sizeof *engine);
    engine->pidfd = engine->channel = engine->answer_fd = -1;
}

/* ---- Starting -------------------------------------------------------------------------------------- */

/* The engine's settings travel as "key=value" arguments, one for each item of the configuration. */
struct arguments {
    char text[ARGUMENT_BYTES];
    char *list[ARGUMENTS_MAX + 2]; /* the program before, NULL behind */
};

static enum llm_status fill_arguments(const struct config *config, struct arguments *arguments,
                                      struct llm_error *error)
{
    static char program[] = "llmd-engine";
    static char value[CONFIG_VALUE_BYTES];
    size_t used = 0, count = 0;
    arguments->list[count++] = program;
    unsigned item_count = config_item_count(config);
    for (unsigned item = 0; item < item_count; item++) {
        char *at = arguments->text + used, name[CONFIG_NAME_BYTES];
        size_t room = sizeof arguments->text - used;
        config_item(config, item, name, value, sizeof value);
        int bytes = snprintf(at, room, "%s=%s", name, value);
        if (bytes < 0 || (size_t)bytes >= room)
            return llm_fail(error, LLM_ERR_LIMIT, "the configuration is too long to hand over");
        arguments->list[count++] = at;
        used += strlen(at) + 1;
    }
    arguments->list[count] = NULL;
    return LLM_OK;
}

/* Beside llmd, as in the build tree; or where it is installed, since it is nobody's command. */
static enum llm_status find_program(char *out_path, size_t bytes, struct llm_error *error)
{
    static const char *const places[] = {"llmd-engine", LLMD_ENGINE_FROM_BIN};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (place_program_sibling(places[i], out_path, bytes) && access(out_path, X_OK) == 0)
            return LLM_OK;
    return llm_fail(error, LLM_ERR_NOT_FOUND,
                    "llmd-engine is neither beside llmd nor at %s: the installation is not whole",
                    out_path);
}

#ifdef LLM_CRASH_POINTS
/* Crash tests let only some engines die: LLMD_CRASH_ENGINES=<last>, or =<first>-<last>; 1 when unset. */
static void limit_crash_points(uint64_t generation)
{
    const char *text = getenv("LLMD_CRASH_ENGINES");
    char *end = NULL;
    uint64_t last = text ? strtoull(text, &end, 10) : 1, first = 1;
    if (end && *end == '-') {
        first = last;
        last = strtoull(end + 1, NULL, 10);
    }
    if (generation < first || generation > last)
        unsetenv("LLMD_CRASH");
}
#endif

/* In the child, between fork and exec: async-signal-safe calls only (the keeper has one thread). */
static void become_engine(const char *program, char **arguments, int channel, pid_t keeper_pid)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* Ctrl-C at the terminal is for the keeper */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper_pid)
        _exit(1); /* the keeper died before the line above */
    if (dup2(channel, ENGINE_CHANNEL_FD) < 0)
        _exit(1);
    if (channel == ENGINE_CHANNEL_FD)
        fcntl(channel, F_SETFD, 0);
    execv(program, arguments);
    _exit(127);
}

static enum llm_status make_channel(int ends[2], struct llm_error *error)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot make the engine's channel");
    const int bytes = CHANNEL_BUFFER_BYTES; /* best effort: the system may allow less */
    for (int i = 0; i < 2; i++)
        setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    fcntl(ends[0], F_SETFL, O_NONBLOCK); /* a hung engine must not hang the keeper */
    return LLM_OK;
}

static enum llm_status spawn(struct keeper *keeper, const char *program,
                             struct arguments *arguments, struct llm_error *error)
{
    struct engine *engine = &keeper->engine;
    int ends[2];
    enum llm_status status = make_channel(ends, error);
    if (status != LLM_OK)
        return status;
    pid_t keeper_pid = getpid();
    pid_t pid = fork();
    if (pid == 0) {
#ifdef LLM_CRASH_POINTS
        limit_crash_points(engine->generation + 1);
#endif
        become_engine(program, arguments->list, ends[1], keeper_pid);
    }
    close(ends[1]);
    int pidfd = pid > 0 ? process_open(pid) : -1;
    if (pidfd < 0) {
        close(ends[0]);
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot start the engine");
    }
    CRASH_POINT(keeper_spawned);
    engine->pid = pid;
    engine->pidfd = pidfd;
    engine->channel = ends[0];
    return LLM_OK;
}

static void forget_what_was_told(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    for (int i = 0; i < MEMORIES_MAX; i++)
        keeper->memories.items[i].told = false;
    clients_engine_gone(keeper);
    engine->told_serve = engine->told_stop = false;
    engine->told_drain = 0;
    engine->answer_waits = false;
    if (engine->answer_fd_owned)
        close(engine->answer_fd);
    engine->answer_fd = -1;
    engine->answer_fd_owned = false;
    engine->has_news = true;
}

enum llm_status engine_start(struct keeper *keeper, struct llm_error *error)
{
    struct engine *engine = &keeper->engine;
    static struct arguments arguments; /* large; one thread */
    char program[PATH_MAX] = "";
    enum llm_status status = find_program(program, sizeof program, error);
    if (status == LLM_OK)
        status = fill_arguments(keeper->config, &arguments, error);
    if (status == LLM_OK)
        status = spawn(keeper, program, &arguments, error);
    if (status != LLM_OK)
        return status;
    engine->generation++;
    engine->started_ns = llm_now_ns();
    engine->ready = engine->stop_asked = engine->replace = false;
    forget_what_was_told(keeper);
    keeper_watch(keeper, engine->pidfd, KEEPER_ENGINE_PROCESS, 0, engine->generation);
    keeper_watch(keeper, engine->channel, KEEPER_ENGINE_CHANNEL, 0, engine->generation);
    status_page_engine(keeper);
    log_set_generation(engine->generation);
    log_event(LOG_LEVEL_INFO, "engine started", log_count("engine_pid", (uint64_t)engine->pid));
    return LLM_OK;
}

/* ---- Telling --------------------------------------------------------------------------------------- */

/* True: it is in the channel. False: the channel is full, or the engine is gone (its pidfd will say so). */
static bool send_message(struct engine *engine, const struct channel_message *message,
                         const int *fds, uint32_t fd_count)
{
    struct llm_error error;
    return channel_send(engine->channel, message, fds, fd_count, &error) == LLM_OK;
}

static bool tell_memory(struct engine *engine, struct memory *memory)
{
    struct channel_message message = {
        .kind = CHANNEL_KEPT, .bytes = memory->bytes, .flags = memory->flags};
    memcpy(message.name, memory->name, sizeof message.name);
    memory->told = send_message(engine, &message, &memory->fd, 1);
    return memory->told;
}

static bool tell_attach(struct keeper *keeper, uint32_t slot)
{
    struct client *client = &keeper->clients.slots[slot];
    struct channel_message message = {
        .kind = CHANNEL_ATTACH,
        .connection = {.id = client->id,
                       .slot = slot,
                       .pid = client->pid,
                       .uid = client->uid,
                       .gid = client->gid,
                       .administrator = client->administrator,
                       .group_count = client->group_count,
                       .geometry = keeper->geometry},
    };
    memcpy(message.connection.groups, client->groups, sizeof client->groups);
    const int fds[] = {client->bundle.up_readonly, client->bundle.down, client->bundle.to_engine,
                       client->bundle.to_client};
    client->told_attach = send_message(&keeper->engine, &message, fds, 4);
    CRASH_POINT(keeper_attach);
    return client->told_attach;
}

static bool tell_detach(struct keeper *keeper, uint32_t slot)
{
    struct client *client = &keeper->clients.slots[slot];
    struct channel_message message = {.kind = CHANNEL_DETACH, .connection = {.id = client->id}};
    client->told_detach = send_message(&keeper->engine, &message, NULL, 0);
    CRASH_POINT(keeper_detach);
    return client->told_detach;
}

static bool tell_simple(struct engine *engine, enum channel_kind kind, bool *out_told)
{
    struct channel_message message = {.kind = kind, .generation = engine->generation};
    *out_told = send_message(engine, &message, NULL, 0);
    return *out_told;
}

static bool tell_answer(struct engine *engine)
{
    if (!send_message(engine, &engine->answer, &engine->answer_fd, engine->answer_fd >= 0))
        return false;
    if (engine->answer_fd_owned)
        close(engine->answer_fd);
    engine->answer_fd = -1;
    engine->answer_fd_owned = engine->answer_waits = false;
    return true;
}

static bool tell_memories(struct keeper *keeper)
{
    for (int i = 0; i < MEMORIES_MAX; i++) {
        struct memory *memory = &keeper->memories.items[i];
        if (memory->name[0] && !memory->told && !tell_memory(&keeper->engine, memory))
            return false;
    }
    return true;
}

static bool tell_clients(struct keeper *keeper)
{
    for (uint32_t slot = 0; slot < keeper->clients.end; slot++) {
        const struct client *client = &keeper->clients.slots[slot];
        if (client->phase == CLIENT_ATTACHED && !client->told_attach && !tell_attach(keeper, slot))
            return false;
        if (client->phase == CLIENT_LEAVING && !client->told_detach && !tell_detach(keeper, slot))
            return false;
    }
    return true;
}

static bool tell_drain(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    uint64_t wanted = drain_wanted(keeper);
    if (engine->told_drain == wanted)
        return true;
    struct channel_message message = {.kind = wanted ? CHANNEL_DRAIN : CHANNEL_RESUME,
                                      .connection = {.id = wanted}};
    if (!send_message(engine, &message, NULL, 0))
        return false;
    engine->told_drain = wanted;
    return true;
}

static bool tell_beat(struct keeper *keeper)
{
    bool told = true;
    if (keeper->heartbeat.beat_wanted && tell_simple(&keeper->engine, CHANNEL_BEAT, &told))
        keeper->heartbeat.beat_wanted = false;
    return told;
}

static bool tell_all(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    if (engine->answer_waits && !tell_answer(engine))
        return false;
    if (!tell_memories(keeper) || !tell_clients(keeper) || !tell_drain(keeper) ||
        !tell_beat(keeper))
        return false;
    if (!engine->told_serve && !tell_simple(engine, CHANNEL_SERVE, &engine->told_serve))
        return false;
    return !engine->stop_asked || engine->told_stop ||
           tell_simple(engine, CHANNEL_STOP, &engine->told_stop);
}

void engine_tell(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    if (engine->pid == 0 || !engine->has_news)
        return;
    engine->has_news = !tell_all(keeper);
    keeper_watch_writable(keeper, engine->channel, KEEPER_ENGINE_CHANNEL, engine->generation,
                          engine->has_news);
}

/* ---- Hearing --------------------------------------------------------------------------------------- */

/* Answer `message`; `fd` (-1: none) is closed after sending when `owned`. */
static void answer(struct keeper *keeper, const struct channel_message *message,
                   enum llm_status status, const struct llm_error *error, int fd, bool owned)
{
    struct engine *engine = &keeper->engine;
    if (engine->answer_waits) { /* it did not wait for the last one: not the engine we know */
        process_kill(engine->pidfd, SIGKILL);
        if (owned && fd >= 0)
            close(fd);
        return;
    }
    engine->answer = (struct channel_message){
        .kind = CHANNEL_ANSWER, .ticket = message->ticket, .status = (uint32_t)status};
    if (status != LLM_OK)
        snprintf(engine->answer.text, sizeof engine->answer.text, "%.*s", LLM_NOTE_BYTES - 1,
                 error->message);
    engine->answer_fd = fd;
    engine->answer_fd_owned = owned;
    engine->answer_waits = engine->has_news = true;
}

static void serve_alloc(struct keeper *keeper, const struct channel_message *message)
{
    struct llm_error error;
    struct memory *memory = NULL;
    enum llm_status status =
        memories_alloc(&keeper->memories, message->name, message->bytes, &memory, &error);
    CRASH_POINT(keeper_alloc);
    if (status == LLM_OK)
        memory->told = true;
    keeper->descriptors_changed = true;
    answer(keeper, message, status, &error, status == LLM_OK ? memory->fd : -1, false);
}

static void serve_open(struct keeper *keeper, const struct channel_message *message)
{
    struct llm_error error;
    int fd = -1;
    enum llm_status status = model_roots_open_file(&keeper->roots, message->path, &fd, &error);
    answer(keeper, message, status, &error, fd, true);
}

static void serve_deposit(struct keeper *keeper, const struct channel_message *message)
{
    struct llm_error error;
    enum llm_status status =
        message->flags == CHANNEL_MEMORY_PUBLIC
            ? memories_publish(&keeper->memories, message->name, &error)
            : llm_fail(&error, LLM_ERR_INVALID, "flags 0x%x of memory \"%s\" are not known",
                       message->flags, message->name);
    CRASH_POINT(keeper_public);
    answer(keeper, message, status, &error, -1, false);
}

static void serve_drop(struct keeper *keeper, const struct channel_message *message)
{
    struct llm_error error;
    enum llm_status status =
        strcmp(message->name, CHANNEL_NAME_CTL) == 0 ||
                strcmp(message->name, CHANNEL_NAME_STATUS) == 0
            ? llm_fail(&error, LLM_ERR_INVALID, "memory \"%s\" is the keeper's", message->name)
            : memories_drop(&keeper->memories, message->name, &error);
    CRASH_POINT(keeper_drop);
    keeper->descriptors_changed = true;
    answer(keeper, message, status, &error, -1, false);
}

static void became_ready(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    engine->ready = engine->ready_once = true;
    heartbeat_reset(keeper);
    status_page_engine(keeper);
    keeper_engine_ready(keeper);
}

static void note_failure(struct keeper *keeper, const char *text)
{
    struct engine *engine = &keeper->engine;
    engine->failed = true;
    snprintf(engine->reason, sizeof engine->reason, "%.*s", LLM_NOTE_BYTES - 1, text);
}

static void hear(struct keeper *keeper, const struct channel_message *message)
{
    switch (message->kind) {
    case CHANNEL_ALLOC:
        serve_alloc(keeper, message);
        break;
    case CHANNEL_OPEN:
        serve_open(keeper, message);
        break;
    case CHANNEL_DEPOSIT:
        serve_deposit(keeper, message);
        break;
    case CHANNEL_DROP:
        serve_drop(keeper, message);
        break;
    case CHANNEL_DETACHED:
        clients_detached(keeper, message->connection.id);
        break;
    case CHANNEL_BAD_CLIENT:
        clients_break(keeper, message->connection.id, message->text);
        break;
    case CHANNEL_READY:
        became_ready(keeper);
        break;
    case CHANNEL_FAILED:
        note_failure(keeper, message->text);
        break;
    case CHANNEL_DRAINED:
        drain_settled(keeper, message->connection.id);
        break;
    default:
        log_line(LOG_LEVEL_ERROR, "engine sent a message of unknown kind %u", message->kind);
        process_kill(keeper->engine.pidfd, SIGKILL);
    }
}

void engine_channel_ready(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    engine->has_news = true; /* it may be the room to write that woke us */
    for (int budget = 64; budget > 0 && engine->channel >= 0; budget--) {
        struct channel_message message;
        struct llm_error error;
        int fds[CHANNEL_FDS_MAX];
        enum llm_status status = channel_receive(engine->channel, false, &message, fds, &error);
        if (status == LLM_ERR_TIMEOUT)
            return;
        if (status != LLM_OK) { /* the end of the channel is the end of the engine */
            process_kill(engine->pidfd, SIGKILL);
            keeper_unwatch(keeper, engine->channel);
            close(engine->channel);
            engine->channel = -1;
            return;
        }
        for (int i = 0; i < CHANNEL_FDS_MAX; i++)
            if (fds[i] >= 0)
                close(fds[i]); /* the engine has none to give */
        hear(keeper, &message);
    }
}

/* ---- Ending ---------------------------------------------------------------------------------------- */

/* Remember this death; true when there were too many of late. */
static bool died_too_often(struct keeper *keeper, uint64_t now_ns)
{
    struct engine *engine = &keeper->engine;
    uint64_t window_ns = keeper->config->limits.engine_deaths_window_s * LLM_NS_PER_S;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < engine->deaths_count; i++)
        if (now_ns - engine->deaths_ns[i] < window_ns)
            engine->deaths_ns[kept++] = engine->deaths_ns[i];
    if (kept < ENGINE_DEATHS_MAX)
        engine->deaths_ns[kept++] = now_ns;
    engine->deaths_count = kept;
    return kept >= keeper->config->limits.engine_deaths;
}

static void close_engine(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    engine->pid = 0;
    close(engine->pidfd); /* closing removes them from the epoll set */
    if (engine->channel >= 0)
        close(engine->channel);
    engine->pidfd = engine->channel = -1;
    engine->ready = false;
    heartbeat_reset(keeper);
    drain_engine_gone(keeper);
    forget_what_was_told(keeper);
    keeper->descriptors_changed = true;
}

static void consider_death(struct keeper *keeper, const char *how)
{
    struct engine *engine = &keeper->engine;
    uint64_t now_ns = llm_now_ns();
    log_event(LOG_LEVEL_ERROR, "engine died", log_text("how", how));
    status_page_died(keeper, now_ns);
    char text[LLM_NOTE_BYTES];
    snprintf(text, sizeof text, "engine died: %s", how);
    status_page_error(keeper, text);
    if (died_too_often(keeper, now_ns)) {
        snprintf(text, sizeof text,
                 "the engine died %u times within %llu s (last: %.30s) and is not started again; "
                 "see the "
                 "log, then restart it",
                 engine->deaths_count,
                 (unsigned long long)keeper->config->limits.engine_deaths_window_s, how);
        note_failure(keeper, text);
    }
}

static void start_next(struct keeper *keeper)
{
    struct llm_error error;
    if (engine_start(keeper, &error) == LLM_OK)
        return;
    note_failure(keeper, error.message);
    keeper_engine_failed(keeper);
}

void engine_process_ready(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    int exit_code;
    char how[96];
    if (engine->pid == 0)
        return;
    engine_channel_ready(keeper); /* its last words */
    if (!process_collect(engine->pidfd, &exit_code, how, sizeof how))
        return;
    bool asked = engine->stop_asked;
    bool replace = engine->replace;
    close_engine(keeper);
    if (!asked && !engine->failed) /* a failed one has said why, and was no surprise */
        consider_death(keeper, how);
    else
        log_event(LOG_LEVEL_INFO, "engine ended", log_text("how", how));
    engine->stop_asked = engine->replace = false;
    status_page_engine(keeper);
    if (asked && exit_code > 0)
        keeper->exit_code = 1; /* it was asked to end and did not end well: see its last lines */
    if (keeper->stopping)
        return;
    if (engine->failed)
        keeper_engine_failed(keeper);
    else if (!asked || replace)
        start_next(keeper);
}

static void ask_to_stop(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    if (engine->pid == 0 || engine->stop_asked)
        return;
    engine->stop_asked = engine->has_news = true;
    engine->kill_ns = llm_deadline_ns(ENGINE_STOP_TIME_NS);
}

void engine_restart(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    if (engine->failed) {
        engine->failed = false;
        engine->deaths_count = 0;
    }
    if (engine->pid == 0) {
        start_next(keeper);
        return;
    }
    ask_to_stop(keeper);
    engine->replace = true;
}

void engine_stop(struct keeper *keeper)
{
    ask_to_stop(keeper);
    keeper->engine.replace = false;
}

uint64_t engine_expire(struct keeper *keeper, uint64_t now_ns)
{
    struct engine *engine = &keeper->engine;
    if (engine->pid == 0 || !engine->stop_asked)
        return UINT64_MAX;
    if (engine->kill_ns > now_ns)
        return engine->kill_ns;
    process_kill(engine->pidfd, SIGKILL);
    engine->kill_ns = llm_deadline_ns(ENGINE_STOP_TIME_NS);
    return engine->kill_ns;
}
