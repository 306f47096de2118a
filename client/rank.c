/* Which of several complete answers the model finds likeliest. */
#include "client/context.h"

#include <math.h>
#include <stdlib.h>

static enum llm_status rank_one(const struct llm_stream *stream, uint32_t index,
                                llm_ranked *out_ranked, struct llm_error *error)
{
    struct llm_stream_look look;
    char note[LLM_NOTE_BYTES];
    enum llm_status status = llm_connection_own(stream->connection, error);
    if (status != LLM_OK)
        return status;
    if (!stream->reader.logprobs)
        return llm_fail(error, LLM_ERR_INVALID, "stream %u has no log-probabilities", index);
    if (llm_stream_reader_look(&stream->reader, &look) != LLM_OK)
        return llm_fail(
            error, LLM_ERR_PEER,
            "the daemon broke the protocol: the record of stream slot %u makes no sense",
            stream->slot);
    if (!look.done)
        return llm_fail(error, LLM_ERR_BUSY, "stream %u is not complete: read it to its end",
                        index);
    double sum = 0;
    for (uint32_t i = 0; i < look.count; i++)
        sum += (double)llm_stream_reader_logprob(&stream->reader, i);
    bool good =
        look.count > 0 && !isnan(sum) && llm_stream_reader_status(&stream->reader, note) == LLM_OK;
    *out_ranked = (llm_ranked){.stream = index,
                               .token_count = look.count,
                               .sum = good ? sum : -HUGE_VAL,
                               .mean = good ? sum / (double)look.count : -HUGE_VAL};
    return LLM_OK;
}

static int by_value(double a, double b, uint32_t index_a, uint32_t index_b)
{
    if (a > b || a < b)
        return a > b ? -1 : 1;
    return index_a < index_b ? -1 : 1;
}

static int by_mean(const void *a, const void *b)
{
    const llm_ranked *x = a, *y = b;
    return by_value(x->mean, y->mean, x->stream, y->stream);
}

static int by_sum(const void *a, const void *b)
{
    const llm_ranked *x = a, *y = b;
    return by_value(x->sum, y->sum, x->stream, y->stream);
}

enum llm_status llm_streams_rank(llm_stream *const *streams, uint32_t stream_count,
                                 enum llm_rank_by by, llm_ranked *out_ranked, llm_error *error)
{
    if (stream_count == 0)
        return llm_fail(error, LLM_ERR_INVALID, "no streams to rank: at least 1");
    if (by != LLM_RANK_BY_MEAN && by != LLM_RANK_BY_SUM)
        return llm_fail(error, LLM_ERR_INVALID, "ranking by %u: 0 (mean) or 1 (sum)", (unsigned)by);
    llm_ranked *ranked = calloc(stream_count, sizeof *ranked); /* out_ranked survives a failure */
    if (!ranked)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory to rank %u streams", stream_count);
    enum llm_status status = LLM_OK;
    for (uint32_t i = 0; i < stream_count && status == LLM_OK; i++)
        status = rank_one(streams[i], i, &ranked[i], error);
    if (status == LLM_OK)
        qsort(ranked, stream_count, sizeof *ranked, by == LLM_RANK_BY_SUM ? by_sum : by_mean);
    for (uint32_t i = 0; i < stream_count && status == LLM_OK; i++)
        out_ranked[i] = ranked[i];
    free(ranked);
    return status;
}
