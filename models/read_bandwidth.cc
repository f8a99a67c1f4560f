#include <algorithm>
#include <memory>

#include "kernels/common/memory_bandwidth.h"
#include "runtime/device.h"
#include "runtime/status_macros.h"
#include "sidewinder/model.h"
#include "sidewinder/system.h"

namespace sidewinder {
namespace {

// Far beyond any cache, and little beside what the GPUs that decode have.
constexpr int64_t kMinCudaBytes{int64_t{1} << 30};
constexpr int64_t kMaxCudaBytes{int64_t{8} << 30};

absl::StatusOr<double> MeasureOnGpu(const Device& device, int64_t bytes) {
  bytes = std::clamp(bytes, kMinCudaBytes, kMaxCudaBytes) / kBandwidthUnit * kBandwidthUnit;
  SW_ASSIGN_OR_RETURN(const DeviceMemory memory,
                      device.Allocate(bytes, "the measurement of its bandwidth"));
  SW_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device.CreateStream());
  double bytes_per_second = 0;
  Dispatch(
      stream->context(), "MeasureReadBandwidth", [] {},
      [&](auto& cuda) {
        return MeasureReadBandwidthCuda(cuda, memory.data(), bytes, &bytes_per_second);
      });
  SW_RETURN_IF_ERROR(stream->status());
  return bytes_per_second;
}

}  // namespace

absl::StatusOr<double> MeasureReadBandwidth(const Model& model, int64_t bytes, int num_threads) {
  const Device& device = model.device();
  if (device.type() == DeviceType::kCpu) return MeasureReadBandwidth(bytes, num_threads);
  return MeasureOnGpu(device, bytes);
}

}  // namespace sidewinder
