// Jamba (Lieber et al., arXiv 2403.19887): Mamba-1 with inner norms, attention without positions,
// mixture of experts.
#ifndef SIDEWINDER_MODELS_JAMBA_H_
#define SIDEWINDER_MODELS_JAMBA_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateJamba(const ModelConfig& config,
                                                                 WeightLoader loader);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_JAMBA_H_
