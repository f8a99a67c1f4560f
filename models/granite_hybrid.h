// Granite 4 hybrid: Mamba-2 and a little attention, with multipliers on embedding, branches and
// logits; feed-forward parts with or without experts.
#ifndef SIDEWINDER_MODELS_GRANITE_HYBRID_H_
#define SIDEWINDER_MODELS_GRANITE_HYBRID_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateGraniteHybrid(const ModelConfig& config,
                                                                         WeightLoader loader);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_GRANITE_HYBRID_H_
