/*
 * status_file.h - the page that tells how the daemon is, also when the engine hangs or is dead.
 *
 * Idea     One POSIX shared-memory file, "/llmd.<uid>.<instance>", that llmctl maps by itself and reads
 *          without asking anybody: states, counters, connections, requests, the last steps, the last errors.
 * Owner    The keeper creates it, fully allocated (posix_fallocate), mode 0640, and removes it at the end; a
 *          stale one of a dead keeper is replaced. The engine gets the descriptor with its manifest.
 * Threads  Single writers: every struct below names its own. Readers take relaxed loads; a row is worth
 *          reading while its id is the same before and after.
 * Trust    Readers treat it as hostile: sizes are checked against the file, texts are copied and terminated.
 *          Per-request and per-connection rows make it an administrator's page (mode 0640).
 * See      docs/PROTOCOL.md ("Status file"), tools/llmctl (status, clients, requests, check).
 */
#ifndef LLM_SHM_STATUS_FILE_H
#define LLM_SHM_STATUS_FILE_H

#include "shm/layout.h"
#include "shm/models.h"

#define LLM_STATUS_MAGIC           UINT64_C(0x5441544c444d4c04)
#define LLM_STATUS_CONNECTIONS_MAX 4096u
#define LLM_STATUS_REQUESTS_MAX    1024u
#define LLM_STATUS_STEPS           1024u /* power of two */
#define LLM_STATUS_EVENTS          4096u /* power of two */
#define LLM_STATUS_ERRORS          64u
#define LLM_STATUS_TEXT_BYTES      128u

enum llm_counter {
    LLM_COUNTER_REQUESTS_ADMITTED,
    LLM_COUNTER_REQUESTS_SERVED,    /* finished by stop, length or context */
    LLM_COUNTER_REQUESTS_CANCELLED, /* by the client, its death or an administrator */
    LLM_COUNTER_REQUESTS_FAILED,
    LLM_COUNTER_REQUESTS_REFUSED, /* never admitted: invalid, busy or over a limit */
    LLM_COUNTER_TOKENS_IN,        /* prompt tokens of admitted requests */
    LLM_COUNTER_TOKENS_CACHED,    /* of those, reused from the cache */
    LLM_COUNTER_TOKENS_COMPUTED,  /* rows that went through the model */
    LLM_COUNTER_TOKENS_OUT,       /* published */
    LLM_COUNTER_STEPS,
    LLM_COUNTER_PREEMPTIONS,
    LLM_COUNTER_EVICTIONS,
    LLM_COUNTER_WAKES,            /* system calls made to wake clients */
    LLM_COUNTER_PARKS,            /* times the engine thread went to sleep */
    LLM_COUNTER_CLIENTS_DETACHED, /* for breaking the protocol */
    LLM_COUNTER_DOORBELLS_MUTED,  /* rang for nothing too often */
    LLM_COUNTER_COUNT
};
/* The counter's name, what it counts in ("tokens") and its sentence; never NULL. */
const char *llm_counter_name(enum llm_counter counter);
const char *llm_counter_unit(enum llm_counter counter);
const char *llm_counter_help(enum llm_counter counter);

/* keeper */
struct llm_status_keeper {
    uint64_t magic; /* stored last */
    uint32_t abi_major;
    uint32_t file_bytes;
    uint8_t boot_id[16];
    uint32_t keeper_pid;
    uint32_t keeper_uid;
    uint64_t started_ns;      /* CLOCK_MONOTONIC */
    uint64_t started_wall_ns; /* CLOCK_REALTIME */
    char version[32];
    char socket_path[LLM_STATUS_TEXT_BYTES];
    struct llm_geometry geometry;
    _Atomic uint32_t engine_pid;   /* 0 while there is none */
    _Atomic uint32_t daemon_state; /* as in ctl */
    _Atomic uint64_t engine_generation;
    _Atomic uint64_t engine_died_ns;       /* CLOCK_MONOTONIC of the last death; 0: none */
    _Atomic uint32_t descriptors_held;     /* by the keeper, all told */
    _Atomic uint32_t descriptors_baseline; /* needed by itself; the rest are connections' */
    _Atomic uint32_t connections_open;
    uint32_t reserved;
};

/* engine; texts are written before ready_generation is stored */
struct llm_status_engine {
    _Atomic uint64_t ready_generation;
    _Atomic uint64_t
        heartbeat_ns; /* CLOCK_MONOTONIC, each pass of the engine thread that did something */
    char model_name[LLM_NAME_BYTES];
    char model_text[LLM_STATUS_TEXT_BYTES];   /* "bf16, 8.2 MB" */
    char backend_text[LLM_STATUS_TEXT_BYTES]; /* "cpu avx2, 2 threads" */
    _Atomic uint32_t block_tokens;
    _Atomic uint32_t block_bytes;
    _Atomic uint32_t blocks_total;
    _Atomic uint32_t blocks_held;
    _Atomic uint32_t blocks_cached;
    _Atomic uint32_t blocks_free;
    _Atomic uint32_t requests_running;
    _Atomic uint32_t requests_queued;
    _Atomic uint64_t weights_bytes;
    _Atomic uint64_t workspace_bytes;
    _Atomic uint64_t recovery_ns;   /* start of this engine to serving */
    _Atomic uint64_t names_settled; /* the names it goes by (struct llm_models_image) */
    _Atomic uint64_t
        counters[LLM_COUNTER_COUNT]; /* since the keeper started: a new engine goes on counting */
};

/* keeper; slot is the connection's slot everywhere */
struct llm_status_connection {
    _Atomic uint64_t connection_id; /* 0: free; stored last, cleared first */
    uint32_t pid;
    uint32_t uid;
    uint32_t gid;
    uint32_t reserved;
    uint64_t attached_ns;
    char name[LLM_NAME_BYTES];
};
/* engine */
struct llm_status_usage {
    _Atomic uint32_t streams_live;
    _Atomic uint32_t reserved;
    _Atomic uint64_t requests;
    _Atomic uint64_t tokens_in;
    _Atomic uint64_t tokens_out;
};

enum llm_request_phase {
    LLM_PHASE_QUEUED,
    LLM_PHASE_PREFILL,
    LLM_PHASE_DECODE
};

/* engine; slot is the request's slot in reqtab */
struct llm_status_request {
    _Atomic uint64_t request_id; /* 0: free */
    _Atomic uint32_t connection_slot;
    _Atomic uint32_t phase;
    _Atomic uint32_t prompt_tokens;
    _Atomic uint32_t cached_tokens;
    _Atomic uint32_t produced_tokens;
    _Atomic uint32_t max_tokens;
    _Atomic uint32_t blocks;
    _Atomic uint32_t deaths;
    _Atomic uint64_t admitted_ns;
};

/* engine; step s is in entry s % LLM_STATUS_STEPS */
struct llm_status_step {
    _Atomic uint64_t step; /* number of the step; stored last */
    _Atomic uint64_t started_ns;
    _Atomic uint32_t duration_us;
    _Atomic uint32_t prefill_tokens;
    _Atomic uint32_t decode_tokens;
    _Atomic uint32_t sequences;
    _Atomic uint32_t blocks_held; /* after it, like the next */
    _Atomic uint32_t blocks_cached;
    _Atomic uint32_t requests_queued;
    _Atomic uint32_t engine_generation;
};

/* What happened to requests. */
enum llm_status_event_kind {
    LLM_EVENT_ADMITTED = 1, /* value: prompt tokens */
    LLM_EVENT_STARTED = 2,  /* value: prompt tokens found in the cache; also after a preemption */
    LLM_EVENT_FIRST_TOKEN = 3, /* value: 0 */
    LLM_EVENT_PREEMPTED = 4,   /* value: tokens published so far */
    LLM_EVENT_FINISHED = 5,    /* value: enum llm_finish */
    LLM_EVENT_RECOVERED = 6    /* goes on after an engine's death; value: tokens published so far */
};

/* engine; event e is in entry e % LLM_STATUS_EVENTS */
struct llm_status_event {
    _Atomic uint64_t number; /* of the event, from 1; stored last; 0: being written */
    _Atomic uint64_t at_ns;  /* CLOCK_MONOTONIC */
    _Atomic uint64_t request_id;
    _Atomic uint32_t kind; /* enum llm_status_event_kind */
    _Atomic uint32_t value;
};

/* keeper and engine have a ring each: distinct sentences with how often, when first and when last */
struct llm_status_error {
    _Atomic uint64_t count;    /* 0: free */
    _Atomic uint64_t first_ns; /* CLOCK_REALTIME, like the next */
    _Atomic uint64_t last_ns;
    char text[LLM_NOTE_BYTES];
};

/* slot is the model's */
struct llm_status_model {
    /* keeper */
    _Atomic uint64_t model_id; /* 0: free; stored last, cleared first */
    _Atomic uint32_t state;    /* enum llm_model_state */
    uint32_t version;
    char name[LLM_NAME_BYTES];
    /* engine */
    _Atomic uint64_t counted_id; /* whose the following are; stored last, cleared first */
    _Atomic uint32_t context_tokens;
    _Atomic uint32_t requests_live;
    _Atomic uint64_t requests;
    _Atomic uint64_t weights_bytes;
    _Atomic uint64_t workspace_bytes;
    _Atomic uint64_t
        used_ns; /* CLOCK_MONOTONIC, when its last request began or ended; 0: none did */
    char text[LLM_STATUS_TEXT_BYTES];
};

struct llm_status_file {
    alignas(LLM_PAGE_BYTES) struct llm_status_keeper keeper;
    alignas(LLM_PAGE_BYTES) struct llm_status_engine engine;
    alignas(LLM_PAGE_BYTES) struct llm_status_connection connections[LLM_STATUS_CONNECTIONS_MAX];
    alignas(LLM_PAGE_BYTES) struct llm_status_usage usage[LLM_STATUS_CONNECTIONS_MAX];
    alignas(LLM_PAGE_BYTES) struct llm_status_request requests[LLM_STATUS_REQUESTS_MAX];
    alignas(LLM_PAGE_BYTES) struct llm_status_step steps[LLM_STATUS_STEPS];
    alignas(LLM_PAGE_BYTES) struct llm_status_error keeper_errors[LLM_STATUS_ERRORS];
    alignas(LLM_PAGE_BYTES) struct llm_status_error engine_errors[LLM_STATUS_ERRORS];
    alignas(LLM_PAGE_BYTES) struct llm_status_event events[LLM_STATUS_EVENTS];
    alignas(LLM_PAGE_BYTES) struct llm_status_model models[LLM_MODELS_MAX];
};

/* Create it fully allocated, replacing a stale one of the same name; the caller fills it in and stores
 * keeper.magic last. LLM_ERR_MEMORY when there is no room in /dev/shm: the sentence says how much is needed. */
enum llm_status llm_status_create(const char *name, int *out_fd, struct llm_status_file **out_file,
                                  struct llm_error *error) LLM_MUST_CHECK;
/* Map it read-only and check magic, version and size. LLM_ERR_NOT_FOUND: no such daemon. */
enum llm_status llm_status_open(const char *name, const struct llm_status_file **out_file,
                                struct llm_error *error) LLM_MUST_CHECK;
void llm_status_close(const struct llm_status_file *file);

/* A keeper holds an exclusive flock(2) on its file from before `magic` is stored until it is gone, so a complete
 * file that can be locked is a dead one's, in whatever pid namespace it lived.
 *
 *   out_fd   when true: the file, locked (shared); whoever looks at it closes it. NULL: closed at once */
bool llm_status_abandoned(const char *name, int *out_fd);
/* Whether an entry of /dev/shm may be a status file by its name: "llmd." and a uid. */
bool llm_status_named_like(const char *entry);
/* Count one more of this sentence in a ring of LLM_STATUS_ERRORS; the oldest makes room for a new one.
 * Single writer. */
void llm_status_note_error(struct llm_status_error *ring, uint64_t now_ns, const char *text);

#endif
