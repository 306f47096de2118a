#include "tools/bench/floors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/futex.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/fence.h"
#include "tools/bench/bench.h"

#define WARM_UPS      32
#define MESSAGE_BYTES 64
#define BATCH         64 /* calls per sample of what is shorter than reading the clock */

void floor_rest(uint64_t rest_ns)
{
    uint64_t end_ns = llm_now_ns() + rest_ns;
    while (llm_now_ns() < end_ns)
        llm_spin_pause();
}

/* ---- Two processes --------------------------------------------------------------------------------- */

/* Shared by the two; each line has one writer. */
struct page {
    alignas(64) _Atomic uint32_t asked;
    alignas(64) _Atomic uint32_t answered;
    _Atomic uint64_t seen_ns; /* by the child */
    _Atomic uint32_t placed;  /* 1: the child is on its processor */
};

struct exchange {
    struct page *page;
    int ours, theirs; /* descriptors of the two sides; -1 */
    uint32_t turn;
};

/* One exchange as we see it (`ask`), and the child's endless side of it (`serve`). */
struct exchange_kind {
    enum llm_status (*open)(struct exchange *exchange, struct llm_error *error); /* NULL: nothing */
    bool (*ask)(struct exchange *exchange, double *out_ns);
    void (*serve)(struct exchange *exchange);
};

static double since(uint64_t start_ns)
{
    return (double)(llm_now_ns() - start_ns);
}

/* ---- A cache line ---------------------------------------------------------------------------------- */

/* The other side may die: look at that once in a while. */
#define SPINS_MAX 2000000000u

static bool line_ask(struct exchange *exchange, double *out_ns)
{
    uint32_t turn = ++exchange->turn, spins = 0;
    uint64_t start_ns = llm_now_ns();
    atomic_store_explicit(&exchange->page->asked, turn, memory_order_release);
    while (atomic_load_explicit(&exchange->page->answered, memory_order_acquire) != turn)
        if (++spins == SPINS_MAX)
            return false;
    *out_ns = since(start_ns) / 2;
    return true;
}

static void line_serve(struct exchange *exchange)
{
    for (uint32_t turn = 1;; turn++) {
        while (atomic_load_explicit(&exchange->page->asked, memory_order_acquire) != turn)
            ;
        atomic_store_explicit(&exchange->page->answered, turn, memory_order_release);
    }
}

static bool stamp_ask(struct exchange *exchange, double *out_ns)
{
    uint32_t turn = ++exchange->turn, spins = 0;
    uint64_t start_ns = llm_now_ns();
    atomic_store_explicit(&exchange->page->asked, turn, memory_order_release);
    while (atomic_load_explicit(&exchange->page->answered, memory_order_acquire) != turn)
        if (++spins == SPINS_MAX)
            return false;
    uint64_t seen_ns = atomic_load_explicit(&exchange->page->seen_ns, memory_order_relaxed);
    *out_ns = (double)(int64_t)(seen_ns - start_ns);
    return true;
}

static void stamp_serve(struct exchange *exchange)
{
    for (uint32_t turn = 1;; turn++) {
        while (atomic_load_explicit(&exchange->page->asked, memory_order_acquire) != turn)
            ;
        atomic_store_explicit(&exchange->page->seen_ns, llm_now_ns(), memory_order_relaxed);
        atomic_store_explicit(&exchange->page->answered, turn, memory_order_release);
    }
}

/* ---- Futex ----------------------------------------------------------------------------------------- */

static long futex(_Atomic uint32_t *word, int operation, uint32_t value)
{
    return syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

static void futex_post(_Atomic uint32_t *word, uint32_t turn)
{
    atomic_store_explicit(word, turn, memory_order_release);
    futex(word, FUTEX_WAKE, 1);
}

static bool futex_await(_Atomic uint32_t *word, uint32_t turn)
{
    uint32_t now;
    while ((now = atomic_load_explicit(word, memory_order_acquire)) != turn && !bench_interrupted())
        futex(word, FUTEX_WAIT, now);
    return now == turn;
}

static bool futex_ask(struct exchange *exchange, double *out_ns)
{
    uint32_t turn = ++exchange->turn;
    uint64_t start_ns = llm_now_ns();
    futex_post(&exchange->page->asked, turn);
    if (!futex_await(&exchange->page->answered, turn))
        return false;
    *out_ns = since(start_ns);
    return true;
}

static void futex_serve(struct exchange *exchange)
{
    for (uint32_t turn = 1;; turn++) {
        if (!futex_await(&exchange->page->asked, turn))
            return;
        futex_post(&exchange->page->answered, turn);
    }
}

/* ---- Eventfd --------------------------------------------------------------------------------------- */

static enum llm_status eventfd_open(struct exchange *exchange, struct llm_error *error)
{
    exchange->ours = eventfd(0, EFD_CLOEXEC);
    exchange->theirs = eventfd(0, EFD_CLOEXEC);
    if (exchange->ours < 0 || exchange->theirs < 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot make an eventfd");
    return LLM_OK;
}

static bool eventfd_pass(int write_fd, int read_fd, bool write_first)
{
    uint64_t one = 1, got;
    if (write_first)
        return write(write_fd, &one, 8) == 8 && read(read_fd, &got, 8) == 8;
    return read(read_fd, &got, 8) == 8 && write(write_fd, &one, 8) == 8;
}

static bool eventfd_ask(struct exchange *exchange, double *out_ns)
{
    uint64_t start_ns = llm_now_ns();
    if (!eventfd_pass(exchange->theirs, exchange->ours, true))
        return false;
    *out_ns = since(start_ns);
    return true;
}

static void eventfd_serve(struct exchange *exchange)
{
    while (eventfd_pass(exchange->ours, exchange->theirs, false))
        ;
}

/* ---- Unix sockets ---------------------------------------------------------------------------------- */

static enum llm_status unix_open(struct exchange *exchange, int type, struct llm_error *error)
{
    int ends[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot make a socket pair");
    exchange->ours = ends[0];
    exchange->theirs = ends[1];
    return LLM_OK;
}

static enum llm_status stream_open(struct exchange *exchange, struct llm_error *error)
{
    return unix_open(exchange, SOCK_STREAM, error);
}

static enum llm_status seqpacket_open(struct exchange *exchange, struct llm_error *error)
{
    return unix_open(exchange, SOCK_SEQPACKET, error);
}

static bool message_send(int fd)
{
    static const char message[MESSAGE_BYTES];
    return send(fd, message, sizeof message, MSG_NOSIGNAL) == MESSAGE_BYTES;
}

static bool message_receive(int fd)
{
    char message[MESSAGE_BYTES];
    return recv(fd, message, sizeof message, MSG_WAITALL) == MESSAGE_BYTES;
}

static bool message_ask(struct exchange *exchange, double *out_ns)
{
    uint64_t start_ns = llm_now_ns();
    if (!message_send(exchange->ours) || !message_receive(exchange->ours))
        return false;
    *out_ns = since(start_ns);
    return true;
}

static void message_serve(struct exchange *exchange)
{
    while (message_receive(exchange->theirs) && message_send(exchange->theirs))
        ;
}

/* ---- HTTP ------------------------------------------------------------------------------------------ */

static const char http_request[] =
    "POST /v1/completions HTTP/1.1\r\n"
    "Host: 127.0.0.1\r\n"
    "Content-Type: application/json\r\n"
    "Content-Length: 60\r\n"
    "\r\n"
    "{\"model\":\"echo\",\"prompt\":[17],\"max_tokens\":1,\"stream\":false}";
static const char http_answer[] = "HTTP/1.1 200 OK\r\n"
                                  "Content-Type: application/json\r\n"
                                  "Content-Length: 27\r\n"
                                  "\r\n"
                                  "{\"choices\":[{\"text\":\"17\"}]}";

/* Both ends of one connection over loopback. */
static bool loopback_pair(int out_ends[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    out_ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool paired = listener >= 0 && out_ends[0] >= 0 &&
                  bind(listener, (struct sockaddr *)&address, bytes) == 0 &&
                  listen(listener, 1) == 0 &&
                  getsockname(listener, (struct sockaddr *)&address, &bytes) == 0 &&
                  connect(out_ends[0], (struct sockaddr *)&address, bytes) == 0 &&
                  (out_ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;
    for (int i = 0; paired && i < 2; i++)
        setsockopt(out_ends[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (listener >= 0)
        close(listener);
    return paired;
}

static enum llm_status http_open(struct exchange *exchange, struct llm_error *error)
{
    int ends[2] = {-1, -1};
    bool paired = loopback_pair(ends);
    exchange->ours = ends[0];
    exchange->theirs = ends[1];
    if (!paired)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot connect over loopback");
    return LLM_OK;
}

/* Read one message: up to the empty line, then as much as Content-Length says. */
static bool http_receive(int fd)
{
    char text[1024];
    size_t used = 0;
    for (;;) {
        ssize_t got = recv(fd, text + used, sizeof text - 1 - used, 0);
        if (got <= 0)
            return false;
        used += (size_t)got;
        text[used] = '\0';
        const char *body = strstr(text, "\r\n\r\n");
        const char *length = body ? strcasestr(text, "content-length:") : NULL;
        size_t body_bytes = length ? strtoul(length + 15, NULL, 10) : 0;
        if (body && used >= (size_t)(body - text) + 4 + body_bytes)
            return true;
    }
}

static bool http_send(int fd, const char *text, size_t bytes)
{
    return send(fd, text, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

static bool http_ask(struct exchange *exchange, double *out_ns)
{
    uint64_t start_ns = llm_now_ns();
    if (!http_send(exchange->ours, http_request, sizeof http_request - 1) ||
        !http_receive(exchange->ours))
        return false;
    *out_ns = since(start_ns);
    return true;
}

static void http_serve(struct exchange *exchange)
{
    while (http_receive(exchange->theirs) &&
           http_send(exchange->theirs, http_answer, sizeof http_answer - 1))
        ;
}

static const struct exchange_kind exchanges[] = {
    [FLOOR_LINE] = {NULL, line_ask, line_serve},
    [FLOOR_STAMP] = {NULL, stamp_ask, stamp_serve},
    [FLOOR_FUTEX] = {NULL, futex_ask, futex_serve},
    [FLOOR_EVENTFD] = {eventfd_open, eventfd_ask, eventfd_serve},
    [FLOOR_STREAM] = {stream_open, message_ask, message_serve},
    [FLOOR_SEQPACKET] = {seqpacket_open, message_ask, message_serve},
    [FLOOR_HTTP] = {http_open, http_ask, http_serve},
};

/* ---- Running an exchange --------------------------------------------------------------------------- */

static void close_exchange(struct exchange *exchange)
{
    if (exchange->ours >= 0)
        close(exchange->ours);
    if (exchange->theirs >= 0)
        close(exchange->theirs);
    munmap(exchange->page, sizeof *exchange->page);
}

static enum llm_status open_exchange(struct exchange *exchange, const struct exchange_kind *kind,
                                     struct llm_error *error)
{
    void *page =
        mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "no memory for a shared page");
    *exchange = (struct exchange){.page = page, .ours = -1, .theirs = -1};
    enum llm_status status = kind->open ? kind->open(exchange, error) : LLM_OK;
    if (status != LLM_OK)
        close_exchange(exchange);
    return status;
}

static bool play(const struct exchange_kind *kind, struct exchange *exchange, uint64_t rest_ns,
                 uint64_t run_ns, struct samples *samples)
{
    double ns;
    for (int i = 0; i < WARM_UPS; i++)
        if (!kind->ask(exchange, &ns))
            return false;
    uint64_t end_ns = llm_now_ns() + run_ns;
    do {
        if (rest_ns > 0)
            floor_rest(rest_ns);
        if (!kind->ask(exchange, &ns))
            return false;
        samples_add(samples, ns);
    } while (llm_now_ns() < end_ns && !samples_full(samples) && !bench_interrupted());
    return true;
}

static enum llm_status measure_exchange(const struct exchange_kind *kind,
                                        const struct machine *machine, uint64_t rest_ns,
                                        uint64_t run_ns, struct samples *samples,
                                        struct llm_error *error)
{
    struct exchange exchange;
    enum llm_status status = open_exchange(&exchange, kind, error);
    if (status != LLM_OK)
        return status;
    pid_t child = fork();
    if (child == 0) {
        bench_child_begins();
        machine_pin(machine, 0, 1);
        futex_post(&exchange.page->placed, 1);
        kind->serve(&exchange);
        _exit(0);
    }
    if (child > 0) /* asleep, or under SCHED_FIFO it could not leave our processor */
        futex_await(&exchange.page->placed, 1);
    bool played = child > 0 && play(kind, &exchange, rest_ns, run_ns, samples);
    if (!played && !bench_interrupted())
        status = llm_fail(error, LLM_ERR_SYSTEM, "the other process of a bare exchange failed");
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    close_exchange(&exchange);
    return status;
}

/* ---- Single calls ---------------------------------------------------------------------------------- */

static void call(enum floor_kind kind)
{
    static _Atomic uint32_t word;
    if (kind == FLOOR_SYSCALL)
        syscall(SYS_getppid);
    else if (kind == FLOOR_WAKE_NOBODY)
        futex(&word, FUTEX_WAKE, 1);
    else
        llm_now_ns();
}

static void measure_calls(enum floor_kind kind, uint64_t run_ns, struct samples *samples)
{
    uint64_t end_ns = llm_now_ns() + run_ns;
    do {
        uint64_t start_ns = llm_now_ns();
        for (int i = 0; i < BATCH; i++)
            call(kind);
        samples_add(samples, since(start_ns) / BATCH);
    } while (llm_now_ns() < end_ns && !samples_full(samples) && !bench_interrupted());
}

enum llm_status floor_measure(enum floor_kind kind, const struct machine *machine, uint64_t rest_ns,
                              uint64_t run_ns, struct samples *samples, struct llm_error *error)
{
    if (kind < FLOOR_SYSCALL)
        return measure_exchange(&exchanges[kind], machine, rest_ns, run_ns, samples, error);
    measure_calls(kind, run_ns, samples);
    return LLM_OK;
}
