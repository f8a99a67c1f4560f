// A model with another vocabulary that is the same network: its ids stand for other strings.
#ifndef SIDEWINDER_TESTS_TESTING_PERMUTED_MODEL_H_
#define SIDEWINDER_TESTS_TESTING_PERMUTED_MODEL_H_

#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "runtime/json.h"
#include "runtime/status_macros.h"
#include "runtime/weights.h"
#include "sidewinder/model.h"
#include "tests/testing/safetensors_builder.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/test_models.h"

namespace sidewinder::testing {

// The model of `folder`, whose head is tied and whose only special token is 0, with ids 1, 2, ..
// in reverse. `to` is where it is written.
inline std::shared_ptr<const Model> PermutedModel(const std::string& folder, const TempFolder& to) {
  auto json = ParseJson(ReadFile(folder + "/tokenizer.json"), folder);
  SW_CHECK(json.ok()) << json.status();
  Json& vocab = (*json)["model"]["vocab"];
  const auto size = static_cast<int32_t>(vocab.size());
  for (Json& id : vocab) id = id == 0 ? 0 : size - id.get<int32_t>();
  to.Write("tokenizer.json", json->dump());

  const auto weights = WeightsReader::Open(folder);
  SW_CHECK(weights.ok()) << weights.status();
  SafetensorsBuilder builder;
  for (const StoredTensor& tensor : (*weights)->tensors()) {
    std::string bytes(reinterpret_cast<const char*>(tensor.data), tensor.size);
    if (absl::StrContains(tensor.name, "embedding")) {
      const std::string rows = bytes;
      const size_t row_bytes = tensor.size / static_cast<size_t>(tensor.shape[0]);
      for (int32_t id = 1; id < size; ++id) {
        bytes.replace((size - id) * row_bytes, row_bytes, rows, id * row_bytes, row_bytes);
      }
    }
    builder.Add(tensor.name, tensor.dtype_name, tensor.shape, bytes);
  }
  to.Write("model.safetensors", builder.Build());
  std::filesystem::copy(folder + "/config.json", to / "config.json");
  auto model = Model::Load(to.path(), {.device = TestDevice()});
  SW_CHECK(model.ok()) << model.status();
  return *std::move(model);
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_PERMUTED_MODEL_H_
