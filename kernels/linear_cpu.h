// The part of the CPU's matrix product that other ops share.
#ifndef SIDEWINDER_KERNELS_LINEAR_CPU_H_
#define SIDEWINDER_KERNELS_LINEAR_CPU_H_

#include <cstdint>

#include "kernels/linear.h"

namespace sidewinder {

// Outputs [begin, end) of rows [0, num_rows) on the calling thread, with the bits of LinearCpu;
// params.num_rows is not read. `begin` is a multiple of 16.
void LinearOutputsCpu(const LinearParams& params, int64_t num_rows, int64_t begin, int64_t end);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_CPU_H_
