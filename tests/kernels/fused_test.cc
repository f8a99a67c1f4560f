#include "kernels/fused.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/testing/guarded_buffer.h"
#include "tests/testing/host_row_plan.h"
#include "tests/testing/multistep_cases.h"
#include "tests/testing/random_values.h"
#include "tests/testing/simd_backend.h"

namespace sidewinder {
namespace {

using testing::GuardedBuffer;
using testing::HostRowPlan;
using testing::kMultiStepShapes;
using testing::MultiStepShape;
using testing::MultiStepState;
using testing::RandomValues;

class FusedTest : public testing::SimdBackendTest {};

bool SameBits(const GuardedBuffer& a, const GuardedBuffer& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// What a convolution and a recurrence behind it leave: everything they write.
struct Mamba2Mixer {
  static constexpr int64_t kSlots{2}, kWidth{4}, kRingRows{16}, kLogRows{96};

  Mamba2Mixer(const MultiStepShape& s, int64_t num_rows)
      : shape(s),
        state(s, kSlots, kLogRows, 0),
        ring(kSlots * kRingRows * conv_dim(), 0.0f),
        convolved(num_rows * conv_dim()),
        output(num_rows * s.inner_dim()) {}

  int64_t conv_dim() const { return shape.inner_dim() + 2 * shape.b_dim(); }

  void Run(ExecutionContext& ctx, RowPlan plan, bool fused) {
    const int64_t dim = conv_dim();
    const std::vector<float> input = RandomValues(plan.max_rows * dim, 1);
    const std::vector<float> dt = RandomValues(plan.max_rows * shape.num_heads, 2);
    const std::vector<float> weight = RandomValues(kWidth * dim, 3);
    const std::vector<float> bias = RandomValues(dim, 4);
    const std::vector<float> a = RandomValues(shape.num_heads, 5, -4, -0.01f);
    const std::vector<float> dt_bias = RandomValues(shape.num_heads, 6);
    const std::vector<float> d = RandomValues(shape.inner_dim(), 7);
    const CausalConvParams conv = {.input = input.data(),
                                   .weight = weight.data(),
                                   .bias = bias.data(),
                                   .output = convolved.data(),
                                   .ring = ring.data(),
                                   .dim = dim,
                                   .width = kWidth,
                                   .input_stride = dim,
                                   .output_stride = dim,
                                   .ring_rows = kRingRows,
                                   .plan = plan};
    // The channels of B lie ahead of those of x here, C behind.
    const MultiStepMamba2Params multistep = {
        .x = convolved.data() + shape.b_dim(),
        .b = convolved.data(),
        .c = convolved.data() + shape.b_dim() + shape.inner_dim(),
        .dt = dt.data(),
        .a = a.data(),
        .d = d.data(),
        .dt_bias = dt_bias.data(),
        .output = output.data(),
        .num_heads = shape.num_heads,
        .head_dim = shape.head_dim,
        .num_groups = shape.num_groups,
        .state_dim = shape.state_dim,
        .delta_min = 0,
        .delta_max = 100,
        .x_stride = dim,
        .b_stride = dim,
        .c_stride = dim,
        .dt_stride = shape.num_heads,
        .output_stride = shape.inner_dim(),
        .state = state.state(),
        .plan = plan};
    if (fused) {
      ConvMultiStepMamba2(ctx, conv, multistep);
    } else {
      CausalConv(ctx, conv);
      MultiStepMamba2(ctx, multistep);
    }
  }

  MultiStepShape shape;
  MultiStepState state;
  GuardedBuffer ring, convolved, output;
};

// Fewer and more rows than the heads convolve themselves.
TEST_P(FusedTest, ConvMultiStepMamba2HasTheBitsOfTheTwoOps) {
  for (const MultiStepShape& shape : kMultiStepShapes) {
    if (!shape.is_mamba2()) continue;
    for (const int32_t rows : {0, 1, 5, 80}) {
      for (const int num_threads : {1, 3}) {
        SCOPED_TRACE(shape.Name() + ", rows " + std::to_string(rows) + ", threads " +
                     std::to_string(num_threads));
        HostRowPlan plan({{.slot = 1, .num_rows = rows, .new_checkpoint = rows / 2},
                          {.slot = 0, .num_rows = 3, .new_checkpoint = 3}});
        ExecutionContext ctx = Context(num_threads);
        Mamba2Mixer one(shape, plan.num_rows()), two(shape, plan.num_rows());
        for (int pass = 0; pass < 2; ++pass) {  // the same rows again
          one.Run(ctx, plan.plan(), /*fused=*/true);
          two.Run(ctx, plan.plan(), /*fused=*/false);
        }
        EXPECT_TRUE(SameBits(one.convolved, two.convolved));
        EXPECT_TRUE(SameBits(one.output, two.output));
        EXPECT_TRUE(SameBits(one.ring, two.ring));
        EXPECT_TRUE(SameBits(one.state.checkpoint, two.state.checkpoint));
        EXPECT_TRUE(SameBits(one.state.log_x, two.state.log_x));
        EXPECT_TRUE(SameBits(one.state.log_delta, two.state.log_delta));
        EXPECT_TRUE(SameBits(one.state.log_b, two.state.log_b));
        EXPECT_TRUE(one.state.Intact() && one.ring.Intact() && one.convolved.Intact() &&
                    one.output.Intact());
      }
    }
  }
}

SW_INSTANTIATE_SIMD_TESTS(FusedTest);

}  // namespace
}  // namespace sidewinder
