#include "models/granite_hybrid.h"

#include <utility>

#include "models/hybrid_decoder.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateGraniteHybrid(const ModelConfig& config,
                                                                         WeightLoader loader) {
  const FeedForward::Names shared = {.up = {"input_linear"}, .down = "output_linear"};
  return HybridDecoder::Create(config, std::move(loader), RecurrentMixer::kMamba2,
                               {.feed_forward = "shared_mlp.",
                                .dense = shared,
                                .experts_prefix = "",
                                .experts = {.router = "block_sparse_moe.router.layer.weight",
                                            .stacked_up = "block_sparse_moe.input_linear.weight",
                                            .stacked_down = "block_sparse_moe.output_linear.weight",
                                            .expert = "block_sparse_moe.experts.",
                                            .shared = "shared_mlp.",
                                            .shared_names = shared}});
}

}  // namespace sidewinder
