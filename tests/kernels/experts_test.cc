#include "kernels/experts.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/linear.h"
#include "tests/testing/expert_cases.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"
#include "tests/testing/simd_backend.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::ExpectWithin;
using testing::GuardedBuffer;
using testing::HostChoices;
using testing::kPoison;
using testing::RandomValues;
using testing::RandomWeights;
using testing::RouteCase;
using testing::SpreadChoices;

constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};

class ExpertsTest : public testing::SimdBackendTest {
 protected:
  // Routes rows of logits of as many experts as `params` says.
  HostChoices Route(RouteExpertsParams params, const std::vector<float>& logits, int threads = 1) {
    const int64_t num_experts = params.choices.num_experts;
    const int32_t rows = static_cast<int32_t>(logits.size() / num_experts);
    HostChoices choices(rows, num_experts, params.choices.num_chosen);
    params.logits = logits.data();
    params.choices = choices.View();
    params.num_rows = &rows;
    ExecutionContext ctx = Context(threads);
    RouteExperts(ctx, params);
    EXPECT_EQ(choices.experts.back(), HostChoices::kUnset);
    EXPECT_EQ(choices.order.back(), HostChoices::kUnset);
    EXPECT_EQ(choices.offsets.back(), HostChoices::kUnset);
    EXPECT_EQ(choices.weights.back(), static_cast<float>(HostChoices::kUnset));
    for (auto* array : {&choices.experts, &choices.order, &choices.offsets}) array->pop_back();
    choices.weights.pop_back();
    return choices;
  }
};

TEST_P(ExpertsTest, RouteGoldenValues) {
  const float kLog3 = std::log(3.0f);
  RouteExpertsParams params =
      testing::RouteParams({4, 2, 1, 1, ExpertScore::kSoftmaxChosen, false, false, 1});
  const HostChoices chosen = Route(params, {0, kLog3, 0, -1, /**/ 5, 5, 5, 5});
  EXPECT_EQ(chosen.experts, (std::vector<int32_t>{0, 1, 0, 1}));  // ties: the lower number
  EXPECT_EQ(chosen.order, (std::vector<int32_t>{0, 2, 1, 3}));
  EXPECT_EQ(chosen.offsets, (std::vector<int32_t>{0, 2, 4, 4, 4}));
  EXPECT_FLOAT_EQ(chosen.weights[0], 0.25f);
  EXPECT_FLOAT_EQ(chosen.weights[1], 0.75f);
  EXPECT_FLOAT_EQ(chosen.weights[2], 0.5f);

  params.score = ExpertScore::kSoftmax;
  const HostChoices softmax = Route(params, {0, kLog3, 0, 0});
  EXPECT_EQ(softmax.experts, (std::vector<int32_t>{0, 1}));
  EXPECT_FLOAT_EQ(softmax.weights[0], 1 / 6.0f);
  EXPECT_FLOAT_EQ(softmax.weights[1], 0.5f);

  // The correction chooses expert 3 but weighs nothing.
  const float correction[] = {0, 0, 0, 1};
  params.score = ExpertScore::kSigmoid;
  params.correction = correction;
  params.normalize = true;
  params.scale = 2;
  const HostChoices sigmoid = Route(params, {0, kLog3, 0, -kLog3});
  EXPECT_EQ(sigmoid.experts, (std::vector<int32_t>{1, 3}));
  EXPECT_FLOAT_EQ(sigmoid.weights[0], 1.5f);
  EXPECT_FLOAT_EQ(sigmoid.weights[1], 0.5f);

  // Groups {0, 1}, {2, 3}: the second has the larger sum, the first the largest score.
  params.correction = nullptr;
  params.num_groups = 2;
  params.num_chosen_groups = 1;
  EXPECT_EQ(Route(params, {4, -4, 1, 1}).experts, (std::vector<int32_t>{2, 3}));
}

TEST_P(ExpertsTest, RouteTakesWhateverLogitsAre) {
  const RouteExpertsParams params =
      testing::RouteParams({5, 3, 1, 1, ExpertScore::kSoftmaxChosen, false, false, 1});
  const float kInf = INFINITY;
  const HostChoices choices = Route(params, {kPoison, kPoison, kPoison, kPoison, kPoison,  //
                                             kPoison, -kInf, kPoison, -kInf, -3,           //
                                             0.0f, -0.0f, 0.0f, -0.0f, 0.0f});
  EXPECT_EQ(choices.experts, (std::vector<int32_t>{0, 1, 2, 1, 3, 4, 0, 1, 2}));
}

TEST_P(ExpertsTest, RouteMatchesReferenceAndRowsStandAlone) {
  for (const RouteCase& c : testing::kRouteCases) {
    SCOPED_TRACE(c.Name());
    constexpr int32_t kRows{37};
    const std::vector<float> logits = RandomValues(kRows * c.num_experts, 1, -4, 4);
    const std::vector<float> correction = RandomValues(c.num_experts, 2, -0.5f, 0.5f);
    RouteExpertsParams params = testing::RouteParams(c);
    params.correction = c.correction ? correction.data() : nullptr;
    const HostChoices actual = Route(params, logits);

    HostChoices expected(kRows, c.num_experts, c.num_chosen);
    RouteExpertsParams reference = params;
    reference.logits = logits.data();
    reference.choices = expected.View();
    reference.num_rows = &kRows;
    RouteExpertsRef(reference);
    for (auto* array : {&expected.experts, &expected.order, &expected.offsets}) array->pop_back();
    ASSERT_EQ(actual.experts, expected.experts);
    EXPECT_EQ(actual.order, expected.order);
    EXPECT_EQ(actual.offsets, expected.offsets);
    ExpectWithin(actual.weights.data(), expected.weights.data(), expected.weights.data(),
                 kRows * c.num_chosen,
                 testing::RouteExpertsRoundings(8, c.num_experts, c.num_chosen), "weights");

    for (const int threads : {1, 2, 3}) {
      for (const int32_t rows : {0, 1, 2, 17, 36}) {
        const HostChoices fewer =
            Route(params, {logits.end() - rows * c.num_experts, logits.end()}, threads);
        ASSERT_TRUE(
            std::equal(fewer.experts.rbegin(), fewer.experts.rend(), actual.experts.rbegin()));
        ASSERT_EQ(
            std::memcmp(fewer.weights.data(), actual.weights.data() + (kRows - rows) * c.num_chosen,
                        rows * c.num_chosen * sizeof(float)),
            0);
        ASSERT_EQ(fewer.offsets.back(), rows * c.num_chosen);
      }
    }
  }
}

struct LinearCase {
  int64_t out_dim, in_dim, num_experts, num_chosen;
  bool per_choice, all_alike;
};
constexpr LinearCase kLinearCases[] = {{1, 1, 1, 1, false, false},   {3, 2, 5, 3, true, false},
                                       {33, 31, 5, 3, false, false}, {17, 127, 16, 2, false, true},
                                       {67, 257, 7, 1, true, false}, {40, 64, 72, 10, false, false},
                                       {130, 320, 9, 4, true, true}};

// The matrices of a case's experts, each aligned to its element only.
struct Experts {
  std::vector<std::vector<char>> storage;
  std::vector<const void*> weights;

  Experts(const LinearCase& c, DType dtype, bool absolute = false) {
    const int64_t offset = static_cast<int64_t>(SizeOf(dtype));
    for (int64_t e = 0; e < c.num_experts; ++e) {
      storage.push_back(RandomWeights(c.out_dim * c.in_dim, dtype, 100 + e, offset));
      for (size_t i = 2 * offset - 1; absolute && i < storage[e].size(); i += offset) {
        storage[e][i] &= 0x7f;
      }
    }
    for (const auto& bytes : storage) weights.push_back(bytes.data() + offset);
  }
};

TEST_P(ExpertsTest, LinearMatchesReferenceAndHasTheBitsOfLinear) {
  constexpr int32_t kRows{19};
  constexpr int64_t kGap{3};
  std::vector<ExecutionContext> contexts;
  for (const int threads : {1, 2, 3, 5}) contexts.push_back(Context(threads));
  for (const DType dtype : kDTypes) {
    for (const LinearCase& c : kLinearCases) {
      SCOPED_TRACE(std::string(Name(dtype)) + " " + std::to_string(c.out_dim) + "x" +
                   std::to_string(c.in_dim) + ", " + std::to_string(c.num_chosen) + " of " +
                   std::to_string(c.num_experts));
      const Experts experts(c, dtype), abs_experts(c, dtype, /*absolute=*/true);
      const auto spread = SpreadChoices(kRows, c.num_experts, c.num_chosen, c.all_alike);
      const int64_t stride = c.in_dim + kGap,
                    input_rows = kRows * (c.per_choice ? c.num_chosen : 1);
      std::vector<float> input = RandomValues(input_rows * stride, 2);
      for (int64_t r = 0; r < input_rows; ++r) {
        std::fill_n(input.begin() + r * stride + c.in_dim, kGap, kPoison);
      }
      std::vector<float> abs_input = input;
      for (float& value : abs_input) value = std::abs(value);
      int32_t rows = kRows;
      HostChoices all(spread, c.num_experts);
      const int64_t size = kRows * c.num_chosen * c.out_dim;
      std::vector<float> expected(size), magnitude(size), alone(size);
      ExpertLinearParams params = {.weights = experts.weights.data(),
                                   .weight_dtype = dtype,
                                   .choices = all.View(),
                                   .input = input.data(),
                                   .output = expected.data(),
                                   .in_dim = c.in_dim,
                                   .out_dim = c.out_dim,
                                   .input_stride = stride,
                                   .input_per_choice = c.per_choice,
                                   .num_rows = &rows};
      ExpertLinearRef(params);
      params.weights = abs_experts.weights.data();
      params.input = abs_input.data();
      params.output = magnitude.data();
      ExpertLinearRef(params);
      params.weights = experts.weights.data();
      params.input = input.data();

      for (int64_t choice = 0; choice < kRows * c.num_chosen; ++choice) {
        const int32_t one = 1;
        const int64_t from = c.per_choice ? choice : choice / c.num_chosen;
        Linear(contexts[0], {.weight = experts.weights[all.experts[choice]],
                             .weight_dtype = dtype,
                             .bias = nullptr,
                             .input = input.data() + from * stride,
                             .row_index = nullptr,
                             .output = alone.data() + choice * c.out_dim,
                             .in_dim = c.in_dim,
                             .out_dim = c.out_dim,
                             .input_stride = stride,
                             .output_stride = c.out_dim,
                             .accumulate = false,
                             .num_rows = &one});
      }
      ExpectWithin(alone.data(), expected.data(), magnitude.data(), size,
                   testing::LinearRoundings(c.in_dim), "output");

      for (rows = 0; rows <= kRows; ++rows) {
        HostChoices some({spread.begin(), spread.begin() + rows}, c.num_experts);
        some.num_chosen = c.num_chosen;  // also of no rows
        params.choices = some.View();
        for (ExecutionContext& ctx : contexts) {
          GuardedBuffer together(rows * c.num_chosen * c.out_dim);
          params.output = together.data();
          ExpertLinear(ctx, params);
          ASSERT_EQ(std::memcmp(together.data(), alone.data(), together.size() * sizeof(float)), 0)
              << rows << " rows, threads " << ctx.pool->num_threads();
          ASSERT_TRUE(together.Intact());
        }
      }
    }
  }
}

TEST_P(ExpertsTest, LinearReadsOnlyMatricesOfExpertsThatWereChosen) {
  const std::vector<char> weight = RandomWeights(32 * 16, DType::kBFloat16, 1);
  const void* weights[] = {nullptr, weight.data(), nullptr};
  const std::vector<float> input = RandomValues(2 * 16, 2);
  HostChoices choices({{1}, {1}}, 3);
  const int32_t rows = 2;
  GuardedBuffer output(2 * 32);
  ExecutionContext ctx = Context(2);
  ExpertLinear(ctx, {.weights = weights,
                     .weight_dtype = DType::kBFloat16,
                     .choices = choices.View(),
                     .input = input.data(),
                     .output = output.data(),
                     .in_dim = 16,
                     .out_dim = 32,
                     .input_stride = 16,
                     .input_per_choice = false,
                     .num_rows = &rows});
  EXPECT_TRUE(std::isfinite(output[0]) && std::isfinite(output[63]) && output.Intact());
}

TEST_P(ExpertsTest, CombineMatchesReferenceAndRowsStandAlone) {
  constexpr int32_t kRows{13};
  constexpr int64_t kGap{2};
  struct Case {
    int64_t dim, num_chosen;
    bool scale, accumulate;
  };
  for (const Case& c : {Case{1, 1, false, false}, Case{3, 2, true, true}, Case{33, 10, false, true},
                        Case{257, 5, true, false}, Case{1031, 32, false, false}}) {
    SCOPED_TRACE("dim " + std::to_string(c.dim) + " chosen " + std::to_string(c.num_chosen));
    const auto spread = SpreadChoices(kRows, 40, c.num_chosen, false);
    HostChoices choices(spread, 40);
    const std::vector<float> input = RandomValues(kRows * c.num_chosen * c.dim, 1);
    const float scale = -0.37f, abs_scale = 0.37f;
    const int64_t stride = c.dim + kGap;
    const std::vector<float> old = RandomValues(kRows * stride, 3);
    std::vector<float> expected = old, magnitude = old, abs_input = input;
    for (auto* values : {&magnitude, &abs_input}) {
      for (float& value : *values) value = std::abs(value);
    }
    int32_t rows = kRows;
    CombineExpertsParams params = {.input = input.data(),
                                   .choices = choices.View(),
                                   .scale = c.scale ? &scale : nullptr,
                                   .output = expected.data(),
                                   .dim = c.dim,
                                   .output_stride = stride,
                                   .accumulate = c.accumulate,
                                   .num_rows = &rows};
    CombineExpertsRef(params);
    params.input = abs_input.data();
    params.scale = c.scale ? &abs_scale : nullptr;
    params.output = magnitude.data();
    CombineExpertsRef(params);
    params.scale = c.scale ? &scale : nullptr;

    GuardedBuffer alone(old);
    ExecutionContext one = Context(1);
    for (int64_t r = 0; r < kRows; ++r) {
      rows = 1;
      params.input = input.data() + r * c.num_chosen * c.dim;
      params.choices.weights = choices.weights.data() + r * c.num_chosen;
      params.output = alone.data() + r * stride;
      CombineExperts(one, params);
    }
    ExpectWithin(alone.data(), expected.data(), magnitude.data(), alone.size(),
                 testing::LinearRoundings(c.num_chosen), "output");
    EXPECT_TRUE(alone.Intact());
    params.input = input.data();
    params.choices = choices.View();
    for (const int threads : {1, 3}) {
      ExecutionContext ctx = Context(threads);
      for (rows = 0; rows <= kRows; ++rows) {
        GuardedBuffer together(std::vector<float>(old.begin(), old.begin() + rows * stride));
        params.output = together.data();
        CombineExperts(ctx, params);
        ASSERT_EQ(std::memcmp(together.data(), alone.data(), rows * stride * sizeof(float)), 0);
        ASSERT_TRUE(together.Intact());
      }
    }
  }
}

SW_INSTANTIATE_SIMD_TESTS(ExpertsTest);

}  // namespace
}  // namespace sidewinder
