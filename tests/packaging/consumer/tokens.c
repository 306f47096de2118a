/* A program of libllm alone: it submits three ids and prints the ids of the answer. */
#include <llm/llm.h>
#include <stdio.h>

int main(void)
{
    llm_connection *llm;
    llm_error error;
    if (llm_connect(&llm, NULL, &error) != LLM_OK)
        return fprintf(stderr, "%s\n", error.message), 1;
    const uint32_t prompt[] = {1, 2, 3};
    llm_stream *stream;
    enum llm_status status =
        llm_submit(llm, prompt, 3, &(llm_sampling){.max_tokens = 8}, &stream, &error);
    uint32_t tokens[8], count = 1;
    while (status == LLM_OK && count > 0) {
        status = llm_stream_read(stream, tokens, NULL, 8, LLM_FOREVER, &count, &error);
        for (uint32_t i = 0; status == LLM_OK && i < count; i++)
            printf("%u ", (unsigned)tokens[i]);
    }
    if (status != LLM_OK)
        return fprintf(stderr, "%s\n", error.message), 1;
    llm_stream_close(stream);
    llm_disconnect(llm);
    return 0;
}
