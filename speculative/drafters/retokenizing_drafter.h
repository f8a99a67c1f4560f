// A draft model whose vocabulary is not the verifier's. The two meet in text: committed text is
// tokenised for the draft model, the draft model continues it token by token, and the text it
// proposes is tokenised for the verifier (retokenizer.h). Proposals are greedy, so they count as
// certain, which is exact under sampling, too.
//
// Texts are tokenised on the host, so the host plans the first pass of a round. The draft model
// itself runs where the verifier does: its passes are enqueued together, and the host waits once
// for what they proposed.
#ifndef SIDEWINDER_SPECULATIVE_DRAFTERS_RETOKENIZING_DRAFTER_H_
#define SIDEWINDER_SPECULATIVE_DRAFTERS_RETOKENIZING_DRAFTER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "models/model_runner.h"
#include "speculative/drafter.h"
#include "speculative/drafters/retokenizer.h"

namespace sidewinder {

struct RetokenizingDrafterOptions {
  std::shared_ptr<const Model> verifier;  // both have a tokenizer
  std::shared_ptr<const Model> model;     // the draft
  int32_t num_slots = 1;
  int32_t prefill_chunk = 64;
  float cost_per_pass = 0.0f;  // of the draft model, in verifier passes
};

class RetokenizingDrafter final : public Drafter {
 public:
  static absl::StatusOr<std::unique_ptr<RetokenizingDrafter>> Create(
      const RetokenizingDrafterOptions& options);

  absl::Status Attach(const ControlBlock& control) override;
  absl::Status Begin(ExecutionContext& ctx, int32_t slot, const SlotControl& begun,
                     const int32_t* device_tokens) override;
  void Draft(ExecutionContext& ctx, bool sampling) override;
  void Commit(ExecutionContext&) override {}  // the next round compares texts
  absl::Status Fork(ExecutionContext& ctx, int32_t from, int32_t to) override;
  void Release(ExecutionContext& ctx, int32_t slot) override;
  float CostPerProposal() const override;
  DrafterMemory Memory() const override;
  int64_t MaxPosition() const override { return runner_->store().max_position(); }

 private:
  // The host plans every pass but those that continue a draft, so it knows what the draft model
  // has consumed without asking.
  struct Slot {
    std::unique_ptr<Retokenizer> text;
    std::vector<int32_t> consumed;
    int32_t checkpoint = 0;     // position of the stored state: consumed tokens before it stay
    int64_t num_restarts = -1;  // of the text when they were last compared
    int64_t reserved = 0;       // positions that the store has room for
    DeviceMemory tokens;        // for prefill
  };

  RetokenizingDrafter(std::unique_ptr<ModelRunner> runner,
                      const RetokenizingDrafterOptions& options);
  absl::Status CatchUp(ExecutionContext& ctx, int32_t slot, int64_t positions);
  void PlanFirstPass(ExecutionContext& ctx);
  void RunPasses(ExecutionContext& ctx);

  std::unique_ptr<ModelRunner> runner_;
  Vocabulary verifier_;
  Vocabulary draft_;
  float cost_per_pass_;
  double passes_, proposals_;  // draft passes and what came of them, fading
  ControlBlock control_ = {};  // the round's
  std::vector<Slot> slots_;

  // The draft model's own control block: what it drafts, in its tokens. On the host and the device.
  std::vector<SlotControl> drafts_;
  DeviceMemory device_drafts_;
  ControlBlock draft_control_ = {};
};

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_DRAFTERS_RETOKENIZING_DRAFTER_H_
