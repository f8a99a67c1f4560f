// Functions that CPU code and kernels share. Their results must not depend on who calls them, so
// products and sums of floating-point numbers that could fuse into one rounding go through the
// functions below: nvcc contracts a * b + c, the CPU backend is compiled not to.
#ifndef SIDEWINDER_KERNELS_COMMON_HOST_DEVICE_H_
#define SIDEWINDER_KERNELS_COMMON_HOST_DEVICE_H_

#include <cmath>

#ifdef __CUDACC__
#define SW_HOST_DEVICE __host__ __device__
#else
#define SW_HOST_DEVICE
#endif

namespace sidewinder {

// a * b + c and c + a * b, the product rounded on its own.
SW_HOST_DEVICE inline float MultiplyThenAdd(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(__fmul_rn(a, b), c);
#else
  return a * b + c;
#endif
}
SW_HOST_DEVICE inline double MultiplyThenAdd(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return __dadd_rn(__dmul_rn(a, b), c);
#else
  return a * b + c;
#endif
}

SW_HOST_DEVICE inline float SquareRoot(float a) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(a);
#else
  return std::sqrt(a);
#endif
}

template <class T>
SW_HOST_DEVICE constexpr T Smaller(T a, T b) {
  return b < a ? b : a;
}
template <class T>
SW_HOST_DEVICE constexpr T Larger(T a, T b) {
  return a < b ? b : a;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_HOST_DEVICE_H_
