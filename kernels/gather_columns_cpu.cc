#include <algorithm>

#include "kernels/common/check.h"
#include "kernels/gather_columns.h"

namespace sidewinder {

void GatherColumnsCpu(ExecutionContext& ctx, const GatherColumnsParams& params) {
  SW_CHECK(params.dim >= 1) << params.dim;
  constexpr int64_t kGrainElements{16384};  // about the time of a fork
  ctx.pool->ParallelFor(*params.num_rows, std::max<int64_t>(1, kGrainElements / params.dim),
                        [&](int64_t begin, int64_t end, int) {
                          for (int64_t r = begin; r < end; ++r) {
                            const float* in = params.input + r * params.input_stride;
                            float* out = params.output + r * params.output_stride;
                            for (int64_t i = 0; i < params.dim; ++i) out[i] = in[params.column[i]];
                          }
                        });
}

}  // namespace sidewinder
