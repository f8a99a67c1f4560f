#include <algorithm>

#include "kernels/common/check.h"
#include "kernels/common/simd_targets.h"
#include "kernels/experts.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/combine_experts_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {

void CombineRows(const CombineExpertsParams& p, int64_t begin, int64_t end) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d), num_chosen = p.choices.num_chosen;
  for (int64_t r = begin; r < end; ++r) {
    const float* weights = p.choices.weights + r * num_chosen;
    const float* in = p.input + r * num_chosen * p.dim;
    float* out = p.output + r * p.output_stride;
    for (int64_t i = 0; i < p.dim; i += lanes) {
      const size_t count = std::min(lanes, p.dim - i);
      VecF32 sum = hn::Zero(d);
      for (int64_t j = 0; j < num_chosen; ++j) {
        sum = hn::MulAdd(hn::Set(d, weights[j]), LoadFirst(in + j * p.dim + i, count), sum);
      }
      if (p.scale != nullptr) sum = hn::Mul(sum, hn::Set(d, *p.scale));
      if (p.accumulate) sum = hn::Add(sum, LoadFirst(out + i, count));
      StoreFirst(sum, out + i, count);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(CombineRows);

void CombineExpertsCpu(ExecutionContext& ctx, const CombineExpertsParams& params) {
  SW_CHECK(params.dim >= 1 && params.choices.num_chosen >= 1)
      << "dim=" << params.dim << " num_chosen=" << params.choices.num_chosen;
  constexpr int64_t kGrainElements{32768};  // about the time of a fork
  const auto rows = HWY_DYNAMIC_DISPATCH(CombineRows);
  ctx.pool->ParallelFor(
      *params.num_rows,
      std::max<int64_t>(1, kGrainElements / (params.dim * params.choices.num_chosen)),
      [&](int64_t begin, int64_t end, int) { rows(params, begin, end); });
}

}  // namespace sidewinder
#endif  // HWY_ONCE
