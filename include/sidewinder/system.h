// Facts about the machine that benchmarks and floors are stated with.
#ifndef SIDEWINDER_SYSTEM_H_
#define SIDEWINDER_SYSTEM_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace sidewinder {

class Model;

// Cores this process may run on.
int AvailableCores();

// "Intel(R) Xeon(R) ..., AVX3" : processor and the vector instructions in use.
std::string CpuDescription();

// Bytes a second that `num_threads` threads (0: one per core) read from a working set of `bytes`,
// over and over; measured now, in well under a second. Weights that are read every pass cannot be
// read faster, so bytes / this is the floor of a pass.
double MeasureReadBandwidth(int64_t bytes, int num_threads);

// The same on the device where a model lives. A GPU reads a buffer of at least a gigabyte, so that
// this is the bandwidth of its memory and not of its caches; it takes no threads.
// ResourceExhausted if the GPU has no room for the buffer.
absl::StatusOr<double> MeasureReadBandwidth(const Model& model, int64_t bytes, int num_threads);

}  // namespace sidewinder

#endif  // SIDEWINDER_SYSTEM_H_
