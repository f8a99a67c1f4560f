// Mamba-1 (Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv
// 2312.00752): the checkpoints of state-spaces and transformers' MambaForCausalLM.
#ifndef SIDEWINDER_MODELS_MAMBA1_H_
#define SIDEWINDER_MODELS_MAMBA1_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "models/language_model.h"
#include "models/mamba_common.h"

namespace sidewinder {

class Mamba1 final : public LanguageModel {
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
    WeightView in_proj;       // [2 * inner, hidden]: rows u, z
    VectorView in_proj_bias;  // [2 * inner] or empty
    VectorView conv_weight;   // [taps, inner]
    VectorView conv_bias;     // [inner] or empty
    WeightView x_proj;        // [rank + 2 * state, inner]: rows dt, B, C
    WeightView dt_proj;       // [inner, rank]
    VectorView dt_bias;       // [inner]
    VectorView a;             // [state, inner], negative, transposed
    VectorView d;             // [inner]
    WeightView out_proj;      // [hidden, inner]
    VectorView out_proj_bias;
  };

  explicit Mamba1(const ModelConfig& config) : config_(config) {}
  absl::Status LoadLayer(WeightLoader& loader, int64_t index);
  int64_t x_proj_dim() const { return config_.time_step_rank + 2 * config_.state_size; }

  ModelConfig config_;
  MambaFrame frame_;
  std::vector<Layer> layers_;
  WeightFigures figures_;
  std::shared_ptr<const WeightStorage> storage_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_MAMBA1_H_
