#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/rms_norm.h"
#include "tests/testing/cuda_backend.h"
#include "tests/testing/random_values.h"
#include "tests/testing/rms_norm_cases.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::ExpectWithin;
using testing::RandomValues;
using testing::RmsNormCase;
using testing::RmsNormData;

class RmsNormCudaTest : public testing::CudaTest {};

TEST_F(RmsNormCudaTest, MatchesReferenceAndRowsStandAlone) {
  for (const RmsNormCase& c : testing::kRmsNormCases) {
    const RmsNormData data(c);
    SCOPED_TRACE(data.Name());
    constexpr int32_t kRows{RmsNormData::kRows};
    const int64_t stride = data.stride;
    const auto device_input = Upload(data.input, c.misalign);
    const auto device_gate = Upload(data.gate, c.misalign);
    const auto device_weight = Upload(data.weight, c.misalign);
    const auto device_addend = Upload(data.addend, c.misalign);
    RmsNormParams params = data.params;
    params.input = device_input.data();
    params.addend = data.has_addend ? device_addend.data() : nullptr;
    params.gate = data.has_gate ? device_gate.data() : nullptr;
    params.weight = c.weight ? device_weight.data() : nullptr;
    std::vector<float> all;
    for (const int32_t rows : {kRows, 16, 5, 1, 0}) {
      const auto output = Poisoned<float>(kRows * c.dim, c.misalign);
      const auto num_rows = Upload(std::vector<int32_t>{rows});
      params.output = output.data();
      params.num_rows = num_rows.data();
      params.max_rows = rows == 0 ? kRows : rows;
      RmsNorm(ctx(), params);
      const std::vector<float> actual = output.Download();
      EXPECT_TRUE(output.Intact());
      if (rows == kRows) {
        ExpectWithin(actual.data(), data.expected.data(), data.magnitude.data(), rows * c.dim,
                     testing::RmsNormRoundings(c.group_dim), "output");
        all = actual;
      }
      ASSERT_EQ(std::memcmp(actual.data(), all.data(), rows * c.dim * sizeof(float)), 0);
      for (size_t i = rows * c.dim; i < actual.size(); ++i) ASSERT_TRUE(std::isnan(actual[i]));
    }

    // The last row alone, in place, at another alignment: the same bits.
    const std::vector<float> last(data.input.end() - stride, data.input.end());
    const std::vector<float> last_gate(data.gate.end() - stride, data.gate.end());
    const std::vector<float> last_addend(data.addend.end() - stride, data.addend.end());
    const auto in_place = Upload(last, !c.misalign), gate_alone = Upload(last_gate, !c.misalign);
    const auto addend_alone = Upload(last_addend, !c.misalign);
    const auto one = Upload(std::vector<int32_t>{1});
    params.input = params.output = in_place.data();
    params.addend = data.has_addend ? addend_alone.data() : nullptr;
    params.gate = data.has_gate ? gate_alone.data() : nullptr;
    params.output_stride = stride;
    params.num_rows = one.data();
    params.max_rows = 1;
    RmsNorm(ctx(), params);
    const std::vector<float> actual = in_place.Download();
    ASSERT_EQ(std::memcmp(actual.data(), all.data() + (kRows - 1) * c.dim, c.dim * sizeof(float)),
              0);
    for (int64_t i = c.dim; i < stride; ++i) ASSERT_TRUE(std::isnan(actual[i]));
  }
}

// In place over parts of a row, as the inner norms of Mamba-1.
TEST_F(RmsNormCudaTest, ThreeNormsInALaunchAreThoseOneByOne) {
  constexpr int32_t kRows{9};
  for (const auto& widths : {std::pair(int64_t{256}, int64_t{16}), {3, 5}, {48, 16}}) {
    const int64_t rank = widths.first, state = widths.second;
    const int64_t stride = rank + 2 * state;
    const std::vector<float> rows = RandomValues(kRows * stride, 5, -3, 3);
    const auto weight = Upload(RandomValues(rank, 6));
    const auto num_rows = Upload(std::vector<int32_t>{kRows});
    const auto run = [&](const auto& apply) {
      const auto values = Upload(rows);
      const auto norm = [&](int64_t first, int64_t dim, const float* of) {
        return RmsNormParams{.input = values.data() + first,
                             .gate = nullptr,
                             .weight = of,
                             .output = values.data() + first,
                             .dim = dim,
                             .group_dim = dim,
                             .input_stride = stride,
                             .gate_stride = 0,
                             .output_stride = stride,
                             .eps = 1e-6f,
                             .num_rows = num_rows.data(),
                             .max_rows = kRows};
      };
      apply(RmsNorm3Params{{norm(0, rank, weight.data()), norm(rank, state, nullptr),
                            norm(rank + state, state, nullptr)}});
      return values.Download();
    };
    const std::vector<float> together = run([&](const RmsNorm3Params& p) { RmsNorm3(ctx(), p); });
    const std::vector<float> apart = run([&](const RmsNorm3Params& p) {
      for (const RmsNormParams& norm : p.norms) RmsNorm(ctx(), norm);
    });
    EXPECT_EQ(together, apart) << rank;
    EXPECT_NE(together, rows);
  }
}

}  // namespace
}  // namespace sidewinder
