#include "models/blocks/mamba2_mixer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/fused.h"
#include "kernels/gated_activation.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

int64_t InProjDim(const ModelConfig& c) { return c.inner_size + c.conv_dim() + c.num_heads; }

// Falcon-H1 multiplies the input of in_proj and each part of its output.
absl::StatusOr<VectorView> PlaceInProjScale(const ModelConfig& c, WeightLoader& loader) {
  const MultiplierConfig& m = c.multipliers;
  const int64_t bc = c.num_groups * c.state_size;
  const std::pair<int64_t, float> parts[] = {{c.inner_size, m.ssm_z},
                                             {c.inner_size, m.ssm_x},
                                             {bc, m.ssm_b},
                                             {bc, m.ssm_c},
                                             {c.num_heads, m.ssm_dt}};
  std::vector<float> scale;
  for (const auto& [size, factor] : parts) scale.insert(scale.end(), size, factor * m.ssm_in);
  if (std::all_of(scale.begin(), scale.end(), [](float value) { return value == 1.0f; })) {
    return VectorView{};
  }
  return loader.Place(std::move(scale));
}

}  // namespace

absl::StatusOr<Mamba2Mixer> Mamba2Mixer::Load(const ModelConfig& c, WeightLoader& loader,
                                              const std::string& prefix) {
  Mamba2Mixer w;
  SW_ASSIGN_OR_RETURN(w.in_proj,
                      loader.Tensor(prefix + "in_proj.weight", {InProjDim(c), c.hidden_size}));
  SW_ASSIGN_OR_RETURN(w.in_proj_scale, PlaceInProjScale(c, loader));
  SW_ASSIGN_OR_RETURN(std::vector<float> conv,
                      loader.Vector(prefix + "conv1d.weight", {c.conv_dim(), 1, c.conv_kernel}));
  SW_ASSIGN_OR_RETURN(w.conv_weight, loader.Place(Transpose(conv, c.conv_dim(), c.conv_kernel)));
  if (c.use_conv_bias) {
    SW_ASSIGN_OR_RETURN(w.conv_bias, loader.PlacedVector(prefix + "conv1d.bias", {c.conv_dim()}));
  }
  SW_ASSIGN_OR_RETURN(w.dt_bias, loader.PlacedVector(prefix + "dt_bias", {c.num_heads}));
  SW_ASSIGN_OR_RETURN(std::vector<float> a_log, loader.Vector(prefix + "A_log", {c.num_heads}));
  SW_ASSIGN_OR_RETURN(w.a, loader.Place(NegativeExp(std::move(a_log))));
  SW_ASSIGN_OR_RETURN(std::vector<float> d, loader.Vector(prefix + "D", {c.num_heads}));
  std::vector<float> d_by_channel(c.inner_size);
  for (int64_t i = 0; i < c.inner_size; ++i) d_by_channel[i] = d[i / c.head_dim];
  SW_ASSIGN_OR_RETURN(w.d, loader.Place(std::move(d_by_channel)));
  if (c.gated_norm != GatedNorm::kGateAlone) {
    SW_ASSIGN_OR_RETURN(w.gated_norm, loader.PlacedVector(prefix + "norm.weight", {c.inner_size}));
  }
  SW_ASSIGN_OR_RETURN(w.out_proj,
                      loader.Tensor(prefix + "out_proj.weight", {c.hidden_size, c.inner_size}));
  if (c.use_bias) {
    SW_ASSIGN_OR_RETURN(std::vector<float> bias,
                        loader.Vector(prefix + "in_proj.bias", {InProjDim(c)}));
    for (float& value : bias) value /= c.multipliers.ssm_in;  // the input is multiplied, not it
    SW_ASSIGN_OR_RETURN(w.in_proj_bias, loader.Place(std::move(bias)));
  }
  if (c.use_out_bias) {
    SW_ASSIGN_OR_RETURN(w.out_proj_bias,
                        loader.PlacedVector(prefix + "out_proj.bias", {c.hidden_size}));
  }
  return w;
}

RecurrentShape Mamba2Mixer::Shape(const ModelConfig& c) {
  return {.state_elements = c.inner_size * c.state_size,
          .x_dim = c.inner_size,
          .delta_dim = c.num_heads,
          .b_dim = c.num_groups * c.state_size,
          .conv_dim = c.conv_dim(),
          .conv_width = c.conv_kernel,
          .chunk = MultiStepMamba2Chunk(c.head_dim, c.state_size)};
}

int64_t Mamba2Mixer::ScratchElements(const ModelConfig& c, int64_t max_rows) {
  return Scratch::Elements(max_rows * (InProjDim(c) + c.conv_dim() + c.inner_size), 3);
}

void Mamba2Mixer::Forward(const Pass& pass, const ModelConfig& c, int64_t layer,
                          const Branch& branch, float* scratch) const {
  const int64_t proj = InProjDim(c), conv = c.conv_dim(), inner = c.inner_size;
  const int64_t bc = c.num_groups * c.state_size;
  const int64_t rows = pass.plan.max_rows;
  Scratch pieces(scratch);
  float* projected = pieces.Take(rows * proj);  // rows of z, x, B, C, dt
  float* convolved = pieces.Take(rows * conv);  // rows of x, B, C
  float* mixed = pieces.Take(rows * inner);

  LinearParams in =
      RowsTimes(pass, in_proj, in_proj_bias, branch.norm.output, c.hidden_size, projected, proj);
  in.scale = in_proj_scale.data;
  EnterBranch(pass, branch, in);
  ConvMultiStepMamba2(pass.ctx,
                      {.input = projected + inner,
                       .weight = conv_weight.data,
                       .bias = conv_bias.data,
                       .output = convolved,
                       .ring = pass.store.conv_ring(layer),
                       .dim = conv,
                       .width = c.conv_kernel,
                       .input_stride = proj,
                       .output_stride = conv,
                       .ring_rows = pass.store.conv_ring_rows(layer),
                       .plan = pass.plan},
                      {.x = convolved,
                       .b = convolved + inner,
                       .c = convolved + inner + bc,
                       .dt = projected + inner + conv,
                       .a = a.data,
                       .d = d.data,
                       .dt_bias = dt_bias.data,
                       .output = mixed,
                       .num_heads = c.num_heads,
                       .head_dim = c.head_dim,
                       .num_groups = c.num_groups,
                       .state_dim = c.state_size,
                       .delta_min = c.time_step_min,
                       .delta_max = c.time_step_max,
                       .x_stride = conv,
                       .b_stride = conv,
                       .c_stride = conv,
                       .dt_stride = proj,
                       .output_stride = inner,
                       .state = pass.store.recurrent(layer),
                       .plan = pass.plan});
  LinearParams out =
      RowsTimes(pass, out_proj, out_proj_bias, mixed, inner, branch.residual, c.hidden_size);
  LeaveBranch(branch, out);
  if (c.gated_norm == GatedNorm::kGateAlone) {
    GatedActivation(pass.ctx, {.gate = projected,
                               .up = mixed,
                               .output = mixed,
                               .dim = inner,
                               .gate_stride = proj,
                               .up_stride = inner,
                               .output_stride = inner,
                               .activation = Activation::kSilu,
                               .num_rows = pass.plan.num_rows,
                               .max_rows = pass.plan.max_rows});
    Linear(pass.ctx, out);
    return;
  }
  RmsNormParams norm = NormRows(pass, gated_norm, c.gated_norm_eps, mixed, inner, mixed, inner);
  norm.gate = projected;
  norm.gate_last = c.gated_norm == GatedNorm::kGateLast;
  norm.gate_stride = proj;
  norm.group_dim = c.gated_norm_group;
  NormLinear(pass.ctx, norm, out);
}

}  // namespace sidewinder
