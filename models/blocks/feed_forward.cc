#include "models/blocks/feed_forward.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/experts.h"
#include "kernels/gated_activation.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

int64_t UpDim(const ModelConfig& c, int64_t inner) {
  return c.feed_forward.gated ? 2 * inner : inner;
}

// What the routed experts read and write a row.
int64_t ExpertWidth(const ModelConfig& c) {
  return c.experts.latent_size > 0 ? c.experts.latent_size : c.hidden_size;
}

// Rows of each of the tensors that `names` are.
std::vector<int64_t> UpRows(const ModelConfig& c, const FeedForward::Names& names, int64_t inner) {
  if (names.up.size() == 1) return {UpDim(c, inner)};
  return std::vector<int64_t>(names.up.size(), inner);
}

std::vector<TensorName> WithSuffix(const std::string& prefix,
                                   const std::vector<std::string>& names) {
  std::vector<TensorName> tensors;
  for (const std::string& name : names) tensors.emplace_back(prefix + name + ".weight");
  return tensors;
}

// rows[r] = act(gate) * up where a row holds both, or act(up), in place.
GatedActivationParams Activate(const Pass& pass, const ModelConfig& c, int64_t inner, float* rows) {
  const int64_t stride = UpDim(c, inner);
  return {.gate = rows,
          .up = c.feed_forward.gated ? rows + inner : nullptr,
          .output = rows,
          .dim = inner,
          .gate_stride = stride,
          .up_stride = stride,
          .output_stride = stride,
          .activation = c.feed_forward.activation,
          .num_rows = pass.plan.num_rows,
          .max_rows = pass.plan.max_rows};
}

}  // namespace

absl::StatusOr<FeedForward> FeedForward::Load(const ModelConfig& c, WeightLoader& loader,
                                              int64_t inner, const std::string& prefix,
                                              const Names& names) {
  FeedForward w;
  SW_ASSIGN_OR_RETURN(
      w.up, loader.Stacked(WithSuffix(prefix, names.up), UpRows(c, names, inner), c.hidden_size));
  SW_ASSIGN_OR_RETURN(w.down,
                      loader.Tensor(prefix + names.down + ".weight", {c.hidden_size, inner}));
  if (c.feed_forward.bias) {
    const std::vector<int64_t> rows = UpRows(c, names, inner);
    std::vector<float> bias;
    for (size_t i = 0; i < names.up.size(); ++i) {
      SW_ASSIGN_OR_RETURN(const std::vector<float> part,
                          loader.Vector(prefix + names.up[i] + ".bias", {rows[i]}));
      bias.insert(bias.end(), part.begin(), part.end());
    }
    SW_ASSIGN_OR_RETURN(w.up_bias, loader.Place(std::move(bias)));
    SW_ASSIGN_OR_RETURN(w.down_bias,
                        loader.PlacedVector(prefix + names.down + ".bias", {c.hidden_size}));
  }
  if (c.multipliers.mlp_gate != 1.0f) {
    std::vector<float> scale(2 * inner, 1.0f);
    std::fill_n(scale.begin(), inner, c.multipliers.mlp_gate);
    SW_ASSIGN_OR_RETURN(w.up_scale, loader.Place(std::move(scale)));
  }
  return w;
}

int64_t FeedForward::ScratchElements(const ModelConfig& c, int64_t inner, int64_t max_rows) {
  return Scratch::Elements(max_rows * UpDim(c, inner), 1);
}

void FeedForward::Forward(const Pass& pass, const ModelConfig& c, int64_t inner,
                          const Branch& branch, float* scratch) const {
  const int64_t up_dim = UpDim(c, inner);
  Scratch pieces(scratch);
  float* rows = pieces.Take(pass.plan.max_rows * up_dim);
  LinearParams in = RowsTimes(pass, up, up_bias, branch.norm.output, c.hidden_size, rows, up_dim);
  in.scale = up_scale.data;
  EnterBranch(pass, branch, in);
  GatedActivation(pass.ctx, Activate(pass, c, inner, rows));
  LinearParams out = RowsTimes(pass, down, down_bias, rows, inner, branch.residual, c.hidden_size);
  out.input_stride = up_dim;
  LeaveBranch(branch, out);
  Linear(pass.ctx, out);
}

absl::StatusOr<ExpertFeedForward> ExpertFeedForward::Load(const ModelConfig& c,
                                                          WeightLoader& loader,
                                                          const std::string& prefix,
                                                          const Names& names) {
  const ExpertsConfig& e = c.experts;
  ExpertFeedForward w;
  SW_ASSIGN_OR_RETURN(w.router,
                      loader.Tensor(prefix + names.router, {e.num_experts, c.hidden_size}));
  if (!names.router_correction.empty()) {
    SW_ASSIGN_OR_RETURN(w.router_correction,
                        loader.PlacedVector(prefix + names.router_correction, {e.num_experts}));
  }
  const auto of_expert = [&](const std::vector<std::string>& matrices) {
    return [&prefix, &names, matrices](int64_t expert) {
      return WithSuffix(absl::StrCat(prefix, names.expert, expert, "."), matrices);
    };
  };
  SW_ASSIGN_OR_RETURN(w.up, loader.Experts(prefix + names.stacked_up, e.num_experts, e.num_chosen,
                                           of_expert(names.one.up),
                                           UpRows(c, names.one, e.inner_size), ExpertWidth(c)));
  SW_ASSIGN_OR_RETURN(w.down,
                      loader.Experts(prefix + names.stacked_down, e.num_experts, e.num_chosen,
                                     of_expert({names.one.down}), {ExpertWidth(c)}, e.inner_size));
  if (e.latent_size > 0) {
    SW_ASSIGN_OR_RETURN(w.to_latent,
                        loader.Tensor(prefix + names.to_latent, {e.latent_size, c.hidden_size}));
    SW_ASSIGN_OR_RETURN(w.from_latent,
                        loader.Tensor(prefix + names.from_latent, {c.hidden_size, e.latent_size}));
  }
  if (e.shared_inner_size > 0) {
    SW_ASSIGN_OR_RETURN(w.shared, FeedForward::Load(c, loader, e.shared_inner_size,
                                                    prefix + names.shared, names.shared_names));
    if (!names.shared_gate.empty()) {
      SW_ASSIGN_OR_RETURN(w.shared_gate,
                          loader.Tensor(prefix + names.shared_gate, {1, c.hidden_size}));
    }
  }
  SW_ASSIGN_OR_RETURN(w.scale, PlaceMultiplier(loader, c.multipliers.residual, 1));
  return w;
}

int64_t ExpertFeedForward::ScratchElements(const ModelConfig& c, int64_t max_rows) {
  const ExpertsConfig& e = c.experts;
  const int64_t choices = max_rows * e.num_chosen;
  const int64_t routed = Scratch::Elements(
      max_rows * e.num_experts + 3 * choices + e.num_experts + 1 +
          choices * (UpDim(c, e.inner_size) + ExpertWidth(c)) + 2 * max_rows * e.latent_size,
      9);
  if (e.shared_inner_size == 0) return routed;
  return routed + Scratch::Elements(max_rows * (1 + c.hidden_size), 2) +
         FeedForward::ScratchElements(c, e.shared_inner_size, max_rows);
}

void ExpertFeedForward::Forward(const Pass& pass, const ModelConfig& c, const Branch& branch,
                                float* scratch) const {
  const ExpertsConfig& e = c.experts;
  const int64_t rows = pass.plan.max_rows, choices = rows * e.num_chosen;
  const int64_t up_dim = UpDim(c, e.inner_size);
  Scratch pieces(scratch);
  float* logits = pieces.Take(rows * e.num_experts);
  // Numbers as wide as floats.
  const ExpertChoices chosen = {
      .experts = reinterpret_cast<int32_t*>(pieces.Take(choices)),
      .weights = pieces.Take(choices),
      .order = reinterpret_cast<int32_t*>(pieces.Take(choices)),
      .offsets = reinterpret_cast<int32_t*>(pieces.Take(e.num_experts + 1)),
      .num_experts = e.num_experts,
      .num_chosen = e.num_chosen};
  float* inner = pieces.Take(choices * up_dim);
  const int64_t width = ExpertWidth(c);
  float* outer = pieces.Take(choices * width);
  float* latent = pieces.Take(rows * e.latent_size);      // what routed experts read,
  float* latent_sum = pieces.Take(rows * e.latent_size);  // and their weighted sum
  float* rest = pieces.Take(0);

  if (!branch.normed) RmsNorm(pass.ctx, branch.norm);  // router, experts and shared expert read it
  const float* input = branch.norm.output;
  Linear(pass.ctx, RowsTimes(pass, router, {}, input, c.hidden_size, logits, e.num_experts));
  RouteExperts(pass.ctx, {.logits = logits,
                          .correction = router_correction.data,
                          .choices = chosen,
                          .score = e.score,
                          .num_groups = e.num_groups,
                          .num_chosen_groups = e.num_chosen_groups,
                          .normalize = e.normalize,
                          .scale = e.scale,
                          .num_rows = pass.plan.num_rows,
                          .max_rows = pass.plan.max_rows});
  if (to_latent) {
    Linear(pass.ctx, RowsTimes(pass, to_latent, {}, input, c.hidden_size, latent, width));
  }
  ExpertLinear(pass.ctx, {.weights = up.data,
                          .weight_dtype = up.dtype,
                          .choices = chosen,
                          .input = to_latent ? latent : input,
                          .output = inner,
                          .in_dim = width,
                          .out_dim = up_dim,
                          .input_stride = width,
                          .input_per_choice = false,
                          .num_rows = pass.plan.num_rows,
                          .max_rows = pass.plan.max_rows});
  GatedActivationParams activate = Activate(pass, c, e.inner_size, inner);
  activate.rows_factor = static_cast<int32_t>(e.num_chosen);
  GatedActivation(pass.ctx, activate);
  ExpertLinear(pass.ctx, {.weights = down.data,
                          .weight_dtype = down.dtype,
                          .choices = chosen,
                          .input = inner,
                          .output = outer,
                          .in_dim = e.inner_size,
                          .out_dim = width,
                          .input_stride = up_dim,
                          .input_per_choice = true,
                          .num_rows = pass.plan.num_rows,
                          .max_rows = pass.plan.max_rows});
  CombineExperts(pass.ctx, {.input = outer,
                            .choices = chosen,
                            .scale = scale.data,
                            .output = to_latent ? latent_sum : branch.residual,
                            .dim = width,
                            .output_stride = to_latent ? width : branch.residual_stride,
                            .accumulate = !to_latent && branch.accumulate,
                            .num_rows = pass.plan.num_rows,
                            .max_rows = pass.plan.max_rows});
  if (to_latent) {
    LinearParams out =
        RowsTimes(pass, from_latent, {}, latent_sum, width, branch.residual, c.hidden_size);
    LeaveBranch(branch, out);
    out.scale = nullptr;  // CombineExperts has multiplied
    Linear(pass.ctx, out);
  }
  if (e.shared_inner_size > 0) {
    Branch shared_branch = branch;
    shared_branch.normed = true;
    shared_branch.accumulate = true;
    ForwardShared(pass, c, shared_branch, rest);
  }
}

// A gated one is an expert that every row has chosen, with a weight of its own.
void ExpertFeedForward::ForwardShared(const Pass& pass, const ModelConfig& c, const Branch& branch,
                                      float* scratch) const {
  const int64_t inner = c.experts.shared_inner_size;
  if (!shared_gate) {
    shared.Forward(pass, c, inner, branch, scratch);
    return;
  }
  Scratch pieces(scratch);
  float* weights = pieces.Take(pass.plan.max_rows);
  float* outer = pieces.Take(pass.plan.max_rows * c.hidden_size);
  float* rest = pieces.Take(0);
  Linear(pass.ctx, RowsTimes(pass, shared_gate, {}, branch.norm.output, c.hidden_size, weights, 1));
  GatedActivation(pass.ctx, {.gate = weights,
                             .up = nullptr,
                             .output = weights,
                             .dim = 1,
                             .gate_stride = 1,
                             .up_stride = 0,
                             .output_stride = 1,
                             .activation = Activation::kSigmoid,
                             .num_rows = pass.plan.num_rows,
                             .max_rows = pass.plan.max_rows});
  Branch to_outer = branch;
  to_outer.residual = outer;
  to_outer.residual_stride = c.hidden_size;
  to_outer.accumulate = false;
  to_outer.scale = nullptr;
  shared.Forward(pass, c, inner, to_outer, rest);
  CombineExperts(pass.ctx, {.input = outer,
                            .choices = {.experts = nullptr,
                                        .weights = weights,
                                        .order = nullptr,
                                        .offsets = nullptr,
                                        .num_experts = 1,
                                        .num_chosen = 1},
                            .scale = scale.data,
                            .output = branch.residual,
                            .dim = c.hidden_size,
                            .output_stride = branch.residual_stride,
                            .accumulate = branch.accumulate,
                            .num_rows = pass.plan.num_rows,
                            .max_rows = pass.plan.max_rows});
}

}  // namespace sidewinder
