#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/causal_conv.h"
#include "tests/testing/cuda_backend.h"
#include "tests/testing/device_row_plan.h"
#include "tests/testing/host_row_plan.h"
#include "tests/testing/random_values.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::DeviceArray;
using testing::DeviceRowPlan;
using testing::ExpectWithin;
using testing::HostRowPlan;
using testing::RandomValues;

const float kPoison{std::nanf("")};

SequenceRows RowsOf(int32_t slot, int32_t num_rows, int32_t consumed) {
  return {.slot = slot,
          .first_row = 0,
          .num_rows = num_rows,
          .checkpoint = 0,
          .consumed = consumed,
          .new_checkpoint = 0};
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class CausalConvCudaTest : public testing::CudaTest {
 protected:
  // Runs the op on copies of what `params` (in ordinary memory) points to; output and ring come
  // back. `misalign`: every array begins one element behind an aligned address.
  void RunOnDevice(CausalConvParams params, int64_t num_rows, std::vector<float>& output,
                   std::vector<float>& ring, bool misalign = false) {
    const auto upload = [&](const float* from, int64_t size) {
      return Upload(std::vector<float>(from, from + size), misalign);
    };
    const DeviceRowPlan plan(params.plan, [&](const auto& values) { return Upload(values); });
    const DeviceArray<float> input = upload(params.input, num_rows * params.input_stride);
    const DeviceArray<float> weight = upload(params.weight, params.width * params.dim);
    const DeviceArray<float> bias = upload(params.bias, params.bias != nullptr ? params.dim : 0);
    const DeviceArray<float> device_output = upload(output.data(), output.size());
    const DeviceArray<float> device_ring = upload(ring.data(), ring.size());
    params.input = input.data();
    params.weight = weight.data();
    if (params.bias != nullptr) params.bias = bias.data();
    params.output = device_output.data();
    params.ring = device_ring.data();
    params.plan = plan.plan();
    CausalConv(ctx(), params);
    output = device_output.Download();
    ring = device_ring.Download();
    EXPECT_TRUE(device_output.Intact() && device_ring.Intact());
  }
};

// Three sequences of different lengths in scattered slots; what is not theirs is poison.
TEST_F(CausalConvCudaTest, MatchesReferenceOnRaggedPlans) {
  for (const int64_t dim : {1, 2, 31, 32, 33, 63, 65, 129, 768, 5376}) {
    for (const int64_t width : {1, 2, 4, 7, 40}) {
      SCOPED_TRACE("dim " + std::to_string(dim) + " width " + std::to_string(width));
      const int64_t ring_rows = width + 3;
      constexpr int64_t kSlots{6};
      HostRowPlan plan(
          {RowsOf(4, 1, 2), RowsOf(0, 71, 5), RowsOf(3, 5, 0), RowsOf(1, 33, 50), RowsOf(5, 0, 7)});
      const int64_t in_stride = dim + 1, out_stride = dim + 2;
      const std::vector<float> input = RandomValues(plan.num_rows() * in_stride, 1);
      const std::vector<float> weight = RandomValues(width * dim, 2);
      const std::vector<float> bias = RandomValues(dim, 3);
      std::vector<float> ring(kSlots * ring_rows * dim, kPoison);
      for (int s = 0; s < 5; ++s) {
        const SequenceRows& seq = plan.sequence(s);
        for (int64_t q = std::max<int64_t>(0, seq.consumed - width + 1); q < seq.consumed; ++q) {
          const std::vector<float> past = RandomValues(dim, 100 * s + q);
          std::copy(past.begin(), past.end(),
                    ring.begin() + (seq.slot * ring_rows + q % ring_rows) * dim);
        }
      }
      std::vector<float> expected_ring = ring, actual_ring = ring;
      std::vector<float> expected(plan.num_rows() * out_stride, 77), actual = expected;
      CausalConvParams params = {.input = input.data(),
                                 .weight = weight.data(),
                                 .bias = bias.data(),
                                 .output = expected.data(),
                                 .ring = expected_ring.data(),
                                 .dim = dim,
                                 .width = width,
                                 .input_stride = in_stride,
                                 .output_stride = out_stride,
                                 .ring_rows = ring_rows,
                                 .plan = plan.plan()};
      CausalConvRef(params);
      RunOnDevice(params, plan.num_rows(), actual, actual_ring, /*misalign=*/true);
      const std::vector<float> magnitude(expected.size(), static_cast<float>(width) + 1);
      ExpectWithin(actual.data(), expected.data(), magnitude.data(), actual.size(),
                   testing::CausalConvRoundings(width), "output");
      EXPECT_TRUE(SameBits(actual_ring, expected_ring));
    }
  }
}

// Any split of a text into passes, with rejected rows in between, gives the bits of one pass.
TEST_F(CausalConvCudaTest, AnySplitGivesTheBitsOfOnePass) {
  constexpr int32_t kTokens{200}, kMaxRows{6}, kLongRows{90};
  for (const int64_t width : {4, 3}) {
    constexpr int64_t kDim{37};
    const int64_t ring_rows = width - 1 + kMaxRows;
    const std::vector<float> input = RandomValues(kTokens * kDim, 1);
    const std::vector<float> weight = RandomValues(width * kDim, 2);
    const auto run = [&](const float* from, std::vector<float>& to, std::vector<float>& ring,
                         int32_t consumed, int32_t num_rows) {
      HostRowPlan plan({RowsOf(0, num_rows, consumed)});
      RunOnDevice({.input = from,
                   .weight = weight.data(),
                   .bias = nullptr,
                   .output = nullptr,
                   .ring = nullptr,
                   .dim = kDim,
                   .width = width,
                   .input_stride = kDim,
                   .output_stride = kDim,
                   .ring_rows = ring_rows,
                   .plan = plan.plan()},
                  num_rows, to, ring);
    };
    std::vector<float> expected(kTokens * kDim);
    std::vector<float> ring(ring_rows * kDim, kPoison);
    run(input.data(), expected, ring, 0, kTokens);
    for (uint32_t seed = 0; seed < 8; ++seed) {
      SCOPED_TRACE("width " + std::to_string(width) + " seed " + std::to_string(seed));
      std::mt19937 random(seed);
      std::vector<float> actual(kTokens * kDim);
      ring.assign(ring_rows * kDim, kPoison);
      for (int32_t consumed = 0; consumed < kTokens;) {
        // Long passes are prefills: all their rows stay.
        const bool is_long = random() % 8 == 0;
        const int32_t rows =
            std::min<int32_t>(kTokens - consumed, 1 + random() % (is_long ? kLongRows : kMaxRows));
        const int32_t accepted = is_long ? rows : random() % (rows + 1);
        std::vector<float> drafted(input.begin() + consumed * kDim,
                                   input.begin() + (consumed + rows) * kDim);
        for (int64_t i = accepted * kDim; i < rows * kDim; ++i) drafted[i] = 1e6f;  // rejected
        std::vector<float> out(rows * kDim);
        run(drafted.data(), out, ring, consumed, rows);
        std::copy_n(out.begin(), accepted * kDim, actual.begin() + consumed * kDim);
        consumed += accepted;
      }
      ASSERT_TRUE(SameBits(actual, expected));
    }
  }
}

TEST_F(CausalConvCudaTest, PlanWithoutRows) {
  HostRowPlan plan({RowsOf(0, 0, 0)});
  const std::vector<float> weight(4, 1.0f);
  std::vector<float> output, ring(4, 5.0f);
  RunOnDevice({.input = nullptr,
               .weight = weight.data(),
               .bias = nullptr,
               .output = nullptr,
               .ring = nullptr,
               .dim = 1,
               .width = 4,
               .input_stride = 1,
               .output_stride = 1,
               .ring_rows = 4,
               .plan = plan.plan()},
              0, output, ring);
  EXPECT_EQ(ring, std::vector<float>(4, 5.0f));
}

}  // namespace
}  // namespace sidewinder
