// Which Highway targets the ops are compiled for. Include before hwy/highway.h and
// hwy/foreach_target.h. On x86: plain loops (the compiler's baseline), SSE4, AVX2 and AVX-512; the
// targets in between only cost compile time.
#ifndef SIDEWINDER_KERNELS_COMMON_SIMD_TARGETS_H_
#define SIDEWINDER_KERNELS_COMMON_SIMD_TARGETS_H_

#ifndef HWY_DISABLED_TARGETS
// Bits 4 and 6: HWY_AVX3_SPR and HWY_AVX3_ZEN4, which older versions of Highway do not name.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | (1LL << 4) | (1LL << 6))
#endif

#endif  // SIDEWINDER_KERNELS_COMMON_SIMD_TARGETS_H_
