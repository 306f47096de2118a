#include "daemon/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shm/check.h"
#include "shm/clock.h"

#define LINE_BYTES 8192 /* more than LOG_FIELDS_MAX values and what stands around them */
#define TIME_BYTES 48
#define MINUTE_NS  (60 * LLM_NS_PER_S)

static const struct {
    const char *name;
    int priority; /* syslog(3) */
} levels[LOG_LEVEL_COUNT] = {
    [LOG_LEVEL_ERROR] = {"error", 3},
    [LOG_LEVEL_WARN] = {"warn", 4},
    [LOG_LEVEL_INFO] = {"info", 6},
    [LOG_LEVEL_DEBUG] = {"debug", 7},
};

static const char *const format_names[LOG_FORMAT_COUNT] = {
    [LOG_FORMAT_LOGFMT] = "logfmt", [LOG_FORMAT_JSON] = "json", [LOG_FORMAT_TEXT] = "text"};

/* Set before there are threads. */
static struct {
    enum log_level most;
    enum log_format format;
    uint64_t interval_ns; /* between two lines of a place; 0: no limit */
    const char *process;
    bool journal;
} settings = {.most = LOG_LEVEL_INFO, .process = "llmd"};
static _Atomic uint64_t generation_now;

bool log_level_parse(const char *name, enum log_level *out_level)
{
    for (unsigned level = 0; level < LOG_LEVEL_COUNT; level++)
        if (strcmp(name, levels[level].name) == 0) {
            *out_level = (enum log_level)level;
            return true;
        }
    return false;
}

bool log_format_parse(const char *name, enum log_format *out_format)
{
    for (unsigned format = 0; format < LOG_FORMAT_COUNT; format++)
        if (strcmp(name, format_names[format]) == 0) {
            *out_format = (enum log_format)format;
            return true;
        }
    return false;
}

/* $JOURNAL_STREAM is "device:inode" of the stream that the service manager made. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat ours;
    char text[48];
    if (!stream || fstat(STDERR_FILENO, &ours) != 0)
        return false;
    snprintf(text, sizeof text, "%ju:%ju", (uintmax_t)ours.st_dev, (uintmax_t)ours.st_ino);
    return strcmp(stream, text) == 0;
}

void log_open(enum log_level most, enum log_format format, uint64_t lines_per_minute,
              const char *process)
{
    settings.most = most;
    settings.format = format;
    settings.interval_ns = lines_per_minute > 0 ? MINUTE_NS / lines_per_minute : 0;
    settings.process = process;
    settings.journal = stderr_is_journal();
}

void log_set_generation(uint64_t generation)
{
    atomic_store_explicit(&generation_now, generation, memory_order_relaxed);
}

/* ---- The limit ------------------------------------------------------------------------------------- */

/* The generic cell rate algorithm (ITU-T I.371, annex A): a line is one interval's worth, and a place may be ahead
 * of the clock by a minute. */
static bool may_write(struct log_site *site)
{
    if (settings.interval_ns == 0)
        return true;
    uint64_t now_ns = llm_now_ns();
    uint64_t due_ns = atomic_load_explicit(&site->due_ns, memory_order_relaxed), next_ns;
    do {
        next_ns = (due_ns > now_ns ? due_ns : now_ns) + settings.interval_ns;
        if (next_ns - now_ns > MINUTE_NS) {
            atomic_fetch_add_explicit(&site->suppressed, 1, memory_order_relaxed);
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&site->due_ns, &due_ns, next_ns,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

/* ---- A line ---------------------------------------------------------------------------------------- */

struct line {
    size_t used;
    char text[LINE_BYTES];
};

static void append(struct line *line, const char *text, size_t bytes)
{
    CHECK(bytes < sizeof line->text - line->used);
    memcpy(line->text + line->used, text, bytes);
    line->used += bytes;
}

static void append_text(struct line *line, const char *text)
{
    append(line, text, strlen(text));
}

static void LLM_PRINTF(2, 3) append_format(struct line *line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int bytes = vsnprintf(line->text + line->used, sizeof line->text - line->used, format, args);
    va_end(args);
    CHECK(bytes >= 0 && (size_t)bytes < sizeof line->text - line->used);
    line->used += (size_t)bytes;
}

/* Bytes of the character at `text` when it is whole and harmless, else 0. Lengths and ranges: RFC 3629; C0, DEL
 * and C1 (U+0080..U+009F) steer terminals, U+2028 and U+2029 end lines in some readers. */
static size_t plain_character(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f && s[0] != '"' && s[0] != '\\';
    size_t bytes = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high || (s[0] == 0xc2 && s[1] < 0xa0))
        return 0;
    for (size_t i = 2; i < bytes; i++)
        if ((s[i] & 0xc0) != 0x80) /* a final zero is none either */
            return 0;
    return s[0] == 0xe2 && s[1] == 0x80 && (s[2] == 0xa8 || s[2] == 0xa9) ? 0 : bytes;
}

static void append_escape(struct line *line, char c)
{
    static const char from[] = "\"\\\n\t\r", to[] = "\"\\ntr";
    const char *at = c ? strchr(from, c) : NULL;
    if (at)
        append_format(line, "\\%c", to[at - from]);
    else if (settings.format == LOG_FORMAT_JSON)
        append_format(line, "\\u%04x", (unsigned char)c < 0x80 ? (unsigned char)c : 0xfffd);
    else
        append_format(line, "\\x%02x", (unsigned char)c);
}

static void append_escaped(struct line *line, const char *text)
{
    size_t end = line->used + LOG_VALUE_BYTES;
    while (*text && line->used < end) {
        size_t bytes = plain_character(text);
        if (bytes > 0)
            append(line, text, bytes);
        else
            append_escape(line, *text);
        text += bytes > 0 ? bytes : 1;
    }
    append_text(line, *text ? "..." : "");
}

static void append_quoted(struct line *line, const char *text)
{
    append_text(line, "\"");
    append_escaped(line, text);
    append_text(line, "\"");
}

/* A word of letters, digits and a few signs needs no quotes; "" does. */
static bool is_bare(const char *text)
{
    static const char signs[] = "_-./:+@,";
    size_t bytes = strlen(text);
    if (bytes == 0 || bytes > 128)
        return false;
    for (; *text; text++) {
        bool word = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
                    (*text >= '0' && *text <= '9');
        if (!word && !strchr(signs, *text))
            return false;
    }
    return true;
}

static void append_key(struct line *line, const char *key)
{
    bool json = settings.format == LOG_FORMAT_JSON;
    bool first = line->used == 0 || line->text[line->used - 1] == '{' ||
                 (line->text[line->used - 1] == '>' && line->used == 3);
    if (!first)
        append_text(line, json ? ", " : " ");
    append_format(line, json ? "\"%s\": " : "%s=", key);
}

static void append_pair(struct line *line, const char *key, const char *text)
{
    append_key(line, key);
    if (settings.format != LOG_FORMAT_JSON && is_bare(text))
        append_text(line, text);
    else
        append_quoted(line, text);
}

static void append_count(struct line *line, const char *key, uint64_t count)
{
    append_key(line, key);
    append_format(line, "%" PRIu64, count);
}

/* RFC 3339 in UTC; "" for the journal, which stamps that itself. */
static void wall_clock(char out_text[TIME_BYTES])
{
    struct timespec now;
    struct tm utc;
    char day[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out_text, TIME_BYTES, "%s.%06uZ", day, (unsigned)(now.tv_nsec / 1000) % 1000000);
}

static void append_time(struct line *line)
{
    char text[TIME_BYTES];
    if (settings.journal) {
        uint64_t now_ns = llm_now_ns();
        snprintf(text, sizeof text, "%" PRIu64 ".%06" PRIu64, now_ns / LLM_NS_PER_S,
                 now_ns % LLM_NS_PER_S / LLM_NS_PER_US);
        append_pair(line, "mono", text);
    } else {
        wall_clock(text);
        append_pair(line, "time", text);
    }
}

static void append_head(struct line *line, enum log_level level)
{
    uint64_t generation = atomic_load_explicit(&generation_now, memory_order_relaxed);
    if (settings.journal)
        append_format(line, "<%d>", levels[level].priority);
    if (settings.format == LOG_FORMAT_TEXT) {
        char text[TIME_BYTES];
        wall_clock(text);
        append_format(line, "%s%s%s %s:", settings.journal ? "" : text, settings.journal ? "" : " ",
                      levels[level].name, settings.process);
        return;
    }
    if (settings.format == LOG_FORMAT_JSON)
        append_text(line, "{");
    append_time(line);
    append_pair(line, "level", levels[level].name);
    append_pair(line, "process", settings.process);
    append_count(line, "pid", (uint64_t)getpid());
    if (generation > 0)
        append_count(line, "generation", generation);
}

/* In text the message is meant for people: no quotes around it, but nothing harmful in it either. */
static void append_message(struct line *line, const char *message)
{
    if (settings.format != LOG_FORMAT_TEXT) {
        append_pair(line, "msg", message);
        return;
    }
    append_text(line, " ");
    append_escaped(line, message);
}

void log_write(struct log_site *site, enum log_level level, const char *message,
               const struct log_field *fields, unsigned field_count)
{
    struct line line;
    line.used = 0;
    if (level > settings.most || !may_write(site))
        return;
    CHECK(field_count <= LOG_FIELDS_MAX);
    uint64_t suppressed = atomic_exchange_explicit(&site->suppressed, 0, memory_order_relaxed);
    append_head(&line, level);
    append_message(&line, message);
    for (unsigned i = 0; i < field_count; i++)
        if (fields[i].text)
            append_pair(&line, fields[i].key, fields[i].text);
        else
            append_count(&line, fields[i].key, fields[i].count);
    if (suppressed > 0)
        append_count(&line, "suppressed", suppressed);
    append_text(&line, settings.format == LOG_FORMAT_JSON ? "}\n" : "\n");
    ssize_t written = write(STDERR_FILENO, line.text, line.used);
    (void)written; /* nowhere to say that there is nowhere to say it */
}

void log_print(struct log_site *site, enum log_level level, const char *format, ...)
{
    char message[1024];
    if (level > settings.most)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    log_write(site, level, message, NULL, 0);
}
