#include <vector>

#include "kernels/causal_conv.h"
#include "kernels/common/reference.h"

namespace sidewinder {

void CausalConvRef(const CausalConvParams& p) {
  for (int s = 0; s < *p.plan.num_sequences; ++s) {
    const SequenceRows& seq = p.plan.sequences[s];
    float* ring = p.ring + seq.slot * p.ring_rows * p.dim;
    for (int64_t c = 0; c < p.dim; ++c) {
      std::vector<double> window(p.width - 1);  // the inputs before the first row, then its rows
      for (int64_t k = 0; k < p.width - 1; ++k) {
        const int64_t q = seq.consumed - p.width + 1 + k;
        window[k] = q < 0 ? 0 : ring[q % p.ring_rows * p.dim + c];
      }
      for (int64_t r = 0; r < seq.num_rows; ++r) {
        const float u = p.input[(seq.first_row + r) * p.input_stride + c];
        window.push_back(u);
        double sum = p.bias != nullptr ? p.bias[c] : 0;
        for (int64_t k = 0; k < p.width; ++k) sum += p.weight[k * p.dim + c] * window[r + k];
        p.output[(seq.first_row + r) * p.output_stride + c] =
            static_cast<float>(ReferenceSilu(sum));
        ring[(seq.consumed + r) % p.ring_rows * p.dim + c] = u;
      }
    }
  }
}

}  // namespace sidewinder
