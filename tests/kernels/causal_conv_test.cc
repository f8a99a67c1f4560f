#include "kernels/causal_conv.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "tests/testing/causal_conv_cases.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/host_row_plan.h"
#include "tests/testing/simd_backend.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::ExpectWithin;
using testing::GuardedBuffer;
using testing::HostRowPlan;
using testing::kPoison;
using testing::RaggedConv;

float Silu(float x) { return x / (1 + std::exp(-x)); }

class CausalConvTest : public testing::SimdBackendTest {};

TEST_P(CausalConvTest, GoldenValues) {
  const float weight[] = {1, 10, 100};  // width 3, one channel; the newest input has tap 100
  const float bias[] = {0.5f};
  const float input[] = {0.01f, -0.02f, 0.03f};
  float output[3], ring[4] = {0, 0, 0, kPoison};
  HostRowPlan plan({testing::ConvRows(0, 3, 0)});
  ExecutionContext ctx = Context(1);
  CausalConv(ctx, {.input = input,
                   .weight = weight,
                   .bias = bias,
                   .output = output,
                   .ring = ring,
                   .dim = 1,
                   .width = 3,
                   .input_stride = 1,
                   .output_stride = 1,
                   .ring_rows = 4,
                   .plan = plan.plan()});
  EXPECT_FLOAT_EQ(output[0], Silu(1.5f));
  EXPECT_FLOAT_EQ(output[1], Silu(0.5f - 2 + 0.1f));
  EXPECT_FLOAT_EQ(output[2], Silu(0.5f + 3 - 0.2f + 0.01f));
  EXPECT_EQ(std::vector<float>(ring, ring + 3), std::vector<float>(input, input + 3));
  EXPECT_TRUE(std::isnan(ring[3]));  // nothing was there to store
}

TEST_P(CausalConvTest, MatchesReferenceOnRaggedPlans) {
  for (const int64_t dim : {1, 2, 3, 31, 32, 33, 129, 768}) {
    for (const int64_t width : {1, 2, 4}) {
      const RaggedConv conv(dim, width);
      SCOPED_TRACE(conv.Name());
      std::vector<float> first;
      for (const int threads : {1, 2, 3, 5}) {
        GuardedBuffer output(conv.output), ring(conv.ring);
        CausalConvParams params = conv.params;
        params.output = output.data();
        params.ring = ring.data();
        ExecutionContext ctx = Context(threads);
        CausalConv(ctx, params);
        ExpectWithin(output.data(), conv.expected.data(), conv.magnitude.data(), output.size(),
                     testing::CausalConvRoundings(width), "output");
        EXPECT_EQ(std::memcmp(ring.data(), conv.expected_ring.data(), ring.size() * sizeof(float)),
                  0);
        EXPECT_TRUE(output.Intact() && ring.Intact());
        if (first.empty()) first.assign(output.data(), output.data() + output.size());
        EXPECT_EQ(std::memcmp(output.data(), first.data(), first.size() * sizeof(float)), 0);
      }
    }
  }
}

TEST_P(CausalConvTest, AnySplitGivesTheBitsOfOnePass) {
  ExecutionContext ctx = Context(2);
  testing::ExpectAnySplitGivesTheBitsOfOnePass(
      /*width=*/4, /*num_seeds=*/50,
      [&](CausalConvParams params, int64_t, std::vector<float>& output, std::vector<float>& ring) {
        params.output = output.data();
        params.ring = ring.data();
        CausalConv(ctx, params);
      });
}

SW_INSTANTIATE_SIMD_TESTS(CausalConvTest);

}  // namespace
}  // namespace sidewinder
