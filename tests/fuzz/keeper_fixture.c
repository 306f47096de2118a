#include "tests/fuzz/keeper_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/log.h"
#include "shm/check.h"
#include "shm/segment.h"
#include "tests/fuzz/descriptors.h"

static uint32_t open_before; /* anybody connected */

/* ---- Once ------------------------------------------------------------------------------------------ */

static char *root_to_remove;

static void remove_root(void)
{
    char path[96];
    snprintf(path, sizeof path, "%s/file", root_to_remove);
    unlink(path);
    snprintf(path, sizeof path, "%s/out", root_to_remove);
    unlink(path);
    rmdir(root_to_remove);
}

static void make_root(struct keeper_fixture *fixture)
{
    char path[96];
    struct llm_error error;
    snprintf(fixture->root, sizeof fixture->root, "/tmp/llmd-fuzz-XXXXXX");
    CHECK(mkdtemp(fixture->root));
    root_to_remove = fixture->root;
    atexit(remove_root);
    snprintf(path, sizeof path, "%s/file", fixture->root);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    close(fd);
    snprintf(path, sizeof path, "%s/out", fixture->root);
    CHECK(symlink("/etc/passwd", path) == 0);
    CHECK(config_set(&fixture->config, "models.directories", fixture->root, "fuzz", &error) ==
          LLM_OK);
}

/* Abstract and named by the kernel, so that nothing is left behind. */
static int listen_anywhere(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
    CHECK(listen(fd, 64) == 0);
    return fd;
}

static void make_ctl(struct keeper *keeper)
{
    struct llm_error error;
    void *page;
    CHECK(llm_segment_create("ctl", LLM_PAGE_BYTES, &keeper->ctl_fd, &error) == LLM_OK);
    CHECK(llm_segment_reopen_readonly(keeper->ctl_fd, &keeper->ctl_readonly_fd, &error) == LLM_OK);
    CHECK(llm_segment_map("ctl", keeper->ctl_fd, LLM_PAGE_BYTES, true, &page, &error) == LLM_OK);
    keeper->ctl = page;
    keeper->ctl->magic = LLM_CTL_MAGIC;
}

static void make(struct keeper_fixture *fixture)
{
    struct keeper *keeper = &fixture->keeper;
    struct llm_error error;
    log_open(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT, 1, "fuzz"); /* a line a minute from each place */
    config_init(&fixture->config);
    CHECK(config_set_pair(&fixture->config, "models.default=echo", "fuzz", &error) == LLM_OK);
    CHECK(config_set_pair(&fixture->config, "limits.connections=3", "fuzz", &error) == LLM_OK);
    make_root(fixture);
    keeper->config = &fixture->config;
    keeper->signal_fd = keeper->ready_fd = -1;
    keeper->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    keeper->place = (struct place){.lock_fd = -1, .listen_fd = listen_anywhere()};
    keeper->geometry = (struct llm_geometry){.queue_entries = 8,
                                             .event_entries = 8,
                                             .stream_slots = 4,
                                             .log_words = 1024,
                                             .arena_bytes = LLM_PAGE_BYTES};
    make_ctl(keeper);
    keeper->status = aligned_alloc(LLM_PAGE_BYTES, sizeof *keeper->status);
    CHECK(keeper->epoll_fd >= 0 && keeper->status);
    memset(keeper->status, 0, sizeof *keeper->status);
    CHECK(model_roots_open(&keeper->roots, &fixture->config, &error) == LLM_OK);
    memories_init(&keeper->memories);
    clients_init(&keeper->clients);
    fixture->engine = -1;
    fixture->made = true;
}

/* ---- Each input ------------------------------------------------------------------------------------ */

static void keep(struct keeper *keeper, const char *name, int fd)
{
    struct llm_error error;
    struct memory *memory;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    CHECK(copy >= 0);
    CHECK(memories_keep(&keeper->memories, name, copy, LLM_PAGE_BYTES, &memory, &error) == LLM_OK);
}

static void publish(struct keeper *keeper, const char *name)
{
    struct llm_error error;
    struct memory *memory;
    CHECK(memories_alloc(&keeper->memories, name, LLM_PAGE_BYTES, &memory, &error) == LLM_OK);
    CHECK(memories_publish(&keeper->memories, name, &error) == LLM_OK);
}

void keeper_fixture_begin(struct keeper_fixture *fixture)
{
    int ends[2];
    struct llm_error error;
    struct keeper *keeper = &fixture->keeper;
    if (!fixture->made)
        make(fixture);
    open_before = descriptors_open();
    keep(keeper, CHANNEL_NAME_CTL, keeper->ctl_fd);
    publish(keeper, "vocab");
    engine_init(&keeper->engine);
    loader_init(&keeper->loader);
    CHECK(registry_open(keeper, &fixture->config, &error) == LLM_OK);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    keeper->engine.pid = getpid();
    keeper->engine.generation = 1;
    keeper->engine.channel = ends[0];
    keeper->engine.has_news = true;
    keeper->stopping = false;
    keeper->drain = (struct drain){0};
    keeper->heartbeat = (struct heartbeat){0};
    keeper->service = (struct service){0};
    fixture->engine = ends[1];
    keeper_watch(keeper, ends[0], KEEPER_ENGINE_CHANNEL, 0, 1);
}

void keeper_fixture_end(struct keeper_fixture *fixture)
{
    struct keeper *keeper = &fixture->keeper;
    keeper_fixture_turn(fixture);
    clients_close(keeper);
    clients_init(&keeper->clients);
    memories_close(&keeper->memories);
    asker_forget(&keeper->engine.asker);
    registry_close(&keeper->registry);
    if (keeper->engine.channel >= 0)
        close(keeper->engine.channel);
    close(fixture->engine);
    fixture->engine = -1;
    CHECK(descriptors_open() == open_before);
}

int keeper_fixture_connect(const struct keeper_fixture *fixture)
{
    struct sockaddr_un address;
    socklen_t bytes = sizeof address;
    int listener = fixture->keeper.place.listen_fd;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(fd >= 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &bytes) == 0);
    CHECK(connect(fd, (struct sockaddr *)&address, bytes) == 0);
    return fd;
}

void keeper_fixture_turn(struct keeper_fixture *fixture)
{
    struct keeper *keeper = &fixture->keeper;
    clients_accept(keeper);
    clients_accept(keeper);
    for (uint32_t slot = 0; slot < CLIENTS_MAX; slot++)
        if (keeper->clients.slots[slot].socket >= 0)
            clients_socket_ready(keeper, slot, keeper->clients.slots[slot].serial);
    engine_tell(keeper);
    if (keeper->engine.channel >= 0)
        engine_channel_ready(keeper);
    if (keeper->engine.channel >= 0)
        engine_tell(keeper);
}

void keeper_fixture_send(int socket, const void *bytes, size_t count, uint8_t descriptors)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = count};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    const int fds[2] = {STDERR_FILENO, socket};
    union {
        struct cmsghdr alignment;
        char bytes[CMSG_SPACE(sizeof fds)];
    } control = {.bytes = {0}};
    if (descriptors > 0) {
        size_t used = sizeof(int) * (descriptors % 2 + 1);
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(used);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(used);
        memcpy(CMSG_DATA(rights), fds, used);
    }
    (void)!sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT); /* full or closed: as it may be */
}
