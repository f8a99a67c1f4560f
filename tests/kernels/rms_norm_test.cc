#include "kernels/rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "tests/testing/guarded_buffer.h"
#include "tests/testing/rms_norm_cases.h"
#include "tests/testing/simd_backend.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::ExpectWithin;
using testing::GuardedBuffer;
using testing::RmsNormCase;
using testing::RmsNormData;

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

TEST_P(RmsNormTest, MatchesReferenceAndRowsStandAlone) {
  for (RmsNormCase c : testing::kRmsNormCases) {
    c.gap = 5;  // rows begin at every alignment
    const RmsNormData data(c);
    SCOPED_TRACE(data.Name());
    constexpr int32_t kRows{RmsNormData::kRows};
    const int64_t stride = data.stride;
    RmsNormParams params = data.params;
    int32_t rows;
    params.num_rows = &rows;

    GuardedBuffer alone(kRows * c.dim);
    ExecutionContext one = Context(1);
    for (int64_t r = 0; r < kRows; ++r) {
      rows = 1;
      params.input = data.input.data() + r * stride;
      params.addend = data.has_addend ? data.addend.data() + r * stride : nullptr;
      params.gate = data.has_gate ? data.gate.data() + r * stride : nullptr;
      params.output = alone.data() + r * c.dim;
      RmsNorm(one, params);
    }
    ExpectWithin(alone.data(), data.expected.data(), data.magnitude.data(), alone.size(),
                 testing::RmsNormRoundings(c.group_dim), "output");
    EXPECT_TRUE(alone.Intact());

    params.input = data.params.input;
    params.addend = data.params.addend;
    params.gate = data.params.gate;
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
    GuardedBuffer in_place(data.input);  // output may equal input
    params.input = params.output = in_place.data();
    params.output_stride = stride;
    RmsNorm(one, params);
    for (int64_t r = 0; r < kRows; ++r) {
      ASSERT_EQ(std::memcmp(in_place.data() + r * stride, alone.data() + r * c.dim,
                            c.dim * sizeof(float)),
                0);
      for (int64_t i = c.dim; i < stride; ++i) ASSERT_TRUE(std::isnan(in_place[r * stride + i]));
    }
  }
}

SW_INSTANTIATE_SIMD_TESTS(RmsNormTest);

}  // namespace
}  // namespace sidewinder
