#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention.h"
#include "kernels/common/reference.h"

namespace sidewinder {
namespace {

// A head's norm and rotation at position p.
std::vector<double> Prepared(const AttentionParams& a, const float* head, const float* norm,
                             int64_t p) {
  std::vector<double> x(head, head + a.head_dim);
  if (norm != nullptr) {
    double squares = 0;
    for (const double v : x) squares += v * v;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(a.head_dim) + a.norm_eps);
    for (int64_t i = 0; i < a.head_dim; ++i) x[i] *= scale * norm[i];
  }
  const int64_t half = a.rotary_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double angle =
        static_cast<float>(p) * a.inv_freq[i];  // a float32, as transformers has it
    const double first = x[i], second = x[i + half];
    x[i] = first * std::cos(angle) - second * std::sin(angle);
    x[i + half] = second * std::cos(angle) + first * std::sin(angle);
  }
  return x;
}

void Attend(const AttentionParams& a, const SequenceRows& seq, int64_t r) {
  const int64_t p = seq.consumed + r, row = seq.first_row + r;
  // Where an array of one head begins, and the element of position s in it.
  const auto head_at = [&](int64_t g, int64_t s, int64_t offset) {
    return static_cast<char*>(a.cache.tables[seq.slot][s / kKvPagePositions]) + offset +
           (g * kKvPagePositions + s % kKvPagePositions) * a.head_dim * SizeOf(a.cache.dtype);
  };
  for (int64_t g = 0; g < a.num_kv_heads; ++g) {
    const auto k = Prepared(a, a.key + row * a.key_stride + g * a.head_dim, a.key_norm, p);
    const float* v = a.value + row * a.value_stride + g * a.head_dim;
    for (int64_t i = 0; i < a.head_dim; ++i) {
      ReferenceStore(head_at(g, p, a.cache.key_offset), a.cache.dtype, i, static_cast<float>(k[i]));
      ReferenceStore(head_at(g, p, a.cache.value_offset), a.cache.dtype, i, v[i]);
    }
  }
  for (int64_t h = 0; h < a.num_heads; ++h) {
    const int64_t g = h / (a.num_heads / a.num_kv_heads);
    const auto q = Prepared(a, a.query + row * a.query_stride + h * a.head_dim, a.query_norm, p);
    const int64_t first = a.window > 0 ? std::max<int64_t>(0, p - a.window + 1) : 0;
    std::vector<double> scores(p + 1 - first), sums(a.head_dim);
    for (int64_t s = first; s <= p; ++s) {
      double dot = 0;
      for (int64_t i = 0; i < a.head_dim; ++i) {
        dot += q[i] * ReferenceLoad(head_at(g, s, a.cache.key_offset), a.cache.dtype, i);
      }
      scores[s - first] = a.scale * dot;
    }
    const double max = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (int64_t s = first; s <= p; ++s) {
      const double weight = std::exp(scores[s - first] - max);
      total += weight;
      for (int64_t i = 0; i < a.head_dim; ++i) {
        sums[i] += weight * ReferenceLoad(head_at(g, s, a.cache.value_offset), a.cache.dtype, i);
      }
    }
    for (int64_t i = 0; i < a.head_dim; ++i) {
      a.output[row * a.output_stride + h * a.head_dim + i] = static_cast<float>(sums[i] / total);
    }
  }
}

}  // namespace

void AttentionRef(const AttentionParams& params) {
  for (int32_t s = 0; s < *params.plan.num_sequences; ++s) {
    const SequenceRows& seq = params.plan.sequences[s];
    for (int64_t r = 0; r < seq.num_rows; ++r) Attend(params, seq, r);
  }
}

}  // namespace sidewinder
