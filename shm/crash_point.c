#include "shm/crash_point.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int chosen_point = -1;
static _Atomic long passes_left;

const char *llm_crash_point_name(enum llm_crash_point point)
{
    static const char *const names[LLM_CRASH_POINT_COUNT] = {
#define LLM_CRASH_POINT_NAME(name, who) [LLM_CRASH_##name] = #name,
        LLM_CRASH_POINT_LIST(LLM_CRASH_POINT_NAME)
#undef LLM_CRASH_POINT_NAME
    };
    return (unsigned)point < LLM_CRASH_POINT_COUNT ? names[point] : "unknown";
}

enum llm_crash_who llm_crash_point_who(enum llm_crash_point point)
{
    static const enum llm_crash_who whose[LLM_CRASH_POINT_COUNT] = {
#define LLM_CRASH_POINT_WHO(name, who) [LLM_CRASH_##name] = LLM_CRASH_OF_##who,
        LLM_CRASH_POINT_LIST(LLM_CRASH_POINT_WHO)
#undef LLM_CRASH_POINT_WHO
    };
    return whose[point];
}

static int find_point(const char *name, size_t name_bytes)
{
    for (int point = 0; point < LLM_CRASH_POINT_COUNT; point++) {
        const char *known = llm_crash_point_name((enum llm_crash_point)point);
        if (strlen(known) == name_bytes && memcmp(known, name, name_bytes) == 0)
            return point;
    }
    return -1;
}

static void choose(const char *text)
{
    const char *colon = strchr(text, ':');
    char *end = NULL;
    long pass = colon ? strtol(colon + 1, &end, 10) : 0;
    int point = colon ? find_point(text, (size_t)(colon - text)) : -1;
    if (point < 0 || pass < 1 || *end != '\0') {
        fprintf(stderr,
                "LLMD_CRASH=%s: expected <name>:<pass>, pass 1 or more, with a name of "
                "shm/crash_point.h\n",
                text);
        abort();
    }
    atomic_store(&passes_left, pass);
    chosen_point = point;
}

static void choose_from_environment(void)
{
    const char *text = getenv("LLMD_CRASH");
    if (text)
        choose(text);
}

static void choose_nothing(void)
{
}

void llm_crash_point_choose(const char *text)
{
    pthread_once(&once, choose_nothing);
    choose(text);
}

void llm_crash_point(enum llm_crash_point point)
{
    pthread_once(&once, choose_from_environment);
    if (chosen_point == (int)point && atomic_fetch_sub(&passes_left, 1) == 1)
        raise(SIGKILL);
}
