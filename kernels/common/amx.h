// The matrix unit of recent Intel cores: whether it is there and allowed.
#ifndef SIDEWINDER_KERNELS_COMMON_AMX_H_
#define SIDEWINDER_KERNELS_COMMON_AMX_H_

#include <cstdint>

#include "kernels/linear.h"

namespace sidewinder {

// Whether bfloat16 tiles can be used. Asks the operating system for them on the first call.
bool AmxAvailable();

// Tests and benchmarks measure the vector path with this set to false.
void SetAmxEnabled(bool enabled);

// Whether Linear takes the path below; depends on the weights alone.
bool UsesAmx(const LinearParams& params);

// Outputs [begin, end) of all rows.
void LinearAmx(const LinearParams& params, int64_t num_rows, int64_t begin, int64_t end);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_AMX_H_
