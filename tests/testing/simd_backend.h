// Runs a suite once for every SIMD target that is compiled in and that this machine supports.
#ifndef SIDEWINDER_TESTS_TESTING_SIMD_BACKEND_H_
#define SIDEWINDER_TESTS_TESTING_SIMD_BACKEND_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/common/execution.h"
#include "kernels/common/simd_targets.h"

#include "hwy/highway.h"

namespace sidewinder::testing {

// Value-parameterised by the target's bit.
class SimdBackendTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    hwy::SetSupportedTargetsForTest(GetParam());
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  void TearDown() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }

  // A context on a pool of its own with `num_threads` threads; pools live as long as the test.
  ExecutionContext Context(int num_threads) {
    pools_.push_back(std::make_unique<ThreadPool>(num_threads));
    return {.device = DeviceType::kCpu, .pool = pools_.back().get()};
  }

 private:
  std::vector<std::unique_ptr<ThreadPool>> pools_;
};

inline std::vector<int64_t> SimdTargets() {
  std::vector<int64_t> targets;
  for (int64_t rest = hwy::SupportedTargets() & HWY_TARGETS; rest != 0; rest &= rest - 1) {
    targets.push_back(rest & -rest);
  }
  return targets;
}

inline std::string SimdTargetName(const ::testing::TestParamInfo<int64_t>& info) {
  return hwy::TargetName(info.param);
}

#define SW_INSTANTIATE_SIMD_TESTS(suite)                                                           \
  INSTANTIATE_TEST_SUITE_P(Simd, suite, ::testing::ValuesIn(::sidewinder::testing::SimdTargets()), \
                           ::sidewinder::testing::SimdTargetName)

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_SIMD_BACKEND_H_
