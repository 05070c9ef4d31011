// The same products of up to 16 tokens at once on the processor's matrix unit (AMX), where prompts are read.
#pragma once

#include "numbers.h"

#ifdef __AMX_BF16__
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr int64_t kTileTokens = 16;
// Fewer are faster on vectors: A has to be put into order first for all of a piece, B has not.
constexpr int64_t kFewestShrunk = 24;
constexpr int64_t kFewestInTile = 5;
constexpr int64_t kTilePairs = 16;
constexpr int64_t kTileColumns = 4 * kLanes;

// Linux saves the tiles of processes that have asked for it.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  static const bool is_permitted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return is_permitted;
}

struct alignas(64) TileShapes {
  uint8_t palette = 1, first_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int64_t num_rows, int64_t num_bytes) {
    rows[tile] = uint8_t(num_rows);
    bytes[tile] = uint16_t(num_bytes);
  }
};

void configure_shrink(int64_t tokens, int64_t rows) {
  TileShapes shapes;
  shapes.set(0, tokens, 4 * rows);
  shapes.set(1, tokens, 4 * kTilePairs);
  shapes.set(2, kTilePairs, 4 * rows);
  _tile_loadconfig(&shapes);
}

// Rows [0, rows) of A times tokens that follow each other; `a` holds pairs of columns of A, in one word each: [in / 2, rows].
void shrink_tiles(const bf16* x, int64_t x_stride, const uint32_t* a, int64_t width, int64_t rows, bf16* t,
                  int64_t t_stride, int64_t tokens) {
  _tile_zero(0);
  for (int64_t at = 0; at < width; at += 2 * kTilePairs) {
    _tile_loadd(1, x + at, 2 * x_stride);
    _tile_loadd(2, a + at / 2 * rows, 4 * rows);
    _tile_dpbf16ps(0, 1, 2);
  }
  alignas(64) Floats sums[kTileTokens] = {};
  _tile_stored(0, sums, sizeof(sums[0]));
  for (int64_t m = 0; m < tokens; ++m) {
    const Halves numbers = narrow_all(sums[m]);
    std::memcpy(t + m * t_stride, &numbers, sizeof(bf16) * rows);
  }
}

void configure_expand(int64_t tokens, int64_t pairs) {
  TileShapes shapes;
  for (int tile = 0; tile < 4; ++tile) shapes.set(tile, tokens, 64);
  shapes.set(4, tokens, 4 * smaller(pairs, kTilePairs));
  shapes.set(5, smaller(pairs, kTilePairs), 64);
  _tile_loadconfig(&shapes);
}

// Columns [column, column + kTileColumns) of tokens whose rows of `t` follow each other.
void expand_tiles(const bf16* t, int64_t t_stride, const bf16* b, int64_t pairs, int64_t width, int64_t column,
                  bf16* const* y, int64_t tokens) {
  const int64_t step = smaller(pairs, kTilePairs);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t pair = 0; pair < pairs; pair += step) {
    const bf16* const weights = b + 2 * (pair * width + column);
    _tile_loadd(4, t + 2 * pair, 2 * t_stride);
    _tile_loadd(5, weights, 4 * width);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(5, weights + 32, 4 * width);
    _tile_dpbf16ps(1, 4, 5);
    _tile_loadd(5, weights + 64, 4 * width);
    _tile_dpbf16ps(2, 4, 5);
    _tile_loadd(5, weights + 96, 4 * width);
    _tile_dpbf16ps(3, 4, 5);
  }
  alignas(64) Floats sums[kTileTokens][4];
  _tile_stored(0, &sums[0][0], sizeof(sums[0]));
  _tile_stored(1, &sums[0][1], sizeof(sums[0]));
  _tile_stored(2, &sums[0][2], sizeof(sums[0]));
  _tile_stored(3, &sums[0][3], sizeof(sums[0]));
  for (int64_t m = 0; m < tokens; ++m)
    for (int v = 0; v < 4; ++v) add_rounded(y[m] + column + v * kLanes, sums[m][v]);
}

}  // namespace
#endif
