#include "kernels/gather_columns.h"

namespace sidewinder {

void GatherColumnsRef(const GatherColumnsParams& p) {
  for (int64_t r = 0; r < *p.num_rows; ++r) {
    for (int64_t i = 0; i < p.dim; ++i) {
      p.output[r * p.output_stride + i] = p.input[r * p.input_stride + p.column[i]];
    }
  }
}

}  // namespace sidewinder
