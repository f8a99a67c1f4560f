// What the plain-loop references share. Linked by tests only.
#ifndef SIDEWINDER_KERNELS_COMMON_REFERENCE_H_
#define SIDEWINDER_KERNELS_COMMON_REFERENCE_H_

#include <cstdint>

#include "kernels/common/dtype.h"

namespace sidewinder {

// Element `idx` of an array of `dtype`, which may be aligned to one byte only.
double ReferenceLoad(const void* data, DType dtype, int64_t idx);

// Stores a value as that element; bfloat16 rounded to nearest even. float16 is not supported.
void ReferenceStore(void* data, DType dtype, int64_t idx, float value);

double ReferenceSilu(double x);
double ReferenceSoftplus(double x);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_REFERENCE_H_
