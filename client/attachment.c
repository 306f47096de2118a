#include "client/attachment.h"

#include "client/connection.h"
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

void llm_attachment_drop(struct llm_attachment *attachment)
{
    if (attachment)
        attachment->close(attachment);
}
