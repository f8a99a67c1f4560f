#include <algorithm>

#include "kernels/common/check.h"
#include "kernels/common/simd_targets.h"
#include "kernels/embedding.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/embedding_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/weight_load-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {

template <class T>
void WidenRow(const T* from, float* to, int64_t size, float scale) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  const VecF32 factor = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    hn::StoreU(hn::Mul(LoadWide(from + i), factor), d, to + i);
  }
  if (i < size) {
    StoreFirst(hn::Mul(LoadWideFirst(from + i, size - i), factor), to + i, size - i);
  }
}

void EmbeddingRows(const EmbeddingParams& p, int64_t begin, int64_t end) {
  DispatchWeight(p.table_dtype, p.table, [&](const auto* table) HWY_ATTR {
    for (int64_t r = begin; r < end; ++r) {
      WidenRow(table + p.tokens[r] * p.dim, p.output + r * p.output_stride, p.dim, p.scale);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(EmbeddingRows);

void EmbeddingCpu(ExecutionContext& ctx, const EmbeddingParams& params) {
  SW_CHECK(params.dim >= 1 && params.output_stride >= params.dim)
      << "dim=" << params.dim << " output_stride=" << params.output_stride;
  constexpr int64_t kGrainElements{32768};  // about the time of a fork
  const auto rows = HWY_DYNAMIC_DISPATCH(EmbeddingRows);
  ctx.pool->ParallelFor(*params.num_rows, std::max<int64_t>(1, kGrainElements / params.dim),
                        [&](int64_t begin, int64_t end, int) { rows(params, begin, end); });
}

}  // namespace sidewinder
#endif  // HWY_ONCE
