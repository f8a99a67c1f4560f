// Mamba-2 (Dao and Gu, "Transformers are SSMs", arXiv 2405.21060): the checkpoints of state-spaces
// and transformers' Mamba2ForCausalLM, Codestral Mamba included.
#ifndef SIDEWINDER_MODELS_MAMBA2_H_
#define SIDEWINDER_MODELS_MAMBA2_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "models/language_model.h"
#include "models/mamba_common.h"

namespace sidewinder {

class Mamba2 final : public LanguageModel {
 public:
  static absl::StatusOr<std::unique_ptr<const LanguageModel>> Create(const ModelConfig& config,
                                                                     WeightLoader loader);

  const ModelConfig& config() const override { return config_; }
  WeightFigures figures() const override { return figures_; }
  std::vector<RecurrentShape> StateShapes() const override;
  int64_t ScratchElements(int64_t max_rows) const override;
  void Forward(ExecutionContext& ctx, const RowPlan& plan, StateStore& store, float* scratch,
               float* logits) const override;

 private:
  struct Layer {
    VectorView norm;          // [hidden]
    WeightView in_proj;       // [in_proj_dim, hidden]: rows z, x, B, C, dt
    VectorView in_proj_bias;  // [in_proj_dim] or empty
    VectorView conv_weight;   // [taps, conv_dim]: channels x, B, C
    VectorView conv_bias;     // [conv_dim] or empty
    VectorView a;             // [num_heads], negative
    VectorView d;             // [inner]
    VectorView dt_bias;       // [num_heads]
    VectorView gated_norm;    // [inner]
    WeightView out_proj;      // [hidden, inner]
    VectorView out_proj_bias;
  };

  explicit Mamba2(const ModelConfig& config) : config_(config) {}
  absl::Status LoadLayer(WeightLoader& loader, int64_t index);
  int64_t in_proj_dim() const {
    return config_.inner_size + config_.conv_dim() + config_.num_heads;
  }

  ModelConfig config_;
  MambaFrame frame_;
  std::vector<Layer> layers_;
  WeightFigures figures_;
  std::shared_ptr<const WeightStorage> storage_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_MAMBA2_H_
