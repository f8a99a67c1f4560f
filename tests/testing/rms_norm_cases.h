// What the tests of RmsNorm on both backends share.
#ifndef SIDEWINDER_TESTS_TESTING_RMS_NORM_CASES_H_
#define SIDEWINDER_TESTS_TESTING_RMS_NORM_CASES_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/rms_norm.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"

namespace sidewinder::testing {

struct RmsNormCase {
  enum class Form : uint8_t { kPlain, kSum, kGateFirst, kGateLast };
  using enum Form;
  int64_t dim, group_dim;
  Form form;
  bool weight;
  // How arrays lie on a GPU.
  int64_t gap;  // elements between rows beyond dim
  bool misalign = false;
};

inline constexpr RmsNormCase kRmsNormCases[] = {
    {1, 1, RmsNormCase::kPlain, true, 5},
    {2, 2, RmsNormCase::kGateFirst, true, 5, true},
    {3, 1, RmsNormCase::kGateFirst, false, 5},
    {31, 31, RmsNormCase::kPlain, true, 5},
    {32, 32, RmsNormCase::kGateFirst, true, 4},
    {33, 11, RmsNormCase::kGateFirst, true, 5},
    {127, 127, RmsNormCase::kGateFirst, true, 5},
    {320, 320, RmsNormCase::kPlain, true, 4},
    {640, 320, RmsNormCase::kGateFirst, true, 4, true},
    {1024, 1024, RmsNormCase::kPlain, true, 0},
    {1031, 1031, RmsNormCase::kPlain, false, 5, true},
    {2560, 2560, RmsNormCase::kPlain, true, 0},
    {5120, 5120, RmsNormCase::kGateFirst, true, 4},
    {5120, 640, RmsNormCase::kGateFirst, true, 4},
    {1, 1, RmsNormCase::kSum, true, 5},
    {33, 33, RmsNormCase::kSum, false, 5},
    {127, 127, RmsNormCase::kSum, true, 5},
    {127, 127, RmsNormCase::kSum, false, 5},
    {320, 320, RmsNormCase::kSum, true, 4},
    {2560, 2560, RmsNormCase::kSum, true, 0, true},
    {2, 1, RmsNormCase::kGateLast, true, 5},
    {31, 31, RmsNormCase::kGateLast, false, 5},
    {66, 33, RmsNormCase::kGateLast, true, 5},
    {512, 128, RmsNormCase::kGateLast, true, 4},
    {1031, 1031, RmsNormCase::kGateLast, true, 5},
    {1031, 1031, RmsNormCase::kGateLast, false, 5, true}};

// Rows with poison between them, and what the reference makes of them.
struct RmsNormData {
  static constexpr int32_t kRows{17};

  explicit RmsNormData(const RmsNormCase& c)
      : stride(c.dim + c.gap),
        has_gate(c.form == RmsNormCase::kGateFirst || c.form == RmsNormCase::kGateLast),
        has_addend(c.form == RmsNormCase::kSum),
        input(Rows(c, 1, 3)),
        gate(Rows(c, 2, 8)),
        addend(Rows(c, 4, 3)),
        weight(RandomValues(c.dim, 3)),
        expected(kRows * c.dim),
        params{.input = input.data(),
               .addend = has_addend ? addend.data() : nullptr,
               .gate = has_gate ? gate.data() : nullptr,
               .gate_last = c.form == RmsNormCase::kGateLast,
               .weight = c.weight ? weight.data() : nullptr,
               .output = expected.data(),
               .dim = c.dim,
               .group_dim = c.group_dim,
               .input_stride = stride,
               .addend_stride = stride,
               .gate_stride = stride,
               .output_stride = c.dim,
               .eps = 1e-5f,
               .num_rows = &kRows,
               .max_rows = kRows} {
    RmsNormRef(params);
    magnitude = expected;
    for (float& value : magnitude) value = std::abs(value);
  }
  RmsNormData(const RmsNormData&) = delete;

  std::string Name() const {
    return "dim " + std::to_string(params.dim) + " group " + std::to_string(params.group_dim);
  }

  int64_t stride;
  bool has_gate, has_addend;
  std::vector<float> input, gate, addend;          // [kRows, stride]
  std::vector<float> weight, expected, magnitude;  // the latter two: [kRows, dim]
  RmsNormParams params;                            // of the arrays above

 private:
  std::vector<float> Rows(const RmsNormCase& c, uint32_t seed, float limit) const {
    std::vector<float> values = RandomValues(kRows * stride, seed, -limit, limit);
    for (int64_t r = 0; r < kRows; ++r) {
      std::fill_n(values.begin() + r * stride + c.dim, c.gap, kPoison);
    }
    return values;
  }
};

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_RMS_NORM_CASES_H_
