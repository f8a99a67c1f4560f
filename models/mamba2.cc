#include "models/mamba2.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/fused.h"
#include "runtime/status_macros.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> Mamba2::Create(const ModelConfig& config,
                                                                    WeightLoader loader) {
  auto model = std::unique_ptr<Mamba2>(new Mamba2(config));
  SW_ASSIGN_OR_RETURN(model->frame_, LoadFrame(config, loader));
  for (int64_t i = 0; i < config.num_layers; ++i) {
    SW_RETURN_IF_ERROR(model->LoadLayer(loader, i));
  }
  SW_ASSIGN_OR_RETURN(model->storage_, std::move(loader).Finish());

  FigureCounter counter;
  for (const Layer& layer : model->layers_) {
    for (const auto* vector :
         {&layer.norm, &layer.in_proj_bias, &layer.conv_weight, &layer.conv_bias, &layer.a,
          &layer.dt_bias, &layer.gated_norm, &layer.out_proj_bias}) {
      counter.Vector(vector->size);
    }
    counter.Vector(config.num_heads);  // D, which is expanded to [inner] in memory
    counter.Matrix(layer.in_proj, model->in_proj_dim() * config.hidden_size);
    counter.Matrix(layer.out_proj, config.hidden_size * config.inner_size);
  }
  counter.Frame(config, model->frame_);
  model->figures_ = counter.Finish(model->storage_->fingerprint);
  return model;
}

absl::Status Mamba2::LoadLayer(WeightLoader& loader, int64_t index) {
  const ModelConfig& c = config_;
  const std::string layer_name = absl::StrCat("backbone.layers.", index, ".");
  const std::string mixer = layer_name + "mixer.";
  Layer w;
  SW_ASSIGN_OR_RETURN(w.norm, loader.PlacedVector(layer_name + "norm.weight", {c.hidden_size}));
  SW_ASSIGN_OR_RETURN(w.in_proj,
                      loader.Tensor(mixer + "in_proj.weight", {in_proj_dim(), c.hidden_size}));
  SW_ASSIGN_OR_RETURN(std::vector<float> conv,
                      loader.Vector(mixer + "conv1d.weight", {c.conv_dim(), 1, c.conv_kernel}));
  SW_ASSIGN_OR_RETURN(w.conv_weight, loader.Place(Transpose(conv, c.conv_dim(), c.conv_kernel)));
  if (c.use_conv_bias) {
    SW_ASSIGN_OR_RETURN(w.conv_bias, loader.PlacedVector(mixer + "conv1d.bias", {c.conv_dim()}));
  }
  SW_ASSIGN_OR_RETURN(w.dt_bias, loader.PlacedVector(mixer + "dt_bias", {c.num_heads}));
  SW_ASSIGN_OR_RETURN(std::vector<float> a_log, loader.Vector(mixer + "A_log", {c.num_heads}));
  SW_ASSIGN_OR_RETURN(w.a, loader.Place(NegativeExp(std::move(a_log))));
  SW_ASSIGN_OR_RETURN(std::vector<float> d, loader.Vector(mixer + "D", {c.num_heads}));
  std::vector<float> d_by_channel(c.inner_size);
  for (int64_t i = 0; i < c.inner_size; ++i) d_by_channel[i] = d[i / c.head_dim];
  SW_ASSIGN_OR_RETURN(w.d, loader.Place(std::move(d_by_channel)));
  SW_ASSIGN_OR_RETURN(w.gated_norm, loader.PlacedVector(mixer + "norm.weight", {c.inner_size}));
  SW_ASSIGN_OR_RETURN(w.out_proj,
                      loader.Tensor(mixer + "out_proj.weight", {c.hidden_size, c.inner_size}));
  if (c.use_bias) {
    SW_ASSIGN_OR_RETURN(w.in_proj_bias,
                        loader.PlacedVector(mixer + "in_proj.bias", {in_proj_dim()}));
    SW_ASSIGN_OR_RETURN(w.out_proj_bias,
                        loader.PlacedVector(mixer + "out_proj.bias", {c.hidden_size}));
  }
  layers_.push_back(w);
  return absl::OkStatus();
}

std::vector<RecurrentShape> Mamba2::StateShapes() const {
  const ModelConfig& c = config_;
  return std::vector<RecurrentShape>(c.num_layers, {.state_elements = c.inner_size * c.state_size,
                                                    .x_dim = c.inner_size,
                                                    .delta_dim = c.num_heads,
                                                    .b_dim = c.num_groups * c.state_size,
                                                    .conv_dim = c.conv_dim(),
                                                    .conv_width = c.conv_kernel});
}

int64_t Mamba2::ScratchElements(int64_t max_rows) const {
  return Scratch::Elements(max_rows * (2 * config_.hidden_size + in_proj_dim() +
                                       config_.conv_dim() + config_.inner_size),
                           5);
}

void Mamba2::Forward(ExecutionContext& ctx, const RowPlan& plan, StateStore& store, float* scratch,
                     float* logits) const {
  const ModelConfig& c = config_;
  const int64_t proj = in_proj_dim();
  const int64_t conv = c.conv_dim();
  const int64_t bc = c.num_groups * c.state_size;
  Scratch pieces(scratch);
  float* residual = pieces.Take(plan.max_rows * c.hidden_size);
  float* hidden = pieces.Take(plan.max_rows * c.hidden_size);
  float* projected = pieces.Take(plan.max_rows * proj);  // rows of z, x, B, C, dt
  float* convolved = pieces.Take(plan.max_rows * conv);  // rows of x, B, C
  float* mixed = pieces.Take(plan.max_rows * c.inner_size);

  EmbedRows(ctx, c, frame_, plan, residual);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& w = layers_[i];
    NormLinear(ctx, NormRows(c, w.norm, plan, residual, hidden),
               RowsTimes(w.in_proj, w.in_proj_bias, plan, hidden, c.hidden_size, projected, proj));
    ConvMultiStepMamba2(ctx,
                        {.input = projected + c.inner_size,
                         .weight = w.conv_weight.data,
                         .bias = w.conv_bias.data,
                         .output = convolved,
                         .ring = store.conv_ring(i),
                         .dim = conv,
                         .width = c.conv_kernel,
                         .input_stride = proj,
                         .output_stride = conv,
                         .ring_rows = store.conv_ring_rows(i),
                         .plan = plan},
                        {.x = convolved,
                         .b = convolved + c.inner_size,
                         .c = convolved + c.inner_size + bc,
                         .dt = projected + c.inner_size + conv,
                         .a = w.a.data,
                         .d = w.d.data,
                         .dt_bias = w.dt_bias.data,
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
                         .output_stride = c.inner_size,
                         .state = store.recurrent(i),
                         .plan = plan});
    LinearParams out =
        RowsTimes(w.out_proj, w.out_proj_bias, plan, mixed, c.inner_size, residual, c.hidden_size);
    out.accumulate = true;
    NormLinear(ctx,
               {.input = mixed,
                .gate = projected,
                .weight = w.gated_norm.data,
                .output = mixed,  // in place
                .dim = c.inner_size,
                .group_dim = c.gated_norm_group,
                .input_stride = c.inner_size,
                .gate_stride = proj,
                .output_stride = c.inner_size,
                .eps = c.norm_eps,
                .num_rows = plan.num_rows,
                .max_rows = plan.max_rows},
               out);
  }
  ProjectLogits(ctx, c, frame_, plan, residual, hidden, logits);
}

}  // namespace sidewinder
