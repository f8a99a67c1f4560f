// A smaller model of any family proposes token by token. It keeps recurrent state of its own, with
// the same checkpoint and replay log as the verifier: what was rejected is forgotten by a cursor
// move.
#ifndef SIDEWINDER_SPECULATIVE_DRAFTERS_MODEL_DRAFTER_H_
#define SIDEWINDER_SPECULATIVE_DRAFTERS_MODEL_DRAFTER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/model_runner.h"
#include "speculative/drafter.h"

namespace sidewinder {

struct ModelDrafterOptions {
  std::shared_ptr<const Model> model;
  int32_t num_slots = 1;
  int32_t max_draft = 4;
  StateStoreOptions state;  // policy; slots and rows are filled in
  int32_t prefill_chunk = 64;
  float cost_per_proposal = 0.0f;
  // Slots may want fewer proposals than max_draft: a recorded round then leaves out the steps that
  // nobody wants. Where all want all of them that would only take time.
  bool skips_steps = false;
};

class ModelDrafter final : public Drafter {
 public:
  static absl::StatusOr<std::unique_ptr<ModelDrafter>> Create(const ModelDrafterOptions& options);

  bool on_host() const override { return false; }
  absl::Status Attach(const ControlBlock& control) override;
  absl::Status Begin(ExecutionContext& ctx, int32_t slot, const SlotControl& begun,
                     const int32_t* device_tokens) override;
  void Draft(ExecutionContext& ctx, bool sampling) override;
  void Commit(ExecutionContext& ctx) override;
  absl::Status Fork(ExecutionContext& ctx, int32_t from, int32_t to) override {
    return runner_->store().Fork(ctx, from, to);
  }
  void Release(ExecutionContext& ctx, int32_t slot) override { runner_->store().Reset(ctx, slot); }
  float CostPerProposal() const override { return cost_per_proposal_; }
  const StateCursor* Cursors() const override { return runner_->store().cursors(); }
  int32_t MaxCatchUp() const override;
  DrafterMemory Memory() const override;
  int64_t MaxPosition() const override { return runner_->store().max_position(); }

  ModelRunner& runner() { return *runner_; }

 private:
  ModelDrafter(std::unique_ptr<ModelRunner> runner, const ModelDrafterOptions& options);
  void Plan(ExecutionContext& ctx, int32_t step, const BranchCondition& branch);
  void Propose(ExecutionContext& ctx, int32_t step, bool sampling);
  void DraftFrom(ExecutionContext& ctx, int32_t step, bool sampling);

  std::unique_ptr<ModelRunner> runner_;
  ControlBlock control_ = {};
  float cost_per_proposal_;
  bool skips_steps_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_DRAFTERS_MODEL_DRAFTER_H_
