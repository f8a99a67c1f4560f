#include "models/mamba1.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/fused.h"
#include "runtime/status_macros.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> Mamba1::Create(const ModelConfig& config,
                                                                    WeightLoader loader) {
  auto model = std::unique_ptr<Mamba1>(new Mamba1(config));
  SW_ASSIGN_OR_RETURN(model->frame_, LoadFrame(config, loader));
  for (int64_t i = 0; i < config.num_layers; ++i) {
    SW_RETURN_IF_ERROR(model->LoadLayer(loader, i));
  }
  SW_ASSIGN_OR_RETURN(model->storage_, std::move(loader).Finish());

  FigureCounter counter;
  for (const Layer& layer : model->layers_) {
    for (const auto* vector :
         {&layer.norm, &layer.in_proj_bias, &layer.conv_weight, &layer.conv_bias, &layer.dt_bias,
          &layer.a, &layer.d, &layer.out_proj_bias}) {
      counter.Vector(vector->size);
    }
    counter.Matrix(layer.in_proj, 2 * config.inner_size * config.hidden_size);
    counter.Matrix(layer.x_proj, model->x_proj_dim() * config.inner_size);
    counter.Matrix(layer.dt_proj, config.inner_size * config.time_step_rank);
    counter.Matrix(layer.out_proj, config.hidden_size * config.inner_size);
  }
  counter.Frame(config, model->frame_);
  model->figures_ = counter.Finish(model->storage_->fingerprint);
  return model;
}

absl::Status Mamba1::LoadLayer(WeightLoader& loader, int64_t index) {
  const ModelConfig& c = config_;
  const std::string layer_name = absl::StrCat("backbone.layers.", index, ".");
  const std::string mixer = layer_name + "mixer.";
  Layer w;
  SW_ASSIGN_OR_RETURN(w.norm, loader.PlacedVector(layer_name + "norm.weight", {c.hidden_size}));
  SW_ASSIGN_OR_RETURN(w.in_proj,
                      loader.Tensor(mixer + "in_proj.weight", {2 * c.inner_size, c.hidden_size}));
  SW_ASSIGN_OR_RETURN(std::vector<float> conv,
                      loader.Vector(mixer + "conv1d.weight", {c.inner_size, 1, c.conv_kernel}));
  SW_ASSIGN_OR_RETURN(w.conv_weight, loader.Place(Transpose(conv, c.inner_size, c.conv_kernel)));
  if (c.use_conv_bias) {
    SW_ASSIGN_OR_RETURN(w.conv_bias, loader.PlacedVector(mixer + "conv1d.bias", {c.inner_size}));
  }
  SW_ASSIGN_OR_RETURN(w.x_proj,
                      loader.Tensor(mixer + "x_proj.weight", {x_proj_dim(), c.inner_size}));
  SW_ASSIGN_OR_RETURN(w.dt_proj,
                      loader.Tensor(mixer + "dt_proj.weight", {c.inner_size, c.time_step_rank}));
  SW_ASSIGN_OR_RETURN(w.dt_bias, loader.PlacedVector(mixer + "dt_proj.bias", {c.inner_size}));
  SW_ASSIGN_OR_RETURN(std::vector<float> a_log,
                      loader.Vector(mixer + "A_log", {c.inner_size, c.state_size}));
  SW_ASSIGN_OR_RETURN(w.a, loader.Place(NegativeExp(Transpose(a_log, c.inner_size, c.state_size))));
  SW_ASSIGN_OR_RETURN(w.d, loader.PlacedVector(mixer + "D", {c.inner_size}));
  SW_ASSIGN_OR_RETURN(w.out_proj,
                      loader.Tensor(mixer + "out_proj.weight", {c.hidden_size, c.inner_size}));
  if (c.use_bias) {
    SW_ASSIGN_OR_RETURN(w.in_proj_bias,
                        loader.PlacedVector(mixer + "in_proj.bias", {2 * c.inner_size}));
    SW_ASSIGN_OR_RETURN(w.out_proj_bias,
                        loader.PlacedVector(mixer + "out_proj.bias", {c.hidden_size}));
  }
  layers_.push_back(w);
  return absl::OkStatus();
}

std::vector<RecurrentShape> Mamba1::StateShapes() const {
  const ModelConfig& c = config_;
  return std::vector<RecurrentShape>(c.num_layers, {.state_elements = c.inner_size * c.state_size,
                                                    .x_dim = c.inner_size,
                                                    .delta_dim = c.inner_size,
                                                    .b_dim = c.state_size,
                                                    .conv_dim = c.inner_size,
                                                    .conv_width = c.conv_kernel});
}

int64_t Mamba1::ScratchElements(int64_t max_rows) const {
  return Scratch::Elements(
      max_rows * (2 * config_.hidden_size + 5 * config_.inner_size + x_proj_dim()), 7);
}

void Mamba1::Forward(ExecutionContext& ctx, const RowPlan& plan, StateStore& store, float* scratch,
                     float* logits) const {
  const ModelConfig& c = config_;
  const int64_t inner = c.inner_size;
  const int64_t low = x_proj_dim();
  Scratch pieces(scratch);
  float* residual = pieces.Take(plan.max_rows * c.hidden_size);
  float* hidden = pieces.Take(plan.max_rows * c.hidden_size);
  float* projected = pieces.Take(plan.max_rows * 2 * inner);  // rows of u, z
  float* convolved = pieces.Take(plan.max_rows * inner);
  float* selected = pieces.Take(plan.max_rows * low);  // rows of low-rank dt, B, C
  float* dt = pieces.Take(plan.max_rows * inner);
  float* mixed = pieces.Take(plan.max_rows * inner);

  EmbedRows(ctx, c, frame_, plan, residual);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& w = layers_[i];
    NormLinearConv(
        ctx, NormRows(c, w.norm, plan, residual, hidden),
        RowsTimes(w.in_proj, w.in_proj_bias, plan, hidden, c.hidden_size, projected, 2 * inner),
        {.input = projected,
         .weight = w.conv_weight.data,
         .bias = w.conv_bias.data,
         .output = convolved,
         .ring = store.conv_ring(i),
         .dim = inner,
         .width = c.conv_kernel,
         .input_stride = 2 * inner,
         .output_stride = inner,
         .ring_rows = store.conv_ring_rows(i),
         .plan = plan});
    Linear(ctx, RowsTimes(w.x_proj, {}, plan, convolved, inner, selected, low));
    LinearParams dt_proj = RowsTimes(w.dt_proj, {}, plan, selected, c.time_step_rank, dt, inner);
    dt_proj.input_stride = low;
    LinearMultiStepMamba1(ctx, dt_proj,
                          {.x = convolved,
                           .z = projected + inner,
                           .dt = dt,
                           .b = selected + c.time_step_rank,
                           .c = selected + c.time_step_rank + c.state_size,
                           .a = w.a.data,
                           .d = w.d.data,
                           .dt_bias = w.dt_bias.data,
                           .output = mixed,
                           .inner_dim = inner,
                           .state_dim = c.state_size,
                           .x_stride = inner,
                           .z_stride = 2 * inner,
                           .dt_stride = inner,
                           .b_stride = low,
                           .c_stride = low,
                           .output_stride = inner,
                           .state = store.recurrent(i),
                           .plan = plan});
    LinearParams out =
        RowsTimes(w.out_proj, w.out_proj_bias, plan, mixed, inner, residual, c.hidden_size);
    out.accumulate = true;
    Linear(ctx, out);
  }
  ProjectLogits(ctx, c, frame_, plan, residual, hidden, logits);
}

}  // namespace sidewinder
