#include "tools/bench/readers.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/fence.h"
#include "tools/bench/bench.h"

#define READ_TOKENS   512 /* at most, from one stream at one look */
#define START_NS      (60 * LLM_NS_PER_S)
#define LOOK_FIRST_NS (50 * LLM_NS_PER_US)
#define LATE_NS       (20 * LLM_NS_PER_MS)
#define LOOK_MAX_NS   (100 * LLM_NS_PER_MS)
#define SLEEP_NS      (200 * LLM_NS_PER_US) /* a look that is this far off is slept for, not spun for */
#define WAIT_NS       (100 * LLM_NS_PER_MS) /* sleepers look at `stop` so often */

const char *const reader_names[READER_COUNT] = {"late", "look", "spin", "futex", "eventfd"};

struct reader_worker {
    const struct readers *readers;
    uint32_t index;
    pid_t pid;
    pthread_t thread;
};

static void sleep_ns(uint64_t ns)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)(ns / LLM_NS_PER_S),
                                 .tv_nsec = (long)(ns % LLM_NS_PER_S)},
              NULL);
}

/* ---- A client -------------------------------------------------------------------------------------- */

struct asked {
    uint64_t submitted_ns;
    uint32_t seen;     /* tokens of this answer */
    uint32_t requests; /* submitted on this stream */
};

struct client {
    const struct reader_setup *setup;
    struct reader_cell *cell;
    llm_connection *connection;
    llm_stream **streams; /* [streams]; NULL: to be submitted, or at its end */
    struct asked *asked;  /* [streams] */
    uint32_t *prompt;     /* [prompt] */
    uint32_t open_count;
};

static uint32_t prompt_id(uint32_t client, uint32_t position)
{
    return (client * 7919 + position * 31 + 1) % 65536;
}

static enum llm_status open_client(struct client *client, const struct readers *readers,
                                   uint32_t index, struct llm_error *error)
{
    const struct reader_setup *setup = &readers->setup;
    *client = (struct client){.setup = setup, .cell = &readers->board->cells[index]};
    client->streams = calloc(setup->streams, sizeof(llm_stream *));
    client->asked = calloc(setup->streams, sizeof *client->asked);
    client->prompt = calloc(setup->prompt, sizeof *client->prompt);
    if (!client->streams || !client->asked || !client->prompt)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a client");
    for (uint32_t i = 0; i < setup->prompt; i++)
        client->prompt[i] = prompt_id(index, i);
    return target_connect(readers->target,
                          setup->kind == READER_SPIN ? LLM_WAIT_SPIN : LLM_WAIT_FUTEX,
                          &client->connection, error);
}

static void close_client(struct client *client)
{
    for (uint32_t i = 0; client->streams && i < client->setup->streams; i++)
        llm_stream_close(client->streams[i]);
    llm_disconnect(client->connection);
    free(client->streams);
    free(client->asked);
    free(client->prompt);
}

static enum llm_status ask(struct client *client, uint32_t i, struct llm_error *error)
{
    struct asked *asked = &client->asked[i];
    if (client->setup->requests > 0 && asked->requests == client->setup->requests)
        return LLM_OK;
    asked->submitted_ns = llm_now_ns();
    asked->seen = 0;
    enum llm_status status =
        llm_submit(client->connection, client->prompt, client->setup->prompt,
                   &(llm_sampling){.max_tokens = client->setup->tokens, .ignore_eos = true},
                   &client->streams[i], error);
    if (status == LLM_ERR_BUSY) /* a closed stream's slot is free again a moment later */
        return LLM_OK;
    if (status != LLM_OK)
        return status;
    asked->requests++;
    client->open_count++;
    return LLM_OK;
}

static void count(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

static void note_first(struct reader_cell *cell, uint64_t submitted_ns)
{
    uint32_t at = atomic_load_explicit(&cell->first_count, memory_order_relaxed);
    if (at == READER_FIRSTS_MAX)
        return;
    cell->first_us[at] = (float)((double)(llm_now_ns() - submitted_ns) / 1e3);
    atomic_store_explicit(&cell->first_count, at + 1, memory_order_release);
}

/* Take what stream i has. Whether there was anything. */
static enum llm_status look(struct client *client, uint32_t i, bool *out_news,
                            struct llm_error *error)
{
    uint32_t tokens[READ_TOKENS], taken = 0;
    struct asked *asked = &client->asked[i];
    if (!client->streams[i]) {
        uint32_t before = client->open_count;
        enum llm_status status = ask(client, i, error);
        *out_news |= client->open_count != before;
        return status;
    }
    enum llm_status status =
        llm_stream_read(client->streams[i], tokens, NULL, READ_TOKENS, 0, &taken, error);
    if (status == LLM_ERR_TIMEOUT)
        return LLM_OK;
    if (status != LLM_OK)
        return status;
    *out_news = true;
    if (taken == 0) {
        llm_stream_close(client->streams[i]);
        client->streams[i] = NULL;
        client->open_count--;
        count(&client->cell->requests, 1);
        return ask(client, i, error);
    }
    uint32_t expected = client->prompt[asked->seen % client->setup->prompt];
    if (tokens[0] != expected)
        return llm_fail(error, LLM_ERR_CORRUPT, "token %u of an echo is %u instead of %u",
                        asked->seen, tokens[0], expected);
    if (asked->seen == 0)
        note_first(client->cell, asked->submitted_ns);
    asked->seen += taken;
    count(&client->cell->tokens, taken);
    return LLM_OK;
}

/* ---- A worker -------------------------------------------------------------------------------------- */

struct work {
    const struct readers *readers;
    struct client *clients; /* [client_count] */
    struct pollfd *polls;   /* [client_count] */
    uint32_t client_count;
    uint64_t next_look_ns;
};

static bool finished(const struct work *work)
{
    if (atomic_load_explicit(&work->readers->board->stop, memory_order_relaxed))
        return true;
    if (work->readers->setup.requests == 0)
        return false;
    for (uint32_t c = 0; c < work->client_count; c++)
        for (uint32_t i = 0; i < work->readers->setup.streams; i++)
            if (work->clients[c].streams[i] ||
                work->clients[c].asked[i].requests < work->readers->setup.requests)
                return false;
    return true;
}

static enum llm_status look_at_all(struct work *work, bool *out_news, struct llm_error *error)
{
    enum llm_status status = LLM_OK;
    for (uint32_t c = 0; c < work->client_count && status == LLM_OK; c++)
        for (uint32_t i = 0; i < work->readers->setup.streams && status == LLM_OK; i++)
            status = look(&work->clients[c], i, out_news, error);
    return status;
}

static void wait_for_look(struct work *work)
{
    uint64_t period_ns = atomic_load_explicit(&work->readers->board->look_ns, memory_order_relaxed);
    uint64_t now_ns = llm_now_ns();
    work->next_look_ns += period_ns;
    if (work->next_look_ns < now_ns) /* late: the next look is a whole period off */
        work->next_look_ns = now_ns + period_ns;
    if (work->next_look_ns - now_ns > SLEEP_NS)
        sleep_ns(work->next_look_ns - now_ns);
    while (llm_now_ns() < work->next_look_ns)
        llm_spin_pause();
}

static enum llm_status wait_for_futex(struct work *work, struct llm_error *error)
{
    struct client *client = &work->clients[0];
    uint32_t which;
    if (client->open_count == 0)
        return LLM_OK;
    enum llm_status status =
        llm_streams_wait_any(client->streams, work->readers->setup.streams, WAIT_NS, &which, error);
    return status == LLM_ERR_TIMEOUT ? LLM_OK : status;
}

static void wait_for_bell(struct work *work)
{
    if (poll(work->polls, work->client_count, (int)(WAIT_NS / LLM_NS_PER_MS)) <= 0)
        return;
    for (uint32_t c = 0; c < work->client_count; c++)
        if (work->polls[c].revents)
            llm_connection_acknowledge(work->clients[c].connection);
}

static enum llm_status run(struct work *work, struct llm_error *error)
{
    enum llm_status status = LLM_OK;
    work->next_look_ns = llm_now_ns();
    while (status == LLM_OK && !finished(work)) {
        bool news = false;
        status = look_at_all(work, &news, error);
        if (status != LLM_OK)
            break;
        if (work->readers->setup.kind == READER_LOOK || work->readers->setup.kind == READER_LATE)
            wait_for_look(work);
        else if (news)
            continue;
        else if (work->readers->setup.kind == READER_FUTEX)
            status = wait_for_futex(work, error);
        else if (work->readers->setup.kind == READER_EVENTFD)
            wait_for_bell(work);
        else
            llm_spin_pause();
    }
    return status;
}

/* Clients w, w + workers, w + 2 * workers, ... */
static enum llm_status open_work(struct work *work, const struct readers *readers, uint32_t index,
                                 struct llm_error *error)
{
    uint32_t most = readers->setup.clients / readers->setup.workers + 1;
    *work = (struct work){.readers = readers};
    work->clients = calloc(most, sizeof *work->clients);
    work->polls = calloc(most, sizeof *work->polls);
    if (!work->clients || !work->polls)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u clients", most);
    for (uint32_t c = index; c < readers->setup.clients; c += readers->setup.workers) {
        struct client *client = &work->clients[work->client_count];
        enum llm_status status = open_client(client, readers, c, error);
        if (readers->setup.kind == READER_EVENTFD && status == LLM_OK)
            work->polls[work->client_count] =
                (struct pollfd){.fd = llm_connection_fd(client->connection), .events = POLLIN};
        work->client_count++;
        if (status != LLM_OK)
            return status;
    }
    return LLM_OK;
}

static void close_work(struct work *work)
{
    for (uint32_t c = 0; c < work->client_count; c++)
        close_client(&work->clients[c]);
    free(work->clients);
    free(work->polls);
}

static void report_failure(struct reader_board *board, const struct llm_error *error)
{
    uint32_t first = 0;
    if (atomic_compare_exchange_strong(&board->failed, &first, 2)) {
        memcpy(board->message, error->message, sizeof board->message);
        atomic_store(&board->failed, 1);
    }
}

static void serve(const struct reader_worker *worker)
{
    struct reader_board *board = worker->readers->board;
    struct llm_error error;
    struct work work;
    enum llm_status status = open_work(&work, worker->readers, worker->index, &error);
    atomic_fetch_add(&board->ready, 1);
    while (status == LLM_OK && !atomic_load(&board->go))
        sleep_ns(LLM_NS_PER_MS / 2);
    if (status == LLM_OK)
        status = run(&work, &error);
    if (status != LLM_OK)
        report_failure(board, &error);
    atomic_fetch_add(&board->ended, 1);
    close_work(&work);
}

/* ---- Workers --------------------------------------------------------------------------------------- */

static void place(const struct readers *readers)
{
    if (readers->setup.workers == 1)
        machine_pin(readers->machine, 0, 0);
    else
        machine_avoid(readers->machine, 0, 1);
}

static void *serve_thread(void *self)
{
    const struct reader_worker *worker = self;
    place(worker->readers);
    serve(worker);
    return NULL;
}

static enum llm_status start_worker(struct readers *readers, struct reader_worker *worker,
                                    struct llm_error *error)
{
    if (readers->setup.threads) {
        int number = pthread_create(&worker->thread, NULL, serve_thread, worker);
        return number == 0 ? LLM_OK
                           : llm_fail_errno(error, LLM_ERR_SYSTEM, number, "cannot start thread %u",
                                            worker->index + 1);
    }
    worker->pid = fork();
    if (worker->pid == 0) {
        bench_child_begins();
        place(readers);
        serve(worker);
        _exit(0);
    }
    return worker->pid > 0 ? LLM_OK
                           : llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot start process %u",
                                            worker->index + 1);
}

enum llm_status readers_open(struct readers *readers, const struct reader_setup *setup,
                             const struct target *target, const struct machine *machine,
                             struct llm_error *error)
{
    *readers = (struct readers){.setup = *setup, .target = target, .machine = machine};
    readers->board_bytes =
        sizeof(struct reader_board) + setup->clients * sizeof(struct reader_cell);
    void *board =
        mmap(NULL, readers->board_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    readers->workers = calloc(setup->workers, sizeof *readers->workers);
    if (board == MAP_FAILED || !readers->workers)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u clients", setup->clients);
    readers->board = board;
    uint64_t look_ns = setup->kind == READER_LATE ? LATE_NS
                       : setup->look_us           ? setup->look_us * LLM_NS_PER_US
                                                  : LOOK_FIRST_NS;
    atomic_store(&readers->board->look_ns, look_ns);
    enum llm_status status = LLM_OK;
    fflush(NULL);
    for (uint32_t i = 0; i < setup->workers && status == LLM_OK; i++) {
        readers->workers[i] = (struct reader_worker){.readers = readers, .index = i};
        status = start_worker(readers, &readers->workers[i], error);
        if (status == LLM_OK)
            readers->started++;
    }
    uint64_t deadline_ns = llm_deadline_ns(START_NS);
    while (status == LLM_OK && atomic_load(&readers->board->ready) < setup->workers) {
        sleep_ns(LLM_NS_PER_MS);
        if (llm_remaining_ns(deadline_ns) == 0)
            status = llm_fail(error, LLM_ERR_TIMEOUT, "%u of %u workers have connected in a minute",
                              atomic_load(&readers->board->ready), setup->workers);
        if (bench_interrupted())
            break;
    }
    return status;
}

void readers_go(struct readers *readers)
{
    atomic_store(&readers->board->go, 1);
}

void readers_update(struct readers *readers)
{
    uint64_t now_ns = llm_now_ns();
    uint64_t steps = target_counter(readers->target, LLM_COUNTER_STEPS);
    uint64_t more = steps - readers->seen_steps;
    if (readers->setup.kind == READER_LOOK && readers->setup.look_us == 0 && readers->seen_ns > 0 &&
        more > 0) {
        uint64_t period_ns = (now_ns - readers->seen_ns) / more;
        atomic_store_explicit(&readers->board->look_ns,
                              period_ns > LOOK_MAX_NS ? LOOK_MAX_NS : period_ns,
                              memory_order_relaxed);
    }
    readers->seen_steps = steps;
    readers->seen_ns = now_ns;
}

bool readers_ended(const struct readers *readers)
{
    return atomic_load(&readers->board->failed) == 1 ||
           atomic_load(&readers->board->ended) == readers->setup.workers;
}

uint64_t readers_cpu_ns(const struct readers *readers)
{
    if (readers->setup.threads)
        return llm_clock_read_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t ns = 0;
    for (uint32_t i = 0; i < readers->started; i++)
        ns += process_cpu_ns(readers->workers[i].pid);
    return ns;
}

enum llm_status readers_close(struct readers *readers, struct llm_error *error)
{
    enum llm_status status = LLM_OK;
    if (readers->board) {
        atomic_store(&readers->board->stop, 1);
        atomic_store(&readers->board->go, 1);
    }
    for (uint32_t i = 0; i < readers->started; i++) {
        int code = 0;
        if (readers->setup.threads)
            pthread_join(readers->workers[i].thread, NULL);
        else
            while (waitpid(readers->workers[i].pid, &code, 0) < 0 && errno == EINTR)
                ;
        if (code != 0 && !bench_interrupted())
            status = llm_fail(error, LLM_ERR_SYSTEM, "client process %u ended with status 0x%x",
                              i + 1, (unsigned)code);
    }
    if (readers->board && atomic_load(&readers->board->failed) == 1)
        status =
            llm_fail(error, LLM_ERR_SYSTEM, "a client failed: %.200s", readers->board->message);
    if (readers->board)
        munmap(readers->board, readers->board_bytes);
    free(readers->workers);
    *readers = (struct readers){0};
    return status;
}
