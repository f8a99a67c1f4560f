#include <gtest/gtest.h>

#include <string>

#include "sidewinder/system.h"
#include "tests/testing/test_models.h"

namespace sidewinder {
namespace {

class ReadBandwidthTest : public ::testing::TestWithParam<const char*> {};

TEST_P(ReadBandwidthTest, IsThatOfAMemory) {
  if (const std::string why = testing::WhyNot(GetParam()); !why.empty()) GTEST_SKIP() << why;
  const auto model = testing::TestModel("mamba2_tied", "auto", GetParam());
  for (const int64_t bytes : {int64_t{1} << 20, int64_t{20} << 20}) {
    const auto bandwidth = MeasureReadBandwidth(*model, bytes, /*num_threads=*/1);
    ASSERT_TRUE(bandwidth.ok()) << bandwidth.status();
    EXPECT_GT(*bandwidth, 1e8);
    EXPECT_LT(*bandwidth, 1e14);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, ReadBandwidthTest, ::testing::ValuesIn(testing::kDevices));

}  // namespace
}  // namespace sidewinder
