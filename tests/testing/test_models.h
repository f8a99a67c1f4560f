// The tiny golden models, loaded once per process and shared by tests.
#ifndef SIDEWINDER_TESTS_TESTING_TEST_MODELS_H_
#define SIDEWINDER_TESTS_TESTING_TEST_MODELS_H_

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "runtime/status_macros.h"
#include "sidewinder/model.h"

namespace sidewinder::testing {

// `name` is a folder of tests/goldens/models, `dtype` as in ModelOptions.
inline std::shared_ptr<const Model> TestModel(const std::string& name,
                                              const std::string& dtype = "auto") {
  static auto* const loaded =
      new std::map<std::pair<std::string, std::string>, std::shared_ptr<const Model>>();
  std::shared_ptr<const Model>& model = (*loaded)[{name, dtype}];
  if (model == nullptr) {
    auto result =
        Model::Load(std::string(SW_SOURCE_DIR) + "/tests/goldens/models/" + name, {.dtype = dtype});
    SW_CHECK(result.ok()) << result.status();
    model = *std::move(result);
  }
  return model;
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_TEST_MODELS_H_
