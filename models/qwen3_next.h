// Qwen3-Next: gated DeltaNet and gated attention, mixture of experts.
#ifndef SIDEWINDER_MODELS_QWEN3_NEXT_H_
#define SIDEWINDER_MODELS_QWEN3_NEXT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateQwen3Next(const ModelConfig& config,
                                                                     WeightLoader loader);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_QWEN3_NEXT_H_
