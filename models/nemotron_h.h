// Nemotron-H and Nemotron Nano: layers that are one part each, Mamba-2, attention without
// positions, a squared-ReLU feed-forward part, or experts.
#ifndef SIDEWINDER_MODELS_NEMOTRON_H_H_
#define SIDEWINDER_MODELS_NEMOTRON_H_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateNemotronH(const ModelConfig& config,
                                                                     WeightLoader loader);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_NEMOTRON_H_H_
