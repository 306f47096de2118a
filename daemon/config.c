#include "daemon/config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config_value.h"
#include "daemon/quota.h"
#include "daemon/toml.h"
#include "shm/check.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)

#define FIELD(table, name) offsetof(struct config, table.name)
#define TEXT(table, name)  FIELD(table, name), 0, sizeof((struct config *)0)->table.name

static const struct config_key keys[] = {
    {"daemon.socket", CONFIG_TEXT, TEXT(daemon, socket), "",
     "where to listen; empty: $LLMD_SOCKET, $XDG_RUNTIME_DIR/llmd/llmd.sock, /run/llmd/llmd.sock"},
    {"daemon.instance", CONFIG_TEXT, TEXT(daemon, instance), "",
     "the status file is /llmd.<uid>.<instance>; empty: a name made of the socket's path"},
    {"daemon.group", CONFIG_TEXT, TEXT(daemon, group), "",
     "the group whose members may connect (the socket's); empty: the daemon's own"},
    {"daemon.admin_group", CONFIG_TEXT, TEXT(daemon, admin_group), "",
     "the group whose members may steer the daemon, as its user and root may; empty: none"},
    {"daemon.idle_exit_s", CONFIG_COUNT, FIELD(daemon, idle_exit_s), 0, 86400 * 365, "0",
     "seconds without a client after which the daemon ends; 0: never"},
    {"daemon.drain_s", CONFIG_COUNT, FIELD(daemon, drain_s), 0, 86400, "10",
     "seconds that running requests are given to end after the first SIGTERM; 0: none"},
    {"daemon.engine_hang_s", CONFIG_COUNT, FIELD(daemon, engine_hang_s), 0, 86400, "300",
     "seconds without a sign of life (more than the longest step takes) after which the engine "
     "counts as hung; 0: never"},
    {"daemon.engine_hang_kill", CONFIG_BOOLEAN, FIELD(daemon, engine_hang_kill), 0, 1, "false",
     "kill a hung engine, so that the next one goes on where it stood; else only report it"},
    {"daemon.debugging", CONFIG_BOOLEAN, FIELD(daemon, debugging), 0, 1, "false",
     "let debuggers attach to the engine and let it leave core dumps (they hold prompts)"},
    {"limits.connections", CONFIG_COUNT, FIELD(limits, connections), 1, 4096, "1024",
     "clients attached at once"},
    {"limits.connections_per_user", CONFIG_COUNT, FIELD(limits, connections_per_user), 1, 4096,
     "256", "of those, by one user"},
    {"limits.stream_slots", CONFIG_COUNT, FIELD(limits, stream_slots), 1, 4096, "64",
     "requests in flight at once on one connection"},
    {"limits.queue_entries", CONFIG_POWER, FIELD(limits, queue_entries), 8, 4096, "256",
     "submissions that the engine has not looked at yet, on one connection"},
    {"limits.event_entries", CONFIG_POWER, FIELD(limits, event_entries), 8, 65536, "256",
     "hints about moved streams, on one connection; older ones are lost harmlessly"},
    {"limits.log_words", CONFIG_COUNT, FIELD(limits, log_words), 1024, UINT64_C(1) << 28, "524288",
     "tokens of all answers in flight on one connection; log-probabilities count as well"},
    {"limits.prompt_bytes", CONFIG_SIZE, FIELD(limits, prompt_bytes), 4 * KIB, GIB, "1MiB",
     "prompts that the engine has not looked at yet, on one connection; 4 bytes a token"},
    {"limits.requests", CONFIG_COUNT, FIELD(limits, requests), 1, 1024, "512",
     "requests of all clients that run or wait"},
    {"limits.requests_per_user", CONFIG_COUNT, FIELD(limits, requests_per_user), 1, 1024, "448",
     "of those, by one user over all connections"},
    {"limits.sequences", CONFIG_COUNT, FIELD(limits, sequences), 1, 512, "72",
     "requests of all clients that are in one step"},
    {"limits.sequences_per_user", CONFIG_COUNT, FIELD(limits, sequences_per_user), 1, 512, "64",
     "of those, by one user; what is above it is there for the others"},
    {"limits.queued_tokens_per_user", CONFIG_COUNT, FIELD(limits, queued_tokens_per_user), 1,
     UINT64_C(1) << 40, "1048576", "tokens of one user's requests that wait for their start"},
    {"limits.contexts", CONFIG_COUNT, FIELD(limits, contexts), 1, 65535, "4096",
     "contexts of all users, named and unnamed"},
    {"limits.contexts_per_user", CONFIG_COUNT, FIELD(limits, contexts_per_user), 0, 65535, "1024",
     "of those, one user's; 0: none"},
    {"limits.context_tokens_per_user", CONFIG_COUNT, FIELD(limits, context_tokens_per_user), 0,
     UINT64_C(1) << 40, "16777216", "tokens in all contexts of one user, forks counted in full"},
    {"limits.context_tokens", CONFIG_COUNT, FIELD(limits, context_tokens), 0, 1 << 24, "0",
     "longest sequence that there is room for, also for models loaded later; 0: the longest of the "
     "models "
     "at the start"},
    {"limits.step_tokens", CONFIG_COUNT, FIELD(limits, step_tokens), 1, 16384, "256",
     "tokens that one step computes; a longer prompt takes several steps"},
    {"limits.engine_deaths", CONFIG_COUNT, FIELD(limits, engine_deaths), 1, 1000, "5",
     "engine deaths within engine_deaths_window_s after which it is not started again"},
    {"limits.engine_deaths_window_s", CONFIG_COUNT, FIELD(limits, engine_deaths_window_s), 1, 86400,
     "60", "seconds that count for engine_deaths"},
    {"kv.pool_bytes", CONFIG_SIZE, FIELD(kv, pool_bytes), 0, 64 * TIB, "0",
     "memory for contexts; 0: a quarter of the machine's (or the cgroup's), at most 4GiB"},
    {"kv.pinned_percent", CONFIG_COUNT, FIELD(kv, pinned_percent), 0, 90, "50",
     "of the blocks, how many pinned contexts may hold; 0: none"},
    {"cpu.backend", CONFIG_TEXT, TEXT(cpu, backend), "auto",
     "arithmetic: \"auto\" (the fastest this build has), \"cpu\" or \"reference\""},
    {"cpu.threads", CONFIG_COUNT, FIELD(cpu, threads), 0, 1024, "0",
     "threads that compute; 0: one for each core the daemon may use"},
    {"models.default", CONFIG_TEXT, TEXT(models, preset), "tinynotes",
     "the model for requests that name none: a name, an absolute path of a "
     "directory or GGUF file, or \"echo\""},
    {"models.directories", CONFIG_DIRECTORIES, FIELD(models, directories), 0, 0, "",
     "absolute directories that hold models"},
    {"models.load", CONFIG_TEXT, TEXT(models, load), "",
     "models loaded at the start besides the default one: names or absolute paths, each "
     "perhaps as "
     "NAME=MODEL, separated by commas"},
    {"models.aliases", CONFIG_TEXT, TEXT(models, aliases), "",
     "other names for loaded models: ALIAS=MODEL, separated by commas"},
    {"models.idle_unload_s", CONFIG_COUNT, FIELD(models, idle_unload_s), 0, 86400 * 365, "0",
     "seconds without a request after which a model is unloaded that is neither the default one "
     "nor behind "
     "an alias; 0: never"},
    {"models.context_tokens", CONFIG_COUNT, FIELD(models, context_tokens), 0, 1 << 24, "0",
     "longest sequence; 0: what the model allows"},
    {"models.echo_step_us", CONFIG_COUNT, FIELD(models, echo_step_us), 0, 10 * 1000 * 1000, "0",
     "how long a step of the model \"echo\" takes at least, for measurements and tests"},
    {"models.echo_context_tokens", CONFIG_COUNT, FIELD(models, echo_context_tokens), 16, 1048576,
     "8192", "longest sequence of the model \"echo\""},
    {"log.level", CONFIG_TEXT, TEXT(log, level), "info",
     "lines to write: \"error\", \"warn\", \"info\" or \"debug\""},
    {"log.format", CONFIG_TEXT, TEXT(log, format), "logfmt",
     "how: \"logfmt\" (key=value), \"json\" (one object a line) or \"text\" (for a terminal)"},
    {"log.lines_per_minute", CONFIG_COUNT, FIELD(log, lines_per_minute), 0, 1000000, "120",
     "lines that one place in the program writes at most; what is left out is counted; 0: all"},
};
#define KEY_COUNT (sizeof keys / sizeof keys[0])
static_assert(KEY_COUNT <= CONFIG_KEYS_MAX, "one origin for each key");

/* ---- One key ---------------------------------------------------------------------------------------- */

static enum llm_status set_key(struct config *config, const struct config_key *key,
                               const char *value, const char *place, struct llm_error *error)
{
    enum llm_status status = config_value_set(config, key, value, place, error);
    struct config_origin *origin = &config->origins[key - keys];
    if (status == LLM_OK)
        snprintf(origin->text, sizeof origin->text, "%s", place);
    return status;
}

static const struct config_key *find_key(const char *name)
{
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

/* ---- The nearest key ------------------------------------------------------------------------------- */

/* Insertions, deletions and exchanges that lead from `a` to `b` (Levenshtein); both shorter than a key may be. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[TOML_KEY_BYTES];
    size_t width = strlen(b);
    for (size_t j = 0; j <= width; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= width; j++) {
            unsigned exchanged = diagonal + (a[i - 1] != b[j - 1]);
            unsigned other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = exchanged < other ? exchanged : other;
        }
    }
    return row[width];
}

/* The same word in another table, one that goes on where `name` ends, or one few letters away; NULL: none. */
static const char *nearest_key(const char *name)
{
    const char *dot = strchr(name, '.');
    size_t bytes = strlen(name);
    const char *best = NULL;
    unsigned best_distance = 2 + (unsigned)bytes / 8;
    if (bytes >= TOML_KEY_BYTES)
        return NULL;
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (dot && strcmp(strchr(keys[i].name, '.'), dot) == 0)
            return keys[i].name;
        unsigned distance = edit_distance(name, keys[i].name);
        if (distance <= best_distance && (!best || distance < best_distance)) {
            best = keys[i].name;
            best_distance = distance;
        } else if (!best && dot && dot[1] && strncmp(keys[i].name, name, bytes) == 0) {
            best = keys[i].name;
        }
    }
    return best;
}

static enum llm_status refuse_unknown(const char *name, const char *place, struct llm_error *error)
{
    const char *nearest = nearest_key(name);
    if (nearest)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "%s: %s is not known; did you mean %s?", place,
                        name, nearest);
    return llm_fail(error, LLM_ERR_NOT_FOUND,
                    "%s: %s is not known (llmd --print-config lists every key)", place, name);
}

enum llm_status config_set(struct config *config, const char *name, const char *value,
                           const char *place, struct llm_error *error)
{
    const struct config_key *key = find_key(name);
    if (strncmp(name, "quota.", 6) == 0)
        return quota_set(config, name, value, place, error);
    return key ? set_key(config, key, value, place, error) : refuse_unknown(name, place, error);
}

enum llm_status config_set_pair(struct config *config, const char *pair, const char *place,
                                struct llm_error *error)
{
    const char *equals = strchr(pair, '=');
    char name[TOML_KEY_BYTES];
    if (!equals || equals == pair || (size_t)(equals - pair) >= sizeof name)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: \"%s\" is not table.key=value, for example kv.pool_bytes=512MiB",
                        place, pair);
    memcpy(name, pair, (size_t)(equals - pair));
    name[equals - pair] = '\0';
    return config_set(config, name, equals + 1, place, error);
}

void config_init(struct config *config)
{
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        struct llm_error error;
        CHECK(set_key(config, &keys[i], keys[i].initial, "default", &error) == LLM_OK);
    }
}

/* ---- Files ----------------------------------------------------------------------------------------- */

struct file_reading {
    struct config *config;
    const char *name;
    struct config_findings *findings; /* NULL: the first wrong line ends the reading */
};

/* In a file, texts, sizes and directories are strings (sizes may be numbers), the others bare words. */
static bool type_matches(const struct config_key *key, const struct toml_value *value)
{
    switch (value->type) {
    case TOML_STRING:
        return key->type == CONFIG_TEXT || key->type == CONFIG_SIZE;
    case TOML_INTEGER:
        return key->type == CONFIG_COUNT || key->type == CONFIG_POWER || key->type == CONFIG_SIZE;
    case TOML_BOOLEAN:
        return key->type == CONFIG_BOOLEAN;
    case TOML_STRINGS:
        return key->type == CONFIG_DIRECTORIES;
    case TOML_FLOAT:
        return false;
    }
    return false;
}

static const char *type_example(const struct config_key *key)
{
    switch (key->type) {
    case CONFIG_TEXT:
        return "a string in quotes";
    case CONFIG_COUNT:
    case CONFIG_POWER:
        return "a whole number";
    case CONFIG_SIZE:
        return "a size like \"512MiB\"";
    case CONFIG_BOOLEAN:
        return "true or false";
    case CONFIG_DIRECTORIES:
        return "an array of strings";
    }
    return "";
}

/* The value as config_set() takes it. A directory with a ':' in its name cannot be said. */
static bool value_text(const struct toml_value *value, char *out, size_t bytes)
{
    int used = 0;
    out[0] = '\0';
    switch (value->type) {
    case TOML_INTEGER:
        used = snprintf(out, bytes, "%lld", (long long)value->integer);
        break;
    case TOML_BOOLEAN:
        used = snprintf(out, bytes, "%s", value->boolean ? "true" : "false");
        break;
    case TOML_STRING:
    case TOML_STRINGS:
        for (uint32_t i = 0; i < value->string_count && (size_t)used < bytes; i++)
            used +=
                snprintf(out + used, bytes - (size_t)used, "%s%s", i ? ":" : "", value->strings[i]);
        break;
    case TOML_FLOAT:
        return false;
    }
    return used >= 0 && (size_t)used < bytes;
}

static enum llm_status take_key(const struct file_reading *reading, const char *name,
                                const struct toml_value *value, unsigned line,
                                struct llm_error *error)
{
    char place[CONFIG_TEXT_BYTES];
    snprintf(place, sizeof place, "%s:%u", reading->name, line);
    const struct config_key *key = find_key(name);
    key = key ? key : quota_find_key(name);
    if (key && !type_matches(key, value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: %s must be %s", place, name,
                        type_example(key));
    static char text[CONFIG_VALUE_BYTES]; /* one thread reads files */
    if (!value_text(value, text, sizeof text))
        return llm_fail(error, LLM_ERR_INVALID, "%s: %s is too long or of a wrong type", place,
                        name);
    return config_set(reading->config, name, text, place, error);
}

static enum llm_status visit_key(void *self, const char *name, const struct toml_value *value,
                                 unsigned line, struct llm_error *error)
{
    const struct file_reading *reading = self;
    enum llm_status status = take_key(reading, name, value, line, error);
    if (status == LLM_OK || !reading->findings)
        return status;
    config_findings_add(reading->findings, true, "%s", error->message);
    return LLM_OK;
}

static enum llm_status read_whole(int fd, const char *path, char *out, size_t bytes,
                                  size_t *out_used, struct llm_error *error)
{
    size_t used = 0;
    for (;;) {
        ssize_t taken = read(fd, out + used, bytes - used);
        if (taken < 0)
            return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot read %s", path);
        if (taken == 0 || used == bytes)
            break;
        used += (size_t)taken;
    }
    *out_used = used;
    return LLM_OK;
}

static enum llm_status read_file(struct config *config, const char *path,
                                 struct config_findings *findings, struct llm_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return llm_fail_errno(error, errno == ENOENT ? LLM_ERR_NOT_FOUND : LLM_ERR_SYSTEM, errno,
                              "cannot open the configuration %s", path);
    size_t bytes = TOML_FILE_BYTES_MAX + 1, used = 0; /* one more than allowed: toml_read says so */
    char *text = malloc(bytes);
    enum llm_status status = text ? read_whole(fd, path, text, bytes, &used, error)
                                  : llm_fail(error, LLM_ERR_MEMORY, "no memory to read %s", path);
    struct file_reading reading = {.config = config, .name = path, .findings = findings};
    if (status == LLM_OK)
        status = toml_read(text, used, path, visit_key, &reading, error);
    free(text);
    close(fd);
    return status;
}

enum llm_status config_read(struct config *config, const char *path, struct llm_error *error)
{
    return read_file(config, path, NULL, error);
}

void config_findings_add(struct config_findings *findings, bool fails, const char *format, ...)
{
    findings->fail_count += fails;
    if (findings->count == CONFIG_FINDINGS_MAX)
        return;
    struct config_finding *finding = &findings->items[findings->count++];
    finding->fails = fails;
    va_list args;
    va_start(args, format);
    vsnprintf(finding->sentence, sizeof finding->sentence, format, args);
    va_end(args);
}

void config_read_all(struct config *config, const char *path, struct config_findings *findings)
{
    struct llm_error error;
    if (read_file(config, path, findings, &error) != LLM_OK)
        config_findings_add(findings, true, "%s", error.message);
}

/* ---- Value to text --------------------------------------------------------------------------------- */

unsigned config_key_count(void)
{
    return KEY_COUNT;
}

const struct config_key *config_key(unsigned key)
{
    CHECK(key < KEY_COUNT);
    return &keys[key];
}

const char *config_key_name(unsigned key)
{
    CHECK(key < KEY_COUNT);
    return keys[key].name;
}

void config_key_text(const struct config *config, unsigned key, char *out_text, size_t bytes)
{
    CHECK(key < KEY_COUNT);
    config_value_text(config, &keys[key], out_text, bytes);
}

/* ---- The hand-over ---------------------------------------------------------------------------------- */

unsigned config_item_count(const struct config *config)
{
    unsigned count = KEY_COUNT;
    for (uint32_t i = 0; i < config->quota_count; i++)
        for (unsigned key = 0; key < CONFIG_QUOTA_KEYS; key++)
            count += quota_is_set(&config->quotas[i], key);
    return count;
}

/* Item `item` of those that the quotas have. */
static const struct config_quota *find_item(const struct config *config, unsigned item,
                                            unsigned *out_key)
{
    for (uint32_t i = 0; i < config->quota_count; i++)
        for (unsigned key = 0; key < CONFIG_QUOTA_KEYS; key++)
            if (quota_is_set(&config->quotas[i], key) && item-- == 0) {
                *out_key = key;
                return &config->quotas[i];
            }
    return NULL;
}

void config_item(const struct config *config, unsigned item, char out_name[CONFIG_NAME_BYTES],
                 char *out_text, size_t bytes)
{
    if (item < KEY_COUNT) {
        snprintf(out_name, CONFIG_NAME_BYTES, "%s", keys[item].name);
        config_key_text(config, item, out_text, bytes);
        return;
    }
    unsigned key = 0;
    const struct config_quota *quota = find_item(config, item - (unsigned)KEY_COUNT, &key);
    CHECK(quota != NULL);
    snprintf(out_name, CONFIG_NAME_BYTES, "quota.%s%u%s", quota->group ? "@" : "", quota->id,
             strchr(quota_key(key)->name, '.'));
    config_value_text(quota, quota_key(key), out_text, bytes);
}
