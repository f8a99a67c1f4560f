// MultiStep of both kinds over one text, in any split into passes: data, state and parameters.
#ifndef SIDEWINDER_TESTS_TESTING_MULTISTEP_CASES_H_
#define SIDEWINDER_TESTS_TESTING_MULTISTEP_CASES_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/multistep.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/random_values.h"

namespace sidewinder::testing {

struct MultiStepShape {
  bool is_mamba2;
  int64_t num_heads;  // Mamba-2
  int64_t head_dim;   // Mamba-1: the channels
  int64_t num_groups;
  int64_t state_dim;

  int64_t inner_dim() const { return is_mamba2 ? num_heads * head_dim : head_dim; }
  int64_t delta_dim() const { return is_mamba2 ? num_heads : head_dim; }
  int64_t b_dim() const { return num_groups * state_dim; }
  int64_t state_elements() const { return inner_dim() * state_dim; }
  std::string Name() const {
    return (is_mamba2 ? "mamba2 heads " + std::to_string(num_heads) : std::string("mamba1")) +
           " groups " + std::to_string(num_groups) + " dim " + std::to_string(head_dim) +
           " state " + std::to_string(state_dim);
  }
};

inline constexpr MultiStepShape kMultiStepShapes[] = {
    {true, 1, 1, 1, 1},    {true, 3, 5, 3, 7},     {true, 4, 31, 2, 33},   {true, 2, 33, 1, 31},
    {true, 10, 64, 1, 64}, {true, 2, 130, 2, 128}, {false, 0, 1, 1, 1},    {false, 0, 3, 1, 2},
    {false, 0, 31, 1, 16}, {false, 0, 130, 1, 19}, {false, 0, 512, 1, 16}, {false, 0, 6, 6, 2},
    {false, 0, 93, 3, 17}, {false, 0, 130, 10, 4}, {false, 0, 512, 32, 16}};

// Weights and the inputs of `num_rows` rows. Strides exceed the widths; the gaps are poison.
struct MultiStepInputs {
  static constexpr int64_t kGap{3};
  static constexpr float kMaxA{4};

  MultiStepInputs(const MultiStepShape& s, int64_t num_rows, uint32_t seed)
      : shape(s),
        x(Rows(num_rows, s.inner_dim(), seed + 1, -1, 1)),
        z(Rows(num_rows, s.inner_dim(), seed + 2, -4, 4)),
        dt(Rows(num_rows, s.delta_dim(), seed + 3, -6, 2)),
        b(Rows(num_rows, s.b_dim(), seed + 4, -1, 1)),
        c(Rows(num_rows, s.b_dim(), seed + 5, -1, 1)),
        a(RandomValues(s.is_mamba2 ? s.num_heads : s.state_elements(), 6, -kMaxA, -0.01f)),
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

// The parameters of either kind on the case's own arrays. output: [rows of the plan, inner_dim]
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

enum class Implementation { kBackend, kReference };  // that of the context, or plain loops

inline void RunMultiStep(Implementation implementation, ExecutionContext& ctx,
                         const MultiStepInputs& in, MultiStepState& state, RowPlan plan,
                         float* output) {
  if (in.shape.is_mamba2) {
    const MultiStepMamba2Params params = Mamba2Params(in, state, plan, output);
    implementation == Implementation::kBackend ? MultiStepMamba2(ctx, params)
                                               : MultiStepMamba2Ref(params);
  } else {
    const MultiStepMamba1Params params = Mamba1Params(in, state, plan, output);
    implementation == Implementation::kBackend ? MultiStepMamba1(ctx, params)
                                               : MultiStepMamba1Ref(params);
  }
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_MULTISTEP_CASES_H_
