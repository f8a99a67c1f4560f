#include "kernels/common/reference.h"
#include "kernels/linear.h"

namespace sidewinder {

void LinearRef(const LinearParams& p) {
  for (int64_t r = 0; r < *p.num_rows; ++r) {
    const int64_t from = p.row_index != nullptr ? p.row_index[r] : r;
    for (int64_t o = 0; o < p.out_dim; ++o) {
      float& out = p.output[r * p.output_stride + o];
      double sum = 0;
      for (int64_t i = 0; i < p.in_dim; ++i) {
        sum += ReferenceLoad(p.weight, p.weight_dtype, o * p.in_dim + i) *
               p.input[from * p.input_stride + i];
      }
      if (p.bias != nullptr) sum += p.bias[o];
      if (p.scale != nullptr) sum *= p.scale[o];
      if (p.accumulate) sum += out;
      out = static_cast<float>(sum);
    }
  }
}

}  // namespace sidewinder
