#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/common/reference.h"
#include "kernels/multistep_ref.h"

namespace sidewinder {
namespace {

std::vector<double> Normed(const float* from, int64_t dim, double factor) {
  double sum = kDeltaNetNormEps;
  for (int64_t i = 0; i < dim; ++i) sum += double{from[i]} * from[i];
  std::vector<double> to(from, from + dim);
  for (double& value : to) value *= factor / std::sqrt(sum);
  return to;
}

}  // namespace

void MultiStepDeltaNetRef(const MultiStepDeltaNetParams& p) {
  const int64_t heads = p.num_heads, width = p.head_dim, n_dim = p.key_dim;
  const int64_t dim = heads * width, b_dim = p.num_key_heads * n_dim;
  const RecurrentState& st = p.state;
  ReplayAndDecodeRef(st, p.plan, dim * n_dim, [&](double* state, const ReferenceStep& step) {
    const auto [is_new, append, row, entry] = step;
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t first = h / (heads / p.num_key_heads) * n_dim;
      float* logged_key = st.log_b + entry * b_dim + first;
      std::vector<double> key, query(n_dim);
      double g = 0, beta = 0;
      if (is_new) {
        key = Normed(p.k + row * p.k_stride + first, n_dim, 1);
        query = Normed(p.q + row * p.q_stride + first, n_dim, 1 / std::sqrt(double(n_dim)));
        g = p.a[h] * ReferenceSoftplus(double{p.dt[row * p.dt_stride + h]} + p.dt_bias[h]);
        beta = 1 / (1 + std::exp(-double{p.beta[row * p.beta_stride + h]}));
      } else {
        key.assign(logged_key, logged_key + n_dim);
        g = st.log_delta[entry * heads + h];
      }
      if (append) st.log_delta[entry * heads + h] = static_cast<float>(g);
      if (append) std::copy(key.begin(), key.end(), logged_key);
      for (int64_t i = h * width; i < (h + 1) * width; ++i) {
        double* column = &state[h * n_dim * width + i - h * width];  // elements `width` apart
        double seen = 0, out = 0;
        for (int64_t n = 0; n < n_dim; ++n) {
          column[n * width] *= std::exp(g);
          seen += column[n * width] * key[n];
        }
        float& logged = st.log_x[entry * dim + i];
        const double m = is_new ? beta * (p.v[row * p.v_stride + i] - seen) : double{logged};
        for (int64_t n = 0; n < n_dim; ++n) {
          column[n * width] += key[n] * m;
          out += column[n * width] * query[n];
        }
        if (append) logged = static_cast<float>(m);
        if (is_new) p.output[row * p.output_stride + i] = static_cast<float>(out);
      }
    }
  });
}

}  // namespace sidewinder
