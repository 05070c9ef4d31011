// Products with A and B of a few tokens of one adapter.
#pragma once

#include "numbers.h"

namespace {

// Rows [0, R) of A times M tokens.
template <int M, int R>
inline void shrink_block(const bf16* const* x, const bf16* a, int64_t width, bf16* const* t) {
  static_assert(M * R <= kLanes, "one vector takes the sums");
  Floats sums[kLanes] = {};
  int64_t at = 0;
  for (; at + 2 * kLanes <= width; at += 2 * kLanes) {
    Words tokens[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) tokens[m] = load_pairs(x[m] + at);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Words row = load_pairs(a + r * width + at);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sums[m * R + r] = dot_pairs(sums[m * R + r], tokens[m], row);
    }
  }
  const Floats totals = sum_each(sums);
  for (int m = 0; m < M; ++m)
    for (int r = 0; r < R; ++r) {
      float total = totals[m * R + r];
      for (int64_t rest = at; rest < width; ++rest) total += widen(x[m][rest]) * widen(a[r * width + rest]);
      t[m][r] = narrow(total);
    }
}

template <int M>
inline void shrink_rows(const bf16* const* x, const bf16* a, int64_t width, int64_t rows, bf16* const* t) {
  constexpr int R = M == 1 ? 8 : kLanes / kMaxTokens;
  bf16* to[M];
  for (int64_t row = 0; row < rows;) {
    for (int m = 0; m < M; ++m) to[m] = t[m] + row;
    if (row + R <= rows) {
      shrink_block<M, R>(x, a + row * width, width, to);
      row += R;
    } else {
      shrink_block<M, 1>(x, a + row * width, width, to);
      row += 1;
    }
  }
}

// Columns [column, column + V * kLanes) of M tokens; `b` holds pairs of rows of B^T, interleaved.
template <int M, int V>
inline void expand_block(const bf16* const* t, const bf16* b, int64_t pairs, int64_t width, int64_t column,
                         bf16* const* y) {
  Floats sums[M][V] = {};
  for (int64_t pair = 0; pair < pairs; ++pair) {
    Words weights[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) weights[v] = load_pairs(b + 2 * (pair * width + column + v * kLanes));
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      uint32_t both;
      std::memcpy(&both, t[m] + 2 * pair, sizeof(both));
      const Words token = Words{} + both;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[m][v] = dot_pairs(sums[m][v], weights[v], token);
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) add_rounded(y[m] + column + v * kLanes, sums[m][v]);
}

template <int M>
inline void expand_columns(const bf16* const* t, const bf16* b, int64_t pairs, int64_t width, int64_t from, int64_t to,
                           bf16* const* y) {
  int64_t column = from;
  for (; column + kVectors * kLanes <= to; column += kVectors * kLanes)
    expand_block<M, kVectors>(t, b, pairs, width, column, y);
  for (; column + kLanes <= to; column += kLanes) expand_block<M, 1>(t, b, pairs, width, column, y);
  for (; column < to; ++column)
    for (int m = 0; m < M; ++m) {
      float total = 0;
      for (int64_t k = 0; k < 2 * pairs; ++k) total += widen(t[m][k]) * widen(b[2 * (k / 2 * width + column) + k % 2]);
      y[m][column] = narrow(widen(y[m][column]) + widen(narrow(total)));
    }
}

}  // namespace
