/*
 * linear_body.h - rows times packed panels, for the vector type of the including file.
 *
 * Idea     A tile is R rows by C panels held in registers; for each k it reads one panel row per panel and one
 *          input per row. Each output has one accumulator and sees k = 0, 1, 2, ...: so a tile's shape decides
 *          speed alone and never a bit, and one row, six rows and a thousand rows give the same numbers.
 *          With few rows the panels stream from memory once, several side by side to keep the adders busy.
 *          With many rows a stretch of BLOCK_K inputs of a panel stays in the first-level cache while all
 *          rows of a block pass by; the accumulators wait in memory in between, unrounded.
 */
#ifndef LLM_KERNELS_CPU_LINEAR_BODY_H
#define LLM_KERNELS_CPU_LINEAR_BODY_H

#include "kernels/cpu/isa.h"

#define PANEL_WIDTH (2 * VEC_LANES)
#define TILE_ROWS   6
#define TILE_PANELS 4
#define BLOCK_ROWS  96                   /* rows that share a stretch of a panel */
#define AHEAD_BYTES 1024                 /* prefetch distance where panels stream from memory */
#define BLOCK_K     (4096 / PANEL_WIDTH) /* inputs of a stretch: 16 KiB of f32 weights */

struct tile {
    const unsigned char *panel; /* first panel, at input k_first */
    size_t panel_bytes;         /* from one panel to the next */
    const float *x;             /* first row, at input k_first */
    size_t x_stride;
    int32_t k_count;
    size_t ahead_bytes;      /* from the panel row in use to the first one to prefetch */
    size_t ahead_step_bytes; /* how far that moves with each k */
    float *sums;             /* [panel][row][PANEL_WIDTH]: where accumulators come from and go to */
    size_t sums_panel_stride;
    bool resume; /* take the accumulators from sums; else they start at zero */
};

/* R, C and dtype are constants wherever this is expanded. */
ALWAYS_INLINE void tile_run(const struct tile *tile, int R, int C, enum kernel_dtype dtype)
{
    const size_t row_bytes = PANEL_WIDTH * (dtype == KERNEL_F32 ? 4 : 2);
    vec acc[TILE_ROWS][TILE_PANELS][2];
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
    for (int c = 0; c < C; c++) {
        const float *from =
            tile->sums + (size_t)c * tile->sums_panel_stride + (size_t)r * PANEL_WIDTH;
        acc[r][c][0] = tile->resume ? vec_load(from) : vec_set(0);
        acc[r][c][1] = tile->resume ? vec_load(from + VEC_LANES) : vec_set(0);
    }
    const unsigned char *panel = tile->panel;
    const unsigned char *ahead = panel + tile->ahead_bytes;
    const float *x = tile->x;
    for (int32_t k = 0; k < tile->k_count; k++) {
        vec w[TILE_PANELS][2];
        UNROLL
        for (int c = 0; c < C; c++) {
            const unsigned char *row = panel + (size_t)c * tile->panel_bytes;
            __builtin_prefetch(ahead + (size_t)c * tile->panel_bytes);
            vec_load_panel(dtype, row, &w[c][0], &w[c][1]);
        }
        UNROLL
        for (int r = 0; r < R; r++) {
            vec input = vec_set(x[(size_t)r * tile->x_stride]);
            UNROLL
            for (int c = 0; c < C; c++) {
                acc[r][c][0] = vec_fma(input, w[c][0], acc[r][c][0]);
                acc[r][c][1] = vec_fma(input, w[c][1], acc[r][c][1]);
            }
        }
        panel += row_bytes;
        ahead += tile->ahead_step_bytes;
        x++;
    }
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
    for (int c = 0; c < C; c++) {
        float *to = tile->sums + (size_t)c * tile->sums_panel_stride + (size_t)r * PANEL_WIDTH;
        vec_store(to, acc[r][c][0]);
        vec_store(to + VEC_LANES, acc[r][c][1]);
    }
}

/* Panels a tile of R rows takes side by side: as many of 4, 2, 1 as the registers hold. */
#define PANELS_FOR(R) \
    ((R)*TILE_PANELS * 2 <= VEC_ACCUMULATORS ? TILE_PANELS : (R)*4 <= VEC_ACCUMULATORS ? 2 : 1)

/* C is 1, or the panels of this height or of a taller tile; the others are never compiled. */
#define TILE_CASE(R)                           \
    case R:                                    \
        if (C == 1)                            \
            tile_run(tile, R, 1, dtype);       \
        else if (C == 2 && PANELS_FOR(R) >= 2) \
            tile_run(tile, R, 2, dtype);       \
        else if (C == 4 && PANELS_FOR(R) == 4) \
            tile_run(tile, R, 4, dtype);       \
        break;

ALWAYS_INLINE void tile_rows(const struct tile *tile, int R, int C, enum kernel_dtype dtype)
{
    switch (R) {
        TILE_CASE(1)
        TILE_CASE(2)
        TILE_CASE(3)
        TILE_CASE(4)
        TILE_CASE(5)
        TILE_CASE(6)
    default:
        break;
    }
}

static void tile_dispatch(const struct tile *tile, int R, int C, enum kernel_dtype dtype)
{
    if (dtype == KERNEL_F32)
        tile_rows(tile, R, C, KERNEL_F32);
    else if (dtype == KERNEL_BF16)
        tile_rows(tile, R, C, KERNEL_BF16);
    else
        tile_rows(tile, R, C, KERNEL_F16);
}

/* Add bias and, in mode ADD, what is there; store the outputs that exist. */
static void panel_finish(const struct linear_part *part, const float *sums, int32_t row,
                         int32_t rows, int32_t panel)
{
    int32_t first = panel * PANEL_WIDTH, N = part->w->N;
    int32_t count = N - first < PANEL_WIDTH ? N - first : PANEL_WIDTH;
    for (int32_t r = 0; r < rows; r++, sums += PANEL_WIDTH) {
        float *out = part->out + (size_t)(row + r) * (size_t)N + first;
        for (int32_t n = 0; n < count; n++) {
            float sum = sums[n];
            if (part->bias)
                sum += part->bias[first + n];
            out[n] = part->mode == KERNEL_LINEAR_ADD ? out[n] + sum : sum;
        }
    }
}

/* All tiles of one stretch of k: `rows` rows cut into equal heights of at most TILE_ROWS. A single tile fetches a
 * little ahead of itself; of several, each fetches its part of the stretch that comes next. */
static void stretch_run(struct tile tile, int32_t rows, int C, enum kernel_dtype dtype)
{
    int32_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    size_t row_bytes = panel_bytes(dtype, 1, VEC_LANES);
    size_t stretch_bytes = row_bytes * (size_t)tile.k_count;
    for (int32_t i = 0; i < tiles; i++) {
        int32_t from = rows * i / tiles, height = rows * (i + 1) / tiles - from;
        struct tile one = tile;
        one.x += (size_t)from * tile.x_stride;
        one.sums += (size_t)from * PANEL_WIDTH;
        one.ahead_bytes =
            tiles == 1 ? AHEAD_BYTES : stretch_bytes + stretch_bytes * (size_t)i / (size_t)tiles;
        one.ahead_step_bytes = row_bytes / (size_t)tiles;
        tile_dispatch(&one, height, C, dtype);
    }
}

/* C panels for up to BLOCK_ROWS rows. */
static void panels_run(const struct linear_part *part, int32_t row, int32_t rows, int32_t panel,
                       int C)
{
    _Alignas(64) float sums[PANELS_FOR(TILE_ROWS) * BLOCK_ROWS * PANEL_WIDTH];
    const struct kernel_matrix *w = part->w;
    size_t bytes = panel_bytes(w->dtype, w->K, VEC_LANES);
    int32_t stretch = rows <= TILE_ROWS ? w->K : BLOCK_K;
    for (int32_t k = 0; k < w->K; k += stretch) {
        struct tile tile = {
            .panel = (const unsigned char *)w->panels + (size_t)panel * bytes +
                     panel_bytes(w->dtype, k, VEC_LANES),
            .panel_bytes = bytes,
            .x = part->x + (size_t)row * (size_t)w->K + k,
            .x_stride = (size_t)w->K,
            .k_count = w->K - k < stretch ? w->K - k : stretch,
            .sums = sums,
            .sums_panel_stride = (size_t)rows * PANEL_WIDTH,
            .resume = k > 0,
        };
        stretch_run(tile, rows, C, w->dtype);
    }
    for (int32_t c = 0; c < C; c++)
        panel_finish(part, sums + (size_t)c * (size_t)rows * PANEL_WIDTH, row, rows, panel + c);
}

static size_t panels_bytes(enum kernel_dtype dtype, int32_t N, int32_t K)
{
    size_t bytes = (size_t)panel_count(N, VEC_LANES) * panel_bytes(dtype, K, VEC_LANES);
    return (bytes + KERNEL_PANEL_ALIGN_BYTES - 1) & ~(size_t)(KERNEL_PANEL_ALIGN_BYTES - 1);
}

static void linear_loops(const struct linear_part *part)
{
    for (int32_t row = part->row_first; row < part->row_end; row += BLOCK_ROWS) {
        int32_t rows = part->row_end - row < BLOCK_ROWS ? part->row_end - row : BLOCK_ROWS;
        int32_t side = PANELS_FOR(rows < TILE_ROWS ? rows : TILE_ROWS);
        for (int32_t panel = part->panel_first; panel < part->panel_end;) {
            int32_t C = part->panel_end - panel >= side ? side : 1;
            panels_run(part, row, rows, panel, C);
            panel += C;
        }
    }
}

#endif
