#include "models/blocks/repeated_mixer.h"

#include <utility>
#include <vector>

#include "kernels/causal_conv.h"
#include "kernels/fused.h"
#include "kernels/gather_columns.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// For `inner` channels in heads of `width`, the column of each where `repeats` heads share one;
// the second half is the same, `offset` columns further.
std::vector<int32_t> RepeatedColumns(int64_t inner, int64_t width, int64_t repeats,
                                     int64_t offset) {
  std::vector<int32_t> columns;
  for (const int64_t from : {int64_t{0}, offset}) {
    for (int64_t c = 0; c < inner; ++c) {
      columns.push_back(static_cast<int32_t>(from + c / width / repeats * width + c % width));
    }
  }
  return columns;
}

void Repeat(const Pass& pass, const float* input, int64_t input_stride, const int32_t* columns,
            int64_t dim, float* output) {
  GatherColumns(pass.ctx, {.input = input,
                           .column = columns,
                           .output = output,
                           .dim = dim,
                           .input_stride = input_stride,
                           .output_stride = dim,
                           .num_rows = pass.plan.num_rows,
                           .max_rows = pass.plan.max_rows});
}

int64_t InProjDim1(const ModelConfig& c) {
  return 2 * c.inner_size + 2 * c.repeated_dim + c.time_step_rank;
}
int64_t InProjDim2(const ModelConfig& c) {
  return 2 * c.inner_size + 2 * c.repeated_dim + c.num_heads;
}
int64_t ConvDim2(const ModelConfig& c) { return c.inner_size + 2 * c.repeated_dim; }

absl::StatusOr<VectorView> PlaceConv(const ModelConfig& c, WeightLoader& loader,
                                     const std::string& prefix, int64_t dim) {
  SW_ASSIGN_OR_RETURN(std::vector<float> conv,
                      loader.Vector(prefix + "conv1d.weight", {dim, 1, c.conv_kernel}));
  return loader.Place(Transpose(conv, dim, c.conv_kernel));
}

}  // namespace

absl::StatusOr<RepeatedMamba1Mixer> RepeatedMamba1Mixer::Load(const ModelConfig& c,
                                                              WeightLoader& loader,
                                                              const std::string& prefix) {
  const int64_t inner = c.inner_size, repeated = c.repeated_dim;
  RepeatedMamba1Mixer w;
  const TensorName whole = prefix + "in_proj.weight";
  if (loader.Has(whole)) {  // M1
    SW_ASSIGN_OR_RETURN(w.in_proj, loader.Tensor(whole, {InProjDim1(c), c.hidden_size}));
  } else {
    SW_ASSIGN_OR_RETURN(
        w.in_proj,
        loader.Stacked(
            {prefix + "in_proj_z.weight", prefix + "in_proj_x.weight", prefix + "B_proj.weight",
             prefix + "C_proj.weight", prefix + "dt_proj_down.weight"},
            {inner, repeated, repeated, inner, c.time_step_rank}, c.hidden_size));
  }
  SW_ASSIGN_OR_RETURN(
      w.repeat, loader.Place(RepeatedColumns(inner, c.state_size, inner / repeated, repeated)));
  SW_ASSIGN_OR_RETURN(w.conv_weight, PlaceConv(c, loader, prefix, inner));
  if (c.use_conv_bias) {
    SW_ASSIGN_OR_RETURN(w.conv_bias, loader.PlacedVector(prefix + "conv1d.bias", {inner}));
  }
  SW_ASSIGN_OR_RETURN(w.dt_proj,
                      loader.Tensor(prefix + "dt_proj.weight", {inner, c.time_step_rank}));
  SW_ASSIGN_OR_RETURN(std::vector<float> bias, loader.Vector(prefix + "dt_proj.bias", {inner}));
  for (float& value : bias) value *= 2.0f;
  SW_ASSIGN_OR_RETURN(w.dt_bias, loader.Place(std::move(bias)));
  SW_ASSIGN_OR_RETURN(std::vector<float> a_log,
                      loader.Vector(prefix + "A_log", {inner, c.state_size}));
  SW_ASSIGN_OR_RETURN(w.a, loader.Place(NegativeExp(Transpose(a_log, inner, c.state_size))));
  SW_ASSIGN_OR_RETURN(w.d, loader.PlacedVector(prefix + "D", {inner}));
  SW_ASSIGN_OR_RETURN(w.out_proj,
                      loader.Tensor(prefix + "out_proj.weight", {c.hidden_size, inner}));
  return w;
}

RecurrentShape RepeatedMamba1Mixer::Shape(const ModelConfig& c) {
  return {.state_elements = c.inner_size * c.state_size,
          .x_dim = c.inner_size,
          .delta_dim = c.inner_size,
          .b_dim = c.inner_size,
          .conv_dim = c.inner_size,
          .conv_width = c.conv_kernel};
}

int64_t RepeatedMamba1Mixer::ScratchElements(const ModelConfig& c, int64_t max_rows) {
  return Scratch::Elements(max_rows * (InProjDim1(c) + 5 * c.inner_size), 5);
}

void RepeatedMamba1Mixer::Forward(const Pass& pass, const ModelConfig& c, int64_t layer,
                                  const Branch& branch, float* scratch) const {
  const int64_t inner = c.inner_size, proj = InProjDim1(c), rows = pass.plan.max_rows;
  Scratch pieces(scratch);
  float* projected = pieces.Take(rows * proj);      // rows of z, x, B, C, low-rank dt
  float* repeated = pieces.Take(rows * 2 * inner);  // rows of x, B
  float* convolved = pieces.Take(rows * inner);
  float* dt = pieces.Take(rows * inner);
  float* mixed = pieces.Take(rows * inner);

  EnterBranch(pass, branch,
              RowsTimes(pass, in_proj, {}, branch.norm.output, c.hidden_size, projected, proj));
  Repeat(pass, projected + inner, proj, repeat, 2 * inner, repeated);
  CausalConv(pass.ctx, {.input = repeated,
                        .weight = conv_weight.data,
                        .bias = conv_bias.data,
                        .output = convolved,
                        .ring = pass.store.conv_ring(layer),
                        .dim = inner,
                        .width = c.conv_kernel,
                        .input_stride = 2 * inner,
                        .output_stride = inner,
                        .ring_rows = pass.store.conv_ring_rows(layer),
                        .plan = pass.plan});
  const float* c_rows = projected + inner + 2 * c.repeated_dim;
  LinearParams to_dt = RowsTimes(pass, dt_proj, {}, c_rows + inner, c.time_step_rank, dt, inner);
  to_dt.input_stride = proj;
  LinearMultiStepMamba1(pass.ctx, to_dt,
                        {.x = convolved,
                         .z = projected,
                         .dt = dt,
                         .b = repeated + inner,
                         .c = c_rows,
                         .a = a.data,
                         .d = d.data,
                         .dt_bias = dt_bias.data,
                         .output = mixed,
                         .inner_dim = inner,
                         .state_dim = c.state_size,
                         .num_groups = inner / c.state_size,
                         .x_stride = inner,
                         .z_stride = proj,
                         .dt_stride = inner,
                         .b_stride = 2 * inner,
                         .c_stride = proj,
                         .output_stride = inner,
                         .state = pass.store.recurrent(layer),
                         .plan = pass.plan});
  LinearParams out = RowsTimes(pass, out_proj, {}, mixed, inner, branch.residual, c.hidden_size);
  LeaveBranch(branch, out);
  Linear(pass.ctx, out);
}

absl::StatusOr<RepeatedMamba2Mixer> RepeatedMamba2Mixer::Load(const ModelConfig& c,
                                                              WeightLoader& loader,
                                                              const std::string& prefix) {
  const int64_t inner = c.inner_size;
  RepeatedMamba2Mixer w;
  SW_ASSIGN_OR_RETURN(w.in_proj,
                      loader.Tensor(prefix + "in_proj.weight", {InProjDim2(c), c.hidden_size}));
  SW_ASSIGN_OR_RETURN(w.repeat, loader.Place(RepeatedColumns(
                                    inner, c.head_dim, inner / c.repeated_dim, c.repeated_dim)));
  SW_ASSIGN_OR_RETURN(w.conv_weight, PlaceConv(c, loader, prefix, ConvDim2(c)));
  if (c.use_conv_bias) {
    SW_ASSIGN_OR_RETURN(w.conv_bias, loader.PlacedVector(prefix + "conv1d.bias", {ConvDim2(c)}));
  }
  SW_ASSIGN_OR_RETURN(w.dt_bias, loader.PlacedVector(prefix + "dt_bias", {c.num_heads}));
  SW_ASSIGN_OR_RETURN(std::vector<float> a_log, loader.Vector(prefix + "A_log", {c.num_heads}));
  SW_ASSIGN_OR_RETURN(w.a, loader.Place(NegativeExp(std::move(a_log))));
  SW_ASSIGN_OR_RETURN(std::vector<float> d, loader.Vector(prefix + "D", {c.num_heads}));
  std::vector<float> d_by_channel(inner);
  for (int64_t i = 0; i < inner; ++i) d_by_channel[i] = d[i / c.head_dim];
  SW_ASSIGN_OR_RETURN(w.d, loader.Place(std::move(d_by_channel)));
  SW_ASSIGN_OR_RETURN(w.gated_norm, loader.PlacedVector(prefix + "norm.weight", {inner}));
  SW_ASSIGN_OR_RETURN(w.out_proj,
                      loader.Tensor(prefix + "out_proj.weight", {c.hidden_size, inner}));
  return w;
}

RecurrentShape RepeatedMamba2Mixer::Shape(const ModelConfig& c) {
  return {.state_elements = c.inner_size * c.state_size,
          .x_dim = c.inner_size,
          .delta_dim = c.num_heads,
          .b_dim = c.num_heads * c.state_size,
          .conv_dim = ConvDim2(c),
          .conv_width = c.conv_kernel,
          .chunk = MultiStepMamba2Chunk(c.head_dim, c.state_size)};
}

int64_t RepeatedMamba2Mixer::ScratchElements(const ModelConfig& c, int64_t max_rows) {
  return Scratch::Elements(max_rows * (InProjDim2(c) + ConvDim2(c) + 3 * c.inner_size), 4);
}

void RepeatedMamba2Mixer::Forward(const Pass& pass, const ModelConfig& c, int64_t layer,
                                  const Branch& branch, float* scratch) const {
  const int64_t inner = c.inner_size, proj = InProjDim2(c), conv = ConvDim2(c);
  const int64_t rows = pass.plan.max_rows;
  Scratch pieces(scratch);
  float* projected = pieces.Take(rows * proj);      // rows of z, x, B, C, dt
  float* convolved = pieces.Take(rows * conv);      // rows of x, B, C
  float* repeated = pieces.Take(rows * 2 * inner);  // rows of x, B
  float* mixed = pieces.Take(rows * inner);

  EnterBranch(pass, branch,
              RowsTimes(pass, in_proj, {}, branch.norm.output, c.hidden_size, projected, proj));
  CausalConv(pass.ctx, {.input = projected + inner,
                        .weight = conv_weight.data,
                        .bias = conv_bias.data,
                        .output = convolved,
                        .ring = pass.store.conv_ring(layer),
                        .dim = conv,
                        .width = c.conv_kernel,
                        .input_stride = proj,
                        .output_stride = conv,
                        .ring_rows = pass.store.conv_ring_rows(layer),
                        .plan = pass.plan});
  Repeat(pass, convolved, conv, repeat, 2 * inner, repeated);
  MultiStepMamba2(pass.ctx, {.x = repeated,
                             .b = repeated + inner,
                             .c = convolved + 2 * c.repeated_dim,
                             .dt = projected + inner + conv,
                             .a = a.data,
                             .d = d.data,
                             .dt_bias = dt_bias.data,
                             .output = mixed,
                             .num_heads = c.num_heads,
                             .head_dim = c.head_dim,
                             .num_groups = c.num_heads,
                             .state_dim = c.state_size,
                             .delta_min = c.time_step_min,
                             .delta_max = c.time_step_max,
                             .x_stride = 2 * inner,
                             .b_stride = 2 * inner,
                             .c_stride = conv,
                             .dt_stride = proj,
                             .output_stride = inner,
                             .state = pass.store.recurrent(layer),
                             .plan = pass.plan});
  RmsNormParams norm = NormRows(pass, gated_norm, c.gated_norm_eps, mixed, inner, mixed, inner);
  norm.gate = projected;
  norm.gate_stride = proj;
  norm.group_dim = c.gated_norm_group;
  LinearParams out = RowsTimes(pass, out_proj, {}, mixed, inner, branch.residual, c.hidden_size);
  LeaveBranch(branch, out);
  NormLinear(pass.ctx, norm, out);
}

}  // namespace sidewinder
