// A network with everything one user of it needs: state of its sequences, row plan, scratch and
// logits. The verifier is one runner, a draft model another; a runner knows nothing of the other.
#ifndef SIDEWINDER_MODELS_MODEL_RUNNER_H_
#define SIDEWINDER_MODELS_MODEL_RUNNER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/common/execution.h"
#include "kernels/plan_rows.h"
#include "kernels/row_plan.h"
#include "models/language_model.h"
#include "runtime/device.h"
#include "runtime/state_store.h"
#include "sidewinder/model.h"

namespace sidewinder {

struct ModelRunnerOptions {
  StateStoreOptions state;
  int32_t rows_per_pass = 1;    // rows of one sequence in a decoding pass
  int32_t logits_per_pass = 1;  // of them, rows whose logits are wanted
  int32_t prefill_chunk = 64;   // rows of one prefill pass; rounded up to what recurrences evaluate
                                // as a whole
  bool prefill_logits = false;  // prefill passes may want logits
};

class ModelRunner {
 public:
  // On the model's device. ResourceExhausted if the memory cannot be had.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Create(std::shared_ptr<const Model> model,
                                                             const ModelRunnerOptions& options);

  const Model& model() const { return *model_; }
  StateStore& store() { return store_; }
  const StateStore& store() const { return store_; }

  // The plan of decoding passes of at most `rows` rows a sequence (0: rows_per_pass). All plans of
  // a runner share their memory; they differ in the bounds that size launches.
  RowPlan plan(int32_t rows = 0) const;

  // Logits of the last pass, [logit rows, vocab]; device memory.
  const float* logits() const { return logits_.as<float>(); }

  // What the PlanRows ops take.
  PlanRowsParams PlanParams(const ControlBlock& control, int32_t rows = 0) const;

  // Enqueues the pass that the plan describes and moves the cursors over it.
  void Forward(ExecutionContext& ctx, int32_t rows = 0);

  // Makes room for a text of `positions` tokens and what is proposed at its end; before any pass of
  // the sequence. ResourceExhausted if the memory cannot be had.
  absl::Status Reserve(ExecutionContext& ctx, int32_t slot, int64_t positions);

  // Consumes tokens[begin, end) of a sequence in chunks, `begin` being what it has consumed;
  // `tokens` is the sequence from position 0, in device memory. Bits depend on begin and end, not
  // on options.prefill_chunk.
  void Prefill(ExecutionContext& ctx, int32_t slot, const int32_t* tokens, int32_t begin,
               int32_t end);

  // One chunk of at most options.prefill_chunk rows. logits() are those of its rows if wanted;
  // these rows have the bits that decoding gives them, wherever the text ends.
  void PrefillChunk(ExecutionContext& ctx, int32_t slot, const int32_t* tokens, int32_t num_rows,
                    bool logits);

  // Folds the log of a slot into its checkpoint, so that it can be exported.
  void Settle(ExecutionContext& ctx, int32_t slot);

 private:
  ModelRunner(std::shared_ptr<const Model> model, const ModelRunnerOptions& options,
              StateStore store)
      : model_(std::move(model)), options_(options), store_(std::move(store)) {}
  absl::Status AllocateBuffers(const Device& device);

  std::shared_ptr<const Model> model_;
  ModelRunnerOptions options_;
  StateStore store_;
  DeviceMemory counts_, tokens_, sequences_, logit_rows_;  // of the plan
  DeviceMemory scratch_;
  DeviceMemory logits_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_MODEL_RUNNER_H_
