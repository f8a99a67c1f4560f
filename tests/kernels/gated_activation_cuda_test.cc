#include "kernels/gated_activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "tests/testing/cuda_backend.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::ExpectWithin;
using testing::kPoison;
using testing::RandomValues;

class GatedActivationCudaTest : public testing::CudaTest {};

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kGelu, Activation::kRelu2,
                                       Activation::kSigmoid};

struct Case {
  int64_t dim;
  bool up;
  int32_t rows_factor;
};
constexpr Case kCases[] = {{1, false, 1},  {2, true, 3},    {31, true, 1},   {128, false, 2},
                           {129, true, 2}, {1031, true, 1}, {14336, true, 2}};

TEST_F(GatedActivationCudaTest, MatchesReferenceAndRowsStandAlone) {
  for (const Case& c : kCases) {
    for (const Activation activation : kActivations) {
      SCOPED_TRACE("dim " + std::to_string(c.dim) + " activation " +
                   std::to_string(static_cast<int>(activation)));
      constexpr int32_t kRows{7};
      const int64_t all_rows = kRows * c.rows_factor, stride = c.dim + 3;
      std::vector<float> gate = RandomValues(all_rows * stride, 1, -12, 12);
      std::vector<float> up = RandomValues(all_rows * stride, 2, -2, 2);
      for (int64_t r = 0; r < all_rows; ++r) {
        std::fill_n(gate.begin() + r * stride + c.dim, 3, kPoison);
        std::fill_n(up.begin() + r * stride + c.dim, 3, kPoison);
      }
      std::vector<float> expected(all_rows * c.dim), magnitude(all_rows * c.dim);
      GatedActivationParams params = {.gate = gate.data(),
                                      .up = c.up ? up.data() : nullptr,
                                      .output = expected.data(),
                                      .dim = c.dim,
                                      .gate_stride = stride,
                                      .up_stride = stride,
                                      .output_stride = c.dim,
                                      .activation = activation,
                                      .num_rows = &kRows,
                                      .rows_factor = c.rows_factor};
      GatedActivationRef(params);
      for (int64_t i = 0; i < all_rows * c.dim; ++i) {
        const int64_t at = i / c.dim * stride + i % c.dim;
        magnitude[i] = std::abs(activation == Activation::kGelu ? gate[at] * (c.up ? up[at] : 1)
                                                                : expected[i]);
      }
      const auto device_gate = Upload(gate), device_up = Upload(up);
      params.gate = device_gate.data();
      params.up = c.up ? device_up.data() : nullptr;
      std::vector<float> all;
      for (const int32_t rows : {kRows, 5, 1, 0}) {
        const auto output = Poisoned<float>(all_rows * c.dim);
        const auto num_rows = Upload(std::vector<int32_t>{rows});
        params.output = output.data();
        params.num_rows = num_rows.data();
        params.max_rows = rows == 0 ? kRows : rows;
        GatedActivation(ctx(), params);
        const std::vector<float> actual = output.Download();
        EXPECT_TRUE(output.Intact());
        const size_t size = rows * c.rows_factor * c.dim;
        if (rows == kRows) {
          ExpectWithin(actual.data(), expected.data(), magnitude.data(), size,
                       testing::kGatedActivationRoundings, "output");
          all = actual;
        }
        ASSERT_EQ(std::memcmp(actual.data(), all.data(), size * sizeof(float)), 0);
        for (size_t i = size; i < actual.size(); ++i) ASSERT_TRUE(std::isnan(actual[i]));
      }
      // In place, over the gate and over `up`, at another alignment.
      const auto num_rows = Upload(std::vector<int32_t>{kRows});
      params.num_rows = num_rows.data();
      params.max_rows = kRows;
      for (const bool over_up : {false, true}) {
        if (over_up && !c.up) continue;
        const auto in_place = Upload(over_up ? up : gate, /*misalign=*/true);
        GatedActivationParams p = params;
        (over_up ? p.up : p.gate) = in_place.data();
        p.output = in_place.data();
        p.output_stride = stride;
        GatedActivation(ctx(), p);
        const std::vector<float> actual = in_place.Download();
        for (int64_t r = 0; r < all_rows; ++r) {
          ASSERT_EQ(std::memcmp(actual.data() + r * stride, all.data() + r * c.dim,
                                c.dim * sizeof(float)),
                    0);
          ASSERT_TRUE(std::isnan(actual[r * stride + c.dim]));
        }
      }
    }
  }
}

TEST_F(GatedActivationCudaTest, NanAndInfinity) {
  const auto gate = Upload(std::vector<float>{kPoison, INFINITY});
  const auto one = Upload(std::vector<int32_t>{1});
  for (const Activation activation : kActivations) {
    const auto output = Upload(std::vector<float>{0, 0});
    GatedActivation(ctx(), {.gate = gate.data(),
                            .up = nullptr,
                            .output = output.data(),
                            .dim = 2,
                            .gate_stride = 2,
                            .output_stride = 2,
                            .activation = activation,
                            .num_rows = one.data(),
                            .max_rows = 1});
    const std::vector<float> actual = output.Download();
    EXPECT_TRUE(std::isnan(actual[0]));
    EXPECT_EQ(actual[1], activation == Activation::kSigmoid ? 1 : INFINITY);
  }
}

}  // namespace
}  // namespace sidewinder
