#include "tools/llmctl/status_check.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void found(struct findings *findings, const char *format, ...) LLM_PRINTF(2, 3);
static void found(struct findings *findings, const char *format, ...)
{
    if (findings->count == FINDINGS_MAX)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(findings->sentence[findings->count++], LLM_NOTE_BYTES, format, args);
    va_end(args);
}

/* Every block is held, cached or free, and in exactly one of the three. */
static void check_pool(const struct status_view *v, struct findings *findings)
{
    uint64_t sum = (uint64_t)v->blocks_held + v->blocks_cached + v->blocks_free;
    if (sum != v->blocks_total)
        found(findings,
              "pool: %u held + %u cached + %u free make %" PRIu64 " blocks, but there are %u",
              v->blocks_held, v->blocks_cached, v->blocks_free, sum, v->blocks_total);
    if (v->request_count == 0 && v->requests_running == 0 && v->requests_queued == 0 &&
        v->blocks_held > 0)
        found(findings, "pool: no request lives, but %u blocks are held", v->blocks_held);
}

/* As many rows as the keeper counts, each id once, no streams without a connection. */
static void check_connections(const struct status_view *v, struct findings *findings)
{
    if (v->connection_count != v->connections_open)
        found(findings, "connections: %u rows are in use, but the keeper counts %u",
              v->connection_count, v->connections_open);
    for (uint32_t i = 0; i < v->connection_count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (v->connections[i].connection_id == v->connections[j].connection_id)
                found(findings, "connections: slots %u and %u both have id %" PRIu64,
                      v->connections[j].slot, v->connections[i].slot,
                      v->connections[i].connection_id);
    if (v->stray_streams > 0)
        found(findings, "connections: %u streams live on slots that nobody has", v->stray_streams);
}

/* A request belongs to a connection, is in a known phase, and has not produced more than was asked. */
static void check_request(const struct status_view *v, const struct view_request *r,
                          struct findings *findings)
{
    const char *wrong = NULL;
    if (!status_view_connection(v, r->connection_slot))
        wrong = "belongs to no connection";
    else if (r->phase > LLM_PHASE_DECODE)
        wrong = "is in no known phase";
    else if (r->cached_tokens > r->prompt_tokens)
        wrong = "has more cached tokens than prompt";
    else if (r->produced_tokens > r->max_tokens)
        wrong = "produced more tokens than were asked for";
    else if (r->blocks > v->blocks_total)
        wrong = "holds more blocks than there are";
    if (wrong)
        found(findings, "request %" PRIu64 " (slot %u) %s", r->request_id, r->slot, wrong);
}

static void check_requests(const struct status_view *v, struct findings *findings)
{
    for (uint32_t i = 0; i < v->request_count; i++) {
        check_request(v, &v->requests[i], findings);
        for (uint32_t j = 0; j < i; j++)
            if (v->requests[i].request_id == v->requests[j].request_id)
                found(findings, "request %" PRIu64 " stands in slots %u and %u",
                      v->requests[i].request_id, v->requests[j].slot, v->requests[i].slot);
    }
    uint64_t counted = (uint64_t)v->requests_running + v->requests_queued;
    if (counted != v->request_count)
        found(findings, "requests: %u running and %u queued, but %u rows", v->requests_running,
              v->requests_queued, v->request_count);
}

/* Descriptors belong to the daemon or to a connection; without connections only the former are left. */
static void check_keeper(const struct status_view *v, struct findings *findings)
{
    uint32_t beyond = v->descriptors_held - v->descriptors_baseline;
    if (v->descriptors_held < v->descriptors_baseline)
        found(findings, "descriptors: the keeper holds %u, fewer than its own %u",
              v->descriptors_held, v->descriptors_baseline);
    else if (v->connections_open == 0 ? beyond != 0 : beyond % v->connections_open != 0)
        found(findings, "descriptors: %u beyond the keeper's own %u do not share out to %u clients",
              beyond, v->descriptors_baseline, v->connections_open);
    if (v->ready_generation > v->engine_generation)
        found(findings,
              "engine: generation %" PRIu64 " is ready, but only %" PRIu64 " were started",
              v->ready_generation, v->engine_generation);
}

void status_check(const struct status_view *view, struct findings *findings)
{
    check_pool(view, findings);
    check_connections(view, findings);
    check_requests(view, findings);
    check_keeper(view, findings);
}

void status_check_descriptors(const struct status_view *view, struct findings *findings)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%u/fd", view->keeper_pid);
    DIR *folder = opendir(path);
    if (!folder)
        return;
    uint32_t open = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        open += entry->d_name[0] != '.';
    closedir(folder);
    if (open != view->descriptors_held)
        found(findings, "descriptors: the keeper counts %u, the kernel %u", view->descriptors_held,
              open);
}

static bool says(const struct findings *findings, const char *sentence)
{
    for (uint32_t i = 0; i < findings->count; i++)
        if (strcmp(findings->sentence[i], sentence) == 0)
            return true;
    return false;
}

void findings_intersect(struct findings *first, const struct findings *second)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < first->count; i++)
        if (says(second, first->sentence[i]))
            memmove(first->sentence[kept++], first->sentence[i], LLM_NOTE_BYTES);
    first->count = kept;
}
