#include "models/zamba2.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/fused.h"
#include "kernels/gated_activation.h"
#include "models/blocks/attention_block.h"
#include "models/blocks/common.h"
#include "models/blocks/mamba2_mixer.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// up(down x), added to what a shared product gave.
struct Adapter {
  WeightView down;  // [rank, in]
  WeightView up;    // [out, rank]

  explicit operator bool() const { return static_cast<bool>(down); }
};

struct SharedBlock {
  VectorView input_norm;  // [2 * hidden]
  WeightView qkv;         // [(num_heads + 2 num_kv_heads) * head_dim, 2 * hidden]
  WeightView out;         // [hidden, num_heads * head_dim]
  VectorView feed_forward_norm;
  WeightView gate_up;  // [2 * inner, hidden]
  VectorView gate_up_bias;
  WeightView down;  // [hidden, inner]
  VectorView down_bias;
};

// What a use of a shared block has of its own.
struct SharedUse {
  int64_t block;
  Adapter q, k, v, gate_up;
  WeightView linear;  // [hidden, hidden]
};

class Zamba2 final : public LanguageModel {
 public:
  explicit Zamba2(const ModelConfig& config) : config_(config) {}
  absl::Status Load(WeightLoader loader);

  const ModelConfig& config() const override { return config_; }
  WeightFigures figures() const override { return storage_->figures; }
  StateShape state_shape() const override;
  int64_t ScratchElements(int64_t max_rows) const override;
  void Forward(ExecutionContext& ctx, const RowPlan& plan, StateStore& store, float* scratch,
               float* logits) const override;

 private:
  struct Layer {
    VectorView norm;
    Mamba2Mixer mixer;
    std::optional<SharedUse> shared;
  };

  absl::StatusOr<SharedBlock> LoadBlock(WeightLoader& loader, const std::string& prefix,
                                        int64_t num_uses) const;
  absl::StatusOr<SharedUse> LoadUse(WeightLoader& loader, const std::string& prefix, int64_t layer,
                                    int64_t use) const;
  int64_t QkvDim() const {
    return (config_.attention.num_heads + 2 * config_.attention.num_kv_heads) *
           config_.attention.head_dim;
  }
  int64_t SharedScratch(int64_t max_rows) const;
  void ForwardShared(const Pass& pass, const SharedUse& use, int64_t attention_layer,
                     const float* stream, float* output, float* scratch) const;

  ModelConfig config_;
  Frame frame_;
  VectorView inv_freq_;
  std::vector<SharedBlock> blocks_;
  std::vector<Layer> layers_;
  std::shared_ptr<const WeightStorage> storage_;
};

std::string LayerPrefix(int64_t layer) { return absl::StrCat("model.layers.", layer, "."); }

absl::StatusOr<Adapter> LoadAdapter(WeightLoader& loader, const std::string& list, int64_t use,
                                    int64_t rank, int64_t in_dim, int64_t out_dim) {
  const std::string prefix = absl::StrCat(list, ".", use, ".");
  Adapter adapter;
  SW_ASSIGN_OR_RETURN(adapter.down, loader.Tensor(prefix + "0.weight", {rank, in_dim}));
  SW_ASSIGN_OR_RETURN(adapter.up, loader.Tensor(prefix + "1.weight", {out_dim, rank}));
  return adapter;
}

absl::StatusOr<SharedBlock> Zamba2::LoadBlock(WeightLoader& loader, const std::string& prefix,
                                              int64_t num_uses) const {
  const ModelConfig& c = config_;
  const AttentionConfig& a = c.attention;
  const int64_t inner = c.feed_forward.inner_size, wide = 2 * c.hidden_size;
  const int64_t query_dim = a.num_heads * a.head_dim, key_dim = a.num_kv_heads * a.head_dim;
  const std::string attention = prefix + "self_attn.", mlp = prefix + "feed_forward.";
  // A pass reads the block once for every use: it is larger than any cache.
  const double read_share = static_cast<double>(num_uses);
  SharedBlock w;
  SW_ASSIGN_OR_RETURN(w.input_norm, loader.PlacedVector(prefix + "input_layernorm.weight", {wide}));
  SW_ASSIGN_OR_RETURN(w.qkv,
                      loader.Stacked({attention + "q_proj.weight", attention + "k_proj.weight",
                                      attention + "v_proj.weight"},
                                     {query_dim, key_dim, key_dim}, wide, read_share));
  SW_ASSIGN_OR_RETURN(
      w.out, loader.Tensor(attention + "o_proj.weight", {c.hidden_size, query_dim}, read_share));
  SW_ASSIGN_OR_RETURN(w.feed_forward_norm,
                      loader.PlacedVector(prefix + "pre_ff_layernorm.weight", {c.hidden_size}));
  SW_ASSIGN_OR_RETURN(w.gate_up, loader.Tensor(mlp + "gate_up_proj.weight",
                                               {2 * inner, c.hidden_size}, read_share));
  SW_ASSIGN_OR_RETURN(w.down,
                      loader.Tensor(mlp + "down_proj.weight", {c.hidden_size, inner}, read_share));
  if (c.feed_forward.bias) {
    SW_ASSIGN_OR_RETURN(w.gate_up_bias,
                        loader.PlacedVector(mlp + "gate_up_proj.bias", {2 * inner}));
    SW_ASSIGN_OR_RETURN(w.down_bias, loader.PlacedVector(mlp + "down_proj.bias", {c.hidden_size}));
  }
  return w;
}

absl::StatusOr<SharedUse> Zamba2::LoadUse(WeightLoader& loader, const std::string& prefix,
                                          int64_t layer, int64_t use) const {
  const ModelConfig& c = config_;
  const AttentionConfig& a = c.attention;
  const int64_t wide = 2 * c.hidden_size, rank = c.adapter_rank;
  SharedUse w;
  w.block = use % c.num_shared_blocks;
  if (c.attention_adapters) {
    const std::string list = prefix + "self_attn.linear_";
    const int64_t key_dim = a.num_kv_heads * a.head_dim;
    SW_ASSIGN_OR_RETURN(w.q, LoadAdapter(loader, list + "q_adapter_list", use, rank, wide,
                                         a.num_heads * a.head_dim));
    SW_ASSIGN_OR_RETURN(w.k,
                        LoadAdapter(loader, list + "k_adapter_list", use, rank, wide, key_dim));
    SW_ASSIGN_OR_RETURN(w.v,
                        LoadAdapter(loader, list + "v_adapter_list", use, rank, wide, key_dim));
  }
  SW_ASSIGN_OR_RETURN(
      w.gate_up, LoadAdapter(loader, prefix + "feed_forward.gate_up_proj_adapter_list", use, rank,
                             c.hidden_size, 2 * c.feed_forward.inner_size));
  SW_ASSIGN_OR_RETURN(w.linear, loader.Tensor(LayerPrefix(layer) + "linear.weight",
                                              {c.hidden_size, c.hidden_size}));
  return w;
}

absl::Status Zamba2::Load(WeightLoader loader) {
  const ModelConfig& c = config_;
  SW_ASSIGN_OR_RETURN(
      frame_,
      Frame::Load(c, loader, {"model.embed_tokens.weight", "model.final_layernorm.weight"}));
  SW_ASSIGN_OR_RETURN(inv_freq_, loader.Place(InverseFrequencies(c.attention.rope)));

  std::vector<int64_t> uses;  // layers with a shared block
  for (int64_t i = 0; i < c.num_layers; ++i) {
    if (c.layers[i].mixer == MixerKind::kBoth) uses.push_back(i);
  }
  // A block is stored once, under one of the layers that use it: as a rule the first.
  std::vector<std::string> block_prefix;
  for (int64_t b = 0; b < c.num_shared_blocks; ++b) {
    std::string found;
    int64_t num_uses = 0;
    for (size_t use = b; use < uses.size(); use += c.num_shared_blocks) ++num_uses;
    for (size_t use = b; use < uses.size(); use += c.num_shared_blocks) {
      const std::string prefix = LayerPrefix(uses[use]) + "shared_transformer.";
      if (found.empty() || loader.Has(prefix + "input_layernorm.weight")) found = prefix;
      if (loader.Has(prefix + "input_layernorm.weight")) break;
    }
    if (found.empty()) break;  // more blocks than uses
    SW_ASSIGN_OR_RETURN(SharedBlock block, LoadBlock(loader, found, num_uses));
    blocks_.push_back(block);
    block_prefix.push_back(found);
  }
  int64_t use = 0;
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const std::string prefix = LayerPrefix(i);
    Layer w;
    std::string decoder = prefix;
    if (c.layers[i].mixer == MixerKind::kBoth) {
      decoder += "mamba_decoder.";
      SW_ASSIGN_OR_RETURN(w.shared,
                          LoadUse(loader, block_prefix[use % c.num_shared_blocks], i, use));
      ++use;
    }
    SW_ASSIGN_OR_RETURN(w.norm,
                        loader.PlacedVector(decoder + "input_layernorm.weight", {c.hidden_size}));
    SW_ASSIGN_OR_RETURN(w.mixer, Mamba2Mixer::Load(c, loader, decoder + "mamba."));
    layers_.push_back(std::move(w));
  }
  SW_ASSIGN_OR_RETURN(storage_, std::move(loader).Finish());
  return absl::OkStatus();
}

StateShape Zamba2::state_shape() const {
  const auto uses = std::count_if(layers_.begin(), layers_.end(),
                                  [](const Layer& layer) { return layer.shared.has_value(); });
  StateShape shape;
  shape.recurrent.assign(layers_.size(), Mamba2Mixer::Shape(config_));
  if (uses > 0) shape.kv = AttentionBlock::Shape(config_, uses);
  return shape;
}

int64_t Zamba2::SharedScratch(int64_t max_rows) const {
  const ModelConfig& c = config_;
  return Scratch::Elements(
      max_rows * (4 * c.hidden_size + QkvDim() + c.adapter_rank + 2 * c.feed_forward.inner_size),
      6);
}

int64_t Zamba2::ScratchElements(int64_t max_rows) const {
  return Scratch::Elements(max_rows * 4 * config_.hidden_size, 3) +
         std::max(SharedScratch(max_rows), Mamba2Mixer::ScratchElements(config_, max_rows));
}

// `stream`: rows of [h, e]; output: rows of t.
void Zamba2::ForwardShared(const Pass& pass, const SharedUse& use, int64_t attention_layer,
                           const float* stream, float* output, float* scratch) const {
  const ModelConfig& c = config_;
  const AttentionConfig& a = c.attention;
  const SharedBlock& w = blocks_[use.block];
  const int64_t d = c.hidden_size, wide = 2 * d, inner = c.feed_forward.inner_size;
  const int64_t query_dim = a.num_heads * a.head_dim, key_dim = a.num_kv_heads * a.head_dim;
  const int64_t rows = pass.plan.max_rows;
  Scratch pieces(scratch);
  float* normed = pieces.Take(rows * wide);
  float* qkv = pieces.Take(rows * QkvDim());
  float* low = pieces.Take(rows * c.adapter_rank);
  float* attended = pieces.Take(rows * d);
  float* hidden = pieces.Take(rows * d);
  float* gate_up = pieces.Take(rows * 2 * inner);

  // output += up(down input)
  const auto adapt = [&](const Adapter& adapter, const float* input, int64_t in_dim, float* to,
                         int64_t out_dim, int64_t out_stride) {
    if (!adapter) return;
    Linear(pass.ctx, RowsTimes(pass, adapter.down, {}, input, in_dim, low, c.adapter_rank));
    LinearParams up = RowsTimes(pass, adapter.up, {}, low, c.adapter_rank, to, out_dim);
    up.output_stride = out_stride;
    up.accumulate = true;
    Linear(pass.ctx, up);
  };

  RmsNorm(pass.ctx, NormRows(pass, w.input_norm, c.norm_eps, stream, wide, normed, wide));
  Linear(pass.ctx, RowsTimes(pass, w.qkv, {}, normed, wide, qkv, QkvDim()));
  adapt(use.q, normed, wide, qkv, query_dim, QkvDim());
  adapt(use.k, normed, wide, qkv + query_dim, key_dim, QkvDim());
  adapt(use.v, normed, wide, qkv + query_dim + key_dim, key_dim, QkvDim());
  AttendRows(pass, c, attention_layer, {.inv_freq = inv_freq_}, qkv);
  LinearParams out = RowsTimes(pass, w.out, {}, qkv, query_dim, attended, d);
  out.input_stride = QkvDim();
  Linear(pass.ctx, out);

  RmsNorm(pass.ctx, NormRows(pass, w.feed_forward_norm, c.norm_eps, attended, d, hidden, d));
  Linear(pass.ctx, RowsTimes(pass, w.gate_up, w.gate_up_bias, hidden, d, gate_up, 2 * inner));
  adapt(use.gate_up, hidden, d, gate_up, 2 * inner, 2 * inner);
  GatedActivation(pass.ctx, {.gate = gate_up,
                             .up = gate_up + inner,
                             .output = gate_up,
                             .dim = inner,
                             .gate_stride = 2 * inner,
                             .up_stride = 2 * inner,
                             .output_stride = 2 * inner,
                             .activation = c.feed_forward.activation,
                             .num_rows = pass.plan.num_rows,
                             .max_rows = pass.plan.max_rows});
  LinearParams down = RowsTimes(pass, w.down, w.down_bias, gate_up, inner, hidden, d);
  down.input_stride = 2 * inner;
  Linear(pass.ctx, down);
  Linear(pass.ctx, RowsTimes(pass, use.linear, {}, hidden, d, output, d));
}

void Zamba2::Forward(ExecutionContext& ctx, const RowPlan& plan, StateStore& store, float* scratch,
                     float* logits) const {
  const ModelConfig& c = config_;
  const Pass pass = {ctx, plan, store};
  const int64_t d = c.hidden_size, wide = 2 * d;
  Scratch pieces(scratch);
  float* stream = pieces.Take(plan.max_rows * wide);  // rows of h and the embedding
  float* hidden = pieces.Take(plan.max_rows * d);
  float* shared = pieces.Take(plan.max_rows * d);
  float* rest = pieces.Take(0);

  frame_.Embed(pass, c, stream, wide);
  frame_.Embed(pass, c, stream + d, wide);
  int64_t attention_layer = 0;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& w = layers_[i];
    Branch mixer = {.norm = NormRows(pass, w.norm, c.norm_eps, stream, wide, hidden, d),
                    .residual = stream,
                    .residual_stride = wide};
    if (w.shared) {
      ForwardShared(pass, *w.shared, attention_layer++, stream, shared, rest);
      mixer.norm.addend = shared;
      mixer.norm.addend_stride = d;
    }
    w.mixer.Forward(pass, c, static_cast<int64_t>(i), mixer, rest);
  }
  frame_.ProjectLogits(pass, c, stream, wide, hidden, logits);
}

}  // namespace

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateZamba2(const ModelConfig& config,
                                                                  WeightLoader loader) {
  auto model = std::make_unique<Zamba2>(config);
  SW_RETURN_IF_ERROR(model->Load(std::move(loader)));
  return model;
}

}  // namespace sidewinder
