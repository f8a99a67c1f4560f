// The hybrids of "The Mamba in the Llama" (arXiv 2408.15237) and M1 (arXiv 2504.10449): a Llama in
// which the attention of some layers gave way to Mamba-1 or Mamba-2.
#ifndef SIDEWINDER_MODELS_MAMBA_IN_LLAMA_H_
#define SIDEWINDER_MODELS_MAMBA_IN_LLAMA_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateMambaInLlama(const ModelConfig& config,
                                                                        WeightLoader loader);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_MAMBA_IN_LLAMA_H_
