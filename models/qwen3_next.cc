#include "models/qwen3_next.h"

#include <utility>

#include "models/hybrid_decoder.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateQwen3Next(const ModelConfig& config,
                                                                     WeightLoader loader) {
  loader.Ignore("mtp.");  // a layer that drafts: not part of the model's own distribution
  return HybridDecoder::Create(config, std::move(loader), RecurrentMixer::kDeltaNet,
                               {.recurrent = "linear_attn.",
                                .experts = {.router = "gate.weight",
                                            .stacked_up = "experts.gate_up_proj",
                                            .stacked_down = "experts.down_proj",
                                            .shared = "shared_expert.",
                                            .shared_gate = "shared_expert_gate.weight"}});
}

}  // namespace sidewinder
