#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/embedding.h"
#include "kernels/pack_weights.h"
#include "tests/testing/cuda_backend.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"

namespace sidewinder {
namespace {

class EmbeddingCudaTest : public testing::CudaTest {};

// As it lies on a GPU: 16-bit types packed, what lies beyond the matrix poison (NaN).
std::vector<char> Pack(const std::vector<char>& row_major, DType dtype, int64_t vocab,
                       int64_t dim) {
  if (dtype == DType::kFloat32) return row_major;
  std::vector<char> packed(PackedBytes(vocab, dim), '\xff');
  for (int64_t row = 0; row < vocab; ++row) {
    for (int64_t column = 0; column < dim; ++column) {
      std::memcpy(packed.data() + 2 * PackedIndex(row, column, dim),
                  row_major.data() + 2 * (row * dim + column), 2);
    }
  }
  return packed;
}

TEST_F(EmbeddingCudaTest, IsTheReferenceExactly) {
  constexpr int64_t kVocab{43};
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    for (const int64_t dim : {1, 2, 3, 15, 16, 17, 31, 32, 33, 127, 320, 2560}) {
      const std::vector<char> table = testing::RandomWeights(kVocab * dim, dtype, 5);
      const auto device_table = Upload(Pack(table, dtype, kVocab, dim));
      for (const int32_t rows : {0, 1, 7, 64, 5000}) {
        SCOPED_TRACE(std::string(Name(dtype)) + " dim " + std::to_string(dim) + " rows " +
                     std::to_string(rows));
        if (rows > 64 && dim > 33) continue;
        std::vector<int32_t> tokens(rows);
        for (int32_t r = 0; r < rows; ++r) tokens[r] = (r * 7 + 10) % kVocab;
        // Gaps of 0, 1 and 3 elements, which stay poison.
        const int64_t stride = dim + rows % 4;
        std::vector<float> expected(rows * stride, testing::kPoison);
        EmbeddingParams params = {.table = table.data(),
                                  .table_dtype = dtype,
                                  .tokens = tokens.data(),
                                  .output = expected.data(),
                                  .dim = dim,
                                  .output_stride = stride,
                                  .scale = rows == 64 ? 1.0f : 0.3f,
                                  .num_rows = &rows,
                                  .max_rows = rows + 3};
        EmbeddingRef(params);
        const auto device_tokens = Upload(tokens);
        const auto num_rows = Upload(std::vector<int32_t>{rows});
        const auto output = Poisoned<float>((rows + 3) * stride, rows == 7);
        params.table = device_table.data();
        params.tokens = device_tokens.data();
        params.output = output.data();
        params.num_rows = num_rows.data();
        Embedding(ctx(), params);
        const std::vector<float> actual = output.Download();
        for (size_t i = 0; i < actual.size(); ++i) {
          if (i < expected.size() && !std::isnan(expected[i])) {
            ASSERT_EQ(actual[i], expected[i]) << i;
          } else {
            ASSERT_TRUE(std::isnan(actual[i])) << i;
          }
        }
        ASSERT_TRUE(output.Intact());
      }
    }
  }
}

}  // namespace
}  // namespace sidewinder
