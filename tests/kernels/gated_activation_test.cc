#include "kernels/gated_activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "tests/testing/gated_activation_cases.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/simd_backend.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::ExpectWithin;
using testing::GatedActivationCase;
using testing::GatedActivationData;
using testing::GuardedBuffer;
using testing::kActivations;
using testing::kPoison;

class GatedActivationTest : public testing::SimdBackendTest {
 protected:
  std::vector<float> Activate(Activation activation, const std::vector<float>& gate,
                              const float* up = nullptr) {
    const int32_t rows = 1;
    const int64_t dim = static_cast<int64_t>(gate.size());
    std::vector<float> output(dim);
    ExecutionContext ctx = Context(1);
    GatedActivation(ctx, {.gate = gate.data(),
                          .up = up,
                          .output = output.data(),
                          .dim = dim,
                          .gate_stride = dim,
                          .up_stride = dim,
                          .output_stride = dim,
                          .activation = activation,
                          .num_rows = &rows});
    return output;
  }
};

TEST_P(GatedActivationTest, GoldenValues) {
  const std::vector<float> gate = {0, -2, 3};
  const float up[] = {7, 0.5f, 2};
  EXPECT_EQ(Activate(Activation::kRelu2, gate), (std::vector<float>{0, 0, 9}));
  EXPECT_EQ(Activate(Activation::kRelu2, gate, up), (std::vector<float>{0, 0, 18}));
  const std::vector<float> silu = Activate(Activation::kSilu, gate, up);
  EXPECT_FLOAT_EQ(silu[1], -0.119202922f);
  EXPECT_FLOAT_EQ(silu[2], 5.71544476f);
  const std::vector<float> gelu = Activate(Activation::kGelu, gate);
  EXPECT_EQ(gelu[0], 0);
  EXPECT_NEAR(gelu[1], -0.0455002639f, 2e-7);
  EXPECT_FLOAT_EQ(gelu[2], 2.9959503f);
  const std::vector<float> sigmoid = Activate(Activation::kSigmoid, gate);
  EXPECT_FLOAT_EQ(sigmoid[0], 0.5f);
  EXPECT_FLOAT_EQ(sigmoid[1], 0.119202922f);
  for (const Activation activation : kActivations) {
    EXPECT_TRUE(std::isnan(Activate(activation, {kPoison})[0]));
    EXPECT_EQ(Activate(activation, {INFINITY})[0],
              activation == Activation::kSigmoid ? 1 : INFINITY);
  }
}

TEST_P(GatedActivationTest, EveryMagnitude) {
  std::vector<float> gate;
  for (float a = -20; a <= 20; a += 0.00037f) gate.push_back(a);
  for (int exponent = -60; exponent < 4; ++exponent) {
    gate.push_back(std::ldexp(1.1f, exponent));
    gate.push_back(-gate.back());
  }
  const int32_t rows = 1;
  for (const Activation activation : kActivations) {
    const std::vector<float> actual = Activate(activation, gate);
    std::vector<float> expected(gate.size()), magnitude(gate.size());
    GatedActivationRef({.gate = gate.data(),
                        .up = nullptr,
                        .output = expected.data(),
                        .dim = static_cast<int64_t>(gate.size()),
                        .activation = activation,
                        .num_rows = &rows});
    for (size_t i = 0; i < gate.size(); ++i) {
      magnitude[i] = std::abs(activation == Activation::kGelu ? gate[i] : expected[i]);
    }
    ExpectWithin(actual.data(), expected.data(), magnitude.data(), actual.size(),
                 testing::kGatedActivationRoundings, "output");
  }
}

TEST_P(GatedActivationTest, MatchesReferenceAndRowsStandAlone) {
  for (const GatedActivationCase& c : testing::kGatedActivationCases) {
    for (const Activation activation : kActivations) {
      const GatedActivationData data(c, activation);
      SCOPED_TRACE(data.Name());
      GatedActivationParams params = data.params;
      int32_t rows;
      params.num_rows = &rows;
      std::vector<float> together;
      for (const int threads : {1, 2, 3, 5}) {
        ExecutionContext ctx = Context(threads);
        for (rows = data.kRows; rows >= 0; rows -= 3) {
          GuardedBuffer output(data.all_rows * c.dim);
          params.output = output.data();
          GatedActivation(ctx, params);
          const int64_t size = rows * c.rows_factor * c.dim;
          if (together.empty()) {
            together.assign(output.data(), output.data() + output.size());
            ExpectWithin(output.data(), data.expected.data(), data.magnitude.data(), size,
                         testing::kGatedActivationRoundings, "output");
          }
          ASSERT_EQ(std::memcmp(output.data(), together.data(), size * sizeof(float)), 0);
          ASSERT_TRUE(size == output.size() || std::isnan(output[size]));
          ASSERT_TRUE(output.Intact());
        }
      }
      // In place, over the gate and over `up`.
      rows = data.kRows;
      ExecutionContext ctx = Context(2);
      for (const bool over_up : {false, true}) {
        if (over_up && !c.up) continue;
        GuardedBuffer in_place(over_up ? data.up : data.gate);
        GatedActivationParams p = params;
        (over_up ? p.up : p.gate) = in_place.data();
        p.output = in_place.data();
        p.output_stride = data.stride;
        GatedActivation(ctx, p);
        for (int64_t r = 0; r < data.all_rows; ++r) {
          ASSERT_EQ(std::memcmp(in_place.data() + r * data.stride, together.data() + r * c.dim,
                                c.dim * sizeof(float)),
                    0);
          ASSERT_TRUE(std::isnan(in_place[r * data.stride + c.dim]));
        }
      }
    }
  }
}

SW_INSTANTIATE_SIMD_TESTS(GatedActivationTest);

}  // namespace
}  // namespace sidewinder
