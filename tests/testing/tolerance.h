// How far a float32 kernel may be from the double-precision reference. Derived, not tuned.
//
// u = 2^-24 is the relative error of one rounding. A sum of n products, in any order and with or
// without fused multiply-add, is off by at most (n + 1) u sum|a_i b_i| to first order. That
// magnitude sum|a_i b_i| is what the reference returns for the absolute values of its inputs, so
// tests run it twice and every bound below is `roundings * u * magnitude`, element by element.
//
// Functions: Highway's exp, log1p and the quotients made of them are within 4 u of the exact
// function of their rounded argument, CUDA's within 4 to 7 u (kernels/common/math.cuh), for which
// the bounds have room. An argument rounded by u |a| moves exp(a) by a factor 1 + u
// |a|.
//
//   Linear      in_dim products, bias, scale, old output: in_dim + 4
//   TensorCore  products of 16-bit numbers are exact in float32; a step adds 16 of them and the old
//               sum, each cut off (not rounded) at the last place of the largest: 2 * 17 for 16
//               inputs. 34 more for a last step that is padded; 40 for sums of slices and parts
//   RmsNorm     sum of squares halved by the root, division, root, three products, silu: dim / 2 +
//   16 CausalConv  width products and the bias, then silu (slope at most 1.1, plus its own error)
//   MultiStep   a contribution to the state passes through up to `steps` decays. Each decay
//               exp(delta a) is off by 4 u and by |delta a| times the error of delta and of two
//               products (one with a, one with log2 e), each update rounds twice. Softplus of a
//               rounded sum: its condition number is at most |argument|, 20 for the arguments that
//               tests use, plus 8 for the functions inside: 28 u. The output adds state_dim
//               products, D x and the gate.
//   MultiStep, whole chunks  as MultiStep, and three products of TF32 for one: 3 * 2^-20 = 48 u are
//               left out, and a step of the tensor cores adds 8 products and the old sum, each cut
//               off: 2 * 9 = 18, for each of the three. Sums over state elements twice (M, and C
//               S), over the rows of a chunk once for the output and once a chunk for the state;
//               an output is off by at most 4 * 48, decays and the products with them by 10 each
//   DeltaNet    relative to the longest column of a state. Keys have length 1 and beta is below 1,
//               so a step makes no column longer, nor an error in it, but for m, of at most |v| <=
//               1: after `steps` rows columns are at most that long, and the errors of the steps
//               add up. Those of a step: 17 of the decay, as x e^-x <= 0.37; key_dim / 2 + 6 of the
//               key's norm, twice; key_dim of the sum under the key; sigmoid, difference, product
//               and update 24 for what they meet. The output adds key_dim products, of a query of
//               length key_dim^-1/2
//   RouteExperts  exponentials of differences up to `range`, each rounded once: range + 4, in the
//               numerator and in the sum of num_experts positive terms; the same again in the sum
//               of the num_chosen weights that normalises; two quotients, the scale
//   GatedActivation  the function with its argument's rounding (7), two products: 10. Gelu's sum
//               cancels, so its magnitude is |a up|
//   Attention   relative to the sum of weight times |v|. A score is off by head_dim + 4 roundings
//   of
//               X, the largest scale * sum |q k|, and by those of norm and rotation of q and k; the
//               exponential by 4. A weight's relative error counts twice, above and below the
//               fraction, and so do the sums over a segment and the joining of segments (4 each).
//               bfloat16: a prepared key may fall to the neighbour of the reference's (2^-8 = 2^16
//               u); tensor cores round weights, and queries, by 2^-9 = 2^15 u
#ifndef SIDEWINDER_TESTS_TESTING_TOLERANCE_H_
#define SIDEWINDER_TESTS_TESTING_TOLERANCE_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

namespace sidewinder::testing {

inline constexpr double kUnitRoundoff{0x1p-24};

constexpr double LinearRoundings(int64_t in_dim) { return static_cast<double>(in_dim) + 4; }
constexpr double TensorCoreRoundings(int64_t in_dim) {
  return 2.0 * 17 / 16 * static_cast<double>(in_dim) + 40 + 34;
}
constexpr double RmsNormRoundings(int64_t dim) { return static_cast<double>(dim) / 2 + 16; }
constexpr double CausalConvRoundings(int64_t width) {
  return 1.1 * (static_cast<double>(width) + 2) + 6;
}
// `max_exponent`: the largest |delta a|.
constexpr double MultiStepRoundings(int64_t steps, int64_t state_dim, double max_exponent) {
  constexpr double kDelta{28};
  return static_cast<double>(steps) * (6 + (kDelta + 2) * max_exponent) + kDelta +
         static_cast<double>(state_dim) + 10;
}
constexpr double MultiStepChunkRoundings(int64_t steps, int64_t state_dim, double max_exponent) {
  constexpr double kProduct{48}, kStep{3 * 18}, kChunk{64};
  const double rows = kChunk / 8 * kStep + kProduct + 10;
  const double elements = static_cast<double>(state_dim) / 8 * kStep + kProduct + 10;
  const double chunks = static_cast<double>(steps) / kChunk + 1;
  return MultiStepRoundings(steps, state_dim, max_exponent) + 2 * elements + (chunks + 1) * rows;
}
inline constexpr double kDeltaNetStepRoundings{30};  // of g
constexpr double DeltaNetKeyRoundings(int64_t key_dim) {
  return static_cast<double>(key_dim) / 2 + 6;
}
constexpr double DeltaNetRoundings(int64_t steps, int64_t key_dim) {
  const double keys = static_cast<double>(key_dim) + DeltaNetKeyRoundings(key_dim);
  return static_cast<double>(steps) * (keys + DeltaNetKeyRoundings(key_dim) + 41) + keys;
}
constexpr double RouteExpertsRoundings(double range, int64_t num_experts, int64_t num_chosen) {
  return 2 * (2 * (range + 4) + static_cast<double>(num_experts)) +
         static_cast<double>(num_chosen) + 4;
}
inline constexpr double kGatedActivationRoundings{10};

// A head's RMS norm, then its rotation: cosine and sine off by 2 u, two products, a sum; a rotated
// element is up to sqrt(2) times the pair that it is of.
constexpr double PreparedHeadRoundings(int64_t head_dim) {
  return 1.5 * (RmsNormRoundings(head_dim) + 6);
}
struct AttentionError {
  int64_t head_dim;
  int64_t segments;
  double max_exponent;  // X
  bool prepared;        // a norm or a rotation
  bool narrow_cache;    // bfloat16

  double CpuRoundings() const {
    return Roundings(static_cast<double>(head_dim), kSegment, narrow_cache && prepared ? 0x1p16 : 0,
                     0);
  }
  double CudaRoundings(bool exact_queries) const {
    if (!narrow_cache) return CpuRoundings();
    return Roundings(TensorCoreRoundings(head_dim), TensorCoreRoundings(kSegment),
                     (prepared ? 0x1p16 : 0) + (exact_queries ? 0 : 0x1p15), 0x1p15);
  }

 private:
  static constexpr int64_t kSegment{128};
  double Roundings(double dot, double sum, double of_exponent, double of_weight) const {
    const double preparing = prepared ? 2 * PreparedHeadRoundings(head_dim) : 0;
    const double weight = (dot + 4 + preparing + of_exponent) * max_exponent + 4 + of_weight;
    return 2 * (weight + sum + 4 * static_cast<double>(segments)) + 2;
  }
};

// Every element of actual[size] is within its bound of expected; NaN and infinities match.
inline void ExpectWithin(const float* actual, const float* expected, const float* magnitude,
                         int64_t size, double roundings, const char* what) {
  double worst = 0;
  int64_t worst_idx = -1;
  for (int64_t i = 0; i < size; ++i) {
    double ratio = 0;
    if (!std::isfinite(expected[i]) || !std::isfinite(actual[i])) {
      const bool same = std::isnan(expected[i]) ? std::isnan(actual[i]) : actual[i] == expected[i];
      ratio = same ? 0 : INFINITY;
    } else {
      // The reference itself is rounded to float32 once; below 2^-126 floats are equally spaced.
      const double bound =
          kUnitRoundoff * (roundings * magnitude[i] + std::abs(expected[i])) + 0x1p-126;
      ratio = std::abs(double{actual[i]} - expected[i]) / bound;
    }
    if (worst_idx < 0 || ratio > worst) {
      worst = ratio;
      worst_idx = i;
    }
  }
  if (worst > 1) {
    ADD_FAILURE() << what << "[" << worst_idx << " of " << size << "] is " << actual[worst_idx]
                  << ", expected " << expected[worst_idx] << ": " << worst << " times the bound";
  }
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_TOLERANCE_H_
