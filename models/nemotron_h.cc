#include "models/nemotron_h.h"

#include <utility>

#include "models/hybrid_decoder.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateNemotronH(const ModelConfig& config,
                                                                     WeightLoader loader) {
  const bool of_modules = loader.Has("model.norm_f.weight");  // names as the class has them
  const FeedForward::Names squared = {.up = {"up_proj"}, .down = "down_proj"};
  return HybridDecoder::Create(config, std::move(loader), RecurrentMixer::kMamba2,
                               {.frame = {{"backbone.embeddings.weight",
                                           "backbone.embedding.weight", "model.embeddings.weight"},
                                          {"backbone.norm_f.weight", "model.norm_f.weight"}},
                                .layers = of_modules ? "model.layers." : "backbone.layers.",
                                .mixer_norm = "norm.weight",
                                .recurrent = "mixer.",
                                .attention = {"mixer."},
                                .feed_forward_norm = "norm.weight",
                                .feed_forward = "mixer.",
                                .dense = squared,
                                .experts_prefix = "mixer.",
                                .experts = {.router = "gate.weight",
                                            .router_correction = "gate.e_score_correction_bias",
                                            .stacked_up = "experts.up_proj",
                                            .stacked_down = "experts.down_proj",
                                            .one = squared,
                                            .shared = "shared_experts.",
                                            .shared_names = squared,
                                            .to_latent = "fc1_latent_proj.weight",
                                            .from_latent = "fc2_latent_proj.weight"}});
}

}  // namespace sidewinder
