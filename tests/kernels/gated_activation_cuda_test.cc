#include "kernels/gated_activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "tests/testing/cuda_backend.h"
#include "tests/testing/gated_activation_cases.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::ExpectWithin;
using testing::GatedActivationCase;
using testing::GatedActivationData;
using testing::kActivations;
using testing::kPoison;

class GatedActivationCudaTest : public testing::CudaTest {};

TEST_F(GatedActivationCudaTest, MatchesReferenceAndRowsStandAlone) {
  for (const GatedActivationCase& c : testing::kGatedActivationCases) {
    for (const Activation activation : kActivations) {
      const GatedActivationData data(c, activation);
      SCOPED_TRACE(data.Name());
      constexpr int32_t kRows{GatedActivationData::kRows};
      const auto device_gate = Upload(data.gate), device_up = Upload(data.up);
      GatedActivationParams params = data.params;
      params.gate = device_gate.data();
      params.up = c.up ? device_up.data() : nullptr;
      std::vector<float> all;
      for (const int32_t rows : {kRows, 5, 1, 0}) {
        const auto output = Poisoned<float>(data.all_rows * c.dim);
        const auto num_rows = Upload(std::vector<int32_t>{rows});
        params.output = output.data();
        params.num_rows = num_rows.data();
        params.max_rows = rows == 0 ? kRows : rows;
        GatedActivation(ctx(), params);
        const std::vector<float> actual = output.Download();
        EXPECT_TRUE(output.Intact());
        const size_t size = rows * c.rows_factor * c.dim;
        if (rows == kRows) {
          ExpectWithin(actual.data(), data.expected.data(), data.magnitude.data(), size,
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
        const auto in_place = Upload(over_up ? data.up : data.gate, /*misalign=*/true);
        GatedActivationParams p = params;
        (over_up ? p.up : p.gate) = in_place.data();
        p.output = in_place.data();
        p.output_stride = data.stride;
        GatedActivation(ctx(), p);
        const std::vector<float> actual = in_place.Download();
        for (int64_t r = 0; r < data.all_rows; ++r) {
          ASSERT_EQ(std::memcmp(actual.data() + r * data.stride, all.data() + r * c.dim,
                                c.dim * sizeof(float)),
                    0);
          ASSERT_TRUE(std::isnan(actual[r * data.stride + c.dim]));
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
