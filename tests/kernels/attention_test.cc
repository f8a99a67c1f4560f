#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "tests/testing/attention_cases.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/simd_backend.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::AttentionPass;
using testing::AttentionRows;
using testing::AttentionShape;
using testing::AttentionShapes;
using testing::ExpectWithin;
using testing::GuardedBuffer;

constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16};

class AttentionTest : public testing::SimdBackendTest {
 protected:
  // Runs the op on a pass with its output between guards.
  void Run(AttentionPass& pass, int threads) {
    ExecutionContext ctx = Context(threads);
    AttentionParams params = pass.Params();
    GuardedBuffer output(pass.output());
    params.output = output.data();
    Attention(ctx, params);
    EXPECT_TRUE(output.Intact());
    std::copy(output.data(), output.data() + output.size(), pass.output().begin());
  }
};

// One head of two elements, keys and values that are exact in either type.
TEST_P(AttentionTest, GoldenValues) {
  for (const DType dtype : kDTypes) {
    AttentionPass pass({1, 1, 2, 0, 0, false, dtype}, {AttentionRows(0, 2, 0)}, 1);
    const float rows[2][6] = {{1, 0, 2, 0, 8, 1}, {0.5f, 1, 0, 1, 4, 3}};  // q, k, v
    for (int r = 0; r < 2; ++r) {
      std::copy_n(rows[r], 6, pass.inputs().begin() + r * pass.stride());
    }
    ExecutionContext ctx = Context(1);
    AttentionParams params = pass.Params();
    params.scale = 1;
    Attention(ctx, params);
    const float* output = pass.output().data();
    EXPECT_FLOAT_EQ(output[0], 8);  // it sees itself alone
    EXPECT_FLOAT_EQ(output[1], 1);
    // Both scores are 1, so the weights are halves.
    EXPECT_FLOAT_EQ(output[pass.output_stride()], 6);
    EXPECT_FLOAT_EQ(output[pass.output_stride() + 1], 2);
  }
}

// A quarter turn: of (1, 0) at position 1 it makes (0, 1).
TEST_P(AttentionTest, RotatesKeys) {
  AttentionPass pass({1, 1, 2, 2}, {AttentionRows(0, 1, 1)}, 1);
  const float quarter = std::acos(0.0f);
  pass.inputs()[2] = 1;
  pass.inputs()[3] = 0;
  ExecutionContext ctx = Context(1);
  AttentionParams params = pass.Params();
  params.inv_freq = &quarter;
  Attention(ctx, params);
  float key[2];
  std::memcpy(key, pass.cache().At(0, 1, pass.cache().key_offset(), 0), sizeof(key));
  EXPECT_NEAR(key[0], 0, 1e-7);
  EXPECT_FLOAT_EQ(key[1], 1);
}

// Ragged batches in scattered slots, around the edges of pages, segments and groups; what holds
// nothing yet is NaN.
TEST_P(AttentionTest, MatchesReferenceOnRaggedPlans) {
  for (AttentionShape shape : AttentionShapes()) {
    for (const DType dtype : kDTypes) {
      shape.dtype = dtype;
      SCOPED_TRACE(::testing::PrintToString(shape));
      const AttentionPass pass(
          shape,
          {AttentionRows(4, 1, 63), AttentionRows(0, 5, 126), AttentionRows(3, 3, 0),
           AttentionRows(1, 0, 50), AttentionRows(2, 20, 250), AttentionRows(5, 2, 600)},
          7);
      AttentionPass expected = pass.Expected();
      const std::vector<float> magnitude = pass.Magnitude();
      std::vector<float> first;
      for (const int threads : {1, 2, 5}) {
        AttentionPass actual = pass;
        Run(actual, threads);
        ExpectWithin(actual.output().data(), expected.output().data(), magnitude.data(),
                     static_cast<int64_t>(magnitude.size()), actual.Error().CpuRoundings(),
                     "output");
        actual.ExpectCache(expected);
        if (first.empty()) first = actual.output();
        EXPECT_EQ(actual.output(), first);
      }
    }
  }
}

// The queries' own memory takes the output.
TEST_P(AttentionTest, OutputMayBeTheQueries) {
  AttentionPass pass({6, 2, 20, 10, 0, true}, {AttentionRows(0, 3, 200)}, 3);
  AttentionPass apart = pass, in_place = pass;
  Run(apart, 1);
  ExecutionContext ctx = Context(1);
  AttentionParams params = in_place.Params();
  params.output = in_place.inputs().data();
  params.output_stride = params.query_stride;
  Attention(ctx, params);
  for (int64_t r = 0; r < pass.num_rows(); ++r) {
    EXPECT_EQ(std::memcmp(in_place.inputs().data() + r * pass.stride(),
                          apart.output().data() + r * pass.output_stride(), 120 * sizeof(float)),
              0);
    EXPECT_EQ(in_place.inputs()[r * pass.stride() + 120], pass.inputs()[r * pass.stride() + 120]);
  }
}

// Any split of a text into passes, with rejected rows in between and another sequence beside it,
// gives the bits of one pass.
TEST_P(AttentionTest, AnySplitGivesTheBitsOfOnePass) {
  constexpr int32_t kTokens{300}, kMaxRows{6}, kLongRows{90};
  for (const DType dtype : kDTypes) {
    for (const int64_t window : {0, 70}) {
      const AttentionShape shape{5, 1, 20, 8, window, true, dtype};
      AttentionPass whole(shape, {AttentionRows(0, kTokens, 0)}, 5);
      const std::vector<float> text = whole.inputs();
      const int64_t stride = whole.stride(), out_stride = whole.output_stride();
      Run(whole, 2);
      for (uint32_t seed = 0; seed < 4; ++seed) {
        SCOPED_TRACE(::testing::PrintToString(shape) + " seed " + std::to_string(seed));
        std::mt19937 random(seed);
        std::vector<float> actual = whole.output();
        testing::KvPages cache(shape, 2, kTokens);
        for (int32_t consumed = 0; consumed < kTokens;) {
          const bool is_long = random() % 8 == 0;
          const int32_t rows = std::min<int32_t>(kTokens - consumed,
                                                 1 + random() % (is_long ? kLongRows : kMaxRows));
          const int32_t accepted = is_long ? rows : random() % (rows + 1);
          AttentionPass pass(
              shape, {AttentionRows(1, 1 + random() % 3, 0), AttentionRows(0, rows, consumed)},
              5);  // the norms of the whole
          const int64_t first = pass.plan().sequence(1).first_row;
          std::copy_n(text.begin() + consumed * stride, rows * stride,
                      pass.inputs().begin() + first * stride);
          for (int64_t r = first + accepted; r < first + rows; ++r) {  // rejected
            std::fill_n(pass.inputs().begin() + r * stride, stride, 1e6f);
          }
          std::vector<void*> tables[] = {cache.Table(cache.data(), 0),
                                         cache.Table(cache.data(), 1)};
          void* const* const pointers[] = {tables[0].data(), tables[1].data()};
          AttentionParams params = pass.Params();
          params.cache.tables = pointers;
          ExecutionContext ctx = Context(2);
          Attention(ctx, params);
          std::copy_n(pass.output().begin() + first * out_stride, accepted * out_stride,
                      actual.begin() + consumed * out_stride);
          consumed += accepted;
        }
        ASSERT_EQ(actual, whole.output());
      }
    }
  }
}

TEST_P(AttentionTest, PlanWithoutRows) {
  AttentionPass pass({4, 2, 6}, {AttentionRows(0, 0, 9)}, 1);
  AttentionPass before = pass;
  Run(pass, 2);
  pass.ExpectCache(before);
}

SW_INSTANTIATE_SIMD_TESTS(AttentionTest);

}  // namespace
}  // namespace sidewinder
