#include "models/llama.h"

#include <utility>

#include "models/hybrid_decoder.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateLlama(const ModelConfig& config,
                                                                 WeightLoader loader) {
  return HybridDecoder::Create(config, std::move(loader), RecurrentMixer::kMamba2, {});
}

}  // namespace sidewinder
