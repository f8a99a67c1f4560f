#include <cmath>

#include "kernels/common/reference.h"
#include "kernels/multistep_ref.h"

namespace sidewinder {

void MultiStepMamba1Ref(const MultiStepMamba1Params& p) {
  const int64_t dim = p.inner_dim, n_dim = p.state_dim, b_dim = p.num_groups * n_dim;
  const RecurrentState& st = p.state;
  ReplayAndDecodeRef(st, p.plan, n_dim * dim, [&](double* state, const ReferenceStep& step) {
    const auto [is_new, append, row, entry] = step;
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
      if (is_new) {
        p.output[row * p.output_stride + c] =
            static_cast<float>(y * ReferenceSilu(p.z[row * p.z_stride + c]));
      }
      if (!append) continue;
      st.log_x[entry * dim + c] = static_cast<float>(x);
      st.log_delta[entry * dim + c] = static_cast<float>(delta);
      for (int64_t n = first; n < first + n_dim; ++n) {
        st.log_b[entry * b_dim + n] = p.b[row * p.b_stride + n];
      }
    }
  });
}

}  // namespace sidewinder
