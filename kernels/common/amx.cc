// Linear on bfloat16 tiles. A float32 input is the exact sum of three bfloat16 values of 8 bits
// each; they become three columns of the tile product, so that float32 precision is kept and five
// tokens fill the 15 columns of a tile:
//
//   A: 16 rows of weights x 32 inputs, as they lie in memory     C[16 outputs][3 token + part]
//   B: 16 pairs of inputs x (3 token + part), packed once a call
//
// A tile product takes 16 cycles and passes 1 KB of weights whatever its columns hold: one to five
// rows cost the same, and the unit is faster than the second level of cache. A column does not see
// the others and accumulates in order of the input index: the bits of a row depend on nothing else.
#include "kernels/common/amx.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#if defined(__x86_64__) && defined(__linux__)
#define SIDEWINDER_HAS_AMX 1
#if defined(__GNUC__) && !defined(__clang__)  // its own headers trip it
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hwy/aligned_allocator.h"
#endif

namespace sidewinder {
namespace {

std::atomic<bool> amx_enabled{true};

}  // namespace

void SetAmxEnabled(bool enabled) { amx_enabled = enabled; }

#if SIDEWINDER_HAS_AMX

namespace {

constexpr int64_t kOutputs{16};  // rows of a tile
constexpr int64_t kInputs{32};   // bfloat16 values in a row of A
constexpr int64_t kTokens{5};    // of three columns each
constexpr int64_t kTileElements{16 * 32};
// Tiles of outputs and of tokens at a time. Up to five tokens are bound by memory, which likes few
// streams: they take one tile of outputs at a time (6 % faster than two on a decoding pass of 20 MB
// of weights, two cores), although two would hide more of the 52 cycles that a product takes.
constexpr int kBlocks{2};
constexpr int kGroups{2};
// Rows of a prefill that pass together: packed, they stay in the second level of cache.
constexpr int64_t kChunk{16 * kTokens};

#define SIDEWINDER_AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl")))

bool RequestTiles() {
  unsigned a, b, c, d;
  __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
  constexpr unsigned kBFloat16{1u << 22}, kTile{1u << 24};
  if ((d & kBFloat16) == 0 || (d & kTile) == 0) return false;
  constexpr int kRequestPermission{0x1023}, kTileData{18};
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Splits 32 inputs of one token into column 3 * token of a B tile. The sixteen bytes that a row
// gets are three parts and one zero, which the next token overwrites.
SIDEWINDER_AMX void PackInputs(const float* from, int64_t token, uint16_t* tile) {
  const __m512i mask = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  __m512i parts[2][3];
  for (int half = 0; half < 2; ++half) {
    __m512 rest = _mm512_loadu_ps(from + 16 * half);
    for (int part = 0; part < 3; ++part) {
      parts[half][part] = _mm512_and_si512(_mm512_castps_si512(rest), mask);
      // Infinity and NaN stay whole in the first part.
      const __mmask16 finite =
          _mm512_cmplt_epu32_mask(_mm512_slli_epi32(parts[half][part], 1),
                                  _mm512_set1_epi32(static_cast<int>(0xff000000u)));
      rest = _mm512_maskz_sub_ps(finite, rest, _mm512_castsi512_ps(parts[half][part]));
    }
  }
  // Pairs of consecutive inputs, the first one in the lower half: inputs 2k and 2k + 1 lie in
  // lanes 2k and 2k + 1 of the two halves.
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  __m512i pairs[3];
  for (int part = 0; part < 3; ++part) {
    const __m512i first = _mm512_permutex2var_epi32(parts[0][part], even, parts[1][part]);
    const __m512i second = _mm512_permutex2var_epi32(parts[0][part], odd, parts[1][part]);
    pairs[part] = _mm512_or_si512(_mm512_srli_epi32(first, 16), second);
  }
  // Rows 0 4 8 12 of the tile come from lane 0 of the four blocks, and so on.
  const __m512i zero = _mm512_setzero_si512();
  const __m512i low01 = _mm512_unpacklo_epi32(pairs[0], pairs[1]);
  const __m512i low2 = _mm512_unpacklo_epi32(pairs[2], zero);
  const __m512i high01 = _mm512_unpackhi_epi32(pairs[0], pairs[1]);
  const __m512i high2 = _mm512_unpackhi_epi32(pairs[2], zero);
  const __m512i rows[4] = {_mm512_unpacklo_epi64(low01, low2), _mm512_unpackhi_epi64(low01, low2),
                           _mm512_unpacklo_epi64(high01, high2),
                           _mm512_unpackhi_epi64(high01, high2)};
  for (int i = 0; i < 4; ++i) {
    uint16_t* to = tile + 32 * i + 6 * token;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_castsi512_si128(rows[i]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 128), _mm512_extracti32x4_epi32(rows[i], 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 256), _mm512_extracti32x4_epi32(rows[i], 2));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 384), _mm512_extracti32x4_epi32(rows[i], 3));
  }
}

// Lanes first, first + 3, ..., first + 12 of two vectors, in lanes 0-4 and 8-12.
SIDEWINDER_AMX inline __m512 EveryThird(__m512 a, __m512 b, int first) {
  const __m512i lanes = _mm512_setr_epi32(0, 3, 6, 9, 12, 0, 0, 0, 16, 19, 22, 25, 28, 16, 16, 16);
  return _mm512_permutex2var_ps(a, _mm512_add_epi32(lanes, _mm512_set1_epi32(first)), b);
}

// Adds the parts of `num_tokens` tokens of C and stores outputs [skip, 16) of each. The transpose
// stays in registers: rows that were just stored can be forwarded, a gather of them cannot.
SIDEWINDER_AMX void StoreTile(const float* c, const LinearParams& p, int64_t row,
                              int64_t num_tokens, int64_t first, int64_t skip) {
  const __m512i quad_lanes =
      _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
  const __m512i last_lanes = _mm512_add_epi32(quad_lanes, _mm512_set1_epi32(4));
  __m512 quads[4];  // [token][4 outputs] of tokens 0-3
  __m512 last[4];   // 4 outputs of token 4
  for (int q = 0; q < 4; ++q) {
    __m512 pairs[2];
    for (int i = 0; i < 2; ++i) {
      const __m512 a = _mm512_load_ps(c + 64 * q + 32 * i);
      const __m512 b = _mm512_load_ps(c + 64 * q + 32 * i + 16);
      pairs[i] = _mm512_add_ps(EveryThird(a, b, 0),
                               _mm512_add_ps(EveryThird(a, b, 1), EveryThird(a, b, 2)));
    }
    quads[q] = _mm512_permutex2var_ps(pairs[0], quad_lanes, pairs[1]);
    last[q] = _mm512_permutex2var_ps(pairs[0], last_lanes, pairs[1]);
  }
  const __m512 low01 = _mm512_shuffle_f32x4(quads[0], quads[1], 0x44);
  const __m512 low23 = _mm512_shuffle_f32x4(quads[2], quads[3], 0x44);
  const __m512 high01 = _mm512_shuffle_f32x4(quads[0], quads[1], 0xee);
  const __m512 high23 = _mm512_shuffle_f32x4(quads[2], quads[3], 0xee);
  const __m512 last01 = _mm512_shuffle_f32x4(last[0], last[1], 0x44);
  const __m512 last23 = _mm512_shuffle_f32x4(last[2], last[3], 0x44);
  const __m512 tokens[kTokens] = {
      _mm512_shuffle_f32x4(low01, low23, 0x88), _mm512_shuffle_f32x4(low01, low23, 0xdd),
      _mm512_shuffle_f32x4(high01, high23, 0x88), _mm512_shuffle_f32x4(high01, high23, 0xdd),
      _mm512_shuffle_f32x4(last01, last23, 0x88)};
  const __mmask16 wanted = static_cast<__mmask16>(0xffff << skip);
  for (int64_t t = 0; t < num_tokens; ++t) {
    __m512 sum = tokens[t];
    float* out = p.output + (row + t) * p.output_stride + first;
    if (p.bias != nullptr) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(wanted, p.bias + first));
    if (p.scale != nullptr) {
      sum = _mm512_mul_ps(sum, _mm512_maskz_loadu_ps(wanted, p.scale + first));
    }
    if (p.accumulate) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(wanted, out));
    _mm512_mask_storeu_ps(out, wanted, sum);
  }
}

// One or two tiles of outputs, the weights of each at w[block], times one or two tiles of tokens:
// c[block][group].
template <int kNumBlocks, int kNumGroups>
SIDEWINDER_AMX void TileProducts(const uint16_t* const* w, int64_t in_dim, const uint16_t* packed,
                                 bool prefetch, float* c) {
  _tile_zero(0);
  if constexpr (kNumGroups > 1) _tile_zero(1);
  if constexpr (kNumBlocks > 1) _tile_zero(2);
  if constexpr (kNumBlocks > 1 && kNumGroups > 1) _tile_zero(3);
  const int64_t stride = in_dim * sizeof(uint16_t);
  const uint16_t* packed2 = packed + in_dim / kInputs * kTileElements;
  for (int64_t i = 0; i < in_dim; i += kInputs) {
    _tile_loadd(6, packed + i * kOutputs, 64);
    if constexpr (kNumGroups > 1) _tile_loadd(7, packed2 + i * kOutputs, 64);
    // The rows of a tile lie apart, which the hardware's prefetcher does not follow. What comes
    // next lies right behind these blocks.
    for (int block = 0; prefetch && block < kNumBlocks; ++block) {
      const uint16_t* next = w[block] + kNumBlocks * kOutputs * in_dim + i * kOutputs;
      for (int line = 0; line < kOutputs; ++line) {
        _mm_prefetch(reinterpret_cast<const char*>(next + line * kInputs), _MM_HINT_T0);
      }
    }
    _tile_loadd(4, w[0] + i, stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kNumGroups > 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kNumBlocks > 1) {
      _tile_loadd(5, w[1] + i, stride);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kNumGroups > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, 64);
  if constexpr (kNumGroups > 1) _tile_stored(1, c + 256, 64);
  if constexpr (kNumBlocks > 1) _tile_stored(2, c + 512, 64);
  if constexpr (kNumBlocks > 1 && kNumGroups > 1) _tile_stored(3, c + 768, 64);
}

// Outputs [begin, end) of rows [first_row, first_row + num_rows).
SIDEWINDER_AMX void Outputs(const LinearParams& p, const uint16_t* packed, int64_t first_row,
                            int64_t num_rows, int64_t begin, int64_t end) {
  const TileConfig config;
  _tile_loadconfig(&config);
  alignas(64) float c[kBlocks * kGroups * 256];
  const uint16_t* weight = static_cast<const uint16_t*>(p.weight);
  const int64_t num_groups = (num_rows + kTokens - 1) / kTokens;
  const int max_blocks = num_groups > 1 ? kBlocks : 1;
  for (int64_t o = begin; o < end; o += max_blocks * kOutputs) {
    const int blocks = end - o > kOutputs ? max_blocks : 1;
    const uint16_t* w[kBlocks] = {};
    int64_t first[kBlocks] = {};
    for (int b = 0; b < blocks; ++b) {  // the last tile of a matrix overlaps the one before
      first[b] = std::min(o + b * kOutputs, p.out_dim - kOutputs);
      w[b] = weight + first[b] * p.in_dim;
    }
    for (int64_t group = 0; group < num_groups; group += kGroups) {
      const uint16_t* tokens = packed + group * p.in_dim / kInputs * kTileElements;
      const int groups = group + 1 < num_groups ? 2 : 1;
      const auto products = blocks == 1 ? (groups == 1 ? TileProducts<1, 1> : TileProducts<1, 2>)
                                        : (groups == 1 ? TileProducts<2, 1> : TileProducts<2, 2>);
      products(w, p.in_dim, tokens, group == 0, c);
      for (int b = 0; b < blocks; ++b) {
        for (int g = 0; g < groups; ++g) {
          const int64_t row = (group + g) * kTokens;
          StoreTile(c + (b * kGroups + g) * 256, p, first_row + row,
                    std::min(kTokens, num_rows - row), first[b], o + b * kOutputs - first[b]);
        }
      }
    }
  }
  _tile_release();
}

}  // namespace

bool AmxAvailable() {
  static const bool available = RequestTiles();
  return available;
}

bool UsesAmx(const LinearParams& params) {
  return params.weight_dtype == DType::kBFloat16 && params.in_dim % kInputs == 0 &&
         params.out_dim >= kOutputs && amx_enabled.load(std::memory_order_relaxed) &&
         AmxAvailable();
}

void LinearAmx(const LinearParams& p, int64_t num_rows, int64_t begin, int64_t end) {
  static thread_local hwy::AlignedFreeUniquePtr<uint16_t[]> packed;
  static thread_local int64_t packed_size = 0;
  const int64_t tiles = p.in_dim / kInputs;
  const int64_t size = (std::min(num_rows, kChunk) + kTokens - 1) / kTokens * tiles * kTileElements;
  if (packed_size < size) {
    packed_size = size;
    packed = hwy::AllocateAligned<uint16_t>(size);
    std::memset(packed.get(), 0, size * sizeof(uint16_t));  // columns of no token are finite
  }
  for (int64_t first = 0; first < num_rows; first += kChunk) {
    const int64_t rows = std::min(kChunk, num_rows - first);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t from = p.row_index != nullptr ? p.row_index[first + r] : first + r;
      uint16_t* to = packed.get() + r / kTokens * tiles * kTileElements;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        PackInputs(p.input + from * p.input_stride + tile * kInputs, r % kTokens,
                   to + tile * kTileElements);
      }
    }
    Outputs(p, packed.get(), first, rows, begin, end);
  }
}

#else

bool AmxAvailable() { return false; }
bool UsesAmx(const LinearParams&) { return false; }
void LinearAmx(const LinearParams&, int64_t, int64_t, int64_t) {}

#endif

}  // namespace sidewinder
