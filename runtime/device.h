// Where a model lives and decodes: the CPU, or one CUDA GPU. A device gives memory and streams.
#ifndef SIDEWINDER_RUNTIME_DEVICE_H_
#define SIDEWINDER_RUNTIME_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/common/execution.h"

namespace sidewinder {

class DeviceMemory;
class Stream;

class Device {
 public:
  // "auto" (a GPU if there is one, else the CPU), "cpu", "cuda" or "cuda:<index>".
  //   InvalidArgument     another name
  //   Unimplemented       cuda, in a build without it
  //   FailedPrecondition  cuda, without a usable GPU of that index; says what there is
  static absl::StatusOr<std::shared_ptr<const Device>> Open(absl::string_view name);

  DeviceType type() const { return type_; }
  const std::string& name() const { return name_; }  // "cpu", "cuda:0"
  // "NVIDIA H100 80GB HBM3, compute capability 9.0"; the processor for a CPU
  const std::string& description() const { return description_; }
  int32_t index() const { return index_; }
  int32_t compute_capability() const { return compute_capability_; }  // 90 for 9.0; CPU: 0
  int32_t num_multiprocessors() const { return num_multiprocessors_; }

  // Zeroed memory, aligned to 512 bytes. ResourceExhausted names `what`, the size and what is free.
  absl::StatusOr<DeviceMemory> Allocate(size_t bytes, absl::string_view what) const;

  // Zeroed memory that the host and the device both see, at one address.
  absl::StatusOr<DeviceMemory> AllocateShared(size_t bytes, absl::string_view what) const;

  // Bytes of all DeviceMemory of this process that is not pinned, now and at most so far.
  struct MemoryUse {
    int64_t now;
    int64_t peak;
  };
  static MemoryUse memory_use();

  // CPU: with `num_threads` threads (0: one per core).
  absl::StatusOr<std::unique_ptr<Stream>> CreateStream(int num_threads = 0) const;

 private:
  Device() = default;
  DeviceType type_ = DeviceType::kCpu;
  std::string name_;
  std::string description_;
  int32_t index_ = 0;
  int32_t compute_capability_ = 0;
  int32_t num_multiprocessors_ = 0;
};

// A piece of a device's memory, freed with its owner. Movable. Nothing may run on it any more then.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  ~DeviceMemory() { Free(); }
  DeviceMemory(DeviceMemory&& other) noexcept { *this = static_cast<DeviceMemory&&>(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept;

  void* data() const { return data_; }
  size_t size() const { return size_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  friend class Device;
  void Free();

  enum class Kind : uint8_t { kHost, kCuda, kPinned };
  Kind kind_ = Kind::kHost;
  int32_t index_ = 0;
  void* data_ = nullptr;
  size_t size_ = 0;
};

// Ops run on a stream in order; streams of one device run side by side. Not thread-safe.
//
// The environment variable SIDEWINDER_FORCE_CC, e.g. 80, makes CUDA streams pretend a lower compute
// capability, so that the generic kernels can be tested on newer GPUs.
class Stream {
 public:
  ~Stream();

  // What ops take; lives as long as the stream.
  ExecutionContext& context() { return context_; }

  // The first failure of an op so far, by name; does not wait.
  absl::Status status() const;

  // Waits for everything enqueued. Internal names the op or the asynchronous error.
  absl::Status Synchronize();

  // Whether everything enqueued is done (or has failed: see status()).
  bool Done();

 private:
  friend class Device;
  Stream() = default;

  ExecutionContext context_;
  std::unique_ptr<ThreadPool> pool_;
  CudaContext cuda_;
  DeviceMemory workspace_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_RUNTIME_DEVICE_H_
