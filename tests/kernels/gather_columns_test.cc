#include "kernels/gather_columns.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"

namespace sidewinder {
namespace {

using testing::GuardedBuffer;

TEST(GatherColumnsTest, CopiesColumns) {
  constexpr int32_t kRows{9};
  for (const int64_t dim : {1, 3, 64, 257, 4096}) {
    SCOPED_TRACE("dim " + std::to_string(dim));
    const int64_t columns = dim / 2 + 1, input_stride = columns + 3, output_stride = dim + 2;
    const std::vector<float> input = testing::RandomValues(kRows * input_stride, 1);
    std::vector<int32_t> column(dim);
    for (int64_t i = 0; i < dim; ++i) column[i] = static_cast<int32_t>((i * 7 + 1) % columns);
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      ExecutionContext ctx{.device = DeviceType::kCpu, .pool = &pool};
      for (int32_t rows = 0; rows <= kRows; ++rows) {
        GuardedBuffer actual(kRows * output_stride), expected(kRows * output_stride);
        GatherColumnsParams params = {.input = input.data(),
                                      .column = column.data(),
                                      .output = actual.data(),
                                      .dim = dim,
                                      .input_stride = input_stride,
                                      .output_stride = output_stride,
                                      .num_rows = &rows};
        GatherColumns(ctx, params);
        params.output = expected.data();
        GatherColumnsRef(params);
        for (int64_t i = 0; i < actual.size(); ++i) {
          const int64_t r = i / output_stride, c = i % output_stride;
          if (r >= rows || c >= dim) {
            ASSERT_TRUE(std::isnan(actual[i]));
          } else {
            ASSERT_EQ(actual[i], expected[i]);
            ASSERT_EQ(actual[i], input[r * input_stride + column[c]]);
          }
        }
        ASSERT_TRUE(actual.Intact());
      }
    }
  }
}

}  // namespace
}  // namespace sidewinder
