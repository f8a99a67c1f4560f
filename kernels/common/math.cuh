// Scalar functions that several kernels share. Each is one fixed chain of operations, so that a
// value has the same bits wherever it is computed; none depends on compiler flags.
//
// Errors in units of u = 2^-24, relative to the exact function of the rounded argument: Exp 2,
// Exp2 4, Softplus 6, Sigmoid 6 (exponential 2, sum 1, reciprocal 2, product 1), Silu 7.
#ifndef SIDEWINDER_KERNELS_COMMON_MATH_CUH_
#define SIDEWINDER_KERNELS_COMMON_MATH_CUH_

#include <cuda_runtime.h>

namespace sidewinder {

// e^x for all x. __expf is no substitute: its error grows with |x|.
__device__ __forceinline__ float Exp(float x) { return expf(x); }

// 2^x as the hardware has it, for loops that an exponential dominates: zero where the result would
// be subnormal. Of e^x the factor log2 e goes into something that is constant in the loop.
inline constexpr float kLog2E{1.44269504f};
__device__ __forceinline__ float Exp2(float x) {
#ifdef __CUDA_ARCH__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return exp2f(x);
#endif
}

// 1 / x for x in [1, 2], where the hardware's approximation is within one last place.
__device__ __forceinline__ float ReciprocalNearOne(float x) {
#ifdef __CUDA_ARCH__
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return 1 / x;
#endif
}

// 1 / (1 + e^-x), by way of e^-|x| so that nothing overflows.
__device__ __forceinline__ float Sigmoid(float x) {
  const float e = Exp(-fabsf(x));
  const float of_magnitude = ReciprocalNearOne(__fadd_rn(1.0f, e));
  return x < 0 ? __fmul_rn(e, of_magnitude) : of_magnitude;
}

// x / (1 + e^-x).
__device__ __forceinline__ float Silu(float x) { return __fmul_rn(x, Sigmoid(x)); }

// log(1 + e^x), x itself above 20 (as the reference kernels of Mamba do) and for NaN.
__device__ __forceinline__ float Softplus(float x) { return x <= 20.0f ? log1pf(Exp(x)) : x; }

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_MATH_CUH_
