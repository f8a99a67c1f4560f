#include "models/mamba1.h"

#include <utility>

#include "models/hybrid_decoder.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateMamba1(const ModelConfig& config,
                                                                  WeightLoader loader) {
  return HybridDecoder::Create(
      config, std::move(loader), RecurrentMixer::kMamba1,
      {.frame = {{"backbone.embeddings.weight", "backbone.embedding.weight"},
                 "backbone.norm_f.weight"},
       .layers = "backbone.layers.",
       .mixer_norm = "norm.weight",
       .recurrent = "mixer."});
}

}  // namespace sidewinder
