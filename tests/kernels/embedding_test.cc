#include "kernels/embedding.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"
#include "tests/testing/simd_backend.h"

namespace sidewinder {
namespace {

using testing::GuardedBuffer;
using testing::RandomWeights;

class EmbeddingTest : public testing::SimdBackendTest {};

TEST_P(EmbeddingTest, GoldenValues) {
  // Rows {1, -2} and {0.5, smallest subnormal}.
  const float float32[] = {1, -2, 0.5f, 0x1p-149f};
  const uint16_t bfloat16[] = {0x3f80, 0xc000, 0x3f00, 0x0001};
  const uint16_t float16[] = {0x3c00, 0xc000, 0x3800, 0x0001};
  const void* tables[] = {float32, bfloat16, float16};
  const DType dtypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};
  const float smallest[] = {0x1p-149f, 0x1p-133f, 0x1p-24f};
  const int32_t tokens[] = {1, 0, 1};
  const int32_t rows = 3;
  ExecutionContext ctx = Context(1);
  for (int i = 0; i < 3; ++i) {
    float output[6];
    Embedding(ctx, {.table = tables[i],
                    .table_dtype = dtypes[i],
                    .tokens = tokens,
                    .output = output,
                    .dim = 2,
                    .output_stride = 2,
                    .num_rows = &rows});
    EXPECT_EQ(std::vector<float>(output, output + 6),
              (std::vector<float>{0.5f, smallest[i], 1, -2, 0.5f, smallest[i]}));
    float apart[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    Embedding(ctx, {.table = tables[i],
                    .table_dtype = dtypes[i],
                    .tokens = tokens,
                    .output = apart,
                    .dim = 2,
                    .output_stride = 3,
                    .scale = 12,
                    .num_rows = &rows});
    EXPECT_EQ(std::vector<float>(apart, apart + 8),
              (std::vector<float>{6, 12 * smallest[i], 9, 12, -24, 9, 6, 12 * smallest[i]}));
  }
}

TEST_P(EmbeddingTest, IsTheReferenceExactly) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    for (const int64_t dim : {1, 2, 3, 31, 32, 33, 127, 320, 2560}) {
      for (const int32_t rows : {0, 1, 7, 64}) {
        const int64_t stride = dim + rows % 4;  // gaps of 0, 1 and 3 elements
        const std::vector<char> table = RandomWeights(11 * dim, dtype, 5, SizeOf(dtype));
        std::vector<int32_t> tokens(rows);
        for (int32_t r = 0; r < rows; ++r) tokens[r] = (r * 7 + 10) % 11;
        std::vector<float> expected(rows * stride, 0.5f);
        EmbeddingParams params = {.table = table.data() + SizeOf(dtype),
                                  .table_dtype = dtype,
                                  .tokens = tokens.data(),
                                  .output = expected.data(),
                                  .dim = dim,
                                  .output_stride = stride,
                                  .scale = rows == 64 ? 1.0f : 0.3f,
                                  .num_rows = &rows};
        EmbeddingRef(params);
        for (const int threads : {1, 3}) {
          GuardedBuffer actual(rows * stride, 0.5f);
          params.output = actual.data();
          ExecutionContext ctx = Context(threads);
          Embedding(ctx, params);
          for (int64_t i = 0; i < actual.size(); ++i) ASSERT_EQ(actual[i], expected[i]);
          ASSERT_TRUE(actual.Intact());
        }
      }
    }
  }
}

SW_INSTANTIATE_SIMD_TESTS(EmbeddingTest);

}  // namespace
}  // namespace sidewinder
