/*
 * llm.h - talk to llmd: submit token ids, read the answer's tokens. Needs libc only.
 *
 * Idea     A connection is two memories shared with the daemon. Submitting writes a record into the one,
 *          reading looks at an array and a counter in the other: no system call per token, no copy, no
 *          HTTP. A stream is one answer; it survives crashes and restarts of the daemon's engine.
 *          Text (tokenising, chat) is <llm/text.h>.
 * Owner    What llm_connect() and llm_submit() give is the caller's until llm_disconnect() and
 *          llm_stream_close(); both accept NULL. Close a connection's streams before it.
 * Threads  A connection may be used from any number of threads at once. A stream belongs to one thread at
 *          a time.
 * fork()   In a child every call on an inherited handle returns LLM_ERR_FORKED and touches nothing;
 *          connect again there. Closing an inherited handle is allowed and frees the child's copy.
 * Errors   Every call returns a status and fills `error` (NULL is accepted) with one sentence that names
 *          the thing and the value. Out-parameters are untouched on failure.
 * See      README.md for programs, docs/PROTOCOL.md for the bytes.
 */
#ifndef LLM_LLM_H
#define LLM_LLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LLM_FOREVER UINT64_MAX /* as a timeout: wait without end */

typedef struct llm_connection llm_connection;
typedef struct llm_stream llm_stream;

/* ---- Connecting ----------------------------------------------------------------------------------- */

enum llm_wait {
    LLM_WAIT_FUTEX =
        0, /* sleep in the kernel; wakes in tens of microseconds, costs nothing meanwhile */
    LLM_WAIT_SPIN = 1, /* look again and again; wakes in well under a microsecond, costs a core */
};

/* All zero is a good start: the usual socket, a private daemon when none runs. */
typedef struct llm_connect_options {
    /* NULL: $LLMD_SOCKET; else $XDG_RUNTIME_DIR/llmd/llmd.sock or /run/llmd/llmd.sock, whichever answers */
    const char *socket;
    const char *name;   /* shown by `llmctl clients`; NULL: the program's name */
    bool no_autostart;  /* true: fail with LLM_ERR_NOT_FOUND instead of starting a private daemon */
    enum llm_wait wait; /* how this connection's threads wait */
    uint64_t timeout_ns; /* for the daemon to come up and answer; 0: 30 s */
} llm_connect_options;

/*
 * Connect to the daemon of this machine.
 *
 *   options          NULL: all defaults
 *   returns          LLM_OK
 *                    LLM_ERR_NOT_FOUND   no daemon, and none could be started: start one, or name its socket
 *                    LLM_ERR_PERMISSION  the socket is not for this user: ask for membership of its group
 *                    LLM_ERR_VERSION     daemon and library are of different major versions
 *                    LLM_ERR_BUSY        the daemon's connection slots are taken; try again later
 *                    LLM_ERR_INVALID     the socket's path is empty or longer than 107 bytes
 *                    LLM_ERR_PEER        who listens there is not a daemon of this protocol
 *                    LLM_ERR_TIMEOUT, LLM_ERR_MEMORY, LLM_ERR_SYSTEM
 */
LLM_API LLM_MUST_CHECK enum llm_status
llm_connect(llm_connection **out_connection, const llm_connect_options *options, llm_error *error);
LLM_API void llm_disconnect(llm_connection *connection);

/* A descriptor for an event loop: readable after any stream of this connection moved, and for good once the
 * daemon is gone. After the first call, and whenever it was readable and llm_connection_acknowledge() was
 * called, look at the streams (llm_stream_read() with a time-out of 0) until they have no more; never read it
 * yourself. -1: an inherited handle (fork). */
LLM_API int llm_connection_fd(llm_connection *connection);
LLM_API void llm_connection_acknowledge(llm_connection *connection);

/* What the daemon said at connect, for programs that look closer (llmctl does). */
typedef struct llm_connection_info {
    uint64_t connection_id;
    uint64_t engine_generation; /* moves on when the engine was replaced */
    bool engine_ready;
    uint32_t keeper_pid;
    uint32_t stream_slots; /* requests that can be in flight at once on this connection */
    uint32_t log_words;    /* 32-bit words for all answers in flight */
    uint32_t prompt_bytes; /* bytes for all prompts being submitted */
    char status_name[64];  /* of the status file, for shm_open() */
    char socket[108];
} llm_connection_info;
LLM_API LLM_MUST_CHECK enum llm_status llm_connection_describe(llm_connection *connection,
                                                               llm_connection_info *out_info,
                                                               llm_error *error);

/*
 * Map one of the daemon's public memories, read-only ("vocab" is the default model's vocabulary).
 *
 *   out_address, out_bytes   the mapping; llm_memory_unmap() ends it. It outlives the connection.
 *   returns          LLM_OK, LLM_ERR_NOT_FOUND, LLM_ERR_PEER, LLM_ERR_MEMORY, LLM_ERR_FORKED
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_memory_map(llm_connection *connection, const char *name,
                                                      const void **out_address, size_t *out_bytes,
                                                      llm_error *error);
LLM_API void llm_memory_unmap(const void *address, size_t bytes);

/* ---- Asking ---------------------------------------------------------------------------------------- */

/* How to choose the next token. Zero means "off" or "default" for every field but max_tokens. */
typedef struct llm_sampling {
    uint32_t max_tokens; /* 1..; the answer's longest length */
    float temperature;   /* 0: always the likeliest token; at most 100 */
    uint32_t top_k;      /* keep the k likeliest; 0: off */
    float top_p;         /* keep the smallest set with this mass, (0, 1]; 0: off */
    float min_p;   /* drop what is less likely than this times the likeliest, [0, 1]; 0: off */
    uint64_t seed; /* with has_seed; else the daemon draws one and tells it (llm_stream_info) */
    bool has_seed;
    bool logprobs;            /* also return each token's log-probability */
    bool ignore_eos;          /* go on past the model's end of text, to max_tokens */
    const uint32_t *stop_ids; /* [stop_id_count] end the answer; the id is its last token */
    uint32_t stop_id_count;   /* at most 16 */
    const char *const
        *stop_strings;          /* [stop_string_count] end the answer when its text contains one */
    uint32_t stop_string_count; /* at most 8, each of 1..64 bytes */
    const char *model;          /* NULL: the daemon's default model */
    uint64_t timeout_ns;        /* give up after this long; 0: never */
} llm_sampling;

/*
 * Submit a prompt; the answer arrives in the stream.
 *
 *   prompt           [prompt_tokens] ids in the model's vocabulary; copied before the call returns
 *   prompt_tokens    1..; with max_tokens it must fit the model's context
 *   sampling         NULL: greedy, 256 tokens
 *   returns          LLM_OK              the daemon will answer; what it finds wrong comes with the stream
 *                    LLM_ERR_INVALID     a field is out of range; the sentence names it
 *                    LLM_ERR_BUSY        every stream slot, the queue or the log is in use: close a stream or wait
 *                    LLM_ERR_LIMIT       can never fit this connection's memories
 *                    LLM_ERR_PEER        the daemon is gone
 *                    LLM_ERR_FORKED
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_submit(llm_connection *connection,
                                                  const uint32_t *prompt, uint32_t prompt_tokens,
                                                  const llm_sampling *sampling,
                                                  llm_stream **out_stream, llm_error *error);

/* ---- Reading --------------------------------------------------------------------------------------- */

/*
 * Copy out the tokens that have arrived, waiting for the first if there are none.
 *
 *   out_tokens       [capacity_tokens] ids
 *   out_logprobs     [capacity_tokens] natural logarithms, or NULL; NaN without llm_sampling.logprobs
 *   capacity_tokens  1..
 *   timeout_ns       longest wait for the first token; 0 only looks; LLM_FOREVER
 *   out_count        tokens written; 0 with LLM_OK means the answer is complete
 *   returns          LLM_OK
 *                    LLM_ERR_TIMEOUT     nothing yet; the stream is still good
 *                    LLM_ERR_PEER        the daemon is gone; only llm_stream_close() remains
 *                    any other           how the request failed, after the tokens it produced were read
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_stream_read(llm_stream *stream, uint32_t *out_tokens,
                                                       float *out_logprobs,
                                                       uint32_t capacity_tokens,
                                                       uint64_t timeout_ns, uint32_t *out_count,
                                                       llm_error *error);

/* Wait until any of the streams (all of one connection; NULL entries are skipped) has something to read or
 * is complete; `out_which` is the first such one, in order. LLM_ERR_TIMEOUT, LLM_ERR_PEER. */
LLM_API LLM_MUST_CHECK enum llm_status llm_streams_wait_any(llm_stream *const *streams,
                                                            uint32_t stream_count,
                                                            uint64_t timeout_ns,
                                                            uint32_t *out_which, llm_error *error);

/* Ask the daemon to stop; honoured within one step. The tokens so far stay readable, then llm_stream_read()
 * returns LLM_ERR_CANCELLED. May be called from another thread than the stream's and from a signal handler. */
LLM_API void llm_stream_cancel(llm_stream *stream);

enum llm_finish_reason { /* the same numbers as enum llm_finish on the wire */
    LLM_FINISHED_NOT = 0,
    LLM_FINISHED_STOP_ID = 1,
    LLM_FINISHED_STOP_STRING = 2,
    LLM_FINISHED_LENGTH = 3,
    LLM_FINISHED_CONTEXT = 4,
    LLM_FINISHED_CANCELLED = 5,
    LLM_FINISHED_FAILED = 6,
    LLM_FINISHED_ANSWERED = 7
};

typedef struct llm_stream_info {
    bool done;
    enum llm_finish_reason finish;
    enum llm_status status;
    uint64_t request_id; /* as in `llmctl requests` */
    uint64_t seed;       /* the one used */
    uint32_t prompt_tokens;
    uint32_t cached_tokens;  /* prompt tokens that did not have to be computed */
    uint32_t output_tokens;  /* so far */
    uint64_t queued_ns;      /* submit to admission */
    uint64_t first_token_ns; /* submit to first token; 0 before */
    uint64_t last_token_ns;  /* submit to last token; 0 before */
    char message[192];       /* the sentence that goes with `status` */
} llm_stream_info;
LLM_API LLM_MUST_CHECK enum llm_status
llm_stream_describe(llm_stream *stream, llm_stream_info *out_info, llm_error *error);

/* End it; cancels what is still running. Its slot and log are free again once the daemon has stopped. */
LLM_API void llm_stream_close(llm_stream *stream);

/* ---- Steering (what llmctl uses) -------------------------------------------------------------------- */

/* A round trip through the engine that does nothing. */
LLM_API LLM_MUST_CHECK enum llm_status llm_ping(llm_connection *connection, uint64_t timeout_ns,
                                                llm_error *error);
/* Cancel a request by its id: one's own, or anyone's for administrators. */
LLM_API LLM_MUST_CHECK enum llm_status llm_request_cancel(llm_connection *connection,
                                                          uint64_t request_id, uint64_t timeout_ns,
                                                          llm_error *error);
/* Have the engine walk all its structures; `out_report` [report_bytes] gets its sentence. Administrators. */
LLM_API LLM_MUST_CHECK enum llm_status llm_daemon_check(llm_connection *connection,
                                                        uint64_t timeout_ns, char *out_report,
                                                        size_t report_bytes, llm_error *error);
/* End the daemon, or replace its engine while streams go on. Administrators. */
LLM_API LLM_MUST_CHECK enum llm_status llm_daemon_stop(llm_connection *connection,
                                                       llm_error *error);
LLM_API LLM_MUST_CHECK enum llm_status llm_daemon_restart_engine(llm_connection *connection,
                                                                 llm_error *error);
/*
 * Let the daemon end what runs and refuse what is new. Administrators.
 *
 *   then_stop  end the daemon when nothing is left; else it stays, until llm_daemon_resume()
 *   returns    LLM_OK at once: requests may still run (`llmctl status` counts them). While it drains, a new
 *              request ends with LLM_ERR_BUSY, and so does llm_connect() for who is not an administrator
 */
LLM_API LLM_MUST_CHECK enum llm_status llm_daemon_drain(llm_connection *connection, bool then_stop,
                                                        llm_error *error);
LLM_API LLM_MUST_CHECK enum llm_status llm_daemon_resume(llm_connection *connection,
                                                         llm_error *error);

#ifdef __cplusplus
}
#endif

#endif
