/* llmctl mem, llmctl kv map - who uses which bytes, and what each block of the pool holds. */
#include <dirent.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/llmctl/json_out.h"
#include "tools/llmctl/llmctl.h"
#include "tools/llmctl/text_out.h"

#define ENTRIES_MAX 4096u
#define MAP_COLUMNS 64u
#define FILES_MAX   65536u

static const char *const part_names[] = {"", "weights", "workspace", "pool", "tables", "clients"};
static const char *const state_names[] = {"free",       "held",        "cached",
                                          "in transit", "quarantined", "unowned"};

static const char *name_in(const char *const *names, size_t count, uint32_t value)
{
    return value < count ? names[value] : "unknown";
}
#define NAME_IN(names, value) name_in(names, sizeof(names) / sizeof((names)[0]), value)

/* "ana", "@team", "everybody", "llmd" */
static void owner_text(bool daemon_owned, uint32_t kind, uint32_t id, char out[64])
{
    const struct passwd *user = !daemon_owned && kind == 0 ? getpwuid((uid_t)id) : NULL;
    const struct group *group = !daemon_owned && kind == 1 ? getgrgid((gid_t)id) : NULL;
    if (daemon_owned)
        snprintf(out, 64, "llmd");
    else if (kind == 2)
        snprintf(out, 64, "everybody");
    else if (user)
        snprintf(out, 64, "%.60s", user->pw_name);
    else if (group)
        snprintf(out, 64, "@%.60s", group->gr_name);
    else
        snprintf(out, 64, "%s%u", kind == 1 ? "@" : "", id);
}

/* ---- The ledger ------------------------------------------------------------------------------------- */

struct ledger {
    llm_ledger_entry entries[ENTRIES_MAX];
    uint32_t count;
};

static enum llm_status take_ledger(llm_connection *connection, struct ledger *ledger,
                                   llm_error *error)
{
    uint32_t cursor = 0, count;
    enum llm_status status;
    ledger->count = 0;
    do {
        status = llm_memory_ledger(connection, &cursor, ledger->entries + ledger->count,
                                   ENTRIES_MAX - ledger->count, &count, error);
        if (status == LLM_OK)
            ledger->count += count;
    } while (status == LLM_OK && count > 0 && ledger->count < ENTRIES_MAX);
    return status;
}

static uint64_t sum_of(const struct ledger *ledger, uint32_t part)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < ledger->count; i++)
        if (part == 0 || ledger->entries[i].part == part)
            sum += ledger->entries[i].bytes;
    return sum;
}

struct seen_file {
    dev_t device;
    ino_t inode;
};

static bool seen_before(const struct seen_file *files, uint32_t count, const struct stat *file)
{
    for (uint32_t i = 0; i < count; i++)
        if (files[i].device == file->st_dev && files[i].inode == file->st_ino)
            return true;
    return false;
}

/* Shared memories that process `pid` has descriptors of, each counted once, by what the kernel says of their sizes. */
static uint64_t memories_of(uint32_t pid, bool *out_readable)
{
    char path[64];
    uint64_t bytes = 0;
    uint32_t count = 0;
    snprintf(path, sizeof path, "/proc/%u/fd", pid);
    DIR *directory = opendir(path);
    struct seen_file *files = calloc(FILES_MAX, sizeof *files);
    *out_readable = directory && files;
    for (const struct dirent *entry; *out_readable && (entry = readdir(directory)) != NULL;) {
        char link[128], target[64];
        struct stat file;
        snprintf(link, sizeof link, "%s/%.32s", path, entry->d_name);
        ssize_t length = readlink(link, target, sizeof target - 1);
        if (length <= 0 || stat(link, &file) != 0 || !S_ISREG(file.st_mode))
            continue;
        target[length] = '\0';
        if ((strncmp(target, "/memfd:", 7) != 0 && strncmp(target, "/dev/shm/", 9) != 0) ||
            seen_before(files, count, &file) || count == FILES_MAX)
            continue;
        files[count++] = (struct seen_file){file.st_dev, file.st_ino};
        bytes += (uint64_t)file.st_size;
    }
    free(files);
    if (directory)
        closedir(directory);
    return bytes;
}

static void print_ledger_table(const struct ledger *ledger)
{
    struct text_table table;
    text_table_init(&table, "lllrrl");
    for (const char *const *head =
             (const char *const[]){"MEMORY", "STATE", "OWNER", "BYTES", "PINNED", "NAME", NULL};
         *head; head++)
        text_table_cell(&table, "%s", *head);
    for (uint32_t i = 0; i < ledger->count; i++) {
        const llm_ledger_entry *entry = &ledger->entries[i];
        char owner[64], name[64];
        owner_text(entry->daemon_owned, entry->domain_kind, entry->domain_id, owner);
        text_printable(name, sizeof name, entry->name);
        text_table_cell(&table, "%s", NAME_IN(part_names, entry->part));
        text_table_cell(&table, "%s",
                        entry->part == LLM_MEMORY_POOL ? NAME_IN(state_names, entry->state) : "");
        text_table_cell(&table, "%s", owner);
        text_table_cell(&table, "%s", text_grouped(entry->bytes).text);
        text_table_cell(&table, "%s",
                        entry->pinned_bytes ? text_grouped(entry->pinned_bytes).text : "");
        text_table_cell(&table, "%s", name);
    }
    text_table_close(&table, stdout);
}

static void print_sums(const struct ledger *ledger, uint32_t keeper_pid)
{
    uint64_t total = sum_of(ledger, 0), own = sum_of(ledger, LLM_MEMORY_WORKSPACE);
    bool readable;
    uint64_t held = memories_of(keeper_pid, &readable);
    printf("\nsum    %s bytes: weights %s, workspace %s, pool %s, tables %s, clients %s\n",
           text_grouped(total).text, text_grouped(sum_of(ledger, LLM_MEMORY_WEIGHTS)).text,
           text_grouped(own).text, text_grouped(sum_of(ledger, LLM_MEMORY_POOL)).text,
           text_grouped(sum_of(ledger, LLM_MEMORY_TABLES)).text,
           text_grouped(sum_of(ledger, LLM_MEMORY_CLIENTS)).text);
    if (readable)
        printf(
            "kernel %s bytes in the keeper's shared memories, %s the sum without the workspace\n",
            text_grouped(held).text,
            held == total - own  ? "exactly"
            : held > total - own ? "more than"
                                 : "less than");
}

static void print_ledger_json(const struct ledger *ledger, uint32_t keeper_pid)
{
    struct json_out json;
    bool readable;
    uint64_t held = memories_of(keeper_pid, &readable);
    json_out_init(&json, stdout);
    json_out_object(&json, NULL);
    json_out_array(&json, "ledger");
    for (uint32_t i = 0; i < ledger->count; i++) {
        const llm_ledger_entry *entry = &ledger->entries[i];
        char owner[64];
        owner_text(entry->daemon_owned, entry->domain_kind, entry->domain_id, owner);
        json_out_object(&json, NULL);
        json_out_text(&json, "memory", NAME_IN(part_names, entry->part));
        if (entry->part == LLM_MEMORY_POOL)
            json_out_text(&json, "state", NAME_IN(state_names, entry->state));
        json_out_text(&json, "owner", owner);
        json_out_count(&json, "bytes", entry->bytes);
        json_out_count(&json, "pinned_bytes", entry->pinned_bytes);
        json_out_text(&json, "name", entry->name);
        json_out_end(&json);
    }
    json_out_end(&json);
    json_out_count(&json, "sum_bytes", sum_of(ledger, 0));
    json_out_count(&json, "workspace_bytes", sum_of(ledger, LLM_MEMORY_WORKSPACE));
    if (readable)
        json_out_count(&json, "kernel_bytes", held);
    json_out_end(&json);
}

enum llmctl_exit llmctl_mem(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_error error;
    llm_connection_info info;
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    struct ledger *ledger = malloc(sizeof *ledger);
    enum llm_status status = ledger ? llm_connection_describe(connection, &info, &error)
                                    : llm_fail(&error, LLM_ERR_MEMORY, "no memory for the ledger");
    if (status == LLM_OK)
        status = take_ledger(connection, ledger, &error);
    if (status == LLM_OK && arguments->json) {
        print_ledger_json(ledger, info.keeper_pid); /* while we are connected, like the ledger */
    } else if (status == LLM_OK) {
        print_ledger_table(ledger);
        print_sums(ledger, info.keeper_pid);
    }
    llm_disconnect(connection);
    free(ledger);
    return status == LLM_OK ? LLMCTL_DONE : llmctl_fail(&error);
}

/* ---- The map ---------------------------------------------------------------------------------------- */

/* One letter a block. */
static char letter_of(const llm_block_info *block)
{
    static const char letters[] = {'.', 'H', 'C', 'T', 'Q', ' '};
    if (block->state == 1 && block->tokens == 0)
        return 'w';
    return block->state < sizeof letters ? letters[block->state] : '?';
}

static void print_block_json(struct json_out *json, const llm_block_info *block)
{
    char owner[64];
    owner_text(block->state == 0 || block->state == 5, block->domain_kind, block->domain_id, owner);
    json_out_object(json, NULL);
    json_out_count(json, "block", block->block);
    json_out_text(json, "state", NAME_IN(state_names, block->state));
    json_out_text(json, "owner", owner);
    json_out_count(json, "model", block->model);
    json_out_count(json, "tokens", block->tokens);
    json_out_count(json, "references", block->references);
    json_out_count(json, "depth", block->depth);
    if (block->parent != UINT32_MAX)
        json_out_count(json, "parent", block->parent);
    json_out_end(json);
}

struct map {
    bool json;
    struct json_out out;
    uint32_t column;
    uint32_t states[6];
};

static void print_block(struct map *map, const llm_block_info *block)
{
    map->states[block->state < 6 ? block->state : 0]++;
    if (map->json) {
        print_block_json(&map->out, block);
        return;
    }
    if (map->column == 0)
        printf("%8" PRIu32 "  ", block->block);
    putchar(letter_of(block));
    map->column = (map->column + 1) % MAP_COLUMNS;
    if (map->column == 0)
        putchar('\n');
}

static void print_map_end(const struct map *map)
{
    if (map->column)
        putchar('\n');
    printf("\n. free %u   H held %u (w: being written)   C cached %u   Q quarantined %u   "
           "blank: in slabs that no model owns %u\n",
           map->states[0], map->states[1], map->states[2], map->states[4], map->states[5]);
}

enum llmctl_exit llmctl_kv_map(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_error error;
    llm_block_info blocks[128];
    struct map map = {.json = arguments->json};
    uint32_t cursor = 0, count = 0;
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status = llm_cache_blocks(connection, &cursor, blocks, 128, &count, &error);
    if (status == LLM_OK && map.json) {
        json_out_init(&map.out, stdout);
        json_out_array(&map.out, NULL);
    }
    bool began = status == LLM_OK;
    while (status == LLM_OK && count > 0) {
        for (uint32_t i = 0; i < count; i++)
            print_block(&map, &blocks[i]);
        status = llm_cache_blocks(connection, &cursor, blocks, 128, &count, &error);
    }
    if (began && map.json)
        json_out_end(&map.out);
    else if (began)
        print_map_end(&map);
    llm_disconnect(connection);
    return status == LLM_OK ? LLMCTL_DONE : llmctl_fail(&error);
}
