// Llama and Mistral: attention and a gated feed-forward part in every layer, as a verifier beside
// recurrent ones or as a draft.
#ifndef SIDEWINDER_MODELS_LLAMA_H_
#define SIDEWINDER_MODELS_LLAMA_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateLlama(const ModelConfig& config,
                                                                 WeightLoader loader);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_LLAMA_H_
