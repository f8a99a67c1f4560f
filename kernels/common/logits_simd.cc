#include "kernels/common/logits_simd.h"

#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/common/logits_simd.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "hwy/highway.h"

#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

int32_t ArgMaxImpl(const float* values, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  // The larger of the two, `best` for NaN. Four in turn hide how long it takes.
  const auto larger = [&](int64_t i, decltype(lowest) best) HWY_ATTR {
    const auto v = hn::LoadU(d, values + i);
    return hn::IfThenElse(hn::Gt(v, best), v, best);
  };
  auto a = lowest, b = lowest, c = lowest, e = lowest;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a = larger(i, a);
    b = larger(i + lanes, b);
    c = larger(i + 2 * lanes, c);
    e = larger(i + 3 * lanes, e);
  }
  for (; i + lanes <= n; i += lanes) a = larger(i, a);
  float max = hn::GetLane(hn::MaxOfLanes(d, hn::Max(hn::Max(a, b), hn::Max(c, e))));
  for (; i < n; ++i) {
    if (values[i] > max) max = values[i];
  }
  const auto target = hn::Set(d, max);
  for (i = 0; i + lanes <= n; i += lanes) {
    if (!hn::AllFalse(d, hn::Eq(hn::LoadU(d, values + i), target))) break;
  }
  for (; i < n; ++i) {
    if (values[i] == max) return static_cast<int32_t>(i);
  }
  return 0;
}

void ExpShiftedImpl(const float* logits, int64_t n, float max, float inverse_temperature,
                    float* probs) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto shift = hn::Set(d, max);
  const auto scale = hn::Set(d, inverse_temperature);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto x = hn::Mul(hn::Sub(hn::LoadU(d, logits + i), shift), scale);
    hn::StoreU(hn::Exp(d, x), d, probs + i);
  }
  if (i < n) {
    HWY_ALIGN float tail[HWY_MAX_BYTES / sizeof(float)] = {};
    for (int64_t j = i; j < n; ++j) tail[j - i] = logits[j];
    hn::Store(hn::Exp(d, hn::Mul(hn::Sub(hn::Load(d, tail), shift), scale)), d, tail);
    for (int64_t j = i; j < n; ++j) probs[j] = tail[j - i];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(ArgMaxImpl);
HWY_EXPORT(ExpShiftedImpl);

int32_t ArgMax(const float* values, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(ArgMaxImpl)(values, n);
}

void ExpShifted(const float* logits, int64_t n, float max, float inverse_temperature,
                float* probs) {
  HWY_DYNAMIC_DISPATCH(ExpShiftedImpl)(logits, n, max, inverse_temperature, probs);
}

}  // namespace sidewinder
#endif  // HWY_ONCE
