// The experts' ops on CUDA. A product must have the bits that Linear gives that row and matrix,
// whatever else is in the pass and whichever kernel computes it.
#include "kernels/experts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/linear.h"
#include "kernels/pack_weights.h"
#include "runtime/float_convert.h"
#include "tests/testing/cuda_backend.h"
#include "tests/testing/expert_cases.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::DeviceArray;
using testing::ExpectWithin;
using testing::HostChoices;
using testing::kPoison;
using testing::RandomValues;
using testing::RandomWeights;
using testing::RouteCase;
using testing::SpreadChoices;

constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};

// What an input becomes in front of weights of `dtype`.
float Rounded(float value, DType dtype) {
  if (dtype == DType::kBFloat16) return BFloat16ToFloat(FloatToBFloat16(value));
  return dtype == DType::kFloat16 ? Float16ToFloat(FloatToFloat16(value)) : value;
}

std::vector<float> Abs(std::vector<float> values) {
  for (float& value : values) value = std::abs(value);
  return values;
}

class ExpertsCudaTest : public testing::CudaTest {
 protected:
  // Choices in device memory.
  struct DeviceChoices {
    DeviceArray<int32_t> experts, order, offsets;
    DeviceArray<float> weights;
    int64_t num_experts, num_chosen;

    ExpertChoices View() const {
      return {.experts = experts.data(),
              .weights = weights.data(),
              .order = order.data(),
              .offsets = offsets.data(),
              .num_experts = num_experts,
              .num_chosen = num_chosen};
    }
    bool Intact() const {
      return experts.Intact() && order.Intact() && offsets.Intact() && weights.Intact();
    }
  };

  DeviceChoices Upload(const HostChoices& host) {
    return {CudaTest::Upload(host.experts),
            CudaTest::Upload(host.order),
            CudaTest::Upload(host.offsets),
            CudaTest::Upload(host.weights),
            host.num_experts,
            host.num_chosen};
  }
  using CudaTest::Upload;

  // Routes the first `rows` rows; arrays for max_rows come back.
  HostChoices Route(RouteExpertsParams params, const std::vector<float>& logits, int32_t rows,
                    int32_t max_rows) {
    const int64_t num_experts = params.choices.num_experts;
    HostChoices host(max_rows, num_experts, params.choices.num_chosen);
    const DeviceChoices choices = Upload(host);
    const auto device_logits =
        Upload(std::vector<float>(logits.begin(), logits.begin() + rows * num_experts));
    const auto num_rows = Upload(std::vector<int32_t>{rows});
    params.logits = device_logits.data();
    params.choices = choices.View();
    params.num_rows = num_rows.data();
    params.max_rows = max_rows;
    RouteExperts(ctx(), params);
    host.experts = choices.experts.Download();
    host.order = choices.order.Download();
    host.offsets = choices.offsets.Download();
    host.weights = choices.weights.Download();
    EXPECT_TRUE(choices.Intact());
    const int64_t used = rows * params.choices.num_chosen;
    for (size_t i = used; i < host.experts.size(); ++i) {
      EXPECT_EQ(host.experts[i], HostChoices::kUnset) << i;
      EXPECT_EQ(host.order[i], HostChoices::kUnset) << i;
      EXPECT_EQ(host.weights[i], static_cast<float>(HostChoices::kUnset)) << i;
    }
    EXPECT_EQ(host.offsets.back(), HostChoices::kUnset);
    for (auto* array : {&host.experts, &host.order}) array->resize(used);
    host.weights.resize(used);
    host.offsets.pop_back();
    return host;
  }
};

TEST_F(ExpertsCudaTest, RouteTakesWhateverLogitsAre) {
  RouteExpertsParams params =
      testing::RouteParams({5, 3, 1, 1, ExpertScore::kSoftmaxChosen, false, false, 1});
  const float kInf = INFINITY;
  const std::vector<float> logits = {kPoison, kPoison, kPoison, kPoison, kPoison,  //
                                     kPoison, -kInf,   kPoison, -kInf,   -3,       //
                                     0.0f,    -0.0f,   0.0f,    -0.0f,   0.0f,     //
                                     1,       5,       5,       5,       5};
  const HostChoices choices = Route(params, logits, 4, 4);
  EXPECT_EQ(choices.experts, (std::vector<int32_t>{0, 1, 2, 1, 3, 4, 0, 1, 2, 1, 2, 3}));
  EXPECT_FLOAT_EQ(choices.weights[9], 1 / 3.0f);
}

TEST_F(ExpertsCudaTest, RouteMatchesReferenceAndRowsStandAlone) {
  for (const RouteCase& c : testing::kRouteCases) {
    SCOPED_TRACE(c.Name());
    constexpr int32_t kRows{517};  // more than one block a warp's rows, and not all blocks alike
    const std::vector<float> logits = RandomValues(kRows * c.num_experts, 1, -4, 4);
    const std::vector<float> correction = RandomValues(c.num_experts, 2, -0.5f, 0.5f);
    const auto device_correction = Upload(correction);
    RouteExpertsParams params = testing::RouteParams(c);
    params.correction = c.correction ? device_correction.data() : nullptr;
    std::vector<float> weights;
    for (const int32_t rows : {kRows, 100, 33, 17, 16, 5, 1, 0}) {
      SCOPED_TRACE("rows " + std::to_string(rows));
      const HostChoices actual = Route(params, logits, rows, rows + rows % 3 + (rows == 0));
      HostChoices expected(rows, c.num_experts, c.num_chosen);
      RouteExpertsParams reference = params;
      reference.correction = c.correction ? correction.data() : nullptr;
      reference.logits = logits.data();
      reference.choices = expected.View();
      reference.num_rows = &rows;
      RouteExpertsRef(reference);
      for (auto* array : {&expected.experts, &expected.order, &expected.offsets}) {
        array->pop_back();
      }
      ASSERT_EQ(actual.experts, expected.experts);
      ASSERT_EQ(actual.order, expected.order);
      ASSERT_EQ(actual.offsets, expected.offsets);
      if (rows == kRows) {
        ExpectWithin(actual.weights.data(), expected.weights.data(), expected.weights.data(),
                     rows * c.num_chosen,
                     testing::RouteExpertsRoundings(8, c.num_experts, c.num_chosen), "weights");
        weights = actual.weights;
      }
      ASSERT_EQ(
          std::memcmp(actual.weights.data(), weights.data(), actual.weights.size() * sizeof(float)),
          0);
    }
  }
}

struct LinearCase {
  int64_t out_dim, in_dim, num_experts, num_chosen;
  bool per_choice, all_alike;
  int64_t gap;  // elements between input rows beyond in_dim

  std::string Name(DType dtype) const {
    return std::string(sidewinder::Name(dtype)) + " " + std::to_string(out_dim) + "x" +
           std::to_string(in_dim) + ", " + std::to_string(num_chosen) + " of " +
           std::to_string(num_experts);
  }
};
// Inputs that can be read 16, 8 and 4 bytes at a time; fewer k-steps than slices; few and many rows
// an expert.
constexpr LinearCase kLinearCases[] = {
    {1, 1, 1, 1, false, false, 3},      {3, 2, 5, 3, true, false, 4},
    {33, 31, 5, 3, false, false, 1},    {17, 127, 16, 2, false, true, 3},
    {67, 258, 7, 1, true, false, 2},    {40, 64, 72, 10, false, false, 4},
    {130, 320, 9, 4, true, true, 0},    {257, 516, 2, 1, false, false, 4},
    {100, 1024, 5, 5, false, false, 1}, {16, 130, 300, 7, false, false, 0}};

class ExpertLinearCudaTest : public ExpertsCudaTest {
 protected:
  // A matrix as CUDA kernels take it.
  DeviceArray<char> Weights(const std::vector<char>& row_major, DType dtype, const LinearCase& c) {
    DeviceArray<char> from = Upload(row_major);
    if (dtype == DType::kFloat32) return from;
    DeviceArray<char> packed = Poisoned<char>(PackedBytes(c.out_dim, c.in_dim));
    PackWeights(ctx(), {.row_major = from.data(),
                        .packed = packed.data(),
                        .out_dim = c.out_dim,
                        .in_dim = c.in_dim});
    EXPECT_TRUE(stream().Synchronize().ok());  // `from` goes
    return packed;
  }

  // [rows * num_chosen, out_dim] of the given experts; matrices that nobody chose are not there.
  std::vector<float> Run(const LinearCase& c, DType dtype, const std::vector<const void*>& weights,
                         const std::vector<std::vector<int32_t>>& chosen,
                         const DeviceArray<float>& input, int32_t max_rows) {
    HostChoices host(chosen, c.num_experts);
    host.num_chosen = c.num_chosen;  // also of no rows
    std::vector<const void*> reachable(weights.size(), nullptr);
    for (const auto& row : chosen) {
      for (const int32_t e : row) reachable[e] = weights[e];
    }
    const DeviceChoices choices = Upload(host);
    const auto device_weights = Upload(reachable);
    const auto rows = Upload(std::vector<int32_t>{static_cast<int32_t>(chosen.size())});
    const auto output = Poisoned<float>(chosen.size() * c.num_chosen * c.out_dim);
    ExpertLinear(ctx(), {.weights = device_weights.data(),
                         .weight_dtype = dtype,
                         .choices = choices.View(),
                         .input = input.data(),
                         .output = output.data(),
                         .in_dim = c.in_dim,
                         .out_dim = c.out_dim,
                         .input_stride = c.in_dim + c.gap,
                         .input_per_choice = c.per_choice,
                         .num_rows = rows.data(),
                         .max_rows = max_rows});
    std::vector<float> result = output.Download();
    EXPECT_TRUE(output.Intact() && choices.Intact());
    return result;
  }

  // The same by Linear, choice by choice.
  std::vector<float> RunAlone(const LinearCase& c, DType dtype,
                              const std::vector<const void*>& weights, const HostChoices& choices,
                              const DeviceArray<float>& input) {
    const auto one = Upload(std::vector<int32_t>{1});
    const int64_t count = choices.offsets[c.num_experts];
    const auto output = Poisoned<float>(count * c.out_dim);
    for (int64_t choice = 0; choice < count; ++choice) {
      const int64_t from = c.per_choice ? choice : choice / c.num_chosen;
      Linear(ctx(), {.weight = weights[choices.experts[choice]],
                     .weight_dtype = dtype,
                     .bias = nullptr,
                     .input = input.data() + from * (c.in_dim + c.gap),
                     .row_index = nullptr,
                     .output = output.data() + choice * c.out_dim,
                     .in_dim = c.in_dim,
                     .out_dim = c.out_dim,
                     .input_stride = c.in_dim + c.gap,
                     .output_stride = c.out_dim,
                     .accumulate = false,
                     .num_rows = one.data(),
                     .max_rows = 1});
    }
    return output.Download();
  }

  // Prefixes of the rows, with the kernels of this GPU and with those of any.
  void ExpectBits(const LinearCase& c, DType dtype, const std::vector<const void*>& weights,
                  const std::vector<std::vector<int32_t>>& chosen, const DeviceArray<float>& input,
                  const std::vector<float>& alone, const std::vector<int32_t>& row_counts) {
    CudaContext& cuda = *ctx().cuda;
    const int32_t own = cuda.compute_capability;
    for (const int32_t capability : {own, 80}) {
      cuda.compute_capability = capability;
      for (const int32_t rows : row_counts) {
        for (const int32_t max_rows : {rows, rows + 1, 600}) {  // few rows or many
          const std::vector<float> actual =
              Run(c, dtype, weights, {chosen.begin(), chosen.begin() + rows}, input, max_rows);
          ASSERT_EQ(std::memcmp(actual.data(), alone.data(), actual.size() * sizeof(float)), 0)
              << rows << " of " << max_rows << " rows, capability " << capability;
        }
      }
    }
    cuda.compute_capability = own;
  }
};

TEST_F(ExpertLinearCudaTest, MatchesReferenceAndHasTheBitsOfLinear) {
  constexpr int32_t kRows{73};
  for (const DType dtype : kDTypes) {
    for (const LinearCase& c : kLinearCases) {
      SCOPED_TRACE(c.Name(dtype));
      std::vector<std::vector<char>> matrices, magnitudes;
      std::vector<DeviceArray<char>> device_matrices;
      std::vector<const void*> weights, abs_weights, device_weights;
      for (int64_t e = 0; e < c.num_experts; ++e) {
        matrices.push_back(RandomWeights(c.out_dim * c.in_dim, dtype, 100 + e));
        magnitudes.push_back(matrices.back());
        for (size_t i = SizeOf(dtype) - 1; i < magnitudes[e].size(); i += SizeOf(dtype)) {
          magnitudes[e][i] &= 0x7f;
        }
        device_matrices.push_back(Weights(matrices.back(), dtype, c));
      }
      for (int64_t e = 0; e < c.num_experts; ++e) {
        weights.push_back(matrices[e].data());
        abs_weights.push_back(magnitudes[e].data());
        device_weights.push_back(device_matrices[e].data());
      }
      const auto chosen = SpreadChoices(kRows, c.num_experts, c.num_chosen, c.all_alike);
      HostChoices choices(chosen, c.num_experts);
      const int64_t stride = c.in_dim + c.gap,
                    input_rows = kRows * (c.per_choice ? c.num_chosen : 1);
      std::vector<float> input = RandomValues(input_rows * stride, 2);
      for (int64_t r = 0; r < input_rows; ++r) {
        std::fill_n(input.begin() + r * stride + c.in_dim, c.gap, kPoison);
      }
      const DeviceArray<float> device_input = Upload(input);
      const std::vector<float> alone = RunAlone(c, dtype, device_weights, choices, device_input);

      std::vector<float> rounded = input;
      for (float& value : rounded) value = Rounded(value, dtype);
      const std::vector<float> abs_rounded = Abs(rounded);
      std::vector<float> expected(alone.size()), magnitude(alone.size());
      ExpertLinearParams params = {.weights = weights.data(),
                                   .weight_dtype = dtype,
                                   .choices = choices.View(),
                                   .input = rounded.data(),
                                   .output = expected.data(),
                                   .in_dim = c.in_dim,
                                   .out_dim = c.out_dim,
                                   .input_stride = stride,
                                   .input_per_choice = c.per_choice,
                                   .num_rows = &kRows};
      ExpertLinearRef(params);
      params.weights = abs_weights.data();
      params.input = abs_rounded.data();
      params.output = magnitude.data();
      ExpertLinearRef(params);
      const std::vector<float> all = Run(c, dtype, device_weights, chosen, device_input, kRows);
      ExpectWithin(all.data(), expected.data(), magnitude.data(), all.size(),
                   dtype == DType::kFloat32 ? testing::LinearRoundings(c.in_dim)
                                            : testing::TensorCoreRoundings(c.in_dim),
                   "output");
      ExpectBits(c, dtype, device_weights, chosen, device_input, alone,
                 {0, 1, 2, 5, 8, 9, 16, 17, 33, kRows});
    }
  }
}

TEST_F(ExpertLinearCudaTest, RealShapesHaveTheBitsOfLinear) {
  for (const LinearCase& c : {LinearCase{768, 4096, 72, 10, false, false, 0},  // granite-4.0-h
                              LinearCase{4096, 768, 72, 10, true, false, 0},
                              LinearCase{2048, 14336, 4, 2, true, false, 0},    // Jamba's down
                              LinearCase{2688, 1856, 32, 6, true, true, 0}}) {  // Nemotron-H
    constexpr DType kDType{DType::kBFloat16};
    SCOPED_TRACE(c.Name(kDType));
    const size_t bytes = PackedBytes(c.out_dim, c.in_dim);
    const auto matrices = device().Allocate(bytes * c.num_experts, "the matrices");
    ASSERT_TRUE(matrices.ok()) << matrices.status();
    std::vector<const void*> weights;
    for (int64_t e = 0; e < c.num_experts; ++e) {
      char* matrix = matrices->as<char>() + e * bytes;
      sidewinder::RandomWeights(ctx(), {.weights = matrix,
                                        .dtype = kDType,
                                        .out_dim = c.out_dim,
                                        .in_dim = c.in_dim,
                                        .scale = 0.02f,
                                        .seed = static_cast<uint64_t>(e)});
      weights.push_back(matrix);
    }
    constexpr int32_t kRows{67};
    const auto chosen = SpreadChoices(kRows, c.num_experts, c.num_chosen, c.all_alike);
    const DeviceArray<float> input =
        Upload(RandomValues(kRows * (c.per_choice ? c.num_chosen : 1) * c.in_dim, 2));
    const std::vector<float> alone =
        RunAlone(c, kDType, weights, HostChoices(chosen, c.num_experts), input);
    ExpectBits(c, kDType, weights, chosen, input, alone, {1, 5, 16, kRows});
  }
}

TEST_F(ExpertsCudaTest, CombineMatchesReferenceAndRowsStandAlone) {
  constexpr int32_t kRows{13};
  constexpr int64_t kGap{2};
  struct Case {
    int64_t dim, num_chosen;
    bool scale, accumulate;
  };
  for (const Case& c : {Case{1, 1, false, false}, Case{3, 2, true, true}, Case{33, 10, false, true},
                        Case{257, 5, true, false}, Case{4096, 32, false, false}}) {
    SCOPED_TRACE("dim " + std::to_string(c.dim) + " chosen " + std::to_string(c.num_chosen));
    HostChoices choices(SpreadChoices(kRows, 40, c.num_chosen, false), 40);
    const std::vector<float> input = RandomValues(kRows * c.num_chosen * c.dim, 1);
    const float scale = -0.37f, abs_scale = 0.37f;
    const int64_t stride = c.dim + kGap;
    const std::vector<float> old = RandomValues(kRows * stride, 3), abs_input = Abs(input);
    std::vector<float> expected = old, magnitude = Abs(old);
    CombineExpertsParams params = {.input = input.data(),
                                   .choices = choices.View(),
                                   .scale = c.scale ? &scale : nullptr,
                                   .output = expected.data(),
                                   .dim = c.dim,
                                   .output_stride = stride,
                                   .accumulate = c.accumulate,
                                   .num_rows = &kRows};
    CombineExpertsRef(params);
    params.input = abs_input.data();
    params.scale = c.scale ? &abs_scale : nullptr;
    params.output = magnitude.data();
    CombineExpertsRef(params);

    const DeviceChoices device_choices = Upload(choices);
    const auto device_input = Upload(input), device_scale = Upload(std::vector<float>{scale});
    params.input = device_input.data();
    params.choices = device_choices.View();
    params.scale = c.scale ? device_scale.data() : nullptr;
    std::vector<float> all;
    for (const int32_t rows : {kRows, 5, 1, 0}) {
      const auto output = Upload(old);
      const auto num_rows = Upload(std::vector<int32_t>{rows});
      params.output = output.data();
      params.num_rows = num_rows.data();
      params.max_rows = rows == 0 ? kRows : rows;
      CombineExperts(ctx(), params);
      const std::vector<float> actual = output.Download();
      EXPECT_TRUE(output.Intact());
      if (rows == kRows) {
        ExpectWithin(actual.data(), expected.data(), magnitude.data(), actual.size(),
                     testing::LinearRoundings(c.num_chosen), "output");
        all = actual;
      }
      ASSERT_EQ(std::memcmp(actual.data(), all.data(), rows * stride * sizeof(float)), 0);
      ASSERT_EQ(std::memcmp(actual.data() + rows * stride, old.data() + rows * stride,
                            (kRows - rows) * stride * sizeof(float)),
                0);
    }
  }
}

}  // namespace
}  // namespace sidewinder
