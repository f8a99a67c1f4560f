#include <cmath>
#include <vector>

#include "kernels/common/reference.h"
#include "kernels/rms_norm.h"

namespace sidewinder {

void RmsNormRef(const RmsNormParams& p) {
  std::vector<double> values(p.dim);
  for (int64_t r = 0; r < *p.num_rows; ++r) {
    for (int64_t i = 0; i < p.dim; ++i) {
      values[i] = p.input[r * p.input_stride + i];
      if (p.addend != nullptr) values[i] += p.addend[r * p.addend_stride + i];
      if (p.gate != nullptr && !p.gate_last) {
        values[i] *= ReferenceSilu(p.gate[r * p.gate_stride + i]);
      }
    }
    for (int64_t group = 0; group < p.dim; group += p.group_dim) {
      double sum = 0;
      for (int64_t i = group; i < group + p.group_dim; ++i) sum += values[i] * values[i];
      const double scale = 1 / std::sqrt(sum / p.group_dim + p.eps);
      for (int64_t i = group; i < group + p.group_dim; ++i) {
        double out = (p.weight != nullptr ? p.weight[i] : 1) * values[i] * scale;
        if (p.gate != nullptr && p.gate_last) out *= ReferenceSilu(p.gate[r * p.gate_stride + i]);
        p.output[r * p.output_stride + i] = static_cast<float>(out);
      }
    }
  }
}

}  // namespace sidewinder
