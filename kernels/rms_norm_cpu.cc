#include <algorithm>
#include <cmath>

#include "kernels/common/check.h"
#include "kernels/common/simd_targets.h"
#include "kernels/rms_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {

// One group; what is not used is null, `out` may be `in`. What the mean is of, if that is not the
// input itself, is kept in `out` between the passes.
struct NormGroupArgs {
  const float* in;
  const float* addend;
  const float* gate_first;
  const float* gate_last;
  const float* weight;
  float* out;
  int64_t size;
  float eps;
};

void NormGroup(const NormGroupArgs& args) {
  const auto [in, addend, gate_first, gate_last, weight, out, size, eps] = args;
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  PrefetchAll(in, size * sizeof(float));
  for (const float* other : {addend, gate_first, gate_last}) {
    if (other != nullptr) PrefetchAll(other, size * sizeof(float));
  }
  VecF32 sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  for (int64_t i = 0; i < size; i += 4 * lanes) {
    for (int64_t k = 0; k < 4; ++k) {
      const int64_t from = i + k * lanes;
      if (from >= size) break;
      const size_t count = std::min(lanes, size - from);
      VecF32 x = LoadFirst(in + from, count);
      if (addend != nullptr) {
        x = hn::Add(x, LoadFirst(addend + from, count));
        StoreFirst(x, out + from, count);
      }
      if (gate_first != nullptr) {
        x = hn::Mul(x, Silu(LoadFirst(gate_first + from, count)));
        StoreFirst(x, out + from, count);
      }
      sums[k] = hn::MulAdd(x, x, sums[k]);
    }
  }
  const VecF32 sum = hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]));
  const float mean = hn::GetLane(hn::SumOfLanes(d, sum)) / static_cast<float>(size);
  const VecF32 scale = hn::Set(d, 1.0f / std::sqrt(mean + eps));
  const float* normed = addend != nullptr || gate_first != nullptr ? out : in;
  for (int64_t i = 0; i < size; i += lanes) {
    const size_t count = std::min(lanes, size - i);
    VecF32 x = hn::Mul(LoadFirst(normed + i, count), scale);
    if (weight != nullptr) x = hn::Mul(x, LoadFirst(weight + i, count));
    if (gate_last != nullptr) x = hn::Mul(x, Silu(LoadFirst(gate_last + i, count)));
    StoreFirst(x, out + i, count);
  }
}

void NormRows(const RmsNormParams& p, int64_t begin, int64_t end) {
  const auto at = [](const float* values, int64_t offset) {
    return values != nullptr ? values + offset : nullptr;
  };
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t group = 0; group < p.dim; group += p.group_dim) {
      const float* gate = at(p.gate, r * p.gate_stride + group);
      NormGroup({.in = p.input + r * p.input_stride + group,
                 .addend = at(p.addend, r * p.addend_stride + group),
                 .gate_first = p.gate_last ? nullptr : gate,
                 .gate_last = p.gate_last ? gate : nullptr,
                 .weight = at(p.weight, group),
                 .out = p.output + r * p.output_stride + group,
                 .size = p.group_dim,
                 .eps = p.eps});
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(NormRows);

void RmsNormCpu(ExecutionContext& ctx, const RmsNormParams& params) {
  SW_CHECK(params.group_dim >= 1 && params.dim % params.group_dim == 0)
      << "dim=" << params.dim << " group_dim=" << params.group_dim;
  SW_CHECK(params.addend == nullptr || params.gate == nullptr) << "only the plain form adds";
  const int64_t grain_elements = params.gate != nullptr ? 8192 : 32768;  // about the time of a fork
  const auto rows = HWY_DYNAMIC_DISPATCH(NormRows);
  ctx.pool->ParallelFor(*params.num_rows, std::max<int64_t>(1, grain_elements / params.dim),
                        [&](int64_t begin, int64_t end, int) { rows(params, begin, end); });
}

}  // namespace sidewinder
#endif  // HWY_ONCE
