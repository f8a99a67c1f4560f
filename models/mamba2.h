// Mamba-2 (Dao and Gu, "Transformers are SSMs", arXiv 2405.21060): the checkpoints of state-spaces
// and transformers' Mamba2ForCausalLM, Codestral Mamba included.
#ifndef SIDEWINDER_MODELS_MAMBA2_H_
#define SIDEWINDER_MODELS_MAMBA2_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateMamba2(const ModelConfig& config,
                                                                  WeightLoader loader);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_MAMBA2_H_
