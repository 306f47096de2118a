#include "daemon/config_text.h"

#include <string.h>

#include "daemon/config_value.h"
#include "daemon/quota.h"

#define HELP_COLUMNS 78

static const struct {
    const char *name;
    const char *sentence;
} tables[] = {
    {"daemon", "where the daemon is found, who may use it, how it ends"},
    {"limits", "how much at once; connections take their memory from these"},
    {"kv", "memory for contexts"},
    {"cpu", "arithmetic on the processor"},
    {"models", "what is served"},
    {"log", "what is written to standard error"},
};

/* Tables that are there once for each user or group, and not at all as long as nobody writes one. */
static const char quota_sentence[] = "what one user, or with \"@\" each member of one group, may "
                                     "take instead of what [limits] says; "
                                     "the user's own table wins, then the first of its groups'";

static const char *table_sentence(const char *name, size_t bytes)
{
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        if (strlen(tables[i].name) == bytes && memcmp(tables[i].name, name, bytes) == 0)
            return tables[i].sentence;
    return "";
}

/* Bytes of the table's name when row `i` is the first of its table, else 0. */
static size_t starts_table(unsigned i)
{
    const char *name = config_key_name(i);
    size_t bytes = strcspn(name, ".");
    if (i > 0 && strncmp(config_key_name(i - 1), name, bytes + 1) == 0)
        return 0;
    return bytes;
}

static const char *type_name(enum config_type type)
{
    static const char *const names[] = {
        [CONFIG_TEXT] = "text", [CONFIG_COUNT] = "number",    [CONFIG_POWER] = "number",
        [CONFIG_SIZE] = "size", [CONFIG_BOOLEAN] = "boolean", [CONFIG_DIRECTORIES] = "directories",
    };
    return names[type];
}

void config_key_range(const struct config_key *key, char *out_text, size_t bytes)
{
    unsigned long long least = key->least, most = key->most;
    switch (key->type) {
    case CONFIG_TEXT:
        snprintf(out_text, bytes, "text of at most %llu bytes", most - 1);
        break;
    case CONFIG_COUNT:
        snprintf(out_text, bytes, "%llu..%llu", least, most);
        break;
    case CONFIG_POWER:
        snprintf(out_text, bytes, "a power of two, %llu..%llu", least, most);
        break;
    case CONFIG_SIZE:
        snprintf(out_text, bytes, "bytes, %llu..%llu, or like \"512MiB\"", least, most);
        break;
    case CONFIG_BOOLEAN:
        snprintf(out_text, bytes, "true or false");
        break;
    case CONFIG_DIRECTORIES:
        snprintf(out_text, bytes, "at most %d absolute paths", CONFIG_DIRECTORIES_MAX);
        break;
    }
}

/* ---- A file ---------------------------------------------------------------------------------------- */

static void print_quoted(FILE *out, const char *text, size_t bytes)
{
    fputc('"', out);
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '"' || text[i] == '\\')
            fputc('\\', out);
        fputc(text[i], out);
    }
    fputc('"', out);
}

static void print_value(const struct config *config, const struct config_key *key, const char *text,
                        FILE *out)
{
    if (key->type == CONFIG_TEXT) {
        print_quoted(out, text, strlen(text));
    } else if (key->type == CONFIG_DIRECTORIES) {
        const struct config_directories *directories =
            (const void *)((const char *)config + key->offset);
        fputc('[', out);
        for (uint32_t i = 0; i < directories->count; i++) {
            fputs(i ? ", " : "", out);
            print_quoted(out, directories->paths[i], strlen(directories->paths[i]));
        }
        fputc(']', out);
    } else {
        fputs(text, out);
    }
}

static void print_quota(const struct config_quota *quota, FILE *out)
{
    char text[64], range[128];
    fprintf(out, "\n[quota.");
    print_quoted(out, quota->name, strlen(quota->name));
    fprintf(out, "] # %s %u\n", quota->group ? "group" : "user", quota->id);
    for (unsigned i = 0; i < CONFIG_QUOTA_KEYS; i++) {
        const struct config_key *key = quota_key(i);
        if (!quota_is_set(quota, i))
            continue;
        config_value_text(quota, key, text, sizeof text);
        config_key_range(key, range, sizeof range);
        fprintf(out, "# %s\n# %s; default %s; this value: %s\n%s = ", key->sentence, range,
                key->initial, quota->origins[i].text, strchr(key->name, '.') + 1);
        if (key->type == CONFIG_TEXT)
            print_quoted(out, text, strlen(text));
        else
            fputs(text, out);
        fputc('\n', out);
    }
}

void config_print(const struct config *config, FILE *out)
{
    static char text[CONFIG_VALUE_BYTES]; /* one thread prints */
    for (unsigned i = 0; i < config_key_count(); i++) {
        const struct config_key *key = config_key(i);
        size_t table_bytes = starts_table(i);
        char range[128];
        if (table_bytes > 0)
            fprintf(out, "%s[%.*s] # %s\n", i ? "\n" : "", (int)table_bytes, key->name,
                    table_sentence(key->name, table_bytes));
        config_key_text(config, i, text, sizeof text);
        config_key_range(key, range, sizeof range);
        fprintf(out, "# %s\n# %s; default %s; this value: %s\n%s = ", key->sentence, range,
                key->initial[0] ? key->initial : "empty", config->origins[i].text,
                strchr(key->name, '.') + 1);
        print_value(config, key, text, out);
        fputc('\n', out);
    }
    for (uint32_t i = 0; i < config->quota_count; i++)
        print_quota(&config->quotas[i], out);
}

/* A line of the list: `name` is the key's, with the quota's name in it. */
static void print_line(FILE *out, const struct config_key *key, const char *name, const char *text,
                       const struct config_origin *origin)
{
    char range[128];
    config_key_range(key, range, sizeof range);
    fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, text, origin->text, key->initial,
            type_name(key->type), range, key->sentence);
}

static void print_quota_lines(const struct config_quota *quota, FILE *out)
{
    char text[64], name[CONFIG_NAME_BYTES];
    for (unsigned i = 0; i < CONFIG_QUOTA_KEYS; i++) {
        if (!quota_is_set(quota, i))
            continue;
        snprintf(name, sizeof name, "quota.%s%s", quota->name, strchr(quota_key(i)->name, '.'));
        config_value_text(quota, quota_key(i), text, sizeof text);
        print_line(out, quota_key(i), name, text, &quota->origins[i]);
    }
}

void config_print_list(const struct config *config, FILE *out)
{
    static char text[CONFIG_VALUE_BYTES];
    for (unsigned i = 0; i < config_key_count(); i++) {
        config_key_text(config, i, text, sizeof text);
        print_line(out, config_key(i), config_key_name(i), text, &config->origins[i]);
    }
    for (uint32_t i = 0; i < config->quota_count; i++)
        print_quota_lines(&config->quotas[i], out);
}

/* ---- Help ------------------------------------------------------------------------------------------ */

/* Words of `text` behind `indent` blanks, in lines of at most HELP_COLUMNS. */
static void print_wrapped(FILE *out, const char *text, int indent)
{
    int column = 0;
    while (*text) {
        int bytes = (int)strcspn(text, " ");
        if (column > 0 && column + 1 + bytes > HELP_COLUMNS) {
            fputc('\n', out);
            column = 0;
        }
        if (column == 0)
            column = fprintf(out, "%*s%.*s", indent, "", bytes, text);
        else
            column += fprintf(out, " %.*s", bytes, text);
        text += bytes + (text[bytes] == ' ');
    }
    fputc('\n', out);
}

static void print_help_of(FILE *out, const struct config_key *key, const char *quote)
{
    char range[128], text[512];
    config_key_range(key, range, sizeof range);
    fprintf(out, "  %s = %s%s%s\n", key->name, quote, key->initial, quote);
    snprintf(text, sizeof text, "%s (%s)", key->sentence, range);
    print_wrapped(out, text, 6);
}

static void print_quota_help(FILE *out)
{
    fprintf(out, "\n[quota.USER] or [quota.\"@GROUP\"]\n");
    print_wrapped(out, quota_sentence, 4);
    for (unsigned i = 0; i < CONFIG_QUOTA_KEYS; i++) {
        char name[CONFIG_NAME_BYTES];
        struct config_key key = *quota_key(i);
        snprintf(name, sizeof name, "quota.USER%s", strchr(key.name, '.'));
        key.name = name;
        print_help_of(out, &key, "");
    }
}

void config_print_help(FILE *out)
{
    for (unsigned i = 0; i < config_key_count(); i++) {
        const struct config_key *key = config_key(i);
        size_t table_bytes = starts_table(i);
        if (table_bytes > 0)
            fprintf(out, "%s[%.*s] %s\n", i ? "\n" : "", (int)table_bytes, key->name,
                    table_sentence(key->name, table_bytes));
        print_help_of(out, key, key->type == CONFIG_TEXT ? "\"" : "");
    }
    print_quota_help(out);
}

/* ---- The man page ---------------------------------------------------------------------------------- */

static void print_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (strchr("\\*_<#`", *text))
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void print_man_of(FILE *out, const struct config_key *key)
{
    char range[128];
    config_key_range(key, range, sizeof range);
    fputc('*', out);
    print_escaped(out, strchr(key->name, '.') + 1);
    fprintf(out, "* (%s, default ", type_name(key->type));
    print_escaped(out, key->initial[0] ? key->initial : "empty");
    fputs(")\n\t", out);
    print_escaped(out, key->sentence);
    fputs(". Allowed: ", out);
    print_escaped(out, range);
    fputs(".\n\n", out);
}

void config_print_man(FILE *out)
{
    for (unsigned i = 0; i < config_key_count(); i++) {
        const struct config_key *key = config_key(i);
        size_t table_bytes = starts_table(i);
        if (table_bytes > 0) {
            fprintf(out, "%s## [%.*s]\n\n", i ? "\n" : "", (int)table_bytes, key->name);
            print_escaped(out, table_sentence(key->name, table_bytes));
            fputs(".\n\n", out);
        }
        print_man_of(out, key);
    }
    fputs("\n## [quota.USER] or [quota.\"@GROUP\"]\n\n", out);
    print_escaped(out, quota_sentence);
    fputs(". USER is a name or a uid, GROUP a name or a gid.\n\n", out);
    for (unsigned i = 0; i < CONFIG_QUOTA_KEYS; i++)
        print_man_of(out, quota_key(i));
}
