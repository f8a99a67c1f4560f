// Memory that tells on whoever strays: NaN inside until written, canaries on both sides.
#ifndef SIDEWINDER_TESTS_TESTING_GUARDED_BUFFER_H_
#define SIDEWINDER_TESTS_TESTING_GUARDED_BUFFER_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace sidewinder::testing {

inline constexpr float kPoison{std::numeric_limits<float>::quiet_NaN()};

class GuardedBuffer {
 public:
  explicit GuardedBuffer(int64_t size, float fill = kPoison)
      : values_(size + 2 * kGuard, kCanary), size_(size) {
    std::fill_n(data(), size, fill);
  }
  explicit GuardedBuffer(const std::vector<float>& values)
      : GuardedBuffer(static_cast<int64_t>(values.size())) {
    std::copy(values.begin(), values.end(), data());
  }

  float* data() { return values_.data() + kGuard; }
  const float* data() const { return values_.data() + kGuard; }
  int64_t size() const { return size_; }
  float& operator[](int64_t idx) { return data()[idx]; }
  float operator[](int64_t idx) const { return data()[idx]; }

  // Whether nothing was written outside.
  bool Intact() const {
    const auto is_canary = [](float value) { return value == kCanary; };
    return std::all_of(values_.begin(), values_.begin() + kGuard, is_canary) &&
           std::all_of(values_.end() - kGuard, values_.end(), is_canary);
  }

 private:
  static constexpr int64_t kGuard{67};  // odd: data() is aligned to an element only
  static constexpr float kCanary{-12345.678f};

  std::vector<float> values_;
  int64_t size_;
};

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_GUARDED_BUFFER_H_
