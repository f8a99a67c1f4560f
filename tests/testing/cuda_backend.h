// Running ops on a GPU in tests. The tests are always compiled; without a GPU they skip and say
// why.
//
//   class LinearCudaTest : public testing::CudaTest {};
//   TEST_F(LinearCudaTest, ...) {
//     auto x = Upload(std::vector<float>{...});      // or Poisoned<float>(n)
//     Linear(ctx(), {.input = x.data(), ...});
//     std::vector<float> y = out.Download();         // waits; fails the test on any CUDA error
//     EXPECT_TRUE(out.Intact());                     // nothing was written outside
//   }
#ifndef SIDEWINDER_TESTS_TESTING_CUDA_BACKEND_H_
#define SIDEWINDER_TESTS_TESTING_CUDA_BACKEND_H_

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/common/copy.h"
#include "runtime/device.h"

namespace sidewinder::testing {

// An array in device memory with guards on both sides. `data()` is aligned to 512 bytes, or to one
// element only if asked for.
template <class T>
class DeviceArray {
 public:
  DeviceArray(Stream& stream, const Device& device, const std::vector<T>& values, bool misalign)
      : stream_(&stream), size_(values.size()), offset_(kGuardBytes + (misalign ? sizeof(T) : 0)) {
    auto memory = device.Allocate(offset_ + size_ * sizeof(T) + kGuardBytes, "a test array");
    EXPECT_TRUE(memory.ok()) << memory.status();
    if (!memory.ok()) return;
    memory_ = std::move(*memory);
    std::string bytes(memory_.size(), kGuardByte);
    if (size_ > 0) std::memcpy(bytes.data() + offset_, values.data(), size_ * sizeof(T));
    CopyIn(stream.context(), memory_.data(), bytes.data(), bytes.size());
  }

  T* data() const { return reinterpret_cast<T*>(memory_.template as<char>() + offset_); }
  size_t size() const { return size_; }

  std::vector<T> Download() const {
    std::vector<T> values(size_);
    CopyOut(stream_->context(), values.data(), data(), size_ * sizeof(T));
    const absl::Status status = stream_->Synchronize();
    EXPECT_TRUE(status.ok()) << status;
    return values;
  }

  bool Intact() const {
    std::string bytes(memory_.size(), '\0');
    CopyOut(stream_->context(), bytes.data(), memory_.data(), bytes.size());
    for (size_t i = 0; i < bytes.size(); ++i) {
      const bool inside = i >= offset_ && i < offset_ + size_ * sizeof(T);
      if (!inside && bytes[i] != kGuardByte) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuardBytes{512};
  static constexpr char kGuardByte{static_cast<char>(0xff)};  // four of them are a NaN

  Stream* stream_;
  DeviceMemory memory_;
  size_t size_;
  size_t offset_;
};

class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto device = Device::Open("cuda");
    if (!device.ok()) GTEST_SKIP() << device.status().message();
    device_ = *device;
    auto stream = device_->CreateStream();
    ASSERT_TRUE(stream.ok()) << stream.status();
    stream_ = std::move(*stream);
  }
  void TearDown() override {
    if (stream_ == nullptr) return;
    const absl::Status status = stream_->Synchronize();
    EXPECT_TRUE(status.ok()) << status;
  }

  ExecutionContext& ctx() { return stream_->context(); }
  Stream& stream() { return *stream_; }
  const Device& device() const { return *device_; }

  template <class T>
  DeviceArray<T> Upload(const std::vector<T>& values, bool misalign = false) {
    return DeviceArray<T>(*stream_, *device_, values, misalign);
  }
  // Every byte 0xff: NaN, or -1.
  template <class T>
  DeviceArray<T> Poisoned(size_t size, bool misalign = false) {
    std::vector<T> values(size);
    if (size > 0) std::memset(static_cast<void*>(values.data()), 0xff, size * sizeof(T));
    return Upload(values, misalign);
  }

 private:
  std::shared_ptr<const Device> device_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_CUDA_BACKEND_H_
