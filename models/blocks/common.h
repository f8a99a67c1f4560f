// What every network is built around: embedding, final norm and head, and the words that blocks are
// written in.
//
// A block is a struct of weights with Load(), ScratchElements() and Forward(). Forward() enqueues
// the block's ops: it takes a Branch, that is, where the input comes from and what the output is
// added to, and scratch, of which nothing outlives the block.
#ifndef SIDEWINDER_MODELS_BLOCKS_COMMON_H_
#define SIDEWINDER_MODELS_BLOCKS_COMMON_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/common/execution.h"
#include "kernels/linear.h"
#include "kernels/rms_norm.h"
#include "kernels/row_plan.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"
#include "runtime/state_store.h"

namespace sidewinder {

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

// One pass as blocks see it.
struct Pass {
  ExecutionContext& ctx;
  const RowPlan& plan;
  StateStore& store;
};

// x + scale * block(norm(x)): where a block's input comes from and where its output goes.
struct Branch {
  RmsNormParams norm;            // norm.output is the input of the block's first product, dense
  bool normed = false;           // norm.output is there already
  float* residual;               // [rows, hidden] the output is added to it,
  int64_t residual_stride;       //
  bool accumulate = true;        // or stored to it
  const float* scale = nullptr;  // [hidden] multiplies the output; null: ones
};

// The first product of a branch.
void EnterBranch(const Pass& pass, const Branch& branch, const LinearParams& linear);

// Where the output of a branch's last product goes.
void LeaveBranch(const Branch& branch, LinearParams& linear);

// A product over the rows of a pass, dense.
LinearParams RowsTimes(const Pass& pass, const WeightView& weight, const VectorView& bias,
                       const float* input, int64_t in_dim, float* output, int64_t out_dim);

// output = RMSNorm(input; weight), row by row.
RmsNormParams NormRows(const Pass& pass, const VectorView& weight, float eps, const float* input,
                       int64_t input_stride, float* output, int64_t dim);

// Embedding, final norm and head.
struct Frame {
  struct Names {
    TensorName embedding;
    TensorName final_norm;
  };

  WeightView embedding;     // [vocab, hidden]
  WeightView head;          // [vocab, hidden]; the embedding if tied
  VectorView norm;          // [hidden]
  VectorView logits_scale;  // [vocab] or empty

  static absl::StatusOr<Frame> Load(const ModelConfig& config, WeightLoader& loader,
                                    const Names& names);

  // residual[r] = embedding[tokens[r]], times the family's multiplier.
  void Embed(const Pass& pass, const ModelConfig& config, float* residual,
             int64_t residual_stride) const;

  // logits = head RMSNorm(residual) for the rows whose logits are wanted; `hidden` is scratch.
  // Nothing if logits is null.
  void ProjectLogits(const Pass& pass, const ModelConfig& config, const float* residual,
                     int64_t residual_stride, float* hidden, float* logits) const;
};

// [rows, columns] -> [columns, rows]: convolution taps and A, whose ops run over channels.
std::vector<float> Transpose(const std::vector<float>& matrix, int64_t rows, int64_t columns);

// -exp(A_log), element by element.
std::vector<float> NegativeExp(std::vector<float> a_log);

// The weight of an RMS norm. Where the family stores it less one, the one is added here.
absl::StatusOr<VectorView> PlaceNorm(const ModelConfig& config, WeightLoader& loader,
                                     const TensorName& name, int64_t size);

// `size` times the value in the device's memory; an empty view for 1.
absl::StatusOr<VectorView> PlaceMultiplier(WeightLoader& loader, float value, int64_t size);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_BLOCKS_COMMON_H_
