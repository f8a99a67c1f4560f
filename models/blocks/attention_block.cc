#include "models/blocks/attention_block.h"

#include <cmath>
#include <numbers>
#include <utility>

#include "kernels/attention.h"
#include "kernels/gated_activation.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

int64_t QueryDim(const AttentionConfig& a) { return a.num_heads * a.head_dim; }
int64_t KeyDim(const AttentionConfig& a) { return a.num_kv_heads * a.head_dim; }
int64_t QkvDim(const AttentionConfig& a) { return QueryDim(a) + 2 * KeyDim(a); }
int64_t RowDim(const AttentionConfig& a) { return QkvDim(a) + (a.output_gate ? QueryDim(a) : 0); }

// Rows of q_proj (head by head those of the query, then those of its gate), k_proj and v_proj in
// the order q, k, v, gate.
std::vector<int64_t> GateLast(const AttentionConfig& a) {
  std::vector<int64_t> order;
  const auto add_half = [&](int64_t first) {
    for (int64_t i = 0; i < QueryDim(a); ++i) {
      order.push_back(i / a.head_dim * 2 * a.head_dim + first + i % a.head_dim);
    }
  };
  add_half(0);
  for (int64_t i = 0; i < 2 * KeyDim(a); ++i) order.push_back(2 * QueryDim(a) + i);
  add_half(a.head_dim);
  return order;
}

// Falcon-H1 multiplies the input of the projections, and the keys.
absl::StatusOr<VectorView> PlaceQkvScale(const ModelConfig& c, WeightLoader& loader) {
  const MultiplierConfig& m = c.multipliers;
  if (m.attention_in == 1.0f && m.key == 1.0f) return VectorView{};
  std::vector<float> scale(RowDim(c.attention), m.attention_in);
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
  const std::vector<TensorName> parts = {prefix + "q_proj.weight", prefix + "k_proj.weight",
                                         prefix + "v_proj.weight"};
  const std::vector<int64_t> rows = {a.output_gate ? 2 * QueryDim(a) : QueryDim(a), KeyDim(a),
                                     KeyDim(a)};
  const std::vector<int64_t> order = a.output_gate ? GateLast(a) : std::vector<int64_t>();
  if (loader.Has(whole)) {
    SW_ASSIGN_OR_RETURN(w.qkv, loader.Tensor(whole, {RowDim(a), c.hidden_size}));
  } else if (a.output_gate) {
    SW_ASSIGN_OR_RETURN(w.qkv, loader.Reordered(parts, rows, c.hidden_size, order));
  } else {
    SW_ASSIGN_OR_RETURN(w.qkv, loader.Stacked(parts, rows, c.hidden_size));
  }
  if (a.bias) {
    std::vector<float> stacked;
    for (const auto& [name, size] :
         {std::pair("q_proj.bias", rows[0]), std::pair("k_proj.bias", rows[1]),
          std::pair("v_proj.bias", rows[2])}) {
      SW_ASSIGN_OR_RETURN(const std::vector<float> part, loader.Vector(prefix + name, {size}));
      stacked.insert(stacked.end(), part.begin(), part.end());
    }
    std::vector<float> bias = stacked;
    for (size_t i = 0; i < order.size(); ++i) bias[i] = stacked[order[i]];
    for (float& value : bias) value /= c.multipliers.attention_in;  // of the input, not of it
    SW_ASSIGN_OR_RETURN(w.qkv_bias, loader.Place(std::move(bias)));
    SW_ASSIGN_OR_RETURN(w.out_bias, loader.PlacedVector(prefix + "o_proj.bias", {c.hidden_size}));
  }
  if (a.head_norm) {
    SW_ASSIGN_OR_RETURN(w.heads.query_norm,
                        PlaceNorm(c, loader, prefix + "q_norm.weight", a.head_dim));
    SW_ASSIGN_OR_RETURN(w.heads.key_norm,
                        PlaceNorm(c, loader, prefix + "k_norm.weight", a.head_dim));
  }
  SW_ASSIGN_OR_RETURN(w.qkv_scale, PlaceQkvScale(c, loader));
  SW_ASSIGN_OR_RETURN(w.heads.inv_freq, loader.Place(InverseFrequencies(a.rope)));
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
  return Scratch::Elements(max_rows * RowDim(c.attention), 1);
}

void AttendRows(const Pass& pass, const ModelConfig& c, int64_t layer, const HeadVectors& heads,
                float* qkv) {
  const AttentionConfig& a = c.attention;
  const int64_t stride = RowDim(a);
  Attention(pass.ctx, {.query = qkv,
                       .key = qkv + QueryDim(a),
                       .value = qkv + QueryDim(a) + KeyDim(a),
                       .query_norm = heads.query_norm.data,
                       .key_norm = heads.key_norm.data,
                       .inv_freq = heads.inv_freq.data,
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
  if (!a.output_gate) return;
  GatedActivation(pass.ctx, {.gate = qkv + QkvDim(a),
                             .up = qkv,
                             .output = qkv,
                             .dim = QueryDim(a),
                             .gate_stride = stride,
                             .up_stride = stride,
                             .output_stride = stride,
                             .activation = Activation::kSigmoid,
                             .num_rows = pass.plan.num_rows,
                             .max_rows = pass.plan.max_rows});
}

void AttentionBlock::Forward(const Pass& pass, const ModelConfig& c, int64_t layer,
                             const Branch& branch, float* scratch) const {
  const AttentionConfig& a = c.attention;
  Scratch pieces(scratch);
  float* rows = pieces.Take(pass.plan.max_rows * RowDim(a));  // of q, k, v, gate
  LinearParams in =
      RowsTimes(pass, qkv, qkv_bias, branch.norm.output, c.hidden_size, rows, RowDim(a));
  in.scale = qkv_scale.data;
  EnterBranch(pass, branch, in);
  AttendRows(pass, c, layer, heads, rows);
  LinearParams to_residual =
      RowsTimes(pass, out, out_bias, rows, QueryDim(a), branch.residual, c.hidden_size);
  to_residual.input_stride = RowDim(a);
  LeaveBranch(branch, to_residual);
  Linear(pass.ctx, to_residual);
}

}  // namespace sidewinder
