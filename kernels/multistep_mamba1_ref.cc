#include <cmath>
#include <vector>

#include "kernels/common/reference.h"
#include "kernels/multistep.h"

namespace sidewinder {

void MultiStepMamba1Ref(const MultiStepMamba1Params& p) {
  const int64_t dim = p.inner_dim, n_dim = p.state_dim, b_dim = p.num_groups * n_dim;
  const RecurrentState& st = p.state;
  for (int s = 0; s < *p.plan.num_sequences; ++s) {
    const SequenceRows& seq = p.plan.sequences[s];
    const auto snapshot = [&](int64_t position) {
      return st.snapshots +
             (seq.slot * st.snapshot_rows + position % st.snapshot_rows) * n_dim * dim;
    };
    float* checkpoint = st.checkpoint + seq.slot * n_dim * dim;
    const float* start = st.snapshots != nullptr ? snapshot(seq.consumed) : checkpoint;
    std::vector<double> state(start, start + n_dim * dim);
    const auto store = [&](float* to) {
      for (int64_t i = 0; i < n_dim * dim; ++i) to[i] = static_cast<float>(state[i]);
    };
    const int64_t end = seq.consumed + seq.num_rows;
    for (int64_t pos = st.snapshots ? seq.consumed : seq.checkpoint; pos < end; ++pos) {
      const bool is_new = pos >= seq.consumed;
      const int64_t row = seq.first_row + pos - seq.consumed;
      const int64_t entry = st.snapshots ? 0 : seq.slot * st.log_rows + pos % st.log_rows;
      for (int64_t c = 0; c < dim; ++c) {
        const int64_t first = c / (dim / p.num_groups) * n_dim;  // of the group's B and C
        const double x = is_new ? p.x[row * p.x_stride + c] : st.log_x[entry * dim + c];
        const double delta =
            is_new ? ReferenceSoftplus(double{p.dt[row * p.dt_stride + c]} + p.dt_bias[c])
                   : st.log_delta[entry * dim + c];
        double y = p.d[c] * x;
        for (int64_t n = 0; n < n_dim; ++n) {
          const double b =
              is_new ? p.b[row * p.b_stride + first + n] : st.log_b[entry * b_dim + first + n];
          double& v = state[n * dim + c];
          v = std::exp(delta * p.a[n * dim + c]) * v + delta * b * x;
          if (is_new) y += v * p.c[row * p.c_stride + first + n];
        }
        if (!is_new) continue;
        p.output[row * p.output_stride + c] =
            static_cast<float>(y * ReferenceSilu(p.z[row * p.z_stride + c]));
        if (st.snapshots != nullptr || pos < seq.new_checkpoint) continue;
        st.log_x[entry * dim + c] = static_cast<float>(x);
        st.log_delta[entry * dim + c] = static_cast<float>(delta);
        for (int64_t n = first; n < first + n_dim; ++n) {
          st.log_b[entry * b_dim + n] = p.b[row * p.b_stride + n];
        }
      }
      if (st.snapshots != nullptr) store(snapshot(pos + 1));
      if (st.snapshots == nullptr && pos + 1 == seq.new_checkpoint) store(checkpoint);
    }
  }
}

}  // namespace sidewinder
