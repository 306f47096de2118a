/*
 * feature.h - kernel facilities that are used where they exist, and how to do without them.
 *
 * Idea     Each facility newer than Linux 6.1, or forbidden in some containers, is probed where it is used and
 *          has a fallback. LLMD_DISABLE=name,name takes it away, so that tests run both ways.
 * Names    noexec_seal (memfd MFD_NOEXEC_SEAL)           else memfds without the seal against execution
 *          wipeonfork (MADV_WIPEONFORK)                  else the process id tells a fork
 *          peer_pidfd (SO_PEERPIDFD)                     else pidfd_open() of the peer's pid
 *          io_uring                                      else the engine parks in epoll
 *          io_uring_defer (IORING_SETUP_DEFER_TASKRUN)   else a ring with plain flags
 */
#ifndef LLM_SHM_FEATURE_H
#define LLM_SHM_FEATURE_H

#include <stdbool.h>

/* Whether LLMD_DISABLE in the environment lists `name`. */
bool llm_feature_disabled(const char *name);

#endif
