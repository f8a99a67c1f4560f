#include "models/registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "models/mamba1.h"
#include "models/mamba2.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateLanguageModel(const ModelConfig& config,
                                                                         WeightLoader loader) {
  switch (config.family) {
    case ModelFamily::kMamba1:
      return Mamba1::Create(config, std::move(loader));
    case ModelFamily::kMamba2:
      return Mamba2::Create(config, std::move(loader));
    default:
      break;
  }
  return absl::UnimplementedError(absl::StrCat("no network for family ", Name(config.family)));
}

}  // namespace sidewinder
