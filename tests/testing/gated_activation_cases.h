// What the tests of GatedActivation on both backends share.
#ifndef SIDEWINDER_TESTS_TESTING_GATED_ACTIVATION_CASES_H_
#define SIDEWINDER_TESTS_TESTING_GATED_ACTIVATION_CASES_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/gated_activation.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"

namespace sidewinder::testing {

inline constexpr Activation kActivations[] = {Activation::kSilu, Activation::kGelu,
                                              Activation::kRelu2, Activation::kSigmoid};

struct GatedActivationCase {
  int64_t dim;
  bool up;
  int32_t rows_factor;
};
inline constexpr GatedActivationCase kGatedActivationCases[] = {
    {1, false, 1},   {2, true, 3},    {31, true, 1},   {32, false, 2},
    {33, true, 2},   {128, false, 2}, {129, true, 2},  {1031, true, 1},
    {4096, true, 1}, {9000, true, 2}, {14336, true, 2}};

// Rows of gates and factors with poison between them, and what the reference makes of them.
struct GatedActivationData {
  static constexpr int32_t kRows{7};  // of the plan
  static constexpr int64_t kGap{3};

  GatedActivationData(const GatedActivationCase& c, Activation activation)
      : all_rows(kRows * c.rows_factor),
        stride(c.dim + kGap),
        gate(Rows(c, 1, 12)),
        up(Rows(c, 2, 2)),
        expected(all_rows * c.dim),
        magnitude(expected.size()),
        params{.gate = gate.data(),
               .up = c.up ? up.data() : nullptr,
               .output = expected.data(),
               .dim = c.dim,
               .gate_stride = stride,
               .up_stride = stride,
               .output_stride = c.dim,
               .activation = activation,
               .num_rows = &kRows,
               .rows_factor = c.rows_factor,
               .max_rows = kRows} {
    GatedActivationRef(params);
    for (int64_t i = 0; i < all_rows * c.dim; ++i) {
      const int64_t at = i / c.dim * stride + i % c.dim;
      magnitude[i] =
          std::abs(activation == Activation::kGelu ? gate[at] * (c.up ? up[at] : 1) : expected[i]);
    }
  }
  GatedActivationData(const GatedActivationData&) = delete;

  std::string Name() const {
    return "dim " + std::to_string(params.dim) + " activation " +
           std::to_string(static_cast<int>(params.activation));
  }

  int64_t all_rows, stride;
  std::vector<float> gate, up;             // [all_rows, stride]
  std::vector<float> expected, magnitude;  // [all_rows, dim]
  GatedActivationParams params;            // of the arrays above

 private:
  std::vector<float> Rows(const GatedActivationCase& c, uint32_t seed, float limit) const {
    std::vector<float> values = RandomValues(all_rows * stride, seed, -limit, limit);
    for (int64_t r = 0; r < all_rows; ++r) {
      std::fill_n(values.begin() + r * stride + c.dim, kGap, kPoison);
    }
    return values;
  }
};

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_GATED_ACTIVATION_CASES_H_
