// bf16 numbers and vectors of them, on whatever vectors the processor has; only the bf16 instructions of AVX-512 are named.
#pragma once

#include <cstdint>
#include <cstring>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {


using bf16 = uint16_t;

#ifdef __AVX512F__
constexpr int kLanes = 16;
constexpr int kMaxTokens = 4;  // of one adapter, that share each load of a weight: as many as the registers hold sums for
#else
constexpr int kLanes = 8;
constexpr int kMaxTokens = 2;
#endif
constexpr int kVectors = 4;      // of columns, that share each load of a token

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef int32_t Lanes __attribute__((vector_size(kLanes * 4)));
typedef bf16 Halves __attribute__((vector_size(kLanes * 2)));

inline int64_t ceil_div(int64_t number, int64_t by) { return (number + by - 1) / by; }
inline int64_t smaller(int64_t one, int64_t other) { return one < other ? one : other; }

inline Words load_pairs(const bf16* from) {
  Words words;
  std::memcpy(&words, from, sizeof(words));
  return words;
}

// Adds the products of 2 * kLanes numbers, two to each lane.
inline Floats dot_pairs(Floats sums, Words a, Words b) {
#ifdef __AVX512BF16__
  return (Floats)_mm512_dpbf16_ps((__m512)sums, (__m512bh)a, (__m512bh)b);
#else
  sums += (Floats)(a << 16) * (Floats)(b << 16);
  return sums + (Floats)(a & 0xffff0000u) * (Floats)(b & 0xffff0000u);
#endif
}

inline float widen(bf16 number) {
  const uint32_t bits = uint32_t(number) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof(wide));
  return wide;
}

inline bf16 narrow(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof(bits));
  if (number != number) return 0x7fc0;
  return bf16((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

inline Floats widen_all(Halves numbers) { return (Floats)(__builtin_convertvector(numbers, Words) << 16); }

inline Halves narrow_all(Floats numbers) {
#ifdef __AVX512BF16__
  return (Halves)_mm512_cvtneps_pbh((__m512)numbers);
#else
  Words bits = (Words)numbers;
  bits = (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
  const Lanes is_nan = numbers != numbers;
  bits = (Words)(((Lanes)bits & ~is_nan) | (is_nan & 0x7fc0));
  return __builtin_convertvector(bits, Halves);
#endif
}

template <int Step>
inline Floats interleave_sums(Floats one, Floats other) {
  Lanes low, high;
  for (int lane = 0; lane < kLanes; ++lane) {
    const int place = lane & ~Step, is_other = (lane & Step) ? kLanes : 0;
    low[lane] = place + is_other;
    high[lane] = place + Step + is_other;
  }
  return __builtin_shuffle(one, other, low) + __builtin_shuffle(one, other, high);
}

// Lane i of the result is the sum of vector i: kLanes sums for the price of a few single ones.
inline Floats sum_each(Floats (&vectors)[kLanes]) {
  for (int i = 0; i < kLanes / 2; ++i) vectors[i] = interleave_sums<1>(vectors[2 * i], vectors[2 * i + 1]);
  for (int i = 0; i < kLanes / 4; ++i) vectors[i] = interleave_sums<2>(vectors[2 * i], vectors[2 * i + 1]);
  for (int i = 0; i < kLanes / 8; ++i) vectors[i] = interleave_sums<4>(vectors[2 * i], vectors[2 * i + 1]);
  if (kLanes == 8) return vectors[0];
  return interleave_sums<8 % kLanes>(vectors[0], vectors[1]);
}

inline void add_rounded(bf16* to, Floats sums) {
  Halves before;
  std::memcpy(&before, to, sizeof(before));
  const Halves after = narrow_all(widen_all(before) + widen_all(narrow_all(sums)));
  std::memcpy(to, &after, sizeof(after));
}

}  // namespace
