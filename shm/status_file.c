#include "shm/status_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    const char *unit;
    const char *help;
} counters[LLM_COUNTER_COUNT] = {
    [LLM_COUNTER_REQUESTS_ADMITTED] = {"requests_admitted", "requests", "requests taken in"},
    [LLM_COUNTER_REQUESTS_SERVED] = {"requests_served", "requests",
                                     "requests ended by a stop, their length or a full context"},
    [LLM_COUNTER_REQUESTS_CANCELLED] =
        {"requests_cancelled", "requests",
         "requests cancelled by their client, its death or an administrator"},
    [LLM_COUNTER_REQUESTS_FAILED] = {"requests_failed", "requests",
                                     "requests that ended with an error"},
    [LLM_COUNTER_REQUESTS_REFUSED] = {"requests_refused", "requests",
                                      "requests never admitted: invalid, busy or over a limit"},
    [LLM_COUNTER_TOKENS_IN] = {"tokens_in", "tokens", "prompt tokens of admitted requests"},
    [LLM_COUNTER_TOKENS_CACHED] = {"tokens_cached", "tokens",
                                   "prompt tokens reused from the cache"},
    [LLM_COUNTER_TOKENS_COMPUTED] = {"tokens_computed", "tokens",
                                     "rows that went through the model"},
    [LLM_COUNTER_TOKENS_OUT] = {"tokens_out", "tokens", "tokens published to clients"},
    [LLM_COUNTER_STEPS] = {"steps", "steps", "engine steps"},
    [LLM_COUNTER_PREEMPTIONS] = {"preemptions", "times",
                                 "requests put back to make room for others"},
    [LLM_COUNTER_EVICTIONS] = {"evictions", "blocks", "cached blocks given up to make room"},
    [LLM_COUNTER_WAKES] = {"wakes", "calls", "system calls made to wake clients"},
    [LLM_COUNTER_PARKS] = {"parks", "times", "times the engine thread went to sleep"},
    [LLM_COUNTER_CLIENTS_DETACHED] = {"clients_detached", "clients",
                                      "clients detached for breaking the protocol"},
    [LLM_COUNTER_DOORBELLS_MUTED] =
        {"doorbells_muted", "times",
         "a client's doorbell was muted, because it rang for nothing too often"},
};

const char *llm_counter_name(enum llm_counter counter)
{
    return (unsigned)counter < LLM_COUNTER_COUNT ? counters[counter].name : "unknown";
}

const char *llm_counter_unit(enum llm_counter counter)
{
    return (unsigned)counter < LLM_COUNTER_COUNT ? counters[counter].unit : "";
}

const char *llm_counter_help(enum llm_counter counter)
{
    return (unsigned)counter < LLM_COUNTER_COUNT ? counters[counter].help : "unknown counter";
}

/* ---- Creating ------------------------------------------------------------------------------------- */

static enum llm_status fail_create(struct llm_error *error, int number, const char *name)
{
    enum llm_status status = number == ENOSPC || number == ENOMEM  ? LLM_ERR_MEMORY
                             : number == EACCES || number == EPERM ? LLM_ERR_PERMISSION
                                                                   : LLM_ERR_SYSTEM;
    return llm_fail_errno(error, status, number,
                          "cannot create the status file /dev/shm%s of %zu KiB", name,
                          sizeof(struct llm_status_file) / 1024);
}

/* All pages now: a full /dev/shm must stop the start, not kill a running daemon with SIGBUS. */
static int allocate(int fd)
{
    int number;
    do
        number = posix_fallocate(fd, 0, (off_t)sizeof(struct llm_status_file));
    while (number == EINTR);
    if (number == 0 && fchmod(fd, 0640) < 0) /* whatever the umask */
        number = errno;
    return number;
}

static int map_file(int fd, struct llm_status_file **out_file)
{
    void *address =
        mmap(NULL, sizeof(struct llm_status_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED)
        return errno;
    *out_file = address;
    return 0;
}

enum llm_status llm_status_create(const char *name, int *out_fd, struct llm_status_file **out_file,
                                  struct llm_error *error)
{
    shm_unlink(name); /* a stale one; who still maps it keeps it */
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0640);
    if (fd < 0)
        return fail_create(error, errno, name);
    struct llm_status_file *file = NULL;
    int number = allocate(fd);
    if (number == 0)
        number = map_file(fd, &file);
    if (number != 0) {
        close(fd);
        shm_unlink(name);
        return fail_create(error, number, name);
    }
    *out_fd = fd;
    *out_file = file;
    return LLM_OK;
}

/* ---- Reading -------------------------------------------------------------------------------------- */

static enum llm_status check_file(const struct llm_status_file *file, const char *name,
                                  struct llm_error *error)
{
    if (file->keeper.magic != LLM_STATUS_MAGIC)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "%s is not a complete status file (magic %#llx)",
                        name, (unsigned long long)file->keeper.magic);
    if (file->keeper.abi_major != LLM_ABI_MAJOR ||
        file->keeper.file_bytes != sizeof(struct llm_status_file))
        return llm_fail(error, LLM_ERR_VERSION,
                        "status file %s is of version %u with %u bytes; this program reads "
                        "version %u with %zu",
                        name, file->keeper.abi_major, file->keeper.file_bytes, LLM_ABI_MAJOR,
                        sizeof(struct llm_status_file));
    return LLM_OK;
}

static enum llm_status map_readonly(int fd, const char *name,
                                    const struct llm_status_file **out_file,
                                    struct llm_error *error)
{
    struct stat info;
    if (fstat(fd, &info) < 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot look at status file %s", name);
    if ((uint64_t)info.st_size < sizeof(struct llm_status_file))
        return llm_fail(error, LLM_ERR_VERSION, "status file %s has %lld bytes, not %zu", name,
                        (long long)info.st_size, sizeof(struct llm_status_file));
    void *address = mmap(NULL, sizeof(struct llm_status_file), PROT_READ, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot map status file %s", name);
    enum llm_status status = check_file(address, name, error);
    if (status == LLM_OK)
        *out_file = address;
    else
        munmap(address, sizeof(struct llm_status_file));
    return status;
}

enum llm_status llm_status_open(const char *name, const struct llm_status_file **out_file,
                                struct llm_error *error)
{
    int fd = shm_open(name, O_RDONLY, 0);
    if (fd < 0) {
        enum llm_status status = errno == ENOENT   ? LLM_ERR_NOT_FOUND
                                 : errno == EACCES ? LLM_ERR_PERMISSION
                                                   : LLM_ERR_SYSTEM;
        return llm_fail_errno(error, status, errno, "cannot open status file %s", name);
    }
    enum llm_status status = map_readonly(fd, name, out_file, error);
    close(fd);
    return status;
}

void llm_status_close(const struct llm_status_file *file)
{
    if (file)
        munmap((void *)(uintptr_t)file, sizeof *file);
}

/* ---- Left behind ---------------------------------------------------------------------------------- */

#define MAGIC_OF_ANY_VERSION (LLM_STATUS_MAGIC >> 8) /* the lowest byte is the version */

static bool complete_and_unlocked(int fd)
{
    uint64_t magic = 0;
    return pread(fd, &magic, sizeof magic, 0) == (ssize_t)sizeof magic &&
           magic >> 8 == MAGIC_OF_ANY_VERSION && flock(fd, LOCK_SH | LOCK_NB) == 0;
}

bool llm_status_abandoned(const char *name, int *out_fd)
{
    int fd = shm_open(name, O_RDONLY, 0);
    if (fd < 0)
        return false;
    bool abandoned = complete_and_unlocked(fd);
    if (abandoned && out_fd)
        *out_fd = fd;
    else
        close(fd);
    return abandoned;
}

bool llm_status_named_like(const char *entry)
{
    return strncmp(entry, "llmd.", 5) == 0 && entry[5] >= '0' && entry[5] <= '9';
}

/* ---- The error rings ------------------------------------------------------------------------------ */

static struct llm_status_error *find_or_make_room(struct llm_status_error *ring, const char *text)
{
    struct llm_status_error *oldest = &ring[0];
    for (struct llm_status_error *entry = ring; entry < ring + LLM_STATUS_ERRORS; entry++) {
        if (atomic_load_explicit(&entry->count, memory_order_relaxed) == 0)
            return entry;
        if (strncmp(entry->text, text, sizeof entry->text - 1) == 0)
            return entry;
        if (atomic_load_explicit(&entry->last_ns, memory_order_relaxed) <
            atomic_load_explicit(&oldest->last_ns, memory_order_relaxed))
            oldest = entry;
    }
    atomic_store_explicit(&oldest->count, 0, memory_order_release);
    return oldest;
}

void llm_status_note_error(struct llm_status_error *ring, uint64_t now_ns, const char *text)
{
    struct llm_status_error *entry = find_or_make_room(ring, text);
    uint64_t count = atomic_load_explicit(&entry->count, memory_order_relaxed);
    if (count == 0) {
        strncpy(entry->text, text, sizeof entry->text - 1);
        entry->text[sizeof entry->text - 1] = '\0';
        atomic_store_explicit(&entry->first_ns, now_ns, memory_order_relaxed);
    }
    atomic_store_explicit(&entry->last_ns, now_ns, memory_order_relaxed);
    /* Stored last: a reader that finds a count finds the text. */
    atomic_store_explicit(&entry->count, count + 1, memory_order_release);
}
