// MultiStep of every kind over one text, in any split into passes: data, state and parameters.
#ifndef SIDEWINDER_TESTS_TESTING_MULTISTEP_CASES_H_
#define SIDEWINDER_TESTS_TESTING_MULTISTEP_CASES_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/multistep.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"
#include "tests/testing/tolerance.h"

namespace sidewinder::testing {

enum class StepKind { kMamba1, kMamba2, kDeltaNet };

struct MultiStepShape {
  StepKind kind;
  int64_t num_heads;   // Mamba-2 and DeltaNet
  int64_t head_dim;    // Mamba-1: the channels
  int64_t num_groups;  // DeltaNet: key heads
  int64_t state_dim;   // DeltaNet: width of a key

  bool is_mamba1() const { return kind == StepKind::kMamba1; }
  bool is_mamba2() const { return kind == StepKind::kMamba2; }
  bool is_delta_net() const { return kind == StepKind::kDeltaNet; }
  int64_t inner_dim() const { return is_mamba1() ? head_dim : num_heads * head_dim; }
  int64_t delta_dim() const { return is_mamba1() ? head_dim : num_heads; }
  int64_t b_dim() const { return num_groups * state_dim; }
  int64_t c_dim() const { return b_dim(); }
  int64_t z_dim() const { return is_delta_net() ? num_heads : inner_dim(); }
  int64_t state_elements() const { return inner_dim() * state_dim; }
  std::string Name() const {
    const std::string heads = " heads " + std::to_string(num_heads);
    return (is_mamba1() ? "mamba1" : (is_mamba2() ? "mamba2" : "delta net") + heads) + " groups " +
           std::to_string(num_groups) + " dim " + std::to_string(head_dim) + " state " +
           std::to_string(state_dim);
  }
};

inline constexpr MultiStepShape kMultiStepShapes[] = {
    {StepKind::kMamba2, 1, 1, 1, 1},       {StepKind::kMamba2, 3, 5, 3, 7},
    {StepKind::kMamba2, 4, 31, 2, 33},     {StepKind::kMamba2, 2, 33, 1, 31},
    {StepKind::kMamba2, 10, 64, 1, 64},    {StepKind::kMamba2, 2, 130, 2, 128},
    {StepKind::kMamba1, 0, 1, 1, 1},       {StepKind::kMamba1, 0, 3, 1, 2},
    {StepKind::kMamba1, 0, 31, 1, 16},     {StepKind::kMamba1, 0, 130, 1, 19},
    {StepKind::kMamba1, 0, 512, 1, 16},    {StepKind::kMamba1, 0, 6, 6, 2},
    {StepKind::kMamba1, 0, 93, 3, 17},     {StepKind::kMamba1, 0, 130, 10, 4},
    {StepKind::kMamba1, 0, 512, 32, 16},   {StepKind::kDeltaNet, 1, 1, 1, 1},
    {StepKind::kDeltaNet, 3, 5, 3, 7},     {StepKind::kDeltaNet, 6, 8, 3, 8},
    {StepKind::kDeltaNet, 4, 16, 1, 16},   {StepKind::kDeltaNet, 4, 31, 2, 33},
    {StepKind::kDeltaNet, 2, 128, 1, 128}, {StepKind::kDeltaNet, 3, 130, 1, 31}};

// Weights and the inputs of `num_rows` rows. Strides exceed the widths; the gaps are poison. x, z,
// b and c of DeltaNet are v, beta, k and q.
struct MultiStepInputs {
  static constexpr int64_t kGap{3};
  static constexpr float kMaxA{4};

  MultiStepInputs(const MultiStepShape& s, int64_t num_rows, uint32_t seed)
      : shape(s),
        x(Rows(num_rows, s.inner_dim(), seed + 1, -1, 1)),
        z(Rows(num_rows, s.z_dim(), seed + 2, -4, 4)),
        dt(Rows(num_rows, s.delta_dim(), seed + 3, -6, 2)),
        b(Rows(num_rows, s.b_dim(), seed + 4, -1, 1)),
        c(Rows(num_rows, s.c_dim(), seed + 5, -1, 1)),
        a(RandomValues(s.is_mamba1() ? s.state_elements() : s.num_heads, 6, -kMaxA, -0.01f)),
        d(RandomValues(s.inner_dim(), 7)),
        dt_bias(RandomValues(s.delta_dim(), 8)) {}

  // The same with absolute values: what the reference makes of it bounds the rounding errors.
  MultiStepInputs Magnitude() const {
    MultiStepInputs result = *this;
    for (std::vector<float>* values : {&result.x, &result.z, &result.b, &result.c, &result.d}) {
      for (float& value : *values) value = std::abs(value);
    }
    return result;
  }

  static std::vector<float> Rows(int64_t num_rows, int64_t dim, uint32_t seed, float low,
                                 float high) {
    std::vector<float> values = RandomValues(num_rows * (dim + kGap), seed, low, high);
    for (int64_t r = 0; r < num_rows; ++r) {
      std::fill_n(values.begin() + r * (dim + kGap) + dim, kGap, kPoison);
    }
    return values;
  }

  MultiStepShape shape;
  std::vector<float> x, z, dt, b, c, a, d, dt_bias;
};

// State of `slots` sequences that have consumed nothing; log and snapshots are poison.
struct MultiStepState {
  MultiStepState(const MultiStepShape& s, int64_t slots, int64_t log_rows, int64_t snapshot_rows)
      : checkpoint(slots * s.state_elements(), snapshot_rows > 0 ? kPoison : 0.0f),
        log_x(slots * log_rows * s.inner_dim()),
        log_delta(slots * log_rows * s.delta_dim()),
        log_b(slots * log_rows * s.b_dim()),
        snapshots(slots * snapshot_rows * s.state_elements()),
        num_log_rows(log_rows),
        num_snapshot_rows(snapshot_rows) {
    for (int64_t slot = 0; slot < slots && snapshot_rows > 0; ++slot) {
      std::fill_n(snapshots.data() + slot * snapshot_rows * s.state_elements(), s.state_elements(),
                  0.0f);
    }
  }

  RecurrentState state() {
    return {.checkpoint = checkpoint.data(),
            .log_x = log_x.data(),
            .log_delta = log_delta.data(),
            .log_b = log_b.data(),
            .snapshots = num_snapshot_rows > 0 ? snapshots.data() : nullptr,
            .log_rows = num_log_rows,
            .snapshot_rows = num_snapshot_rows};
  }

  bool Intact() const {
    return checkpoint.Intact() && log_x.Intact() && log_delta.Intact() && log_b.Intact() &&
           snapshots.Intact();
  }

  GuardedBuffer checkpoint, log_x, log_delta, log_b, snapshots;
  int64_t num_log_rows, num_snapshot_rows;
};

// The parameters of each kind on the case's own arrays. output: [rows of the plan, inner_dim]
inline MultiStepMamba1Params Mamba1Params(const MultiStepInputs& in, MultiStepState& state,
                                          RowPlan plan, float* output) {
  constexpr int64_t kGap{MultiStepInputs::kGap};
  const MultiStepShape& s = in.shape;
  return {.x = in.x.data(),
          .z = in.z.data(),
          .dt = in.dt.data(),
          .b = in.b.data(),
          .c = in.c.data(),
          .a = in.a.data(),
          .d = in.d.data(),
          .dt_bias = in.dt_bias.data(),
          .output = output,
          .inner_dim = s.head_dim,
          .state_dim = s.state_dim,
          .num_groups = s.num_groups,
          .x_stride = s.head_dim + kGap,
          .z_stride = s.head_dim + kGap,
          .dt_stride = s.head_dim + kGap,
          .b_stride = s.b_dim() + kGap,
          .c_stride = s.b_dim() + kGap,
          .output_stride = s.head_dim,
          .state = state.state(),
          .plan = plan};
}

inline MultiStepMamba2Params Mamba2Params(const MultiStepInputs& in, MultiStepState& state,
                                          RowPlan plan, float* output) {
  constexpr int64_t kGap{MultiStepInputs::kGap};
  const MultiStepShape& s = in.shape;
  return {.x = in.x.data(),
          .b = in.b.data(),
          .c = in.c.data(),
          .dt = in.dt.data(),
          .a = in.a.data(),
          .d = in.d.data(),
          .dt_bias = in.dt_bias.data(),
          .output = output,
          .num_heads = s.num_heads,
          .head_dim = s.head_dim,
          .num_groups = s.num_groups,
          .state_dim = s.state_dim,
          .delta_min = 0.001f,
          .delta_max = std::numeric_limits<float>::infinity(),
          .x_stride = s.inner_dim() + kGap,
          .b_stride = s.b_dim() + kGap,
          .c_stride = s.b_dim() + kGap,
          .dt_stride = s.delta_dim() + kGap,
          .output_stride = s.inner_dim(),
          .state = state.state(),
          .plan = plan};
}

inline MultiStepDeltaNetParams DeltaNetParams(const MultiStepInputs& in, MultiStepState& state,
                                              RowPlan plan, float* output) {
  constexpr int64_t kGap{MultiStepInputs::kGap};
  const MultiStepShape& s = in.shape;
  return {.q = in.c.data(),
          .k = in.b.data(),
          .v = in.x.data(),
          .beta = in.z.data(),
          .dt = in.dt.data(),
          .a = in.a.data(),
          .dt_bias = in.dt_bias.data(),
          .output = output,
          .num_heads = s.num_heads,
          .head_dim = s.head_dim,
          .num_key_heads = s.num_groups,
          .key_dim = s.state_dim,
          .q_stride = s.c_dim() + kGap,
          .k_stride = s.b_dim() + kGap,
          .v_stride = s.inner_dim() + kGap,
          .beta_stride = s.z_dim() + kGap,
          .dt_stride = s.delta_dim() + kGap,
          .output_stride = s.inner_dim(),
          .state = state.state(),
          .plan = plan};
}

enum class Implementation { kBackend, kReference };  // that of the context, or plain loops

inline void RunMultiStep(Implementation implementation, ExecutionContext& ctx,
                         const MultiStepInputs& in, MultiStepState& state, RowPlan plan,
                         float* output) {
  const bool backend = implementation == Implementation::kBackend;
  switch (in.shape.kind) {
    case StepKind::kMamba1: {
      const MultiStepMamba1Params params = Mamba1Params(in, state, plan, output);
      return backend ? MultiStepMamba1(ctx, params) : MultiStepMamba1Ref(params);
    }
    case StepKind::kMamba2: {
      const MultiStepMamba2Params params = Mamba2Params(in, state, plan, output);
      return backend ? MultiStepMamba2(ctx, params) : MultiStepMamba2Ref(params);
    }
    case StepKind::kDeltaNet: {
      const MultiStepDeltaNetParams params = DeltaNetParams(in, state, plan, output);
      return backend ? MultiStepDeltaNet(ctx, params) : MultiStepDeltaNetRef(params);
    }
  }
}

// What a pass leaves: its outputs and the state.
struct MultiStepResult {
  const float* output;  // [size]
  int64_t size;
  const MultiStepState& state;
};

// A backend's result is within its bound of the reference's, after at most `steps` rows of a
// sequence. `magnitude` is the reference's for the absolute values of the inputs; Mamba only.
inline void ExpectMultiStepWithin(const MultiStepShape& shape, int64_t steps,
                                  const MultiStepResult& actual, const MultiStepResult& expected,
                                  const MultiStepResult& magnitude) {
  const auto compare = [](const GuardedBuffer& a, const GuardedBuffer& e, const float* scale,
                          double roundings, const char* what) {
    ExpectWithin(a.data(), e.data(), scale, a.size(), roundings, what);
  };
  const MultiStepState &a = actual.state, &e = expected.state, &m = magnitude.state;
  if (!shape.is_delta_net()) {
    // softplus(dt + dt_bias) <= 3.1 for the arguments of the cases
    const double roundings =
        MultiStepRoundings(steps, shape.state_dim, 3.1 * MultiStepInputs::kMaxA);
    ExpectWithin(actual.output, expected.output, magnitude.output, actual.size, roundings,
                 "output");
    compare(a.checkpoint, e.checkpoint, m.checkpoint.data(), roundings, "checkpoint");
    compare(a.log_delta, e.log_delta, m.log_delta.data(), roundings, "log_delta");
    EXPECT_EQ(std::memcmp(a.log_x.data(), e.log_x.data(), a.log_x.size() * sizeof(float)), 0);
    EXPECT_EQ(std::memcmp(a.log_b.data(), e.log_b.data(), a.log_b.size() * sizeof(float)), 0);
    return;
  }
  const double roundings = DeltaNetRoundings(steps, shape.state_dim);
  const float longest = static_cast<float>(steps + 1);
  const auto all = [](int64_t size, float value) { return std::vector<float>(size, value); };
  const auto absolute = [](const GuardedBuffer& values) {
    std::vector<float> result(values.data(), values.data() + values.size());
    for (float& value : result) value = std::abs(value);
    return result;
  };
  const float of_output = longest / std::sqrt(static_cast<float>(shape.state_dim));
  ExpectWithin(actual.output, expected.output, all(actual.size, of_output).data(), actual.size,
               roundings, "output");
  compare(a.checkpoint, e.checkpoint, all(a.checkpoint.size(), longest).data(), roundings,
          "checkpoint");
  compare(a.log_x, e.log_x, all(a.log_x.size(), longest).data(), roundings, "log_x");
  compare(a.log_delta, e.log_delta, absolute(e.log_delta).data(), kDeltaNetStepRoundings,
          "log_delta");
  compare(a.log_b, e.log_b, absolute(e.log_b).data(), DeltaNetKeyRoundings(shape.state_dim),
          "log_b");
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_MULTISTEP_CASES_H_
