// Falcon-H1 (arXiv 2507.22448): Mamba-2 and attention side by side in every layer, with multipliers
// nearly everywhere.
#ifndef SIDEWINDER_MODELS_FALCON_H1_H_
#define SIDEWINDER_MODELS_FALCON_H1_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateFalconH1(const ModelConfig& config,
                                                                    WeightLoader loader);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_FALCON_H1_H_
