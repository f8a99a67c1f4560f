// A network: tokens in, logits out, recurrent state in a store. It knows nothing of drafting, of
// requests or of text. A family is one pair of files (mamba2.h, mamba2.cc) and a line in
// registry.cc.
#ifndef SIDEWINDER_MODELS_LANGUAGE_MODEL_H_
#define SIDEWINDER_MODELS_LANGUAGE_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/common/execution.h"
#include "kernels/row_plan.h"
#include "models/config/model_config.h"
#include "models/weight_loader.h"
#include "runtime/state_store.h"

namespace sidewinder {

// Immutable after loading; Forward may run in several threads with different stores and scratch.
class LanguageModel {
 public:
  virtual ~LanguageModel() = default;

  virtual const ModelConfig& config() const = 0;
  virtual WeightFigures figures() const = 0;

  // What a StateStore for this network must hold.
  virtual StateShape state_shape() const = 0;

  // Float32 elements of scratch that a pass of up to `max_rows` rows needs.
  virtual int64_t ScratchElements(int64_t max_rows) const = 0;

  // Enqueues one pass over the rows of `plan`. Reads and updates `store`, whose cursors it does not
  // move. logits [plan.num_logit_rows, vocab_size] receives the wanted rows; null if none are
  // wanted. The bits of a row's logits depend on its sequence's tokens alone.
  virtual void Forward(ExecutionContext& ctx, const RowPlan& plan, StateStore& store,
                       float* scratch, float* logits) const = 0;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_LANGUAGE_MODEL_H_
