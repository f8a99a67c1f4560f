#include "kernels/experts.h"

namespace sidewinder {

void CombineExpertsRef(const CombineExpertsParams& p) {
  const int64_t num_chosen = p.choices.num_chosen;
  for (int64_t r = 0; r < *p.num_rows; ++r) {
    for (int64_t i = 0; i < p.dim; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < num_chosen; ++j) {
        const int64_t choice = r * num_chosen + j;
        sum += double{p.choices.weights[choice]} * p.input[choice * p.dim + i];
      }
      if (p.scale != nullptr) sum *= *p.scale;
      float& out = p.output[r * p.output_stride + i];
      out = static_cast<float>(p.accumulate ? sum + out : sum);
    }
  }
}

}  // namespace sidewinder
