#include "models/blocks/delta_net_mixer.h"

#include <utility>
#include <vector>

#include "kernels/causal_conv.h"
#include "kernels/fused.h"
#include "kernels/multistep.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

int64_t KeysDim(const ModelConfig& c) { return c.num_key_heads * c.key_head_dim; }
int64_t QkvzDim(const ModelConfig& c) { return 2 * KeysDim(c) + 2 * c.inner_size; }
int64_t InProjDim(const ModelConfig& c) { return QkvzDim(c) + 2 * c.num_heads; }

// Files have the rows of in_proj_qkvz and in_proj_ba by key head: q, k, and v and z of its value
// heads; beta and dt of these. The rows in the order of DeltaNetMixer::in_proj.
std::vector<int64_t> InProjOrder(const ModelConfig& c) {
  const int64_t values_a_key = c.num_heads / c.num_key_heads;
  const int64_t key = c.key_head_dim, values = values_a_key * c.head_dim;
  std::vector<int64_t> order;
  // Of every key head's block of `block` rows, those of [first, first + count).
  const auto add = [&](int64_t base, int64_t block, int64_t first, int64_t count) {
    for (int64_t head = 0; head < c.num_key_heads; ++head) {
      for (int64_t i = 0; i < count; ++i) order.push_back(base + head * block + first + i);
    }
  };
  const int64_t block = 2 * key + 2 * values;
  add(0, block, 0, key);
  add(0, block, key, key);
  add(0, block, 2 * key, values);
  add(0, block, 2 * key + values, values);
  add(QkvzDim(c), 2 * values_a_key, 0, values_a_key);
  add(QkvzDim(c), 2 * values_a_key, values_a_key, values_a_key);
  return order;
}

}  // namespace

absl::StatusOr<DeltaNetMixer> DeltaNetMixer::Load(const ModelConfig& c, WeightLoader& loader,
                                                  const std::string& prefix) {
  DeltaNetMixer w;
  SW_ASSIGN_OR_RETURN(
      w.in_proj, loader.Reordered({prefix + "in_proj_qkvz.weight", prefix + "in_proj_ba.weight"},
                                  {QkvzDim(c), 2 * c.num_heads}, c.hidden_size, InProjOrder(c)));
  SW_ASSIGN_OR_RETURN(std::vector<float> conv,
                      loader.Vector(prefix + "conv1d.weight", {c.conv_dim(), 1, c.conv_kernel}));
  SW_ASSIGN_OR_RETURN(w.conv_weight, loader.Place(Transpose(conv, c.conv_dim(), c.conv_kernel)));
  SW_ASSIGN_OR_RETURN(std::vector<float> a_log, loader.Vector(prefix + "A_log", {c.num_heads}));
  SW_ASSIGN_OR_RETURN(w.a, loader.Place(NegativeExp(std::move(a_log))));
  SW_ASSIGN_OR_RETURN(w.dt_bias, loader.PlacedVector(prefix + "dt_bias", {c.num_heads}));
  SW_ASSIGN_OR_RETURN(std::vector<float> norm, loader.Vector(prefix + "norm.weight", {c.head_dim}));
  std::vector<float> norm_by_channel(c.inner_size);
  for (int64_t i = 0; i < c.inner_size; ++i) norm_by_channel[i] = norm[i % c.head_dim];
  SW_ASSIGN_OR_RETURN(w.gated_norm, loader.Place(std::move(norm_by_channel)));
  SW_ASSIGN_OR_RETURN(w.out_proj,
                      loader.Tensor(prefix + "out_proj.weight", {c.hidden_size, c.inner_size}));
  return w;
}

RecurrentShape DeltaNetMixer::Shape(const ModelConfig& c) {
  return {.state_elements = c.inner_size * c.key_head_dim,
          .x_dim = c.inner_size,
          .delta_dim = c.num_heads,
          .b_dim = KeysDim(c),
          .conv_dim = c.conv_dim(),
          .conv_width = c.conv_kernel};
}

int64_t DeltaNetMixer::ScratchElements(const ModelConfig& c, int64_t max_rows) {
  return Scratch::Elements(max_rows * (InProjDim(c) + c.conv_dim() + c.inner_size), 3);
}

void DeltaNetMixer::Forward(const Pass& pass, const ModelConfig& c, int64_t layer,
                            const Branch& branch, float* scratch) const {
  const int64_t keys = KeysDim(c), inner = c.inner_size, conv = c.conv_dim();
  const int64_t proj = InProjDim(c), rows = pass.plan.max_rows;
  Scratch pieces(scratch);
  float* projected = pieces.Take(rows * proj);  // rows of q, k, v, z, beta, dt
  float* convolved = pieces.Take(rows * conv);  // rows of q, k, v
  float* mixed = pieces.Take(rows * inner);

  EnterBranch(pass, branch,
              RowsTimes(pass, in_proj, {}, branch.norm.output, c.hidden_size, projected, proj));
  CausalConv(pass.ctx, {.input = projected,
                        .weight = conv_weight.data,
                        .bias = nullptr,
                        .output = convolved,
                        .ring = pass.store.conv_ring(layer),
                        .dim = conv,
                        .width = c.conv_kernel,
                        .input_stride = proj,
                        .output_stride = conv,
                        .ring_rows = pass.store.conv_ring_rows(layer),
                        .plan = pass.plan});
  MultiStepDeltaNet(pass.ctx, {.q = convolved,
                               .k = convolved + keys,
                               .v = convolved + 2 * keys,
                               .beta = projected + QkvzDim(c),
                               .dt = projected + QkvzDim(c) + c.num_heads,
                               .a = a.data,
                               .dt_bias = dt_bias.data,
                               .output = mixed,
                               .num_heads = c.num_heads,
                               .head_dim = c.head_dim,
                               .num_key_heads = c.num_key_heads,
                               .key_dim = c.key_head_dim,
                               .q_stride = conv,
                               .k_stride = conv,
                               .v_stride = conv,
                               .beta_stride = proj,
                               .dt_stride = proj,
                               .output_stride = inner,
                               .state = pass.store.recurrent(layer),
                               .plan = pass.plan});
  RmsNormParams norm = NormRows(pass, gated_norm, c.gated_norm_eps, mixed, inner, mixed, inner);
  norm.gate = projected + conv;
  norm.gate_last = true;
  norm.gate_stride = proj;
  norm.group_dim = c.gated_norm_group;
  LinearParams out = RowsTimes(pass, out_proj, {}, mixed, inner, branch.residual, c.hidden_size);
  LeaveBranch(branch, out);
  NormLinear(pass.ctx, norm, out);
}

}  // namespace sidewinder
