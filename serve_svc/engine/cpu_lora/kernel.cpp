// Adds adapters to the output of a linear layer: y[row] += (x[row] A^T) B^T with the A and B of the row's own adapter.
//
// Numbers are bf16, sums float; the product with A, that with B and the sum are each rounded to bf16, as in vLLM.

#include <cstdint>
#include <omp.h>
#include <vector>

#include "numbers.h"
#include "products.h"
#include "tiles.h"

namespace {

// One piece of work: so many rows of A, or columns of B, for so many tokens. Of many tokens a row of x or y is better read in one go.
constexpr int64_t kRows = 8;
constexpr int64_t kManyRows = 16;
constexpr int64_t kColumns = 64;
constexpr int64_t kManyColumns = 512;
constexpr int64_t kManyTokens = 64;
constexpr int64_t kChunk = 128;
constexpr int64_t kSharedSize = 1 << 18;  // products, about 10 us of one core, from which on the others are worth waking

}  // namespace

extern "C" {

struct Slice {
  const bf16* a;       // [slots, rank, in]
  const bf16* b;       // [slots, width, rank]
  bf16* b_pairs;       // [slots, ceil(rank / 2), width, 2], what `pack_slot` makes of b
  int32_t* ranks;      // [slots], what `pack_slot` finds in a
  int64_t width;       // columns of y
  int64_t first;       // its first column of y
};

struct Layer {
  int64_t num_slices, rank, in;
  const Slice* slices;
};

struct Batch {
  int64_t num_groups, num_tokens;
  const int32_t* slots;   // [groups]
  const int32_t* starts;  // [groups + 1], into tokens
  const int32_t* tokens;  // rows of x and y
};

// Reads what has been put into a slot: how many rows of A are in use, and B in the order in which it is needed.
void pack_slot(const Layer* layer, int64_t slot) {
  const int64_t rank = layer->rank, in = layer->in, pairs = ceil_div(rank, 2);
  for (int64_t s = 0; s < layer->num_slices; ++s) {
    const Slice& slice = layer->slices[s];
    const bf16* const a = slice.a + slot * rank * in;
    int64_t used = rank;
    for (bool is_empty = true; used > 0; --used) {
      for (int64_t at = 0; at < in && is_empty; ++at) is_empty = (a[(used - 1) * in + at] & 0x7fff) == 0;
      if (!is_empty) break;
    }
    slice.ranks[slot] = int32_t(used);
    const bf16* const b = slice.b + slot * slice.width * rank;
    bf16* const packed = slice.b_pairs + slot * pairs * slice.width * 2;
    for (int64_t column = 0; column < slice.width; ++column)
      for (int64_t k = 0; k < 2 * ceil_div(used, 2); ++k)
        packed[2 * (k / 2 * slice.width + column) + k % 2] = k < used ? b[column * rank + k] : 0;
  }
}
}

namespace {

// One group's rows, up to kMaxTokens at a time, to a function of that many rows.
struct Work {
  const Layer* layer;
  const Batch* batch;
  const bf16* x;
  bf16* t;  // [tokens, slices, even rank]
  bf16* y;
  int64_t x_stride, y_stride, t_stride, t_slice;

  // Products of two numbers in all.
  int64_t size() const {
    int64_t products = 0;
    for (int64_t g = 0; g < batch->num_groups; ++g)
      for (int64_t s = 0; s < layer->num_slices; ++s)
        products += (batch->starts[g + 1] - batch->starts[g]) * layer->slices[s].ranks[batch->slots[g]] *
                    (layer->in + layer->slices[s].width);
    return products;
  }

  template <int M>
  void shrink(int64_t s, int64_t slot, int64_t token, int64_t row, int64_t rows) const {
    const bf16* xs[M];
    bf16* ts[M];
    for (int m = 0; m < M; ++m) {
      xs[m] = x + batch->tokens[token + m] * x_stride;
      ts[m] = t + (token + m) * t_stride + s * t_slice + row;
    }
    shrink_rows<M>(xs, layer->slices[s].a + (slot * layer->rank + row) * layer->in, layer->in, rows, ts);
    if (rows % 2)
      for (int m = 0; m < M; ++m) ts[m][rows] = 0;  // the other half of the last pair
  }

  template <int M>
  void expand(int64_t s, int64_t slot, int64_t token, int64_t from, int64_t to) const {
    const Slice& slice = layer->slices[s];
    const bf16* ts[M];
    bf16* ys[M];
    for (int m = 0; m < M; ++m) {
      ts[m] = t + (token + m) * t_stride + s * t_slice;
      ys[m] = y + batch->tokens[token + m] * y_stride + slice.first;
    }
    const bf16* const b = slice.b_pairs + slot * t_slice * slice.width;
    expand_columns<M>(ts, b, ceil_div(slice.ranks[slot], 2), slice.width, from, to, ys);
  }

  void shrink_each(int64_t s, int64_t slot, int64_t token, int64_t last, int64_t row, int64_t rows) const {
    for (; token + kMaxTokens <= last; token += kMaxTokens) shrink<kMaxTokens>(s, slot, token, row, rows);
    for (; token < last; ++token) shrink<1>(s, slot, token, row, rows);
  }

  void expand_each(int64_t s, int64_t slot, int64_t token, int64_t last, int64_t from, int64_t to) const {
    for (; token + kMaxTokens <= last; token += kMaxTokens) expand<kMaxTokens>(s, slot, token, from, to);
    for (; token < last; ++token) expand<1>(s, slot, token, from, to);
  }

#ifdef __AMX_BF16__
  // How many tokens, the first of them `token`, follow each other in x; no more than a tile takes.
  int64_t run_length(int64_t token, int64_t last) const {
    const int32_t* const rows = batch->tokens + token;
    const int64_t most = smaller(kTileTokens, last - token);
    int64_t count = 1;
    while (count < most && rows[count] == rows[0] + count) ++count;
    return count;
  }

  // Both give tokens off the front of a piece to the matrix unit, if it can have them, and return the first they leave.
  int64_t shrink_in_tiles(int64_t s, int64_t slot, int64_t token, int64_t last, int64_t row, int64_t rows) const {
    static thread_local std::vector<uint32_t> packed;  // a pair of numbers each
    const int64_t in = layer->in;
    if (last - token < kFewestShrunk || in % (2 * kTilePairs) || !may_use_tiles()) return token;
    const bf16* const a = layer->slices[s].a + (slot * layer->rank + row) * in;
    packed.resize(size_t(in / 2 * rows));
    uint32_t* const pairs = packed.data();
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t at = 0; at < in / 2; ++at) std::memcpy(pairs + at * rows + r, a + r * in + 2 * at, sizeof(*pairs));
    for (int64_t before = 0, next = token; token < last;) {
      while (next < last && run_length(next, last) < kFewestInTile) ++next;
      shrink_each(s, slot, token, next, row, rows);  // what prompts leave between them
      if ((token = next) == last) break;
      const int64_t count = run_length(token, last);
      if (count != before) configure_shrink(before = count, rows);
      bf16* const to = t + token * t_stride + s * t_slice + row;
      shrink_tiles(x + batch->tokens[token] * x_stride, x_stride, pairs, in, rows, to, t_stride, count);
      if (rows % 2)
        for (int64_t m = 0; m < count; ++m) to[m * t_stride + rows] = 0;  // the other half of the last pair
      token = next = token + count;
    }
    _tile_release();
    return last;
  }

  int64_t expand_in_tiles(int64_t s, int64_t slot, int64_t token, int64_t last, int64_t from, int64_t to) const {
    const Slice& slice = layer->slices[s];
    const int64_t pairs = ceil_div(slice.ranks[slot], 2);
    const bool is_whole = (to - from) % kTileColumns == 0 && pairs % smaller(pairs, kTilePairs) == 0;
    if (last - token < kFewestInTile || !is_whole || !may_use_tiles()) return token;
    const bf16* const b = slice.b_pairs + slot * t_slice * slice.width;
    for (int64_t count, before = 0; last - token >= kFewestInTile; token += count, before = count) {
      count = smaller(kTileTokens, last - token);
      if (count != before) configure_expand(count, pairs);
      bf16* ys[kTileTokens];
      for (int64_t m = 0; m < count; ++m) ys[m] = y + batch->tokens[token + m] * y_stride + slice.first;
      const bf16* const ts = t + token * t_stride + s * t_slice;
      for (int64_t column = from; column < to; column += kTileColumns)
        expand_tiles(ts, t_stride, b, pairs, slice.width, column, ys, count);
    }
    _tile_release();
    return token;
  }
#endif

  // All pieces of one product, of which this thread takes its share: of every group the chunks of tokens, of each the slices, and of
  // each the pieces of rows or columns.
  template <typename Pieces, typename Piece>
  void share(Pieces pieces, Piece piece) const {
    int64_t total = 0;
    for (int64_t g = 0; g < batch->num_groups; ++g) {
      const int64_t chunks = ceil_div(batch->starts[g + 1] - batch->starts[g], kChunk);
      for (int64_t s = 0; s < layer->num_slices; ++s) total += chunks * pieces(s, batch->slots[g]);
    }
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const int64_t from = total * thread / threads, to = total * (thread + 1) / threads;
    int64_t item = 0;
    for (int64_t g = 0; g < batch->num_groups; ++g)
      for (int64_t first = batch->starts[g]; first < batch->starts[g + 1]; first += kChunk)
        for (int64_t s = 0; s < layer->num_slices; ++s) {
          const int64_t count = pieces(s, batch->slots[g]);
          const int64_t last = smaller(first + kChunk, batch->starts[g + 1]);
          const int64_t end = smaller(count, to - item);
          for (int64_t i = from > item ? from - item : 0; i < end; ++i) piece(s, batch->slots[g], first, last, i);
          item += count;
        }
  }
};

}  // namespace

extern "C" void add_adapters(const Layer* layer, const Batch* batch, const bf16* x, int64_t x_stride, bf16* y,
                             int64_t y_stride) {
  static thread_local std::vector<bf16> scratch;
  const int64_t t_slice = 2 * ceil_div(layer->rank, 2), t_stride = layer->num_slices * t_slice;
  scratch.resize(size_t(batch->num_tokens * t_stride));
  const bool is_many = batch->num_tokens >= kManyTokens;
  const int64_t most_rows = is_many ? kManyRows : kRows, columns = is_many ? kManyColumns : kColumns;
  const Work work{layer, batch, x, scratch.data(), y, x_stride, y_stride, t_stride, t_slice};
  // One thread or all: OpenMP would end the threads that are left over, and vLLM has bound each to its core.
#pragma omp parallel if (work.size() >= kSharedSize)
  {
    work.share([&](int64_t s, int64_t slot) { return ceil_div(layer->slices[s].ranks[slot], most_rows); },
               [&](int64_t s, int64_t slot, int64_t first, int64_t last, int64_t i) {
                 const int64_t row = i * most_rows, rows = smaller(most_rows, layer->slices[s].ranks[slot] - row);
#ifdef __AMX_BF16__
                 first = work.shrink_in_tiles(s, slot, first, last, row, rows);
#endif
                 work.shrink_each(s, slot, first, last, row, rows);
               });
#pragma omp barrier
    work.share([&](int64_t s, int64_t slot) {
                 return layer->slices[s].ranks[slot] ? ceil_div(layer->slices[s].width, columns) : 0;
               },
               [&](int64_t s, int64_t slot, int64_t first, int64_t last, int64_t i) {
                 const int64_t from = i * columns, to = smaller(from + columns, layer->slices[s].width);
#ifdef __AMX_BF16__
                 first = work.expand_in_tiles(s, slot, first, last, from, to);
#endif
                 work.expand_each(s, slot, first, last, from, to);
               });
  }
}
