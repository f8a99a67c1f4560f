// The tiny golden models, loaded once per process and shared by tests.
#ifndef SIDEWINDER_TESTS_TESTING_TEST_MODELS_H_
#define SIDEWINDER_TESTS_TESTING_TEST_MODELS_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "runtime/device.h"
#include "runtime/status_macros.h"
#include "sidewinder/model.h"
#include "tests/testing/source_dir.h"

namespace sidewinder::testing {

// The device that suites without a parameter for it run on: SIDEWINDER_TEST_DEVICE, or the CPU.
inline std::string TestDevice() {
  const char* device = std::getenv("SIDEWINDER_TEST_DEVICE");
  return device != nullptr ? device : "cpu";
}

// `name` is a folder of tests/goldens/models, `dtype` and `device` as in ModelOptions.
inline std::shared_ptr<const Model> TestModel(const std::string& name,
                                              const std::string& dtype = "auto",
                                              const std::string& device = TestDevice()) {
  static auto* const loaded = new std::map<std::tuple<std::string, std::string, std::string>,
                                           std::shared_ptr<const Model>>();
  std::shared_ptr<const Model>& model = (*loaded)[{name, dtype, device}];
  if (model == nullptr) {
    auto result = Model::Load(SourceDir() + "/tests/goldens/models/" + name,
                              {.device = device, .dtype = dtype});
    SW_CHECK(result.ok()) << result.status();
    model = *std::move(result);
  }
  return model;
}

// The devices that suites over devices are instantiated with, and the reason to skip one that is
// not there; empty if it is.
inline constexpr const char* kDevices[] = {"cpu", "cuda"};
inline std::string WhyNot(const std::string& device) {
  const auto opened = Device::Open(device);
  return opened.ok() ? "" : std::string(opened.status().message());
}

// In a file of tests over TestDevice(): skips all of them, with the reason, where it is not there.
class NeedsTestDevice : public ::testing::Environment {
 public:
  void SetUp() override {
    const std::string why_not = WhyNot(TestDevice());
    if (!why_not.empty()) GTEST_SKIP() << why_not;
  }
};

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_TEST_MODELS_H_
