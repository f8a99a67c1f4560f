#include "models/blocks/common.h"

#include <cmath>
#include <utility>

#include "kernels/embedding.h"
#include "kernels/fused.h"
#include "runtime/status_macros.h"

namespace sidewinder {

void EnterBranch(const Pass& pass, const Branch& branch, const LinearParams& linear) {
  if (branch.normed) {
    Linear(pass.ctx, linear);
  } else {
    NormLinear(pass.ctx, branch.norm, linear);
  }
}

void LeaveBranch(const Branch& branch, LinearParams& linear) {
  linear.output = branch.residual;
  linear.output_stride = branch.residual_stride;
  linear.accumulate = branch.accumulate;
  linear.scale = branch.scale;
}

LinearParams RowsTimes(const Pass& pass, const WeightView& weight, const VectorView& bias,
                       const float* input, int64_t in_dim, float* output, int64_t out_dim) {
  return {.weight = weight.data,
          .weight_dtype = weight.dtype,
          .bias = bias.data,
          .input = input,
          .row_index = nullptr,
          .output = output,
          .in_dim = in_dim,
          .out_dim = out_dim,
          .input_stride = in_dim,
          .output_stride = out_dim,
          .accumulate = false,
          .num_rows = pass.plan.num_rows,
          .max_rows = pass.plan.max_rows};
}

RmsNormParams NormRows(const Pass& pass, const VectorView& weight, float eps, const float* input,
                       int64_t input_stride, float* output, int64_t dim) {
  return {.input = input,
          .gate = nullptr,
          .weight = weight.data,
          .output = output,
          .dim = dim,
          .group_dim = dim,
          .input_stride = input_stride,
          .gate_stride = 0,
          .output_stride = dim,
          .eps = eps,
          .num_rows = pass.plan.num_rows,
          .max_rows = pass.plan.max_rows};
}

absl::StatusOr<Frame> Frame::Load(const ModelConfig& config, WeightLoader& loader,
                                  const Names& names) {
  Frame frame;
  const WeightLoader::Shape shape = {config.vocab_size, config.hidden_size};
  const TensorName head = "lm_head.weight";
  const bool tied = loader.synthetic() ? config.tie_embeddings : !loader.Has(head);
  // Of an embedding that is not the head, a pass reads only the rows of its tokens.
  SW_ASSIGN_OR_RETURN(frame.embedding, loader.Tensor(names.embedding, shape, tied ? 1.0 : 0.0));
  frame.head = frame.embedding;
  if (!tied) {
    SW_ASSIGN_OR_RETURN(frame.head, loader.Tensor(head, shape));
  }
  SW_ASSIGN_OR_RETURN(frame.norm, PlaceNorm(config, loader, names.final_norm, config.hidden_size));
  SW_ASSIGN_OR_RETURN(frame.logits_scale,
                      PlaceMultiplier(loader, config.multipliers.logits, config.vocab_size));
  return frame;
}

void Frame::Embed(const Pass& pass, const ModelConfig& config, float* residual,
                  int64_t residual_stride) const {
  Embedding(pass.ctx, {.table = embedding.data,
                       .table_dtype = embedding.dtype,
                       .tokens = pass.plan.tokens,
                       .output = residual,
                       .dim = config.hidden_size,
                       .output_stride = residual_stride,
                       .scale = config.multipliers.embedding,
                       .num_rows = pass.plan.num_rows,
                       .max_rows = pass.plan.max_rows});
}

void Frame::ProjectLogits(const Pass& pass, const ModelConfig& config, const float* residual,
                          int64_t residual_stride, float* hidden, float* logits) const {
  if (logits == nullptr) return;
  LinearParams linear =
      RowsTimes(pass, head, {}, hidden, config.hidden_size, logits, config.vocab_size);
  linear.scale = logits_scale.data;
  linear.row_index = pass.plan.logit_rows;
  linear.num_rows = pass.plan.num_logit_rows;
  NormLinear(
      pass.ctx,
      NormRows(pass, norm, config.norm_eps, residual, residual_stride, hidden, config.hidden_size),
      linear);
}

std::vector<float> Transpose(const std::vector<float>& matrix, int64_t rows, int64_t columns) {
  std::vector<float> transposed(matrix.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) transposed[c * rows + r] = matrix[r * columns + c];
  }
  return transposed;
}

std::vector<float> NegativeExp(std::vector<float> a_log) {
  for (float& value : a_log) value = -std::exp(value);
  return a_log;
}

absl::StatusOr<VectorView> PlaceNorm(const ModelConfig& config, WeightLoader& loader,
                                     const TensorName& name, int64_t size) {
  SW_ASSIGN_OR_RETURN(std::vector<float> weight, loader.Vector(name, {size}));
  if (config.zero_centred_norms) {
    for (float& value : weight) value += 1.0f;
  }
  return loader.Place(std::move(weight));
}

absl::StatusOr<VectorView> PlaceMultiplier(WeightLoader& loader, float value, int64_t size) {
  if (value == 1.0f) return VectorView{};
  return loader.Place(std::vector<float>(size, value));
}

}  // namespace sidewinder
