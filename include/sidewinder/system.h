// Facts about the machine that benchmarks and floors are stated with.
#ifndef SIDEWINDER_SYSTEM_H_
#define SIDEWINDER_SYSTEM_H_

#include <cstdint>
#include <string>

namespace sidewinder {

// Cores this process may run on.
int AvailableCores();

// "Intel(R) Xeon(R) ..., AVX3" : processor and the vector instructions in use.
std::string CpuDescription();

// Bytes a second that `num_threads` threads (0: one per core) read from a working set of `bytes`,
// over and over; measured now, in well under a second. Weights that are read every pass cannot be
// read faster, so bytes / this is the floor of a pass.
double MeasureReadBandwidth(int64_t bytes, int num_threads);

}  // namespace sidewinder

#endif  // SIDEWINDER_SYSTEM_H_
