// Reads weights of any stored type as float32 vectors. Included once per Highway target.
#if defined(SIDEWINDER_KERNELS_COMMON_WEIGHT_LOAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIDEWINDER_KERNELS_COMMON_WEIGHT_LOAD_INL_H_
#undef SIDEWINDER_KERNELS_COMMON_WEIGHT_LOAD_INL_H_
#else
#define SIDEWINDER_KERNELS_COMMON_WEIGHT_LOAD_INL_H_
#endif

#include <cstring>

#include "kernels/common/dtype.h"
#include "kernels/common/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {

// Consecutive elements as one float32 vector.
HWY_INLINE VecF32 LoadWide(const float* from) { return hn::LoadU(F32(), from); }

HWY_INLINE VecF32 LoadWide(const hwy::bfloat16_t* from) {
  const F32 d;
  const hn::RebindToUnsigned<F32> du32;
  const hn::Rebind<uint16_t, F32> du16;
  const auto bits = hn::LoadU(du16, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du32, bits)));
}

HWY_INLINE VecF32 LoadWide(const hwy::float16_t* from) {
  const F32 d;
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<hwy::float16_t, F32>(), from));
}

// The first `count` of them (1 <= count <= Lanes), zero in the other lanes; memory beyond is not
// touched.
template <class T>
HWY_INLINE VecF32 LoadWideFirst(const T* from, size_t count) {
  HWY_ALIGN T padded[hn::MaxLanes(F32())];
  std::memset(padded, 0, sizeof(padded));
  std::memcpy(padded, from, count * sizeof(T));
  return LoadWide(padded);
}

// Calls fn with `weights` as a pointer to elements of its type.
template <class Fn>
HWY_INLINE void DispatchWeight(DType dtype, const void* weights, const Fn& fn) {
  switch (dtype) {
    case DType::kFloat32:
      return fn(static_cast<const float*>(weights));
    case DType::kBFloat16:
      return fn(static_cast<const hwy::bfloat16_t*>(weights));
    case DType::kFloat16:
      return fn(static_cast<const hwy::float16_t*>(weights));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#endif  // SIDEWINDER_KERNELS_COMMON_WEIGHT_LOAD_INL_H_
