#include "runtime/device.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "kernels/common/check.h"
#include "runtime/cuda_driver.h"
#include "runtime/status_macros.h"
#include "sidewinder/system.h"

namespace sidewinder {
namespace {

constexpr size_t kAlignment{512};
// Rows of a prefill chunk, rounded and packed, for the widest product of a large model.
constexpr size_t kWorkspaceBytes{size_t{64} << 20};
constexpr int32_t kMinComputeCapability{80};

std::atomic<int64_t> bytes_now{0};
std::atomic<int64_t> bytes_peak{0};

void CountBytes(int64_t change) {
  const int64_t now = bytes_now.fetch_add(change, std::memory_order_relaxed) + change;
  int64_t peak = bytes_peak.load(std::memory_order_relaxed);
  while (now > peak && !bytes_peak.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
  }
}

// Codes are turned into text only where the driver is linked.
std::string CudaErrorText(int32_t error) {
  if constexpr (kHasCuda) return cuda_driver::ErrorText(error);
  return absl::StrCat("CUDA error ", error);
}

int CountGpus() {
  int count = 0;
  if constexpr (kHasCuda) {
    if (cuda_driver::CountDevices(&count) != 0) count = 0;
  }
  return count;
}

// Lower than the device's own if the environment says so.
[[maybe_unused]] int32_t ForcedComputeCapability(int32_t actual) {
  const char* text = std::getenv("SIDEWINDER_FORCE_CC");
  int32_t forced = 0;
  if (text == nullptr || !absl::SimpleAtoi(text, &forced)) return actual;
  return std::clamp(forced, kMinComputeCapability, actual);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Device>> Device::Open(absl::string_view name) {
  int32_t index = 0;
  absl::string_view suffix = name;
  const bool is_cuda = name == "cuda" || (absl::ConsumePrefix(&suffix, "cuda:") &&
                                          absl::SimpleAtoi(suffix, &index) && index >= 0);
  if (name != "auto" && name != "cpu" && !is_cuda) {
    return absl::InvalidArgumentError(
        absl::StrCat("device \"", name, "\"; legal are auto, cpu, cuda, cuda:<index>"));
  }
  auto device = std::shared_ptr<Device>(new Device());
  const int count = name == "cpu" ? 0 : CountGpus();
  if (name == "cpu" || (name == "auto" && count == 0)) {
    device->name_ = "cpu";
    device->description_ = CpuDescription();
    return device;
  }
  if constexpr (!kHasCuda) {
    return absl::UnimplementedError(
        absl::StrCat("device \"", name, "\": this build has no CUDA backend; legal are auto, cpu"));
  } else {
    if (index >= count) {
      return absl::FailedPreconditionError(
          absl::StrFormat("device \"%s\": this machine has %d usable NVIDIA GPUs", name, count));
    }
    cuda_driver::DeviceFacts facts;
    if (const CudaError error = cuda_driver::DescribeDevice(index, &facts); error != 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("device \"", name, "\": ", CudaErrorText(error)));
    }
    if (facts.compute_capability < kMinComputeCapability) {
      if (name == "auto") return Open("cpu");
      return absl::FailedPreconditionError(absl::StrFormat(
          "device \"%s\": %s has compute capability %d.%d; at least %d.%d is needed", name,
          facts.name, facts.compute_capability / 10, facts.compute_capability % 10,
          kMinComputeCapability / 10, kMinComputeCapability % 10));
    }
    device->type_ = DeviceType::kCuda;
    device->name_ = absl::StrCat("cuda:", index);
    device->description_ =
        absl::StrFormat("%s, compute capability %d.%d", facts.name, facts.compute_capability / 10,
                        facts.compute_capability % 10);
    device->index_ = index;
    device->compute_capability_ = facts.compute_capability;
    device->num_multiprocessors_ = facts.num_multiprocessors;
    return device;
  }
}

absl::StatusOr<DeviceMemory> Device::Allocate(size_t bytes, absl::string_view what) const {
  DeviceMemory memory;
  memory.kind_ = type_ == DeviceType::kCpu ? DeviceMemory::Kind::kHost : DeviceMemory::Kind::kCuda;
  memory.index_ = index_;
  memory.size_ = bytes;
  if (bytes == 0) return memory;
  if (type_ == DeviceType::kCpu) {
    const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (rounded >= bytes) memory.data_ = std::aligned_alloc(kAlignment, rounded);
    if (memory.data_ == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("no memory for %s: %d bytes", what, bytes));
    }
    std::memset(memory.data_, 0, rounded);
    CountBytes(static_cast<int64_t>(bytes));
    return memory;
  }
  if constexpr (kHasCuda) {
    if (const CudaError error = cuda_driver::Allocate(index_, bytes, &memory.data_); error != 0) {
      memory.data_ = nullptr;
      size_t free_bytes = 0;
      cuda_driver::FreeMemory(index_, &free_bytes);
      return absl::ResourceExhaustedError(
          absl::StrFormat("no memory on %s for %s: %d bytes wanted, %d free (%s)", name_, what,
                          bytes, free_bytes, CudaErrorText(error)));
    }
    CountBytes(static_cast<int64_t>(bytes));
  }
  return memory;
}

Device::MemoryUse Device::memory_use() {
  return {.now = bytes_now.load(std::memory_order_relaxed),
          .peak = bytes_peak.load(std::memory_order_relaxed)};
}

absl::StatusOr<DeviceMemory> Device::AllocateShared(size_t bytes, absl::string_view what) const {
  if (type_ == DeviceType::kCpu) return Allocate(bytes, what);
  DeviceMemory memory;
  memory.kind_ = DeviceMemory::Kind::kPinned;
  memory.index_ = index_;
  memory.size_ = bytes;
  if constexpr (kHasCuda) {
    if (const CudaError error = cuda_driver::AllocatePinned(index_, bytes, &memory.data_);
        error != 0) {
      memory.data_ = nullptr;
      return absl::ResourceExhaustedError(absl::StrFormat("no pinned memory for %s: %d bytes (%s)",
                                                          what, bytes, CudaErrorText(error)));
    }
  }
  return memory;
}

absl::StatusOr<std::unique_ptr<Stream>> Device::CreateStream(int num_threads) const {
  auto stream = std::unique_ptr<Stream>(new Stream());
  stream->context_.device = type_;
  if (type_ == DeviceType::kCpu) {
    stream->pool_ = std::make_unique<ThreadPool>(num_threads);
    stream->context_.pool = stream->pool_.get();
    return stream;
  }
  if constexpr (kHasCuda) {
    CudaContext& cuda = stream->cuda_;
    cuda.device_index = index_;
    cuda.compute_capability = ForcedComputeCapability(compute_capability_);
    cuda.num_multiprocessors = num_multiprocessors_;
    SW_ASSIGN_OR_RETURN(stream->workspace_, Allocate(kWorkspaceBytes, "the workspace of a stream"));
    cuda.workspace = stream->workspace_.data();
    cuda.workspace_bytes = stream->workspace_.size();
    if (const CudaError error = cuda_driver::CreateStream(index_, &cuda.stream); error != 0) {
      return absl::InternalError(
          absl::StrCat("cannot create a stream on ", name_, ": ", CudaErrorText(error)));
    }
    stream->context_.cuda = &cuda;
  }
  return stream;
}

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  if (this == &other) return *this;
  Free();
  kind_ = other.kind_;
  index_ = other.index_;
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

void DeviceMemory::Free() {
  if (data_ == nullptr) return;
  if (kind_ != Kind::kPinned) CountBytes(-static_cast<int64_t>(size_));
  if (kind_ == Kind::kHost) {
    std::free(data_);
  } else if constexpr (kHasCuda) {
    kind_ == Kind::kCuda ? cuda_driver::Free(index_, data_)
                         : cuda_driver::FreePinned(index_, data_);
  }
  data_ = nullptr;
}

Stream::~Stream() {
  if constexpr (kHasCuda) {
    if (cuda_.stream != nullptr) {
      cuda_driver::Synchronize(cuda_.stream);
      cuda_driver::DestroyStream(cuda_.device_index, cuda_.stream);
    }
  }
}

absl::Status Stream::status() const {
  if (cuda_.failure == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(cuda_.failed_op, ": ", CudaErrorText(cuda_.failure)));
}

bool Stream::Done() {
  if constexpr (kHasCuda) {
    if (context_.device == DeviceType::kCuda && cuda_.failure == 0) {
      bool done = false;
      cuda_.failure = cuda_driver::QueryStream(cuda_.stream, &done);
      if (cuda_.failure != 0) cuda_.failed_op = "an op of the stream";
      return done || cuda_.failure != 0;
    }
  }
  return true;
}

absl::Status Stream::Synchronize() {
  if constexpr (kHasCuda) {
    if (context_.device == DeviceType::kCuda && cuda_.failure == 0) {
      cuda_.failure = cuda_driver::Synchronize(cuda_.stream);
      if (cuda_.failure != 0) cuda_.failed_op = "an op of the stream";
    }
  }
  return status();
}

}  // namespace sidewinder
