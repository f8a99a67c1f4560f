#include "models/blocks/attention_block.h"

#include <cmath>
#include <numbers>
#include <utility>

#include "kernels/attention.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

int64_t QueryDim(const AttentionConfig& a) { return a.num_heads * a.head_dim; }
int64_t KeyDim(const AttentionConfig& a) { return a.num_kv_heads * a.head_dim; }
int64_t QkvDim(const AttentionConfig& a) { return QueryDim(a) + 2 * KeyDim(a); }

// Falcon-H1 multiplies the input of the projections, and the keys.
absl::StatusOr<VectorView> PlaceQkvScale(const ModelConfig& c, WeightLoader& loader) {
  const MultiplierConfig& m = c.multipliers;
  if (m.attention_in == 1.0f && m.key == 1.0f) return VectorView{};
  std::vector<float> scale(QkvDim(c.attention), m.attention_in);
  for (int64_t i = 0; i < KeyDim(c.attention); ++i) scale[QueryDim(c.attention) + i] *= m.key;
  return loader.Place(std::move(scale));
}

}  // namespace

std::vector<float> InverseFrequencies(const RopeConfig& rope) {
  std::vector<float> frequencies;
  const double pi = std::numbers::pi;
  for (int64_t i = 0; i < rope.dim / 2; ++i) {
    double frequency =
        std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(rope.dim));
    if (rope.scaling == RopeConfig::Scaling::kLinear) frequency /= rope.factor;
    if (rope.scaling == RopeConfig::Scaling::kLlama3) {
      const double positions = static_cast<double>(rope.original_max_positions);
      const double wavelength = 2.0 * pi / frequency;
      const double low = rope.low_freq_factor, high = rope.high_freq_factor;
      if (wavelength > positions / low) {
        frequency /= rope.factor;
      } else if (wavelength >= positions / high) {
        const double s = (positions / wavelength - low) / (high - low);
        frequency = (1.0 - s) * frequency / rope.factor + s * frequency;
      }
    }
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

absl::StatusOr<AttentionBlock> AttentionBlock::Load(const ModelConfig& c, WeightLoader& loader,
                                                    const std::string& prefix) {
  const AttentionConfig& a = c.attention;
  AttentionBlock w;
  const TensorName whole = prefix + "in_proj.weight";
  if (loader.Has(whole)) {
    SW_ASSIGN_OR_RETURN(w.qkv, loader.Tensor(whole, {QkvDim(a), c.hidden_size}));
  } else {
    SW_ASSIGN_OR_RETURN(w.qkv, loader.Stacked({prefix + "q_proj.weight", prefix + "k_proj.weight",
                                               prefix + "v_proj.weight"},
                                              {QueryDim(a), KeyDim(a), KeyDim(a)}, c.hidden_size));
  }
  if (a.bias) {
    std::vector<float> bias;
    for (const auto& [name, size] :
         {std::pair("q_proj.bias", QueryDim(a)), std::pair("k_proj.bias", KeyDim(a)),
          std::pair("v_proj.bias", KeyDim(a))}) {
      SW_ASSIGN_OR_RETURN(const std::vector<float> part, loader.Vector(prefix + name, {size}));
      bias.insert(bias.end(), part.begin(), part.end());
    }
    SW_ASSIGN_OR_RETURN(w.qkv_bias, loader.Place(std::move(bias)));
    SW_ASSIGN_OR_RETURN(w.out_bias, loader.PlacedVector(prefix + "o_proj.bias", {c.hidden_size}));
  }
  SW_ASSIGN_OR_RETURN(w.qkv_scale, PlaceQkvScale(c, loader));
  SW_ASSIGN_OR_RETURN(w.inv_freq, loader.Place(InverseFrequencies(a.rope)));
  SW_ASSIGN_OR_RETURN(w.out, loader.Tensor({prefix + "o_proj.weight", prefix + "out_proj.weight"},
                                           {c.hidden_size, QueryDim(a)}));
  return w;
}

KvShape AttentionBlock::Shape(const ModelConfig& c, int64_t num_layers) {
  return {.num_layers = num_layers,
          .num_kv_heads = c.attention.num_kv_heads,
          .head_dim = c.attention.head_dim};
}

int64_t AttentionBlock::ScratchElements(const ModelConfig& c, int64_t max_rows) {
  return Scratch::Elements(max_rows * QkvDim(c.attention), 1);
}

void AttendRows(const Pass& pass, const ModelConfig& c, int64_t layer, const VectorView& inv_freq,
                float* qkv) {
  const AttentionConfig& a = c.attention;
  const int64_t stride = QkvDim(a);
  Attention(pass.ctx, {.query = qkv,
                       .key = qkv + QueryDim(a),
                       .value = qkv + QueryDim(a) + KeyDim(a),
                       .query_norm = nullptr,
                       .key_norm = nullptr,
                       .inv_freq = inv_freq.data,
                       .output = qkv,
                       .num_heads = a.num_heads,
                       .num_kv_heads = a.num_kv_heads,
                       .head_dim = a.head_dim,
                       .rotary_dim = a.rope.dim,
                       .window = a.window,
                       .scale = a.scale,
                       .norm_eps = c.norm_eps,
                       .query_stride = stride,
                       .key_stride = stride,
                       .value_stride = stride,
                       .output_stride = stride,
                       .cache = pass.store.kv(layer),
                       .max_position = pass.store.max_position(),
                       .plan = pass.plan});
}

void AttentionBlock::Forward(const Pass& pass, const ModelConfig& c, int64_t layer,
                             const Branch& branch, float* scratch) const {
  const AttentionConfig& a = c.attention;
  Scratch pieces(scratch);
  float* rows = pieces.Take(pass.plan.max_rows * QkvDim(a));  // of q, k, v
  LinearParams in =
      RowsTimes(pass, qkv, qkv_bias, branch.norm.output, c.hidden_size, rows, QkvDim(a));
  in.scale = qkv_scale.data;
  EnterBranch(pass, branch, in);
  AttendRows(pass, c, layer, inv_freq, rows);
  LinearParams to_residual =
      RowsTimes(pass, out, out_bias, rows, QueryDim(a), branch.residual, c.hidden_size);
  to_residual.input_stride = QkvDim(a);
  LeaveBranch(branch, to_residual);
  Linear(pass.ctx, to_residual);
}

}  // namespace sidewinder
