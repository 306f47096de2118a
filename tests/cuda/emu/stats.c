/*
 * stats.c - sectors and bank conflicts, counted when a block has ended.
 *
 * The n-th access of each lane at one place in the source is taken as one request of the warp, as it is on the
 * device when lanes do not diverge. A global request moves the 32-byte sectors that its lanes touch. A shared
 * request runs in phases (32 lanes of up to 4 bytes, 16 of 8, 8 of 16); a phase takes as many waves as the
 * fullest of the 32 banks has different words.
 */
#include "tests/cuda/emu/sanitize.h"
#include "tests/cuda/emu/state.h"

#include <stdlib.h>
#include <string.h>

enum {
    SECTOR_BYTES = 32,
    BANKS = 32,
    BANK_BYTES = 4
};

bool emu_stats_on;
static struct emu_stats totals;

struct request_part { /* one lane's share of a request */
    struct note note;
    int lane;
    uint32_t turn; /* how often this lane was here before */
};

static struct request_part *parts;
static size_t part_count, part_capacity;

struct sector {
    uintptr_t number;
    bool written;
};

static struct sector *sectors; /* of all requests; made unique at the end */
static size_t sector_count, sector_capacity;

void emu_note(const void *at, size_t bytes, enum emu_access access, bool shared, struct site site)
{
    emu_quiet_begin();
    struct thread *me = emu_self();
    me->notes = emu_grow(me->notes, me->note_count, &me->note_capacity, sizeof *me->notes);
    me->notes[me->note_count++] =
        (struct note){(uintptr_t)at, (uint32_t)bytes, access, shared, site};
    emu_quiet_end();
}

static int compare_sites(const struct note *a, const struct note *b)
{
    int files = a->site.file == b->site.file ? 0 : strcmp(a->site.file, b->site.file);
    if (files)
        return files;
    if (a->site.line != b->site.line)
        return a->site.line < b->site.line ? -1 : 1;
    if (a->shared != b->shared)
        return a->shared ? 1 : -1;
    return (int)a->access - (int)b->access;
}

static int compare_parts(const void *left, const void *right)
{
    const struct request_part *a = left, *b = right;
    int sites = compare_sites(&a->note, &b->note);
    if (sites)
        return sites;
    if (a->turn != b->turn)
        return a->turn < b->turn ? -1 : 1;
    return a->lane - b->lane;
}

static int compare_sectors(const void *left, const void *right)
{
    const struct sector *a = left, *b = right;
    if (a->written != b->written)
        return a->written ? 1 : -1;
    return a->number < b->number ? -1 : a->number > b->number;
}

static size_t sectors_unique(struct sector *all, size_t count)
{
    size_t kept = 0;
    if (count > 1)
        qsort(all, count, sizeof *all, compare_sectors);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || compare_sectors(&all[kept - 1], &all[i]) != 0)
            all[kept++] = all[i];
    return kept;
}

static void count_global(const struct request_part *first, size_t count)
{
    struct sector touched[4 * WARP_LANES];
    size_t touched_count = 0;
    bool written = first->note.access == EMU_WRITE;
    uint64_t bytes = 0;
    for (const struct request_part *p = first; p < first + count; p++) {
        bytes += p->note.bytes;
        uintptr_t last = (p->note.at + p->note.bytes - 1) / SECTOR_BYTES;
        for (uintptr_t s = p->note.at / SECTOR_BYTES; s <= last; s++)
            touched[touched_count++] = (struct sector){s, written};
    }
    touched_count = sectors_unique(touched, touched_count);
    for (size_t i = 0; i < touched_count; i++) {
        sectors = emu_grow(sectors, sector_count, &sector_capacity, sizeof *sectors);
        sectors[sector_count++] = touched[i];
    }
    *(written ? &totals.written_bytes : &totals.read_bytes) += bytes;
    *(written ? &totals.written_sector_bytes : &totals.read_sector_bytes) +=
        touched_count * SECTOR_BYTES;
    if (first->note.access == EMU_READ_STREAM)
        totals.stream_sector_bytes += touched_count * SECTOR_BYTES;
}

/* Words that a phase wants from one bank. */
struct bank {
    uintptr_t words[WARP_LANES];
    size_t count;
};

static void bank_add(struct bank *bank, uintptr_t word)
{
    for (size_t i = 0; i < bank->count; i++)
        if (bank->words[i] == word)
            return;
    bank->words[bank->count++] = word;
}

static void count_shared(const struct request_part *first, size_t count)
{
    int lanes = first->note.bytes >= 16 ? 8 : first->note.bytes == 8 ? 16 : 32;
    for (int phase = 0; phase < WARP_LANES; phase += lanes) {
        struct bank banks[BANKS];
        size_t waves = 0;
        for (int i = 0; i < BANKS; i++)
            banks[i].count = 0;
        for (const struct request_part *p = first; p < first + count; p++) {
            if (p->lane < phase || p->lane >= phase + lanes)
                continue;
            uintptr_t last = (p->note.at + p->note.bytes - 1) / BANK_BYTES;
            for (uintptr_t word = p->note.at / BANK_BYTES; word <= last; word++)
                bank_add(&banks[word % BANKS], word);
        }
        for (int i = 0; i < BANKS; i++)
            waves = banks[i].count > waves ? banks[i].count : waves;
        totals.shared_waves += waves;
        totals.shared_waves_ideal += waves != 0;
    }
}

/* How often the lane was at this place before: its parts so far are parts[from..part_count). */
static uint32_t turn_of(size_t from, const struct note *note)
{
    for (size_t i = part_count; i > from; i--)
        if (compare_sites(&parts[i - 1].note, note) == 0)
            return parts[i - 1].turn + 1;
    return 0;
}

static void stats_of_warp(struct block *block, int w)
{
    part_count = 0;
    for (int i = 0; i < WARP_LANES && WARP_LANES * w + i < block->thread_count; i++) {
        struct thread *t = block->threads[WARP_LANES * w + i];
        size_t from = part_count;
        for (size_t n = 0; n < t->note_count; n++) {
            parts = emu_grow(parts, part_count, &part_capacity, sizeof *parts);
            parts[part_count] =
                (struct request_part){t->notes[n], t->seen.lane, turn_of(from, &t->notes[n])};
            part_count++;
        }
        t->note_count = 0;
    }
    if (part_count > 1)
        qsort(parts, part_count, sizeof *parts, compare_parts);
    for (size_t i = 0, next; i < part_count; i = next) {
        for (next = i + 1; next < part_count && parts[next].turn == parts[i].turn &&
                           compare_sites(&parts[next].note, &parts[i].note) == 0;)
            next++;
        if (parts[i].note.shared)
            count_shared(&parts[i], next - i);
        else
            count_global(&parts[i], next - i);
    }
}

void emu_stats_of_block(struct block *block)
{
    for (int w = 0; w < block->warp_count; w++)
        stats_of_warp(block, w);
}

void emu_stats_begin(void)
{
    memset(&totals, 0, sizeof totals);
    sector_count = 0;
    emu_stats_on = true;
}

struct emu_stats emu_stats_end(void)
{
    emu_stats_on = false;
    sector_count = sectors_unique(sectors, sector_count);
    for (size_t i = 0; i < sector_count; i++)
        *(sectors[i].written ? &totals.unique_written_bytes : &totals.unique_read_bytes) +=
            SECTOR_BYTES;
    return totals;
}
