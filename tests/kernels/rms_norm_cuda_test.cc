#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/rms_norm.h"
#include "tests/testing/cuda_backend.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::ExpectWithin;
using testing::kPoison;
using testing::RandomValues;

class RmsNormCudaTest : public testing::CudaTest {};

enum class Form { kPlain, kSum, kGateFirst, kGateLast };
using enum Form;
struct Case {
  int64_t dim, group_dim;
  Form form;
  bool weight;
  int64_t gap;  // elements between rows beyond dim
  bool misalign;
};
constexpr Case kCases[] = {{1, 1, kPlain, true, 5, false},
                           {2, 2, kGateFirst, true, 5, true},
                           {3, 1, kGateFirst, false, 5, false},
                           {31, 31, kPlain, true, 5, false},
                           {32, 32, kGateFirst, true, 4, false},
                           {33, 11, kGateFirst, true, 5, false},
                           {127, 127, kGateFirst, true, 5, false},
                           {320, 320, kPlain, true, 4, false},
                           {640, 320, kGateFirst, true, 4, true},
                           {1024, 1024, kPlain, true, 0, false},
                           {1031, 1031, kPlain, false, 5, true},
                           {2560, 2560, kPlain, true, 0, false},
                           {5120, 5120, kGateFirst, true, 4, false},
                           {5120, 640, kGateFirst, true, 4, false},
                           {1, 1, kSum, true, 5, false},
                           {127, 127, kSum, false, 5, false},
                           {320, 320, kSum, true, 4, false},
                           {2560, 2560, kSum, true, 0, true},
                           {2, 1, kGateLast, true, 5, false},
                           {66, 33, kGateLast, true, 5, false},
                           {512, 128, kGateLast, true, 4, false},
                           {1031, 1031, kGateLast, false, 5, true}};

std::vector<float> Rows(int64_t rows, const Case& c, uint32_t seed, float limit) {
  const int64_t stride = c.dim + c.gap;
  std::vector<float> values = RandomValues(rows * stride, seed, -limit, limit);
  for (int64_t r = 0; r < rows; ++r) {
    std::fill_n(values.begin() + r * stride + c.dim, c.gap, kPoison);
  }
  return values;
}

TEST_F(RmsNormCudaTest, MatchesReferenceAndRowsStandAlone) {
  for (const Case& c : kCases) {
    SCOPED_TRACE("dim " + std::to_string(c.dim) + " group " + std::to_string(c.group_dim));
    constexpr int32_t kRows{17};
    const int64_t stride = c.dim + c.gap;
    const bool has_gate = c.form == kGateFirst || c.form == kGateLast, has_addend = c.form == kSum;
    const std::vector<float> input = Rows(kRows, c, 1, 3), gate = Rows(kRows, c, 2, 8);
    const std::vector<float> addend = Rows(kRows, c, 4, 3);
    const std::vector<float> weight = RandomValues(c.dim, 3);
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
                            .num_rows = &kRows,
                            .max_rows = kRows};
    RmsNormRef(params);
    std::vector<float> magnitude = expected;
    for (float& value : magnitude) value = std::abs(value);

    const auto device_input = Upload(input, c.misalign), device_gate = Upload(gate, c.misalign);
    const auto device_weight = Upload(weight, c.misalign);
    const auto device_addend = Upload(addend, c.misalign);
    params.input = device_input.data();
    params.addend = has_addend ? device_addend.data() : nullptr;
    params.gate = has_gate ? device_gate.data() : nullptr;
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
        ExpectWithin(actual.data(), expected.data(), magnitude.data(), rows * c.dim,
                     testing::RmsNormRoundings(c.group_dim), "output");
        all = actual;
      }
      ASSERT_EQ(std::memcmp(actual.data(), all.data(), rows * c.dim * sizeof(float)), 0);
      for (size_t i = rows * c.dim; i < actual.size(); ++i) ASSERT_TRUE(std::isnan(actual[i]));
    }

    // The last row alone, in place, at another alignment: the same bits.
    const std::vector<float> last(input.end() - stride, input.end());
    const std::vector<float> last_gate(gate.end() - stride, gate.end());
    const std::vector<float> last_addend(addend.end() - stride, addend.end());
    const auto in_place = Upload(last, !c.misalign), gate_alone = Upload(last_gate, !c.misalign);
    const auto addend_alone = Upload(last_addend, !c.misalign);
    const auto one = Upload(std::vector<int32_t>{1});
    params.input = params.output = in_place.data();
    params.addend = has_addend ? addend_alone.data() : nullptr;
    params.gate = has_gate ? gate_alone.data() : nullptr;
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
