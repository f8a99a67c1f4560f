// What the two Mamba families share: the frame around the mixers, and a bump allocator for scratch.
#ifndef SIDEWINDER_MODELS_MAMBA_COMMON_H_
#define SIDEWINDER_MODELS_MAMBA_COMMON_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/common/execution.h"
#include "kernels/linear.h"
#include "kernels/rms_norm.h"
#include "kernels/row_plan.h"
#include "models/config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

// Embedding, final norm and head.
struct MambaFrame {
  WeightView embedding;  // [vocab, hidden]
  WeightView head;       // [vocab, hidden]; the embedding if tied
  VectorView norm_f;     // [hidden]
};

absl::StatusOr<MambaFrame> LoadFrame(const ModelConfig& config, WeightLoader& loader);

// residual[r] = embedding[tokens[r]]
void EmbedRows(ExecutionContext& ctx, const ModelConfig& config, const MambaFrame& frame,
               const RowPlan& plan, float* residual);

// logits = head RMSNorm(residual; norm_f) for the rows whose logits are wanted. `hidden` is
// scratch.
void ProjectLogits(ExecutionContext& ctx, const ModelConfig& config, const MambaFrame& frame,
                   const RowPlan& plan, const float* residual, float* hidden, float* logits);

// hidden = RMSNorm(residual; weight), row by row.
RmsNormParams NormRows(const ModelConfig& config, const VectorView& weight, const RowPlan& plan,
                       const float* residual, float* hidden);

// A product over the rows of a plan with contiguous or strided rows.
LinearParams RowsTimes(const WeightView& weight, const VectorView& bias, const RowPlan& plan,
                       const float* input, int64_t in_dim, float* output, int64_t out_dim);

// [rows, columns] -> [columns, rows]: convolution taps and A, whose ops run over channels.
std::vector<float> Transpose(const std::vector<float>& matrix, int64_t rows, int64_t columns);

// -exp(A_log), element by element.
std::vector<float> NegativeExp(std::vector<float> a_log);

// Hands out consecutive pieces of a scratch buffer, aligned as the buffer is.
class Scratch {
 public:
  static constexpr int64_t kAlignment{128};  // elements

  explicit Scratch(float* base) : next_(base) {}
  float* Take(int64_t elements) {
    float* piece = next_;
    next_ += (elements + kAlignment - 1) / kAlignment * kAlignment;
    return piece;
  }

  // What `pieces` pieces of `elements` in all may take.
  static int64_t Elements(int64_t elements, int64_t pieces) {
    return elements + pieces * (kAlignment - 1);
  }

 private:
  float* next_;
};

// Counts the parameters and bytes of a network as its tensors are loaded.
class FigureCounter {
 public:
  void Matrix(const WeightView& view, int64_t elements, bool read_every_pass = true) {
    if (!view) return;
    figures_.num_parameters += elements;
    figures_.matrix_dtype = view.dtype;
    if (read_every_pass) figures_.bytes_per_pass += static_cast<int64_t>(view.size);
  }
  void Vector(int64_t elements) {
    figures_.num_parameters += elements;
    figures_.bytes_per_pass += elements * static_cast<int64_t>(sizeof(float));
  }
  void Frame(const ModelConfig& config, const MambaFrame& frame);
  WeightFigures Finish(uint64_t fingerprint) {
    figures_.fingerprint = fingerprint;
    return figures_;
  }

 private:
  WeightFigures figures_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_MAMBA_COMMON_H_
