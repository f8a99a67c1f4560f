#include "kernels/common/reference.h"
#include "kernels/embedding.h"

namespace sidewinder {

void EmbeddingRef(const EmbeddingParams& p) {
  for (int64_t r = 0; r < *p.num_rows; ++r) {
    for (int64_t i = 0; i < p.dim; ++i) {
      const double value = ReferenceLoad(p.table, p.table_dtype, p.tokens[r] * p.dim + i);
      p.output[r * p.output_stride + i] = static_cast<float>(p.scale * value);
    }
  }
}

}  // namespace sidewinder
