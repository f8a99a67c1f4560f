#include "models/blocks/mamba1_mixer.h"

#include <utility>
#include <vector>

#include "kernels/fused.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

int64_t SelectedDim(const ModelConfig& c) { return c.time_step_rank + 2 * c.state_size; }

}  // namespace

absl::StatusOr<Mamba1Mixer> Mamba1Mixer::Load(const ModelConfig& c, WeightLoader& loader,
                                              const std::string& prefix) {
  Mamba1Mixer w;
  SW_ASSIGN_OR_RETURN(w.in_proj,
                      loader.Tensor(prefix + "in_proj.weight", {2 * c.inner_size, c.hidden_size}));
  SW_ASSIGN_OR_RETURN(std::vector<float> conv,
                      loader.Vector(prefix + "conv1d.weight", {c.inner_size, 1, c.conv_kernel}));
  SW_ASSIGN_OR_RETURN(w.conv_weight, loader.Place(Transpose(conv, c.inner_size, c.conv_kernel)));
  if (c.use_conv_bias) {
    SW_ASSIGN_OR_RETURN(w.conv_bias, loader.PlacedVector(prefix + "conv1d.bias", {c.inner_size}));
  }
  SW_ASSIGN_OR_RETURN(w.x_proj,
                      loader.Tensor(prefix + "x_proj.weight", {SelectedDim(c), c.inner_size}));
  if (c.inner_norm_eps > 0.0f && c.family == ModelFamily::kJamba) {
    SW_ASSIGN_OR_RETURN(w.dt_norm,
                        loader.PlacedVector(prefix + "dt_layernorm.weight", {c.time_step_rank}));
    SW_ASSIGN_OR_RETURN(w.b_norm,
                        loader.PlacedVector(prefix + "b_layernorm.weight", {c.state_size}));
    SW_ASSIGN_OR_RETURN(w.c_norm,
                        loader.PlacedVector(prefix + "c_layernorm.weight", {c.state_size}));
  }
  SW_ASSIGN_OR_RETURN(w.dt_proj,
                      loader.Tensor(prefix + "dt_proj.weight", {c.inner_size, c.time_step_rank}));
  SW_ASSIGN_OR_RETURN(w.dt_bias, loader.PlacedVector(prefix + "dt_proj.bias", {c.inner_size}));
  SW_ASSIGN_OR_RETURN(std::vector<float> a_log,
                      loader.Vector(prefix + "A_log", {c.inner_size, c.state_size}));
  SW_ASSIGN_OR_RETURN(w.a, loader.Place(NegativeExp(Transpose(a_log, c.inner_size, c.state_size))));
  SW_ASSIGN_OR_RETURN(w.d, loader.PlacedVector(prefix + "D", {c.inner_size}));
  SW_ASSIGN_OR_RETURN(w.out_proj,
                      loader.Tensor(prefix + "out_proj.weight", {c.hidden_size, c.inner_size}));
  if (c.use_bias) {
    SW_ASSIGN_OR_RETURN(w.in_proj_bias,
                        loader.PlacedVector(prefix + "in_proj.bias", {2 * c.inner_size}));
  }
  if (c.use_out_bias) {
    SW_ASSIGN_OR_RETURN(w.out_proj_bias,
                        loader.PlacedVector(prefix + "out_proj.bias", {c.hidden_size}));
  }
  return w;
}

RecurrentShape Mamba1Mixer::Shape(const ModelConfig& c) {
  return {.state_elements = c.inner_size * c.state_size,
          .x_dim = c.inner_size,
          .delta_dim = c.inner_size,
          .b_dim = c.state_size,
          .conv_dim = c.inner_size,
          .conv_width = c.conv_kernel};
}

int64_t Mamba1Mixer::ScratchElements(const ModelConfig& c, int64_t max_rows) {
  return Scratch::Elements(max_rows * (5 * c.inner_size + SelectedDim(c)), 5);
}

void Mamba1Mixer::Forward(const Pass& pass, const ModelConfig& c, int64_t layer,
                          const Branch& branch, float* scratch) const {
  const int64_t inner = c.inner_size, rank = c.time_step_rank, state = c.state_size;
  const int64_t selected_dim = SelectedDim(c);
  const int64_t rows = pass.plan.max_rows;
  Scratch pieces(scratch);
  float* projected = pieces.Take(rows * 2 * inner);  // rows of u, z
  float* convolved = pieces.Take(rows * inner);
  float* selected = pieces.Take(rows * selected_dim);  // rows of low-rank dt, B, C
  float* dt = pieces.Take(rows * inner);
  float* mixed = pieces.Take(rows * inner);

  NormLinearConvLinear(pass.ctx, branch.norm,
                       RowsTimes(pass, in_proj, in_proj_bias, branch.norm.output, c.hidden_size,
                                 projected, 2 * inner),
                       {.input = projected,
                        .weight = conv_weight.data,
                        .bias = conv_bias.data,
                        .output = convolved,
                        .ring = pass.store.conv_ring(layer),
                        .dim = inner,
                        .width = c.conv_kernel,
                        .input_stride = 2 * inner,
                        .output_stride = inner,
                        .ring_rows = pass.store.conv_ring_rows(layer),
                        .plan = pass.plan},
                       RowsTimes(pass, x_proj, {}, convolved, inner, selected, selected_dim));
  if (c.inner_norm_eps > 0.0f) {
    const auto norm = [&](const VectorView& weight, float* values, int64_t dim) {
      RmsNormParams params =
          NormRows(pass, weight, c.inner_norm_eps, values, selected_dim, values, dim);
      params.output_stride = selected_dim;
      return params;
    };
    RmsNorm3(pass.ctx, {{norm(dt_norm, selected, rank), norm(b_norm, selected + rank, state),
                         norm(c_norm, selected + rank + state, state)}});
  }
  LinearParams to_dt = RowsTimes(pass, dt_proj, {}, selected, rank, dt, inner);
  to_dt.input_stride = selected_dim;
  LinearMultiStepMamba1(pass.ctx, to_dt,
                        {.x = convolved,
                         .z = projected + inner,
                         .dt = dt,
                         .b = selected + rank,
                         .c = selected + rank + state,
                         .a = a.data,
                         .d = d.data,
                         .dt_bias = dt_bias.data,
                         .output = mixed,
                         .inner_dim = inner,
                         .state_dim = state,
                         .x_stride = inner,
                         .z_stride = 2 * inner,
                         .dt_stride = inner,
                         .b_stride = selected_dim,
                         .c_stride = selected_dim,
                         .output_stride = inner,
                         .state = pass.store.recurrent(layer),
                         .plan = pass.plan});
  LinearParams out =
      RowsTimes(pass, out_proj, out_proj_bias, mixed, inner, branch.residual, c.hidden_size);
  LeaveBranch(branch, out);
  Linear(pass.ctx, out);
}

}  // namespace sidewinder
