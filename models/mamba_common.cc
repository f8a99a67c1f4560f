#include "models/mamba_common.h"

#include <cmath>

#include "kernels/embedding.h"
#include "kernels/fused.h"
#include "runtime/status_macros.h"

namespace sidewinder {

absl::StatusOr<MambaFrame> LoadFrame(const ModelConfig& config, WeightLoader& loader) {
  MambaFrame frame;
  const WeightLoader::Shape shape = {config.vocab_size, config.hidden_size};
  SW_ASSIGN_OR_RETURN(
      frame.embedding,
      loader.Tensor({"backbone.embeddings.weight", "backbone.embedding.weight"}, shape));
  SW_ASSIGN_OR_RETURN(frame.head, loader.OptionalTensor("lm_head.weight", shape));
  if (!frame.head) frame.head = frame.embedding;
  SW_ASSIGN_OR_RETURN(frame.norm_f,
                      loader.PlacedVector("backbone.norm_f.weight", {config.hidden_size}));
  return frame;
}

void EmbedRows(ExecutionContext& ctx, const ModelConfig& config, const MambaFrame& frame,
               const RowPlan& plan, float* residual) {
  Embedding(ctx, {.table = frame.embedding.data,
                  .table_dtype = frame.embedding.dtype,
                  .tokens = plan.tokens,
                  .output = residual,
                  .dim = config.hidden_size,
                  .output_stride = config.hidden_size,
                  .num_rows = plan.num_rows,
                  .max_rows = plan.max_rows});
}

RmsNormParams NormRows(const ModelConfig& config, const VectorView& weight, const RowPlan& plan,
                       const float* residual, float* hidden) {
  return {.input = residual,
          .gate = nullptr,
          .weight = weight.data,
          .output = hidden,
          .dim = config.hidden_size,
          .group_dim = config.hidden_size,
          .input_stride = config.hidden_size,
          .gate_stride = 0,
          .output_stride = config.hidden_size,
          .eps = config.norm_eps,
          .num_rows = plan.num_rows,
          .max_rows = plan.max_rows};
}

LinearParams RowsTimes(const WeightView& weight, const VectorView& bias, const RowPlan& plan,
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
          .num_rows = plan.num_rows,
          .max_rows = plan.max_rows};
}

void ProjectLogits(ExecutionContext& ctx, const ModelConfig& config, const MambaFrame& frame,
                   const RowPlan& plan, const float* residual, float* hidden, float* logits) {
  if (logits == nullptr) return;
  LinearParams head =
      RowsTimes(frame.head, {}, plan, hidden, config.hidden_size, logits, config.vocab_size);
  head.row_index = plan.logit_rows;
  head.num_rows = plan.num_logit_rows;
  NormLinear(ctx, NormRows(config, frame.norm_f, plan, residual, hidden), head);
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

void FigureCounter::Frame(const ModelConfig& config, const MambaFrame& frame) {
  const int64_t elements = config.vocab_size * config.hidden_size;
  const bool tied = frame.head.data == frame.embedding.data;
  // Of an embedding that is not the head, a pass reads only the rows of its tokens.
  if (!tied) Matrix(frame.embedding, elements, /*read_every_pass=*/false);
  Matrix(frame.head, elements);
  Vector(config.hidden_size);
}

}  // namespace sidewinder
