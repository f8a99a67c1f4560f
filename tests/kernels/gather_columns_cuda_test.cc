#include "kernels/gather_columns.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/testing/cuda_backend.h"
#include "tests/testing/random_values.h"

namespace sidewinder {
namespace {

class GatherColumnsCudaTest : public testing::CudaTest {};

TEST_F(GatherColumnsCudaTest, CopiesColumns) {
  constexpr int32_t kRows{9};
  for (const int64_t dim : {1, 3, 128, 257, 4096}) {
    SCOPED_TRACE("dim " + std::to_string(dim));
    const int64_t columns = dim / 2 + 1, input_stride = columns + 3, output_stride = dim + 2;
    const std::vector<float> values = testing::RandomValues(kRows * input_stride, 1);
    std::vector<int32_t> column(dim);
    for (int64_t i = 0; i < dim; ++i) column[i] = static_cast<int32_t>((i * 7 + 1) % columns);
    const auto input = Upload(values);
    const auto device_column = Upload(column);
    for (const int32_t rows : {0, 1, 8, 9}) {
      const auto output = Poisoned<float>(kRows * output_stride);
      const auto num_rows = Upload(std::vector<int32_t>{rows});
      GatherColumns(ctx(), {.input = input.data(),
                            .column = device_column.data(),
                            .output = output.data(),
                            .dim = dim,
                            .input_stride = input_stride,
                            .output_stride = output_stride,
                            .num_rows = num_rows.data(),
                            .max_rows = kRows});
      const std::vector<float> actual = output.Download();
      EXPECT_TRUE(output.Intact());
      for (size_t i = 0; i < actual.size(); ++i) {
        const int64_t r = i / output_stride, c = i % output_stride;
        if (r >= rows || c >= dim) {
          ASSERT_TRUE(std::isnan(actual[i]));
        } else {
          ASSERT_EQ(actual[i], values[r * input_stride + column[c]]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sidewinder
