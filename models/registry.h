// All model families, by name.
#ifndef SIDEWINDER_MODELS_REGISTRY_H_
#define SIDEWINDER_MODELS_REGISTRY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

// Takes the family's tensors from `loader`. Errors as WeightLoader.
absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateLanguageModel(const ModelConfig& config,
                                                                         WeightLoader loader);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_REGISTRY_H_
