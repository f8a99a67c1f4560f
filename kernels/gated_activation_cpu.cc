// Element by element, so threads share pieces of rows.
#include <algorithm>

#include "kernels/common/check.h"
#include "kernels/common/simd_targets.h"
#include "kernels/gated_activation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gated_activation_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {

// erf(x), within 2 units in the last place: an odd polynomial near zero, 1 - e^polynomial(|x|)
// beyond, both minimax fits.
HWY_INLINE VecF32 Erf(VecF32 x) {
  const F32 d;
  const auto c = [&](float value) HWY_ATTR { return hn::Set(d, value); };
  const VecF32 square = hn::Mul(x, x);
  VecF32 near = c(-5.96761703e-4f);
  near = hn::MulAdd(near, square, c(4.99119423e-3f));
  near = hn::MulAdd(near, square, c(-2.67681349e-2f));
  near = hn::MulAdd(near, square, c(1.12819925e-1f));
  near = hn::MulAdd(near, square, c(-3.76125336e-1f));
  near = hn::MulAdd(near, square, c(1.28379166e-1f));
  near = hn::MulAdd(near, x, x);

  const VecF32 t = hn::Min(hn::Abs(x), c(4.0f));  // where erf rounds to 1
  VecF32 far = hn::MulAdd(c(-1.72853470e-5f), t, c(3.83197126e-4f));
  far = hn::MulAdd(far, hn::Mul(t, t), hn::MulAdd(c(-3.88396438e-3f), t, c(2.42546219e-2f)));
  far = hn::MulAdd(far, t, c(-1.06777877e-1f));
  far = hn::MulAdd(far, t, c(-6.34846687e-1f));
  far = hn::MulAdd(far, t, c(-1.28717512e-1f));
  far = hn::MulAdd(far, t, hn::Neg(t));
  far = hn::CopySign(hn::Sub(c(1.0f), hn::Exp(d, far)), x);
  return hn::IfThenElse(hn::Gt(hn::Abs(x), c(0.927734375f)), far, near);  // NaN: near
}

template <Activation kActivation>
HWY_INLINE VecF32 Activate(VecF32 a) {
  const F32 d;
  if constexpr (kActivation == Activation::kSilu) {
    return Silu(a);
  } else if constexpr (kActivation == Activation::kGelu) {
    const VecF32 erf = Erf(hn::Mul(a, hn::Set(d, 0.707106781f)));
    return hn::Mul(hn::Mul(a, hn::Set(d, 0.5f)), hn::Add(hn::Set(d, 1.0f), erf));
  } else if constexpr (kActivation == Activation::kRelu2) {
    const VecF32 positive = hn::IfThenElse(hn::Lt(a, hn::Zero(d)), hn::Zero(d), a);  // NaN stays
    return hn::Mul(positive, positive);
  } else {
    const VecF32 one = hn::Set(d, 1.0f);
    const VecF32 sigmoid = hn::Div(one, hn::Add(one, ExpF32(hn::Neg(a))));
    return hn::IfThenElse(hn::IsNaN(a), a, sigmoid);  // Highway's e^NaN is zero
  }
}

template <Activation kActivation>
void ActivatePiece(const float* gate, const float* up, float* out, int64_t size) {
  const int64_t lanes = hn::Lanes(F32());
  PrefetchAll(gate, size * sizeof(float));
  if (up != nullptr) PrefetchAll(up, size * sizeof(float));
  for (int64_t i = 0; i < size; i += lanes) {
    const size_t count = std::min(lanes, size - i);
    VecF32 value = Activate<kActivation>(LoadFirst(gate + i, count));
    if (up != nullptr) value = hn::Mul(value, LoadFirst(up + i, count));
    StoreFirst(value, out + i, count);
  }
}

void GatePiece(Activation activation, const float* gate, const float* up, float* out,
               int64_t size) {
  switch (activation) {
    case Activation::kSilu:
      return ActivatePiece<Activation::kSilu>(gate, up, out, size);
    case Activation::kGelu:
      return ActivatePiece<Activation::kGelu>(gate, up, out, size);
    case Activation::kRelu2:
      return ActivatePiece<Activation::kRelu2>(gate, up, out, size);
    case Activation::kSigmoid:
      return ActivatePiece<Activation::kSigmoid>(gate, up, out, size);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(GatePiece);

void GatedActivationCpu(ExecutionContext& ctx, const GatedActivationParams& params) {
  SW_CHECK(params.dim >= 1 && params.rows_factor >= 1)
      << "dim=" << params.dim << " rows_factor=" << params.rows_factor;
  constexpr int64_t kPiece{4096};          // of a row
  constexpr int64_t kGrainElements{8192};  // about the time of a fork
  const int64_t pieces = (params.dim + kPiece - 1) / kPiece;
  const int64_t rows = int64_t{*params.num_rows} * params.rows_factor;
  const auto piece = HWY_DYNAMIC_DISPATCH(GatePiece);
  ctx.pool->ParallelFor(
      rows * pieces, std::max<int64_t>(1, kGrainElements / std::min(kPiece, params.dim)),
      [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t row = i / pieces, first = i % pieces * kPiece;
          piece(params.activation, params.gate + row * params.gate_stride + first,
                params.up != nullptr ? params.up + row * params.up_stride + first : nullptr,
                params.output + row * params.output_stride + first,
                std::min(kPiece, params.dim - first));
        }
      });
}

}  // namespace sidewinder
#endif  // HWY_ONCE
