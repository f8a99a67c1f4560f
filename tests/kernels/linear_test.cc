#include "kernels/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/common/amx.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"
#include "tests/testing/simd_backend.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::ExpectWithin;
using testing::GuardedBuffer;
using testing::LinearRoundings;
using testing::RandomValues;
using testing::RandomWeights;

constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};

struct Shape {
  int64_t out_dim, in_dim;
};
constexpr Shape kHostileShapes[] = {{1, 1},   {2, 3},    {3, 2},    {31, 33},  {33, 31},
                                    {32, 32}, {4, 64},   {5, 127},  {17, 128}, {67, 257},
                                    {1, 509}, {7, 1030}, {36, 256}, {580, 128}};

// The absolute values, as the reference's inputs for the magnitude.
std::vector<float> Abs(std::vector<float> values) {
  for (float& value : values) value = std::abs(value);
  return values;
}

std::vector<char> AbsWeights(std::vector<char> bytes, DType dtype, int64_t offset) {
  for (size_t i = offset + SizeOf(dtype) - 1; i < bytes.size(); i += SizeOf(dtype))
    bytes[i] &= 0x7f;
  return bytes;
}

// Suites run with and without the matrix unit, which only the widest SIMD target uses.
class LinearTest : public testing::SimdBackendTest {
 protected:
  void MatchesReference();
  void BitsOfARowDependOnNothingElse();
  void ScalesBeforeItAdds();
  void ManyRowsHaveTheBitsOfOne();
};

class LinearWithoutAmxTest : public LinearTest {
 protected:
  void SetUp() override {
    LinearTest::SetUp();
    SetAmxEnabled(false);
  }
  void TearDown() override {
    SetAmxEnabled(true);
    LinearTest::TearDown();
  }
};

TEST_P(LinearTest, GoldenValues) {
  const float weight[] = {1, 2, 3, 4, -1, 0.5f};  // [2, 3]
  const uint16_t bfloat16[] = {0x3f80, 0x4000, 0x4040, 0x4080, 0xbf80, 0x3f00};
  const uint16_t float16[] = {0x3c00, 0x4000, 0x4200, 0x4400, 0xbc00, 0x3800};
  const float input[] = {1, 10, 100, 0.5f, 0.25f, -8};
  const float bias[] = {1000, 2000};
  const int32_t rows = 2;
  ExecutionContext ctx = Context(1);
  const void* stored[] = {weight, bfloat16, float16};
  for (int i = 0; i < 3; ++i) {
    float output[4] = {};
    Linear(ctx, {.weight = stored[i],
                 .weight_dtype = kDTypes[i],
                 .bias = nullptr,
                 .input = input,
                 .row_index = nullptr,
                 .output = output,
                 .in_dim = 3,
                 .out_dim = 2,
                 .input_stride = 3,
                 .output_stride = 2,
                 .accumulate = false,
                 .num_rows = &rows});
    EXPECT_EQ(std::vector<float>(output, output + 4), (std::vector<float>{321, 44, -23, -2.25f}));
    const int32_t from[] = {1, 0};
    Linear(ctx, {.weight = stored[i],
                 .weight_dtype = kDTypes[i],
                 .bias = bias,
                 .input = input,
                 .row_index = from,
                 .output = output,
                 .in_dim = 3,
                 .out_dim = 2,
                 .input_stride = 3,
                 .output_stride = 2,
                 .accumulate = true,
                 .num_rows = &rows});
    EXPECT_EQ(std::vector<float>(output, output + 4),
              (std::vector<float>{321 + 1000 - 23, 44 + 2000 - 2.25f, -23 + 1000 + 321,
                                  -2.25f + 2000 + 44}));
    const float scale[] = {2, -0.5f};
    float scaled[] = {1, 1, 1, 1};
    Linear(ctx, {.weight = stored[i],
                 .weight_dtype = kDTypes[i],
                 .bias = bias,
                 .scale = scale,
                 .input = input,
                 .row_index = nullptr,
                 .output = scaled,
                 .in_dim = 3,
                 .out_dim = 2,
                 .input_stride = 3,
                 .output_stride = 2,
                 .accumulate = true,
                 .num_rows = &rows});
    EXPECT_EQ(
        std::vector<float>(scaled, scaled + 4),
        (std::vector<float>{2 * 1321 + 1, -0.5f * 2044 + 1, 2 * 977 + 1, -0.5f * 1997.75f + 1}));
  }
}

void LinearTest::MatchesReference() {
  ExecutionContext ctx = Context(2);
  for (const DType dtype : kDTypes) {
    for (const Shape shape : kHostileShapes) {
      for (const int32_t rows : {1, 2, 5, 13}) {
        SCOPED_TRACE(std::string(Name(dtype)) + " " + std::to_string(shape.out_dim) + "x" +
                     std::to_string(shape.in_dim) + " rows " + std::to_string(rows));
        const int64_t offset = SizeOf(dtype);
        const std::vector<char> weight =
            RandomWeights(shape.out_dim * shape.in_dim, dtype, 1, offset);
        const std::vector<char> abs_weight = AbsWeights(weight, dtype, offset);
        const int64_t input_stride = shape.in_dim + 3, output_stride = shape.out_dim + 2;
        std::vector<float> input = RandomValues(rows * input_stride, 2);
        for (int64_t r = 0; r < rows; ++r) {  // what lies between the rows must not be read
          std::fill_n(input.begin() + r * input_stride + shape.in_dim, 3, testing::kPoison);
        }
        const std::vector<float> bias = RandomValues(shape.out_dim, 3);
        const std::vector<float> old = RandomValues(rows * output_stride, 4);
        const std::vector<float> scale = RandomValues(shape.out_dim, 5, -3, 3);
        const std::vector<float> abs_input = Abs(input), abs_bias = Abs(bias);
        const std::vector<float> abs_scale = Abs(scale);
        std::vector<float> expected = old, magnitude = Abs(old);
        GuardedBuffer actual(old);
        LinearParams params = {.weight = weight.data() + offset,
                               .weight_dtype = dtype,
                               .bias = bias.data(),
                               .scale = rows % 2 == 1 ? scale.data() : nullptr,
                               .input = input.data(),
                               .row_index = nullptr,
                               .output = actual.data(),
                               .in_dim = shape.in_dim,
                               .out_dim = shape.out_dim,
                               .input_stride = input_stride,
                               .output_stride = output_stride,
                               .accumulate = true,
                               .num_rows = &rows};
        Linear(ctx, params);
        params.output = expected.data();
        LinearRef(params);
        params.weight = abs_weight.data() + offset;
        params.input = abs_input.data();
        params.bias = abs_bias.data();
        if (params.scale != nullptr) params.scale = abs_scale.data();
        params.output = magnitude.data();
        LinearRef(params);
        ExpectWithin(actual.data(), expected.data(), magnitude.data(), actual.size(),
                     LinearRoundings(shape.in_dim), "output");
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t i = shape.out_dim; i < output_stride; ++i) {
            EXPECT_EQ(actual[r * output_stride + i], old[r * output_stride + i]);
          }
        }
        EXPECT_TRUE(actual.Intact());
      }
    }
  }
}

TEST_P(LinearTest, ZeroRowsWriteNothing) {
  const std::vector<char> weight = RandomWeights(64, DType::kFloat32, 1);
  const int32_t rows = 0;
  ExecutionContext ctx = Context(2);
  Linear(ctx, {.weight = weight.data(),
               .weight_dtype = DType::kFloat32,
               .bias = nullptr,
               .input = nullptr,
               .row_index = nullptr,
               .output = nullptr,
               .in_dim = 8,
               .out_dim = 8,
               .input_stride = 8,
               .output_stride = 8,
               .accumulate = false,
               .num_rows = &rows});
}

// The contract that speculation rests on.
void LinearTest::BitsOfARowDependOnNothingElse() {
  constexpr int32_t kMaxRows{17};
  std::vector<ExecutionContext> contexts;
  for (int threads : {1, 2, 3, 5}) contexts.push_back(Context(threads));
  for (const DType dtype : kDTypes) {
    for (const Shape shape : {Shape{7, 1030}, Shape{67, 257}, Shape{131, 320}, Shape{1, 3}}) {
      SCOPED_TRACE(std::string(Name(dtype)) + " " + std::to_string(shape.out_dim) + "x" +
                   std::to_string(shape.in_dim));
      const std::vector<char> weight = RandomWeights(shape.out_dim * shape.in_dim, dtype, 1);
      const std::vector<char> misaligned =
          RandomWeights(shape.out_dim * shape.in_dim, dtype, 1, SizeOf(dtype));
      const std::vector<float> input = RandomValues(kMaxRows * shape.in_dim, 2);
      const std::vector<float> bias = RandomValues(shape.out_dim, 3);
      LinearParams params = {.weight = weight.data(),
                             .weight_dtype = dtype,
                             .bias = bias.data(),
                             .input = input.data(),
                             .row_index = nullptr,
                             .output = nullptr,
                             .in_dim = shape.in_dim,
                             .out_dim = shape.out_dim,
                             .input_stride = shape.in_dim,
                             .output_stride = shape.out_dim,
                             .accumulate = false,
                             .num_rows = nullptr};
      std::vector<float> alone(kMaxRows * shape.out_dim);
      for (int32_t r = 0; r < kMaxRows; ++r) {
        const int32_t one = 1;
        params.num_rows = &one;
        params.row_index = &r;
        params.output = alone.data() + r * shape.out_dim;
        Linear(contexts[0], params);
      }
      params.weight = misaligned.data() + SizeOf(dtype);
      for (int32_t rows = 1; rows <= kMaxRows; ++rows) {
        std::vector<int32_t> from(rows);
        for (int32_t r = 0; r < rows; ++r) from[r] = (r * 5 + rows) % kMaxRows;
        params.num_rows = &rows;
        params.row_index = from.data();
        for (ExecutionContext& ctx : contexts) {
          GuardedBuffer together(rows * shape.out_dim);
          params.output = together.data();
          Linear(ctx, params);
          for (int32_t r = 0; r < rows; ++r) {
            ASSERT_EQ(
                std::memcmp(together.data() + r * shape.out_dim,
                            alone.data() + from[r] * shape.out_dim, shape.out_dim * sizeof(float)),
                0)
                << "row " << r << " of " << rows << ", threads " << ctx.pool->num_threads();
          }
          ASSERT_TRUE(together.Intact());
        }
      }
    }
  }
}

// Product and bias, then the scale, then the old output, each rounded.
void LinearTest::ScalesBeforeItAdds() {
  ExecutionContext ctx = Context(2);
  const Shape shape{67, 96};
  const int32_t rows = 7;
  for (const DType dtype : kDTypes) {
    SCOPED_TRACE(Name(dtype));
    const std::vector<char> weight = RandomWeights(shape.out_dim * shape.in_dim, dtype, 1);
    const std::vector<float> input = RandomValues(rows * shape.in_dim, 2);
    const std::vector<float> bias = RandomValues(shape.out_dim, 3);
    const std::vector<float> scale = RandomValues(shape.out_dim, 4, -3, 3);
    const std::vector<float> old = RandomValues(rows * shape.out_dim, 5);
    std::vector<float> plain(old.size()), scaled(old.size()), added = old;
    LinearParams params = {.weight = weight.data(),
                           .weight_dtype = dtype,
                           .bias = bias.data(),
                           .input = input.data(),
                           .row_index = nullptr,
                           .output = plain.data(),
                           .in_dim = shape.in_dim,
                           .out_dim = shape.out_dim,
                           .input_stride = shape.in_dim,
                           .output_stride = shape.out_dim,
                           .accumulate = false,
                           .num_rows = &rows};
    Linear(ctx, params);
    params.scale = scale.data();
    params.output = scaled.data();
    Linear(ctx, params);
    params.accumulate = true;
    params.output = added.data();
    Linear(ctx, params);
    for (size_t i = 0; i < old.size(); ++i) {
      ASSERT_EQ(scaled[i], plain[i] * scale[i % shape.out_dim]) << i;
      ASSERT_EQ(added[i], scaled[i] + old[i]) << i;
    }
  }
}

// Blocks of a prefill, large enough to be cut in every direction.
void LinearTest::ManyRowsHaveTheBitsOfOne() {
  const Shape shape{300, 640};
  const int32_t rows = 203, one = 1;
  const std::vector<char> weight = RandomWeights(shape.out_dim * shape.in_dim, DType::kBFloat16, 1);
  const std::vector<float> input = RandomValues(rows * shape.in_dim, 2);
  std::vector<float> together(rows * shape.out_dim), alone(shape.out_dim);
  LinearParams params = {.weight = weight.data(),
                         .weight_dtype = DType::kBFloat16,
                         .bias = nullptr,
                         .input = input.data(),
                         .row_index = nullptr,
                         .output = together.data(),
                         .in_dim = shape.in_dim,
                         .out_dim = shape.out_dim,
                         .input_stride = shape.in_dim,
                         .output_stride = shape.out_dim,
                         .accumulate = false,
                         .num_rows = &rows};
  ExecutionContext ctx = Context(2);
  Linear(ctx, params);
  for (int32_t r = 0; r < rows; r += 7) {
    params.num_rows = &one;
    params.row_index = &r;
    params.output = alone.data();
    Linear(ctx, params);
    ASSERT_EQ(std::memcmp(together.data() + r * shape.out_dim, alone.data(),
                          shape.out_dim * sizeof(float)),
              0)
        << "row " << r;
  }
}

TEST_P(LinearTest, MatchesReference) { LinearTest::MatchesReference(); }
TEST_P(LinearWithoutAmxTest, MatchesReference) { LinearTest::MatchesReference(); }
TEST_P(LinearTest, BitsOfARowDependOnNothingElse) { LinearTest::BitsOfARowDependOnNothingElse(); }
TEST_P(LinearWithoutAmxTest, BitsOfARowDependOnNothingElse) {
  LinearTest::BitsOfARowDependOnNothingElse();
}
TEST_P(LinearTest, ScalesBeforeItAdds) { LinearTest::ScalesBeforeItAdds(); }
TEST_P(LinearWithoutAmxTest, ScalesBeforeItAdds) { LinearTest::ScalesBeforeItAdds(); }
TEST_P(LinearTest, ManyRowsHaveTheBitsOfOne) { LinearTest::ManyRowsHaveTheBitsOfOne(); }
TEST_P(LinearWithoutAmxTest, ManyRowsHaveTheBitsOfOne) { LinearTest::ManyRowsHaveTheBitsOfOne(); }

// Infinities and NaN reach the outputs that they belong to, and only those.
TEST_P(LinearTest, InfinityAndNanStayInTheirRow) {
  constexpr int64_t kIn{64}, kOut{33};
  constexpr int32_t kRows{7};
  std::vector<char> weight = RandomWeights(kOut * kIn, DType::kBFloat16, 1);
  for (size_t i = 0; i < weight.size(); i += 2) weight[i] |= 1;  // no zeros
  std::vector<float> input = RandomValues(kRows * kIn, 2);
  input[2 * kIn + 5] = std::numeric_limits<float>::infinity();
  input[3 * kIn + 63] = testing::kPoison;
  input[4 * kIn + 1] = std::numeric_limits<float>::max();
  input[5 * kIn + 1] = 0x1p-140f;
  std::vector<float> output(kRows * kOut), expected(kRows * kOut);
  LinearParams params = {.weight = weight.data(),
                         .weight_dtype = DType::kBFloat16,
                         .bias = nullptr,
                         .input = input.data(),
                         .row_index = nullptr,
                         .output = output.data(),
                         .in_dim = kIn,
                         .out_dim = kOut,
                         .input_stride = kIn,
                         .output_stride = kOut,
                         .accumulate = false,
                         .num_rows = &kRows};
  ExecutionContext ctx = Context(1);
  Linear(ctx, params);
  params.output = expected.data();
  LinearRef(params);
  for (int64_t i = 0; i < kRows * kOut; ++i) {
    if (std::isfinite(expected[i])) {
      EXPECT_TRUE(std::isfinite(output[i])) << i;
    } else if (std::isnan(expected[i])) {
      EXPECT_TRUE(std::isnan(output[i])) << i;
    } else {
      EXPECT_EQ(output[i], expected[i]) << i;
    }
  }
}

SW_INSTANTIATE_SIMD_TESTS(LinearTest);
SW_INSTANTIATE_SIMD_TESTS(LinearWithoutAmxTest);

}  // namespace
}  // namespace sidewinder
