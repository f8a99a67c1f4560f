#include "speculative/drafters/model_drafter.h"

#include <utility>

#include "kernels/plan_rows.h"
#include "kernels/sampling.h"
#include "runtime/recorded_branch.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// Tokens that step 0 may evaluate at once. Two is the usual most (the last proposal of a fully
// accepted round and the bonus token); a drafter that paused catches up this many a round.
constexpr int32_t kMaxCatchUp{5};

// Rows of a sequence in a step, at most.
int32_t RowsOf(int32_t step) { return step == 0 ? kMaxCatchUp : 1; }

}  // namespace

absl::StatusOr<std::unique_ptr<ModelDrafter>> ModelDrafter::Create(
    const ModelDrafterOptions& options) {
  ModelRunnerOptions runner_options;
  runner_options.state = options.state;
  runner_options.state.num_slots = options.num_slots;
  runner_options.state.max_rows = kMaxCatchUp + options.max_draft;
  runner_options.rows_per_pass = kMaxCatchUp;
  runner_options.prefill_chunk = options.prefill_chunk;
  SW_ASSIGN_OR_RETURN(auto runner, ModelRunner::Create(options.model, runner_options));
  return std::unique_ptr<ModelDrafter>(new ModelDrafter(std::move(runner), options));
}

ModelDrafter::ModelDrafter(std::unique_ptr<ModelRunner> runner, const ModelDrafterOptions& options)
    : runner_(std::move(runner)),
      cost_per_proposal_(options.cost_per_proposal),
      skips_steps_(options.skips_steps) {}

absl::Status ModelDrafter::Attach(const ControlBlock& control) {
  control_ = control;
  return absl::OkStatus();
}

absl::Status ModelDrafter::Begin(ExecutionContext& ctx, int32_t slot, const SlotControl& begun,
                                 const int32_t* device_tokens) {
  SW_RETURN_IF_ERROR(runner_->Reserve(ctx, slot, begun.max_tokens));
  const int32_t consumed = runner_->store().ReadCursor(ctx, slot).consumed;
  runner_->Prefill(ctx, slot, device_tokens, consumed, begun.num_tokens - 1);
  return absl::OkStatus();
}

void ModelDrafter::Plan(ExecutionContext& ctx, int32_t step, const BranchCondition& branch) {
  PlanRowsParams params = runner_->PlanParams(control_, RowsOf(step));
  params.branch = branch;
  PlanDraftRows(ctx, params, step, kMaxCatchUp);
}

void ModelDrafter::Propose(ExecutionContext& ctx, int32_t step, bool sampling) {
  runner_->Forward(ctx, RowsOf(step));
  DraftSample(ctx, {.control = control_,
                    .plan = runner_->plan(RowsOf(step)),
                    .logits = runner_->logits(),
                    .logits_stride = static_cast<int32_t>(runner_->model().info().vocab_size),
                    .step = step,
                    .sampling = sampling});
}

// Each step lies within the one before, so that what is not wanted is looked at once.
void ModelDrafter::DraftFrom(ExecutionContext& ctx, int32_t step, bool sampling) {
  if (step == control_.max_draft) return;
  EnqueueBranch(
      ctx, [&](const BranchCondition& branch) { Plan(ctx, step, branch); },
      [&] {
        Propose(ctx, step, sampling);
        DraftFrom(ctx, step + 1, sampling);
      });
}

void ModelDrafter::Draft(ExecutionContext& ctx, bool sampling) {
  if (skips_steps_) {
    DraftFrom(ctx, 0, sampling);
    return;
  }
  for (int32_t step = 0; step < control_.max_draft; ++step) {
    Plan(ctx, step, {});
    Propose(ctx, step, sampling);
  }
}

void ModelDrafter::Commit(ExecutionContext& ctx) {
  RollBackCursors(ctx, control_, runner_->store().cursors());
}

int32_t ModelDrafter::MaxCatchUp() const { return kMaxCatchUp; }

DrafterMemory ModelDrafter::Memory() const {
  return {.state_bytes = runner_->store().CheckpointBytes(),
          .replay_bytes = runner_->store().LogBytes()};
}

}  // namespace sidewinder
