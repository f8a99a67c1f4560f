#include "kernels/causal_conv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/testing/guarded_buffer.h"
#include "tests/testing/host_row_plan.h"
#include "tests/testing/random_values.h"
#include "tests/testing/simd_backend.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::ExpectWithin;
using testing::GuardedBuffer;
using testing::HostRowPlan;
using testing::kPoison;
using testing::RandomValues;

float Silu(float x) { return x / (1 + std::exp(-x)); }

class CausalConvTest : public testing::SimdBackendTest {};

TEST_P(CausalConvTest, GoldenValues) {
  const float weight[] = {1, 10, 100};  // width 3, one channel; the newest input has tap 100
  const float bias[] = {0.5f};
  const float input[] = {0.01f, -0.02f, 0.03f};
  float output[3], ring[4] = {0, 0, 0, kPoison};
  HostRowPlan plan({{.slot = 0,
                     .first_row = 0,
                     .num_rows = 3,
                     .checkpoint = 0,
                     .consumed = 0,
                     .new_checkpoint = 0}});
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

// Three sequences of different lengths in scattered slots; what is not theirs is poison.
TEST_P(CausalConvTest, MatchesReferenceOnRaggedPlans) {
  for (const int64_t dim : {1, 2, 3, 31, 32, 33, 129, 768}) {
    for (const int64_t width : {1, 2, 4}) {
      SCOPED_TRACE("dim " + std::to_string(dim) + " width " + std::to_string(width));
      constexpr int64_t kRing{7}, kSlots{6};
      const auto rows_of = [](int32_t slot, int32_t num_rows, int32_t consumed) {
        return SequenceRows{.slot = slot,
                            .first_row = 0,
                            .num_rows = num_rows,
                            .checkpoint = 0,
                            .consumed = consumed,
                            .new_checkpoint = 0};
      };
      HostRowPlan plan({rows_of(4, 1, 2), rows_of(0, 19, 5), rows_of(3, 5, 0)});
      const int64_t in_stride = dim + 1, out_stride = dim + 2;
      const std::vector<float> input = RandomValues(plan.num_rows() * in_stride, 1);
      const std::vector<float> weight = RandomValues(width * dim, 2);
      const std::vector<float> bias = RandomValues(dim, 3);
      std::vector<float> ring(kSlots * kRing * dim, kPoison);
      for (int s = 0; s < 3; ++s) {
        const SequenceRows& seq = plan.sequence(s);
        for (int64_t q = std::max<int64_t>(0, seq.consumed - width + 1); q < seq.consumed; ++q) {
          const std::vector<float> past = RandomValues(dim, 100 * s + q);
          std::copy(past.begin(), past.end(), ring.begin() + (seq.slot * kRing + q % kRing) * dim);
        }
      }
      std::vector<float> expected_ring = ring;
      std::vector<float> expected(plan.num_rows() * out_stride, 77);
      CausalConvParams params = {.input = input.data(),
                                 .weight = weight.data(),
                                 .bias = bias.data(),
                                 .output = expected.data(),
                                 .ring = expected_ring.data(),
                                 .dim = dim,
                                 .width = width,
                                 .input_stride = in_stride,
                                 .output_stride = out_stride,
                                 .ring_rows = kRing,
                                 .plan = plan.plan()};
      CausalConvRef(params);
      const std::vector<float> magnitude(expected.size(), static_cast<float>(width) + 1);
      std::vector<float> first;
      for (const int threads : {1, 2, 3, 5}) {
        GuardedBuffer actual_ring(ring);
        GuardedBuffer actual(plan.num_rows() * out_stride, 77);
        params.output = actual.data();
        params.ring = actual_ring.data();
        ExecutionContext ctx = Context(threads);
        CausalConv(ctx, params);
        ExpectWithin(actual.data(), expected.data(), magnitude.data(), actual.size(),
                     testing::CausalConvRoundings(width), "output");
        EXPECT_EQ(
            std::memcmp(actual_ring.data(), expected_ring.data(), ring.size() * sizeof(float)), 0);
        EXPECT_TRUE(actual.Intact() && actual_ring.Intact());
        if (first.empty()) first.assign(actual.data(), actual.data() + actual.size());
        EXPECT_EQ(std::memcmp(actual.data(), first.data(), first.size() * sizeof(float)), 0);
      }
    }
  }
}

// Any split of a text into passes, with rejected rows in between, gives the bits of one pass.
TEST_P(CausalConvTest, AnySplitGivesTheBitsOfOnePass) {
  constexpr int64_t kDim{37}, kWidth{4}, kRing{9}, kMaxRows{6};
  constexpr int32_t kTokens{60};
  const std::vector<float> input = RandomValues(kTokens * kDim, 1);
  const std::vector<float> weight = RandomValues(kWidth * kDim, 2);
  ExecutionContext ctx = Context(2);
  const auto run = [&](const float* from, float* to, float* ring, int32_t consumed,
                       int32_t num_rows) {
    HostRowPlan plan({{.slot = 0,
                       .first_row = 0,
                       .num_rows = num_rows,
                       .checkpoint = 0,
                       .consumed = consumed,
                       .new_checkpoint = 0}});
    CausalConv(ctx, {.input = from,
                     .weight = weight.data(),
                     .bias = nullptr,
                     .output = to,
                     .ring = ring,
                     .dim = kDim,
                     .width = kWidth,
                     .input_stride = kDim,
                     .output_stride = kDim,
                     .ring_rows = kRing,
                     .plan = plan.plan()});
  };
  std::vector<float> expected(kTokens * kDim);
  std::vector<float> ring(kRing * kDim, kPoison);
  run(input.data(), expected.data(), ring.data(), 0, kTokens);
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::vector<float> actual(kTokens * kDim);
    ring.assign(kRing * kDim, kPoison);
    for (int32_t consumed = 0; consumed < kTokens;) {
      const int32_t rows = std::min<int32_t>(kTokens - consumed, 1 + random() % kMaxRows);
      const int32_t accepted = random() % (rows + 1);
      std::vector<float> drafted(input.begin() + consumed * kDim,
                                 input.begin() + (consumed + rows) * kDim);
      for (int64_t i = accepted * kDim; i < rows * kDim; ++i) drafted[i] = 1e6f;  // rejected
      std::vector<float> out(rows * kDim);
      run(drafted.data(), out.data(), ring.data(), consumed, rows);
      std::copy_n(out.begin(), accepted * kDim, actual.begin() + consumed * kDim);
      consumed += accepted;
    }
    ASSERT_EQ(std::memcmp(actual.data(), expected.data(), expected.size() * sizeof(float)), 0);
  }
}

SW_INSTANTIATE_SIMD_TESTS(CausalConvTest);

}  // namespace
}  // namespace sidewinder
