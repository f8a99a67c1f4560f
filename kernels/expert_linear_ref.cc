#include "kernels/common/reference.h"
#include "kernels/experts.h"

namespace sidewinder {

void ExpertLinearRef(const ExpertLinearParams& p) {
  const int64_t num_chosen = p.choices.num_chosen;
  for (int64_t choice = 0; choice < *p.num_rows * num_chosen; ++choice) {
    const void* weight = p.weights[p.choices.experts[choice]];
    const int64_t from = p.input_per_choice ? choice : choice / num_chosen;
    for (int64_t o = 0; o < p.out_dim; ++o) {
      double sum = 0;
      for (int64_t i = 0; i < p.in_dim; ++i) {
        sum += ReferenceLoad(weight, p.weight_dtype, o * p.in_dim + i) *
               p.input[from * p.input_stride + i];
      }
      p.output[choice * p.out_dim + o] = static_cast<float>(sum);
    }
  }
}

}  // namespace sidewinder
