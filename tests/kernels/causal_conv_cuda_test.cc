#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/causal_conv.h"
#include "tests/testing/causal_conv_cases.h"
#include "tests/testing/cuda_backend.h"
#include "tests/testing/device_row_plan.h"
#include "tests/testing/host_row_plan.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::DeviceArray;
using testing::DeviceRowPlan;
using testing::ExpectWithin;
using testing::HostRowPlan;
using testing::RaggedConv;

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

TEST_F(CausalConvCudaTest, MatchesReferenceOnRaggedPlans) {
  for (const int64_t dim : {1, 2, 31, 32, 33, 63, 65, 129, 768, 5376}) {
    for (const int64_t width : {1, 2, 4, 7, 40}) {
      const RaggedConv conv(dim, width);
      SCOPED_TRACE(conv.Name());
      std::vector<float> output = conv.output, ring = conv.ring;
      RunOnDevice(conv.params, conv.plan.num_rows(), output, ring, /*misalign=*/true);
      ExpectWithin(output.data(), conv.expected.data(), conv.magnitude.data(), output.size(),
                   testing::CausalConvRoundings(width), "output");
      EXPECT_TRUE(SameBits(ring, conv.expected_ring));
    }
  }
}

TEST_F(CausalConvCudaTest, AnySplitGivesTheBitsOfOnePass) {
  for (const int64_t width : {4, 3}) {
    testing::ExpectAnySplitGivesTheBitsOfOnePass(
        width, /*num_seeds=*/8,
        [&](const CausalConvParams& params, int64_t num_rows, std::vector<float>& output,
            std::vector<float>& ring) { RunOnDevice(params, num_rows, output, ring); });
  }
}

TEST_F(CausalConvCudaTest, PlanWithoutRows) {
  HostRowPlan plan({testing::ConvRows(0, 0, 0)});
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
