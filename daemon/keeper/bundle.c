#include "daemon/keeper/bundle.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/segment.h"

/* Why an eventfd one way and a socket the other: shm/wait.h, "Trust". */
static enum llm_status make_doorbells(struct bundle *bundle, struct llm_error *error)
{
    int ends[2];
    bundle->to_engine = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bundle->to_engine < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot make a connection's doorbells");
    bundle->to_client = ends[0];
    bundle->from_engine = ends[1];
    return LLM_OK;
}

enum llm_status bundle_make(struct bundle *bundle, const struct llm_geometry *geometry,
                            struct llm_error *error)
{
    *bundle = BUNDLE_EMPTY;
    size_t up_bytes = llm_up_map(geometry).total_bytes;
    size_t down_bytes = llm_down_map(geometry).total_bytes;
    enum llm_status status = llm_segment_create("llmd-up", up_bytes, &bundle->up, error);
    if (status == LLM_OK)
        status = llm_segment_reopen_readonly(bundle->up, &bundle->up_readonly, error);
    if (status == LLM_OK)
        status = llm_segment_create("llmd-down", down_bytes, &bundle->down, error);
    if (status == LLM_OK)
        status = llm_segment_reopen_readonly(bundle->down, &bundle->down_readonly, error);
    if (status == LLM_OK)
        status = make_doorbells(bundle, error);
    if (status != LLM_OK)
        bundle_close(bundle);
    return status;
}

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void bundle_close_client_views(struct bundle *bundle)
{
    close_one(&bundle->up);
    close_one(&bundle->down_readonly);
    close_one(&bundle->from_engine);
}

void bundle_close(struct bundle *bundle)
{
    bundle_close_client_views(bundle);
    close_one(&bundle->up_readonly);
    close_one(&bundle->down);
    close_one(&bundle->to_engine);
    close_one(&bundle->to_client);
}
