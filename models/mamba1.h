// Mamba-1 (Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv
// 2312.00752): the checkpoints of state-spaces and transformers' MambaForCausalLM; and Falcon Mamba
// (arXiv 2410.05355), which norms the time step, B and C.
#ifndef SIDEWINDER_MODELS_MAMBA1_H_
#define SIDEWINDER_MODELS_MAMBA1_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateMamba1(const ModelConfig& config,
                                                                  WeightLoader loader);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_MAMBA1_H_
