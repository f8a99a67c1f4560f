#include "models/falcon_h1.h"

#include <utility>

#include "models/hybrid_decoder.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateFalconH1(const ModelConfig& config,
                                                                    WeightLoader loader) {
  return HybridDecoder::Create(
      config, std::move(loader), RecurrentMixer::kMamba2,
      {.frame = {"model.embed_tokens.weight", "model.final_layernorm.weight"},
       .feed_forward_norm = "pre_ff_layernorm.weight",
       .feed_forward = "feed_forward."});
}

}  // namespace sidewinder
