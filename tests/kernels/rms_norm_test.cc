#include "kernels/rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"
#include "tests/testing/simd_backend.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::ExpectWithin;
using testing::GuardedBuffer;
using testing::kPoison;
using testing::RandomValues;

class RmsNormTest : public testing::SimdBackendTest {};

TEST_P(RmsNormTest, GoldenValues) {
  const float input[] = {3, 4, 0, 0}, weight[] = {1, 2, 3, 4};
  const int32_t rows = 1;
  float output[4];
  ExecutionContext ctx = Context(1);
  RmsNormParams params = {.input = input,
                          .gate = nullptr,
                          .weight = weight,
                          .output = output,
                          .dim = 4,
                          .group_dim = 4,
                          .input_stride = 4,
                          .gate_stride = 0,
                          .output_stride = 4,
                          .eps = 0,
                          .num_rows = &rows};
  RmsNorm(ctx, params);  // mean of squares 6.25
  EXPECT_FLOAT_EQ(output[0], 1.2f);
  EXPECT_FLOAT_EQ(output[1], 3.2f);
  EXPECT_EQ(output[2], 0);
  params.group_dim = 2;
  params.eps = 12.5f;
  RmsNorm(ctx, params);  // mean of squares 12.5 + 12.5, and 0 + 12.5
  EXPECT_FLOAT_EQ(output[0], 0.6f);
  EXPECT_FLOAT_EQ(output[1], 1.6f);
  EXPECT_EQ(output[3], 0);
  const float gate[] = {0, 100, 0, 0};  // silu: 0, 100
  params.gate = gate;
  params.gate_stride = 4;
  params.eps = 0;
  RmsNorm(ctx, {params});
  EXPECT_EQ(output[0], 0);
  EXPECT_FLOAT_EQ(output[1], 2 * std::sqrt(2.0f));
  EXPECT_TRUE(std::isnan(output[2]));  // 0 / 0: the group is all zeros and eps is zero
  params.gate_last = true;
  params.eps = 12.5f;
  RmsNorm(ctx, {params});  // 0.6, 1.6 and 0 of the groups without a gate, times 0 and 100
  EXPECT_EQ(output[0], 0);
  EXPECT_FLOAT_EQ(output[1], 160);
  EXPECT_EQ(output[2], 0);
  const float addend[] = {-3, 0, 0, 4};
  RmsNorm(ctx, {.input = input,
                .addend = addend,
                .gate = nullptr,
                .weight = weight,
                .output = output,
                .dim = 4,
                .group_dim = 4,
                .input_stride = 4,
                .addend_stride = 4,
                .gate_stride = 0,
                .output_stride = 4,
                .eps = 0,
                .num_rows = &rows});  // {0, 4, 0, 4}: mean of squares 8
  EXPECT_EQ(output[0], 0);
  EXPECT_FLOAT_EQ(output[1], 2 * std::sqrt(2.0f));
  EXPECT_FLOAT_EQ(output[3], 4 * std::sqrt(2.0f));
}

enum class Form { kPlain, kSum, kGateFirst, kGateLast };
using enum Form;
struct Case {
  int64_t dim, group_dim;
  Form form;
  bool weight;
};
constexpr Case kCases[] = {
    {1, 1, kPlain, true},         {2, 2, kGateFirst, true},     {3, 1, kGateFirst, false},
    {31, 31, kPlain, true},       {32, 32, kGateFirst, true},   {33, 11, kGateFirst, true},
    {127, 127, kGateFirst, true}, {320, 320, kPlain, true},     {640, 320, kGateFirst, true},
    {1031, 1031, kPlain, false},  {2560, 2560, kPlain, true},   {1, 1, kSum, true},
    {33, 33, kSum, false},        {127, 127, kSum, true},       {320, 320, kSum, true},
    {2, 1, kGateLast, true},      {31, 31, kGateLast, false},   {66, 33, kGateLast, true},
    {512, 128, kGateLast, true},  {1031, 1031, kGateLast, true}};

TEST_P(RmsNormTest, MatchesReferenceAndRowsStandAlone) {
  for (const Case& c : kCases) {
    SCOPED_TRACE("dim " + std::to_string(c.dim) + " group " + std::to_string(c.group_dim));
    constexpr int32_t kRows{17};
    const int64_t stride = c.dim + 5;
    std::vector<float> input = RandomValues(kRows * stride, 1, -3, 3);
    std::vector<float> gate = RandomValues(kRows * stride, 2, -8, 8);
    std::vector<float> addend = RandomValues(kRows * stride, 4, -3, 3);
    for (std::vector<float>* values : {&input, &gate, &addend}) {
      for (int64_t r = 0; r < kRows; ++r) {
        std::fill_n(values->begin() + r * stride + c.dim, 5, kPoison);
      }
    }
    const bool has_gate = c.form == kGateFirst || c.form == kGateLast, has_addend = c.form == kSum;
    const std::vector<float> weight = RandomValues(c.dim, 3);
    int32_t rows = kRows;
    std::vector<float> expected(kRows * c.dim);
    RmsNormParams params = {.input = input.data(),
                            .addend = has_addend ? addend.data() : nullptr,
                            .gate = has_gate ? gate.data() : nullptr,
                            .gate_last = c.form == kGateLast,
                            .weight = c.weight ? weight.data() : nullptr,
                            .output = expected.data(),
                            .dim = c.dim,
                            .group_dim = c.group_dim,
                            .input_stride = stride,
                            .addend_stride = stride,
                            .gate_stride = stride,
                            .output_stride = c.dim,
                            .eps = 1e-5f,
                            .num_rows = &rows};
    RmsNormRef(params);
    std::vector<float> magnitude = expected;
    for (float& value : magnitude) value = std::abs(value);

    GuardedBuffer alone(kRows * c.dim);
    ExecutionContext one = Context(1);
    for (int64_t r = 0; r < kRows; ++r) {
      rows = 1;
      params.input = input.data() + r * stride;
      params.addend = has_addend ? addend.data() + r * stride : nullptr;
      params.gate = has_gate ? gate.data() + r * stride : nullptr;
      params.output = alone.data() + r * c.dim;
      RmsNorm(one, params);
    }
    ExpectWithin(alone.data(), expected.data(), magnitude.data(), alone.size(),
                 testing::RmsNormRoundings(c.group_dim), "output");
    EXPECT_TRUE(alone.Intact());

    params.input = input.data();
    params.addend = has_addend ? addend.data() : nullptr;
    params.gate = has_gate ? gate.data() : nullptr;
    for (const int threads : {1, 2, 3, 5}) {
      ExecutionContext ctx = Context(threads);
      for (rows = 0; rows <= kRows; ++rows) {
        GuardedBuffer together(rows * c.dim);
        params.output = together.data();
        RmsNorm(ctx, params);
        ASSERT_EQ(std::memcmp(together.data(), alone.data(), rows * c.dim * sizeof(float)), 0);
        ASSERT_TRUE(together.Intact());
      }
    }
    rows = kRows;
    GuardedBuffer in_place(input);  // output may equal input
    params.input = params.output = in_place.data();
    params.output_stride = stride;
    RmsNorm(one, params);
    for (int64_t r = 0; r < kRows; ++r) {
      ASSERT_EQ(std::memcmp(in_place.data() + r * stride, alone.data() + r * c.dim,
                            c.dim * sizeof(float)),
                0);
      ASSERT_TRUE(std::isnan(in_place[r * stride + c.dim]));
    }
  }
}

SW_INSTANTIATE_SIMD_TESTS(RmsNormTest);

}  // namespace
}  // namespace sidewinder
