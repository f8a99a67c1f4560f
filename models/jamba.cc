#include "models/jamba.h"

#include <utility>

#include "models/hybrid_decoder.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateJamba(const ModelConfig& config,
                                                                 WeightLoader loader) {
  return HybridDecoder::Create(
      config, std::move(loader), RecurrentMixer::kMamba1,
      {.frame = {"model.embed_tokens.weight", "model.final_layernorm.weight"},
       .feed_forward_norm = "pre_ff_layernorm.weight",
       .feed_forward = "feed_forward.",
       .experts_prefix = "feed_forward.",
       .experts = {.router = "router.weight",
                   .stacked_up = "experts.gate_up_proj",
                   .stacked_down = "experts.down_proj"}});
}

}  // namespace sidewinder
