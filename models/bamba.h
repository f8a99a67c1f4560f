// Bamba: Mamba-2, attention that rotates half of each head, gated feed-forward parts.
#ifndef SIDEWINDER_MODELS_BAMBA_H_
#define SIDEWINDER_MODELS_BAMBA_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateBamba(const ModelConfig& config,
                                                                 WeightLoader loader);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_BAMBA_H_
