#include "client/attachment.h"

#include "client/context.h"
#include "shm/check.h"

bool llm_connection_attach(llm_connection *connection, struct llm_attachment *attachment)
{
    struct llm_attachment *none = NULL;
    /* Release, so that who finds it in llm_connection_attachment() finds it filled in. */
    return atomic_compare_exchange_strong_explicit(&connection->attachment, &none, attachment,
                                                   memory_order_release, memory_order_relaxed);
}

struct llm_attachment *llm_connection_attachment(llm_connection *connection)
{
    return atomic_load_explicit(&connection->attachment, memory_order_acquire);
}

void llm_stream_attach(llm_stream *stream, struct llm_attachment *attachment)
{
    CHECK(stream->attachment == NULL);
    stream->attachment = attachment;
}

struct llm_attachment *llm_stream_attachment(llm_stream *stream)
{
    return stream->attachment;
}

const struct llm_stream_asked *llm_stream_asked(const llm_stream *stream)
{
    return &stream->asked;
}

llm_connection *llm_stream_connection(const llm_stream *stream)
{
    return stream->connection;
}

llm_connection *llm_context_connection(const llm_context *context)
{
    return context->connection;
}

const char *llm_context_model(const llm_context *context)
{
    return context->model;
}

void llm_attachment_drop(struct llm_attachment *attachment)
{
    if (attachment)
        attachment->close(attachment);
}
