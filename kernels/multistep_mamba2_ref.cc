#include <algorithm>
#include <cmath>

#include "kernels/common/reference.h"
#include "kernels/multistep_ref.h"

namespace sidewinder {

void MultiStepMamba2Ref(const MultiStepMamba2Params& p) {
  const int64_t heads = p.num_heads, width = p.head_dim, n_dim = p.state_dim;
  const int64_t dim = heads * width, b_dim = p.num_groups * n_dim;
  const RecurrentState& st = p.state;
  ReplayAndDecodeRef(st, p.plan, dim * n_dim, [&](double* state, const ReferenceStep& step) {
    const auto [is_new, append, row, entry] = step;
    const float* b = is_new ? p.b + row * p.b_stride : st.log_b + entry * b_dim;
    const float* x = is_new ? p.x + row * p.x_stride : st.log_x + entry * dim;
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t group = h / (heads / p.num_groups) * n_dim;
      const double delta =
          is_new ? std::clamp<double>(
                       ReferenceSoftplus(double{p.dt[row * p.dt_stride + h]} + p.dt_bias[h]),
                       p.delta_min, p.delta_max)
                 : st.log_delta[entry * heads + h];
      const double decay = std::exp(p.a[h] * delta);
      if (append) st.log_delta[entry * heads + h] = static_cast<float>(delta);
      for (int64_t i = h * width; i < (h + 1) * width; ++i) {
        double y = double{p.d[i]} * x[i];
        for (int64_t n = 0; n < n_dim; ++n) {
          double& v = state[(h * n_dim + n) * width + i - h * width];
          v = decay * v + delta * x[i] * b[group + n];
          if (is_new) y += v * p.c[row * p.c_stride + group + n];
        }
        if (is_new) p.output[row * p.output_stride + i] = static_cast<float>(y);
      }
    }
    if (append) std::copy_n(x, dim, st.log_x + entry * dim);
    if (append) std::copy_n(b, b_dim, st.log_b + entry * b_dim);
  });
}

}  // namespace sidewinder
