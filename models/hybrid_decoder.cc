#include "models/hybrid_decoder.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// Calls f with the recurrent mixer of a layer, if it has one.
template <class Mixer, class F>
void WithMixer(const Mixer& mixer, const F& f) {
  std::visit(
      [&f](const auto& block) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(block)>, std::monostate>) f(block);
      },
      mixer);
}

}  // namespace

absl::StatusOr<std::unique_ptr<const LanguageModel>> HybridDecoder::Create(
    const ModelConfig& config, WeightLoader loader, RecurrentMixer recurrent,
    const HybridNames& names) {
  auto model = std::unique_ptr<HybridDecoder>(new HybridDecoder(config, recurrent));
  SW_ASSIGN_OR_RETURN(model->frame_, Frame::Load(config, loader, names.frame));
  const MultiplierConfig& m = config.multipliers;
  for (const auto& [view, value] :
       {std::pair(&model->recurrent_scale_, m.residual * m.ssm_out),
        std::pair(&model->attention_scale_, m.residual * m.attention_out),
        std::pair(&model->feed_forward_scale_, m.residual * m.mlp_down)}) {
    SW_ASSIGN_OR_RETURN(*view, PlaceMultiplier(loader, value, config.hidden_size));
  }
  for (int64_t i = 0; i < config.num_layers; ++i) {
    SW_RETURN_IF_ERROR(model->LoadLayer(loader, names, i));
  }
  SW_ASSIGN_OR_RETURN(model->storage_, std::move(loader).Finish());
  return model;
}

absl::StatusOr<HybridDecoder::Mixer> HybridDecoder::LoadMixer(WeightLoader& loader,
                                                              const std::string& prefix) const {
  switch (recurrent_) {
    case RecurrentMixer::kMamba1:
      return Mamba1Mixer::Load(config_, loader, prefix);
    case RecurrentMixer::kMamba2:
      return Mamba2Mixer::Load(config_, loader, prefix);
    case RecurrentMixer::kRepeatedMamba1:
      return RepeatedMamba1Mixer::Load(config_, loader, prefix);
    case RecurrentMixer::kRepeatedMamba2:
      return RepeatedMamba2Mixer::Load(config_, loader, prefix);
    case RecurrentMixer::kDeltaNet:
      return DeltaNetMixer::Load(config_, loader, prefix);
  }
  return Mixer();
}

absl::Status HybridDecoder::LoadLayer(WeightLoader& loader, const HybridNames& names,
                                      int64_t index) {
  const ModelConfig& c = config_;
  const LayerConfig& kind = c.layers[index];
  const std::string prefix = absl::StrCat(names.layers, index, ".");
  Layer w;
  if (kind.mixer != MixerKind::kNone) {
    SW_ASSIGN_OR_RETURN(w.mixer_norm,
                        PlaceNorm(c, loader, prefix + names.mixer_norm, c.hidden_size));
  }
  if (kind.mixer == MixerKind::kRecurrent || kind.mixer == MixerKind::kBoth) {
    SW_ASSIGN_OR_RETURN(w.recurrent, LoadMixer(loader, prefix + names.recurrent));
  }
  if (kind.mixer == MixerKind::kAttention || kind.mixer == MixerKind::kBoth) {
    std::string attention = prefix + names.attention[0];
    for (const std::string& name : names.attention) {
      if (loader.Has({prefix + name + "q_proj.weight", prefix + name + "in_proj.weight"})) {
        attention = prefix + name;
      }
    }
    SW_ASSIGN_OR_RETURN(w.attention, AttentionBlock::Load(c, loader, attention));
  }
  if (kind.feed_forward != FeedForwardKind::kNone) {
    SW_ASSIGN_OR_RETURN(w.feed_forward_norm,
                        PlaceNorm(c, loader, prefix + names.feed_forward_norm, c.hidden_size));
  }
  if (kind.feed_forward == FeedForwardKind::kDense) {
    SW_ASSIGN_OR_RETURN(w.feed_forward,
                        FeedForward::Load(c, loader, c.feed_forward.inner_size,
                                          prefix + names.feed_forward, names.dense));
  } else if (kind.feed_forward == FeedForwardKind::kExperts) {
    SW_ASSIGN_OR_RETURN(
        w.feed_forward,
        ExpertFeedForward::Load(c, loader, prefix + names.experts_prefix, names.experts));
  }
  layers_.push_back(std::move(w));
  return absl::OkStatus();
}

StateShape HybridDecoder::state_shape() const {
  StateShape shape;
  int64_t attention_layers = 0;
  for (const Layer& layer : layers_) {
    WithMixer(layer.recurrent,
              [&](const auto& mixer) { shape.recurrent.push_back(mixer.Shape(config_)); });
    attention_layers += layer.attention.has_value();
  }
  if (attention_layers > 0) shape.kv = AttentionBlock::Shape(config_, attention_layers);
  return shape;
}

int64_t HybridDecoder::ScratchElements(int64_t max_rows) const {
  int64_t block = 0;
  for (const Layer& layer : layers_) {
    WithMixer(layer.recurrent, [&](const auto& mixer) {
      block = std::max(block, mixer.ScratchElements(config_, max_rows));
    });
    if (layer.attention) {
      block = std::max(block, AttentionBlock::ScratchElements(config_, max_rows));
    }
    if (std::holds_alternative<FeedForward>(layer.feed_forward)) {
      block = std::max(
          block, FeedForward::ScratchElements(config_, config_.feed_forward.inner_size, max_rows));
    } else if (std::holds_alternative<ExpertFeedForward>(layer.feed_forward)) {
      block = std::max(block, ExpertFeedForward::ScratchElements(config_, max_rows));
    }
  }
  return Scratch::Elements(max_rows * 2 * config_.hidden_size, 2) + block;
}

void HybridDecoder::Forward(ExecutionContext& ctx, const RowPlan& plan, StateStore& store,
                            float* scratch, float* logits) const {
  const ModelConfig& c = config_;
  const Pass pass = {ctx, plan, store};
  Scratch pieces(scratch);
  float* residual = pieces.Take(plan.max_rows * c.hidden_size);
  float* hidden = pieces.Take(plan.max_rows * c.hidden_size);
  float* rest = pieces.Take(0);
  const auto branch = [&](const VectorView& norm, const VectorView& scale) {
    return Branch{
        .norm = NormRows(pass, norm, c.norm_eps, residual, c.hidden_size, hidden, c.hidden_size),
        .residual = residual,
        .residual_stride = c.hidden_size,
        .scale = scale.data};
  };

  frame_.Embed(pass, c, residual, c.hidden_size);
  int64_t recurrent_layer = 0, attention_layer = 0;
  for (const Layer& w : layers_) {
    Branch mixer = branch(w.mixer_norm, recurrent_scale_);
    if (w.recurrent.index() != 0 && w.attention) {
      RmsNorm(ctx, mixer.norm);  // both mixers read it, and the first one changes the residual
      mixer.normed = true;
    }
    WithMixer(w.recurrent,
              [&](const auto& block) { block.Forward(pass, c, recurrent_layer++, mixer, rest); });
    if (w.attention) {
      mixer.scale = attention_scale_.data;
      w.attention->Forward(pass, c, attention_layer++, mixer, rest);
    }
    const Branch feed_forward = branch(w.feed_forward_norm, feed_forward_scale_);
    if (const auto* dense = std::get_if<FeedForward>(&w.feed_forward)) {
      dense->Forward(pass, c, c.feed_forward.inner_size, feed_forward, rest);
    } else if (const auto* experts = std::get_if<ExpertFeedForward>(&w.feed_forward)) {
      experts->Forward(pass, c, feed_forward, rest);
    }
  }
  frame_.ProjectLogits(pass, c, residual, c.hidden_size, hidden, logits);
}

}  // namespace sidewinder
