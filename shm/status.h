/*
 * status.h - the one list of outcomes, and the sentence that goes with a bad one.
 *
 * Idea     Every call that can fail returns enum llm_status; LLM_OK is zero everywhere. The callee fills
 *          struct llm_error with one sentence that names the thing and the value, and stays silent; the one
 *          caller that decides what happens next prints or logs it.
 * Wire     The numbers are part of the protocol (stream records carry them): they are only ever added to.
 * See      docs/PROTOCOL.md ("Status codes").
 */
#ifndef LLM_SHM_STATUS_H
#define LLM_SHM_STATUS_H

#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LLM_API              __attribute__((visibility("default"))) /* exported by the libraries */
#define LLM_MUST_CHECK       __attribute__((warn_unused_result))
#define LLM_PRINTF(fmt, arg) __attribute__((format(printf, fmt, arg)))
#else
#define LLM_API
#define LLM_MUST_CHECK
#define LLM_PRINTF(fmt, arg)
#endif

enum llm_status {
    LLM_OK = 0,
    LLM_ERR_INVALID = 1,    /* an argument, file or record is wrong; the sentence names it */
    LLM_ERR_NOT_FOUND = 2,  /* no such name, model, file, request */
    LLM_ERR_PERMISSION = 3, /* this user may not */
    LLM_ERR_BUSY = 4,       /* a bounded queue is full; try again after the hint */
    LLM_ERR_LIMIT = 5, /* larger than a limit that waiting does not change; the sentence names it */
    LLM_ERR_TIMEOUT = 6,      /* nothing yet; the object is still good */
    LLM_ERR_CANCELLED = 7,    /* the request was cancelled by its owner or an administrator */
    LLM_ERR_PEER = 8,         /* the other side is gone or broke the protocol */
    LLM_ERR_FORKED = 9,       /* a handle inherited across fork(); connect again in the child */
    LLM_ERR_SYSTEM = 10,      /* the operating system refused; the sentence carries its reason */
    LLM_ERR_MEMORY = 11,      /* out of memory, file descriptors or shared-memory space */
    LLM_ERR_UNSUPPORTED = 12, /* well-formed, but this build or model cannot do it */
    LLM_ERR_VERSION = 13,     /* the two sides speak different protocol versions */
    LLM_ERR_CORRUPT = 14,     /* a check value or a file's structure does not hold */
    LLM_ERR_POISON =
        15, /* the request was in flight at two engine deaths in a row and is not retried */
    LLM_ERR_EXISTS = 16, /* the name is taken */
    LLM_STATUS_COUNT
};

#define LLM_ERROR_MESSAGE_BYTES 256

typedef struct llm_error {
    enum llm_status status;
    char message[LLM_ERROR_MESSAGE_BYTES]; /* one sentence, no newline, always terminated */
} llm_error;

/* "invalid", "not found", ...: the code's name in words; never NULL, also for unknown codes. */
LLM_API const char *llm_status_name(enum llm_status status);

/* ---- Inside: the public header <llm/status.h> ends above this line (client/CMakeLists.txt) --------- */

/* Fill `error` (NULL is accepted) with status and sentence; returns status, so that a failing call is one
 * line: return llm_fail(error, LLM_ERR_INVALID, "tensor \"%s\" is %u x %u", ...); */
enum llm_status llm_fail(struct llm_error *error, enum llm_status status, const char *format, ...)
    LLM_PRINTF(3, 4);
/* The same with ": <strerror(error_number)>" appended. */
enum llm_status llm_fail_errno(struct llm_error *error, enum llm_status status, int error_number,
                               const char *format, ...) LLM_PRINTF(4, 5);

#ifdef __cplusplus
}
#endif

#endif
