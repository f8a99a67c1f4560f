// The decoder that most families are: a stream of layers, each a mixer (recurrent, attention, or
// both side by side) and a feed-forward part (dense or experts), either of which may be missing:
//
//   h = embedding[token]
//   for each layer:
//     h = h + scale * mixer(RMSNorm(h))
//     h = h + scale * feed_forward(RMSNorm(h))
//   logits = head RMSNorm(h)
//
// A family says what its tensors are called and which recurrent mixer it has; what stands in which
// layer is in the configuration.
#ifndef SIDEWINDER_MODELS_HYBRID_DECODER_H_
#define SIDEWINDER_MODELS_HYBRID_DECODER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "models/blocks/attention_block.h"
#include "models/blocks/common.h"
#include "models/blocks/delta_net_mixer.h"
#include "models/blocks/feed_forward.h"
#include "models/blocks/mamba1_mixer.h"
#include "models/blocks/mamba2_mixer.h"
#include "models/blocks/repeated_mixer.h"
#include "models/language_model.h"

namespace sidewinder {

enum class RecurrentMixer : uint8_t {
  kMamba1,
  kMamba2,
  kRepeatedMamba1,
  kRepeatedMamba2,
  kDeltaNet
};

// What the tensors of a family are called. Names of a layer's tensors stand behind `layers` and the
// number of the layer, as "model.layers.3.".
struct HybridNames {
  Frame::Names frame = {"model.embed_tokens.weight", "model.norm.weight"};
  std::string layers = "model.layers.";
  std::string mixer_norm = "input_layernorm.weight";
  std::string recurrent = "mamba.";
  std::vector<std::string> attention = {"self_attn."};  // the first that is there
  std::string feed_forward_norm = "post_attention_layernorm.weight";
  std::string feed_forward = "mlp.";
  FeedForward::Names dense;
  std::string experts_prefix = "mlp.";
  ExpertFeedForward::Names experts;
};

class HybridDecoder final : public LanguageModel {
 public:
  // `recurrent` does not matter for a configuration without recurrent layers.
  static absl::StatusOr<std::unique_ptr<const LanguageModel>> Create(const ModelConfig& config,
                                                                     WeightLoader loader,
                                                                     RecurrentMixer recurrent,
                                                                     const HybridNames& names);

  const ModelConfig& config() const override { return config_; }
  WeightFigures figures() const override { return storage_->figures; }
  StateShape state_shape() const override;
  int64_t ScratchElements(int64_t max_rows) const override;
  void Forward(ExecutionContext& ctx, const RowPlan& plan, StateStore& store, float* scratch,
               float* logits) const override;

 private:
  using Mixer = std::variant<std::monostate, Mamba1Mixer, Mamba2Mixer, RepeatedMamba1Mixer,
                             RepeatedMamba2Mixer, DeltaNetMixer>;
  using FeedForwardPart = std::variant<std::monostate, FeedForward, ExpertFeedForward>;
  struct Layer {
    VectorView mixer_norm;
    Mixer recurrent;
    std::optional<AttentionBlock> attention;
    VectorView feed_forward_norm;
    FeedForwardPart feed_forward;
  };

  HybridDecoder(const ModelConfig& config, RecurrentMixer recurrent)
      : config_(config), recurrent_(recurrent) {}
  absl::Status LoadLayer(WeightLoader& loader, const HybridNames& names, int64_t index);
  absl::StatusOr<Mixer> LoadMixer(WeightLoader& loader, const std::string& prefix) const;

  ModelConfig config_;
  RecurrentMixer recurrent_;
  Frame frame_;
  std::vector<Layer> layers_;
  // Multipliers of what leaves the branches, [hidden] each; empty: ones.
  VectorView recurrent_scale_, attention_scale_, feed_forward_scale_;
  std::shared_ptr<const WeightStorage> storage_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_HYBRID_DECODER_H_
