// Vector functions that several ops share. Every function computes lane by lane, so that a value
// does not depend on the lane it sits in. Included once per Highway target.
#if defined(SIDEWINDER_KERNELS_COMMON_SIMD_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIDEWINDER_KERNELS_COMMON_SIMD_MATH_INL_H_
#undef SIDEWINDER_KERNELS_COMMON_SIMD_MATH_INL_H_
#else
#define SIDEWINDER_KERNELS_COMMON_SIMD_MATH_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/cache_control.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using VecF32 = hn::Vec<F32>;

// Loads or stores `count` lanes, 1 <= count <= Lanes; lanes beyond are zero and memory beyond is
// not touched.
HWY_INLINE VecF32 LoadFirst(const float* from, size_t count) {
  const F32 d;
  if (HWY_LIKELY(count == hn::Lanes(d))) return hn::LoadU(d, from);
#if HWY_TARGET == HWY_AVX3
  return hn::MaskedLoad(hn::FirstN(d, count), d, from);
#else
  HWY_ALIGN float lanes[hn::MaxLanes(d)] = {};
  for (size_t i = 0; i < count; ++i) lanes[i] = from[i];
  return hn::Load(d, lanes);
#endif
}

HWY_INLINE void StoreFirst(VecF32 v, float* to, size_t count) {
  const F32 d;
  if (HWY_LIKELY(count == hn::Lanes(d))) {
    hn::StoreU(v, d, to);
    return;
  }
  HWY_ALIGN float lanes[hn::MaxLanes(d)];
  hn::Store(v, d, lanes);
  for (size_t i = 0; i < count; ++i) to[i] = lanes[i];
}

// Asks for `bytes` at once: what another core has just written comes one line after the other
// otherwise.
HWY_INLINE void PrefetchAll(const void* from, int64_t bytes) {
  constexpr int64_t kCacheLine{64};
  for (int64_t i = 0; i < bytes; i += kCacheLine) {
    hwy::Prefetch(static_cast<const char*>(from) + i);
  }
}

// e^x for all x: Highway's is defined up to 104, where the result is infinite already. The second
// operand of Min is what x86 returns for NaN.
HWY_INLINE VecF32 ExpF32(VecF32 x) {
  const F32 d;
  return hn::Exp(d, hn::Min(hn::Set(d, 104.0f), x));
}

// x / (1 + e^-x)
HWY_INLINE VecF32 Silu(VecF32 x) {
  const F32 d;
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), ExpF32(hn::Neg(x))));
}

// log(1 + e^x), x itself above 20 (as the reference kernels of Mamba do) and for NaN.
HWY_INLINE VecF32 Softplus(VecF32 x) {
  const F32 d;
  const VecF32 limit = hn::Set(d, 20.0f);
  const VecF32 soft = hn::Log1p(d, hn::Exp(d, hn::Min(limit, x)));
  return hn::IfThenElse(hn::Le(x, limit), soft, x);
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#endif  // SIDEWINDER_KERNELS_COMMON_SIMD_MATH_INL_H_
